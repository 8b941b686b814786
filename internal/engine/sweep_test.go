package engine

import (
	"fmt"
	"testing"
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
