// Package hot is what memory has of a tree of records: those that are newer than the tree's, and
// those that were touched last.
//
// # Idea
//
// A Table is one goroutine's, its owner's. The owner puts versions of records into it, finds them
// again by one look-up, and takes snapshots, which any goroutine may read while the owner goes
// on. A snapshot costs nothing that grows with what is in memory: records are kept in a layer,
// whose slots have their versions, the newest first, each with the number of the snapshot from
// which on it is seen. Nothing is copied, and nothing taken out: a version is let go when no
// snapshot that is open sees it, and a layer as a whole once the tree has it.
//
// For that a checkpoint seals the layer: from then on versions are put into a new one on top of it.
// What is sealed no longer changes; when all of it is in the tree, the layer is dropped and the
// next snapshots are laid over the tree as it is then.
//
// Records that the tree has are kept as long as there is room (cache.go). A record is either in a
// layer or kept there, as it is or packed, but for what a checkpoint has written while others are
// still to be written: that is in the sealed layer, and may be kept. So where the newest version is
// tells where no other can be.
package hot

import (
	"hash/maphash"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/peerd/peerd/store"
)

// Record is one version of a record. It embeds a Version, and does not change once it was put or
// kept.
type Record interface {
	// Key returns where the tree has it.
	Key() string
	// Size returns about how many bytes of memory it takes.
	Size() int
	// Supersede is called when the record is put, with the one that was in its place and that the
	// tree does not have yet: what that had still to write, beside itself, is to be taken over. If
	// it is sealed, that is written as well.
	Supersede(old Record)
	// Pack appends what it is beside its key, once the tree has it: see NewTable. It is not called of a vacant one.
	Pack(b []byte) []byte
	// Vacant reports whether it says that nothing is there.
	Vacant() bool
	// Due returns the time from which on it is looked for, in whatever unit; MaxInt64 if it never is.
	Due() int64
	version() *Version
}

// Version is a Record's place among the versions of its record.
type Version struct {
	of    Record
	seq   uint64
	older atomic.Pointer[Version]

	// What only the owner looks at.
	hash   uint64 // of the key, by which it is found; set once it is put or kept
	in     *slot  // of a layer, or cache.home, as long as it is certain to be the newest: see Current
	stored bool   // the tree has it
	keep   bool   // when the tree has it, unless another came in its place
	leaves bool   // it is one of Table.leaving, or of Table.left
	timed  bool   // its slot is one of its layer's times
	nth    uint32 // of those that are kept as they are
}

func (v *Version) version() *Version { return v }

// Sealed reports whether a checkpoint writes the version, which the tree does not have yet. Only
// the owner may ask.
func (v *Version) Sealed() bool { return v.in != nil && v.in.layer.sealed }

// slotBytes is what a record's place in a layer takes: the slot, and it in the map and the order.
const slotBytes = 100

// Table is what memory has beside a tree.
type Table struct {
	base   *base
	seq    uint64 // of the next snapshot, that sees what is put before it
	layers layers
	shots  []*shot // that may be open, in order

	// Where a version was put over another since the last snapshot, and since the one before it.
	fresh, aging []*slot

	kept    cache
	leaving []*Version // stored, of the sealed layer: as long as that is there, they are found
	left    []*Version // that are still found, though that layer is gone
}

// layers are the one that is written to, and the sealed one below it, if there is any.
type layers [2]*layer

// NewTable returns a table over a snapshot of a tree, which it takes over. It keeps what it finds
// there in about limit bytes, packed if it was not touched for long, and forgotten then if it is vacant. unpack returns what a record
// was, from its key and what Pack appended; it keeps neither.
func NewTable(tree store.Snapshot, limit int64, unpack func(key, packed []byte) Record) *Table {
	t := &Table{base: newBase(tree), seq: 1, layers: layers{{}}}
	t.kept = newCache(int(limit), unpack)
	return t
}

// SetLimit says how many bytes are kept of what the tree has, from now on. What is beyond a lower
// limit counts no more at once, and Tidy lets it go.
func (t *Table) SetLimit(bytes int64) { t.kept.setLimit(int(bytes)) }

// Find returns the newest version of a record, nil if memory has none. It is a deleted one if that
// is newer than the tree.
func (t *Table) Find(key []byte) Record {
	hash := maphash.Bytes(t.kept.seed, key)
	v := t.kept.decoded.find(hash, func(v *Version) bool { return v.of.Key() == string(key) })
	if v == nil {
		return t.kept.unpacked(hash, key)
	}
	t.kept.touch(v)
	return v.of
}

