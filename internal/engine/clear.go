package engine

import (
	"cmp"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/tidwall/btree"
)

// clear does a delta's i-th operation, a clear: at once for readers, later in the store. exact says that
// nothing under its prefix survives. See Group.add for note.
func (g *Group) clear(d *delta.Delta, i int, exact bool, note func(undo)) error {
	prefix, set := d.Ops[i].Address, g.cleared(d, i)
	survivors, known, err := g.survivors(d, i, exact)
	switch {
	case err != nil:
	case prefix == "":
		survivors, err = g.discountAll(set, survivors, known, note)
	default:
		survivors, err = g.discount(prefix, set, survivors, known, note)
	}
	if err != nil {
		return err
	}
	g.under(prefix, func(c *cellState) bool {
		c.now = c.now.Outside(set)
		return true
	})
	g.pend(d, i)
	return g.countLeft(survivors, note)
}

// discount takes the cells that a clear removes off the sums over their key and its strings. Under a key, or under a
// key's type, only what survives has to be looked at, if that is known: then nothing is left in the sums, and discount
// returns what is to be counted again.
func (g *Group) discount(prefix dotted.Address, set delta.ClearSet, survivors []dotted.Address, known bool,
	note func(undo)) (left []dotted.Address, err error) {
	s, err := g.summary(prefix.Key())
	if err != nil {
		return nil, err
	}
	_, rest, _ := prefix.CutName()
	if whole := rest == "" || len(rest) == 1 && s.now.Tallies == 0; !whole || !known {
		var failed error
		err := g.scan(prefix, "", func(a dotted.Address, c dotted.Cell) bool {
			failed = g.add(g.derive(a, c, c.Outside(set)), note)
			return failed == nil
		})
		return nil, cmp.Or(failed, err)
	}
	if s.now.Tallies > 0 {
		err = g.readCounts(prefix, note)
	}
	g.forgetCounts(prefix, note)
	s.forget(string(rest))
	return survivors, err
}

// discountAll takes everything off all sums: those in the store are of another era then. It returns what survives and
// is to be counted again, which takes a look at every cell if it is not known.
func (g *Group) discountAll(set delta.ClearSet, survivors []dotted.Address, known bool,
	note func(undo)) (left []dotted.Address, err error) {
	if !known {
		err := g.scan("", "", func(a dotted.Address, c dotted.Cell) bool {
			if len(c.Outside(set)) > 0 {
				survivors = append(survivors, a)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	if g.clears == g.r.clears {
		g.clears = g.clears.copy()
	}
	g.clears.era++
	for _, s := range g.sums {
		s.before, s.now, s.dirty = keyCounts{}, dotted.Summary{}, true
	}
	g.forgetCounts("", note)
	return survivors, nil
}

// countLeft counts what a clear left of cells.
func (g *Group) countLeft(survivors []dotted.Address, note func(undo)) error {
	for _, a := range survivors {
		c, err := g.load(a)
		if err != nil {
			return err
		}
		if err := g.add(g.derive(a, nil, c.now), note); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the counts of all shapes that begin with a type; of the whole key, if it is empty.
func (s *summaryState) forget(typ string) {
	s.dirty = true
	if typ == "" {
		s.now = dotted.Summary{}
		return
	}
	for shape := range s.now.Visible {
		if strings.HasPrefix(shape, typ) {
			delete(s.now.Visible, shape)
		}
	}
}

// maxConcurrent is how many log records are searched for what a delta's clears did not see, before all cells
// that they cover are looked at instead.
const maxConcurrent = 4096

// unseen is what was put that the clears of a replica had not seen. It is found once a group: what its
// later clears had seen of it is left out where it is looked up.
type unseen struct {
	known  bool // whether the log reaches back far enough
	deltas int  // how many of the group's are in it
	puts   btree.Map[dotted.Address, []crdt.Dot]
}

func (u *unseen) add(d *delta.Delta, set delta.ClearSet) {
	for i, op := range d.Ops {
		if dot := d.Dot(i); op.Kind == delta.OpPut && !set.Has(dot) {
			dots, _ := u.puts.Get(op.Address)
			u.puts.Set(op.Address, append(dots, dot))
		}
	}
}

// survivors returns the addresses under the prefix of a delta's clear at which entries were put that it did
// not see. known is false if the log cannot tell.
func (g *Group) survivors(d *delta.Delta, i int, exact bool) (found []dotted.Address, known bool, err error) {
	if exact {
		return nil, true, nil
	}
	prefix, set := d.Ops[i].Address, g.cleared(d, i)
	u, err := g.putUnseen(d, set)
	if err != nil || !u.known {
		return nil, false, err
	}
	u.puts.Ascend(prefix, func(a dotted.Address, dots []crdt.Dot) bool {
		if !hasPrefix(a, prefix) {
			return false
		}
		for _, dot := range dots {
			if !set.Has(dot) {
				found = append(found, a)
				break
			}
		}
		return true
	})
	return found, true, nil
}

func (g *Group) putUnseen(d *delta.Delta, set delta.ClearSet) (u *unseen, err error) {
	if u = g.unseen[d.Replica]; u == nil {
		u = &unseen{}
		if u.known, err = g.searchLog(u, set); err != nil {
			return nil, err
		}
		if g.unseen == nil {
			g.unseen = map[crdt.ReplicaID]*unseen{}
		}
		g.unseen[d.Replica] = u
	}
	for ; u.known && u.deltas < len(g.deltas); u.deltas++ {
		u.add(g.deltas[u.deltas], set)
	}
	return u, nil
}

// searchLog finds in the log what set lacks.
func (g *Group) searchLog(u *unseen, set delta.ClearSet) (known bool, err error) {
	r := g.r
	stored := r.seen.Clone() // without what this group has applied so far
	for _, d := range g.deltas {
		stored[d.Replica] = min(stored[d.Replica], d.First-1)
	}
	theirs, _ := r.Expand(g.sawBy.Seen, nil, nil)
	theirs.Raise(set.Replica, set.Below-1)
	lsn, covered := r.log.start(stored, theirs)
	if !covered || r.log.last+1-lsn > maxConcurrent {
		return false, nil
	}
	err = r.readLog(lsn, func(rec logged) bool {
		for _, d := range rec.deltas {
			u.add(d, set)
		}
		return true
	})
	return lsn >= r.log.first, err
}
