package resp

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/internal/auth/authtest"
)

// pipes is a listener to whom connections are sent.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// sentAhead is how much the system may hold of what a server sends to a client of onPipes, in bytes. So much
// more it has to take before the server sees what has been taken.
const sentAhead = 32 << 10

// onPipes serves an empty database under a clock of the test's own. connect makes a connection,
// whose far end it gives to secure unless that is nil, and returns the near one.
func onPipes(t *testing.T, config Config, secure func(net.Conn) net.Conn,
	fn func(t *testing.T, s *Server, connect func() *peer)) {
	inLoop := secure == nil && looped(t)
	synctest.Test(t, func(t *testing.T) {
		config.db = newMemory(t)
		pair, end := net.Pipe, func() {}
		if inLoop {
			pair, end = loopLines(t, &config)
		}
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{conns: make(chan net.Conn, 2*MaxStrangers), closed: make(chan struct{})}
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(t.Context(), l) })
		fn(t, s, func() *peer {
			near, far := pair()
			if secure != nil {
				far = secure(far)
			}
			l.conns <- far
			return newPipePeer(t, near)
		})
		s.Close()
		serving.Wait()
		end()
		if left := s.held.Load(); left != 0 {
			t.Errorf("%d bytes are still held", left)
		}
	})
}

func TestStrangersGiveWayToClients(t *testing.T) { eachWay(t, testStrangersGiveWayToClients) }

func testStrangersGiveWayToClients(t *testing.T) {
	onPipes(t, Config{Auth: guarded(t)}, nil, func(t *testing.T, _ *Server, connect func() *peer) {
		first := connect()
		first.expect("AUTH "+password, "+OK")
		var strangers []*peer
		for range 2 * MaxStrangers { // as many wait as have a place
			strangers = append(strangers, connect())
		}
		synctest.Wait()
		began := time.Now()
		second := connect()
		second.expect("AUTH "+password, "+OK")
		if waited := time.Since(began); waited != 2*strangerTurn {
			t.Errorf("a client that comes after them waits for %v, want %v", waited, 2*strangerTurn)
		}
		for i, p := range strangers[:MaxStrangers+1] {
			p.expectEnd()
			if waited := time.Since(began); waited != 2*strangerTurn {
				t.Errorf("stranger %d leaves after %v, want when another waits for its place", i, waited)
			}
		}
		strangers[2*MaxStrangers-1].expectEnd() // whom nobody waits for
		if waited := time.Since(began); waited != strangerTurn+StrangerPatience {
			t.Errorf("the last stranger leaves after %v, want %v", waited, strangerTurn+StrangerPatience)
		}
		first.expect("PING", "+PONG")
		second.expect("PING", "+PONG")
	})
}

func TestStrangersGiveWayWhenNoPlaceForAClientIsLeft(t *testing.T) {
	eachWay(t, testStrangersGiveWayWhenNoPlaceForAClientIsLeft)
}

func testStrangersGiveWayWhenNoPlaceForAClientIsLeft(t *testing.T) {
	const places = 3
	config := Config{Auth: guarded(t), MaxClients: places}
	onPipes(t, config, nil, func(t *testing.T, _ *Server, connect func() *peer) {
		var clients []*peer
		for range places - 1 {
			clients = append(clients, connect())
			clients[len(clients)-1].expect("AUTH "+password, "+OK")
		}
		stranger := connect()
		synctest.Wait()
		began := time.Now()
		clients = append(clients, connect())
		clients[places-1].expect("AUTH "+password, "+OK")
		if waited := time.Since(began); waited != strangerTurn {
			t.Errorf("the last client waits for %v, want %v", waited, strangerTurn)
		}
		stranger.expectEnd()
		if got := connect().reply(); got != "-ERR max number of clients reached" {
			t.Errorf("one too many: %s", got)
		}
		for _, p := range clients {
			p.expect("PING", "+PONG")
		}
	})
}

func TestOverTLSStrangersGiveWayToClients(t *testing.T) {
	secured, config := authtest.Pair(t)
	secure := func(c net.Conn) net.Conn { return tls.Server(c, secured.Config()) }
	onPipes(t, Config{}, secure, func(t *testing.T, _ *Server, connect func() *peer) {
		for range MaxStrangers {
			connect()
		}
		synctest.Wait()
		began := time.Now()
		p := connect()
		p.Conn = tls.Client(p.Conn, config)
		p.in = bufio.NewReader(p.Conn)
		p.expect("PING", "+PONG")
		if waited := time.Since(began); waited != strangerTurn {
			t.Errorf("a client that comes after them waits for %v, want %v", waited, strangerTurn)
		}
		p.Close()
	})
}

// TestACutOverTLSWaitsForNobody has clients that take nothing, not even the good-bye of TLS.
func TestACutOverTLSWaitsForNobody(t *testing.T) {
	secured, config := authtest.Pair(t)
	for _, test := range []struct {
		name string
		end  func(s *Server, cancel context.CancelFunc)
		want time.Duration
	}{
		{"Close", func(s *Server, _ context.CancelFunc) { s.Close() }, 0},
		{"context", func(_ *Server, cancel context.CancelFunc) { cancel() }, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Config{db: newMemory(t), DrainTimeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var serving sync.WaitGroup
				serving.Go(func() { _ = s.Serve(ctx, l) })
				for range 3 {
					near, far := net.Pipe()
					l.conns <- tls.Server(far, secured.Config())
					newPipePeer(t, tls.Client(near, config)).expect("PING", "+PONG")
				}
				synctest.Wait()
				began := time.Now()
				test.end(s, cancel)
				serving.Wait()
				if waited := time.Since(began); waited != test.want {
					t.Errorf("the server ended after %v, want %v", waited, test.want)
				}
			})
		})
	}
}
