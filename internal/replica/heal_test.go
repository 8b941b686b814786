package replica

import (
	"errors"
	"testing"

	"github.com/peerd/peerd/gossip"
)

// discarded has a host's cells discarded because of damage.
func (w *world) discarded(t *testing.T, h *host) {
	t.Helper()
	h.node.SetDamaged(errors.New("rot"))
	for range 100 {
		if w.healRound(t); h.node.Rebuilding() {
			return
		}
	}
	t.Fatal("the host does not discard its cells")
}

// TestARebuildEndsWhenItHearsWhatBecameOfABranch waits for deltas that it then learns to be abandoned.
func TestARebuildEndsWhenItHearsWhatBecameOfABranch(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, b, counted(1))
	w.settle(t)
	w.connect(0, 1)
	w.discarded(t, a)
	a.node.must.Raise(777, 10)
	a.node.from = "" // who had that is not there
	for range 100 {
		w.healRound(t)
	}
	if !a.node.Waits() {
		t.Fatal("it does not wait")
	}
	seen, _ := b.node.Context()
	b.node.Abandon([]gossip.Branch{{
		Replica: 777, Common: 5, Links: []gossip.ChainLink{{Last: 10, Hash: 1}}, Healed: seen.Clone(),
	}})
	w.heal(t)
	w.wantEach(t, "1 [] []")
}

// TestARebuildDoesNotWaitForWhatItsNeighbourLost has the neighbour, because of which a host discarded its cells, lose
// its last write in a power failure: with a copy of it in the host's own log, and without.
func TestARebuildDoesNotWaitForWhatItsNeighbourLost(t *testing.T) {
	for _, copied := range []bool{true, false} {
		w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
		a, b := w.hosts[0], w.hosts[1]
		w.write(t, a, counted(1))
		w.write(t, b, counted(10))
		w.settle(t)
		if err := b.node.Save(w.now); err != nil {
			t.Fatal(err)
		}
		disk := b.disk.Clone()
		w.write(t, b, counted(100))
		if copied {
			w.settle(t)
		}
		w.cut(0, 1)
		w.write(t, a, counted(1000))
		w.connect(0, 1)
		w.discarded(t, a)
		w.cut(0, 1)
		if b.disk = disk; !copied {
			w.restart(t, a, "is killed")
		}
		w.open(t, b, false)
		w.connect(0, 1)
		w.heal(t)
		if copied {
			w.wantEach(t, "1111 [] []")
		} else {
			w.wantEach(t, "1011 [] []")
		}
	}
}

// toldOnly returns a forkedWorld in which host 0 has healed with host 1, and told it so, but not what it issued
// again; and a function that puts it back to when it was at that.
func toldOnly(t *testing.T) (w *world, putBack func()) {
	t.Helper()
	w = forkedWorld(t, 1<<30)
	h := w.hosts[0]
	w.connect(0, 1)
	for !h.node.Rebuilding() {
		w.healRound(t)
	}
	back := w.image(t, h)
	w.connect(0, 1)
	for h.node.Rebuilding() {
		w.healRound(t)
	}
	for told := false; !told; {
		w.pump(t, 1, 0)
		w.deliver(t, 1, 0)
		w.pump(t, 0, 1)
		frames := w.links[[2]int{0, 1}].frames
		told = len(frames) > 0 && frames[0][0] == 10 // Abandoned
		w.deliver(t, 0, 1)
	}
	if v := w.values(t); v[0] == v[1] {
		t.Fatal("what was issued again went out")
	}
	w.cut(0, 1)
	return w, func() {
		back()
		w.connect(0, 1)
		for range 20 {
			w.healRound(t)
		}
		if !h.node.Rebuilding() {
			t.Fatal("it does not wait for what it issued before")
		}
	}
}

// TestAnImageOfAHostThatHealsIssuesAgainWhatWasLost puts a host back to the middle of its healing, after it told of
// that and before what it issued again went out.
func TestAnImageOfAHostThatHealsIssuesAgainWhatWasLost(t *testing.T) {
	w, putBack := toldOnly(t)
	putBack()
	w.connect(0, 2)
	w.connect(1, 2)
	w.now = w.now.Add(healPatience)
	w.heal(t)
	w.wantEach(t, "11113 [first third] [first third]")
}

// TestAHostThatWaitsForWhatItIssuedDoesNotCountTimeAlone has what it issued at a host that it meets late.
func TestAHostThatWaitsForWhatItIssuedDoesNotCountTimeAlone(t *testing.T) {
	w, putBack := toldOnly(t)
	w.connect(0, 2)
	for range 300 {
		w.healRound(t)
	}
	putBack()
	w.cut(0, 1)
	w.healRound(t)
	w.now = w.now.Add(healPatience)
	w.connect(0, 1)
	for range 20 {
		w.healRound(t)
	}
	if !w.hosts[0].node.Rebuilding() {
		t.Error("it took what it issued for lost")
	}
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	w.wantEach(t, "11113 [first third] [first third]")
}

// TestWhatWasLostIsNotTakenUpAgain tells a host of what it issued and took for lost, while it is still rebuilding.
func TestWhatWasLostIsNotTakenUpAgain(t *testing.T) {
	w, putBack := toldOnly(t)
	putBack()
	h := w.hosts[0]
	h.node.must.Raise(777, 3) // something else keeps it from ending
	h.node.from = ""
	w.now = w.now.Add(healPatience)
	for range 10 {
		w.healRound(t)
	}
	w.cut(0, 1)
	w.connect(0, 1) // tells all branches again
	for range 10 {
		w.healRound(t)
	}
	for _, b := range h.node.branches {
		if b.Tries != 1 || len(b.Healed) != 0 {
			t.Errorf("branch %v was healed %d times before, by %v", b.Name(), b.Tries, b.Healed)
		}
	}
}

// TestTwoMachinesThatArePutBackHeal puts two of three back, the second to a moment a little later. Frames arrive
// in any order between links, and steps of healing lie anywhere between them.
func TestTwoMachinesThatArePutBackHeal(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(t, seed, worldConfig{hosts: 3, maxLog: 1 << 30})
		a, b := w.hosts[0], w.hosts[1]
		w.write(t, a, counted(1))
		w.write(t, b, counted(1))
		w.settle(t)
		putBackA := w.image(t, a)
		w.settle(t)
		w.write(t, a, counted(10))
		w.settle(t)
		putBackB := w.image(t, b)
		w.settle(t)
		w.write(t, b, counted(100))
		w.settle(t)
		putBackA()
		putBackB()
		w.write(t, a, counted(1000))
		w.write(t, b, counted(10000))
		for _, l := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
			w.connect(l[0], l[1])
		}
		for range 400 {
			w.pump(t, w.rng.IntN(3), w.rng.IntN(3))
			i := w.rng.IntN(3)
			w.deliver(t, w.rng.IntN(3), i)
			if err := w.lookAfter(w.hosts[i]); err != nil {
				t.Fatal(err)
			}
		}
		w.heal(t)
		if w.wantEach(t, "11112 [] []"); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
