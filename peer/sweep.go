package peer

import "time"

// What clears hide is swept from the store between other work, in rounds through all places that were cleared. A
// key that is cleared and filled again and again has many deleted cells, and each sweep passes over all that the
// store has not merged away. So after a round there is a rest; the next one then does for several clears at once.

// sweepRest is how long the rest is, in times of the round's last step.
const sweepRest = 4

// settleTime is how long the loop may sweep at once where something needs a moment with nothing left to be swept.
// What is left then is swept without rests.
const settleTime = 250 * time.Millisecond

// unsettledDigests is how many digests in a row may be left out because something is to be swept.
const unsettledDigests = 10

// sweeping is what the loop knows of its sweeps.
type sweeping struct {
	until   time.Time   // until when the rest lasts
	rest    *time.Timer // fires then
	hurried bool        // there is no rest until all is swept
	skipped int         // digests
}

// maySweep reports whether there is something to sweep, and room and time to do so.
func (l *loop) maySweep() bool {
	n, s := l.node.Clears(), &l.sweeping
	if n == 0 || l.p.disk.room() == full {
		return false
	}
	return n > maxClears || s.hurried || l.node.Sweeping() || !l.node.RoundEnded() ||
		!time.Now().Before(s.until)
}

// sweep takes one step.
func (l *loop) sweep() error {
	s, began := &l.sweeping, time.Now()
	if _, err := l.node.Sweep(); err != nil {
		return err
	}
	if l.node.RoundEnded() {
		rest := sweepRest * time.Since(began)
		s.until = began.Add(rest)
		s.rest.Reset(rest)
	}
	s.hurried = s.hurried && l.node.Clears() > 0
	return nil
}

// sweepSome takes a step.
func (l *loop) sweepSome() error {
	if !l.maySweep() {
		return nil
	}
	return l.sweep()
}

// settle sweeps all that there is, if that does not take long, and else hurries; as it does while a group is
// open, which has seen the cells as they are.
func (l *loop) settle() error {
	began := time.Now()
	if l.sweeping.hurried = l.node.Clears() > 0; !l.sweeping.hurried || l.group != nil {
		return nil
	}
	for l.maySweep() && time.Since(began) < settleTime {
		if err := l.sweep(); err != nil {
			return err
		}
	}
	return nil
}

// settled settles, and reports whether the loop may go on.
func (l *loop) settled() bool {
	if err := l.settle(); err != nil {
		l.broken = err
	}
	return l.broken == nil
}

// sendDigest has a neighbour told the digest. If there was none for long, because something was to be swept, it is
// swept now.
func (l *loop) sendDigest() error {
	l.sweeping.skipped++
	if l.node.Clears() > 0 && l.sweeping.skipped > unsettledDigests {
		if err := l.settle(); err != nil {
			return err
		}
	}
	if l.node.Clears() == 0 {
		l.sweeping.skipped = 0
	}
	l.node.SendDigest(l.rng)
	return nil
}
