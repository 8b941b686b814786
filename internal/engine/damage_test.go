package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

func TestDamagedHostsDoNotCountOnEachOther(t *testing.T) {
	w := newWorld(t, 6, worldConfig{hosts: 2, maxLog: 2000})
	a := w.hosts[0]
	w.connect(0, 1)
	for i := range 200 {
		w.write(t, a, func(f crdt.Fields) error { return f.String(fmt.Sprint("k", i)).Set(make([]byte, 200)) })
		w.settle(t)
	}
	w.cut(0, 1)
	for n, h := range w.hosts {
		h.spoil(t, func(rot *store.Batch) {
			rot.Delete(place(prefixCell, dotted.KeyAddress(fmt.Sprint("k", n)).Type(crdt.TypeString)))
		})
		w.open(t, h)
		if h.engine.Damaged() == nil {
			t.Fatal("not noticed")
		}
	}
	w.connect(0, 1)
	w.pump(t, 0, 1)
	w.pump(t, 1, 0)
	w.deliver(t, 0, 1)
	w.deliver(t, 1, 0)
	for i, h := range w.hosts {
		if h.engine.Whole(name(1 - i)) {
			t.Errorf("host %d takes a damaged neighbour for whole", h.i)
		}
	}
}

func TestARebuildRemovesARottenMark(t *testing.T) {
	w := newWorld(t, 7, worldConfig{hosts: 2})
	a := w.hosts[0]
	w.write(t, a, func(f crdt.Fields) error { return f.String("k").Set([]byte("x")) })
	mark := &store.Batch{}
	mark.Set(keyRebuild, []byte("rotten"))
	if err := a.disk.Commit(mark, true); err != nil {
		t.Fatal(err)
	}
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Fatal("not noticed")
	}
	if err := a.engine.Discard(); err != nil {
		t.Fatal(err)
	}
	w.connect(0, 1)
	w.heal(t)
	w.cut(0, 1)
	for i := range 2 {
		w.open(t, a)
		if why := a.engine.Damaged(); why != nil || a.engine.Rebuilding() {
			t.Errorf("open %d after the rebuild: damaged: %v, rebuilding: %v", i, why, a.engine.Rebuilding())
		}
	}
}

func TestARottenLogRecordIsLeftOut(t *testing.T) {
	w := newWorld(t, 9, worldConfig{hosts: 2})
	a := w.hosts[0]
	for i := range 5 {
		w.write(t, a, func(f crdt.Fields) error { return f.String(fmt.Sprint(i)).Set([]byte("x")) })
	}
	if err := a.engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoilLog(t, 2)
	for i := range 2 {
		w.cut(0, 1)
		w.open(t, a)
		w.connect(0, 1)
		for range 3 {
			w.pump(t, 1, 0)
			w.deliver(t, 1, 0)
			if f, err := a.engine.Next(name(1)); err != nil {
				t.Fatalf("start %d: %v", i, err)
			} else if f != nil {
				w.links[[2]int{0, 1}].frames = append(w.links[[2]int{0, 1}].frames, f)
				w.deliver(t, 0, 1)
			}
		}
	}
	w.settle(t)
	if w.done["repair"] == 0 {
		t.Error("nobody was repaired")
	}
}

func TestARottenIndexOfLeavesIsNoticed(t *testing.T) {
	w := newWorld(t, 9, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.write(t, a, func(f crdt.Fields) error { return f.String("7").Set([]byte("x")) })
	address := dotted.KeyAddress("7").Type(crdt.TypeString)
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(leafKey(antientropy.LeafOf(address), address))
	})
	pinned, err := a.engine.Pin()
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	if err := pinned.Verify(func() bool { return false }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("the check says: %v", err)
	}
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Error("not noticed at open")
	}
}

