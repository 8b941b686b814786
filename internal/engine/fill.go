package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A replica that holds nothing is filled: what a source sends is not staged and compared, but
// written where it belongs at once, with all that is computed from it, beside the engine. Until
// all has come a mark says that what is there is nobody's: readers have the empty tree from
// before, and so has the checkpoint, which only moves along the log. One batch ends it, with the
// checkpoint that has the source's context, and without the mark. The log says nothing of it.
//
// If its source goes away, or this process ends, what has come waits for the next one, which goes
// on behind it. Each source sends cells of its own moment: so once all has come it is compared
// with the last one's, and what differs is staged and written before anybody sees any of it.
// Until then nothing that came is in the context: in the end that is the last source's, and the
// cells are no more and no less than what stands for.
//
// That goes well only as long as the replica holds nothing: with its first commit a filling has
// failed. What was written goes, and the next repair compares.

// errNotEmpty and errMixed end a filling.
var errNotEmpty = fmt.Errorf("something was written here while it was filled: it is repaired instead: %w", ErrBusy)

var errMixed = errors.New("what came from several peers does not become what one of them holds: it is fetched anew")

// filling is what a repair of an empty replica does instead of staging.
type filling struct {
	ended   atomic.Bool // it must write nothing more: the replica holds something
	count   *recount    // what is computed from the cells that came
	came    dotted.Address
	address dotted.Address // behind came
	cell    dotted.Cell    // that is coming, in parts
	batch   *store.Batch
	leaves  leafEntries
	indexed dotted.Address // up to this cell: see fillingMark
	all     *Pinned        // once the last source has sent all it has: what came, if that is of several
	over    bool           // no source can go on: all is here, or something could not be written
	closing bool           // the next checkpoint ends it
	orders  orderFilling
}

func (r *replica) newFilling() *filling {
	f := &filling{count: newRecount(nil, &r.derives), batch: &store.Batch{}}
	f.leaves.atOnce = cmp.Or(r.cfg.leavesAtOnce, leavesAtOnce)
	f.orders = orderFilling{of: f, tree: r.st, limit: cmp.Or(r.cfg.orderBytes, fillOrderBytes)}
	f.count.derived = f.set
	return f
}

// leafEntries are entries of the index of leaves that wait to be written in their order, which is
// another than that in which cells come: the store puts in its place with less work what comes in
// order. The mark says up to which cell they are written.
type leafEntries struct {
	keys   [][]byte
	bytes  int
	atOnce int // how many wait at most
}

const (
	leavesAtOnce = 32 << 10
	leafBytes    = 4 << 20
)

// due reports whether they are to be written.
func (l *leafEntries) due() bool { return len(l.keys) >= l.atOnce || l.bytes >= leafBytes }

// set adds a record.
func (f *filling) set(key, record []byte) {
	if l := &f.leaves; key[0] == prefixLeaf {
		l.keys, l.bytes = append(l.keys, key), l.bytes+len(key)
		return
	}
	f.batch.Set(key, record)
}

// index writes the entries of the index of leaves that wait.
func (f *filling) index(write Stage) error {
	l := &f.leaves
	slices.SortFunc(l.keys, bytes.Compare)
	for _, key := range l.keys {
		f.batch.Set(key, []byte{})
		if err := f.flush(write, stageBytes); err != nil {
			return err
		}
	}
	clear(l.keys)
	l.keys, l.bytes = l.keys[:0], 0
	return nil
}

