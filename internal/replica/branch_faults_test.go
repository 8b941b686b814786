package replica

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

// TestADamagedHostWaitsForWhatItReliedOn has a damaged host meet a peer that lags, after it was
// discarded because of one that does not.
func TestADamagedHostWaitsForWhatItReliedOn(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.write(t, a, put("x"))
	w.settle(t)
	w.cut(0, 2)
	w.cut(1, 2) // host 2 is away
	w.write(t, a, counted(10))
	w.settle2(t, 0, 1)
	for _, h := range w.hosts[:2] {
		h.cutLog(t, 3)
	}
	w.write(t, a, counted(100))
	w.settle2(t, 0, 1)
	if err := a.node.Save(w.now); err != nil {
		t.Fatal(err)
	}
	if err := w.hosts[1].node.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, crdt.KeyAddress("r").Type(crdt.TypeValue)))
	})
	w.cut(0, 1)
	w.open(t, a, false)
	if a.node.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	for range 200 {
		for i := range 2 {
			w.pump(t, i, 1-i)
			w.deliver(t, i, 1-i)
		}
		if err := w.lookAfter(a); err != nil {
			t.Fatal(err)
		}
		if a.node.Rebuilding() {
			break
		}
	}
	if !a.node.Rebuilding() {
		t.Fatal("it was not discarded")
	}
	w.cut(0, 1) // the good peer restarts just then
	w.forked = true
	w.connect(0, 2)
	for range 100 {
		w.pump(t, 0, 2)
		w.deliver(t, 0, 2)
		w.pump(t, 2, 0)
		w.deliver(t, 2, 0)
		w.stepRepairs(t)
		if err := w.lookAfter(a); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("rebuilding %v; context %v", a.node.Rebuilding(), a.node.seen)
	w.connect(0, 1)
	w.connect(1, 2)
	w.heal(t)
	w.wantEach(t, "111 [] [x]")
}

// TestWhatIsMissingOfTheGoodBranchIsAskedFor has dots of the good branch missing that have the
// numbers of abandoned ones.
func TestWhatIsMissingOfTheGoodBranchIsAskedFor(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, counted(1))
	w.settle(t)
	// b knows of a branch of a's id that was abandoned, and is at the common dot
	branch := gossip.Branch{Replica: a.node.ID(), Common: 1, Healed: crdt.VersionVector{99: 1},
		Links: []gossip.ChainLink{{Last: 2, Hash: 1}, {Last: 3, Hash: 2}, {Last: 4, Hash: 3}}}
	b.node.Abandon([]gossip.Branch{branch})
	// a prune is on the way, as it is when another link was faster before it died
	if err := a.node.Mesh.Receive(name(1), prune(a.node.ID()), nil); err != nil {
		t.Fatal(err)
	}
	w.write(t, a, counted(10))
	w.write(t, a, counted(100))
	for range 2000 {
		w.settle2ticks(t)
	}
	if v := w.values(t); v[0] != v[1] {
		t.Errorf("%q", v)
	}
}

func prune(id crdt.ReplicaID) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{4})
		w.Array(1)
		w.Array(1)
		w.Uint(uint64(id))
	})
}

func (w *world) settle2ticks(t *testing.T) {
	w.pump(t, 0, 1)
	w.pump(t, 1, 0)
	w.deliver(t, 0, 1)
	w.deliver(t, 1, 0)
	for _, h := range w.hosts {
		h.node.Tick(false)
		h.node.SendDigest(w.rng)
	}
}

// TestNobodyIsStrangeWithoutAFork runs healthy hosts through crashes, wipes, copies put back, cut
// logs and repairs.
func TestNobodyIsStrangeWithoutAFork(t *testing.T) {
	bad := map[string]int{}
	for seed := uint64(1); seed <= max(10, *seedsFlag/10); seed++ {
		w := newWorld(t, seed, worldConfig{hosts: 3 + int(seed%3), maxLog: []int64{500, 2000, 8000, 1 << 30}[seed%4], crashes: true})
		copies := map[int][]*mem.Store{}
		first := true
		for i := range 1500 {
			w.step(t)
			h := w.hosts[w.rng.IntN(len(w.hosts))]
			if seed%2 == 0 && w.rng.IntN(60) == 0 && !h.node.Repairing() {
				copies[h.i] = append(copies[h.i], h.disk.Clone())
			}
			if c := copies[h.i]; len(c) > 0 && w.rng.IntN(80) == 0 {
				for j := range w.hosts {
					w.cut(h.i, j)
				}
				w.say("host %d is put back from a copy", h.i)
				h.disk = c[w.rng.IntN(len(c))].Clone()
				w.open(t, h, false)
			}
			for _, h := range w.hosts {
				for j := range w.hosts {
					if h.node.Strange(name(j)) && first {
						bad["strange"]++
						first = false
						t.Logf("seed %d step %d: host %d takes %d for strange: forks %v", seed, i, h.i, j, h.node.Forks())
					}
				}
				if left, _ := h.node.Leaves(); (len(left) > 0 || len(h.node.Forks()) > 0) && first {
					first = false
					bad["forks"]++
					t.Logf("seed %d step %d: host %d leaves %v, forks %v", seed, i, h.i, left, h.node.Forks())
				}
			}
			if !first {
				break
			}
		}
	}
	if len(bad) > 0 {
		t.Error(bad)
	}
}

