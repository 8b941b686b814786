package resp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/internal/latency"
	embedded "github.com/peerd/peerd/peer"
)

// ErrServerClosed is returned by Serve on a server that was shut down before.
var ErrServerClosed = errors.New("server is closed")

// Config is what a server is made with.
type Config struct {
	// Peer is where the data is. Required.
	Peer *embedded.Peer
	// Auth knows the passwords. Nil: clients need none.
	Auth *auth.Guard
	// MaxClients is the number of connections. Default DefaultMaxClients. Each takes a file
	// descriptor and some 10 KB; one that is beyond is told so and closed.
	MaxClients int
	// DrainTimeout is how long Serve waits, after its context has ended, for clients to take the
	// replies to what they had asked. Default 3 s.
	DrainTimeout time.Duration
	// Version is peerd's, shown by INFO.
	Version string
	// Settings are shown by CONFIG GET beside and instead of the default ones: for instance
	// appendfsync.
	Settings map[string]string
	// SlowLog is how long a command may take before it is logged and shown by SLOWLOG. 0: none is.
	SlowLog time.Duration
	// Logger takes what an operator should know. Default: nothing is logged.
	Logger *slog.Logger

	db         database         // in place of Peer, for tests
	goroutines bool             // each connection has one of its own, as where there is no loop
	clock      func() time.Time // in place of time.Now, by which the loop and admit close connections
	sleeper    sleeper          // of the loop, in place of Go's poller
}

// sleeper has the loop wait while nothing happens to its sockets.
type sleeper interface {
	// sleep returns once wake is called, was called since it was called last, or after some time, unless
	// that is negative.
	sleep(most time.Duration)
	wake()
}

// database is what the server asks of a peer. Submit runs transactions as UpdateAll does, on the
// goroutine that calls it if it can, and waits for nothing: done is called once, with what
// UpdateAll would return, before Submit returns or later on another goroutine. Read runs
// transactions that write nothing at once, whatever others do.
type database interface {
	View(ctx context.Context, fn func(*embedded.Tx) error) error
	UpdateAll(ctx context.Context, fns []func(*embedded.Tx) error) []error
	Submit(fns []func(*embedded.Tx) error, done func(errs []error))
	Read(fns []func(*embedded.Tx) error) []error
	Watch(prefix string) *embedded.Watch
}

// Databases is how many databases SELECT knows. Number 0 is the space "default", and n the space
// "dbn".
const Databases = 16

// database returns the one with a number.
func (s *Server) database(n int) (database, error) {
	switch {
	case n == 0:
		return s.config.db, nil
	case s.config.Peer == nil:
		return nil, replyError("ERR DB index is out of range")
	}
	space, err := s.config.Peer.Space(fmt.Sprint("db", n))
	if err != nil {
		return nil, err
	}
	return space, nil
}

// database returns the one that the client has selected.
func (c *client) database() database {
	if c.db != nil {
		return c.db
	}
	return c.server.config.db
}

