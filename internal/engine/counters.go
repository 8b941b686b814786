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

// isSole returns who counted on the string, if that is to stand in the summary of its key, and
// else zero.
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

// countSole returns the state of the sums over a string on which one replica counted. See add for
// note.
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

// derivedCount appends the new record of what was counted on a string, if there was or is to be
// one, and has the summary of the key say who alone counted there.
func (g *group) derivedCount(n *countState, items []*item) []*item {
	if sole := n.isSole(); sole != n.sole {
		s := g.sums[n.at.Key()] // which changed with the string
		s.now.Sole, s.dirty = sole, true
	}
	it := recordItem("", body{value: n.encode(g.clears.newest), sums: &sums{asOf: g.clears.newest}})
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

// Count tells what was counted on the string at a.
func (tx *Tx) Count(a dotted.Address) (dotted.Count, error) {
	if none, err := tx.g.noneCounted(a); none || err != nil {
		return dotted.Count{}, tx.failed(err)
	}
	n, err := tx.g.count(a, tx.note)
	if err != nil {
		return dotted.Count{}, tx.fail(err)
	}
	return n.told().Count, nil
}

// An increment looks at two records or three: the sums over its key, what was counted on the string
// unless one share is all of that, and this replica's share. Who has found the first finds the
// others by it, for as long as they are what memory has newest: without a look-up of each, whose
// places all have to be fetched. What is found so is held though memory may have let it go, as long
// as it has the sums decoded: a record or two for each of those.

// near is where memory has what is counted on the key's own string.
type near struct {
	count *item          // the record of what was counted; nil if that is not known
	share *item          // a share, as a rule this replica's
	owner crdt.ReplicaID // of the share, if it was found as the sole one
}

// nearBy returns what is near the sums that were looked at last, if a is their key's own string;
// nil if it is not.
func (g *group) nearBy(a dotted.Address) *near {
	s, last := g.summed, len(a)-1
	if s == nil || s.sums == nil || len(s.key) != len(a) || s.key[1:] != string(a[:last]) ||
		dotted.Type(a[last]) != dotted.StringType() {
		return nil
	}
	return &s.sums.near
}

// counted takes note of what was counted now.
func (n *near) counted(it *item) {
	if n != nil {
		it.sums.after, n.count = n.count, it
	}
}

// nearShare returns what is near the string that was looked at last, if a cell is below it.
func (g *group) nearShare(a dotted.Address) *near {
	if n := g.counting; n != nil && n.near != nil && len(a) > len(n.at) && hasPrefix(a, n.at) {
		return n.near
	}
	return nil
}

// shared takes note of a share as it is now.
func (n *near) shared(it *item, owner crdt.ReplicaID) {
	if n != nil {
		n.share, n.owner = it, owner
	}
}

// nearItem returns an item if it is what memory has newest, and else nil.
func (g *group) nearItem(it *item) *item {
	if it == nil || !g.r.table.Current(it) {
		return nil
	}
	return it
}

// countAt returns where the record of what was counted on a string stands, and what it says.
func (g *group) countAt(a dotted.Address, near *near) (at string, stored *sums, err error) {
	if near != nil {
		if it := g.nearItem(near.count); it != nil {
			return it.key, it.sums, nil
		}
	}
	g.at = appendPlace(g.at[:0], prefixCount, a)
	return g.sumsAt(g.at, func(n *sums, record []byte) (err error) {
		n.count, err = countIn(a, g.at, record, g.view.clears)
		return err
	})
}

// heldAt returns the state of a cell that memory has at a place, and the group has not looked
// at; nil if there is none.
func (g *group) heldAt(at []byte) *cellState {
	if it := g.r.table.find(at); it != nil {
		return g.holdItem(it.address(), it)
	}
	return nil
}

// holdItem takes a cell as memory has it into the group. Its address is the caller's, who has it
// at hand.
func (g *group) holdItem(a dotted.Address, it *item) *cellState {
	c := g.memory.states.next()
	c.address, c.key, c.was, c.stored = a, it.key, it, it.cell
	g.hold(c)
	g.r.spend(workOf(len(c.address) + weightOf(c.stored)))
	return c
}

// forgetCounts makes it that nothing was written to, nor counted on, any string under prefix, of
// those that the group has.
func (g *group) forgetCounts(prefix dotted.Address, note func(undo)) {
	g.countsUnder(prefix, func(n *countState) {
		g.walked++
		if !hasPrefix(n.at, prefix) || g.counted[n.at] != n {
			return
		}
		if note != nil {
			note(undo{count: n, counted: g.countBefore(n)})
		}
		n.now, n.sole, n.written, n.looked, n.dirty = counts{}, 0, false, true, true
	})
}

// countsUnder calls fn with the sums over strings that the group has of a prefix's key, or with
// all. It orders them by keys once: a transaction may clear one key after the other.
func (g *group) countsUnder(prefix dotted.Address, fn func(*countState)) {
	if prefix == "" {
		g.memory.counts.each(fn)
		return
	}
	if g.countsOf == nil {
		g.countsOf = map[string][]*countState{}
		g.memory.counts.each(g.noteKey)
	}
	for _, n := range g.countsOf[prefix.Key()] {
		fn(n)
	}
}

func (g *group) noteKey(n *countState) {
	if g.countsOf != nil {
		key := n.at.Key()
		g.countsOf[key] = append(g.countsOf[key], n)
	}
}