// TestOneImageRestoredTwiceLosesNothing has two branches that begin at one dot.
func TestOneImageRestoredTwiceLosesNothing(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	putBack := w.image(t, a)
	w.forked = true
	w.connect(0, 1)
	w.write(t, a, counted(10))
	w.settle2(t, 0, 1)
	for _, n := range []int64{100, 1000} {
		w.cut(0, 1)
		w.now = w.now.Add(time.Second)
		putBack()
		w.write(t, a, counted(n))
		w.connect(0, 1)
		w.heal(t)
	}
	w.wantEach(t, "1111 [] []")
}

// TestAnImageOfAHostThatHealsIsNotHealedTwice takes an image of the host at each moment of its healing, and puts
// it back once all have healed.
func TestAnImageOfAHostThatHealsIsNotHealedTwice(t *testing.T) {
	for _, who := range []int{0, 2} { // the one that forked, and one that followed it
		images := 0
		for round := range 60 {
			w := forkedWorld(t, 1<<30)
			h := w.hosts[who]
			for _, l := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
				w.connect(l[0], l[1])
			}
			for range round {
				w.healRound(t)
			}
			if !h.node.Rebuilding() {
				continue
			}
			images++
			putBack := w.image(t, h)
			for j := range w.hosts {
				if j != who {
					w.connect(who, j)
				}
			}
			w.heal(t)
			w.wantEach(t, "11113 [first third] [first third]")
			w.write(t, h, counted(100_000))
			w.settle(t)
			for j := range w.hosts {
				w.cut(who, j)
			}
			putBack()
			for j := range w.hosts {
				if j != who {
					w.connect(who, j)
				}
			}
			w.heal(t)
			w.wantEach(t, "111113 [first third] [first third]")
			if t.Failed() {
				t.Fatalf("host %d, image in round %d", who, round)
			}
		}
		if images == 0 {
			t.Errorf("host %d was never seen healing", who)
		}
		t.Logf("%d images of host %d", images, who)
	}
}

