package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Sorted sets are written to in some worlds. Scores are in quarters, of which sums are exact: the oracle adds what was
// added to the latest of what was set. That their last digits are right is tested in package crdt. In some worlds names are
// so long that three elements fill a node of the order, which so splits and goes together again.

// drawScored draws whether there are sorted sets, apart.
func (p *plan) drawScored(rng *rand.Rand) {
	if rng.IntN(3) == 0 {
		p.mix.scored, p.mix.longer = rng, rng.IntN(2)*900
	}
}

// drawScore returns a mutation of a sorted set.
func (m *mix) drawScore() mutation {
	rng := m.scored
	key, elem := m.keys[rng.IntN(len(m.keys))], strconv.Itoa(rng.IntN(4))+strings.Repeat("x", m.longer)
	set := dotted.KeyAddress(key).Type(crdt.TypeSortedSet)
	cell := set.Name(elem)
	switch rng.IntN(10) {
	case 0:
		return mutation{what: fmt.Sprintf("clear sorted set %q", key), clears: set,
			do: func(f crdt.Fields) error { return second(f.SortedSet(key).Clear()) }}
	case 1, 2:
		return mutation{what: fmt.Sprintf("remove %q %q, of scores", key, elem), clears: cell,
			do: func(f crdt.Fields) error { return second(f.SortedSet(key).Remove(elem)) }}
	case 3, 4, 5:
		score := float64(rng.IntN(9)-4) / 4
		return mutation{what: fmt.Sprintf("score %q %q %v", key, elem, score), cell: cell, text: fmt.Sprint(score),
			write: true, clears: cell,
			do: func(f crdt.Fields) error { return second(f.SortedSet(key).Set(elem, score)) }}
	}
	n := int64(rng.IntN(9) - 3)
	return mutation{what: fmt.Sprintf("add to score %q %q %d quarters", key, elem, n), cell: cell, adds: n, count: true,
		do: func(f crdt.Fields) error { return second(f.SortedSet(key).Add(elem, float64(n)/4)) }}
}

// score says how the cell of an element of a sorted set reads, the latest of the effects being the last.
func (c *cell) score(live []*effect) fact {
	set, quarters := 0.0, int64(0)
	for _, e := range live {
		if e.write {
			set, _ = strconv.ParseFloat(e.text, 64)
		}
		quarters += e.adds
	}
	return fact{at: c.at, latest: fmt.Sprint(set + float64(quarters)/4)}
}

// readSortedSet reads a sorted set, by name and in its order.
func readSortedSet(s crdt.SortedSet, at dotted.Address, out *reading) error {
	found := 0
	for elem, score := range s.ByName() {
		out.add(fact{at: at.Name(elem), latest: fmt.Sprint(score)})
		found++
	}
	rank, last := 0, 0.0
	for elem, score := range s.All() {
		if got, ok := s.Score(elem); !ok || got != score || rank > 0 && score < last || s.Before(score, elem) != rank {
			return fmt.Errorf("sorted set %q: %q with %v is at %d behind %v, alone it has %v (%v)",
				at, elem, score, rank, last, got, ok)
		}
		rank, last = rank+1, score
	}
	if n := s.Len(); n != found || n != rank {
		return fmt.Errorf("sorted set %q: length %d, %d elements by name, %d in order", at, n, found, rank)
	}
	return nil
}
