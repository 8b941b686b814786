package replica

import (
	"strings"

	"github.com/peerd/peerd/crdt"
)

// clear removes what set holds from every cell under prefix: at once for readers, later from the store.
// exact says that nothing under prefix survives.
func (g *Group) clear(prefix crdt.Address, set crdt.ClearSet, exact bool) error {
	if err := g.discount(prefix, set, exact); err != nil {
		return err
	}
	for a, c := range g.cells {
		if hasPrefix(a, prefix) {
			c.now = c.now.Outside(set)
		}
	}
	g.clears = append(g.clears, pendingClear{prefix, set})
	return nil
}

// discount takes the cells that a clear removes off their key's summary. Under a key, or under a key's
// type, only what survives has to be looked at: nothing, if the clear saw all, and else what was put
// meanwhile, which the log tells.
func (g *Group) discount(prefix crdt.Address, set crdt.ClearSet, exact bool) error {
	s, err := g.summary(prefix.Key())
	if err != nil {
		return err
	}
	_, rest, _ := prefix.CutName()
	whole := rest == "" || len(rest) == 1 && s.now.Tallies == 0
	if !whole {
		return g.recount(s, prefix, set)
	}
	var survivors []crdt.Address
	if !exact {
		known := false
		if survivors, known, err = g.putOutside(prefix, set); err != nil {
			return err
		}
		if !known {
			return g.recount(s, prefix, set)
		}
	}
	s.forget(string(rest))
	for _, a := range survivors {
		c, err := g.load(a)
		if err != nil {
			return err
		}
		left := c.now.Outside(set)
		s.count(a.Shape(), delta(false, left.Visible()), delta(false, left.Tallies()))
	}
	return nil
}

// forget drops the counts of all shapes that begin with a type; of the whole key, if it is empty.
func (s *summaryState) forget(typ string) {
	s.dirty = true
	if typ == "" {
		s.now = crdt.Summary{}
		return
	}
	for shape := range s.now.Visible {
		if strings.HasPrefix(shape, typ) {
			delete(s.now.Visible, shape)
		}
	}
}

// recount looks at every cell under prefix.
func (g *Group) recount(s *summaryState, prefix crdt.Address, set crdt.ClearSet) error {
	return g.scan(prefix, "", func(a crdt.Address, c crdt.Cell) bool {
		left := c.Outside(set)
		s.count(a.Shape(), delta(c.Visible(), left.Visible()), delta(c.Tallies(), left.Tallies()))
		return true
	})
}

// maxConcurrent is how many log records are searched for what a clear did not see, before all cells that
// it covers are looked at instead.
const maxConcurrent = 4096

// putOutside returns the addresses under prefix at which entries were put that are not in set. known is
// false if the log cannot tell.
func (g *Group) putOutside(prefix crdt.Address, set crdt.ClearSet) (
	found []crdt.Address, known bool, err error) {
	r := g.r
	seen := map[crdt.Address]bool{}
	look := func(d *crdt.Delta) {
		for i, op := range d.Ops {
			inside := op.Kind == crdt.OpPut && hasPrefix(op.Address, prefix)
			if inside && !set.Has(d.Dot(i)) && !seen[op.Address] {
				seen[op.Address] = true
				found = append(found, op.Address)
			}
		}
	}
	stored := r.seen.Clone() // without what this group has applied so far
	for _, d := range g.deltas {
		look(d)
		stored[d.Replica] = min(stored[d.Replica], d.First-1)
	}
	theirs := set.Seen.Clone()
	theirs.Raise(set.Replica, set.Below-1)
	lsn, covered := r.log.start(stored, theirs)
	if !covered || r.log.last+1-lsn > maxConcurrent {
		return nil, false, nil
	}
	err = r.readLog(lsn, func(rec logged) bool {
		for _, d := range rec.deltas {
			look(d)
		}
		return true
	})
	return found, lsn >= r.log.first, err
}