// TestARottenSummaryIsNoticed has the summary of a key broken, lost, and left from before, and one of a key that has none.
func TestARottenSummaryIsNoticed(t *testing.T) {
	key := place(prefixSummary, dotted.KeyAddress("7"))
	needless := place(prefixSummary, dotted.KeyAddress("6"))
	stale := func(key []byte, name string) []byte {
		return encodeSummary(key, name, dotted.Summary{Visible: dotted.Shapes{{Shape: "v", Count: 2}}}, 0)
	}
	for name, spoil := range map[string]func(*store.Batch){
		"broken": func(rot *store.Batch) { rot.Set(key, []byte("rot")) },
		"lost":   func(rot *store.Batch) { rot.Delete(key) },
		"stale":  func(rot *store.Batch) { rot.Set(key, stale(key, "7")) },
		"lone":   func(rot *store.Batch) { rot.Set(needless, stale(needless, "6")) },
	} {
		w := newWorld(t, 9, worldConfig{hosts: 1})
		a := w.hosts[0]
		for _, key := range []string{"6", "7", "8"} {
			w.write(t, a, func(f crdt.Fields) error { return f.String(key).Set([]byte("x")) })
		}
		w.write(t, a, added("7", "and more"))
		check := func() error {
			pinned, err := a.engine.Pin()
			if err != nil {
				t.Fatal(err)
			}
			defer pinned.Close()
			return pinned.Verify(func() bool { return false })
		}
		if err := check(); err != nil {
			t.Fatal(err)
		}
		a.spoil(t, spoil)
		if err := check(); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: the check says: %v", name, err)
		}
	}
}

// TestAHostThatCannotReadItsContextGivesNothingUp rots a checkpoint. The log before it is cut, and only this host has a
// write.
func TestAHostThatCannotReadItsContextGivesNothingUp(t *testing.T) {
	w := newWorld(t, 12, worldConfig{hosts: 2, maxLog: 500})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.connect(0, 1)
	w.settle(t)
	w.cut(0, 1)
	w.write(t, a, put("only here"))
	for i := range 20 {
		w.write(t, a, added("s", fmt.Sprint(i)))
	}
	if err := a.engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoil(t, func(rot *store.Batch) {
		rot.Set(keyCheckpoint, []byte("rot"))
	})
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.settle2(t, 0, 1)
	if a.engine.DiscardDue() {
		t.Error("it would discard what only it has")
	}
}

// TestALargeRepairThatMeetsRotHasAllCellsChecked: what it had staged is removed before there is a moment of rest, and
// that takes longer than a check waits for one.
func TestALargeRepairThatMeetsRotHasAllCellsChecked(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2, maxBatch: 100})
	a, b := w.hosts[0], w.hosts[1]
	at := func(key string) dotted.Address { return dotted.KeyAddress(key).Type(crdt.TypeString) }
	leaf := func(key string) int { return antientropy.LeafIndex(antientropy.LeafOf(at(key))) }
	others := map[int]bool{}
	w.write(t, a, func(f crdt.Fields) error {
		for i := range 5000 {
			key := fmt.Sprint(i)
			others[leaf(key)] = true
			if err := f.String(key).Set([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
	rotten := "rotten" // in a leaf of which the source has nothing: those are read last
	for others[leaf(rotten)] {
		rotten += "!"
	}
	w.write(t, b, func(f crdt.Fields) error { return f.String(rotten).Set([]byte("x")) })
	b.spoil(t, func(rot *store.Batch) { rot.Delete(place(prefixCell, at(rotten))) })
	p, source := b.engine.pulls(t, a.engine)
	err := b.engine.drive(p, source, 0, func() bool { return !p.fetched })
	if !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("the repair ends with %v", err)
	}
	b.engine.Fail(p, err)
	var check *Pinned
	for i := 0; i < 100 && check == nil; i++ {
		b.steps(t, 1, func(rd *Ready) { check = rd.Verify })
	}
	if check == nil {
		t.Fatal("no check begins: the next repair meets the same")
	}
	defer check.Close()
	if b.engine.Verified(check.Verify(func() bool { return false })); b.engine.Damaged() == nil {
		t.Error("it is not found to be damaged")
	}
}
