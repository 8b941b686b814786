package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Most counters are a key's own string, on which one replica counts and which has no text. What is
// counted on such a string its one share says, and where that stands the id of whoever counted. The
// summary of the key has that id: dotted.Summary.Sole. There is no record of what was counted then,
// so that an increment writes nothing but the share. Whose share is left of several is told by the
// sum of their owners' ids, which the record has.
//
// That a share is sole follows from the sums over its string, and so from derive: the group that
// changes them writes the summary and the record, and a recount expects both.

// isSole returns who counted on the string, if that is to stand in the summary of its key, and else zero.
func (n *countState) isSole() crdt.ReplicaID {
	if n.now.Shares == 1 && !n.written && isOwnString(n.at) {
		return crdt.ReplicaID(n.now.owners)
	}
	return 0
}

// isOwnString reports whether a string's address has no more names than its key's.
func isOwnString(a dotted.Address) bool {
	_, rest, ok := a.CutName()
	return ok && len(rest) == 1
}

// place returns where the record of what was counted stands.
func (n *countState) place() string {
	if n.key == "" {
		n.key = string(place(prefixCount, n.at))
	}
	return n.key
}

// soleOf returns who alone counted on a string; zero if there is no such.
func (g *group) soleOf(a dotted.Address) (crdt.ReplicaID, error) {
	if !isOwnString(a) {
		return 0, nil
	}
	s, err := g.summary(a.Key())
	if err != nil {
		return 0, err
	}
	return s.now.Sole, nil
}

// countSole returns the state of the sums over a string on which one replica counted. See add for note.
func (g *group) countSole(a dotted.Address, sole crdt.ReplicaID, note func(undo)) (*countState, error) {
	near := g.nearBy(a)
	n := g.keepCount(countState{at: a, near: near, sole: sole, looked: true}, note)
	at := a.Share(sole)
	c := g.cells[at]
	if c == nil && near != nil && near.owner == sole {
		if it := g.nearItem(near.share); it != nil {
			c = g.holdItem(at, it)
		}
	}
	if c == nil {
		var err error
		if c, err = g.load(at); err != nil {
			return nil, err
		}
	}
	c.owner, n.now = sole, soleCount(sole, c.now)
	return n, nil
}

// soleCount returns the sums over a string of which there is one share.
func soleCount(owner crdt.ReplicaID, c dotted.Cell) counts {
	return counts{dotted.Count{Sum: dotted.Lent.Counted(owner, c), Shares: 1}, uint64(owner)}
}

// derivedCount appends the new record of what was counted on a string, if there was or is to be one, and has the summary
// of the key say who alone counted there.
func (g *group) derivedCount(n *countState, items []*item) []*item {
	if sole := n.isSole(); sole != n.sole {
		s := g.sums[n.at.Key()] // which changed with the string
		s.now.Sole, s.dirty = sole, true
	}
	it := &item{value: n.encode(g.clears.newest), sums: &sums{asOf: g.clears.newest}}
	switch {
	case it.value != nil:
		it.sums.count = n.told()
	case !n.stored:
		return items
	}
	it.key = n.place()
	n.near.counted(it)
	return append(items, it)
}

// Count tells what was counted on the string at a. O(log cells).
func (v *View) Count(a dotted.Address) (n dotted.Count, err error) {
	if v.tallies == 0 {
		return n, nil
	}
	key := place(prefixSummary, a.KeyAddress())
	record, ok, err := v.record(key)
	if err != nil || !ok {
		return n, err
	}
	s, err := v.summaryIn(key, record)
	switch {
	case err != nil || s.Tallies == 0:
		return n, err
	case s.Sole != 0 && isOwnString(a):
		c, err := v.Cell(a.Share(s.Sole))
		n = soleCount(s.Sole, c).Count
		n.Unwritten = true
		return n, err
	}
	key = place(prefixCount, a)
	if record, ok, err = v.record(key); err != nil || !ok {
		return n, err
	}
	sums, err := countIn(a, key, record, v.clears)
	return sums.Count, err
}
