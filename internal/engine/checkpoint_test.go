package engine

import (
	"slices"
	"testing"

	"github.com/peerd/peerd/gossip"
)

// TestABackupIsNotTakenInTheMiddleOfARepair has one wanted while checkpoints follow each other, as
// the repair has more than may wait for one. What it staged is in no backup.
func TestABackupIsNotTakenInTheMiddleOfARepair(t *testing.T) {
	w, b, p := fetchedRepair(t)
	b.engine.cfg.MaxBatch, b.engine.cfg.MaxDirty = 10, 2000
	b.takesOver(t, p)
	var taken *Moment
	must(t, b.engine.Backup(func(m *Moment) { taken = m }))
	must(t, b.engine.carry())
	must(t, b.engine.Save(w.now))
	if taken == nil {
		t.Fatal("there is no backup")
	}
	defer taken.Close()
	c := &host{i: 2, disk: newDisk()}
	must(t, taken.Scan(func(key, value []byte) bool {
		write(t, c.disk, slices.Clone(key), slices.Clone(value))
		return true
	}))
	w.open(t, c)
	w.check(t, c)
}

// TestARebuildDoesNotSyncWithoutEnd lets a discarded replica write a checkpoint, and syncs as a host does.
func TestARebuildDoesNotSyncWithoutEnd(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	h := w.hosts[0]
	w.write(t, h, counted(1))
	w.settle(t)
	w.discarded(t, h)
	w.cut(0, 1)
	w.writeAlone(t, h, counted(1))
	w.now = w.now.Add(2 * checkpointEvery)
	for i := 0; w.round(t, h); i++ {
		if i > 100 {
			t.Fatal("it still wants to be synced")
		}
	}
	if !h.engine.Rebuilding() {
		t.Fatal("it is rebuilt")
	}
}

// TestWhatIsNotKnownAnyMoreIsStoredByTheNextCheckpoint forgets what a host is known to have while one is under way.
func TestWhatIsNotKnownAnyMoreIsStoredByTheNextCheckpoint(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	w.write(t, w.hosts[0], counted(1))
	r.freeze(w.now)
	r.across[gossip.NeighbourID("other")] = true
	r.Forget("other")
	must(t, r.Save(w.now))
	if r.ownFell || r.checkpoints != 2 || r.durables != 2 {
		t.Errorf("%d checkpoints were written and %d synced, want 2 (due: %v)", r.checkpoints, r.durables, r.ownFell)
	}
}

// TestASyncIsOfWhatWasWrittenBeforeIt has a checkpoint be written while a sync of the one before is
// under way. The log is cut behind the first alone, which is what a power failure leaves.
func TestASyncIsOfWhatWasWrittenBeforeIt(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1000})
	h := w.hosts[0]
	e := h.engine
	checkpoint := func(values ...string) {
		t.Helper()
		for _, v := range values {
			w.writeAlone(t, h, put(v))
		}
		must(t, h.disk.log.Sync())
		for e.freeze(w.now); e.saving != nil; {
			must(t, e.saveSome())
			must(t, e.carry())
		}
	}
	checkpoint("first")
	s := e.beginSync()
	must(t, s.Run(h.disk, h.disk.log))
	checkpoint("second", "third")
	e.SyncEnded(s)
	e.SetLimits(0, 1, 0)
	e.cutLog(w.now)
	must(t, e.carry())
	h.disk = h.disk.Crash()
	w.open(t, h)
	if why := h.engine.Damaged(); why != nil {
		t.Errorf("it is damaged: %v", why)
	}
	w.wantEach(t, "0 [] [third]")
}