// add takes entries of a cell. They come in the order of places, and then of dots.
func (f *filling) add(a dotted.Address, entries []dotted.Entry, write Stage) error {
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
func (f *filling) closeCell(write Stage) error {
	if len(f.cell) == 0 {
		return nil
	}
	if err := f.orders.add(f.address, f.cell, write); err != nil {
		return err
	}
	key := place(prefixCell, f.address)
	mark := fillingMark{indexed: f.indexed, coming: f.address}
	for _, e := range f.cell {
		if len(e.Payload) > maxInline {
			mark.large = append(mark.large, e.Dot)
		}
	}
	if len(mark.large) > 0 || isSplit(f.cell) {
		f.set(keyFilling, mark.encode())
	}
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
	f.count.add(f.address, f.cell)
	f.came, f.cell = f.address, nil
	if f.leaves.due() {
		if err := f.index(write); err != nil {
			return err
		}
		f.indexed = f.came
		f.set(keyFilling, fillingMark{indexed: f.indexed}.encode())
	}
	return f.flush(write, stageBytes)
}

// flush writes what waits if it is so much.
func (f *filling) flush(write Stage, most int) error {
	if f.ended.Load() {
		return errNotEmpty
	}
	if f.batch.Len() == 0 || f.batch.Bytes() < most && f.batch.Len() < fillItems {
		return nil
	}
	err := write(f.batch)
	f.batch = &store.Batch{}
	f.over = f.over || err != nil
	return err
}

// settle writes what waits, and waits until all can be read.
func (f *filling) settle(write Stage) error {
	err := f.flush(write, 0)
	if err == nil {
		err = write(nil)
		f.over = f.over || err != nil
	}
	return err
}

// puller returns the session that compares with the source.
func (p *repairSession) puller() *antientropy.Puller {
	p.pulls = antientropy.NewPuller(p.local, p)
	if p.fill != nil && p.fill.came != "" {
		p.pulls.Continue(p.fill.came, p.mend)
	}
	return p.pulls
}

// mend returns all that came, from several sources. What differs is staged from then on.
func (p *repairSession) mend() (antientropy.Snapshot, error) {
	f := p.fill
	if err := f.closeCell(p.write); err != nil {
		return nil, err
	}
	if err := f.orders.close(p.write); err != nil {
		return nil, err
	}
	if err := f.index(p.write); err != nil {
		return nil, err
	}
	if err := f.settle(p.write); err != nil {
		return nil, err
	}
	cells := hot.NewTable(p.tree.Snapshot(), 0, unpackItem)
	defer cells.Close()
	f.all = &Pinned{
		view: &View{moment: &moment{shot: cells.Snapshot(), clears: &clears{}}}, tree: f.count.tree.Clone(),
		bases: p.local.bases, cells: f.count.cells,
	}
	return f.all, nil
}

// fillItems bounds the records of one batch. The store may write those of one in any order, and
// what comes is nearly in order: it is put in its place with less work if a batch is short.
const fillItems = 2 << 10

// close writes the last of it, and the pages of the tree: all has come.
func (f *filling) close(write Stage) error {
	if err := f.closeCell(write); err != nil {
		return err
	}
	if err := f.orders.close(write); err != nil {
		return err
	}
	f.over = true
	f.count.closeKey()
	if err := f.index(write); err != nil {
		return err
	}
	for page := range antientropy.Pages {
		if key := pageKey(page); !f.count.tree.EqualPage(page, &antientropy.Tree{}) {
			f.set(key, encodePage(key, 0, f.count.tree))
		}
		if err := f.flush(write, stageBytes); err != nil {
			return err
		}
	}
	return f.settle(write)
}

// mayFill reports whether the replica holds nothing at all.
func (r *replica) mayFill() bool {
	return len(r.seen) == 0 && r.cells == 0 && r.table.Len() == 0 && r.saving == nil
}

// fills reports whether the replica is being filled, or was and the rest is not removed.
func (r *replica) fills() bool { return r.filling != nil }

// partial reports whether a checkpoint does not count, because more of a filling is to be written.
func (r *replica) partial() bool { return r.fills() && !r.filling.closing }

// Parked reports whether a filling waits for its next source.
func (r *replica) Parked() bool {
	return r.filling != nil && r.repair == nil && !r.filling.over && !r.filling.ended.Load()
}

// beginFilling has the mark written, unless a filling goes on. What is sent to the store later
// stands behind it.
func (r *replica) beginFilling() *filling {
	if r.filling != nil {
		return r.filling
	}
	r.filling = r.newFilling()
	mark := &store.Batch{}
	mark.Set(keyFilling, fillingMark{}.encode())
	r.writeBatch(mark, nil)
	return r.filling
}

// spoilFilling is called when the replica comes to hold something. One that waits for a source
// goes at once.
func (r *replica) spoilFilling() {
	if r.filling == nil {
		return
	}
	parked := r.Parked()
	if r.filling.ended.Store(true); parked {
		r.begin(r.removeFilling()...)
	}
}

// leaveFilling ends a repair that filled: what came waits for the next source, without what is of
// the cell that was coming, and what was staged. If it cannot go on it goes.
func (r *replica) leaveFilling(p *repairSession) {
	f := p.fill
	p.release()
	f.address, f.cell, f.all = "", nil, nil
	r.begin(r.dropStaged(p.session))
	if f.over || f.ended.Load() {
		f.ended.Store(true)
		r.begin(r.removeFilling()...)
	}
}

// passOn has the checkpoint of a replica that is being filled, which has nothing in the log, move
// up to where that is synced: what others write is not kept for it. It reports whether it had to.
func (r *replica) passOn() (did bool) {
	at := r.logs.Synced()
	if !r.fills() || r.filling.ended.Load() || r.saving != nil || r.unsaved() ||
		int64(at-r.saved.next) < max(r.behind(), 1) {
		return false
	}
	c := r.checkpoint()
	c.next = at
	moved := &store.Batch{}
	moved.Set(keyCheckpoint, c.encode(r.writeOwn))
	r.writeBatch(moved, func(*Write) {
		r.saved = c.reach
		r.checkpoints++
	})
	return true
}

// fillingMark is what the mark of a filling says.
type fillingMark struct {
	over    bool           // it is given up
	indexed dotted.Address // up to this cell the index of leaves is there
	coming  dotted.Address // the last cell with payloads or parts of their own, which are written before its record
	large   []crdt.Dot     // of those payloads
}

func (m fillingMark) encode() []byte {
	return seal(keyFilling, func(w *wire.Writer) {
		w.Array(4)
		w.Bool(m.over)
		w.String(string(m.indexed))
		w.String(string(m.coming))
		dotted.WriteDots(w, m.large)
	})
}

func decodeFillingMark(record []byte) (m fillingMark, err error) {
	err = decodeRecord(keyFilling, record, func(r *wire.Reader) {
		r.Array(4)
		m.over, m.indexed = r.Bool(), dotted.Address(r.String(crdt.MaxAddress))
		m.coming, m.large = dotted.Address(r.String(crdt.MaxAddress)), dotted.ReadDots(r)
	})
	return m, err
}

// removeComing returns a task: what a crash left of the cell that was coming is removed. The next
// source may have something else there.
func (r *replica) removeComing(m fillingMark, came dotted.Address) (parts []task) {
	if m.coming == "" || dotted.ComparePlaces(m.coming, came) <= 0 {
		return nil // it is there
	}
	remove := func(prefix []byte) { parts = append(parts, r.removeAll(prefix, after(prefix))) }
	for _, d := range m.large {
		remove(blobPrefix(d))
	}
	remove(partPrefix(place(prefixCell, m.coming)))
	return parts
}

// removeFilling returns a task: what a filling left is removed, and its mark.
func (r *replica) removeFilling() (parts []task) {
	kinds := []byte{prefixCell, prefixPart, prefixBlob, prefixStage, prefixPage, prefixBase, prefixMoved}
	parts = append(parts, once(func() { // what is left after a kill does not fit what is computed from it
		mark := &store.Batch{}
		mark.Set(keyFilling, fillingMark{over: true}.encode())
		r.writeBatch(mark, nil)
	}))
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

// resumeFilling has what came of a filling that a crash interrupted wait for the next source; if
// it cannot go on that is removed. It is called while the store is opened, before anything else
// is read.
func (r *replica) resumeFilling() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	_, filled, err := snap.Get(keyFilling)
	if err != nil || !filled {
		return err
	}
	f, mark, err := r.interruptedFilling(snap)
	if err != nil {
		return err
	}
	if f != nil {
		r.filling = f
		r.begin(r.removeComing(mark, f.came)...)
		err = r.opening.finish()
		r.table.Rebase(emptyTree{}) // as it was for readers
		return err
	}
	if err := r.needRoom("the removal of what came from another host"); err != nil {
		return err
	}
	r.begin(r.removeFilling()...)
	err = r.opening.finish()
	r.table.Rebase(r.st.Snapshot())
	return err
}

// interruptedFilling returns the one whose cells are there, counted anew, and what its mark says:
// what was computed from a cell was written with it, but for the sums over the last key and the
// newest entries of the index of leaves. It is nil if there is nothing worth it, if a record is
// rotten, if something was written to the log since, or if all had come: then it may be that what
// the sources differed in was being written.
func (r *replica) interruptedFilling(snap store.Snapshot) (f *filling, mark fillingMark, err error) {
	record, _, err := snap.Get(keyFilling)
	if err != nil {
		return nil, mark, err
	}
	if mark, err = decodeFillingMark(record); err != nil {
		return nil, mark, nil
	}
	over := mark.over
	err = snap.ScanKeys([]byte{prefixPage}, []byte{prefixPage + 1}, func([]byte) bool {
		over = true
		return false
	})
	if err == nil && !over {
		err = scanLog(r.logs, max(r.logs.First(), Durable(r.st)), 0, func(logged, store.Position) bool {
			over = true
			return false
		})
	}
	f = r.newFilling()
	f.indexed = mark.indexed
	if err == nil && !over {
		cells := hot.NewTable(r.st.Snapshot(), 0, unpackItem)
		defer cells.Close()
		v := &View{moment: &moment{shot: cells.Snapshot(), clears: &clears{}}}
		defer v.Close()
		late := false
		f.count.derived = func(key, record []byte) {
			if late && key[0] == prefixLeaf { // else it is there
				f.set(key, record)
			}
		}
		err = v.scanStored("", "", func(a dotted.Address, c dotted.Cell) bool {
			late = late || dotted.ComparePlaces(a, mark.indexed) > 0
			f.count.add(a, c)
			f.came = a
			return true
		})
		f.count.derived = f.set
	}
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return nil, mark, err
	}
	if err != nil || f.came == "" {
		return nil, mark, nil
	}
	f.orders.anew = f.came
	return f, mark, nil
}

