package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// writers is an index of this test's own: the cells in which a replica has entries. Unlike that of the leaves it also
// changes where a cell only becomes another.
var writers = cellIndex{
	kind: 'x', name: "index of writers",
	keys: func(a dotted.Address, c dotted.Cell, fn func(key []byte)) {
		last := crdt.ReplicaID(0)
		for _, e := range c {
			if e.Dot.Replica != last {
				last = e.Dot.Replica
				fn(append(numbered('x', uint64(last)), place('x', a)...))
			}
		}
	},
}

// checkDerived compares all that a host keeps of what is computed from cells with the cells.
func (w *world) checkDerived(t *testing.T, h *host) {
	t.Helper()
	v, never := h.engine.View(), func() bool { return false }
	defer v.Close()
	n := newRecount(v, &h.engine.derives)
	if err := errors.Join(n.scan(never), n.check(never)); err != nil {
		t.Fatalf("host %d: %v", h.i, err)
	}
	checkOrders(t, v)
	if n.totals != h.engine.totals || n.cells != h.engine.cells || !n.tree.Equal(h.engine.tree) {
		t.Fatalf("host %d: totals of %+v, %d cells, or another tree are in memory; the cells give %+v, %d",
			h.i, h.engine.totals, h.engine.cells, n.totals, n.cells)
	}
}

// TestWhatIsDerivedIsKeptWhereverCellsChange runs worlds with commits, clears, sweeps, repairs, restarts, restored backups,
// and a rebuild. After each step everything computed from cells, with an index and orders of the test's own, must be what
// the cells give.
func TestWhatIsDerivedIsKeptWhereverCellsChange(t *testing.T) {
	did := map[string]int{}
	seeds := []uint64{56, 62, 144} // which found faults
	for seed := uint64(1); seed <= 4; seed++ {
		seeds = append(seeds, seed)
	}
	for seed := uint64(201); seed <= 202; seed++ { // with cells that stand in orders
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			cfg := worldConfig{hosts: 3, crashes: true, maxLog: 2000, stepWork: 100 + 100*int(seed%3),
				indexes: []cellIndex{writers}, ordered: seed > 200}
			if seed%2 == 0 {
				cfg.maxLog = 1 << 30
			}
			w := newWorld(t, seed, cfg)
			for range 250 {
				before := w.hosts[0].engine.Clears()
				w.step(t)
				if w.hosts[0].engine.Clears() < before {
					did["sweep"]++
				}
				for _, h := range w.hosts {
					w.checkDerived(t, h)
				}
			}
			w.cfg.crashes = false
			w.settle(t)
			w.discarded(t, w.hosts[0])
			w.checkDerived(t, w.hosts[0])
			w.heal(t)
			for _, h := range w.hosts {
				w.checkDerived(t, h)
				w.open(t, h)
				if err := h.engine.Damaged(); err != nil {
					t.Errorf("host %d: opened again, it takes itself for damaged: %v", h.i, err)
				}
			}
			for what, n := range w.done {
				did[what] += n
			}
		})
	}
	for _, what := range []string{"sweep", "repair", "crashes", "is killed", "is restored"} {
		if did[what] == 0 {
			t.Errorf("no world did this: %s", what)
		}
	}
}

// TestAnIndexThatRottedIsNoticed loses an entry of the test's index, and leaves one too many.
func TestAnIndexThatRottedIsNoticed(t *testing.T) {
	at := dotted.KeyAddress("7").Type(crdt.TypeString)
	for name, spoil := range map[string]func(rot *store.Batch, entry []byte){
		"lost":     func(rot *store.Batch, entry []byte) { rot.Delete(entry) },
		"too many": func(rot *store.Batch, entry []byte) { rot.Set(append(entry, 'x'), nil) },
	} {
		w := newWorld(t, 9, worldConfig{hosts: 1, indexes: []cellIndex{writers}})
		h := w.hosts[0]
		w.write(t, h, func(f crdt.Fields) error { return f.String("7").Set([]byte("x")) })
		h.spoil(t, func(rot *store.Batch) {
			spoil(rot, append(numbered('x', uint64(h.engine.ID())), place('x', at)...))
		})
		pinned, err := h.engine.Pin()
		if err != nil {
			t.Fatal(err)
		}
		err = pinned.Verify(func() bool { return false })
		pinned.Close()
		w.open(t, h)
		for when, err := range map[string]error{"verified": err, "opened": h.engine.Damaged()} {
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), writers.name) {
				t.Errorf("%s, %s: %v", name, when, err)
			}
		}
	}
}
