package engine

import (
	"time"

	"github.com/peerd/peerd/gossip"
)

// A host has many engines, and most of them have nothing to do. While nothing is under way in one it rests: it has no
// ticks, and its digests become rarer. What it says at the end of a rest does not come later for that: whatever happens
// ends it, and ticks are made up for.

// digestRest is the longest pause between two digests. While nothing changes here each is twice as long as the one
// before, once all neighbours are likely to have had one.
const digestRest = 30 * time.Second

// digests is what was told in them.
type digests struct {
	told  gossip.Digest
	same  int // how often it was told
	pause time.Duration
}

// ticksPassed returns how many ticks are due: those of a rest all at once, before whatever has ended it.
func (e *Engine) ticksPassed() int {
	if !e.rests {
		return 1
	}
	return min(1+int(e.now.Sub(e.due.tick)/tickEvery), int(digestRest/tickEvery))
}

// resting reports whether nothing is under way that ticks are counted for, and no checkpoint is due.
func (e *Engine) resting() bool {
	return !e.dirty && !e.syncing && e.pull == nil && e.saving == nil && e.beside == nil && e.Clears() == 0 && !e.again() &&
		!e.Repairing() && e.damage == nil && e.room == Roomy && !e.Collecting() && len(e.settling) == 0 &&
		e.Mesh.Resting() && !e.saveDue(e.wall) && !e.expiresBy(e.wall)
}

// at returns the first of the deadlines; the ticks of a rest have none, and there is nothing to sync then.
func (e *Engine) at() time.Time {
	d := &e.due
	first := d.digest
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	sooner(d.push)
	if e.rests {
		if e.unsaved() {
			sooner(e.now.Add(e.saves.Sub(e.wall)))
		}
		if e.expiring.timed {
			sooner(e.now.Add(e.expiresIn(e.wall)))
		}
		return first
	}
	sooner(d.tick)
	sooner(d.sync)
	if until := e.sweeps.until; e.Clears() > 0 && until.After(e.now) {
		sooner(until)
	}
	return first
}

// paceDigests has the next digest sent after a pause.
func (e *Engine) paceDigests() {
	now, settled := e.State()
	s := &e.digests
	switch {
	case !settled || now != s.told:
		*s = digests{now, 0, digestEvery}
	case s.same < 2*len(e.takes):
		s.same++
	default:
		s.pause = min(2*s.pause, digestRest)
	}
	e.due.digest = e.now.Add(s.pause)
}

// hurryDigest ends a long pause once something has changed.
func (e *Engine) hurryDigest() {
	soon := e.now.Add(digestEvery)
	if !e.due.digest.After(soon) {
		return
	}
	if now, settled := e.State(); !settled || now != e.digests.told {
		e.due.digest = soon
	}
}