// emptyTree is the snapshot of an empty tree.
type emptyTree struct{}

func (emptyTree) Get([]byte) ([]byte, bool, error)                  { return nil, false, nil }
func (emptyTree) Scan([]byte, []byte, func(_, _ []byte) bool) error { return nil }
func (emptyTree) ScanKeys([]byte, []byte, func([]byte) bool) error  { return nil }
func (emptyTree) Close()                                            {}

// takeFilling returns a task: what was filled in becomes what the replica holds.
func (r *replica) takeFilling(p *repairSession) []task {
	now := r.wallTime()
	return []task{once(func() { r.beginTaking(p) }), r.mendFilling(p.session, now), once(func() {
		if p.fill.all != nil && r.tree.Root() != p.pulls.Result().Root {
			p.failed = errMixed
			r.holdFilled(&recount{tree: &antientropy.Tree{}})
			r.then(append(r.removeFilling(), r.endFlip)...)
			return
		}
		r.raiseTo(&flip{seen: p.target, heads: p.heads, tables: p.bases})
		r.collecting.due = true // for baselines that come with it
		r.filling.closing = true
		r.then(r.endFilling(now), r.dropStaged(p.session), once(func() { r.filling = nil }), r.endFlip)
	})}
}

// beginTaking has the replica hold what came. Nobody sees it yet.
func (r *replica) beginTaking(p *repairSession) {
	r.repair = nil
	p.release()
	r.quiet = true
	r.holdFilled(r.filling.count)
}

