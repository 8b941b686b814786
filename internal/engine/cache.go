package engine

import "github.com/peerd/peerd/internal/dotted"

// Limits of the cache.
const (
	cacheBytes   = 24 << 20 // of one generation, about; there are two
	cachePayload = 4 << 10  // bytes of address and payload; larger cells are not kept
	cacheEntry   = 150      // bytes of an entry beside those
)

// cache keeps the cells and summaries that groups touched last, as the store has them, so that a hot cell
// is not read from the store for every group. It has two generations: when the young one is full it
// becomes the old one, and what is found there is young again.
type cache struct {
	young, old generation
}

type generation struct {
	cells  map[dotted.Address]dotted.Cell
	sums   map[string]dotted.Summary
	counts map[dotted.Address]dotted.Count
	bytes  int
}

func newGeneration() generation {
	return generation{
		cells: map[dotted.Address]dotted.Cell{}, sums: map[string]dotted.Summary{},
		counts: map[dotted.Address]dotted.Count{},
	}
}

func newCache() *cache { return &cache{young: newGeneration(), old: newGeneration()} }

func (c *cache) cell(a dotted.Address) (dotted.Cell, bool) {
	if cell, ok := c.young.cells[a]; ok {
		return cell, true
	}
	cell, ok := c.old.cells[a]
	return cell, ok
}

// keep notes what is stored for a cell now. The cell's payloads must pin no larger buffer: see copyCell.
func (c *cache) keep(a dotted.Address, cell dotted.Cell) {
	size := len(a) + payloadOf(cell)
	if size > cachePayload {
		delete(c.young.cells, a)
		delete(c.old.cells, a)
		return
	}
	if old, ok := c.young.cells[a]; ok {
		size -= len(a) + payloadOf(old) + cacheEntry
	}
	c.young.cells[a] = cell
	c.age(size)
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
	size := len(key)
	if _, ok := c.young.sums[key]; ok {
		size = -cacheEntry
	}
	c.young.sums[key] = s
	c.age(size)
}

// count returns what was counted on a string.
func (c *cache) count(a dotted.Address) (dotted.Count, bool) {
	n, ok := c.young.counts[a]
	if !ok {
		n, ok = c.old.counts[a]
	}
	return n, ok
}

// keepCount notes what the store has for that now.
func (c *cache) keepCount(a dotted.Address, n dotted.Count) {
	if len(a) > cachePayload {
		return
	}
	size := len(a)
	if _, ok := c.young.counts[a]; ok {
		size = -cacheEntry
	}
	c.young.counts[a] = n
	c.age(size)
}

// forgetSummaries is for when everything was cleared.
func (c *cache) forgetSummaries() {
	for _, g := range []generation{c.young, c.old} {
		clear(g.sums)
		clear(g.counts)
	}
}

// age counts what an entry takes, beside what the one took that was in its place.
func (c *cache) age(size int) {
	if c.young.bytes += size + cacheEntry; c.young.bytes >= cacheBytes {
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