// Validate reports every problem of the configuration.
func (c Config) Validate() error {
	var problems []error
	if c.Peer == nil && c.db == nil {
		problems = append(problems, errors.New("no Peer"))
	}
	if c.MaxClients < 0 {
		problems = append(problems, fmt.Errorf("MaxClients is %d: want 0 or more", c.MaxClients))
	}
	if c.SlowLog < 0 {
		problems = append(problems, fmt.Errorf("SlowLog is %v: want 0 or more", c.SlowLog))
	}
	if c.DrainTimeout < 0 {
		problems = append(problems,
			fmt.Errorf("DrainTimeout is %v: want 0 or more", c.DrainTimeout))
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.db == nil {
		c.db = c.Peer
	}
	if c.MaxClients == 0 {
		c.MaxClients = DefaultMaxClients
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 3 * time.Second
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	settings := defaultSettings()
	maps.Copy(settings, c.Settings)
	c.Settings = settings
	return c
}

// Server serves any number of listeners, which end together. All methods may be called by many
// goroutines at once.
type Server struct {
	config  Config
	started time.Time
	runID   string
	cursors cursors
	counts  counts
	held    atomic.Int64        // by all clients, in bytes: see client.hold
	mail    atomic.Int64        // of that what waits in mailboxes
	scans   chan struct{}       // holds a token for each scan under way
	evals   chan struct{}       // holds a token for each script under way that only reads
	times   []latency.Histogram // by command.number

	perCommand []commandCounts // by command.place
	errors     errorCounts
	since      atomic.Pointer[statistics]

	maxClients atomic.Int64 // Config.MaxClients, until CONFIG SET
	// slower is from how many microseconds on a command is slow, -1 for never: Config.SlowLog, until
	// CONFIG SET.
	slower    atomic.Int64
	encodings encodings
	slow      slowLog
	scripts   scripts
	drawn     keptDraws

	waiting [Databases]waiting // commands that wait for keys, by database

	tracking tracking // clients that are told of changed keys that they may keep a copy of

	audience    audience
	unhear      func()       // has the peer tell it of no more messages
	subscribers atomic.Int64 // clients that are told of changed keys
	followers   atomic.Int64 // how many databases are followed, for each of them
	notify      eventClasses
	aliens      atomic.Int64 // time of the last line about HTTP, in Unix seconds

	// mu guards what follows. While it is held nothing is waited for, and no connection is closed:
	// that waits for its reader, who may be waiting for mu to expel somebody.
	mu        sync.Mutex
	draining  bool
	listeners []net.Listener
	clients   map[*client]struct{}
	loop      *loop                // of plain TCP connections; nil until there is one
	strangers []*client            // those that are: see limits.go. In the order in which they came
	cancels   []context.CancelFunc // of what connections wait for in the database

	running sync.WaitGroup // connections; added to under mu, and never while draining
}

// counts is what INFO tells about the past.
type counts struct {
	clients, refused, commands atomic.Int64
	evicted, unread            atomic.Int64 // clients that were closed
}

// New returns a server that serves nothing yet, or what Config.Validate reports.
func New(config Config) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		config:  config.withDefaults(),
		started: time.Now(),
		runID:   fmt.Sprintf("%016x%016x%08x", rand.Uint64(), rand.Uint64(), rand.Uint32()),
		clients: map[*client]struct{}{},
		scans:   make(chan struct{}, MaxScans),
		evals:   make(chan struct{}, MaxReadScripts),
		times:   make([]latency.Histogram, len(commands)),

		perCommand: make([]commandCounts, len(allCommands())),
	}
	for i := range s.waiting {
		s.waiting[i].server = s
	}
	s.tracking.server = s
	s.maxClients.Store(int64(s.config.MaxClients))
	s.slower.Store(slowerThan(s.config.SlowLog))
	s.scripts.busyAfter.Store(ScriptBusy.Milliseconds())
	s.unhear = func() {}
	if config.Peer != nil {
		s.unhear = config.Peer.Listen(s.audience.tell)
	}
	return s, nil
}

// Serve accepts connections from l, and closes l in the end. It returns when ctx ends or the
// server is shut down, and all connections of the server have ended: they finish the commands they
// have read and take no more, and those that have not done so within DrainTimeout are cut. The
// error tells why it could not go on; a shutdown is none.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if !s.enter(l, cancel) {
		return ErrServerClosed
	}
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
			s.drain()
		case <-ended:
		}
	})
	err := s.accept(work, l)
	close(ended)
	watch.Wait()
	s.drain()

	limit, stop := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer stop()
	if s.wait(limit) != nil {
		s.config.Logger.Warn("cut connections that did not take their replies in time",
			"drain_timeout", s.config.DrainTimeout)
	}
	return err
}

// Shutdown lets every connection finish the commands it has read, and returns when all have ended.
// When ctx ends before that, it cuts them and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	return s.wait(ctx)
}

// Close cuts all connections and returns when they have ended. Transactions that had begun are
// finished or given up, as the database does when a context ends. A second Close does nothing.
func (s *Server) Close() error {
	s.drain()
	s.cut()
	s.running.Wait()
	return nil
}

