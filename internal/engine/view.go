package engine

import (
	"slices"
	"sync/atomic"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
	"github.com/tidwall/btree"
)

// The tree lags behind the log: what commits change stays in memory, decoded, until a checkpoint has written it to
// the tree. The present state is a snapshot of the tree with memory laid over it.

// item is one record as memory has it, newer than the tree's. It does not change: a later one takes its place.
type item struct {
	key     string
	address dotted.Address // of a cell; empty for another record
	cell    dotted.Cell    // one without entries is to be deleted
	value   []byte         // of another record; nil if it is to be deleted

	fresh []crdt.Dot // large entries that the tree may not have yet
	dead  []deadBlob // large entries that left the cell, and that the tree may still have
	split bool       // the cell has more than one record, or the tree may have more
	index []*item    // entries of indexes that come or go: they are written with the cell
}

// deadBlob is a large payload that is to be removed.
type deadBlob struct {
	dot    crdt.Dot
	pieces int
}

// itemOverhead is about how many bytes an item takes beside its key and payloads.
const itemOverhead = 200

func (it *item) size() int64 {
	if it == nil {
		return 0
	}
	return int64(itemOverhead + len(it.key) + len(it.address) + len(it.value) +
		weightOf(it.cell) + 24*(len(it.fresh)+len(it.dead)))
}

// gone reports whether the record is to be deleted.
func (it *item) gone() bool {
	if it.address != "" {
		return len(it.cell) == 0
	}
	return it.value == nil
}

// item returns the item of a cell that changed from what is stored.
func (g *Group) item(c *cellState) *item {
	it := &item{
		key: string(c.key), address: c.address, cell: copyCell(c.now, payloadOf(c.now)),
		split: isSplit(c.stored) || isSplit(c.now),
	}
	g.stored(c).index(func(key []byte, live bool) {
		entry := &item{key: string(key)}
		if live {
			entry.value = []byte{}
		}
		it.index = append(it.index, entry)
	})
	difference(c.stored, c.now, func(e dotted.Entry, live bool) {
		switch {
		case len(e.Payload) <= maxInline:
		case live:
			it.fresh = append(it.fresh, e.Dot)
		default:
			it.dead = append(it.dead, deadBlob{e.Dot, piecesOf(len(e.Payload))})
		}
	})
	return it
}

// supersede takes over what the item that was in its place had still to write.
func (it *item) supersede(old *item) {
	for _, d := range old.fresh {
		if it.cell.Has(d) {
			it.fresh = append(it.fresh, d)
		}
	}
	it.dead = append(it.dead, old.dead...)
	it.split = it.split || old.split
	for _, e := range old.index {
		if !slices.ContainsFunc(it.index, func(own *item) bool { return own.key == e.key }) {
			it.index = append(it.index, e)
		}
	}
}

// overlayDegree is that of the tree of items. The first write to a node after a copy copies the node, and those above it:
// small nodes are copied faster, and there are more of them on the way (BenchmarkSet: of 8, 16, 32 the last).
const overlayDegree = 32

// overlay is the items of one moment, in the order of their keys. A copy costs nothing until one of the two changes.
type overlay = btree.Map[string, *item]

// table is what memory has beside the tree.
type table struct {
	base  *base
	dirty *overlay
	bytes int64 // of the items
}

func newTable(tree Tree) *table {
	return &table{base: newBase(tree.Snapshot()), dirty: btree.NewMap[string, *item](overlayDegree)}
}

// put takes an item in.
func (t *table) put(it *item) {
	old, _ := t.dirty.Set(it.key, it)
	if old != nil {
		it.supersede(old)
	}
	t.bytes += it.size() - old.size()
	for _, e := range it.index {
		if now, _ := t.dirty.Get(e.key); now != e {
			t.put(e)
		}
	}
}

