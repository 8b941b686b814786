package resp

import (
	"context"
	"time"
)

// evicted stands for what a client holds that is to be closed.
const evicted = -1

// hold notes how much memory the client holds, in bytes, and has clients closed if that is too
// much. It returns false if this client is one of them.
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

// evict has the clients closed that hold most, until the rest is within MaxHeld. It does not wait
// for them.
func (s *Server) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held.Load() > MaxHeld {
		var worst *client
		most := int64(0)
		for c := range s.clients {
			if n := c.held.Load(); n > most {
				worst, most = c, n
			}
		}
		if worst == nil {
			return
		}
		s.expel(worst)
		s.counts.evicted.Add(1)
		s.config.Logger.Warn("closed the client that held most of the memory for clients",
			"client", worst.conn.RemoteAddr().String(), "bytes", most, "limit", MaxHeld)
	}
}

// expel has a client closed. It does not wait for it. Called under mu.
func (s *Server) expel(c *client) {
	if held := c.held.Swap(evicted); held > 0 {
		s.held.Add(-held)
	}
	_ = c.conn.SetDeadline(time.Unix(1, 0))
}

// unread notes that a client is closed because it takes no replies.
func (s *Server) unread(c *client) {
	s.counts.unread.Add(1)
	s.config.Logger.Warn("closed a client that does not read its replies",
		"client", c.conn.RemoteAddr().String(), "timeout", WriteTimeout)
}

// scan runs a View that may take long and return much, when fewer than MaxScans others do.
func (s *Server) scan(ctx context.Context, fn func(Tx) error) error {
	select {
	case s.scans <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.scans }()
	return s.config.DB.View(ctx, fn)
}
