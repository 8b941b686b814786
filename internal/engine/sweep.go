package engine

import (
	"bytes"
	"cmp"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// sweep is how far the sweep is. It goes through the prefixes of clears in their order, round
// after round.
type sweep struct {
	prefix dotted.Address // that is swept, or was last
	upTo   uint64         // clears up to this number are done with then
	phase  sweepPhase
	after  dotted.Address // the last cell that was looked at; then the last clear
	from   []byte         // where the search for sums goes on
}

type sweepPhase int

const (
	sweepRests     sweepPhase = iota // nothing is swept in part
	sweepsCells                      // cells are removed
	sweepsSums                       // sums that say nothing any more are removed
	sweepsItsNotes                   // the clears' own records are removed
)

// Clears returns how many clears there are to be swept.
func (r *replica) Clears() int {
	if r.damage != nil {
		return 0
	}
	return r.clears.count
}

// isSweeping reports whether a clear is swept in part.
func (r *replica) isSweeping() bool { return r.sweep.phase != sweepRests }

// roundEnded reports whether the next sweep is at or before the place of the last one: what was
// cleared there meanwhile can wait for more.
func (r *replica) roundEnded() bool {
	_, more := r.clears.next(r.sweep.prefix)
	return !r.isSweeping() && !more
}

// sweepStep is what one step has done.
type sweepStep struct {
	r      *replica
	g      *group
	sums   []*item // summaries that go
	done   []*pendingClear
	clears *clears
	began  int // replica.work at its beginning
	looked int // at cells, places and records
}

// look counts work of the step.
func (s *sweepStep) look(work int) {
	last := s.r.work
	s.r.spend(work)
	s.r.transacted(last)
	s.looked++
}

func (s *sweepStep) full() bool { return s.looked >= s.r.cfg.MaxBatch || s.r.spentSince(s.began) }

// sweepSome removes cells that committed clears hide, and then the clears. It logs nothing: it
// can be done again. It does no more work than a step may, but for passing over what was deleted
// there before, and reports whether there is more. Readers see no difference.
func (r *replica) sweepSome() (more bool, err error) {
	if r.Clears() == 0 {
		return false, nil
	}
	s := &sweepStep{
		r: r, g: r.newGroup(r.wallTime()), clears: r.clears.copy(), began: r.work,
	}
	defer s.g.discard()
	for !s.full() && s.clears.count > 0 {
		if err := s.sweepOn(); err != nil {
			return false, err
		}
	}
	changed := s.g.changed()
	s.g.plan(changed)
	for _, c := range changed {
		s.g.put(c)
	}
	for _, it := range s.sums {
		r.table.put(it, nil)
	}
	for _, p := range s.done {
		r.dropClear(p)
	}
	r.account(changed)
	r.clears = s.clears
	r.publishWritten()
	return r.clears.count > 0, nil
}

// sweepOn does what is next, until it is done or the step is full.
func (s *sweepStep) sweepOn() error {
	at := &s.r.sweep
	switch at.phase {
	case sweepRests:
		prefix, found := s.clears.next(at.prefix)
		if !found {
			prefix, _, _ = s.clears.byAt.Min()
		}
		*at = sweep{prefix: prefix, upTo: s.r.lastClear, phase: sweepsCells}
		return nil
	case sweepsCells:
		return s.sweepCells(at)
	case sweepsSums:
		return s.sweepSums(at)
	}
	s.dropClears(at)
	return nil
}

// Places that are cleared together often stand together. To find the first cell of a place costs as much as to look at
// hundreds, so places that follow closely are swept in one scan.
const (
	placesAtOnce = 64
	nearPlace    = 8  // bytes at the end in which two such places differ
	maxBetween   = 64 // keys of cells between two of them
)

// sweepCells removes the cells under the place, and goes on to places close behind it.
func (s *sweepStep) sweepCells(at *sweep) error {
	if s.look(workOp); s.full() && s.looked > 1 { // there at all
		return nil
	}
	in := place(prefixCell, at.prefix)
	start, end := in, s.scanEnd(at.prefix)
	if at.after != "" {
		start = append(place(prefixCell, at.after), 0)
	}
	stopped, between := false, 0
	var failed error
	err := s.g.view.records(start, end, func(key []byte, it *item, value []byte) bool {
		for string(key) > string(in) && !bytes.HasPrefix(key, in) {
			if stopped = !s.nextPlace(at, end); stopped {
				return false
			}
			in, between = place(prefixCell, at.prefix), 0
		}
		if string(key) < string(in) {
			between++
			s.look(workOp + workOf(len(value)))
			stopped = s.full() || between > maxBetween
			return !stopped
		}
		var a dotted.Address
		var c dotted.Cell
		if a, c, failed = s.g.view.cellOf(key, it, value); failed != nil {
			return false
		}
		s.g.forget(a) // another clear has come by it
		s.g.hold(&cellState{address: a, key: string(place(prefixCell, a)), stored: c})
		at.after = a
		s.look(workOp + workOf(weightOf(c)))
		stopped = s.full()
		return !stopped
	})
	switch {
	case failed != nil || err != nil:
		return cmp.Or(failed, err)
	case stopped:
	case s.clears.counting > 0:
		at.phase, at.after = sweepsSums, ""
	default:
		at.phase, at.after = sweepsItsNotes, ""
	}
	return nil
}

// scanEnd returns the key before which a scan ends that sweeps a place, and others that follow closely. If there are sums
// to be swept it goes no further than the place.
func (s *sweepStep) scanEnd(prefix dotted.Address) []byte {
	last, more := prefix, placesAtOnce
	if s.clears.counting == 0 && len(prefix) <= dotted.MaxPlain { // else the order of places is not that of prefixes
		s.clears.byAt.Ascend(prefix+"\x00", func(next dotted.Address, _ []*pendingClear) bool {
			near := len(next) <= dotted.MaxPlain && !hasPrefix(next, prefix) && commonPrefix(prefix, next) >= len(prefix)-nearPlace
			if near {
				last = next
			}
			more--
			return near && more > 0
		})
	}
	return after(place(prefixCell, last))
}

// nextPlace ends the place, all cells of which were looked at, and begins the next one. It reports whether a scan that ends
// before a key, and has passed no cell behind the place, comes by all of that.
func (s *sweepStep) nextPlace(at *sweep, end []byte) bool {
	at.phase, at.after = sweepsItsNotes, ""
	for at.phase == sweepsItsNotes {
		if s.full() {
			return false
		}
		s.dropClears(at)
	}
	last := at.prefix
	next, found := s.clears.next(last)
	if !found {
		return false
	}
	*at = sweep{prefix: next, upTo: s.r.lastClear, phase: sweepsCells}
	return !hasPrefix(next, last) && len(next) <= dotted.MaxPlain && string(after(place(prefixCell, next))) <= string(end)
}

// sweepSums removes the sums and orders under the place that were cleared. Those over keys are only where everything was.
func (s *sweepStep) sweepSums(at *sweep) error {
	if at.from == nil {
		at.from = place(prefixCount, at.prefix)
		if at.prefix == "" {
			at.from = []byte{prefixSummary}
		}
	}
	kind, stopped := at.from[0], false
	var failed error
	var of generations
	err := s.g.view.records(at.from, after(place(kind, at.prefix)), func(key []byte, _ *item, record []byte) bool {
		var void bool
		if void, failed = s.void(key, record, &of); failed != nil {
			return false
		}
		if void {
			s.sums = append(s.sums, recordItem(string(key), body{}))
		}
		at.from = append(bytes.Clone(key), 0)
		s.look(workOp)
		stopped = s.full()
		return !stopped
	})
	switch {
	case failed != nil || err != nil:
		return cmp.Or(failed, err)
	case stopped:
	case kind == prefixSummary:
		at.from = []byte{prefixCount}
	case kind == prefixCount:
		at.from = place(prefixOrder, at.prefix)
	case kind == prefixOrder:
		at.from = place(prefixNode, at.prefix)
	default:
		at.phase = sweepsItsNotes
	}
	return nil
}

// dropClears removes the clears that are swept: those of the place and inside of it that were
// there when it was begun.
func (s *sweepStep) dropClears(at *sweep) {
	var done []*pendingClear
	s.clears.within(at.prefix, at.after, func(p *pendingClear) bool {
		at.after = p.prefix
		if p.number <= at.upTo {
			done = append(done, p)
			s.look(workOp)
		}
		return !s.full()
	})
	for _, p := range done {
		s.clears.remove(p)
	}
	s.done = append(s.done, done...)
	if !s.full() || len(done) == 0 {
		at.phase = sweepRests
	}
}

// What clears hide is swept from the store between other work, in rounds through all places that
// were cleared. A key that is cleared and filled again and again has many deleted cells, and each
// sweep passes over all that the store has not merged away. So after a round there is a rest; the
// next one then does for several clears at once.

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
	return n > e.cfg.MaxClears || s.hurried || e.isSweeping() || !e.roundEnded() || !e.now.Before(s.until)
}

// sweep takes one step.
func (e *Engine) sweep() error {
	began := e.work
	if _, err := e.sweepSome(); err != nil {
		return err
	}
	if s := &e.sweeps; e.roundEnded() {
		s.until = e.now.Add(sweepRest * time.Duration(e.work-began) * time.Microsecond)
	}
	return nil
}

// sendDigest has a neighbour told the digest. If there was none for long, because something was
// to be swept, it is swept at once.
func (e *Engine) sendDigest() {
	s := &e.sweeps
	s.skipped++
	if e.Clears() == 0 {
		s.skipped = 0
	}
	s.hurried = s.hurried || s.skipped > unsettledDigests
	e.Mesh.SendDigest(e.rng)
}
