package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

// Errors that a simulated disk returns.
var (
	errDied  = errors.New("the process died")
	errFull  = errors.New("no space left on device")
	errRead  = errors.New("input/output error")
	errFsync = errors.New("fsync failed")
)

// disk is a host's data directory. It keeps apart what the process wrote and what would survive a power failure.
type disk struct {
	written  *mem.Store
	durable  *mem.Store
	tail     [][]store.Op // commits that are written and not durable
	persists int          // how often all that was written became durable

	highest time.Time // that the clock of a process on it ever showed
	rotten  bool      // a record was changed
	rotLog  bool      // one of the log, too
	scarred bool      // a record was changed once

	// Faults.
	dieIn    int  // commits until the process dies; negative: it lives
	dieAfter bool // that commit is written first
	full     bool
	fsyncs   bool // the next sync fails
	readsIn  int  // reads until one fails; negative: none does
}

func newDisk() *disk {
	return &disk{written: mem.New(), durable: mem.New(), dieIn: -1, readsIn: -1}
}

// clone returns a copy of the directory as a backup program makes it: all of it durable.
func (d *disk) clone() *disk {
	c := newDisk()
	c.written, c.durable = d.written.Clone(), d.written.Clone()
	c.highest, c.rotten, c.rotLog, c.scarred = d.highest, d.rotten, d.rotLog, d.scarred
	return c
}

// persist makes all that is written durable.
func (d *disk) persist() {
	d.durable, d.tail = d.written.Clone(), nil
	d.persists++
}

// powerFails leaves what was durable, and the first commits behind it.
func (d *disk) powerFails(keep int) {
	left := d.durable.Clone()
	for _, ops := range d.tail[:keep] {
		if err := left.Commit(&store.Batch{Ops: ops}, false); err != nil {
			panic(err) // it took them before
		}
	}
	d.written, d.durable, d.tail = left, left.Clone(), nil
	d.persists++
}

// heal ends the faults that go away by themselves.
func (d *disk) heal() {
	d.dieIn, d.dieAfter, d.full, d.fsyncs, d.readsIn = -1, false, false, false, -1
}

// volume is a disk as one process has it open. It implements store.Store.
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
	d := v.d
	switch {
	case v.dead:
		return errDied
	case d.dieIn == 0 && !d.dieAfter:
		v.dead = true
		return errDied
	case d.full && b.Len() > 0:
		return errFull
	}
	if err := d.written.Commit(b, false); err != nil {
		return err
	}
	d.tail = append(d.tail, slices.Clone(b.Ops))
	switch {
	case d.dieIn == 0:
		v.dead = true
		return errDied
	case d.dieIn > 0:
		d.dieIn--
	}
	if !sync {
		return nil
	}
	return v.Sync()
}

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

func (s *faultySnapshot) fault() error {
	if s.v.dead {
		return errDied
	}
	if s.v.d.readsIn == 0 {
		return errRead
	}
	if s.v.d.readsIn > 0 {
		s.v.d.readsIn--
	}
	return nil
}

func (s *faultySnapshot) Get(key []byte) ([]byte, bool, error) {
	if err := s.fault(); err != nil {
		return nil, false, err
	}
	return s.Snapshot.Get(key)
}

func (s *faultySnapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	if err := s.fault(); err != nil {
		return err
	}
	return s.Snapshot.Scan(start, end, fn)
}

func (s *faultySnapshot) ScanKeys(start, end []byte, fn func(key []byte) bool) error {
	if err := s.fault(); err != nil {
		return err
	}
	return s.Snapshot.ScanKeys(start, end, fn)
}

// syncing is a sync under way: what was written when it began.
type syncing struct {
	written *mem.Store
	commits int
	persist int
}

func (d *disk) beginSync() syncing {
	return syncing{d.written.Clone(), len(d.tail), d.persists}
}

// endSync makes durable what was written when the sync began, unless more is durable already.
func (d *disk) endSync(s syncing) {
	if s.persist == d.persists {
		d.durable, d.tail = s.written, d.tail[s.commits:]
		d.persists++
	}
}
