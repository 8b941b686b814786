package engine

import "github.com/peerd/peerd/internal/dotted"

// Memory that groups leave to the next ones, at most: for cells, for sums, and for steps back of
// a transaction.
const maxSpare = 1024

// groupMemory is what a group leaves to the next one. Nobody has any of it by then.
type groupMemory struct {
	cells  map[dotted.Address]*cellState
	loaded []*cellState
	sums   map[string]*summaryState
	states chunks[cellState]
	single chunks[[1]dotted.Entry]
	keys   chunks[summaryState]

	counted map[dotted.Address]*countState
	counts  chunks[countState]
	priors  chunks[countState] // what some of them were: see countBefore

	at []byte // for a key
}

func newGroupMemory() *groupMemory {
	return &groupMemory{
		cells: map[dotted.Address]*cellState{}, sums: map[string]*summaryState{},
		counted: map[dotted.Address]*countState{},
	}
}

// reset forgets all that the group had in it. It reports whether that is worth to be kept.
func (m *groupMemory) reset() bool {
	if len(m.loaded) > maxSpare || len(m.sums) > maxSpare || len(m.counted) > maxSpare ||
		m.priors.used*chunkSize > maxSpare {
		return false
	}
	if len(m.loaded) < chunkSize && len(m.sums) < chunkSize { // which is less work than to clear large maps
		for _, c := range m.loaded {
			delete(m.cells, c.address)
		}
		m.keys.each(func(s *summaryState) { delete(m.sums, s.name) })
		m.counts.each(func(n *countState) { delete(m.counted, n.at) })
	}
	clear(m.cells)
	clear(m.sums)
	clear(m.counted)
	clear(m.loaded)
	m.loaded = m.loaded[:0]
	m.states.reset()
	m.single.reset()
	m.keys.reset()
	m.counts.reset()
	m.priors.reset()
	return true
}

// cellOf returns a cell of one entry, which is the group's: its item has a copy.
func (m *groupMemory) cellOf(e dotted.Entry) dotted.Cell {
	one := m.single.next()
	one[0] = e
	return one[:]
}

// countBefore returns a copy of sums over a string that are about to change.
func (g *group) countBefore(n *countState) *countState {
	c := g.memory.priors.next()
	*c = *n
	return c
}

// chunks hands out zero values, which are allocated several at once.
type chunks[T any] struct {
	all  [][]T
	used int // of them, and of the first that is not used up
	of   int
}

// chunkSize is how many are allocated at once, at most.
const chunkSize = 64

func (c *chunks[T]) next() *T {
	if c.used < len(c.all) && c.of == len(c.all[c.used]) {
		c.used, c.of = c.used+1, 0
	}
	if c.used == len(c.all) {
		c.all = append(c.all, make([]T, min(4<<min(c.used, 4), chunkSize)))
	}
	c.of++
	return &c.all[c.used][c.of-1]
}

// each calls fn with all that were handed out.
func (c *chunks[T]) each(fn func(*T)) {
	for i := range min(c.used+1, len(c.all)) {
		all := c.all[i]
		if i == c.used {
			all = all[:c.of]
		}
		for j := range all {
			fn(&all[j])
		}
	}
}

// reset takes all back.
func (c *chunks[T]) reset() {
	c.each(func(v *T) {
		var zero T
		*v = zero
	})
	c.used, c.of = 0, 0
}
