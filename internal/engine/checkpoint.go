package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A checkpoint brings the tree up to a record P of the log: it writes what was changed in memory when P was the last
// one, in sorted batches, and then says so in a record of its own, with the context as it was at P. The replica goes
// on meanwhile: what changes again stays in memory. Nothing is written before the log is durable up to P, so the tree
// never has what the log may lose. In a power failure the tree loses its newest batches alone, so where the
// checkpoint's record is all of it is. Opening carries the records behind P out again, over whatever the tree has.
//
// There are exceptions to the order of keys. A clear's record comes before the cells that it hides change, and goes when
// they are gone. A cell's index entries are written with it, so that the tree always has both or neither: a cell that is
// swept leaves it without a record in the log that would say so again.

// How checkpoints are paced.
const (
	checkpointItems = 1024        // records that one step writes
	checkpointBytes = 512 << 10   // and about how many bytes
	checkpointEvery = time.Minute // one begins so long after the last, if there is something to be written
	agesEvery       = time.Minute // between two looks at the age of the log's oldest record

	dirtyShare  = 2         // of Config.MaxDirty: one begins
	logShare    = 8         // of Config.MaxLogBytes behind the last one: likewise
	maxBehind   = 32 << 20  // bytes of the log behind the last one: likewise
	maxLogSlack = 512 << 10 // see logSlack
)

// checkpoint is the record behind which the log is carried out again, and what the log would otherwise have to be
// read for.
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
	log     index // without recent
}

// reach is how far a checkpoint comes: to a record of the log, and to where the one behind it stands.
type reach struct {
	lsn  uint64
	next store.Position
}

// saving is a checkpoint under way.
type saving struct {
	reach
	record []byte
	items  *overlay // as they were at its beginning
	pass   int
	from   string // the key to go on with
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
	{0, prefixLeaf, true, true},
	{prefixLeaf + 1, prefixClear, true, true}, // the index of leaves goes with the cells
	{prefixClear, prefixClear + 1, false, true},
	{prefixSeen, prefixSeen + 1, false, true},
}

// freeze begins a checkpoint.
func (r *Replica) freeze(now time.Time) {
	c := r.checkpoint()
	r.saving = &saving{reach: c.reach, record: c.encode(r.writeOwn), items: r.table.dirty.Copy()}
	r.saves = now.Add(checkpointEvery)
	r.saveCost = max(r.saveCost, len(r.saving.record))
	r.ownFell = false
	if len(r.wanted) > 0 && r.flip == nil { // what is staged is in no backup
		r.saving.wanted, r.wanted = r.wanted, nil
		r.saving.backup = r.backup(c)
	}
}

// checkpoint returns the record of the present context and log.
func (r *Replica) checkpoint() *checkpoint {
	c := &checkpoint{
		reach: reach{r.log.last, r.logEnd()}, seen: r.short, heads: r.heads, tables: len(r.bases.Tables()),
		time: r.clock.Last(),
		flip: r.flip, log: r.log,
	}
	c.root, c.settled = r.settledRoot()
	return c
}

// settledRoot returns the fingerprint of the stored cells, and whether that is what their context stands for.
func (r *Replica) settledRoot() (root antientropy.Fingerprint, settled bool) {
	if !r.opening.loaded {
		return r.opening.root, r.opening.settled
	}
	return r.tree.Root(), r.clears.count == 0 && r.flip == nil
}

// saveDue reports whether it is time for a checkpoint.
func (r *Replica) saveDue(now time.Time) bool {
	switch {
	case len(r.wanted) > 0, r.ownFell:
		return true
	case r.log.last == r.saved.lsn && r.table.dirty.Len() == 0:
		return r.lag() >= r.behind() && r.lag() > 0 // others write, and the log is not to be held back
	}
	return r.table.bytes >= r.cfg.MaxDirty/dirtyShare || r.lag() >= r.behind() || !now.Before(r.saves)
}

// lag returns how far the log goes on behind the last checkpoint.
func (r *Replica) lag() int64 { return int64(r.logEnd() - r.saved.next) }

// behind returns how far the log may go on behind a checkpoint until the next one begins. From twice as far commits
// do a part of its work.
func (r *Replica) behind() int64 { return min(maxBehind, r.cfg.MaxLogBytes/logShare) }

