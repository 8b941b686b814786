package engine

import (
	"bytes"
	"cmp"

	"github.com/peerd/peerd/internal/dotted"
)

// sweep is how far the sweep is. It goes through the prefixes of clears in their order, round after round.
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
	sweepsSums                       // of everything: sums of an earlier era are removed
	sweepsItsNotes                   // the clears' own records are removed
)

// Clears returns how many clears there are to be swept.
func (r *Replica) Clears() int {
	if r.damage != nil {
		return 0
	}
	return r.clears.count
}

// Sweeping reports whether a clear is swept in part.
func (r *Replica) Sweeping() bool { return r.sweep.phase != sweepRests }

// RoundEnded reports whether the next sweep is at or before the place of the last one: what was cleared there
// meanwhile can wait for more.
func (r *Replica) RoundEnded() bool {
	_, more := r.clears.next(r.sweep.prefix)
	return !r.Sweeping() && !more
}

// sweepStep is what one step has done.
type sweepStep struct {
	r      *Replica
	g      *Group
	sums   []*item // summaries that go
	done   []*pendingClear
	clears *clears
	began  int // Replica.work at its beginning
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

// Sweep removes cells that committed clears hide, and then the clears. It logs nothing: it can be done again. It does no more work than a
// step may, but for passing over what was deleted there before, and reports whether there is more. Readers see no
// difference.
func (r *Replica) sweepSome() (more bool, err error) {
	if r.Clears() == 0 {
		return false, nil
	}
	s := &sweepStep{
		r: r, g: r.Begin(r.wallTime()), clears: r.clears.copy(), began: r.work,
	}
	defer s.g.Discard()
	for !s.full() && s.clears.count > 0 {
		if err := s.sweepOn(); err != nil {
			return false, err
		}
	}
	changed := s.g.changed()
	moves, _ := s.g.plan(changed)
	for _, c := range changed {
		it := s.g.item(c)
		r.table.put(it)
		r.cache.keep(c.address, it.cell)
	}
	for _, it := range s.sums {
		r.table.put(it)
	}
	for _, p := range s.done {
		r.dropClear(p)
	}
	r.account(changed, moves)
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
			prefix = s.clears.first()
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

func (s *sweepStep) sweepCells(at *sweep) error {
	if s.look(workOp); s.full() && s.looked > 1 { // there at all
		return nil
	}
	stopped := false
	err := s.g.view.scanStored(at.prefix, at.after, func(a dotted.Address, c dotted.Cell) bool {
		s.g.cells[a] = &cellState{
			address: a, key: place(prefixCell, a), stored: c, now: s.r.clears.hide(a, c),
		}
		at.after = a
		s.look(workOp + workOf(weightOf(c)))
		stopped = s.full()
		return !stopped
	})
	switch {
	case err != nil || stopped:
	case at.prefix == "":
		at.phase, at.after = sweepsSums, ""
	default:
		at.phase, at.after = sweepsItsNotes, ""
	}
	return err
}

// sweepSums removes sums that nobody has seen since everything was cleared.
func (s *sweepStep) sweepSums(at *sweep) error {
	if at.from == nil {
		at.from = []byte{prefixSummary}
	}
	kind, stopped := at.from[0], false
	var failed error
	err := s.g.view.records(at.from, []byte{kind + 1}, func(key []byte, _ *item, record []byte) bool {
		var era uint64
		if era, failed = eraOf(key, record); failed != nil {
			return false
		}
		if era < s.clears.era {
			s.sums = append(s.sums, &item{key: string(key)})
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
	default:
		at.phase = sweepsItsNotes
	}
	return nil
}

// dropClears removes the clears that are swept: those of the place and inside of it that were there when it
// was begun.
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
