package engine

import (
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/space"
)

// medium is what a replica is opened on: a tree, and a log beside it.
type medium interface {
	store.Store
	journal() store.Log
}

// disk is what a host keeps.
type disk struct {
	*mem.Store
	log    *mem.Log
	shared bool // with another space, whose records stand between the replica's
}

func newDisk() *disk { return &disk{mem.New(), mem.NewLog(), false} }

func (d *disk) journal() store.Log { return d.log }

// Crash returns what is found after a power failure that took all that was not synced.
func (d *disk) Crash() *disk { return &disk{d.Store.Crash(), d.log.Crash(0), d.shared} }

// Clone returns what is found after the process was killed.
func (d *disk) Clone() *disk { return &disk{d.Store.Clone(), d.log.Clone(), d.shared} }

// openAt is Open.
func openAt(m medium, cfg Config) (*replica, error) {
	if d, ok := m.(*disk); ok && d.shared {
		return open(d.tree(), newBusyLog(d.log), cfg)
	}
	return open(m, m.journal(), cfg)
}

// tree returns the replica's part of the store.
func (d *disk) tree() store.Store {
	if d.shared {
		return space.NewTree(d.Store, 7)
	}
	return d.Store
}

// busyLog is a space's part of a log that another space writes to as often.
type busyLog struct {
	store.Log
	beside store.Log
	n      int
}

func newBusyLog(whole store.Log) *busyLog {
	c := space.NewCommitter(whole)
	return &busyLog{Log: c.Log(7, 0), beside: c.Log(8, 0)}
}

// Append implements store.Log.
func (l *busyLog) Append(records ...[]byte) (first, next store.Position, err error) {
	l.n++
	if _, _, err = l.beside.Append(make([]byte, l.n*31%100)); err == nil {
		err = l.beside.DropBefore(l.beside.Next())
	}
	if err != nil {
		return 0, 0, err
	}
	return l.Log.Append(records...)
}

// takeMoment returns the present moment for a backup.
func (r *replica) takeMoment(now time.Time) (m *Moment, err error) {
	if err = r.Backup(func(taken *Moment) { m = taken }); err != nil {
		return nil, err
	}
	return m, r.Save(now)
}

// spoil changes the records of a host's tree under it, once all are there.
func (h *host) spoil(t *testing.T, change func(*store.Batch)) {
	t.Helper()
	r := h.engine.replica
	if err := r.Save(r.clock.Last().Wall()); err != nil {
		t.Fatal(err)
	}
	rot := &store.Batch{}
	change(rot)
	if err := h.disk.Commit(rot, true); err != nil {
		t.Fatal(err)
	}
	r.table.Rebase(h.disk.Snapshot())
	r.publish()
}

// spoilLog changes a record of a host's log under it, once the tree has all.
func (h *host) spoilLog(t *testing.T, lsn uint64) {
	t.Helper()
	r := h.engine.replica
	if err := r.Save(r.clock.Last().Wall()); err != nil {
		t.Fatal(err)
	}
	h.rotLog(t, lsn)
}

// rotLog changes a record of a host's log under it.
func (h *host) rotLog(t *testing.T, lsn uint64) {
	t.Helper()
	found := false
	err := scanLog(h.disk.log, h.disk.log.First(), lsn, func(rec logged, at store.Position) bool {
		found = rec.lsn == lsn && h.disk.log.Flip(at)
		return false
	})
	if err != nil || !found {
		t.Fatalf("record %d of the log is not there (%v)", lsn, err)
	}
}

// cutLog removes the oldest records of a host's log.
func (h *host) cutLog(t *testing.T, records int) {
	t.Helper()
	r := h.engine.replica
	if err := r.Save(r.clock.Last().Wall()); err != nil {
		t.Fatal(err)
	}
	r.log.DropBefore(r.log.First + uint64(records))
	err := scanLog(r.logs, r.logs.First(), r.log.First, func(_ logged, at store.Position) bool {
		if err := h.disk.log.DropBefore(at); err != nil {
			t.Fatal(err)
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
}

func openOn(t testing.TB, m medium, id crdt.ReplicaID) *replica {
	t.Helper()
	r, err := openAt(m, Config{NewID: func() crdt.ReplicaID { id++; return id - 1 }})
	if err == nil {
		err = r.Damaged()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}