// Current reports whether a record that was found or put is certain to be the newest version still:
// then there is no need to look for it.
func (t *Table) Current(r Record) bool {
	in := r.version().in
	return in != nil && (in.layer == t.layers[0] || in.layer == t.layers[1] || in == t.kept.home)
}

// Keep keeps a record that the tree has, and Find did not find.
func (t *Table) Keep(r Record) {
	v := r.version()
	if v.hash = t.kept.hash(r.Key()); t.kept.find(v.hash, r.Key()) == nil {
		v.of, v.stored = r, true
		t.kept.add(v)
	}
}

// Forget lets go what is packed of a record that Find found: of one that a checkpoint has written, while the sealed
// layer has it too. So what its owner noted of it since then is not lost with the layer.
func (t *Table) Forget(r Record) {
	if v := r.version(); v.in == nil {
		t.kept.drop(v.hash, r.Key(), v)
	}
}

// Put puts a version in, in place of the last one. It is kept, once the tree has it, if that is
// wanted, or if the last one is. That is looked for, unless it is still the one that is named: who
// has found it spares a search.
func (t *Table) Put(r, last Record, keep bool) {
	v, top, key := r.version(), t.layers[0], r.Key()
	v.of, v.seq, v.keep = r, t.seq, keep
	var was *Version
	if last != nil && t.Current(last) {
		was = last.version()
		v.hash = was.hash
	} else {
		v.hash = t.kept.hash(key)
		was = t.kept.find(v.hash, key)
	}
	t.kept.decoded.put(v.hash, v, was)
	if was != nil && was.in != nil && was.in.layer == top {
		t.replace(v, was, was.in)
		return
	}
	if t.kept.drop(v.hash, key, was) {
		v.keep = true
	}
	t.replace(v, was, top.add(key))
}

// replace puts a version in place of the last one, at its slot of the layer that is written to.
func (t *Table) replace(v, last *Version, in *slot) {
	top := t.layers[0]
	if last != nil {
		v.keep, last.keep = v.keep || last.keep, false
		if !last.stored {
			v.of.Supersede(last.of)
		}
		last.in = nil // and it holds no layer
	}
	top.bytes += int64(v.of.Size())
	v.in = in
	if was := in.last(); was == nil {
		top.len++
	} else {
		top.bytes -= int64(was.of.Size())
		v.timed = was.timed
		if was.seq == v.seq { // no snapshot saw it
			was = was.older.Load()
		}
		if v.older.Store(was); was != nil {
			t.fresh = append(t.fresh, in)
		}
	}
	in.newest.Store(v)
	top.times.note(in, v, v.of.Due())
}

// Snapshot returns a snapshot of the present. Whoever has it releases it in the end; others may
// acquire it until then.
func (t *Table) Snapshot() *Snapshot {
	s := &Snapshot{shot: &shot{seq: t.seq}, base: t.base, layers: t.layers}
	for i, l := range t.layers {
		if l != nil {
			s.times[i] = l.times
		}
	}
	s.base.acquire()
	s.refs.Store(1)
	t.seq++
	t.shots = append(slices.DeleteFunc(t.shots, (*shot).closed), s.shot)
	for _, n := range t.aging { // what came before them was seen by the last snapshots but one
		t.prune(n)
	}
	clear(t.aging)
	t.fresh, t.aging = t.aging[:0], t.fresh
	return s
}

// prune lets go the versions of a record that no snapshot sees.
func (t *Table) prune(n *slot) {
	for v := n.newest.Load(); v != nil; {
		older := v.older.Load()
		for older != nil && !t.sees(older.seq, v.seq) {
			older = older.older.Load()
		}
		v.older.Store(older)
		v = older
	}
}

// sees reports whether a snapshot sees what was put at from, and replaced at until.
func (t *Table) sees(from, until uint64) bool {
	i := sort.Search(len(t.shots), func(i int) bool { return t.shots[i].seq >= from })
	return i < len(t.shots) && t.shots[i].seq < until
}

// Len returns how many records there are that the tree does not have, and that are not sealed.
func (t *Table) Len() int { return t.layers[0].len }

