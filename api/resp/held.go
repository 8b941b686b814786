package resp

import (
	"context"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// evicted stands for what a client holds that is to be closed.
const evicted = -1

// hold notes how much memory the client holds, in bytes, and has clients closed if that is too
// much. It returns false if this client is one of them. A client calls it whenever it holds more
// than before, and before it waits for the network: then it may hold what it does for ever.
func (c *client) hold(size int) bool {
	if c.note(size) && c.server.held.Load() > MaxHeld {
		c.server.evict()
	}
	return !c.evicted()
}

// note notes how much memory the client holds, and reports whether that is more than before. It
// costs nothing while it is little.
func (c *client) note(size int) (more bool) {
	n := int64(size)
	if n < FreeHold {
		n = 0
	}
	old := c.held.Load()
	if old == n || old == evicted || !c.held.CompareAndSwap(old, n) {
		return false // beside this goroutine, only evict changes it
	}
	c.server.held.Add(n - old)
	return n > old
}

func (c *client) evicted() bool { return c.held.Load() == evicted }

// evict has the largest clients closed until the rest is within MaxHeld. It does not wait for
// them.
func (s *Server) evict() {
	for c, held := range s.expelLargest() {
		s.counts.evicted.Add(1)
		s.config.Logger.Warn("closed a client, as all together hold too much memory",
			"client", c.address.String(), "bytes", held, "limit", MaxHeld)
	}
}

// expelLargest expels the largest clients until the rest is within MaxHeld, and returns what each
// held. It adds up what the clients say themselves: Server.held lags behind a client
// that gave memory back, and others would be closed in its place.
func (s *Server) expelLargest() map[*client]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := int64(0) // without mail, of which several may have the same
	for c := range s.clients {
		own += max(0, c.held.Load())
	}
	expelled := map[*client]int64{}
	for own+s.mail.Load() > MaxHeld {
		worst := s.largest()
		if worst == nil {
			break // they gave it back meanwhile
		}
		expelled[worst] = worst.holds()
		own -= max(0, worst.held.Load())
		s.expel(worst)
		worst.box.discard()
		own -= worst.box.bytes.Load() // which is being sent, and goes with the connection
	}
	return expelled
}

// largest returns the client that holds most of those without CLIENT NO-EVICT, or of all if none of
// those holds anything: nil if nobody does. Called under mu.
func (s *Server) largest() (worst *client) {
	most, mayStay := int64(0), true
	worse := func(n int64, stays bool) bool {
		return n > 0 && (mayStay && !stays || mayStay == stays && n > most)
	}
	for c := range s.clients {
		held, stays := c.held.Load(), c.noEvict.Load()
		if held == evicted || !worse(held+c.box.bytes.Load(), stays) {
			continue
		}
		if n := c.holds(); worse(n, stays) {
			worst, most, mayStay = c, n, stays
		}
	}
	return worst
}

// holds returns how much memory the client holds, with its part of what waits in its mailbox: 0 if
// it is to be closed.
func (c *client) holds() int64 {
	if held := c.held.Load(); held != evicted {
		return held + c.box.part()
	}
	return 0
}

// expel has a client closed. It does not wait for it. Called under mu.
func (s *Server) expel(c *client) {
	s.held.Add(-max(0, c.held.Swap(evicted)))
	_ = c.conn.SetDeadline(time.Unix(1, 0))
	if w := c.waits.Load(); w != nil {
		w.stop(left)
	}
}

// unread notes that a client is closed because it takes no replies.
func (s *Server) unread(c *client) {
	s.counts.unread.Add(1)
	s.config.Logger.Warn("closed a client that does not read its replies",
		"client", c.address.String(), "timeout", WriteTimeout)
}

// slotsOf returns those that a command with accessScan takes one of: a script has others, as it may
// run for long.
func (s *Server) slotsOf(cmd *command) chan struct{} {
	if cmd.group == "scripting" {
		return s.evals
	}
	return s.scans
}

// scan runs a View that may take long and return much, when one of its slots is free.
func (s *Server) scan(ctx context.Context, slots chan struct{}, db database, fn func(*embedded.Tx) error) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-slots }()
	return db.View(ctx, fn)
}
