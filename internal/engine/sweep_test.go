package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
)

// TestOneSweepDoesForAllClearsOfItsPlace clears a set, and another beside it, several times before anything is swept:
// the last clear of each does for those before. One that comes in the middle of a sweep is swept after it.
func TestOneSweepDoesForAllClearsOfItsPlace(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	r.cfg.MaxBatch = 16 // cells a step
	fill := func(set string, round int) {
		g := r.newGroup(w.now)
		err := g.update(func(tx *Tx) error {
			for i := range 20 {
				if _, err := Fields(tx).Set(set).Add(fmt.Sprint(round, " ", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			_, err = g.Commit(false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	empty := func(set string) {
		g := r.newGroup(w.now)
		err := g.update(func(tx *Tx) error { _, err := Fields(tx).Remove(set); return err })
		if err == nil {
			_, err = g.Commit(false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sweep := func() {
		t.Helper()
		if _, err := r.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		fill("a", round)
		fill("b", round)
		empty("a")
		empty("b")
	}
	fill("a", 3)
	sweep()
	if !r.isSweeping() || r.Clears() != 2 {
		t.Fatalf("after a step: sweeping %v, %d clears", r.isSweeping(), r.Clears())
	}
	empty("a")
	for r.Clears() > 0 {
		sweep()
	}
	if keys, cells := r.Counts(); keys != 0 || cells != 0 {
		t.Errorf("%d keys in %d cells are left", keys, cells)
	}
}

// TestPlacesThatFollowCloselyAreSweptTogether deletes nine of ten sets, of which some have names that are shortened, and
// sets within maps before the maps. Finding the first cell of each place would take more than a thousand scans.
func TestPlacesThatFollowCloselyAreSweptTogether(t *testing.T) {
	const n = 400
	st := &tally{disk: newDisk()}
	r := openOn(t, st, 1)
	long := strings.Repeat("x", 300)
	names := func(i int) []string { return []string{setKey(i), fmt.Sprint("beside ", i), fmt.Sprint(long, i)} }
	goes := func(i int) bool { return i%10 != 0 }
	pipeline(t, r, n, func(f crdt.Fields, i int) error {
		for _, name := range names(i) {
			if err := fillSet(f, name, 3); err != nil {
				return err
			}
		}
		return fillSet(f.Map(fmt.Sprint("map ", i)).Fields, "part", 3)
	})
	if err := r.Save(testStart); err != nil {
		t.Fatal(err)
	}
	pipeline(t, r, n, func(f crdt.Fields, i int) (err error) {
		for _, name := range names(i) {
			if err == nil && goes(i) {
				_, err = f.Remove(name)
			}
		}
		if err == nil && goes(i) {
			_, err = f.Map(fmt.Sprint("map ", i)).Remove("part")
		}
		return err
	})
	pipeline(t, r, n, func(f crdt.Fields, i int) (err error) {
		if goes(i) {
			_, err = f.Remove(fmt.Sprint("map ", i))
		}
		return err
	})
	st.scans = 0
	sweepAll(t, r)
	if scans := st.scans; scans > 600 { // of which each place with a long name needs one
		t.Errorf("%d places are swept with %d scans", 4*n*9/10, scans)
	}
	if keys, cells := r.Counts(); keys != 4*n/10 || cells != 3*keys {
		t.Errorf("%d keys in %d cells are left, want %d in %d", keys, cells, 4*n/10, 3*4*n/10)
	}
	checkWhole(t, r)
}

// TestWhatIsClearedAgainIsNotLookedForAmongTheHidden: a queue that is deleted and filled again,
// while what was in it is not swept, takes no longer than one that is new.
func TestWhatIsClearedAgainIsNotLookedForAmongTheHidden(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	do := func(fn func(crdt.Fields) error) (work int) {
		t.Helper()
		began := r.work
		g := r.newGroup(w.now)
		err := g.update(func(tx *Tx) error { return fn(Fields(tx)) })
		if err == nil {
			_, err = g.Commit(false)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.work - began
	}
	fill := func(members int) func(crdt.Fields) error {
		return func(f crdt.Fields) error {
			for i := range members {
				if _, err := f.Set("s").Add(fmt.Sprintf("%05d", 99_999-i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	remove := func(f crdt.Fields) error {
		existed, err := f.Remove("s")
		if err == nil && !existed {
			err = errors.New("there was nothing to be removed")
		}
		return err
	}
	do(fill(1))
	few := do(remove)
	do(fill(5000))
	do(remove)
	for range 3 {
		do(fill(1)) // behind all that is hidden
		if work := do(remove); work > 10*few+1000 {
			t.Errorf("removing one member takes %d units of work, and where 5,000 are hidden %d", few, work)
		}
	}
	if n := r.Clears(); n != 1 {
		t.Errorf("%d clears are in force", n)
	}
}
