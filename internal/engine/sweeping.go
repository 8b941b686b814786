package engine

import "time"

// What clears hide is swept from the store between other work, in rounds through all places that were cleared. A
// key that is cleared and filled again and again has many deleted cells, and each sweep passes over all that the
// store has not merged away. So after a round there is a rest; the next one then does for several clears at once.

// sweepRest is how long the rest is: so many times the work of the round's last step.
const sweepRest = 4

// unsettledDigests is how many digests in a row may be left out because something is to be swept.
const unsettledDigests = 10

// sweeps is what the engine knows of its sweeps.
type sweeps struct {
	until   time.Time // until when the rest lasts
	hurried bool      // there is no rest until all is swept
	skipped int       // digests
}

// maySweep reports whether there is something to sweep, and room and time to do so.
func (e *Engine) maySweep() bool {
	n, s := e.Clears(), &e.sweeps
	if n == 0 || e.room == Full {
		return false
	}
	return n > e.cfg.MaxClears || s.hurried || e.Sweeping() || !e.RoundEnded() || !e.now.Before(s.until)
}

// sweep takes one step.
func (e *Engine) sweep() error {
	began := e.work
	if _, err := e.sweepSome(); err != nil {
		return err
	}
	if s := &e.sweeps; e.RoundEnded() {
		s.until = e.now.Add(sweepRest * time.Duration(e.work-began) * time.Microsecond)
	}
	return nil
}

// sendDigest has a neighbour told the digest. If there was none for long, because something was to be swept, it is
// swept at once.
func (e *Engine) sendDigest() {
	s := &e.sweeps
	s.skipped++
	if e.Clears() == 0 {
		s.skipped = 0
	}
	s.hurried = s.hurried || s.skipped > unsettledDigests
	e.Mesh.SendDigest(e.rng)
}
