package clients

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// inFrontOf returns an address that passes each connection on to the first of some addresses that
// takes it, and ends it when that does.
func inFrontOf(t *testing.T, addresses ...string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	hold := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open[c] = true
	}
	pass := func(client net.Conn) {
		defer client.Close()
		for _, address := range addresses {
			server, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				continue
			}
			defer server.Close()
			hold(server)
			running.Go(func() {
				_, _ = io.Copy(server, client)
				server.Close()
			})
			_, _ = io.Copy(client, server)
			return
		}
	}
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			hold(client)
			running.Go(func() { pass(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}