// written takes out the items that the tree has now, but for those that have changed meanwhile, and goes on from a
// snapshot of it that has them.
func (t *table) written(items []*item, snap store.Snapshot) {
	old := t.base
	t.base = newBase(snap)
	old.release()
	for _, it := range items {
		if now, _ := t.dirty.Get(it.key); now == it {
			t.dirty.Delete(it.key)
			t.bytes -= it.size()
		}
	}
}

// base is a snapshot of the tree that the table and any number of views share.
type base struct {
	snap store.Snapshot
	refs atomic.Int64
}

func newBase(snap store.Snapshot) *base {
	b := &base{snap: snap}
	b.refs.Store(1)
	return b
}

// acquire reports whether the snapshot is open, and then keeps it so until release.
func (b *base) acquire() bool {
	for {
		n := b.refs.Load()
		if n == 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (b *base) release() {
	if b.refs.Add(-1) == 0 {
		b.snap.Close()
	}
}

// moment is everything that a view sees. It does not change.
type moment struct {
	base    *base
	dirty   *overlay
	clears  *clears
	keys    int
	tallies int // cells that count in a dotted.Summary's Tallies
	log     extent
	turns   uint64
}

// moment returns the present one, of whose base it holds a part.
func (r *Replica) moment() *moment {
	r.table.base.acquire()
	return &moment{
		base: r.table.base, dirty: r.table.dirty.Copy(), clears: r.clears, keys: r.keys, tallies: r.tallies,
		log: r.log.extent(r.logs), turns: r.turns,
	}
}

// publish lets views see the present moment: not while a repair is taken over.
func (r *Replica) publish() {
	r.unpublished = false
	if r.flip != nil || r.quiet || r.opening.under {
		return
	}
	if old := r.published.Swap(r.moment()); old != nil {
		old.base.release()
	}
}

// publishWritten does so once all that waits is written.
func (r *Replica) publishWritten() {
	r.unpublished = true
}

// View returns a view of what is committed. It must be closed. It may be called by any goroutine, and costs nothing
// that grows with what is stored.
func (r *Replica) View() *View {
	for {
		m := r.published.Load()
		if m.base.acquire() {
			return &View{moment: m}
		}
		if r.published.Load() == m { // the replica is closed
			return &View{moment: m, closed: true}
		}
	}
}

// Turns returns how many repairs had been taken over since the replica was opened, which the log's deltas do not tell.
func (v *View) Turns() uint64 { return v.turns }

// Turns returns how many there are now.
func (r *Replica) Turns() uint64 { return r.turns }

// present returns a view of all that happened, also of what is not visible to others yet.
func (r *Replica) present() *View {
	if r.flip == nil && !r.quiet && !r.opening.under && !r.unpublished {
		return r.View()
	}
	return &View{moment: r.moment()}
}

// Close releases what the replica holds of its store. No view is opened afterwards.
func (r *Replica) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.table.base.release()
	if m := r.published.Load(); m != nil {
		m.base.release()
	}
}

func isSplit(c dotted.Cell) bool {
	return weightOf(c) > maxPart && len(splitCell(c)) > 1
}

// View reads the state of one moment. It implements dotted.Tx for transactions that only read. Its methods may be
// called by many goroutines at once.
type View struct {
	*moment
	closed bool
}

func hasPrefix(a, prefix dotted.Address) bool {
	return len(a) >= len(prefix) && a[:len(prefix)] == prefix
}

// Close ends the view. A second Close does nothing.
func (v *View) Close() {
	if !v.closed {
		v.closed = true
		v.base.release()
	}
}

// Cell returns the live entries of one cell.
func (v *View) Cell(a dotted.Address) (dotted.Cell, error) {
	stored, err := v.stored(a, place(prefixCell, a))
	return v.clears.hide(a, stored), err
}

// stored returns a cell with what pending clears hide.
func (v *View) stored(a dotted.Address, key []byte) (dotted.Cell, error) {
	if it, ok := v.dirty.Get(string(key)); ok {
		return it.cell, nil
	}
	record, ok, err := v.base.snap.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	_, c, err := decodeCell(v.base.snap, key, record)
	return c, err
}

// record returns the record at a key that is not a cell's.
func (v *View) record(key []byte) (record []byte, ok bool, err error) {
	if it, ok := v.dirty.Get(string(key)); ok {
		return it.value, it.value != nil, nil
	}
	return v.base.snap.Get(key)
}

// records calls fn with what is at the keys in [start, end), in their order, until it returns false: an item of
// memory, or else what the tree has. key and value are valid only during the call.
func (v *View) records(start, end []byte, fn func(key []byte, it *item, value []byte) bool) error {
	own := v.dirty.Iter()
	more := own.Seek(string(start))
	within := func() bool { return more && (end == nil || own.Key() < string(end)) }
	stopped := false
	emit := func() bool {
		it := own.Value()
		more = own.Next()
		stopped = !it.gone() && !fn([]byte(it.key), it, it.value)
		return !stopped
	}
	err := v.base.snap.Scan(start, end, func(key, value []byte) bool {
		for within() && own.Key() < string(key) {
			if !emit() {
				return false
			}
		}
		if within() && own.Key() == string(key) {
			return emit()
		}
		stopped = !fn(key, nil, value)
		return !stopped
	})
	for err == nil && !stopped && within() {
		emit()
	}
	return err
}

// Scan calls fn with the cells under prefix beyond after. Names of more than 256 bytes sort by their
// first 128, and then in an order of the store's own.
func (v *View) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored(prefix, after, func(a dotted.Address, c dotted.Cell) bool {
		if c = v.clears.hide(a, c); len(c) == 0 {
			return true
		}
		return fn(a, c)
	})
}