// holdFilled makes the state in memory that of cells that were counted.
func (r *replica) holdFilled(n *recount) {
	r.table.Close() // with what was read in the tree before
	r.table = newTable(r.st, r.cfg.MaxCache)
	r.tree, r.cells, r.totals = n.tree, n.cells, n.totals
	r.paged, r.batches, r.covered, r.forgotten = r.tree.Clone(), 0, 0, 0
	r.expiring = expiring{timed: n.timed, began: r.expiring.began, clock: r.expiring.clock}
}

// mendFilling returns a task: what the sources of a filling differed in is taken over, slice by
// slice. It needs no log: the mark says that nothing of it is there, until all is in the tree.
func (r *replica) mendFilling(session uint64, now time.Time) task {
	var from []byte
	return func() (done bool, err error) {
		if r.saving != nil || r.pressed() {
			return false, r.saveNow(now)
		}
		g := r.newGroup(now)
		defer g.discard()
		upTo, more, err := g.takeStaged(session, from, nil)
		if err != nil {
			return false, err
		}
		from = upTo
		changed := g.changed()
		g.plan(changed)
		g.take(g.derived(), changed)
		return !more, nil
	}
}

// endFilling returns a task: a checkpoint ends the mark.
func (r *replica) endFilling(now time.Time) task {
	begun := false
	return func() (done bool, err error) {
		if r.saving != nil || !begun {
			begun = true
			return false, r.saveNow(now)
		}
		r.write(Write{SyncTree: true, then: func(*Write) { r.survives(r.saved, r.checkpoints) }})
		return true, nil
	}
}
