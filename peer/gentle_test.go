package peer

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// TestWhoServesARepairRestsAsMuchAsItWorks has cells read that take a while each, in all and leaf by leaf.
func TestWhoServesARepairRestsAsMuchAsItWorks(t *testing.T) {
	p := alone(t, Config{Memory: true})
	const cells = 20_000
	leaves := make([]int, antientropy.MaxLeaves)
	for i := range leaves {
		leaves[i] = i
	}
	err := p.Update(t.Context(), func(tx *Tx) error {
		for i := range cells {
			if err := tx.String(fmt.Sprint(i)).Set([]byte("value")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := own(p).pin("other")
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	const each = 5 * time.Microsecond
	for name, serve := range map[string]func(*gentle) (antientropy.Response, error){
		"all cells": func(g *gentle) (antientropy.Response, error) {
			return g.serve(antientropy.Request{Kind: antientropy.KindScan})
		},
		"leaves": func(g *gentle) (antientropy.Response, error) {
			return g.serve(antientropy.Request{Kind: antientropy.KindLeaves, Leaves: leaves,
				Have: make([][]uint64, len(leaves)), Lacks: crdt.VersionVector{1: 1}})
		},
	} {
		now, worked, rested, longest := time.Time{}, time.Duration(0), time.Duration(0), time.Duration(0)
		var since time.Duration // worked when it rested last
		g := &gentle{Snapshot: slow{pinned, func() { now, worked = now.Add(each), worked+each }},
			clock: func() time.Time { return now }}
		g.rest = func(d time.Duration) {
			longest, since = max(longest, worked-since), worked
			now, rested = now.Add(d), rested+d
		}
		if _, err := serve(g); err != nil {
			t.Fatal(err)
		}
		if longest = max(longest, worked-since); longest > gentleWork+gentleCells*each {
			t.Errorf("%s: it worked for %v at once", name, longest)
		}
		if worked < 2*gentleWork || rested > worked || rested < worked-2*gentleWork {
			t.Errorf("%s: it worked for %v and rested for %v", name, worked, rested)
		}
	}
}

// slow is a moment whose cells take a while each.
type slow struct {
	antientropy.Snapshot
	read func()
}

func (s slow) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return s.Snapshot.Cells(after, func(a dotted.Address, c dotted.Cell) bool { s.read(); return fn(a, c) })
}

func (s slow) Leaf(leaf int, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return s.Snapshot.Leaf(leaf, after, func(a dotted.Address, c dotted.Cell) bool { s.read(); return fn(a, c) })
}
