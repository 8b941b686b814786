package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// A clear leaves what its maker had not seen, and its commit counts that anew. As a rule the log
// tells what it is. Where it does not, since it was cut, a repair left a hole in it or there is too
// much of it, all cells under the clear's prefix have to be looked at, however many they are. If
// they are many, that is a task: the delta waits meanwhile, as does all else that writes, and is
// applied with what was found, and what the log has got since.

// lookShare is the part of a step's budget for which a group looks for cells before that is a task.
const lookShare = 8

// found is what was found for a delta.
type found struct {
	replica crdt.ReplicaID
	first   uint64
	lsn     uint64 // of the first record that has come since
	turns   uint64 // repairs that were taken over by then: what one brings is in no record
	cells   []foundCell
}

// foundCell is a cell, and which of its entries the clear had not seen.
type foundCell struct {
	address dotted.Address
	dots    []crdt.Dot
}

// looking is what a group knows of that.
type looking struct {
	may   bool // its deltas can wait
	waits bool // one does, and nothing more goes in
	asked *delta.Delta
	found *unseen // for that
}

// looksFirst reports whether the cells under a delta's clears have to be looked at before it can be
// applied. Then that has begun.
func (g *group) looksFirst(d *delta.Delta, exact bool) (waits bool, err error) {
	if !g.looking.may || exact || g.r.fills() || g.r.isFound(d) {
		return false, nil
	}
	var prefixes []dotted.Address
	var set delta.ClearSet
	for i := range d.Ops {
		op := &d.Ops[i]
		if _, rest, _ := op.Address.CutName(); op.Kind != delta.OpClear || len(rest) > 1 {
			continue // a part of a key: there is a limit to that
		}
		if len(prefixes) == 0 { // what the others had seen beside is of the delta itself
			set = g.cleared(d, i)
			if u, err := g.putUnseen(d, set); err != nil || u.known {
				return false, err
			}
		}
		prefixes = append(prefixes, op.Address)
	}
	if few, err := g.few(prefixes); few || err != nil {
		return false, err
	}
	g.looking.waits = true
	g.r.then(g.r.lookUnder(d, prefixes, set))
	return true, nil
}

// few reports whether there is so little under prefixes that the group can look at it itself.
func (g *group) few(prefixes []dotted.Address) (few bool, err error) {
	r, began := g.r, g.r.work
	few = true
	for i := 0; i < len(prefixes) && few && err == nil; i++ {
		r.spend(workMiss)
		few = r.work-began < r.cfg.StepWork/lookShare
		err = g.view.scanStored(prefixes[i], "", func(_ dotted.Address, c dotted.Cell) bool {
			r.spend(workCell + workOf(payloadOf(c)))
			few = r.work-began < r.cfg.StepWork/lookShare
			return few
		})
	}
	return few, err
}

// lookUnder returns a task: the cells under the prefixes of a delta's clears are looked at.
func (r *replica) lookUnder(d *delta.Delta, prefixes []dotted.Address, set delta.ClearSet) task {
	var f *found
	var last dotted.Address
	return func() (done bool, err error) {
		if f == nil { // what was in the group before is written by now
			f = &found{replica: d.Replica, first: d.First, lsn: r.log.Last + 1, turns: r.turns}
		}
		began := r.work
		v := r.present()
		defer v.Close()
		for len(prefixes) > 0 && !r.spentSince(began) {
			full, seek := false, r.work
			r.spend(workMiss)
			r.transacted(seek)
			err := v.scanStored(prefixes[0], last, func(a dotted.Address, c dotted.Cell) bool {
				work := r.work
				r.spend(workCell + workOf(payloadOf(c)))
				r.transacted(work)
				f.add(a, v.clears.hide(a, c), set)
				last, full = a, r.spentSince(began)
				return !full
			})
			if err != nil || full {
				return false, err
			}
			prefixes, last = prefixes[1:], ""
		}
		if len(prefixes) > 0 {
			return false, nil
		}
		r.found = f
		return true, nil
	}
}

// add takes note of what a set has not seen of a cell.
func (f *found) add(a dotted.Address, c dotted.Cell, set delta.ClearSet) {
	if left := c.Outside(set); len(left) > 0 {
		f.cells = append(f.cells, foundCell{a, left.Dots()})
	}
}

// isFound reports whether what was found last is for a delta, and the log has all that came since.
func (r *replica) isFound(d *delta.Delta) bool {
	f := r.found
	return f != nil && f.replica == d.Replica && f.first == d.First && f.turns == r.turns &&
		f.lsn >= r.log.First &&
		r.log.Last+1-f.lsn <= maxConcurrent
}

// foundFor returns what was found for a delta, and what came since; nil if nothing was.
func (g *group) foundFor(d *delta.Delta, set delta.ClearSet) (*unseen, error) {
	l := &g.looking
	if l.asked != d {
		l.asked, l.found = d, nil
		if !g.r.isFound(d) {
			return nil, nil
		}
		f := g.r.found
		u := &unseen{known: true}
		for _, c := range f.cells {
			u.puts.Set(c.address, c.dots)
		}
		err := g.r.readLog(f.lsn, func(rec logged) bool {
			for _, d := range rec.deltas {
				u.add(d, set)
			}
			return true
		})
		if err != nil || g.r.log.First > f.lsn { // a record of those is broken
			return nil, err
		}
		l.found, g.r.found = u, nil
	}
	if l.found != nil {
		l.found.addGroup(g, set)
	}
	return l.found, nil
}