// Bytes returns how many bytes of memory is taken by what the tree does not have, and by the
// places in the layers. What is sealed stays in memory, beside those, until all of it is in the
// tree.
func (t *Table) Bytes() int64 {
	bytes := t.layers[0].size()
	if t.layers[1] != nil {
		bytes += t.layers[1].size()
	}
	return bytes
}

// Seal seals what there is that the tree does not have. Nothing may be sealed.
func (t *Table) Seal() Sealed {
	t.layers = layers{{}, t.layers[0]}
	t.layers[1].sealed = true
	return Sealed{t.layers[1]}
}

// Stored takes note that the tree has a sealed record.
func (t *Table) Stored(r Record) {
	v := r.version()
	if v.stored {
		return
	}
	if v.in != nil { // nothing came in its place
		v.leaves, t.leaving = true, append(t.leaving, v)
	}
	t.tidy(2) // so no more is left of the last checkpoint than this one has
	v.stored, v.in = true, nil
	t.layers[1].bytes -= int64(r.Size())
	if v.keep {
		v.keep = false
		t.kept.stored(r)
	}
}

// Unseal drops what is sealed: the tree has all of it. See Rebase and Tidy.
func (t *Table) Unseal(tree store.Snapshot) {
	t.layers[1] = nil
	t.left, t.leaving = slices.Concat(t.left, t.leaving), nil
	t.Rebase(tree)
}

// Tidy lets go some of what is no longer kept, which is found until then. It reports whether there
// is more.
func (t *Table) Tidy() (more bool) { return t.tidy(tidied) }

func (t *Table) tidy(most int) (more bool) {
	for _, v := range some(&t.left, most) {
		v.leaves = false
		t.letGo(v)
	}
	for _, p := range some(&t.kept.forgotten, most) {
		if p.v != nil && !p.v.leaves {
			t.letGo(p.v)
		}
	}
	return len(t.left)+len(t.kept.forgotten) > 0
}

// some takes some of a list, which is given up once it has none.
func some[T any](all *[]T, most int) []T {
	n := min(len(*all), most)
	out := (*all)[:n]
	if *all = (*all)[n:]; len(*all) == 0 {
		*all = nil
	}
	return out
}

// tidied is how many are let go at once.
const tidied = 512

func (t *Table) letGo(v *Version) {
	if !t.Current(v.of) {
		t.kept.decoded.remove(v.hash, v)
	}
}

// Rebase goes on from a newer snapshot of the tree, which it takes over.
func (t *Table) Rebase(tree store.Snapshot) {
	t.base.release()
	t.base = newBase(tree)
}

// Close releases the tree. Snapshots stay as they are.
func (t *Table) Close() { t.base.release() }

// Sealed is what a checkpoint writes to the tree: the records of one moment.
type Sealed struct{ layer *layer }

// From calls fn with the records from a key on, in their order, until it returns false.
func (s Sealed) From(key string, fn func(Record) bool) {
	w := walk{layer: s.layer}
	var ahead [8]Record // looked up together: misses of the processor's cache overlap
	for n := w.seek(key); n != nil; n = w.next() {
		i := w.i % len(ahead)
		if i == 0 {
			for i, n := range w.taken[w.i:min(w.i+len(ahead), len(w.taken))] {
				ahead[i] = n.last().of
			}
		}
		if !fn(ahead[i]) {
			return
		}
	}
}

// Snapshot is a moment of the tree, with what memory had then laid over it. Any goroutine may read
// it.
type Snapshot struct {
	*shot
	base   *base
	layers layers
	times  [len(layers{})]times
	once   sync.Once
}

// shot is what a table remembers of a snapshot, which holds no layer once it is closed.
type shot struct {
	seq  uint64
	refs atomic.Int64
}

// Once calls fn if it was not called before for this snapshot, and returns when such a call has
// ended.
func (s *Snapshot) Once(fn func()) { s.once.Do(fn) }

// Acquire reports whether the snapshot is open, and then keeps it so until Release.
func (s *Snapshot) Acquire() bool { return acquire(&s.refs) }

// Release lets it go. Nothing of it may be read then.
func (s *Snapshot) Release() {
	if s.refs.Add(-1) == 0 {
		s.base.release()
	}
}

func (s *shot) closed() bool { return s.refs.Load() == 0 }

// Tree returns the tree over which memory is laid.
func (s *Snapshot) Tree() store.Snapshot { return s.base.snap }

