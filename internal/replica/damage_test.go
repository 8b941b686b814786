package replica

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
)

// spoil changes the records on a host's disk under it.
func (h *host) spoil(t *testing.T, change func(*store.Batch)) {
	t.Helper()
	rot := &store.Batch{}
	change(rot)
	if err := h.disk.Commit(rot, true); err != nil {
		t.Fatal(err)
	}
}

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
			rot.Delete(place(prefixCell, crdt.KeyAddress(fmt.Sprint("k", n)).Type(crdt.TypeValue)))
		})
		w.open(t, h, false)
		if h.node.Damaged() == nil {
			t.Fatal("not noticed")
		}
	}
	w.connect(0, 1)
	w.pump(t, 0, 1)
	w.pump(t, 1, 0)
	w.deliver(t, 0, 1)
	w.deliver(t, 1, 0)
	for i, h := range w.hosts {
		if h.node.Whole(name(1 - i)) {
			t.Errorf("host %d takes a damaged neighbour for whole", h.i)
		}
	}
}

func TestARebuildRemovesARottenMark(t *testing.T) {
	w := newWorld(t, 7, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.write(t, a, func(f crdt.Fields) error { return f.String("k").Set([]byte("x")) })
	mark := &store.Batch{}
	mark.Set(keyLarge, []byte("rotten"))
	if err := a.disk.Commit(mark, true); err != nil {
		t.Fatal(err)
	}
	w.open(t, a, false)
	if a.node.Damaged() == nil {
		t.Fatal("not noticed")
	}
	if err := a.node.Discard(); err != nil {
		t.Fatal(err)
	}
	if done, err := a.node.Reapply(w.now); !done || err != nil {
		t.Fatal(done, err)
	}
	for i := range 2 {
		w.open(t, a, false)
		if a.node.Damaged() != nil {
			t.Errorf("open %d after the rebuild: %v", i, a.node.Damaged())
		}
	}
}

func TestARottenLogRecordIsLeftOut(t *testing.T) {
	w := newWorld(t, 9, worldConfig{hosts: 2})
	a := w.hosts[0]
	for i := range 5 {
		w.write(t, a, func(f crdt.Fields) error { return f.String(fmt.Sprint(i)).Set([]byte("x")) })
	}
	if err := a.node.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoil(t, func(rot *store.Batch) {
		rot.Set(numbered(prefixLog, 2), []byte("rot"))
	})
	for i := range 2 {
		w.cut(0, 1)
		w.open(t, a, false)
		w.connect(0, 1)
		for range 3 {
			w.pump(t, 1, 0)
			w.deliver(t, 1, 0)
			if f, err := a.node.Next(name(1)); err != nil {
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
	address := crdt.KeyAddress("7").Type(crdt.TypeValue)
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(leafKey(leafOf(address), place(prefixCell, address)))
	})
	pinned, err := a.node.Pin()
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	if err := pinned.Verify(func() bool { return false }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("the check says: %v", err)
	}
	w.open(t, a, false)
	if a.node.Damaged() == nil {
		t.Error("not noticed at open")
	}
}

// TestARottenSummaryIsNoticed has the summary of a key broken, lost, and left from before.
func TestARottenSummaryIsNoticed(t *testing.T) {
	key := place(prefixSummary, crdt.KeyAddress("7"))
	stale := encodeSummary(key, "7", crdt.Summary{Visible: map[string]int{"v": 2}}, 0)
	for name, spoil := range map[string]func(*store.Batch){
		"broken": func(rot *store.Batch) { rot.Set(key, []byte("rot")) },
		"lost":   func(rot *store.Batch) { rot.Delete(key) },
		"stale":  func(rot *store.Batch) { rot.Set(key, stale) },
	} {
		w := newWorld(t, 9, worldConfig{hosts: 1})
		a := w.hosts[0]
		for _, key := range []string{"6", "7", "8"} {
			w.write(t, a, func(f crdt.Fields) error { return f.String(key).Set([]byte("x")) })
		}
		check := func() error {
			pinned, err := a.node.Pin()
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

func TestABranchThatClearedALargeSetIsIssuedAgain(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	for j := range 12 {
		w.write(t, a, func(f crdt.Fields) error {
			for i := range 4000 {
				if _, err := f.Set("s").Add(strings.Repeat("x", 200) + fmt.Sprint(j, i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.connect(0, 1)
	w.settle(t)
	putBack := w.image(t, a)
	w.connect(0, 1)
	w.write(t, a, func(f crdt.Fields) error { return f.Register("r").Set([]byte("first branch")) })
	w.settle(t)
	putBack()
	branch := &world{rng: w.rng, now: w.now, cfg: w.cfg, deltas: map[crdt.Dot]*crdt.Delta{}, done: w.done}
	branch.write(t, a, func(f crdt.Fields) error { _, err := f.Delete("s"); return err })
	w.connect(0, 1)
	exchange := func() {
		for range 300 {
			w.pump(t, 0, 1)
			w.pump(t, 1, 0)
			w.deliver(t, 0, 1)
			w.deliver(t, 1, 0)
			w.stepRepairs(t)
			a.node.Tick(false)
			b.node.Tick(false)
		}
	}
	exchange()
	if left, _ := a.node.Leaves(); len(left) == 0 {
		t.Fatal("the fork was not noticed")
	}
	if err := a.node.Discard(); err != nil {
		t.Fatal(err)
	}
	exchange()
	if done, err := a.node.Reapply(w.now); err != nil || !done {
		t.Fatal(done, err)
	}
	w.settle(t)
	if keys, cells := b.node.Counts(); keys != 1 || cells != 1 {
		t.Errorf("%d keys in %d cells are left, want the register alone", keys, cells)
	}
}

// TestARebuildIssuesAgainWhatFollowsOnARottenRecord has a record of the log rot, and deltas that saw it: under
// its own id, and under the one that the store takes after it was killed.
func TestARebuildIssuesAgainWhatFollowsOnARottenRecord(t *testing.T) {
	for _, killed := range []bool{false, true} {
		w := newWorld(t, 11, worldConfig{hosts: 2, maxLog: 1 << 30})
		a := w.hosts[0]
		w.write(t, a, counted(1))
		w.connect(0, 1)
		w.settle(t)
		w.cut(0, 1)
		w.write(t, a, put("lost"))
		lost := a.node.LogEnd() - 1
		if killed {
			w.restart(t, a, "is killed")
		}
		w.write(t, a, counted(10))
		w.write(t, a, added("s", "kept"))
		a.spoil(t, func(rot *store.Batch) {
			rot.Delete(place(prefixCell, crdt.KeyAddress("r").Type(crdt.TypeValue)))
			rot.Set(numbered(prefixLog, lost), []byte("rot"))
		})
		w.open(t, a, false)
		if a.node.Damaged() == nil {
			t.Fatal("not noticed")
		}
		w.connect(0, 1)
		w.heal(t)
		w.settle(t)
		w.wantEach(t, "11 [kept] []")
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
	if err := a.node.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoil(t, func(rot *store.Batch) {
		rot.Set(keyCheckpoint, []byte("rot"))
	})
	w.open(t, a, false)
	if a.node.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.settle2(t, 0, 1)
	if a.node.DiscardDue() {
		t.Error("it would discard what only it has")
	}
}
