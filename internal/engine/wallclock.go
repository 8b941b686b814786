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
func (c Clock) Doubted() Clock { return c.set(c.Ahead) }

// set returns what a clock is taken for that was so before it was set, ahead by a time: either may
// be right, what it would show and what it shows.
func (c Clock) set(by time.Duration) Clock {
	return Clock{Ahead: c.Ahead + max(0, -by), Slack: c.Slack + by.Abs()}
}

// A wall clock may be set at any time, by people or by NTP, and is ahead, too, where time stood
// still for a host that slept. Until it is measured again its host goes by it as by one in doubt.

// believedAfter is how long that is so at most where no other clock can be measured.
const believedAfter = time.Minute

// Reading is what the wall clock shows at a moment of the time that only goes on.
type Reading struct{ Now, Wall time.Time }

// set returns by how much the wall clock was set ahead since an earlier reading.
func (r Reading) set(since Reading) time.Duration {
	// Round takes the time away that only goes on.
	return r.Wall.Round(0).Sub(since.Wall.Round(0)) - r.Now.Sub(since.Now)
}

// IsSet reports whether the wall clock was set since a reading, by more than it may be off.
func (r Reading) IsSet(since Reading, limit time.Duration) bool {
	return r.set(since).Abs() > limit
}

// Found is what was found of the wall clock. It does not change.
type Found struct {
	Clock Clock // by the last measurement, which may have been before the host was started

	taken Clock         // what the clock is taken for, unless it was set since
	at    Reading       // when that was found
	moved time.Time     // when it was seen that it was set since; zero if it was not
	by    time.Duration // by how much
}

// FoundNow returns what is found of the clock at a reading.
func FoundNow(c Clock, at Reading) *Found { return &Found{Clock: c, taken: c, at: at} }

// FoundBefore returns what is known of the clock at a reading if it may have been set since this
// was found.
func FoundBefore(c Clock, at Reading) *Found { return &Found{Clock: c, taken: c.Doubted(), at: at} }

// At returns what the clock is taken for at a reading, and what is known of it from then on: f,
// unless that has changed.
func (f *Found) At(r Reading, limit time.Duration) (Clock, *Found) {
	by := r.set(f.at)
	switch isSet := by.Abs() > limit; {
	case isSet && (f.moved.IsZero() || (by-f.by).Abs() > limit): // or again
		return f.taken.set(by), &Found{f.Clock, f.taken, f.at, r.Now, by}
	case isSet && r.Now.Sub(f.moved) < believedAfter:
		return f.taken.set(by), f
	case isSet:
		f = FoundBefore(f.Clock, r)
	case !f.moved.IsZero(): // it was set back
		f = &Found{Clock: f.Clock, taken: f.taken, at: f.at}
	}
	return f.taken, f
}

// Judge returns what is found of the clock by others' that were measured: see JudgeClock.
func (f *Found) Judge(all []Measured, r Reading, limit time.Duration) *Found {
	was := f.Clock
	if r.IsSet(f.at, limit) {
		was = f.taken.set(r.set(f.at))
	}
	return FoundNow(JudgeClock(all, limit, was), r)
}

// Moved reports whether it was seen that the clock was set since.
func (f *Found) Moved() bool { return !f.moved.IsZero() }

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
		return Clock{Ahead: was.Ahead, Slack: min(was.Slack, was.Ahead.Abs())} // one of the two is right
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
