package sim

import (
	"errors"
	"time"

	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

// Errors that a simulated disk returns.
var (
	errDied   = errors.New("the process died")
	errFull   = errors.New("no space left on device")
	errScarce = errors.New("little space is left on device")
	errRead   = errors.New("input/output error")
	errFsync  = errors.New("fsync failed")
)

// numbers are how many spaces a disk may ever have.
const numbers = 256

// scars are the changes to what a disk has of one space that nobody made.
type scars struct {
	rotten  bool // a record was changed
	rotLog  bool // one of the log, too
	scarred bool // a record was changed once
}

// disk is a machine's data directory: a tree and a log. It keeps apart what the process wrote and what would survive a
// power failure; of the log itself does.
type disk struct {
	log     *mem.Log
	written *mem.Store
	durable *mem.Store
	tail    []*store.Batch // commits that are written and not durable
	before  int            // how many came before them
	highest time.Time      // that the clock of a process on it ever showed
	scars   [numbers]scars // of each space, by its number
	verdict verdict        // of the clock that the process on it goes by

	// Faults.
	dieIn    int  // commits, and records of the log, until the process dies; negative: it lives
	dieAfter bool // that commit is written first
	full     bool
	fsyncs   bool // the next sync fails
	readsIn  int  // reads until one fails; negative: none does
}

func newDisk() *disk {
	return &disk{log: mem.NewLog(), written: mem.New(), durable: mem.New(), dieIn: -1, readsIn: -1}
}

// clone returns a copy of the directory as a backup program makes it: all of it durable.
func (d *disk) clone() *disk {
	c := newDisk()
	c.log, c.written, c.durable = d.log.Clone(), d.written.Clone(), d.written.Clone()
	c.highest, c.scars, c.verdict = d.highest, d.scars, d.verdict
	c.verdict.sure, c.verdict.follow = false, false // it may come to a machine with another clock
	return c
}

// persist makes all that is written durable.
func (d *disk) persist() {
	d.before += len(d.tail)
	d.durable, d.tail = d.written.Clone(), nil
}

// powerFails leaves what was durable, and the first commits and records behind it.
func (d *disk) powerFails(keep int, keepLog int64) {
	d.log = d.log.Crash(keepLog)
	left := d.durable.Clone()
	for _, b := range d.tail[:keep] {
		if err := left.Commit(b, false); err != nil {
			panic(err) // it took them before
		}
	}
	d.before += len(d.tail)
	d.written, d.durable, d.tail = left, left.Clone(), nil
}

// heal ends the faults that go away by themselves.
func (d *disk) heal() {
	d.dieIn, d.dieAfter, d.full, d.fsyncs, d.readsIn = -1, false, false, false, -1
}

// volume is a disk as one process has it open. It implements store.Store, and its journal store.Log.
type volume struct {
	d    *disk
	dead bool
}

// Snapshot implements store.Store.
func (v *volume) Snapshot() store.Snapshot {
	s := v.d.written.Snapshot()
	if v.d.readsIn < 0 && !v.dead {
		return s
	}
	return &faultySnapshot{s, v}
}

// Commit implements store.Store.
func (v *volume) Commit(b *store.Batch, sync bool) error {
	if b.Len() == 0 {
		return nil
	}
	err := v.write(func() error {
		err := v.d.written.Commit(b, false)
		v.d.tail = append(v.d.tail, keep(b))
		return err
	})
	if err != nil || !sync {
		return err
	}
	return v.Sync()
}

// keep returns a copy of a batch, whose owner may use the memory of its keys again.
func keep(b *store.Batch) *store.Batch {
	kept := &store.Batch{Ops: make([]store.Op, 0, b.Len())}
	kept.AppendUnder(nil, b, nil)
	return kept
}

// write writes something, unless the process dies before.
func (v *volume) write(fn func() error) error {
	d := v.d
	switch {
	case v.dead:
		return errDied
	case d.dieIn == 0 && !d.dieAfter:
		v.dead = true
		return errDied
	case d.full:
		return errFull
	}
	if err := fn(); err != nil {
		return err
	}
	switch {
	case d.dieIn == 0:
		v.dead = true
		return errDied
	case d.dieIn > 0:
		d.dieIn--
	}
	return nil
}

func (v *volume) mayRead() error {
	switch {
	case v.dead:
		return errDied
	case v.d.readsIn == 0:
		return errRead
	case v.d.readsIn > 0:
		v.d.readsIn--
	}
	return nil
}

// journal is the log of a volume.
type journal struct {
	*mem.Log
	v *volume
}

func (v *volume) journal() store.Log { return &journal{v.d.log, v} }

// Append implements store.Log.
func (j *journal) Append(records ...[]byte) (first, next store.Position, err error) {
	err = j.v.write(func() (err error) {
		first, next, err = j.Log.Append(records...)
		return err
	})
	return first, next, err
}

// Sync implements store.Log.
func (j *journal) Sync() error {
	switch {
	case j.v.dead:
		return errDied
	case j.v.d.fsyncs:
		return errFsync
	}
	return j.Log.Sync()
}

// DropBefore implements store.Log.
func (j *journal) DropBefore(p store.Position) error {
	if j.v.dead {
		return errDied
	}
	return j.Log.DropBefore(p)
}

// Read implements store.Log.
func (j *journal) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	if err := j.v.mayRead(); err != nil {
		return nil, err
	}
	return j.Log.Read(from, buffer)
}

// Close implements store.Log.
func (j *journal) Close() error { return nil }

// Sync implements store.Store.
func (v *volume) Sync() error {
	switch {
	case v.dead:
		return errDied
	case v.d.fsyncs:
		return errFsync
	}
	v.d.persist()
	return nil
}

// Size implements store.Store.
func (v *volume) Size() int64 { return v.d.written.Size() }

// Close implements store.Store.
func (v *volume) Close() error { return nil }

// faultySnapshot fails one read.
type faultySnapshot struct {
	store.Snapshot
	v *volume
}

func (s *faultySnapshot) Get(key []byte) ([]byte, bool, error) {
	if err := s.v.mayRead(); err != nil {
		return nil, false, err
	}
	return s.Snapshot.Get(key)
}

func (s *faultySnapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	if err := s.v.mayRead(); err != nil {
		return err
	}
	return s.Snapshot.Scan(start, end, fn)
}

func (s *faultySnapshot) ScanKeys(start, end []byte, fn func(key []byte) bool) error {
	if err := s.v.mayRead(); err != nil {
		return err
	}
	return s.Snapshot.ScanKeys(start, end, fn)
}

// syncing is a sync under way: what was written when it began.
type syncing struct {
	of      engine.Syncing
	log     store.Position
	written *mem.Store
	commits int // in all
}

func (d *disk) beginSync(of engine.Syncing) syncing {
	return syncing{of, d.log.Next(), d.written.Clone(), d.before + len(d.tail)}
}

// endSync makes durable what was written when the sync began, unless more is durable already.
func (d *disk) endSync(s syncing) {
	d.log.SyncTo(s.log)
	if n := s.commits - d.before; n > 0 {
		d.durable, d.tail, d.before = s.written, d.tail[n:], s.commits
	}
}
