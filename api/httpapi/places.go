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

// strangerPatience is how long a connection may keep others waiting for its place before a request on
// it is let in. If nobody waits, that is readTimeout.
const strangerPatience = time.Second

// places is a listener of at most MaxConnections at once. A connection is a stranger's until a
// request on it is let in. When all places are taken, the stranger who came first gives way to the
// next who comes: so those without the password cannot keep out those who have it.
type places struct {
	net.Listener
	taken  chan struct{} // holds a token for each connection
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	strangers []*placed // in the order in which they came
}

func newPlaces(l net.Listener) *places {
	return &places{
		Listener: l, taken: make(chan struct{}, MaxConnections), closed: make(chan struct{}),
	}
}

// Accept implements net.Listener. It is called by one goroutine, which alone takes places.
func (p *places) Accept() (net.Conn, error) {
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
func (p *places) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

func (p *places) add(conn net.Conn) *placed {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &placed{Conn: conn, at: p, came: time.Now()}
	p.strangers = append(p.strangers, c)
	return c
}

// makeRoom closes the connection of the first stranger, or returns how long it may still stay.
func (p *places) makeRoom() (wait time.Duration) {
	first := p.firstStranger()
	if first == nil {
		return strangerPatience
	}
	if wait = strangerPatience - time.Since(first.came); wait <= 0 {
		first.Close()
	}
	return wait
}

func (p *places) firstStranger() *placed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.strangers) == 0 {
		return nil
	}
	return p.strangers[0]
}

// placed is a connection that takes a place until it is closed.
type placed struct {
	net.Conn
	at   *places
	came time.Time
	once sync.Once
}

// Close implements net.Conn.
func (c *placed) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.letIn()
		<-c.at.taken
	})
	return err
}

// letIn takes the connection out of those of strangers.
func (c *placed) letIn() {
	c.at.mu.Lock()
	defer c.at.mu.Unlock()
	c.at.strangers = slices.DeleteFunc(c.at.strangers, func(s *placed) bool { return s == c })
}

// placeKey is the context's key of a request's connection.
type placeKey struct{}

func withPlace(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return context.WithValue(ctx, placeKey{}, c)
}

// keepPlace says that a request was let in, so that its connection is no stranger's.
func keepPlace(r *http.Request) {
	if c, ok := r.Context().Value(placeKey{}).(*placed); ok {
		c.letIn()
	}
}
