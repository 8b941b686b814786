package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

// TestAHoleInAPeersChainIsNoFork puts a directory back from a copy. The peer's chain of its id has
// a hole, from a repair: what is in it must not be taken for another branch and be issued again.
func TestAHoleInAPeersChainIsNoFork(t *testing.T) {
	for _, behind := range []int{0, 1} { // deltas that the peer has behind the hole, beside the newest
		w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
		a, b := w.hosts[0], w.hosts[2]
		write := func(times int) {
			for range times {
				w.write(t, a, counted(1))
			}
		}
		write(3)
		w.connect(0, 1)
		w.settle2(t, 0, 1)
		w.cut(0, 1)
		write(3)
		copied := a.disk.Clone() // rsync, LVM or ZFS snapshot of the directory
		write(1 + behind)
		if err := repairAll(a.node, b.node); err != nil { // a newcomer, bootstrapped
			t.Fatal(err)
		}
		w.connect(1, 2) // its log serves nobody: the peer is repaired
		w.settle2(t, 1, 2)
		w.cut(1, 2)
		write(1)
		w.connect(0, 1)
		write(behind)
		w.settle2(t, 0, 1)
		w.cut(0, 1)
		a.disk = copied
		w.open(t, a, false) // no clean mark: draws a new id
		w.forked = true
		w.connect(0, 1)
		w.heal(t)
		if f := a.node.Forks(); len(f)+len(a.node.branches) > 0 {
			t.Errorf("a takes itself for forked: %v, %v", f, a.node.branches)
		}
		want := fmt.Sprint(8+2*behind, " [] []")
		if v := w.values(t); v[0] != want || v[1] != want {
			t.Errorf("counts %q, want %s", v, want)
		}
	}
}

// TestOneImageRestoredTwiceHealsOnAllHosts has a third host follow the second of two branches that
// begin at one dot.
func TestOneImageRestoredTwiceHealsOnAllHosts(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
	a, d := w.hosts[0], w.hosts[2]
	w.write(t, a, counted(1))
	w.settle(t)
	w.cut(0, 2)
	w.cut(1, 2)
	putBack := w.image(t, a)
	w.forked = true
	w.connect(0, 1)
	w.write(t, a, counted(10))
	w.settle2(t, 0, 1)
	w.cut(0, 1)
	restore := func() {
		w.cut(0, 1)
		w.cut(0, 2)
		w.cut(1, 2)
		w.now = w.now.Add(time.Second)
		putBack()
	}
	restore()
	w.write(t, a, counted(100))
	w.connect(0, 1)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	if got := w.values(t); got[0] != "111 [] []" || got[2] != got[0] {
		t.Fatalf("after the first: %q", got)
	}
	w.cut(1, 2)
	restore()
	w.write(t, a, counted(1000))
	// a fresh follower: an empty host
	w.restart(t, d, "is wiped")
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.write(t, d, counted(10000))
	w.connect(0, 1)
	w.connect(1, 2)
	w.heal(t)
	for i := range 3 {
		for j := range i {
			w.cut(i, j)
			w.connect(i, j)
		}
	}
	w.heal(t)
	w.wantEach(t, "11111 [] []")
}

