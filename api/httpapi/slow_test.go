package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/peer"
)

// pipes is a listener whose connections are pipes, so that time in them can be a test's own.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{} }

// onPipes serves connections under a clock of the test's own, and runs fn with a function that makes one
// and returns its far end.
func onPipes(t *testing.T, config Config, fn func(t *testing.T, connect func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn, 2*MaxConnections)}
		s := New(config)
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(t.Context(), l) })
		fn(t, func() net.Conn {
			near, far := net.Pipe()
			l.conns <- near
			return far
		})
		l.Close()
		_ = s.server.Close()
		serving.Wait()
	})
}

// onPipe is onPipes for one connection.
func onPipe(t *testing.T, fn func(t *testing.T, far net.Conn)) {
	onPipes(t, Config{Peer: &fakePeer{}}, func(t *testing.T, connect func() net.Conn) {
		far := connect()
		fn(t, far)
		far.Close()
	})
}

func TestAClientThatTakesTooLongIsClosed(t *testing.T) {
	for _, test := range []struct {
		name, sent string
		read       bool
		after      time.Duration
	}{
		{"to begin a request", "", true, readTimeout},
		{"to send its headers", "GET /healthz HTTP/1.1\r\nHost: local", true, readTimeout},
		{"to send its next request", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", true, idleTimeout},
		{"to read the answer", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false, writeTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			onPipe(t, func(t *testing.T, far net.Conn) {
				began := time.Now()
				if _, err := io.WriteString(far, test.sent); err != nil {
					t.Fatal(err)
				}
				late := time.Duration(0)
				if !test.read { // not a byte before it is closed
					late = time.Millisecond
					<-time.After(test.after + late)
				}
				_, err := io.Copy(io.Discard, far)
				if waited := time.Since(began); err != nil || waited != test.after+late {
					t.Errorf("closed after %v, want %v (%v)", waited, test.after, err)
				}
			})
		})
	}
}

func TestALongAnswerMayBeReadSlowly(t *testing.T) {
	s := Config{Peer: &fakePeer{ready: errors.New(strings.Repeat("a", 4*maxPiece))}}
	for pause, whole := range map[time.Duration]bool{
		writeTimeout / 6: true, // a quarter of a piece each time, and the headers
		writeTimeout / 3: false,
	} {
		onPipes(t, s, func(t *testing.T, connect func() net.Conn) {
			far := connect()
			defer far.Close()
			_, err := io.WriteString(far, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			read := int64(0)
			for n := int64(1); err == nil && n > 0; read += n {
				<-time.After(pause)
				n, err = io.CopyN(io.Discard, far, maxPiece/4)
			}
			if got := read > 4*maxPiece; got != whole {
				t.Errorf("with pauses of %v %d bytes came (%v)", pause, read, err)
			}
		})
	}
}

func TestABodyThatComesSlowlyIsAnswered(t *testing.T) {
	onPipe(t, func(t *testing.T, far net.Conn) {
		const head = "POST /v1/tx HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
			"Content-Length: 2\r\n\r\n"
		if _, err := io.WriteString(far, head); err != nil {
			t.Fatal(err)
		}
		<-time.After(maxBodyTime - time.Second)
		if _, err := io.WriteString(far, "{}"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(far), nil)
		if err != nil || answer.StatusCode != http.StatusBadRequest { // it has no operations
			t.Errorf("answered %v (%v)", answer, err)
		}
	})
}

// busyPeer opens no view, as while it takes a large repair over.
type busyPeer struct{ fakePeer }

func (*busyPeer) ViewToken(ctx context.Context, _ func(*peer.Tx) error) (peer.Token, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func TestAReadThatHasToWaitIsAnswered(t *testing.T) {
	for _, path := range []string{"/v1/keys", "/v1/keys/k"} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			w := ask(New(Config{Peer: &busyPeer{}}), "GET", path, "localhost")
			waited := time.Since(began)
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"busy"`) {
				t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
			}
			if waited > workTimeout {
				t.Errorf("GET %s was answered after %v, want it after %v", path, waited, workTimeout)
			}
		})
	}
}

// deafPeer sees nothing of what others wrote.
type deafPeer struct{ fakePeer }

func (*deafPeer) Wait(ctx context.Context, _ peer.Token) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestARequestWaitsForItsTokenAsLongAsItSays(t *testing.T) {
	for wait, want := range map[string]time.Duration{
		"": defaultWait, "&wait=0s": 0, "&wait=10ms": 10 * time.Millisecond, "&wait=1h": MaxWait,
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			w := ask(New(Config{Peer: &deafPeer{}}), "GET", "/v1/keys/k?token=x"+wait, "localhost")
			if took := time.Since(began); took != want || w.Code != http.StatusServiceUnavailable {
				t.Errorf("%q: answered with %d after %v, want it after %v", wait, w.Code, took, want)
			}
		})
	}
}
