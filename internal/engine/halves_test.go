package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// TestDeathsWithinCheckpointsLeaveNothingBehind has two hosts write few keys, again and again, large values and clears of
// all among it, and die and open with checkpoints and sweeps half done. When all is cleared in the end the tree has
// nothing but what the cells need that are left.
func TestDeathsWithinCheckpointsLeaveNothingBehind(t *testing.T) {
	for seed := uint64(1); seed <= (*seedsFlag+5)/6; seed++ {
		if *seedFlag != 0 && seed != *seedFlag {
			continue
		}
		w := newWorld(t, seed, worldConfig{
			hosts: 2, crashes: true, maxLog: []int64{1 << 30, 20_000, 2_000}[seed%3], maxBatch: 3 + int(seed%6),
			maxDirty: []int64{0, 3000, 0, 20_000}[seed%4], stepWork: []int{100, 0, 500}[seed%3],
			ordered: seed%2 == 0, bases: seed%4 == 0,
		})
		w.connect(0, 1)
		for range 500 {
			w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * time.Millisecond)
			w.stepInHalves(t, w.hosts[w.rng.IntN(2)])
		}
		for _, h := range w.hosts {
			w.check(t, h)
		}
		w.settle(t)
		w.wantNothingBehind(t, w.hosts[0])
		if t.Failed() {
			t.Fatalf("seed %d: replay with go test ./internal/engine -run %s -seed %d -seeds %d", seed, t.Name(), seed, 6*seed)
		}
	}
}

func (w *world) stepInHalves(t *testing.T, h *host) {
	switch p := w.rng.IntN(100); {
	case p < 35:
		fns := make([]func(tx *Tx) error, 1+w.rng.IntN(3))
		for i := range fns {
			fns[i] = func(tx *Tx) (err error) {
				for n := 1 + w.rng.IntN(3); n > 0 && err == nil; n-- {
					err = w.mutateFew(Fields(tx))
				}
				return err
			}
		}
		errs, _ := w.update(t, h, fns...)
		must(t, errors.Join(errs...))
		w.ask(t, h)
	case p < 65:
		w.saveInHalves(t, h)
	case p < 75:
		w.round(t, h)
	case p < 81:
		w.restart(t, h, []string{"crashes", "is killed", "is killed", "is killed", "closes"}[w.rng.IntN(5)])
		w.connect(0, 1)
	case p < 90:
		from := w.rng.IntN(2)
		w.pump(t, from, 1-from)
		w.deliver(t, from, 1-from)
	default:
		w.step(t)
	}
}

// saveInHalves begins a checkpoint, or goes on with one.
func (w *world) saveInHalves(t *testing.T, h *host) {
	e := h.engine
	if e.Repairing() || e.fills() || e.Damaged() != nil {
		return
	}
	if e.saving == nil && w.rng.IntN(2) == 0 && !e.Busy() {
		must(t, h.disk.log.Sync())
		e.freeze(w.now)
	}
	if e.saving != nil {
		e.beginStep()
		must(t, h.disk.log.Sync())
		must(t, e.saveSome())
		must(t, e.carry())
	}
}

// mutateFew changes one of three keys, or all there are.
func (w *world) mutateFew(f crdt.Fields) (err error) {
	key, member := string(rune('a'+w.rng.IntN(3))), fmt.Sprint(w.rng.IntN(30))
	switch w.rng.IntN(9) {
	case 0, 1:
		_, err = f.Remove(key)
	case 2:
		err = f.Register(key).Set(make([]byte, []int{10, maxInline + 1, maxPiece + 1}[w.rng.IntN(3)]))
	case 3:
		_, err = f.Set(key).Remove(member)
	case 4:
		err = f.List(key).Insert(0, make([]byte, []int{3, maxInline + 1}[w.rng.IntN(2)]))
	case 5:
		if f.List(key).Len() > 0 {
			_, _, err = f.List(key).Pop(0)
		}
	case 6:
		if w.rng.IntN(8) == 0 {
			_, err = f.Clear()
		} else {
			_, err = f.Set(key).Add(member)
		}
	default:
		err = w.mutate(f)
	}
	return err
}

// clearAll clears all, sweeps it and saves that.
func (w *world) clearAll(t *testing.T, h *host) {
	w.write(t, h, func(f crdt.Fields) error { _, err := f.Clear(); return err })
	for more := true; more; {
		var err error
		more, err = h.engine.Sweep()
		must(t, err)
	}
	must(t, h.engine.Save(w.now))
}

// wantNothingBehind clears all, and looks at what the tree still has.
func (w *world) wantNothingBehind(t *testing.T, h *host) {
	w.clearAll(t, h)
	cells, has := 0, map[byte]int{}
	v := h.engine.View()
	must(t, v.ScanStored(func(dotted.Address, dotted.Cell) bool { cells++; return true }))
	v.Close()
	for _, record := range recordsOf(t, h.disk) {
		has[record[0][0]]++
	}
	if has[prefixCell] != cells || has[prefixLeaf] != cells {
		t.Errorf("there are %d cells, and the tree has %d with %d entries of leaves", cells, has[prefixCell], has[prefixLeaf])
	}
	if has[prefixBlob] > 0 || has[prefixPart] > 0 {
		t.Errorf("the tree has %d pieces of payloads and %d parts of cells", has[prefixBlob], has[prefixPart])
	}
	if cells == 0 {
		for _, kind := range []byte{prefixSummary, prefixCount, prefixOrder, prefixNode, prefixExpiry} {
			if has[kind] > 0 {
				t.Errorf("the tree has %d records %q, and no cell", has[kind], kind)
			}
		}
	}
	w.check(t, h)
	w.checkDerived(t, h)
}
