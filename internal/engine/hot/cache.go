package hot

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// Limits of what is kept of the tree.
const (
	keptShare   = 256     // of the room may be one record's; larger ones are not kept
	maxPacked   = 4 << 10 // bytes; larger ones are not packed
	keptBytes   = 64      // that one takes beside its own
	packedBytes = 34      // that one takes which is packed: its place, and two lengths
	liveShare   = 8       // of the room is for records that are not packed
	pageBytes   = 1 << 16 // at most, so that two bytes say where in a page
)

// cache keeps records that the tree has. Those that were found or read last are kept as they are. What
// is not found again for some time is packed: then it takes a fourth of the memory, and has no pointer
// that the collector would have to follow. Both are in two generations: when the young one is full
// it becomes the old one; what is found there is young again; and what is left of it goes, from those
// that are as they are to the packed ones, but for those that are vacant or large. It goes bit by bit as the
// young one fills: nobody waits for a whole generation.
type cache struct {
	limit  int // bytes
	unpack func(key, packed []byte) Record

	seed       maphash.Seed
	decoded    index[*Version] // those that are kept as they are, and all that is in a layer
	home       *slot           // the place of all of these: another one once all were forgotten
	young, old generation
	forgotten  []place   // that the index may still have
	packed     [2]*pages // the young ones and the old ones
	scratch    []byte
}

// generation is places of records, as they came.
type generation struct {
	order  []place
	first  uint32 // the number of the first of them
	bytes  int
	passed int // of the order: they were packed, or forgotten
	left   int // bytes of those
}

// place is where a record is in its generation.
type place struct {
	v     *Version // nil: it left
	bytes int
}

func newCache(limit int, unpack func(key, packed []byte) Record) cache {
	return cache{
		limit: limit, unpack: unpack, seed: maphash.MakeSeed(), home: &slot{layer: &layer{}},
		packed: [2]*pages{{}, {}},
	}
}

func (c *cache) hash(key string) uint64 { return maphash.String(c.seed, key) }

// find returns the newest version of a record, if memory has it as it is; else nil.
func (c *cache) find(hash uint64, key string) *Version {
	return c.decoded.find(hash, func(v *Version) bool { return v.of.Key() == key })
}

// clear forgets what is kept as it is.
func (c *cache) clear() {
	c.forgotten = slices.Concat(c.forgotten, c.old.order, c.young.order)
	c.home, c.young, c.old = &slot{layer: &layer{}}, generation{}, generation{}
}

// setLimit bounds what is kept. What is beyond a lower limit counts no more at once, as no record may come that would push it
// out: by whole generations, so that nobody waits for a look at each record, and packed ones first.
func (c *cache) setLimit(limit int) {
	was := c.limit
	if c.limit = limit; limit >= was {
		return
	}
	for i := len(c.packed) - 1; i >= 0 && c.held() > limit; i-- {
		c.packed[i] = &pages{}
	}
	if c.held() > limit {
		c.clear()
	}
}

// held returns about how many bytes of memory are taken.
func (c *cache) held() int {
	bytes := c.young.bytes + c.old.bytes - c.old.left
	for _, p := range c.packed {
		bytes += p.held + packedBytes*p.at.len
	}
	return bytes
}

// touch takes note that a record was found.
func (c *cache) touch(v *Version) {
	if v.in == c.home && c.generationOf(v) == &c.old {
		c.old.leave(v)
		c.enter(v)
	}
}

// unpacked returns a record that is packed, which no longer is; nil if none is.
func (c *cache) unpacked(hash uint64, key []byte) Record {
	for _, p := range c.packed {
		at := find(p, hash, key)
		if at == 0 {
			continue
		}
		_, body := p.record(at)
		r := c.unpack(key, body)
		v := r.version()
		v.of, v.stored, v.hash = r, true, hash
		p.at.remove(hash, at)
		c.add(v)
		return r
	}
	return nil
}

// add keeps a record as it is, which is not decoded so far.
func (c *cache) add(v *Version) {
	if !c.fits(v.of) {
		return
	}
	c.decoded.put(v.hash, v, nil)
	c.enter(v)
}

// fits reports whether a record may be kept as it is.
func (c *cache) fits(r Record) bool {
	return c.limit > 0 && r.Size() <= max(maxPacked, c.limit/keptShare)
}

// enter makes a record the youngest of those that are kept as they are.
func (c *cache) enter(v *Version) {
	y := &c.young
	v.in = c.home
	v.nth = y.first + uint32(len(y.order))
	y.order = append(y.order, place{v, v.of.Size() + keptBytes})
	y.bytes += y.order[len(y.order)-1].bytes
	full := c.limit / liveShare / 2
	c.age(y.bytes, full)
	if y.bytes >= full {
		c.old, c.young = c.young, generation{order: c.old.order[:0], first: v.nth + 1}
	}
}