// ScanStored calls fn with all cells, also what pending clears hide of them, until it returns false.
func (v *View) ScanStored(fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored("", "", fn)
}

func (v *View) scanStored(prefix, beyond dotted.Address,
	fn func(dotted.Address, dotted.Cell) bool) error {
	start := place(prefixCell, prefix)
	end := after(start)
	if beyond != "" {
		if from := append(place(prefixCell, beyond), 0); string(from) > string(start) {
			start = from
		}
	}
	var failed error
	err := v.records(start, end, func(key []byte, it *item, value []byte) bool {
		if it != nil {
			return fn(it.address, it.cell)
		}
		// The key and value are the store's: the cell needs copies, since it points into them.
		k, record := append([]byte(nil), key...), append([]byte(nil), value...)
		a, c, err := decodeCell(v.base.snap, k, record)
		if err != nil {
			failed = err
			return false
		}
		return fn(a, c)
	})
	if failed != nil {
		return failed
	}
	return err
}

// Summary tells what is visible under a key. O(log keys).
func (v *View) Summary(key string) (dotted.Summary, error) {
	at := place(prefixSummary, dotted.KeyAddress(key))
	record, ok, err := v.record(at)
	if err != nil || !ok {
		return dotted.Summary{}, err
	}
	_, s, era, err := decodeSummary(at, record)
	if era < v.clears.era {
		s = dotted.Summary{}
	}
	return s, err
}

// Keys calls fn with the keys that exist, begin with prefix and come after the given one, in the order of
// their places, until fn returns false.
func (v *View) Keys(prefix, beyond string, fn func(string, dotted.Summary) bool) error {
	return v.keysStored(prefix, beyond, func(_ []byte, name string, s dotted.Summary) bool {
		return fn(name, s)
	})
}

// keysStored is Keys that also tells where the store has each summary.
func (v *View) keysStored(prefix, beyond string,
	fn func(at []byte, name string, s dotted.Summary) bool) error {
	start := nameStart(prefix)
	end := after(start)
	if beyond != "" {
		// One before all that begins with the prefix bounds nothing.
		if from := append(place(prefixSummary, dotted.KeyAddress(beyond)), 0); string(from) > string(start) {
			start = from
		}
	}
	return v.summaries(start, end, func(at []byte, name string, s dotted.Summary) bool {
		if !s.Exists() || len(name) < len(prefix) || name[:len(prefix)] != prefix {
			return true
		}
		return fn(at, name, s)
	})
}

