package resp

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a connection in the loop, which owns it. Others know it as the line of its client.
type socket struct {
	loop   *loop
	client *client
	fd     int
	state  state

	readable bool      // bytes may have come, or the end
	hungUp   bool      // nothing comes behind what has
	turned   bool      // it is among those that the loop looks at next
	batch    *batch    // being executed, or its replies sent
	end      error     // how the client broke the protocol behind it
	sent     int       // bytes of the batch's replies that were written
	taken    int       // of them, since patience was set
	patience time.Time // how long the client is waited for while it takes none
	partial  bool      // they end within a reply, and the goroutine that makes it waits

	joined                bool      // the loop has seen it
	readLimit, writeLimit time.Time // readBy and writeBy, as the loop knows them

	// Guarded by loop.mu.
	posted          bool      // it is in loop.inbox
	readBy, writeBy time.Time // until when others let it be read and written: zero for ever
	cut             bool      // others have closed it
	executed        bool      // a goroutine has done so with the batch
	over            bool      // the loop has let go of it
	part            bool      // a goroutine has made a part of a reply
	went            chan bool // tells it that the part was sent, or that the socket is closed; nil until there is one
	moved           net.Conn  // what it has become
}

// state is what a socket waits for.
type state int

const (
	reading   state = iota // for commands
	resuming               // for its turn
	executing              // for the database, or a goroutine of its own
	answering              // for the end of the round, when replies are sent
	sending                // for the client to take its replies
	awaiting               // for keys
	closed                 // for nothing
)

func (s *socket) SetDeadline(t time.Time) error {
	return s.tell(func() { s.readBy, s.writeBy = t, t })
}

func (s *socket) SetReadDeadline(t time.Time) error { return s.tell(func() { s.readBy = t }) }

func (s *socket) SetWriteDeadline(t time.Time) error { return s.tell(func() { s.writeBy = t }) }

// Close has the loop close the socket, whatever it waits for.
func (s *socket) Close() error {
	var moved net.Conn
	_ = s.tell(func() { s.cut, moved = true, s.moved })
	if moved != nil {
		return moved.Close()
	}
	return nil
}

// sendPart has the loop send what there is of a long reply, and waits until the client has taken it. It
// returns false if the socket is closed. The goroutine calls it that executes the batch.
func (s *socket) sendPart() bool {
	l := s.loop
	l.mu.Lock()
	if s.over {
		l.mu.Unlock()
		return false
	}
	if s.went == nil {
		s.went = make(chan bool, 1)
	}
	s.part = true
	l.post(s)
	l.mu.Unlock()
	return <-s.went
}

// tell changes something under loop.mu, and has the loop look at it.
func (s *socket) tell(change func()) error {
	s.loop.mu.Lock()
	defer s.loop.mu.Unlock()
	change()
	s.loop.post(s)
	return nil
}

// passed reports whether a deadline has.
func passed(deadline, now time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

// deadline returns when the socket is to be closed as it is, zero for never.
func (s *socket) deadline() time.Time {
	switch {
	case s.state == reading:
		return s.readLimit
	case s.state != sending:
		return time.Time{}
	case s.patience.IsZero() || !s.writeLimit.IsZero() && s.writeLimit.Before(s.patience):
		return s.writeLimit
	}
	return s.patience
}

// receive reads what has come, as far as there is room. It returns how many bytes.
func (s *socket) receive() (n int, err error) {
	in := &s.client.in
	in.reserve()
	for {
		room := in.free()
		n, err := readNow(s.fd, room)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.readable = false
			return 0, nil
		case err != nil:
			return 0, err
		case n == 0:
			return 0, net.ErrClosed
		}
		in.received(n)
		s.readable = n == len(room) || s.hungUp // a later event tells of more
		return n, nil
	}
}

// transmit writes replies, as many as there is room for. It returns how many bytes.
func (s *socket) transmit(replies []byte) (n int, err error) {
	for n < len(replies) {
		m, err := writeNow(s.fd, replies[n:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, nil
		case err != nil:
			return n, err
		}
		n += max(0, m)
	}
	return n, nil
}

// takeSocket returns a descriptor of ours for a connection, which may be closed then: the client does
// not notice.
func takeSocket(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(of uintptr) { fd, failed = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = failed
	}
	return fd, err
}

// copyOf returns a connection with a descriptor of its own for the same socket.
func copyOf(fd int) (net.Conn, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(copied), "client")
	defer file.Close()
	return net.FileConn(file) // which copies it once more
}

// join has the loop serve a client, if there is one. It returns false if that goes on without it.
func (s *Server) join(ctx context.Context, c *client, conn syscall.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config.goroutines || s.draining || s.loop.isOver() {
		return false
	}
	if s.loop == nil {
		var err error
		if s.loop, err = s.startLoop(ctx); err != nil {
			s.config.Logger.Warn("clients are served without the loop for them: that is slower", "error", err)
			return false
		}
	}
	fd, err := takeSocket(conn)
	if err != nil { // most likely there are no more descriptors
		return false
	}
	_ = c.stream.Close() // which Go's poller forgets: each command would wake it as well
	t := &socket{loop: s.loop, client: c, fd: fd}
	if c.in.stranger {
		t.readBy = c.came.Add(StrangerPatience)
		t.writeBy = t.readBy
	}
	c.conn, c.stream, c.raw = t, nil, nil
	if c.evicted() {
		t.readBy = time.Unix(1, 0)
	}
	_ = t.SetReadDeadline(t.readBy)
	return true
}
