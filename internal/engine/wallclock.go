package engine

import (
	"slices"
	"time"
)

// Keys expire by the wall clock, which may be wrong. So hosts measure each other's, and each judges
// its own by what it found: if most differ from it, by the median of all; if the only one does, keys
// expire by the one that is behind. If most of those that are compared are right, nothing expires
// early, nor late.

// Clock is what is known of the wall clock by those of other hosts.
type Clock struct {
	Ahead time.Duration // by how much the right time is ahead of it: zero, unless it is known to be wrong
	// Slack is by how much it may be ahead of another's, of which nobody knows which is right. Keys expire so much later.
	Slack time.Duration
}

// judges returns by how much the time by which keys have expired is ahead of the wall clock's.
func (c Clock) judges() time.Duration { return c.Ahead - c.Slack }

// SetClock says how right the wall clock is.
func (e *Engine) SetClock(c Clock) { e.expiring.clock = c }

// Doubted returns what a clock is taken for of which this was found before the host was started
// anew: it may be as wrong still, or have been set. Keys expire, and are said to expire, rather too
// late than too early.
func (c Clock) Doubted() Clock {
	return Clock{Ahead: max(c.Ahead, 0), Slack: c.Ahead.Abs() + c.Slack}
}

// Measured is another host's clock beside this one's.
type Measured struct {
	Ahead time.Duration // by how much it is ahead
	Error time.Duration // by how much that may be wrong
}

// Off reports whether the two differ by more than a limit, however wrong the measurement.
func (m Measured) Off(limit time.Duration) bool { return m.Ahead.Abs()-m.Error > limit }

// ClockWrong reports whether this host's own clock must be the one that is off: most of those that
// were measured are, as seen from here, of at least two.
func ClockWrong(all []Measured, limit time.Duration) bool {
	off := 0
	for _, m := range all {
		if m.Off(limit) {
			off++
		}
	}
	return len(all) >= 2 && 2*off > len(all)
}

// JudgeClock returns what others' clocks tell of this host's, of which one at least was measured. If
// the only one differs, it is not followed; but what most told before is still so if that one tells
// the same.
func JudgeClock(all []Measured, limit time.Duration, was Clock) Clock {
	switch {
	case ClockWrong(all, limit):
		return Clock{Ahead: medianAhead(all)}
	case len(all) > 1 || !all[0].Off(limit):
		return Clock{}
	}
	only := all[0]
	told := Measured{only.Ahead - was.Ahead, only.Error}
	if was.Ahead != 0 && !told.Off(limit) {
		return was
	}
	return Clock{Slack: max(0, -only.Ahead)}
}

// medianAhead returns by how much the right time is ahead, by the median of others' clocks and of
// this host's own: without that one, of two that differ the one that is ahead would be followed. Of
// two in the middle the one behind counts, by which nothing expires early.
func medianAhead(all []Measured) time.Duration {
	ahead := []time.Duration{0} // its own
	for _, m := range all {
		ahead = append(ahead, m.Ahead)
	}
	slices.Sort(ahead)
	return ahead[(len(ahead)-1)/2]
}