// generationOf returns the generation of a record that is kept as it is.
func (c *cache) generationOf(v *Version) *generation {
	if v.nth-c.young.first < uint32(len(c.young.order)) {
		return &c.young
	}
	return &c.old
}

// leave takes a record out. Its place stays, and counts.
func (g *generation) leave(v *Version) {
	p := &g.order[v.nth-g.first]
	g.bytes -= p.bytes - keptBytes
	*p = place{bytes: keptBytes}
}

// age has as much of the old generation go as the young one has come: all of it once that is full.
func (c *cache) age(came, full int) {
	o := &c.old
	for o.passed < len(o.order) && (came >= full || float64(o.left)*float64(full) < float64(o.bytes)*float64(came)) {
		p := o.order[o.passed]
		o.order[o.passed] = place{}
		o.passed, o.left = o.passed+1, o.left+p.bytes
		if p.v == nil {
			continue
		}
		if c.pack(p.v.of); !p.v.leaves {
			c.decoded.remove(p.v.hash, p.v)
		}
	}
}

// drop keeps a record no longer, and returns whether it was kept. It is told the newest version that is
// not packed, nil if there is none: while the tree does not have that, none is kept.
func (c *cache) drop(hash uint64, key string, last *Version) (was bool) {
	switch {
	case last != nil && last.in == c.home:
		c.generationOf(last).leave(last)
		return true
	case last != nil && !last.stored:
		return false
	}
	for _, p := range c.packed {
		if at := find(p, hash, key); at != 0 {
			p.at.remove(hash, at)
			was = true
		}
	}
	return was
}

// stored keeps a record that the tree has now, and that is decoded.
func (c *cache) stored(r Record) {
	if r.Size() <= maxPacked || r.Vacant() {
		c.pack(r)
	} else if c.fits(r) {
		c.enter(r.version())
	}
}

// pack keeps a record packed. That nothing is there anybody can find out again: of what comes and goes under
// names of its own, as in a queue, all that ever was would be kept.
func (c *cache) pack(r Record) {
	v := r.version()
	v.in = nil
	if r.Size() > maxPacked || c.limit <= 0 || r.Vacant() {
		return
	}
	young, key := c.packed[0], r.Key()
	c.scratch = r.Pack(append(append(c.scratch[:0], make([]byte, lengths)...), key...))
	if len(c.scratch) > 2*maxPacked { // Size does not count all, such as an address that is longer than its key
		return
	}
	binary.LittleEndian.PutUint16(c.scratch, uint16(len(key)))
	binary.LittleEndian.PutUint16(c.scratch[2:], uint16(len(c.scratch)-lengths-len(key)))
	young.add(v.hash, key, c.scratch, min(pageBytes, c.limit/16))
	if young.bytes >= c.limit/2*(liveShare-1)/liveShare {
		c.packed[0], c.packed[1] = c.packed[1], young
		c.packed[0].reset(c.limit / 2)
	}
}

// pages are packed records, one behind the other: two lengths, and the record's key and what Pack
// appended.
type pages struct {
	at    index[location]
	pages [][]byte
	last  int // the page that is written to
	bytes int // of the records
	held  int // bytes of the pages
}

// location is where a record is: a page, from one on, and where in it.
type location uint64

// lengths is how many bytes those take.
const lengths = 4

// reset forgets all, and holds memory for no more than a limit.
func (p *pages) reset(limit int) {
	if p.held > limit {
		*p = pages{}
	}
	p.at = index[location]{}
	for i, page := range p.pages {
		p.pages[i] = page[:0]
	}
	p.last, p.bytes = 0, 0
}

func (p *pages) add(hash uint64, key string, record []byte, size int) {
	for p.last < len(p.pages) && cap(p.pages[p.last])-len(p.pages[p.last]) < len(record) {
		p.last++
	}
	if p.last == len(p.pages) {
		size = max(size, len(record))
		p.pages = append(p.pages, make([]byte, 0, size))
		p.held += size
	}
	page := &p.pages[p.last]
	at := location(p.last+1)<<16 | location(len(*page))
	*page = append(*page, record...)
	p.at.put(hash, at, find(p, hash, key))
	p.bytes += len(record) + packedBytes
}

// record returns a record's key, and what is packed of it beside that, which are valid until the
// next change.
func (p *pages) record(at location) (key, body []byte) {
	b := p.pages[at>>16-1][at&0xffff:]
	middle := lengths + int(binary.LittleEndian.Uint16(b))
	return b[lengths:middle], b[middle : middle+int(binary.LittleEndian.Uint16(b[2:]))]
}

// find returns where a record is; zero if it is not here.
func find[K string | []byte](p *pages, hash uint64, key K) location {
	return p.at.find(hash, func(at location) bool {
		is, _ := p.record(at)
		return string(is) == string(key)
	})
}
