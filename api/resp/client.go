package resp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// client is a connection. One goroutine owns it, its own or that of the loop; others may only set
// deadlines on conn and close it.
type client struct {
	server  *Server
	conn    line     // changed under Server.mu, by who owns the client
	address net.Addr // of the other end
	local   net.Addr // of this end
	came    time.Time
	used    atomic.Int64            // when it last had something executed, in Unix nanoseconds; 0: never
	last    atomic.Pointer[command] // the command that was
	shown   atomic.Pointer[view]
	waits   atomic.Pointer[waiter] // what is executed waits for keys; else nil
	in      parser
	held    atomic.Int64 // bytes, as noted in server.held; evicted once it is to be closed

	// With a goroutine of its own.
	stream net.Conn        // conn
	raw    syscall.RawConn // nil if that has no file descriptor
	read   rawRead
	busy   bool // of receiveBuffered: the last read filled its buffer

	box      mailbox
	writing  sync.Mutex // held while commands are answered, and while a message is sent
	deadline time.Time  // of writing
	session
}

// line is what both ways to serve a connection have in common: a goroutine of its own, for whom
// it is the net.Conn, and the loop, for whom it is a socket. It is how the owner of a client
// learns from others that it shall read no more, has to leave, or is cut off.
type line interface {
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// session is what commands see and change of a connection.
type session struct {
	id       int64
	from     netip.Addr // zero if the connection has none
	stranger bool       // it has to send the password first
	name     clientName
	resp3    bool
	mute     mute     // which replies it is not sent
	quit     bool     // no more commands are executed
	db       database // that it has selected; nil for the default one
	index    int      // its number
	pending  transaction
	watched  watched
	subs     subscriptions
	tracker  *tracker    // how it is told of changed keys that it may keep a copy of; nil if it is not
	caching  bool        // CLIENT CACHING came before
	noEvict  atomic.Bool // CLIENT NO-EVICT: others are closed first for what they hold
	turn     int64       // the number of its last command; those within MULTI and scripts count
}

// author says that what is executed is the session's.
func (s *session) author() author { return author{s.id, s.turn} }

// size returns how much memory the session holds, in bytes.
func (s *session) size() int {
	size := s.pending.size + s.subs.bytes + s.watched.bytes
	if s.tracker != nil {
		size += s.tracker.bytes
	}
	return size
}

func newClient(s *Server, conn net.Conn, id int64) *client {
	c := &client{
		server: s, address: conn.RemoteAddr(), local: conn.LocalAddr(), came: s.config.clock(),
		session: session{id: id},
	}
	if at, ok := c.address.(*net.TCPAddr); ok {
		c.from = at.AddrPort().Addr()
	}
	c.box.server, c.box.subs, c.subs.box = s, &c.subs, &c.box
	c.attach(conn)
	return c
}

// attach has the client be served over a connection by a goroutine. Called under Server.mu, or
// before others know the client.
func (c *client) attach(conn net.Conn) {
	c.conn, c.stream, c.raw = conn, conn, nil
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
}

// serve answers commands until the client leaves, breaks the protocol, takes no replies, or
// reading is stopped by a deadline. All commands that have come whole by then are answered,
// unless ctx ends.
func (c *client) serve(ctx context.Context) {
	if c.shakeHands(ctx) {
		c.converse(ctx)
	}
	c.leave(ctx)
}

func (c *client) converse(ctx context.Context) {
	for c.receive() == nil {
		if !c.hold(c.in.size()+c.size()) || !c.answer(ctx) {
			return
		}
	}
}

// resume goes on with a batch that the loop has begun, and serves as serve does from then on.
func (c *client) resume(ctx context.Context, b *batch, end error) {
	if c.finish(ctx, b, end) && c.answer(ctx) {
		c.converse(ctx)
	}
	c.leave(ctx)
}

// leave gives back what the client holds.
func (c *client) leave(ctx context.Context) {
	c.endTracking(c.server)
	c.unfollow(ctx)
	c.in.rest()
	c.endTransaction()
	c.hold(0)
}

// shakeHands ends the handshake of a connection over TLS, in which the client may have to show a
// certificate.
func (c *client) shakeHands(ctx context.Context) bool {
	secured, ok := c.stream.(*tls.Conn)
	if !ok {
		return true
	}
	if err := secured.HandshakeContext(ctx); err != nil {
		c.server.config.Logger.Debug("refused a redis client: no handshake", "error", err)
		return false
	}
	if !c.stranger {
		c.server.trust(c)
	}
	return true
}

// answer executes every whole command that was received. It returns false if the connection is to
// be closed.
func (c *client) answer(ctx context.Context) bool {
	b := newBatch(c)
	defer b.release()
	for {
		end := b.fill(MaxBatchCommands)
		if len(b.requests) == 0 && end == nil {
			return true
		}
		if !c.work(ctx, b, end) {
			return false
		}
	}
}

// finish executes the rest of a batch, and releases it.
func (c *client) finish(ctx context.Context, b *batch, end error) bool {
	defer b.release()
	return c.work(ctx, b, end)
}

// work executes a batch and sends the replies, with what broke the protocol behind it. It returns
// false if the connection is to be closed.
func (c *client) work(ctx context.Context, b *batch, end error) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	for b.execute(ctx); !b.done() && !c.quit; b.execute(ctx) {
		c.follow(ctx)
		if !c.send(b) || b.waiter != nil && !c.await(b) {
			return false
		}
	}
	c.follow(ctx)
	b.fail(end)
	return c.send(b) && end == nil && !c.quit
}

// send writes the replies. A client that does not read them is waited for until it has taken
// nothing for WriteTimeout.
func (c *client) send(b *batch) bool {
	c.hold(c.in.size() + c.size() + b.size())
	err := c.write(b.out.buf, b.pace())
	b.out.buf = b.out.buf[:0]
	return err == nil
}

// extendDeadline gives the client WriteTimeout for the next piece. Most pieces need no new deadline
// for that: it is set writeSlack further than need be.
func (c *client) extendDeadline() {
	now := time.Now()
	if c.in.stranger || c.deadline.Sub(now) >= WriteTimeout { // a stranger has one already
		return
	}
	c.deadline = now.Add(WriteTimeout + writeSlack)
	_ = c.conn.SetWriteDeadline(c.deadline)
}

// write writes what is due to the client, to whom nothing else is being written. It has to take
// pace bytes within WriteTimeout.
func (c *client) write(rest []byte, pace int) error {
	for len(rest) > 0 {
		n := min(len(rest), pace)
		c.extendDeadline()
		if c.evicted() { // whose deadline may just have been replaced
			return os.ErrDeadlineExceeded
		}
		if _, err := c.stream.Write(rest[:n]); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && !c.evicted() {
				c.server.unread(c)
			}
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// receiveBuffered waits for bytes where only a blocking read is there, as over TLS: with a buffer
// in hand, a small one unless the client sends much.
func (c *client) receiveBuffered() error {
	if !c.busy && c.in.pending() == 0 {
		c.in.rest()
		c.in.large = false
	}
	c.in.reserve()
	if !c.hold(c.in.size() + c.size()) {
		return os.ErrDeadlineExceeded
	}
	room := c.in.free()
	n, err := c.stream.Read(room)
	c.in.received(n)
	c.busy = n == len(room)
	if n > 0 {
		return nil
	}
	return err
}
