package engine

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A replica that holds nothing is filled: what a source sends is not staged and compared, but written where it
// belongs at once, with all that is computed from it, beside the engine. Until all has come a mark says that what is
// there is nobody's: readers have the empty tree from before, no checkpoint is written, and opening removes it. One
// batch ends it, with the checkpoint that has the source's context, and without the mark. The log says nothing of it.
//
// That goes well only as long as the replica holds nothing: with its first commit a filling has failed. What was
// written goes, and the next repair compares.

// errNotEmpty ends a filling.
var errNotEmpty = fmt.Errorf("something was written here while it was filled: it is repaired instead: %w", ErrBusy)

// filling is what a repair of an empty replica does instead of staging.
type filling struct {
	ended   atomic.Bool // it must write nothing more: the replica holds something
	count   *recount    // what is computed from the cells that came
	address dotted.Address
	cell    dotted.Cell // that is coming, in parts
	batch   *store.Batch
}

func newFilling(d *derivation) *filling {
	f := &filling{count: newRecount(nil, d), batch: &store.Batch{}}
	f.count.derived = func(key, record []byte) { f.set(key, record) }
	return f
}

// set adds a record.
func (f *filling) set(key, record []byte) { f.batch.Set(key, record) }

// add takes entries of a cell. They come in the order of places, and then of dots.
func (f *filling) add(a dotted.Address, entries []dotted.Entry, write func(*store.Batch) error) error {
	if a != f.address {
		if err := f.closeCell(write); err != nil {
			return err
		}
		f.address, f.cell = a, nil
	}
	f.cell = append(f.cell, entries...)
	return nil
}

// closeCell writes the cell all of which has come.
func (f *filling) closeCell(write func(*store.Batch) error) error {
	if len(f.cell) == 0 {
		return nil
	}
	key := place(prefixCell, f.address)
	for _, e := range f.cell {
		if len(e.Payload) <= maxInline {
			continue
		}
		i := 0
		for piece := range slices.Chunk(e.Payload, maxPiece) {
			at := blobKey(e.Dot, i)
			f.set(at, wire.Seal(formatVersion, at, piece))
			i++
			if err := f.flush(write, stageBytes); err != nil {
				return err
			}
		}
	}
	record, more := encodeCell(key, f.address, f.cell, 1)
	for i, part := range more {
		f.set(partKey(key, 1, i), part)
		if err := f.flush(write, stageBytes); err != nil {
			return err
		}
	}
	f.set(key, record)
	f.count.d.derive(f.address, nil, f.cell).index(func(key []byte, _ bool) { f.set(key, []byte{}) })
	f.count.add(f.address, f.cell)
	f.cell = nil
	return f.flush(write, stageBytes)
}

// flush writes what waits if it is so much.
func (f *filling) flush(write func(*store.Batch) error, most int) error {
	if f.ended.Load() {
		return errNotEmpty
	}
	if f.batch.Len() == 0 || f.batch.Bytes() < most && f.batch.Len() < fillItems {
		return nil
	}
	err := write(f.batch)
	f.batch = &store.Batch{}
	return err
}

// fillItems bounds the records of one batch.
const fillItems = 8 << 10

// close writes the last of it, and the pages of the tree: all has come.
func (f *filling) close(write func(*store.Batch) error) error {
	if err := f.closeCell(write); err != nil {
		return err
	}
	f.count.closeKey()
	for page := range antientropy.Pages {
		if key := pageKey(page); !f.count.tree.EqualPage(page, &antientropy.Tree{}) {
			f.set(key, encodePage(key, 0, f.count.tree))
		}
		if err := f.flush(write, stageBytes); err != nil {
			return err
		}
	}
	return f.flush(write, 0)
}

// mayFill reports whether the replica holds nothing at all.
func (r *replica) mayFill() bool {
	return len(r.seen) == 0 && r.cells == 0 && r.table.Len() == 0 && r.saving == nil
}

// fills reports whether the replica is being filled, or was and the rest is not removed.
func (r *replica) fills() bool { return r.filling != nil }

// beginFilling has the mark written. What is sent to the store later stands behind it.
func (r *replica) beginFilling() *filling {
	r.filling = newFilling(&r.derives)
	mark := &store.Batch{}
	mark.Set(keyFilling, seal(keyFilling, func(w *wire.Writer) { w.Array(0) }))
	r.writeBatch(mark, nil)
	return r.filling
}

// spoilFilling is called when the replica comes to hold something.
func (r *replica) spoilFilling() {
	if r.filling != nil {
		r.filling.ended.Store(true)
	}
}

// removeFilling returns a task: what a filling left is removed, and its mark.
func (r *replica) removeFilling() (parts []task) {
	kinds := []byte{prefixCell, prefixPart, prefixBlob, prefixPage, prefixBase}
	for _, kind := range append(kinds, r.derives.kinds()...) {
		parts = append(parts, r.removeAll([]byte{kind}, []byte{kind + 1}))
	}
	return append(parts, once(func() {
		last := &store.Batch{}
		last.Delete(keyFilling)
		r.writeBatch(last, nil)
		r.filling = nil
	}))
}

// resumeFilling removes at open what a filling left that a crash interrupted.
func (r *replica) resumeFilling() error {
	snap := r.st.Snapshot()
	_, filled, err := snap.Get(keyFilling)
	snap.Close()
	if err != nil || !filled {
		return err
	}
	r.begin(r.removeFilling()...)
	err = r.opening.finish()
	r.table.Rebase(r.st.Snapshot())
	return err
}

// takeFilling returns a task: what was filled in becomes what the replica holds.
func (r *replica) takeFilling(p *repairSession) []task {
	return []task{
		once(func() { r.endFilling(p) }),
		once(func() {
			r.filling, r.ahead, r.quiet = nil, false, false
			r.table.Close() // with what was read in the empty tree
			r.table = newTable(r.st, r.cfg.MaxCache)
			r.turns++
			r.unpublished = true
		}),
	}
}

// endFilling takes the source's context over, with a checkpoint.
func (r *replica) endFilling(p *repairSession) {
	r.repair = nil
	p.local.Close()
	r.collecting.due = true // for baselines that come with it
	r.raiseTo(&flip{seen: p.target, heads: p.heads, tables: p.bases})
	n := r.filling.count
	r.tree, r.cells, r.keys, r.tallies = n.tree, n.cells, n.keys, n.tallies
	r.paged, r.batches, r.forgotten, r.quiet = r.tree.Clone(), 0, 0, true
	bases := &store.Batch{}
	r.table.Seal().From("", func(rec hot.Record) bool { // nothing else is there
		it := rec.(*item)
		if bases.Set([]byte(it.key), it.value); bases.Bytes() >= stageBytes || bases.Len() >= r.perBatch() {
			r.writeBatch(bases, nil)
			bases = &store.Batch{}
		}
		return true
	})
	c := r.checkpoint()
	last := bases
	last.Set(keyCheckpoint, c.encode(r.writeOwn))
	last.Set(keySums, summed{0, r.tree.Root(), r.cells}.encode())
	last.Delete(keyFilling)
	r.saveCost = max(r.saveCost, last.Bytes())
	r.write(Write{SyncLog: true}) // the checkpoint says that it is, even if others wrote what is there
	r.writeBatch(last, nil)
	r.write(Write{SyncTree: true, then: func(*Write) {
		r.saved, r.durable = c.reach, c.reach
		r.checkpoints++
		r.durables = r.checkpoints
	}})
}