// Tallied calls fn with the keys that hold counters, or what is left of such. O(keys), unless there is none.
func (v *View) Tallied(fn func(key string) bool) error {
	if v.tallies == 0 {
		return nil
	}
	kind := []byte{prefixSummary}
	return v.summaries(kind, after(kind), func(_ []byte, name string, s dotted.Summary) bool {
		return s.Tallies == 0 || fn(name)
	})
}

// summaries calls fn with the keys between two places that are written in this era, until fn returns false.
func (v *View) summaries(start, end []byte, fn func(at []byte, name string, s dotted.Summary) bool) error {
	return v.allSummaries(start, end, func(at []byte, name string, s dotted.Summary, era uint64) bool {
		return era < v.clears.era || fn(at, name, s)
	})
}

// allSummaries is summaries of all eras.
func (v *View) allSummaries(start, end []byte,
	fn func(at []byte, name string, s dotted.Summary, era uint64) bool) error {
	var failed error
	err := v.records(start, end, func(key []byte, _ *item, value []byte) bool {
		at := append([]byte(nil), key...)
		name, s, era, err := decodeSummary(at, value)
		if err != nil {
			failed = err
			return false
		}
		return fn(at, name, s, era)
	})
	if failed != nil {
		return failed
	}
	return err
}

// KeyCount returns the number of keys that exist. O(1).
func (v *View) KeyCount() (int, error) { return v.keys, nil }

// Log calls fn with the records of the moment's log from number on, each with its deltas in the order
// in which they were applied here, until fn returns false. It stops where a record is missing: fn is
// not called at all if that is the first one.
func (v *View) Log(number uint64, fn func(number uint64, deltas []*delta.Delta) bool) error {
	return v.log.read(number, func(rec logged) bool {
		if rec.lsn != number {
			return false
		}
		number++
		return fn(rec.lsn, rec.deltas)
	})
}

// nameStart returns where the summaries of keys begin that begin with prefix: before those of long keys,
// of which the place keeps only the beginning.
func nameStart(prefix string) []byte {
	escaped := dotted.KeyAddress(prefix[:min(len(prefix), placeKeeps)])
	return append([]byte{prefixSummary}, escaped[:len(escaped)-2]...)
}

// placeKeeps is how many bytes of a name its place has at least.
const placeKeeps = 128

// Put refuses: a view only reads.
func (v *View) Put(dotted.Address, []byte, []crdt.Dot) (crdt.Dot, error) {
	return crdt.Dot{}, crdt.ErrReadOnly
}

// Remove refuses: a view only reads.
func (v *View) Remove(dotted.Address, []crdt.Dot) error { return crdt.ErrReadOnly }

// Clear refuses: a view only reads.
func (v *View) Clear(dotted.Address) error { return crdt.ErrReadOnly }

// Replica returns zero: a view issues no dots.
func (v *View) Replica() crdt.ReplicaID { return 0 }

// Ended returns false: who only reads need not know.
func (v *View) Ended(crdt.ReplicaID) bool { return false }

// Time returns zero: a view has no timestamp.
func (v *View) Time() dotted.Time { return 0 }

// Limits of the cache.
const (
	generations  = 2
	cachePayload = 4 << 10 // bytes of address and payload; larger cells are not kept
	cacheEntry   = 150     // bytes of an entry beside those
)

// cache keeps the cells and summaries that groups touched last, as the store has them, so that a hot cell
// is not read from the store for every group. It has two generations: when the young one is full it
// becomes the old one, and what is found there is young again.
type cache struct {
	limit      int // in bytes, about
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

func newCache(limit int64) *cache {
	return &cache{limit: int(limit), young: newGeneration(), old: newGeneration()}
}

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
	if c.young.bytes += size + cacheEntry; c.young.bytes >= c.limit/generations {
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
