package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

const countedKeys = 300

func countKeys(f crdt.Fields) error {
	for i := range countedKeys {
		if _, err := f.Counter(fmt.Sprint("n", i)).Add(1); err != nil {
			return err
		}
	}
	return nil
}

func deleteKeys(f crdt.Fields) error {
	for i := range countedKeys {
		if _, err := f.Remove(fmt.Sprint("n", i)); err != nil {
			return err
		}
	}
	return nil
}

// collect lets time pass until nobody has anything to collect, and all agree.
func (w *world) collect(t *testing.T) {
	t.Helper()
	for range 2000 {
		w.settle(t)
		busy := false
		for _, h := range w.hosts {
			busy = busy || h.engine.Collecting()
			h.due = true
		}
		if !busy {
			w.settle(t)
			return
		}
		w.now = w.now.Add(tickEvery)
	}
	t.Fatal("there is always something to collect")
}

// wantCells fails unless each host has so many cells, all of them baselines of the given id.
func (w *world) wantCells(t *testing.T, want int, owner crdt.ReplicaID) {
	t.Helper()
	for _, h := range w.hosts {
		if keys, cells := h.engine.Counts(); keys != 0 || cells != want {
			t.Errorf("host %d has %d keys in %d cells, want none in %d", h.i, keys, cells, want)
		}
		v := h.engine.View()
		err := v.Scan("", "", func(a dotted.Address, c dotted.Cell) bool {
			if _, got, ok := a.CutShare(); !ok || got != owner || c.Visible() {
				t.Errorf("host %d has a baseline for %v, want none but for %v", h.i, got, owner)
			}
			return !t.Failed()
		})
		if err != nil {
			t.Error(err)
		}
		v.Close()
		checkWhole(t, h.engine.replica)
	}
}

// TestDeletedCountersLeaveNothing has one host count and another delete, and the counting one begin anew at several
// moments.
func TestDeletedCountersLeaveNothing(t *testing.T) {
	stop := func(how string) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) { w.restart(t, w.hosts[0], how) }
	}
	apart := func(*testing.T, *world) {}
	for _, c := range []struct {
		name          string
		before, after func(t *testing.T, w *world) // the deletion
		left          int
	}{
		{"whose owner is there", apart, apart, 0},
		{"whose owner closed before", stop("closes"), apart, 0},
		{"whose owner closed before and did not tell",
			func(t *testing.T, w *world) { w.cut(0, 1); stop("closes")(t, w); w.open(t, w.hosts[0]) }, apart, 0},
		{"whose owner closes later", apart, func(t *testing.T, w *world) { w.cut(0, 1); stop("closes")(t, w) }, 0},
		{"whose owner crashed", func(t *testing.T, w *world) { stop("is killed")(t, w) }, apart, countedKeys},
		{"whose owner crashes later", apart,
			func(t *testing.T, w *world) { w.cut(0, 1); stop("is killed")(t, w) }, countedKeys},
		{"whose owner closed, and whose deleter did then", stop("closes"),
			func(t *testing.T, w *world) { w.restart(t, w.hosts[1], "closes") }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, worldConfig{hosts: 3})
			w.write(t, w.hosts[0], countKeys)
			id := w.hosts[0].engine.ID()
			w.settle(t)
			c.before(t, w)
			w.write(t, w.hosts[1], deleteKeys)
			c.after(t, w)
			w.collect(t)
			w.wantCells(t, c.left, id)
		})
	}
}

// TestABaselineStaysWhileItsShareDoes has an increment meet a deletion that has not seen it.
func TestABaselineStaysWhileItsShareDoes(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	w.write(t, w.hosts[0], counted(5))
	w.settle(t)
	w.cut(0, 1)
	w.cut(0, 2)
	w.write(t, w.hosts[0], counted(3))
	w.write(t, w.hosts[1], func(f crdt.Fields) error { _, err := f.Remove("n"); return err })
	w.collect(t)
	w.restart(t, w.hosts[0], "closes")
	w.collect(t)
	for _, h := range w.hosts {
		v := h.engine.View()
		if n := Fields(v).Counter("n").Get(); n != 3 {
			t.Errorf("host %d counts %d, want 3", h.i, n)
		}
		v.Close()
	}
	w.write(t, w.hosts[2], func(f crdt.Fields) error { _, err := f.Remove("n"); return err })
	w.collect(t)
	w.wantCells(t, 0, 0)
}

// TestABaselineThatARepairBringsIsCollected has a repair bring one to the owner of a share that has no counter any more,
// while time passes.
func TestABaselineThatARepairBringsIsCollected(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, counted(1))
	w.settle(t)
	w.cut(0, 1)
	for _, h := range w.hosts {
		w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove("n"); return err })
	}
	a.engine.Take(a.fetch(t, b))
	a.steps(t, 300, func(*Ready) {})
	w.collect(t)
	w.wantCells(t, 0, 0)
}