// TestARebuildThatBeginsAgainIssuesNothingTwice has a host discard what it has got of the other branch, at each
// moment of its healing: what it then puts aside has its dots from both branches.
func TestARebuildThatBeginsAgainIssuesNothingTwice(t *testing.T) {
	full := 0
	for round := range 40 {
		w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
		a := w.hosts[0]
		w.write(t, a, counted(1))
		w.settle(t)
		putBack := w.image(t, a)
		w.forked = true
		w.connect(0, 1)
		for range 5 {
			w.write(t, a, counted(10))
		}
		w.settle2(t, 0, 1)
		putBack()
		w.write(t, a, counted(100))
		w.connect(0, 1)
		for range round {
			w.healRound(t)
		}
		if !a.node.Rebuilding() {
			continue
		}
		if a.node.seen[1] == 6 {
			full++
		}
		if err := a.node.Discard(); err != nil {
			t.Fatal(err)
		}
		w.heal(t)
		w.wantEach(t, "151 [] []")
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	if full == 0 {
		t.Error("the host never had the other branch")
	}
}

func TestTheMarkOfARebuildNamesAllThatIsLeft(t *testing.T) {
	var left []gossip.BranchName
	for i := range maxBranches + 1 {
		left = append(left, gossip.BranchName{Replica: crdt.ReplicaID(i + 1), Common: 1})
	}
	mark := &rebuild{left: left}
	if got, err := decodeRebuild(mark.encode()); err != nil || len(got.left) != len(left) {
		t.Errorf("the mark of a rebuild that leaves %d branches cannot be read: %v", len(left), err)
	}
}

// TestBranchesThatAreNotHealedAreNeverForgotten has more of them than are remembered of the healed
// ones: a store that has them opens again, and has all.
func TestBranchesThatAreNotHealedAreNeverForgotten(t *testing.T) {
	w := newWorld(t, 12, worldConfig{hosts: 1})
	a := w.hosts[0]
	r := a.node.Replica
	for i := range 2 * maxBranches {
		r.addBranch(gossip.Branch{
			Replica: crdt.ReplicaID(i + 1), Common: 1, Links: []gossip.ChainLink{{Last: 2, Hash: 3}},
		})
	}
	a.spoil(t, func(b *store.Batch) { b.Set(keyBranches, r.encodeBranches()) })
	w.open(t, a, true)
	if got := len(a.node.branches); got != 2*maxBranches {
		t.Errorf("%d of %d branches were read again", got, 2*maxBranches)
	}
}

// TestDeathAtEveryCommitOfHealingLosesNothing kills the store that forked, and one that followed
// it.
func TestDeathAtEveryCommitOfHealingLosesNothing(t *testing.T) {
	for _, who := range []int{0, 2} {
		deaths := 0
		for k := 0; ; k++ {
			w := forkedWorld(t, 1<<30)
			h := w.hosts[who]
			st := &failing{Store: h.disk, left: k}
			keep := Config{NewID: w.newID, KeepID: h.node.Token(), MaxLogBytes: 1 << 30}
			if err := h.node.Save(w.now); err != nil {
				t.Fatal(err)
			}
			r, err := Open(h.disk, keep)
			if err != nil {
				t.Fatal(err)
			}
			r.st = st
			h.node = NewNode(r)
			h.epoch++
			w.connect(0, 1)
			w.connect(0, 2)
			w.connect(1, 2)
			died := w.healOrDie(t, h)
			if !died {
				t.Logf("host %d: %d deaths", who, deaths)
				break
			}
			deaths++
			h.disk = h.disk.Clone()
			for j := range w.hosts {
				w.cut(h.i, j)
			}
			w.open(t, h, false)
			w.connect(0, 1)
			w.connect(0, 2)
			w.connect(1, 2)
			w.heal(t)
			want := "11113 [first third] [first third]"
			if got := w.values(t); !slices.Equal(got, []string{want, want, want}) {
				t.Fatalf("host %d, commit %d: got %q, want %q", who, k, got, want)
			}
		}
	}
}

func (w *world) healOrDie(t *testing.T, h *host) (died bool) {
	try := func(err error) bool {
		if err != nil && !errors.Is(err, errDied) {
			t.Fatal(err)
		}
		return err != nil
	}
	for range 600 {
		for i, o := range w.hosts {
			for j := range w.hosts {
				w.pump(t, i, j)
				l := w.links[[2]int{i, j}]
				if l == nil || len(l.frames) == 0 {
					continue
				}
				if w.hosts[j] != h {
					w.deliver(t, i, j)
					continue
				}
				frame := l.frames[0]
				l.frames = l.frames[1:]
				g := h.node.Begin(w.now)
				if try(h.node.Receive(g, name(i), frame)) {
					return true
				}
				if _, err := g.Commit(false); try(err) {
					return true
				}
				for _, e := range h.node.Events() {
					if e.Kind == gossip.Behind {
						if err := repairAll(w.hosts[index(e.From)].node, h.node); errors.Is(err, errDied) {
							return true
						}
					}
				}
			}
			o.node.Tick(o.node.Repairing())
			if try(w.lookAfter(o)) {
				return true
			}
		}
	}
	return false
}

// TestAnOldHeadOfALongBranchIsNotTakenForAnotherFork abandons more deltas than are remembered. A
// follower whose head is older stays strange and alarmed; nothing is counted twice.
func TestAnOldHeadOfALongBranchIsNotTakenForAnotherFork(t *testing.T) {
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
	w.write(t, a, counted(100))
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.write(t, w.hosts[2], counted(1000))
	w.cut(0, 2)
	for range gossip.MaxChain + 100 {
		w.write(t, a, put("y"))
	}
	w.connect(0, 1)
	w.heal(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	want := []string{"111 [] [y]", "111 [] [y]", "1101 [] []"}
	if got := w.values(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(w.hosts[2].node.Forks()) == 0 {
		t.Error("the follower is not alarmed")
	}
}
