package replica

import "github.com/peerd/peerd/internal/dotted"

// Limits of the cache.
const (
	cacheCells   = 1 << 14 // cells of one generation; there are two
	cachePayload = 1 << 10 // bytes of address and payload; larger cells are not kept
)

// cache keeps the cells and summaries that groups touched last, as the store has them, so that a hot cell
// is not read from the store for every group. It has two generations: when the young one is full it
// becomes the old one, and what is found there is young again.
type cache struct {
	young, old generation
}

type generation struct {
	cells map[dotted.Address]dotted.Cell
	sums  map[string]dotted.Summary
}

func newGeneration() generation {
	return generation{cells: map[dotted.Address]dotted.Cell{}, sums: map[string]dotted.Summary{}}
}

func newCache() *cache { return &cache{young: newGeneration(), old: newGeneration()} }

func (c *cache) cell(a dotted.Address) (dotted.Cell, bool) {
	if cell, ok := c.young.cells[a]; ok {
		return cell, true
	}
	cell, ok := c.old.cells[a]
	return cell, ok
}

// keep notes what the store has for a cell now.
func (c *cache) keep(a dotted.Address, cell dotted.Cell) {
	size := payloadOf(cell)
	if len(a)+size > cachePayload {
		delete(c.young.cells, a)
		delete(c.old.cells, a)
		return
	}
	c.young.cells[a] = copyCell(cell, size)
	c.age()
}

// copyCell returns a cell whose payloads pin no larger buffer, as that of a frame they came in.
func copyCell(cell dotted.Cell, size int) dotted.Cell {
	if len(cell) == 0 {
		return nil
	}
	out, buf := make(dotted.Cell, len(cell)), make([]byte, 0, size)
	for i, e := range cell {
		start := len(buf)
		buf = append(buf, e.Payload...)
		out[i] = dotted.Entry{Dot: e.Dot, Payload: buf[start:len(buf):len(buf)]}
	}
	return out
}

// summary returns a copy.
func (c *cache) summary(key string) (dotted.Summary, bool) {
	s, ok := c.young.sums[key]
	if !ok {
		s, ok = c.old.sums[key]
	}
	if !ok {
		return s, false
	}
	return copySummary(s), true
}

// keepSummary notes what the store has for a key's summary now. It takes s over.
func (c *cache) keepSummary(key string, s dotted.Summary) {
	if len(key) > cachePayload {
		return
	}
	c.young.sums[key] = s
	c.age()
}

// forgetSummaries is for when everything was cleared.
func (c *cache) forgetSummaries() {
	clear(c.young.sums)
	clear(c.old.sums)
}

func (c *cache) age() {
	if len(c.young.cells) >= cacheCells || len(c.young.sums) >= cacheCells {
		c.old, c.young = c.young, newGeneration()
	}
}

func copySummary(s dotted.Summary) dotted.Summary {
	out := dotted.Summary{Tallies: s.Tallies}
	if len(s.Visible) > 0 {
		out.Visible = make(map[string]int, len(s.Visible))
		for shape, n := range s.Visible {
			out.Visible[shape] = n
		}
	}
	return out
}