func (s *Server) enter(l net.Listener, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.listeners = append(s.listeners, l)
	s.cancels = append(s.cancels, cancel)
	return true
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	const longestPause = time.Second
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(ctx, conn)
			continue
		case s.isDraining():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept redis clients: %w", err)
		}
		// Most likely there are no more file descriptors: wait for clients to leave.
		pause = min(max(2*pause, 5*time.Millisecond), longestPause)
		s.config.Logger.Warn("could not accept a client", "error", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// start serves a connection in a goroutine of its own, or refuses it. It waits if a stranger is
// about to give way to it.
func (s *Server) start(ctx context.Context, conn net.Conn) {
	c, wait, refusal := s.admit(conn)
	for ; wait > 0; c, wait, refusal = s.admit(conn) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			conn.Close()
			return
		}
	}
	if c == nil {
		if refusal != "" {
			s.counts.refused.Add(1)
			// It fits the socket's buffer, so it does not block. Over TLS it would, for the
			// handshake.
			if _, secured := conn.(*tls.Conn); !secured {
				_, _ = conn.Write([]byte(refusal))
			}
		}
		conn.Close()
		return
	}
	if sc, ok := conn.(syscall.Conn); ok && s.join(ctx, c, sc) {
		return
	}
	go func() {
		c.serve(ctx)
		s.end(ctx, c)
	}()
}

// end closes the connection of a client that had a goroutine of its own.
func (s *Server) end(ctx context.Context, c *client) {
	defer s.running.Done()
	s.mu.Lock()
	s.forget(c)
	s.mu.Unlock()
	hangUp(ctx, c.stream)
}

// hangUp closes a connection. Over TLS it tells the other end so; one that takes nothing is
// waited for until ctx ends, and 5 s at most.
func hangUp(ctx context.Context, conn net.Conn) {
	if _, secured := conn.(*tls.Conn); secured {
		stop := context.AfterFunc(ctx, func() { cutOff(conn) })
		defer stop()
	}
	conn.Close()
}

// cutOff closes a connection without a word.
func cutOff(conn line) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	conn.Close()
}

// admit returns a client for a connection; or nil, and for how long to wait before it is called
// again, or what to tell the connection.
func (s *Server) admit(conn net.Conn) (c *client, wait time.Duration, refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, secured := conn.(*tls.Conn)
	stranger := s.config.Auth != nil || secured
	full := int64(len(s.clients)) >= s.maxClients.Load()
	switch {
	case s.draining:
		return nil, 0, ""
	case full && len(s.strangers) == 0:
		return nil, 0, "-ERR max number of clients reached\r\n"
	case full || stranger && len(s.strangers) >= MaxStrangers:
		first := s.strangers[0]
		if wait = strangerTurn - s.config.clock().Sub(first.came); wait > 0 {
			return nil, wait, ""
		}
		s.expel(first)
		s.forget(first)
	}
	c = newClient(s, conn, s.counts.clients.Add(1))
	if stranger {
		s.strangers = append(s.strangers, c)
		c.stranger, c.in.stranger = s.config.Auth != nil, true
		_ = conn.SetDeadline(c.came.Add(StrangerPatience))
	}
	s.clients[c] = struct{}{}
	s.running.Add(1)
	return c, 0, ""
}

// forget takes a client out of those that take a place. Called under mu.
func (s *Server) forget(c *client) {
	delete(s.clients, c)
	s.welcome(c)
}

// welcome takes a client out of the strangers. Called under mu.
func (s *Server) welcome(c *client) {
	s.strangers = slices.DeleteFunc(s.strangers, func(other *client) bool { return other == c })
}

// trust lifts the limits of a client that has authenticated. Called by its goroutine.
func (s *Server) trust(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.welcome(c)
	c.in.stranger = false
	if c.evicted() {
		return // the deadlines close it
	}
	_ = c.conn.SetWriteDeadline(time.Time{})
	if !s.draining {
		_ = c.conn.SetReadDeadline(time.Time{})
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) clientCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// drain stops accepting and reading. It does not wait.
func (s *Server) drain() {
	s.unhear() // not under mu, which a message may take
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return
	}
	s.draining = true
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.clients {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
	for i := range s.waiting {
		s.waiting[i].close()
	}
	s.loop.endWhenEmpty()
}

// wait returns when no connection is left, or cuts them when ctx ends and returns its error.
func (s *Server) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cut)
	s.running.Wait()
	if !stop() {
		return ctx.Err()
	}
	return nil
}

// cut ends what connections wait for, in the network and in the database.
func (s *Server) cut() {
	s.mu.Lock()
	cancels := slices.Clone(s.cancels)
	conns := make([]line, 0, len(s.clients))
	for c := range s.clients {
		conns = append(conns, c.conn)
	}
	s.mu.Unlock()
	s.scripts.endAll(false, errClosed)
	for _, cancel := range cancels {
		cancel()
	}
	for _, conn := range conns {
		cutOff(conn)
	}
}
