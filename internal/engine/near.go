package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// An increment looks at two records or three: the sums over its key, what was counted on the string
// unless one share is all of that, and this replica's share. Who has found the first finds the others by it, for as long
// as they are what memory has newest: without a look-up of each, whose places all have to be
// fetched. Only the last maxNear counters that were counted on have that, as what is found so is
// held though memory may have let it go.

// maxNear bounds the keys beside whose sums there is a near.
const maxNear = 1 << 14

// near is where memory has what is counted on the key's own string.
type near struct {
	used  bool           // by one of the last: else nothing is kept here
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
	n := &s.sums.near
	if !n.used {
		n.used = true
		g.r.nears.add(s.sums)
	}
	return n
}

// counted takes note of what was counted now.
func (n *near) counted(it *item) {
	if n != nil && n.used {
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
	if n != nil && n.used {
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
		return g.holdItem(it.address, it)
	}
	return nil
}

// holdItem takes a cell as memory has it into the group. Its address is the caller's, who has it at hand.
func (g *group) holdItem(a dotted.Address, it *item) *cellState {
	c := g.memory.states.next()
	c.address, c.key, c.was, c.stored = a, it.key, it, it.cell
	g.hold(c)
	g.r.spend(workOf(len(c.address) + weightOf(c.stored)))
	return c
}

// nears are the sums that have a near, the oldest of which loses it to the next.
type nears struct {
	of   []*sums
	next int
}

func (n *nears) add(s *sums) {
	if len(n.of) < maxNear {
		n.of = append(n.of, s)
		return
	}
	n.of[n.next].near = near{}
	n.of[n.next] = s
	n.next = (n.next + 1) % maxNear
}
