package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

// Limits of a server.
const (
	// MaxConnections is how many connections are served at once. More wait, and strangers give way to
	// them: see slots.
	MaxConnections = 256
	// MaxHeader is the size in bytes of a request's headers, with its path and query. A larger one is
	// answered with 431. A token may take 100,000 of it.
	MaxHeader = 128 << 10
	// readTimeout is how long a client may take to send its request.
	readTimeout = 5 * time.Second
	// writeTimeout is how long a client may take to take maxPiece of an answer, or the whole answer
	// if it is shorter.
	writeTimeout = 10 * time.Second
	maxPiece     = 1 << 20
	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = time.Minute
)

// DrainTimeout is how long Serve waits, after its context has ended, for answers under way.
const DrainTimeout = 3 * time.Second

// Peer is what is read, written and told about: a *peer.Peer. Its methods are called by many
// goroutines at once.
type Peer interface {
	// Ready returns nil, or why the peer should get no requests.
	Ready() error
	Status() (peer.Status, error)
	// Mutations counts all that are here.
	Mutations() (uint64, error)
	// Space returns the handle of a space, DropSpace ends this host's part in one.
	Space(name string) (*peer.Space, error)
	DropSpace(ctx context.Context, name string, force bool) error
	KeyKeeper
	MemberKeeper
	Inviter
	Data // of the space "default"
}

// Data is what is read and written of a space: a *peer.Space, and a *peer.Peer for the one that
// is meant without a choice.
type Data interface {
	// ViewToken and UpdateToken run a transaction and return the token of its moment.
	ViewToken(ctx context.Context, fn func(*peer.Tx) error) (peer.Token, error)
	UpdateToken(ctx context.Context, fn func(*peer.Tx) error) (peer.Token, error)
	// Wait waits until the peer has seen what a token names.
	Wait(ctx context.Context, t peer.Token) error
	Watch(prefix string) *peer.Watch
	WatchSince(prefix string, since peer.Token) (*peer.Watch, error)
	// Backup writes a backup to w: of the space, or a peer's of all.
	Backup(ctx context.Context, w io.Writer, progress func(peer.BackupProgress)) (peer.BackupInfo, error)
}

// Config is what a server is made with.
type Config struct {
	// Peer is required.
	Peer Peer
	// Auth knows the passwords. Nil: clients need none.
	Auth *auth.Guard
	// TLS makes Serve speak HTTPS. Nil: it speaks HTTP.
	TLS *auth.TLS
	// Metrics answers scrapes at /metrics. Nil: nothing is there.
	Metrics http.Handler
	// Redis tells of the server of the Redis protocol, for the console. Nil: nothing is told.
	Redis func() Redis
	// SlowLog is how long a request may take to be answered before it is logged. 0: none is.
	SlowLog time.Duration
	// Logger takes what goes wrong in serving. Default: nothing is logged.
	Logger *slog.Logger
}

// Server answers requests about a peer. It is an http.Handler, for tests and for servers of one's
// own.
type Server struct {
	peer   Peer
	log    *slog.Logger
	auth   *auth.Guard // nil if clients need no password
	tls    *auth.TLS   // nil for HTTP without
	server http.Server

	metrics  http.Handler // nil if there is none
	redis    func() Redis // nil if there is none
	history  history
	requests requests
	watches  watches
	held     atomic.Int64 // by all requests, in bytes: see share
}

// New returns a server that serves nothing yet.
func New(config Config) *Server {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		peer: config.Peer, auth: config.Auth, tls: config.TLS, log: config.Logger,
		metrics: config.Metrics, redis: config.Redis,
	}
	s.requests = requests{
		log: config.Logger, slow: config.SlowLog, times: map[string]*latency.Histogram{},
	}
	s.server = http.Server{
		Handler:           s.guard(s.ration(s.requests.observe(s.routes()))),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    MaxHeader,
		ConnContext:       withSlot,
		ErrorLog:          log.New(serverLines{config.Logger}, "", 0),

		DisableGeneralOptionsHandler: true, // which answers before the guard is asked
	}
	s.server.RegisterOnShutdown(s.watches.end)
	return s
}

// serverLines takes what net/http says of connections: handshakes that failed, clients that could
// not be let in.
type serverLines struct{ log *slog.Logger }

// Write takes one line. Anybody can have a handshake fail, as often as they like: so that is told
// at debug alone, as api/resp does.
func (l serverLines) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "http cannot serve a client", "text", string(line))
	return len(line), nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.server.Handler.ServeHTTP(w, r)
}

// Serve accepts connections from l, and closes l in the end. It returns when ctx ends or the
// server is shut down, and answers under way have been given, or DrainTimeout is over. The error
// tells why it could not go on; a shutdown is none. A server serves once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
		defer cancel()
		if s.Shutdown(limit) != nil {
			_ = s.server.Close()
		}
	})
	l = newSlots(l)
	if s.tls != nil {
		l = tls.NewListener(l, s.tls.Config())
	}
	keep, end := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { s.keepHistory(keep) })
	err := s.server.Serve(l)
	end()
	kept.Wait()
	if !stop() {
		<-drained
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

// Shutdown stops accepting and returns when answers under way have been given. When ctx ends before
// that, it returns ctx's error and leaves them to themselves.
func (s *Server) Shutdown(ctx context.Context) error { return s.server.Shutdown(ctx) }
