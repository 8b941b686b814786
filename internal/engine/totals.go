package engine

import (
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// totals are sums over all keys, of what readers see.
type totals struct {
	keys    int // that exist
	lone    int // of them, that have no record of sums: see isLone
	ending  int // of them, that have an expiry which is not never
	tallies int // cells that count in a dotted.Summary's Tallies
}

// totalsOf returns what a key adds to them.
func totalsOf(s dotted.Summary) totals {
	n := totals{tallies: s.Tallies}
	if s.Exists() {
		n.keys = 1
		n.lone = gain(false, isLone(s))
		n.ending = gain(false, s.Ends())
	}
	return n
}

// add adds by times what a key adds.
func (n *totals) add(one totals, by int) {
	n.keys, n.lone = n.keys+by*one.keys, n.lone+by*one.lone
	n.ending, n.tallies = n.ending+by*one.ending, n.tallies+by*one.tallies
}

// recorded reports whether any key has a record of sums.
func (n totals) recorded() bool { return n.keys > n.lone || n.tallies > 0 }

// totalsFields is how many values write writes.
const totalsFields = 4

func (n totals) write(w *wire.Writer) {
	w.Uint(uint64(n.keys))
	w.Uint(uint64(n.lone))
	w.Uint(uint64(n.ending))
	w.Uint(uint64(n.tallies))
}

func readTotals(r *wire.Reader) totals {
	return totals{keys: int(r.Uint()), lone: int(r.Uint()), ending: int(r.Uint()), tallies: int(r.Uint())}
}

// totals returns those after the group. O(keys written by the group).
func (g *group) totals() (n totals) {
	if !g.emptied() {
		n = g.r.totals
	}
	for _, s := range g.sums {
		n.add(s.before, -1)
		n.add(totalsOf(s.now), 1)
	}
	return n
}
