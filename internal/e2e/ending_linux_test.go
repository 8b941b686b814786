package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// endTime is how long a daemon may take to end after SIGTERM, whatever others do.
const endTime = 10 * time.Second

// TestAPeerEndsWhateverOthersDo ends a daemon while something that it talks to hangs.
func TestAPeerEndsWhateverOthersDo(t *testing.T) {
	fill := func(d *daemon) { // more than fits into the buffers of a connection
		value := strings.Repeat("x", 1<<20)
		for range 24 {
			d.run(command{"SET", "large", value})
		}
	}
	for _, c := range []struct {
		name string
		hang func(t *testing.T, n *namespaces, one, two *daemon)
	}{
		{"a neighbour that reads nothing", func(t *testing.T, _ *namespaces, one, two *daemon) {
			must(t, two.cmd.Process.Signal(syscall.SIGSTOP))
			fill(one)
		}},
		{"a network that is gone", func(t *testing.T, n *namespaces, one, _ *daemon) {
			must(t, n.cut(0))
			fill(one)
		}},
		{"an address that is gone", func(t *testing.T, n *namespaces, _, _ *daemon) {
			must(t, n.hosts[0].ip("address", "flush", "dev", "eth0"))
		}},
		{"a start under another address a second ago", func(t *testing.T, n *namespaces, one, _ *daemon) {
			one.stop()
			must(t, n.hosts[0].ip("address", "flush", "dev", "eth0"), n.hosts[0].ip("address", "add", "10.97.0.50/24", "dev", "eth0"))
			one.start()
			wait(time.Second)
		}},
		{"a client that takes no replies", func(t *testing.T, _ *namespaces, one, _ *daemon) {
			fill(one)
			client, err := one.connect()
			must(t, err)
			t.Cleanup(client.close)
			_, err = client.conn.Write([]byte(strings.Repeat("GET large\r\n", 64)))
			must(t, err)
		}},
		{"a request that never ends", func(t *testing.T, n *namespaces, one, _ *daemon) {
			conn, err := n.dial(0, n.addresses(0).http)
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = conn.Write([]byte("PUT /v1/kv/key HTTP/1.1\r\nHost: one\r\nContent-Length: 9\r\n\r\n"))
			must(t, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := sites(t)
			one, two := pair(t, n, "--join", address(0))
			c.hang(t, n, one, two)
			began := time.Now()
			one.stop()
			if took := time.Since(began); took > endTime {
				t.Errorf("it took %v", took)
			} else {
				t.Logf("it took %v", took)
			}
		})
	}
}