// TestABaselineGoesWithTheLastShareOfAnIDThatEnded has a share stay beside a baseline, since an increment met a deletion;
// and somebody delete it then who needs none, and never hears of that one.
func TestABaselineGoesWithTheLastShareOfAnIDThatEnded(t *testing.T) {
	second := func(_ bool, err error) error { return err }
	for _, c := range []struct {
		name   string
		fields int
		remove func(f crdt.Fields) error
	}{
		{"one by one", 1, func(f crdt.Fields) error { return second(f.Remove("m")) }},
		{"with its key", 20, func(f crdt.Fields) error { return second(f.Remove("m")) }},
		{"with a part of its key", 20, func(f crdt.Fields) error { return second(f.Map("m").Remove("in")) }},
		{"with everything", 20, func(f crdt.Fields) error { return second(f.Clear()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			count := func(f crdt.Fields, _ int) error {
				in := f.Map("m").Map("in")
				_, err := in.SortedSet("z").Add("x", 1)
				for i := 0; i < c.fields && err == nil; i++ {
					_, err = in.Counter(fmt.Sprint(i)).Add(1)
				}
				return err
			}
			remove := func(f crdt.Fields, _ int) error { return c.remove(f) }
			owner, early := openOn(t, newDisk(), 1), openOn(t, newDisk(), 2)
			late, other := openOn(t, newDisk(), 3), openOn(t, newDisk(), 4)
			first := pipeline(t, owner, 1, count)
			apply(t, early, first)
			baselines := pipeline(t, early, 1, remove)
			first = append(first, pipeline(t, owner, 1, count)...)
			g := owner.newGroup(testStart)
			must(t, g.end())
			end, err := g.Commit(true)
			must(t, err)
			first = append(first, end.Deltas...)
			apply(t, late, first)
			apply(t, other, first)
			apply(t, other, baselines)
			collectAll(t, other)
			if keys, _ := other.Counts(); keys == 0 {
				t.Fatal("no share is left")
			}
			apply(t, other, pipeline(t, late, 1, remove))
			collectAll(t, other)
			sweepAll(t, other)
			if keys, cells := other.Counts(); keys > 0 || cells > 0 {
				t.Errorf("%d keys in %d cells are left", keys, cells)
			}
		})
	}
}

// collectAll lets time pass until a replica has nothing to collect.
func collectAll(t *testing.T, r *replica) {
	t.Helper()
	for r.Collecting() {
		r.countDown()
		if !r.Collects() {
			continue
		}
		g := r.newGroup(testStart)
		must(t, r.collectSome(g))
		_, err := g.Commit(false)
		must(t, err)
	}
}

// TestTheEndOfAnIDIsKnownWithTheContext has contexts grow in each of the ways in which they do.
func TestTheEndOfAnIDIsKnownWithTheContext(t *testing.T) {
	for name, grow := range map[string]func(t *testing.T, w *world) *host{
		"by deltas": func(t *testing.T, w *world) *host {
			w.settle(t)
			return w.hosts[1]
		},
		"by a repair": func(t *testing.T, w *world) *host {
			w.hosts[0].cutLog(t, int(w.hosts[0].engine.LogEnd()-w.hosts[0].engine.log.First))
			repairs := w.done["repair"]
			w.settle(t)
			if w.done["repair"] == repairs {
				t.Error("there was no repair")
			}
			return w.hosts[1]
		},
		"by a repair, and a restart": func(t *testing.T, w *world) *host {
			w.hosts[0].cutLog(t, int(w.hosts[0].engine.LogEnd()-w.hosts[0].engine.log.First))
			w.settle(t)
			w.restart(t, w.hosts[1], "is killed")
			return w.hosts[1]
		},
		"by a backup": func(t *testing.T, w *world) *host {
			w.backUp(t, w.hosts[0])
			w.restart(t, w.hosts[1], "is restored")
			return w.hosts[1]
		},
		"by a rebuild": func(t *testing.T, w *world) *host {
			w.settle(t)
			w.discarded(t, w.hosts[1])
			w.heal(t)
			return w.hosts[1]
		},
		"by its own log in a rebuild": func(t *testing.T, w *world) *host {
			w.settle(t)
			w.discarded(t, w.hosts[0])
			w.heal(t)
			return w.hosts[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, worldConfig{hosts: 2})
			w.write(t, w.hosts[0], countKeys)
			w.write(t, w.hosts[0], counted(1))
			id := w.hosts[0].engine.ID()
			w.restart(t, w.hosts[0], "closes")
			h := grow(t, w)
			seen, _ := h.engine.Context()
			if seen[id] == 0 || !h.engine.Ended(id) {
				t.Fatalf("of %v the host has %d, and takes it for ended: %v", id, seen[id], h.engine.Ended(id))
			}
			w.write(t, h, deleteKeys)
			w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove("n"); return err })
			if keys, cells := h.engine.Counts(); keys != 0 || cells != 0 {
				t.Errorf("%d keys and %d cells are left after all were deleted", keys, cells)
			}
		})
	}
}

func TestNothingFollowsTheEndOfAnID(t *testing.T) {
	st := newDisk()
	r := openOn(t, st, 7)
	deltas := pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return countKeys(f) })
	g := r.newGroup(testStart)
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Commit(true); err != nil {
		t.Fatal(err)
	}
	err := r.readLog(1, func(rec logged) bool {
		deltas = append(deltas, rec.deltas...)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if later := pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return countKeys(f) }); later[0].Replica == 7 {
		t.Error("an id is used after its end")
	}
	last := deltas[len(deltas)-1]
	if !last.Ends() || slices.ContainsFunc(deltas[:len(deltas)-1], (*delta.Delta).Ends) {
		t.Fatal("the last delta does not end its id, or another one does")
	}
	other := openOn(t, newDisk(), 8)
	g = other.newGroup(testStart)
	defer g.discard()
	for _, d := range deltas[len(deltas)-2:] {
		if _, err := g.apply(d); err != nil {
			t.Fatal(err)
		}
	}
	more := &delta.Delta{Replica: 7, First: last.Last() + 1, Prev: last.Hash(),
		Ops: []delta.Op{{Kind: delta.OpClear, Address: dotted.KeyAddress("n1")}}}
	if got, err := g.apply(more); err != nil || got != gossip.Astray {
		t.Errorf("what follows an end is %v (%v), want it to be taken for a fork", got, err)
	}
}
