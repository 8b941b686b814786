package replica

import (
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// TestAForkedStoreIssuesItsBranchAgain puts a store back from an image that nothing on its host can tell
// from the original, lets it write under dots that others know already, and has it meet them.
func TestAForkedStoreIssuesItsBranchAgain(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	count := func(n int64) func(f crdt.Fields) error {
		return func(f crdt.Fields) error { _, err := f.Counter("n").Add(n); return err }
	}
	w.write(t, a, count(1))
	w.write(t, a, func(f crdt.Fields) error {
		for i := range 40 {
			if _, err := f.Set("s").Add(fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	w.connect(0, 1)
	w.settle(t)
	putBack := w.image(t, a)

	w.write(t, a, count(10))
	w.write(t, a, func(f crdt.Fields) error { return f.Register("r").Set([]byte("first branch")) })
	w.write(t, a, func(f crdt.Fields) error { _, err := f.Set("s").Add("first"); return err })
	w.settle(t)
	w.cut(0, 1)

	putBack()
	branch := &world{
		rng: w.rng, now: w.now, cfg: w.cfg, deltas: map[crdt.Dot]*crdt.Delta{}, done: w.done,
	}
	branch.write(t, a, count(100))
	branch.write(t, a, func(f crdt.Fields) error { _, err := f.Delete("s"); return err })
	branch.write(t, a, func(f crdt.Fields) error { _, err := f.Set("s").Add("second"); return err })
	branch.write(t, a, func(f crdt.Fields) error { return f.Register("r").Set([]byte("second branch")) })
	branch.write(t, a, count(1000))

	w.connect(0, 1)
	exchange := func() {
		for range 100 {
			w.pump(t, 0, 1)
			w.pump(t, 1, 0)
			w.deliver(t, 0, 1)
			w.deliver(t, 1, 0)
			w.stepRepairs(t)
			a.node.Tick(false)
		}
	}
	exchange()
	left, _ := a.node.Leaves()
	if len(left) != 1 {
		t.Fatal("the fork was not noticed")
	}
	fork := left[0]
	if len(b.node.Forks())+len(a.node.Forks()) == 0 {
		t.Error("nobody is alarmed")
	}
	if want := uint64(41); fork.Common != want {
		t.Fatalf("the branches part at dot %d, want %d", fork.Common, want)
	}
	if err := a.node.Discard(); err != nil {
		t.Fatal(err)
	}
	exchange()
	if done, err := a.node.Reapply(w.now); err != nil || !done {
		t.Fatal(done, err)
	}
	w.settle(t)
	for _, h := range w.hosts {
		v := h.node.View()
		f := crdt.Root(v)
		if n, err := f.Counter("n").Value(); err != nil || n != 1111 {
			t.Errorf("host %d: n is %d (%v), want 1111", h.i, n, err)
		}
		if values, err := f.Register("r").Values(); err != nil || len(values) != 2 {
			t.Errorf("host %d: r has %q (%v), want both branches' values", h.i, values, err)
		}
		elements, err := f.Set("s").Elements()
		if err != nil || fmt.Sprint(elements) != "[first second]" {
			t.Errorf("host %d: s is %q (%v), want first and second", h.i, elements, err)
		}
		v.Close()
	}
}

// TestAForkIsFoundWhereItBegins compares chains that part at the first dot, where the two first deltas have
// different sizes, and chains of which the beginning is not known.
func TestAForkIsFoundWhereItBegins(t *testing.T) {
	for _, c := range []struct {
		theirs gossip.Chain
		forks  bool
	}{
		{gossip.Chain{First: 1, Links: []gossip.ChainLink{{Last: 50, Hash: 7}}}, true},
		{gossip.Chain{First: 2, Links: []gossip.ChainLink{{Last: 50, Hash: 7}}}, false},
		{gossip.Chain{First: 40, Links: []gossip.ChainLink{{Last: 50, Hash: 7}}}, false},
	} {
		w := newWorld(t, 1, worldConfig{hosts: 2})
		a := w.hosts[0]
		w.write(t, a, func(f crdt.Fields) error { return f.String("a").Set([]byte("x")) })
		w.write(t, a, func(f crdt.Fields) error { return f.String("b").Set([]byte("x")) })
		c.theirs.Replica = a.node.ID()
		if forks, err := a.node.Compare(c.theirs); forks != c.forks || err != nil {
			t.Errorf("%+v: forks %v, %v", c.theirs, forks, err)
		}
	}
}

// TestAnImageFromBeforeAnIDsFirstDotTakesItsWrites puts a store back to when it had drawn its id and written
// nothing under it.
func TestAnImageFromBeforeAnIDsFirstDotTakesItsWrites(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2})
	a := w.hosts[0]
	w.write(t, w.hosts[1], counted(1))
	w.connect(0, 1)
	w.settle(t)
	g := a.node.Begin(w.now)
	gaveUp := errors.New("no")
	if err := g.Update(func(*Tx) error { return gaveUp }); !errors.Is(err, gaveUp) {
		t.Fatal(err)
	}
	g.Discard()
	putBack := w.image(t, a)
	w.connect(0, 1)
	w.write(t, a, counted(10))
	w.settle(t)
	putBack()
	if a.node.id == 0 {
		t.Fatal("the store does not go on under its old id, which this test is about")
	}
	w.connect(0, 1)
	w.settle(t)
	w.wantEach(t, "11 [] []")
	w.write(t, a, counted(100))
	w.settle(t)
	w.wantEach(t, "111 [] []")
}

// TestAForkThatOthersFoundWhileTheStoreWasAwayHeals has hosts of the two branches meet while the store that
// forked is away for longer than they remember it.
func TestAForkThatOthersFoundWhileTheStoreWasAwayHeals(t *testing.T) {
	for name, second := range map[string][]int64{"as long": {100}, "longer": {100, 1000}} {
		for _, ticks := range []int{100, 700} {
			t.Run(fmt.Sprintf("%s, away for %d ticks", name, ticks), func(t *testing.T) {
				w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
				a := w.hosts[0]
				w.write(t, a, counted(1))
				w.settle(t)
				w.cut(0, 2)
				w.cut(1, 2)
				putBack := w.image(t, a)
				w.connect(0, 1)
				w.write(t, a, counted(10))
				w.settle2(t, 0, 1)
				putBack()
				want := int64(11)
				for _, n := range second {
					w.write(t, a, counted(n))
					want += n
				}
				w.connect(0, 2)
				w.settle2(t, 0, 2)
				w.cut(0, 2)
				w.connect(1, 2)
				for range ticks {
					w.healRound(t)
				}
				w.connect(0, 2) // not to 1, which it is to meet
				for range 1500 {
					w.healRound(t)
				}
				w.wantEach(t, fmt.Sprintf("%d [] []", want))
			})
		}
	}
}
