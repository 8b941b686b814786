package lab

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy carries connections to a server, counts what they carry, and can be cut, as a network can.
type Proxy struct {
	Addr  string
	Bytes atomic.Int64 // in both directions
	Turns atomic.Int64 // how often the one began to speak after the other: two are a round trip

	to       string
	listener net.Listener
	working  sync.WaitGroup
	speaks   atomic.Int32

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// Proxy starts one for a server's address. Its caller closes it.
func (l *Lab) Proxy(to string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Addr: listener.Addr().String(), to: to, listener: listener, conns: map[net.Conn]bool{}}
	p.working.Go(p.accept)
	return p, nil
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.working.Go(func() { p.carry(conn) })
	}
}

// keep notes connections that a cut closes. It reports false, and closes them, if there is one now.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.cut {
			c.Close()
		} else {
			p.conns[c] = true
		}
	}
	return !p.cut
}

func (p *Proxy) carry(client net.Conn) {
	defer client.Close()
	if !p.keep(client) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, 1) })
	both.Go(func() { p.copy(client, server, 2) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// copy carries one direction until either end closes.
func (p *Proxy) copy(to, from net.Conn, direction int32) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if p.speaks.Swap(direction) != direction {
				p.Turns.Add(1)
			}
			p.Bytes.Add(int64(n))
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.SetReadDeadline(time.Now()) // the other direction ends as well
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// Cut ends all connections, and every new one at once, until it is healed.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			c.Close()
		}
		clear(p.conns)
	}
}

// Close ends the proxy, and waits until it has ended.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut(true)
	p.working.Wait()
}