// TestNothingIsReappliedBeforeAllHasCome has one writer alone, and the beginning of its log cut:
// the good branch must come before removals are issued again.
func TestNothingIsReappliedBeforeAllHasCome(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, put("base"))
	w.write(t, a, added("s", "base"))
	w.settle(t)
	putBack := w.image(t, a)
	w.connect(0, 1)
	w.write(t, a, added("s", "first"))
	w.write(t, a, added("s", "first2"))
	w.settle2(t, 0, 1)
	putBack()
	// the log's beginning was cut by age
	a.cutLog(t, int(a.node.log.last-a.node.log.first))
	w.write(t, a, put("second"))
	w.write(t, a, removed("s", "base"))
	w.write(t, a, added("s", "second"))
	w.connect(0, 1)
	for range 3000 {
		for i := range 2 {
			w.pump(t, i, 1-i)
			w.deliver(t, i, 1-i)
			for _, h := range w.hosts {
				if err := w.lookAfter(h); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.stepRepairs(t)
		for _, h := range w.hosts {
			h.node.Tick(h.node.Repairing())
		}
	}
	v := w.values(t)
	if want := "0 [first first2 second] [second]"; v[0] != want || v[1] != want {
		t.Errorf("got %q, want %q; %s", v, want, w.describe())
	}
}

// TestAHostThatIsStrandedWhileItRebuildsBeginsAnew fills a damaged host up with a branch that is
// then abandoned.
func TestAHostThatIsStrandedWhileItRebuildsBeginsAnew(t *testing.T) {
	w := forkedWorld(t, 1<<30)
	// host 2, on the abandoned branch, is what a damaged newcomer fills up from
	d := &host{i: 3, disk: w.hosts[2].disk.Clone()}
	w.hosts = append(w.hosts, d)
	w.open(t, d, false)
	d.node.SetDamaged(fmt.Errorf("rot: %w", store.ErrCorrupt))
	w.connect(2, 3)
	for range 6 {
		w.pump(t, 2, 3)
		w.deliver(t, 2, 3)
		w.pump(t, 3, 2)
		w.deliver(t, 3, 2)
	}
	if !d.node.DiscardDue() {
		t.Fatal("may not discard")
	}
	if err := d.node.Discard(); err != nil {
		t.Fatal(err)
	}
	for range 20 { // some of it came
		w.pump(t, 2, 3)
		w.deliver(t, 2, 3)
		w.pump(t, 3, 2)
		w.deliver(t, 3, 2)
	}
	w.cut(2, 3)
	w.connect(0, 1)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal2(3)(t)
	for i := range 3 {
		w.connect(i, 3)
	}
	w.heal(t)
}

// heal2 heals the first n hosts only.

func (w *world) heal2(n int) func(t *testing.T) {
	return func(t *testing.T) {
		all := w.hosts
		w.hosts = all[:n]
		w.heal(t)
		w.hosts = all
	}
}

// TestABranchIsComparedWhereItBegan has more deltas on the other branch than a chain names.
func TestABranchIsComparedWhereItBegan(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	putBack := w.image(t, a)
	for range gossip.MaxChain + 100 {
		w.write(t, a, counted(1))
	}
	w.connect(0, 1)
	for range 20 {
		w.settle2(t, 0, 1)
		for _, h := range w.hosts {
			h.node.Tick(false)
		}
	}
	putBack()
	w.write(t, a, added("s", "x"))
	w.connect(0, 1)
	for range 20 {
		w.heal(t)
	}
	if v := w.values(t); v[0] != v[1] {
		t.Errorf("%q %s", v, w.describe())
	}
	w.write(t, a, added("s", "y"))
	w.write(t, w.hosts[1], added("s", "z"))
	w.heal(t)
	t.Logf("%q", w.values(t))
}

// TestARottenRecordThatAnAbsentPeerHasComesBack has the record that rotted at a peer that was away.
func TestARottenRecordThatAnAbsentPeerHasComesBack(t *testing.T) {
	w := newWorld(t, 11, worldConfig{hosts: 3, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.connect(0, 1)
	w.connect(0, 2)
	w.connect(1, 2)
	w.settle(t)
	w.cut(0, 1)
	w.cut(1, 2)
	w.write(t, a, put("at host 2"))
	lost := a.node.LogEnd() - 1
	w.write(t, a, counted(10))
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, crdt.KeyAddress("r").Type(crdt.TypeValue)))
		rot.Set(numbered(prefixLog, lost), []byte("rot"))
	})
	w.forked = true
	w.open(t, a, false)
	if a.node.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.heal(t)
	t.Logf("%q", w.values(t))
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	w.settle(t)
	want := "11 [] [at host 2]"
	w.wantEach(t, want)
}

