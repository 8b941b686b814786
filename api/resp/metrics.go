package resp

import (
	"time"

	"github.com/peerd/peerd/internal/latency"
)

// Metrics are a server's figures for monitoring. What counts up does so since the server was made.
type Metrics struct {
	Clients           int    // connected now
	Accepted, Refused uint64 // connections
	Held              int64  // bytes that clients hold, what is below FreeHold of each not counted
	Evicted, Unread   uint64 // clients that were closed: beyond MaxHeld, beyond WriteTimeout
	Slow              uint64 // commands that took longer than Config.SlowLog
	Times             map[string]latency.Counts
}

// Metrics returns the server's figures. Commands that were not used are left out.
func (s *Server) Metrics() Metrics {
	m := Metrics{
		Clients: s.clientCount(), Accepted: uint64(s.counts.clients.Load()),
		Refused: uint64(s.counts.refused.Load()), Slow: uint64(s.slow.count()),
		Held: s.held.Load(), Evicted: uint64(s.counts.evicted.Load()),
		Unread: uint64(s.counts.unread.Load()), Times: map[string]latency.Counts{},
	}
	for name, c := range commands {
		if counts := s.times[c.number].Counts(); counts.Total > 0 {
			m.Times[name] = counts
		}
	}
	return m
}

// observe counts how long the requests took that were just executed together: each as long as all,
// since that is what its client waited.
func (b *batch) observe(took time.Duration) {
	s := b.client.server
	for i := b.from; i < b.next; {
		r := &b.requests[i]
		n := 1
		for i+n < b.next && b.requests[i+n].command == r.command {
			n++
		}
		// What is queued by MULTI was not executed: EXEC is.
		if r.command != nil && (r.access != accessNone || r.command.access == accessNone) {
			s.times[r.command.number].Observe(took, n)
			s.perCommand[r.command.place].nanos.Add(int64(took) * int64(n) / int64(b.next-b.from))
		}
		i += n
	}
	if limit := s.slower.Load(); limit >= 0 && took.Microseconds() >= limit {
		b.slow(took)
	}
}
