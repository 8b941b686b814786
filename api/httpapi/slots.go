package httpapi

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// strangerPatience is how long a connection may keep others waiting for its slot before a request on
// it is let in. If nobody waits, that is readTimeout.
const strangerPatience = time.Second

// slots is a listener of at most MaxConnections at once. A connection is a stranger's until a
// request on it is let in. When all slots are taken, the stranger who came first gives way to the
// next who comes: so those without the password cannot keep out those who have it.
type slots struct {
	net.Listener
	taken  chan struct{} // holds a token for each connection
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	strangers []*slotted // in the order in which they came
}

func newSlots(l net.Listener) *slots {
	return &slots{
		Listener: l, taken: make(chan struct{}, MaxConnections), closed: make(chan struct{}),
	}
}

// Accept implements net.Listener. It is called by one goroutine, which alone takes slots.
func (p *slots) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		var late <-chan time.Time
		if len(p.taken) == cap(p.taken) {
			late = time.After(p.makeRoom())
		}
		select {
		case p.taken <- struct{}{}:
			return p.add(conn), nil
		case <-late:
		case <-p.closed:
			conn.Close()
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener.
func (p *slots) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

func (p *slots) add(conn net.Conn) *slotted {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &slotted{Conn: conn, at: p, came: time.Now()}
	p.strangers = append(p.strangers, c)
	return c
}

// makeRoom closes the connection of the first stranger, or returns how long it may still stay.
func (p *slots) makeRoom() (wait time.Duration) {
	first := p.firstStranger()
	if first == nil {
		return strangerPatience
	}
	if wait = strangerPatience - time.Since(first.came); wait <= 0 {
		first.Close()
	}
	return wait
}

func (p *slots) firstStranger() *slotted {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.strangers) == 0 {
		return nil
	}
	return p.strangers[0]
}

// slotted is a connection that takes a slot until it is closed.
type slotted struct {
	net.Conn
	at   *slots
	came time.Time
	once sync.Once
}

// Close implements net.Conn.
func (c *slotted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.letIn()
		<-c.at.taken
	})
	return err
}

// letIn takes the connection out of those of strangers.
func (c *slotted) letIn() {
	c.at.mu.Lock()
	defer c.at.mu.Unlock()
	c.at.strangers = slices.DeleteFunc(c.at.strangers, func(s *slotted) bool { return s == c })
}

// slotKey is the context's key of a request's connection.
type slotKey struct{}

func withSlot(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return context.WithValue(ctx, slotKey{}, c)
}

// keepSlot says that a request was let in, so that its connection is no stranger's.
func keepSlot(r *http.Request) {
	if c, ok := r.Context().Value(slotKey{}).(*slotted); ok {
		c.letIn()
	}
}