// saveSome has a part of the checkpoint under way written. The log must be durable up to it by then.
func (r *Replica) saveSome() (err error) {
	c := r.saving
	w := treeWriter{r: r, batch: &store.Batch{}, began: r.work}
	for !w.full && c.pass < len(passes) {
		p := passes[c.pass]
		c.items.Ascend(max(c.from, string(p.from)), func(key string, it *item) bool {
			if key[0] >= p.end || w.full {
				return false
			}
			c.from = key + "\x00"
			if r.derives.has([]byte(key)) {
				return true
			}
			if gone := it.gone(); gone && p.dels || !gone && p.sets {
				err = w.item(it)
			}
			return err == nil
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
	last := &store.Batch{}
	last.Set(keyCheckpoint, c.record)
	r.writeBatch(last, func(*Write) { r.checkpointed(c) })
	return nil
}

// checkpointed takes note that a checkpoint is in the tree.
func (r *Replica) checkpointed(c *saving) {
	r.saved, r.saving = c.reach, nil
	r.checkpoints++
	r.table.written(nil, r.st.Snapshot())
	r.unpublished = true
	for _, fn := range c.wanted {
		m := *c.backup
		m.snap = r.st.Snapshot()
		fn(&m)
	}
}

// treeWriter writes items to the tree.
type treeWriter struct {
	r     *Replica
	batch *store.Batch
	items []*item // that are in it, or in those before it
	began int     // Replica.work at its beginning
	full  bool    // the step has done enough
}

// item writes one record, with what belongs to it: what it names before it, what it named with it.
func (w *treeWriter) item(it *item) error {
	key := []byte(it.key)
	last := w.r.work
	for _, d := range it.fresh {
		i, _ := it.cell.Find(d)
		w.blob(it.cell[i])
	}
	var ops []store.Op
	switch {
	case it.gone():
		ops = append(ops, store.Op{Key: key, Delete: true})
	case it.address == "":
		ops = append(ops, store.Op{Key: key, Value: it.value})
	}
	if it.address != "" {
		var err error
		if ops, err = w.cell(it, ops); err != nil {
			return err
		}
	}
	for _, e := range it.index {
		ops = append(ops, store.Op{Key: []byte(e.key), Value: e.value, Delete: e.gone()})
	}
	for _, d := range it.dead {
		for i := range d.pieces {
			ops = append(ops, store.Op{Key: blobKey(d.dot, i), Delete: true})
		}
	}
	together := &store.Batch{}
	for _, op := range ops {
		if op.Delete {
			together.Delete(op.Key)
		} else {
			together.Set(op.Key, op.Value)
		}
	}
	w.room(together.Len(), together.Bytes())
	w.batch.Append(together)
	w.items = append(append(w.items, it), it.index...)
	w.r.spend(workCut + workOf(together.Bytes()))
	w.r.transacted(last)
	w.full = len(w.items) >= w.r.perBatch() || w.batch.Bytes() >= checkpointBytes ||
		w.r.spentSince(w.began)
	return nil
}

// cell writes the parts of a cell, and adds its own record to what is written last.
func (w *treeWriter) cell(it *item, last []store.Op) ([]store.Op, error) {
	key := []byte(it.key)
	var old parts
	if it.split {
		snap := w.r.st.Snapshot()
		defer snap.Close()
		var err error
		if old, err = partsOf(snap, key); err != nil {
			return nil, err
		}
	}
	if len(it.cell) > 0 {
		record, more := encodeCell(key, it.address, it.cell, old.generation+1)
		for i, part := range more {
			w.set(partKey(key, old.generation+1, i), part)
		}
		last = append(last, store.Op{Key: key, Value: record})
	}
	for i := range old.count {
		last = append(last, store.Op{Key: partKey(key, old.generation, i), Delete: true})
	}
	return last, nil
}

// blob writes a large payload, piece by piece.
func (w *treeWriter) blob(e dotted.Entry) {
	n := 0
	for piece := range slices.Chunk(e.Payload, maxPiece) {
		key := blobKey(e.Dot, n)
		w.set(key, sealBlob(key, piece))
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
	if w.batch.Len()+ops > w.r.cfg.MaxBatch || w.batch.Bytes()+bytes > store.MaxBatchBytes {
		w.commit(nil)
	}
}

func (w *treeWriter) commit(then func(*Write)) {
	if w.batch.Len() > 0 {
		w.r.writeBatch(w.batch, then)
		w.batch = &store.Batch{}
	}
}

// flush has what is left written, and then takes what was written out of memory.
func (w *treeWriter) flush() {
	w.commit(func(*Write) {
		w.r.table.written(w.items, w.r.st.Snapshot())
		w.r.unpublished = true
	})
}

// pressed reports whether so much waits for a checkpoint that no more may be committed before a part of it is written.
func (r *Replica) pressed() bool { return r.table.bytes > r.cfg.MaxDirty }

// Unwritten returns how many bytes of memory what waits for a checkpoint takes. While that is more than Config.MaxDirty
// no step adds to it.
func (r *Replica) Unwritten() int64 { return r.table.bytes }

// logSlack is by how many bytes the log may outgrow Config.MaxLogBytes before a commit cuts it.
func (r *Replica) logSlack() int64 {
	return max(min(maxLogSlack, r.cfg.MaxLogBytes/8), 2*int64(r.saveCost)) + int64(r.markEvery())
}

// LogBound returns how large the log may be, in bytes, after a commit and after maintain, unless that says that
// there is more to do. Newest records that are larger stay.
func (r *Replica) LogBound() int64 {
	bound := r.cfg.MaxLogBytes + r.logSlack()
	if n := len(r.log.marks); n > 0 {
		bound = max(bound, int64(r.logEnd()-r.log.marks[n-1].at))
	}
	return bound
}

// maintain does some of what goes on beside the writes: checkpoints, and cutting the log. It does no more work than a
// step may, and reports whether there is more: then it is to be called again soon. See Syncing.
func (r *Replica) maintain(now time.Time) (more bool, err error) {
	r.wall = now
	if r.damage != nil {
		return false, nil
	}
	if r.saving == nil && r.saveDue(now) {
		r.freeze(now)
	}
	if r.saving == nil {
		r.cutLog(now)
		return false, nil
	}
	if r.logs.Synced() < r.saving.next {
		return false, nil
	}
	return true, r.saveSome()
}

// late reports whether so much waits for a checkpoint, or is in the log, that it must be written first: then pace is to
// be called before anything more is committed.
func (r *Replica) late() bool {
	if r.damage != nil || r.log.located < r.log.last {
		return false
	}
	return r.pressed() || r.saving != nil && r.lag() > 2*r.behind() || r.tooLong() && r.durable.lsn < r.log.last
}

// tooLong reports whether the log is longer than it may be.
func (r *Replica) tooLong() bool { return r.LogBytes() > r.cfg.MaxLogBytes+r.logSlack() }

// pace does a step of that.
func (r *Replica) pace(now time.Time) error {
	if r.pressed() || r.saving != nil && r.lag() > 2*r.behind() {
		return r.saveNow(now)
	}
	if r.cutLog(now); r.tooLong() {
		r.then(r.saveAll(now))
	}
	return nil
}

// saveNow writes some of a checkpoint, which is begun if there is none, behind the log up to it.
func (r *Replica) saveNow(now time.Time) error {
	if r.saving == nil {
		r.freeze(now)
	}
	if r.logs.Synced() < r.saving.next {
		r.write(Write{SyncLog: true})
	}
	return r.saveSome()
}

// save returns a task: a checkpoint of all that is here, also if nothing changed but what others are known to have, which
// survives a power failure. It is the last thing to do before closing.
func (r *Replica) save(now time.Time) task {
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
func (r *Replica) saveAll(now time.Time) task {
	begun := false
	return func() (done bool, err error) {
		if r.saving == nil && !begun {
			begun = true
			if r.log.last > r.saved.lsn || r.table.dirty.Len() > 0 || r.ownFell || len(r.wanted) > 0 {
				r.freeze(now)
			}
		}
		if r.saving != nil {
			return false, r.saveNow(now)
		}
		if r.checkpoints != r.durables {
			saved, count := r.saved, r.checkpoints
			r.write(Write{SyncTree: true, then: func(*Write) {
				r.durable, r.durables = saved, count
				r.ages = time.Time{} // there may be something to be cut
			}})
			return false, nil
		}
		r.cutLog(now)
		return true, nil
	}
}

// cutLog gives up the beginning of the log where its bounds no longer admit it and a durable checkpoint is behind it.
func (r *Replica) cutLog(now time.Time) {
	large := r.LogBytes() > r.cfg.MaxLogBytes || r.log.runs() > maxRuns
	if !large && now.Before(r.ages) {
		return
	}
	r.ages = now.Add(agesEvery)
	if m, cut := r.log.due(r.durable.lsn+1, r.logEnd(), r.cfg.MaxLogBytes, now.Add(-r.cfg.MaxLogAge)); cut {
		r.log.dropBefore(m.lsn)
	}
	if !r.rebuilding { // what was put aside stands before it
		r.dropLog()
	}
}

// dropLog gives the space back of what the log no longer serves and no checkpoint needs.
func (r *Replica) dropLog() {
	at := r.durable.next
	if len(r.log.marks) > 0 {
		at = min(at, r.log.marks[0].at)
	}
	if at > max(r.logs.First(), r.dropped) {
		r.dropped = at
		r.write(Write{Drop: at})
	}
}

// Syncing is a sync to be done: of the log, and of the tree if a checkpoint was written there. It goes on beside the
// replica, which is then told by Synced.
type Syncing struct {
	Tree bool // must be synced, after the log

	saved       reach
	checkpoints int
}

// needsSync reports whether the replica waits for a sync, whatever durability its writers want.
func (r *Replica) needsSync() bool {
	return r.saving != nil && r.logs.Synced() < r.saving.next || r.checkpoints != r.durables
}

// beginSync begins a sync of all that was written before.
func (r *Replica) beginSync() Syncing {
	return Syncing{Tree: r.checkpoints != r.durables, saved: r.saved, checkpoints: r.checkpoints}
}

// Run syncs. An error is final. It may be called by any goroutine.
func (s Syncing) Run(tree store.Store, log store.Log) error {
	if err := log.Sync(); err != nil || !s.Tree {
		return err
	}
	return tree.Sync()
}

// Synced takes note of a sync that ended well.
func (r *Replica) Synced(s Syncing) {
	if s.Tree && s.checkpoints > r.durables { // else what it is about was discarded, or is known
		r.durable, r.durables = s.saved, s.checkpoints
		r.ages = time.Time{} // there may be something to be cut
	}
}

// Durable returns up to where the checkpoint in a store says that the log is durable: store/segment wants to know.
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
	return wire.Seal(formatVersion, keyCheckpoint, wire.Encode(func(w *wire.Writer) {
		w.Array(10)
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
		c.log.write(w)
	}))
}

// decodeCheckpoint reads a checkpoint, and its context with the bases that are stored: not those that are newer.
func decodeCheckpoint(record []byte, bases *delta.Bases) (*checkpoint, error) {
	body, err := unseal(keyCheckpoint, record)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{}
	var bad error
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(10)
		c.lsn, c.next = r.Uint(), store.Position(r.Uint())
		c.own = readOwn(r)
		c.seen, c.heads = delta.ReadContext(r)
		if c.tables = int(r.Uint()); c.tables > len(bases.Tables()) {
			r.Fail("a context that is read with %d tables of bases, and %d are here", c.tables, len(bases.Tables()))
			return
		}
		c.seen, c.heads = bases.First(c.tables).Expand(c.seen, c.heads)
		c.time = dotted.Time(r.Uint())
		c.settled = r.Bool()
		c.root = antientropy.ReadFingerprint(r)
		if f := r.Bytes(len(body)); len(f) > 0 {
			c.flip = &flip{}
			bad = wire.Decode(f, func(r *wire.Reader) { *c.flip = readFlip(r, len(f)) })
		}
		c.log = readIndex(r, len(body))
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", damaged(keyCheckpoint, err))
	}
	c.log.last, c.log.located, c.log.next = c.lsn, c.lsn, c.next
	return c, nil
}

func (x *index) write(w *wire.Writer) {
	w.Array(4)
	w.Uint(x.first)
	w.Uint(uint64(x.newest.UnixMilli()))
	w.Array(3 * len(x.marks))
	for _, m := range x.marks {
		w.Uint(m.lsn)
		w.Uint(uint64(m.at))
		w.Uint(uint64(m.time.UnixMilli()))
	}
	ids := slices.Sorted(maps.Keys(x.cover))
	w.Array(2 * len(ids))
	for _, id := range ids {
		w.Uint(uint64(id))
		w.Array(3 * len(x.cover[id]))
		for _, r := range x.cover[id] {
			w.Uint(r.first)
			w.Uint(r.last)
			w.Uint(r.lsn)
		}
	}
}

func readIndex(r *wire.Reader, limit int) index {
	x := newIndex()
	r.Array(4)
	x.first, x.newest = r.Uint(), time.UnixMilli(int64(r.Uint()))
	n := r.Array(limit) / 3
	for i := 0; i < n && r.Err() == nil; i++ {
		x.marks = append(x.marks, mark{r.Uint(), store.Position(r.Uint()), time.UnixMilli(int64(r.Uint()))})
	}
	ids := r.Array(limit) / 2
	for i := 0; i < ids && r.Err() == nil; i++ {
		id := crdt.ReplicaID(r.Uint())
		runs := r.Array(limit) / 3
		for j := 0; j < runs && r.Err() == nil; j++ {
			x.cover[id] = append(x.cover[id], run{r.Uint(), r.Uint(), r.Uint()})
		}
	}
	return x
}
