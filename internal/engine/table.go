package engine

import (
	"slices"
	"sync/atomic"

	"github.com/peerd/peerd/crdt"
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
