package engine

import (
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/engine/logindex"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A checkpoint brings the tree up to a record P of the log: it writes what was changed in memory
// when P was the last one, in sorted batches, and then says so in a record of its own, with the
// context as it was at P. The replica goes on meanwhile: what changes again stays in memory.
// Nothing is written before the log is durable up to P, so the tree never has what the log may
// lose. In a power failure the tree loses its newest batches alone, so where the checkpoint's
// record is all of it is. Opening carries the records behind P out again, over whatever the tree
// has.
//
// There are exceptions to the order of keys. A clear's record comes before the cells that it hides
// change, and goes when they are gone. A cell's index entries are written with it, so that the tree
// always has both or neither: a cell that is swept leaves it without a record in the log that would
// say so again.

// How checkpoints are paced.
const (
	checkpointBytes = 512 << 10   // about how many one step writes at most: see piece
	checkpointItems = 4096        // and how many records
	checkpointEvery = time.Minute // one begins so long after the last, if there is something to be written
	agesEvery       = time.Minute // between two looks at the age of the log's oldest record

	dirtyShare  = 2         // of Config.MaxDirty: one begins
	logShare    = 8         // of Config.MaxLogBytes behind the last one: likewise
	maxBehind   = 32 << 20  // bytes of the log behind the last one: likewise
	maxLogSlack = 512 << 10 // see logSlack

	keysAtOnce = 16 << 10 // bytes that are allocated for keys
)

// checkpoint is the record behind which the log is carried out again, and what the log would
// otherwise have to be read for.
type checkpoint struct {
	reach
	own     []ownID
	seen    crdt.VersionVector // stored in its short form
	heads   delta.Heads
	tables  int // of bases, with which that is read
	time    dotted.Time
	root    antientropy.Fingerprint // see logged
	settled bool
	flip    *flip // being taken over then
	log     logindex.Index

	totals
}

// reach is how far a checkpoint comes: to a record of the log, and to where the one behind it
// stands.
type reach struct {
	lsn  uint64
	next store.Position
}

// saving is a checkpoint under way.
type saving struct {
	reach
	record []byte
	items  hot.Sealed // as they were at its beginning
	pass   int
	from   string // the key to go on with
	page   int    // likewise
	tree   *antientropy.Tree
	cells  int
	backup *Moment
	wanted []func(*Moment)
}

// passes are the parts of a checkpoint, in order.
var passes = []struct {
	from, end  byte
	sets, dels bool
}{
	{prefixSeen, prefixSeen + 1, true, false},
	{prefixClear, prefixClear + 1, true, false},
	{0, prefixClear, true, true},
	{prefixClear, prefixClear + 1, false, true},
	{prefixSeen, prefixSeen + 1, false, true},
}

// freeze begins a checkpoint.
func (r *replica) freeze(now time.Time) {
	c := r.checkpoint()
	r.saving = &saving{
		reach: c.reach, record: c.encode(r.writeOwn), items: r.table.Seal(), tree: r.tree.Clone(), cells: r.cells,
	}
	r.expiriesSealed()
	r.saves = now.Add(checkpointEvery)
	r.saveCost = max(r.saveCost, len(r.saving.record))
	r.ownFell = false
	if len(r.wanted) > 0 && r.flip == nil && !r.fills() { // what is staged is in no backup
		r.saving.wanted, r.wanted = r.wanted, nil
		r.saving.backup = r.backup(c)
	}
}

// checkpoint returns the record of the present context and log.
func (r *replica) checkpoint() *checkpoint {
	c := &checkpoint{
		reach: reach{r.log.Last, r.logEnd()}, seen: r.short, heads: r.heads, tables: len(r.bases.Tables()),
		time: r.clock.Last(),
		flip: r.flip, log: r.log.Index, totals: r.totals,
	}
	c.root, c.settled = r.settledRoot()
	return c
}

// settledRoot returns the fingerprint of the stored cells, and whether that is what their context
// stands for.
func (r *replica) settledRoot() (root antientropy.Fingerprint, settled bool) {
	if !r.opening.loaded {
		return r.opening.root, r.opening.settled
	}
	return r.tree.Root(), r.clears.count == 0 && r.flip == nil
}

// saveDue reports whether it is time for a checkpoint.
func (r *replica) saveDue(now time.Time) bool {
	switch {
	case len(r.wanted) > 0, r.ownFell:
		return true
	case !r.unsaved():
		return r.lag() >= r.behind() && r.lag() > 0 // others write, and the log is not to be held back
	}
	return r.table.Bytes() >= r.cfg.MaxDirty/dirtyShare || r.lag() >= r.behind() || !now.Before(r.saves)
}

// unsaved reports whether there is something that no checkpoint has.
func (r *replica) unsaved() bool { return r.log.Last != r.saved.lsn || r.table.Len() > 0 }

// lag returns how far the log goes on behind the last checkpoint.
func (r *replica) lag() int64 { return int64(r.logEnd() - r.saved.next) }

// Behind returns how far a log of at most so many bytes may go on behind a checkpoint until the
// next one begins. From twice as far commits do a part of its work.
func Behind(maxLogBytes int64) int64 { return min(maxBehind, maxLogBytes/logShare) }

func (r *replica) behind() int64 { return Behind(r.cfg.MaxLogBytes) }

// saveSome has a part of the checkpoint under way written. The log must be durable up to it by
// then.
func (r *replica) saveSome() (err error) {
	c := r.saving
	w := r.treeWriter()
	defer w.close()
	for !w.full && c.pass < len(passes) {
		p := passes[c.pass]
		c.items.From(max(c.from, string(p.from)), func(rec hot.Record) bool {
			it := rec.(*item)
			kind := it.key[0]
			if kind >= p.end {
				return false
			}
			if vacant := it.Vacant(); vacant && p.dels || !vacant && p.sets {
				err = w.item(it)
			}
			if w.full {
				c.from = it.key + "\x00"
			}
			return err == nil && !w.full
		})
		if err == nil && !w.full {
			c.pass, c.from = c.pass+1, ""
		}
		if err != nil {
			return err
		}
	}
	if w.flush(); c.pass < len(passes) {
		return nil
	}
	if r.savePages(c, w.began); c.page < antientropy.Pages {
		return nil
	}
	last := &store.Batch{}
	if !r.partial() {
		last.Set(keyCheckpoint, c.record)
		last.Set(keySums, summed{r.batches, c.tree.Root(), c.cells}.encode())
		r.coverUndone(last)
	}
	if r.fills() && !r.partial() {
		last.Delete(keyFilling)
	}
	if r.opening.marked { // what is stored of the sums is that of cells that were read
		last.Delete(keyDoubt)
	}
	r.covered = r.batches
	r.forgetNumbered(last, w.began)
	r.writeBatch(last, func(*Write) { r.checkpointed(c) })
	return nil
}

// checkpointed takes note that a checkpoint is in the tree.
func (r *replica) checkpointed(c *saving) {
	r.saving, r.paged, r.opening.marked = nil, c.tree, false
	if !r.partial() {
		r.saved = c.reach
		r.checkpoints++
	}
	r.table.Unseal(r.st.Snapshot())
	r.expiriesWritten()
	r.unpublished = true
	for _, fn := range c.wanted {
		m := *c.backup
		m.snap = r.st.Snapshot()
		fn(&m)
	}
}

// treeWriter writes items to the tree.
type treeWriter struct {
	r     *replica
	batch *store.Batch
	items []*item        // that are in it, or in those before it
	moved []moved        // what it changes of the sums over all cells
	ops   []store.Op     // of the item that is being written: they go into one batch
	old   store.Snapshot // once something that is written over is kept
	keys  []byte         // memory for keys
	began int            // replica.work at its beginning
	most  int            // about how many bytes the step writes
	full  bool           // the step has done enough
}

func (r *replica) treeWriter() treeWriter {
	return treeWriter{r: r, batch: &store.Batch{}, began: r.work, most: r.piece()}
}

// item writes one record, with what belongs to it: what it names before it, what it named with
// it. Of one that the tree is not to have, and has nothing of, it writes nothing.
func (w *treeWriter) item(it *item) error {
	last, owed := w.r.work, it.owes()
	if it.unborn && it.Vacant() {
		w.items = append(w.items, it)
		w.r.spend(workCell)
		w.r.transacted(last)
		w.full = w.r.spentSince(w.began)
		return nil
	}
	for _, d := range owed.fresh {
		i, _ := it.cell.Find(d)
		w.blob(it.cell[i])
	}
	w.ops = w.ops[:0]
	if w.keepsOld(it) {
		if err := w.keepOld(it); err != nil {
			return err
		}
	}
	if it.address() == "" || it.Vacant() {
		w.add(w.key(it.key), it.record(), it.Vacant())
	}
	if it.address() != "" {
		if err := w.cell(it, owed.split); err != nil {
			return err
		}
	}
	if it.before != nil {
		w.r.derives.derive(it.address(), *it.before, it.cell).index(func(key []byte, live bool) {
			w.add(key, nil, !live)
		})
	}
	for _, d := range owed.dead {
		for i := range d.pieces {
			w.add(blobKey(d.dot, i), nil, true)
		}
	}
	bytes := 0
	for _, op := range w.ops {
		bytes += len(op.Key) + len(op.Value)
	}
	w.room(len(w.ops), bytes)
	w.note(it)
	for _, op := range w.ops {
		if op.Delete {
			w.batch.Delete(op.Key)
		} else {
			w.batch.Set(op.Key, op.Value)
		}
	}
	w.items = append(w.items, it)
	w.r.spend(workSaved + workOf(bytes))
	w.r.transacted(last)
	w.full = len(w.items) >= min(checkpointItems, w.r.cfg.MaxBatch) || w.batch.Bytes() >= w.most ||
		w.r.spentSince(w.began)
	return nil
}

// piece returns about how many bytes of a checkpoint a step writes. Who commits waits while they
// are put together, so they are few while the checkpoint keeps up with what is committed
// meanwhile: it begins at a half of what holds commits back, and from three quarters on there are
// most.
func (r *replica) piece() int {
	switch {
	case r.inPart, r.laden(): // a task has all commits wait until it ends
		return checkpointBytes
	case r.table.Bytes() > r.cfg.MaxDirty/16*11 || r.lag() > r.behind()/8*11:
		return checkpointBytes / 4
	}
	return checkpointBytes / 16
}

// add adds a write to those of the item.
func (w *treeWriter) add(key, value []byte, gone bool) {
	w.ops = append(w.ops, store.Op{Key: key, Value: value, Delete: gone})
}

// key returns the bytes of a key.
func (w *treeWriter) key(key string) []byte {
	if cap(w.keys)-len(w.keys) < len(key) {
		w.keys = make([]byte, 0, max(len(key), keysAtOnce))
	}
	from := len(w.keys)
	w.keys = append(w.keys, key...)
	return w.keys[from:len(w.keys):len(w.keys)]
}

// cell writes the parts of a cell, and adds its own record to what is written last.
func (w *treeWriter) cell(it *item, split bool) error {
	key := w.key(it.key)
	var old parts
	var there []string // parts: also those that an interrupted checkpoint has left, of which no record says anything
	if split {
		snap := w.r.st.Snapshot()
		defer snap.Close()
		var err error
		if old, err = partsOf(snap, key); err != nil {
			return err
		}
		err = snap.ScanKeys(partPrefix(key), after(partPrefix(key)), func(part []byte) bool {
			there = append(there, string(part))
			return true
		})
		if err != nil {
			return err
		}
	}
	anew := 0
	if len(it.cell) > 0 {
		record, more := encodeCell(key, it.address(), it.cell, old.generation+1)
		for i, part := range more {
			w.set(partKey(key, old.generation+1, i), part)
		}
		w.add(key, record, false)
		anew = len(more)
	}
	for _, part := range there {
		if part < string(partKey(key, old.generation+1, 0)) || part >= string(partKey(key, old.generation+1, anew)) {
			w.add([]byte(part), nil, true)
		}
	}
	return nil
}

// blob writes a large payload, piece by piece. Several pieces have a batch each, which is made when
// it is written: only one is in memory beside the payload.
func (w *treeWriter) blob(e dotted.Entry) {
	n := 0
	for piece := range slices.Chunk(e.Payload, maxPiece) {
		key := blobKey(e.Dot, n)
		if len(e.Payload) > maxPiece {
			w.r.write(Write{Batch: &store.Batch{}, fill: func(b *store.Batch) {
				b.Set(key, wire.Seal(formatVersion, key, piece))
			}})
		} else {
			w.set(key, wire.Seal(formatVersion, key, piece))
		}
		n++
	}
	w.r.spend(workOf(len(e.Payload)))
}

func (w *treeWriter) set(key, value []byte) {
	w.room(1, len(key)+len(value))
	w.batch.Set(key, value)
}

// room makes room for writes that belong together.
func (w *treeWriter) room(ops, bytes int) {
	more := movedBytes * (len(w.moved) + 2) // for the record of what the batch changes
	if w.batch.Len()+ops+1 > w.r.cfg.MaxBatch || w.batch.Bytes()+bytes+more > store.MaxBatchBytes {
		w.commit(nil)
	}
}

func (w *treeWriter) commit(then func(*Write)) {
	if w.batch.Len() > 0 {
		w.noted()
		w.r.writeBatch(w.batch, then)
		w.batch = &store.Batch{}
	}
}

// flush has what is left written, and then notes what was, also of what there was nothing to
// write: a step that began with too much of what waits is not to find room for more.
func (w *treeWriter) flush() {
	then := func(*Write) {
		for _, it := range w.items {
			w.r.table.Stored(it)
		}
	}
	if w.batch.Len() == 0 && len(w.items) > 0 {
		w.r.writeBatch(w.batch, then) // of nothing
		return
	}
	w.commit(then)
}

// pressed reports whether so much waits for a checkpoint that no more may be committed before a
// part of it is written.
func (r *replica) pressed() bool { return r.table.Bytes() > r.cfg.MaxDirty }

// laden reports whether so much waits for a checkpoint that there must not be more because of what
// nobody waits for, such as removing what has expired: it is midway between where a checkpoint
// begins and where clients' writes have to wait for parts of it, for several in a row.
func (r *replica) laden() bool {
	return r.table.Bytes() > r.cfg.MaxDirty/4*3 || r.lag() > r.behind()/2*3
}

// Unwritten returns how many bytes of memory what waits for a checkpoint takes. While that is more
// than Config.MaxDirty no step adds to it.
func (r *replica) Unwritten() int64 { return r.table.Bytes() }

// logSlack is by how many bytes the log may outgrow Config.MaxLogBytes before a commit cuts it.
func (r *replica) logSlack() int64 {
	return max(min(maxLogSlack, r.cfg.MaxLogBytes/8), 2*int64(r.saveCost)) + int64(r.markEvery())
}

// LogBound returns how large the log may be, in bytes, after a commit and after maintain, unless
// that says that there is more to do. Newest records that are larger stay.
func (r *replica) LogBound() int64 {
	bound := r.cfg.MaxLogBytes + r.logSlack()
	return max(bound, r.log.Least(r.logEnd()))
}

// maintain does some of what goes on beside the writes: checkpoints, and cutting the log. It does
// no more work than a step may, and reports whether there is more: then it is to be called again
// soon. See Syncing.
func (r *replica) maintain(now time.Time) (more bool, err error) {
	r.wall = now
	if r.damage != nil {
		return false, nil
	}
	if r.Parked() && len(r.wanted) > 0 { // nobody waits for a source
		r.spoilFilling()
	}
	if r.passOn() {
		return true, nil
	}
	more = r.table.Tidy()
	if r.saving == nil && !r.fills() && r.saveDue(now) {
		r.freeze(now)
	}
	if r.saving == nil && (r.forgotten < r.covered || r.undone.forgotten < r.undone.covered) {
		some := &store.Batch{}
		r.forgetNumbered(some, r.work)
		r.writeBatch(some, nil)
		return true, nil
	}
	if r.saving == nil {
		r.cutLog(now)
		return more, nil
	}
	if r.logs.Synced() < r.saving.next {
		return more, nil
	}
	return true, r.saveSome()
}

// late reports whether so much waits for a checkpoint, or is in the log, that it must be written
// first: then pace is to be called before anything more is committed.
func (r *replica) late() bool {
	if r.damage != nil || r.log.Located < r.log.Last {
		return false
	}
	return r.pressed() || r.saving != nil && r.lag() > 2*r.behind() || r.tooLong() && r.durable.lsn < r.log.Last
}

// tooLong reports whether the log is longer than it may be.
func (r *replica) tooLong() bool { return r.LogBytes() > r.cfg.MaxLogBytes+r.logSlack() }

// pace does a step of that.
func (r *replica) pace(now time.Time) error {
	if r.fills() {
		return nil // that ends, because of what was committed, and then checkpoints go on: see Engine.again
	}
	if r.pressed() || r.saving != nil && r.lag() > 2*r.behind() {
		return r.saveNow(now)
	}
	if r.cutLog(now); r.tooLong() {
		r.then(r.saveAll(now))
	}
	return nil
}

// saveNow writes some of a checkpoint, which is begun if there is none, behind the log up to it.
func (r *replica) saveNow(now time.Time) error {
	if r.saving == nil {
		r.freeze(now)
	}
	if r.logs.Synced() < r.saving.next {
		r.write(Write{SyncLog: true})
	}
	return r.saveSome()
}

// save returns a task: a checkpoint of all that is here, also if nothing changed but what others
// are known to have, which survives a power failure. It is the last thing to do before closing.
func (r *replica) save(now time.Time) task {
	all := r.saveAll(now)
	return func() (done bool, err error) {
		if r.damage != nil {
			return true, nil
		}
		r.ownFell = true
		r.then(all)
		return true, nil
	}
}

// saveAll returns a task: such a checkpoint, if anything changed.
func (r *replica) saveAll(now time.Time) task {
	begun := false
	return func() (done bool, err error) {
		if r.damage != nil { // found on the way, perhaps while the log was carried out again
			r.saving = nil
			return true, nil
		}
		if r.fills() { // the log has all that is here
			r.write(Write{SyncLog: true})
			return true, nil
		}
		if r.saving == nil && !begun {
			begun = true
			if r.log.Last > r.saved.lsn || r.table.Len() > 0 || r.ownFell || len(r.wanted) > 0 {
				r.freeze(now)
			}
		}
		if r.saving != nil {
			return false, r.saveNow(now)
		}
		if r.checkpoints != r.durables {
			saved, count := r.saved, r.checkpoints
			r.write(Write{SyncTree: true, then: func(*Write) {
				r.survives(saved, count)
			}})
			return false, nil
		}
		r.cutLog(now)
		return true, nil
	}
}

// survives takes note that a checkpoint, and as many as there were until then, survives a power
// failure.
func (r *replica) survives(saved reach, checkpoints int) {
	r.durable, r.durables = saved, checkpoints
	r.ages = time.Time{} // there may be something to be cut
}

// cutLog gives up the beginning of the log where its bounds no longer admit it and a durable
// checkpoint is behind it.
func (r *replica) cutLog(now time.Time) {
	if !r.log.Large(r.logEnd(), r.cfg.MaxLogBytes) && now.Before(r.ages) {
		return
	}
	r.ages = now.Add(agesEvery)
	r.log.DropBefore(r.log.Due(r.durable.lsn+1, r.logEnd(), r.cfg.MaxLogBytes, now.Add(-r.cfg.MaxLogAge)))
	if !r.rebuilding { // what was put aside stands before it
		r.dropLog()
	}
}

// dropLog gives the space back of what the log no longer serves and no checkpoint needs.
func (r *replica) dropLog() {
	at := r.durable.next
	if oldest, _, found := r.log.Oldest(); found {
		at = min(at, oldest)
	}
	if at > max(r.logs.First(), r.dropped) {
		r.dropped = at
		r.write(Write{Drop: at})
	}
}

// Syncing is a sync to be done: of the log, and of the tree if a checkpoint was written there. It
// goes on beside the replica, which is then told by Engine.SyncEnded.
type Syncing struct {
	Tree bool // must be synced, after the log

	saved       reach
	checkpoints int
}

// needsSync reports whether the replica waits for a sync, whatever durability its writers want.
func (r *replica) needsSync() bool {
	return r.saving != nil && r.logs.Synced() < r.saving.next || r.checkpoints != r.durables
}

// beginSync begins a sync of all that was written before.
func (r *replica) beginSync() Syncing {
	return Syncing{Tree: r.checkpoints != r.durables, saved: r.saved, checkpoints: r.checkpoints}
}

// Run syncs. An error is final. It may be called by any goroutine.
func (s Syncing) Run(tree store.Store, log store.Log) error {
	if err := log.Sync(); err != nil || !s.Tree {
		return err
	}
	return tree.Sync()
}

// Durable returns up to where the checkpoint in a store says that the log is durable: store/segment
// wants to know.
func Durable(st Tree) store.Position {
	snap := st.Snapshot()
	defer snap.Close()
	record, ok, err := snap.Get(keyCheckpoint)
	if err != nil || !ok {
		return 0
	}
	bases, err := loadBases(snap)
	if err != nil {
		return 0
	}
	c, err := decodeCheckpoint(record, &bases)
	if err != nil {
		return 0
	}
	return c.next
}

func (c *checkpoint) encode(writeOwn func(*wire.Writer)) []byte {
	return seal(keyCheckpoint, func(w *wire.Writer) {
		w.Array(10 + totalsFields)
		w.Uint(c.lsn)
		w.Uint(uint64(c.next))
		writeOwn(w)
		delta.WriteContext(w, c.seen, c.heads)
		w.Uint(uint64(c.tables))
		w.Uint(uint64(c.time))
		w.Bool(c.settled)
		antientropy.WriteFingerprint(w, c.root)
		if c.flip == nil {
			w.Bytes(nil)
		} else {
			w.Bytes(wire.Encode(c.flip.write))
		}
		c.log.Write(w)
		c.totals.write(w)
	})
}

// decodeCheckpoint reads a checkpoint, and its context with the bases that are stored: not those
// that are newer.
func decodeCheckpoint(record []byte, bases *delta.Bases) (*checkpoint, error) {
	c := &checkpoint{}
	var bad error
	err := decodeRecord(keyCheckpoint, record, func(r *wire.Reader) {
		r.Array(10 + totalsFields)
		c.lsn, c.next = r.Uint(), store.Position(r.Uint())
		c.own = readOwn(r)
		c.seen, c.heads = delta.ReadContext(r)
		tables := r.Uint()
		if here := len(bases.Tables()); tables > uint64(here) {
			r.Fail("a context that is read with %d tables of bases, and %d are here", tables, here)
			return
		}
		c.tables = int(tables)
		c.seen, c.heads = bases.First(c.tables).Expand(c.seen, c.heads)
		c.time = dotted.Time(r.Uint())
		c.settled = r.Bool()
		c.root = antientropy.ReadFingerprint(r)
		if f := r.Bytes(len(record)); len(f) > 0 {
			c.flip = &flip{}
			bad = wire.Decode(f, func(r *wire.Reader) { *c.flip = readFlip(r, len(f)) })
		}
		c.log = logindex.Read(r, len(record), c.lsn, c.next)
		c.totals = readTotals(r)
	})
	if err == nil && bad != nil {
		err = damaged(keyCheckpoint, bad)
	}
	return c, err
}