// Get returns what memory has at a key; nil if that is nothing.
func (s *Snapshot) Get(key string) Record {
	for _, l := range s.layers {
		if l == nil {
			break
		}
		if r := l.get(key).at(s.seq); r != nil {
			return r
		}
	}
	return nil
}

// Seek returns the records that memory has from a key on, in their order.
func (s *Snapshot) Seek(key string) *Cursor {
	c := &Cursor{seq: s.seq}
	for i, l := range s.layers {
		c.walks[i] = walk{layer: l}
		c.at[i] = c.walks[i].seek(key)
	}
	c.Next()
	return c
}

// All calls fn with what memory has of each record: what was put last, and what is sealed below
// that, in any order.
func (s *Snapshot) All(from, end string, fn func(Record)) {
	for _, l := range s.layers {
		w := walk{layer: l}
		for n := w.seek(from); n != nil && n.key < end; n = w.next() {
			if r := n.at(s.seq); r != nil {
				fn(r)
			}
		}
	}
}

// Timed returns how many records of memory Due looks at: none if it is too early for all.
func (s *Snapshot) Timed(now int64) (n int) {
	for i := range s.times {
		n += len(s.times[i].by(now))
	}
	return n
}

// Due calls fn with the records that memory has whose time has come, in any order, until it returns
// false.
func (s *Snapshot) Due(now int64, fn func(Record) bool) {
	for i := range s.times {
		for _, n := range s.times[i].by(now) {
			r := n.at(s.seq)
			if r == nil || r.Due() > now || i > 0 && s.layers[0].get(n.key).at(s.seq) != nil {
				continue
			}
			if !fn(r) {
				return
			}
		}
	}
}

// Noted returns a number that is kept as long as the tree is that of the snapshot: zero, until
// somebody stores one.
func (s *Snapshot) Noted() *atomic.Int64 { return &s.base.noted }

// Cursor goes through a snapshot's records.
type Cursor struct {
	Record Record // nil at the end
	seq    uint64
	walks  [len(layers{})]walk
	at     [len(layers{})]*slot // nil: there are no more
}

// Next goes on.
func (c *Cursor) Next() {
	step := func(i int) Record {
		r := c.at[i].at(c.seq)
		c.at[i] = c.walks[i].next()
		return r
	}
	for c.Record = nil; c.Record == nil; {
		top, below := c.at[0], c.at[1]
		order := 0
		switch {
		case top == nil && below == nil:
			return
		case below == nil:
			order = -1
		case top == nil:
			order = 1
		default:
			order = strings.Compare(top.key, below.key)
		}
		if order <= 0 {
			c.Record = step(0)
		}
		if order >= 0 {
			if r := step(1); c.Record == nil {
				c.Record = r
			}
		}
	}
}

// walk goes through a layer's slots, of which it takes some at once.
type walk struct {
	layer *layer // nil: none
	taken []*slot
	i     int
}

// takenAtOnce is how many: more each time, up to that.
const takenAtOnce = 256

// seek returns the first slot at a key or beyond; nil if there is none.
func (w *walk) seek(key string) *slot {
	if w.layer == nil {
		return nil
	}
	w.i, w.taken = 0, w.layer.from(key, make([]*slot, 0, 8))
	return w.slot()
}

// next returns the next one.
func (w *walk) next() *slot {
	if w.i++; w.i == len(w.taken) && w.i == cap(w.taken) {
		after := w.taken[w.i-1].key + "\x00"
		w.i, w.taken = 0, w.layer.from(after, make([]*slot, 0, min(4*cap(w.taken), takenAtOnce)))
	}
	return w.slot()
}

func (w *walk) slot() *slot {
	if w.i >= len(w.taken) {
		return nil
	}
	return w.taken[w.i]
}

// base is a snapshot of the tree that the table and any number of its snapshots share.
type base struct {
	snap  store.Snapshot
	refs  atomic.Int64
	noted atomic.Int64
}

func newBase(snap store.Snapshot) *base {
	b := &base{snap: snap}
	b.refs.Store(1)
	return b
}

func (b *base) acquire() { b.refs.Add(1) } // by who has a share

func (b *base) release() {
	if b.refs.Add(-1) == 0 {
		b.snap.Close()
	}
}

// acquire counts one more, unless there is none any more.
func acquire(refs *atomic.Int64) bool {
	for {
		n := refs.Load()
		if n == 0 || refs.CompareAndSwap(n, n+1) {
			return n != 0
		}
	}
}
