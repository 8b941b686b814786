package resp

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	embedded "github.com/peerd/peerd/peer"
)

// mail is what a client is sent beside its replies.
type mail struct {
	pattern string // that matched, "" if the channel itself was subscribed to
	embedded.Message
	shared  *atomic.Int64 // in how many mailboxes the message is: of all it is held once
	invalid *invalidation // in place of a message
}

// mailSize is what mail takes in memory besides its bytes.
const mailSize = 112

// largePayload is from how many bytes on a payload is sent from where it is, and not copied for
// each client.
const largePayload = 4 << 10

func (m *mail) size() int {
	if m.invalid != nil {
		return m.invalid.size() + mailSize
	}
	return len(m.pattern) + len(m.Channel) + len(m.Payload) + mailSize
}

// alone is the size but for what other mailboxes have as well.
func (m *mail) alone() int {
	if m.shared == nil {
		return m.size()
	}
	return len(m.pattern) + mailSize
}

// isLarge reports whether the payload is sent from where it is.
func (m *mail) isLarge() bool { return m.invalid == nil && len(m.Payload) >= largePayload }

// write writes what a client is sent, that may be a subscriber: of what is large all before the
// payload.
func (m *mail) write(out *replies, subscriber bool) {
	switch {
	case m.invalid != nil:
		m.invalid.write(out, subscriber)
		return
	case m.pattern != "":
		out.push(4)
		out.text("pmessage")
		out.text(m.pattern)
	case m.Sharded:
		out.push(3)
		out.text("smessage")
	default:
		out.push(3)
		out.text("message")
	}
	out.text(m.Channel)
	if m.isLarge() {
		out.header('$', int64(len(m.Payload)))
	} else {
		out.bulk(m.Payload)
	}
}

// mailbox is what waits to be sent to a client beside its replies. Anybody puts mail into it, and
// waits for nothing. The client's goroutine opens and closes it; one of its own sends what is
// there, while it holds client.writing.
type mailbox struct {
	server *Server
	subs   *subscriptions // of the client
	bytes  atomic.Int64   // that wait, and of what is large and being sent

	mu      sync.Mutex
	open    bool
	full    bool // more than MaxMail waited, or all hold too much: the client is to be closed
	queue   []mail
	arrived chan struct{} // of capacity 1
	closed  chan struct{}
}

var errMailbox = errors.New("too many messages wait for a client")

// put has mail sent, if the box is open.
func (b *mailbox) put(m mail) {
	b.mu.Lock()
	if !b.open || b.full {
		b.mu.Unlock()
		return
	}
	if size := m.size(); b.bytes.Load()+int64(size) > MaxMail {
		b.full = true
		b.empty()
	} else {
		b.queue = append(b.queue, m)
		b.bytes.Add(int64(size))
		b.server.holdMail(&m)
	}
	select {
	case b.arrived <- struct{}{}:
	default:
	}
	b.mu.Unlock()
	if b.server.held.Load() > MaxHeld {
		b.server.evict()
	}
}

// waiting returns how many messages wait, and their bytes.
func (b *mailbox) waiting() (messages int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue), b.bytes.Load()
}

// part returns how many bytes the box holds, of what is large and in others, too, its part: else
// all of those were closed before one that holds nearly as much alone.
func (b *mailbox) part() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.bytes.Load()
	for i := range b.queue {
		if m := &b.queue[i]; m.shared != nil && m.isLarge() {
			whole := int64(m.size() - m.alone())
			n -= whole - whole/max(m.shared.Load(), 1)
		}
	}
	return n
}

// holdMail notes that mail is in one mailbox more. dropMail is its opposite.
func (s *Server) holdMail(m *mail) {
	size := m.alone()
	if m.shared != nil && m.shared.Add(1) == 1 {
		size = m.size()
	}
	s.held.Add(int64(size))
	s.mail.Add(int64(size))
}

func (s *Server) dropMail(m *mail) {
	size := m.alone()
	if m.shared != nil && m.shared.Add(-1) == 0 {
		size = m.size()
	}
	s.held.Add(-int64(size))
	s.mail.Add(-int64(size))
}

// discard throws away what waits for a client that is to be closed, and what comes.
func (b *mailbox) discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = true
	b.empty()
}

// empty throws away what waits. b.mu is held.
func (b *mailbox) empty() {
	for i := range b.queue {
		b.drop(&b.queue[i])
	}
	b.queue = nil
}

// drop notes that mail waits no longer, nor is being sent.
func (b *mailbox) drop(m *mail) {
	b.bytes.Add(-int64(m.size()))
	b.server.dropMail(m)
}

// take writes some of what waits, and reports whether there is more. What is large comes last: its
// payload is not written, and it is to be dropped once it is. The error is errMailbox.
func (b *mailbox) take(out *replies) (large *mail, more bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return nil, false, errMailbox
	}
	n := 0
	for ; n < len(b.queue) && len(out.buf) < writeSize && large == nil; n++ {
		m := b.queue[n]
		m.write(out, b.subs.all() > 0)
		if m.isLarge() {
			large = &m
		} else {
			b.drop(&m)
		}
	}
	clear(b.queue[:n])
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	return large, len(b.queue) > 0, nil
}

// start opens the box, unless it is open, and returns whether it was not.
func (b *mailbox) start() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return false
	}
	b.open, b.full = true, false
	b.arrived, b.closed = make(chan struct{}, 1), make(chan struct{})
	return true
}

// stop closes the box, and throws away what waits.
func (b *mailbox) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		b.open = false
		b.empty()
		close(b.closed)
	}
}

// sendMail sends what comes into the mailbox until that is closed, or the connection. A client for
// which too much waits is closed, as Redis closes one beyond its output limit: it knows then that
// it missed some.
func (c *client) sendMail(ctx context.Context, arrived, closed <-chan struct{}) {
	for {
		select {
		case <-arrived:
		case <-closed:
			return
		}
		if err := c.passOn(); err != nil {
			if errors.Is(err, errMailbox) && !c.evicted() {
				c.server.unread(c)
			}
			c.conn.Close()
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// passOn sends what is in the mailbox.
func (c *client) passOn() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	for more := true; more; {
		out := replies{resp3: c.resp3}
		var large *mail
		var err error
		if large, more, err = c.box.take(&out); err != nil {
			return err
		}
		err = c.write(out.buf, writeSize)
		if large != nil {
			if err == nil {
				err = c.write(large.Payload, writeSize)
			}
			c.box.drop(large)
			if err == nil {
				err = c.write([]byte("\r\n"), writeSize)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
