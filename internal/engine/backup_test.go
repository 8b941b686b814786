package engine

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
)

// TestAMomentIsRefusedWhereItWouldNotBeWhole asks for one in a group, and of a replica that rebuilds itself.
func TestAMomentIsRefusedWhereItWouldNotBeWhole(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	g := h.engine.newGroup(w.now)
	if err := g.update(func(tx *Tx) error { return counted(1)(Fields(tx)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.engine.takeMoment(w.now); !errors.Is(err, ErrBusy) {
		t.Errorf("in a group: %v", err)
	}
	w.commit(t, h, g)
	moment, err := h.engine.takeMoment(w.now)
	if err != nil {
		t.Fatal(err)
	}
	moment.Close()
	if err := h.engine.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.engine.takeMoment(w.now); !errors.Is(err, ErrBusy) {
		t.Errorf("of one that rebuilds itself: %v", err)
	}
}

// TestABackupIsRefusedWhereARecordRotted flips a bit in each record, one after the other, but for those of the
// index, which have a check of their own, and the checkpoint, which is replaced.
func TestABackupIsRefusedWhereARecordRotted(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, func(f crdt.Fields) error { return f.Register("large").Set(make([]byte, 2*maxInline)) })
	w.restart(t, h, "closes")
	rotted := 0
	snap := h.disk.Snapshot()
	defer snap.Close()
	err := snap.Scan(nil, nil, func(key, value []byte) bool {
		if !InBackup(key) || key[0] == prefixLeaf || bytes.Equal(key, keyCheckpoint) {
			return true
		}
		rot := &store.Batch{}
		bad := slices.Clone(value)
		bad[len(bad)/2] ^= 1
		rot.Set(slices.Clone(key), bad)
		disk := h.disk.Clone()
		if err := disk.Commit(rot, true); err != nil {
			t.Fatal(err)
		}
		m := &Moment{snap: disk.Snapshot(), derives: &h.engine.derives}
		defer m.Close()
		if err := m.Scan(func(_, _ []byte) bool { return true }); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("record %q: %v", shown(key), err)
		}
		rotted++
		return true
	})
	if err != nil || rotted < 3 {
		t.Errorf("%d records looked at (%v)", rotted, err)
	}
}