// TestARottenRecordAndALostTailHeal has the absent peer hold a tail too that a power failure took
// from the damaged host.
func TestARottenRecordAndALostTailHeal(t *testing.T) {
	w := newWorld(t, 11, worldConfig{hosts: 3, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	w.cut(0, 1)
	w.cut(1, 2)
	w.write(t, a, put("at host 2"))
	lost := a.node.LogEnd() - 1
	w.write(t, a, counted(10))
	disk := a.disk.Clone()
	w.write(t, a, counted(100)) // a tail that a power failure takes
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	a.disk = disk
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, crdt.KeyAddress("r").Type(crdt.TypeValue)))
		rot.Set(numbered(prefixLog, lost), []byte("rot"))
	})
	w.forked = true
	w.open(t, a, false)
	w.connect(0, 1)
	w.heal(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	want := "11 [] [at host 2]"
	w.wantEach(t, want)
}

// TestAFollowerThatWasBootstrappedLeavesTheBranch has a follower without a log of the branch.
func TestAFollowerThatWasBootstrappedLeavesTheBranch(t *testing.T) {
	w := forkedWorld(t, 1<<30)
	a := w.hosts[0]
	w.write(t, a, counted(100000))
	d := &host{i: 3, disk: mem.New()}
	w.hosts = append(w.hosts, d)
	w.open(t, d, false)
	if err := repairAll(a.node, d.node); err != nil {
		t.Fatal(err)
	}
	w.write(t, d, counted(1000000))
	w.connect(0, 1)
	w.heal2(3)(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal2(3)(t)
	t.Logf("%q", w.values(t))
	for i := range 3 {
		w.connect(i, 3)
	}
	w.heal(t)
	w.wantEach(t, "1111113 [first third] [first third]")
}

// TestAFollowerKeepsWhatHasNothingToDoWithTheFork has a follower with a cut log hold the only copy
// of a third host's write.
func TestAFollowerKeepsWhatHasNothingToDoWithTheFork(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 4, maxLog: 1 << 30})
	a, c, e := w.hosts[0], w.hosts[2], w.hosts[3]
	w.write(t, a, counted(1))
	w.write(t, e, counted(2))
	w.settle(t)
	for i := range 4 {
		for j := range i {
			w.cut(i, j)
		}
	}
	putBack := w.image(t, a)
	w.connect(0, 1)
	w.write(t, a, counted(10))
	w.settle2(t, 0, 1)
	putBack()
	w.write(t, a, counted(100))
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	w.write(t, e, counted(5)) // never saw the fork
	a2 := w.hosts[3].node.seen.Clone()
	w.connect(2, 3)
	for range 50 {
		w.pump(t, 3, 2)
		w.deliver(t, 3, 2)
		if w.hosts[2].node.seen[2] < 2 {
			w.pump(t, 2, 3)
			if l := w.links[[2]int{2, 3}]; len(l.frames) > 0 && l.frames[0][0] == 1 {
				w.deliver(t, 2, 3)
			}
		}
	}
	t.Log(a2, w.hosts[2].node.seen)
	w.cut(2, 3)    // and its host burns down: c alone has it
	c.cutLog(t, 2) // both replicas' first deltas
	w.connect(0, 1)
	w.heal2(3)(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal2(3)(t)
	for i, v := range w.values(t)[:3] {
		if v != "118 [] []" {
			t.Errorf("host %d: %s, want 118 (with the 5 of the lost host)", i, v)
		}
	}
}

// TestAFollowerThatHasMoreOfTheBranchLeavesItToo takes a tail of the branch from the store that
// forked, as a power failure may.
func TestAFollowerThatHasMoreOfTheBranchLeavesItToo(t *testing.T) {
	w := forkedWorld(t, 1<<30)
	a := w.hosts[0]
	disk := a.disk.Clone()
	w.write(t, a, counted(100000))
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	a.disk = disk // power failure
	w.open(t, a, false)
	w.connect(0, 1)
	w.heal(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	v := w.values(t)
	if v[0] != v[1] || v[1] != v[2] || v[0] != "11113 [first third] [first third]" {
		t.Errorf("%q, want 11113 [first third] [first third] %s", v, w.describe())
	}
}
