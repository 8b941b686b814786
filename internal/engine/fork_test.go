package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// image takes an image of a host's running machine, memory and all. putBack starts it in the machine's place.
func (w *world) image(t *testing.T, h *host) (putBack func()) {
	t.Helper()
	disk, id := h.disk.Clone(), h.engine.ID()
	return func() {
		t.Helper()
		for j := range w.hosts {
			w.cut(h.i, j)
		}
		h.disk, w.forked = disk.Clone(), true
		w.open(t, h)
		h.engine.replica.id = id
		delete(h.engine.gained, id)
	}
}

// forkedWorld returns hosts 0, 1 and 2: 0 wrote one branch to 1, was put back to an image of its memory, and wrote
// another branch to 2, which wrote on top of it.
func forkedWorld(t *testing.T) *world {
	w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
	a, c := w.hosts[0], w.hosts[2]
	w.write(t, a, counted(1))
	w.write(t, a, added("s", "base"))
	w.write(t, c, counted(2))
	w.settle(t)
	w.cut(0, 2)
	w.cut(1, 2)
	putBack := w.image(t, a)
	w.write(t, a, put("first"))
	w.write(t, a, counted(10))
	w.write(t, a, added("s", "first"))
	w.write(t, a, removed("s", "base"))
	w.settle2(t, 0, 1)
	w.cut(0, 1)

	putBack()
	w.write(t, a, put("second"))
	w.write(t, a, counted(100))
	w.write(t, a, added("s", "second"))
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.write(t, c, put("third"))
	w.write(t, c, counted(1000))
	w.settle2(t, 0, 2)
	return w
}

const (
	firstSide  = "13 [first] [first]"
	secondSide = "1103 [base second] [third]"
)

// pass lets time pass.
func (w *world) pass(t *testing.T) {
	t.Helper()
	for range 300 {
		w.healRound(t)
	}
}

// TestHostsOnTwoSidesOfAForkExchangeNothing has all hosts meet, and write on.
func TestHostsOnTwoSidesOfAForkExchangeNothing(t *testing.T) {
	w := forkedWorld(t)
	id := w.hosts[0].engine.ID()
	w.connectAll()
	w.pass(t)
	want := []string{secondSide, firstSide, secondSide}
	if got := w.values(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	w.write(t, w.hosts[1], counted(100_000))
	w.write(t, w.hosts[2], counted(1_000_000))
	w.pass(t)
	want = []string{"1001103 [base second] [third]", "100013 [first] [first]", "1001103 [base second] [third]"}
	if got := w.values(t); !slices.Equal(got, want) {
		t.Errorf("after more writes got %q, want %q", got, want)
	}
	for i, there := range [][]gossip.NeighbourID{{"1"}, {"0", "2"}, {"1"}} {
		forks := w.hosts[i].engine.Forks()
		if len(forks) != 1 || forks[0].Replica != id || !slices.Equal(forks[0].There, there) || forks[0].Parts != 2 {
			t.Errorf("host %d says %+v, want replica %v, that parts after 2, at %v", i, forks, id, there)
		}
	}
	if here := w.hosts[2].engine.Forks()[0].Here; !slices.Equal(here, []gossip.NeighbourID{"0"}) {
		t.Errorf("host 2 says that its side is at %v as well, want host 0", here)
	}
}

// TestASideThatIsEndedIsTakenInAgain ends either side: what only it had is salvaged, and nothing else is lost.
func TestASideThatIsEndedIsTakenInAgain(t *testing.T) {
	for name, c := range map[string]struct {
		ended    []int
		stays    string
		salvaged []string
	}{
		"the first":  {[]int{1}, secondSide, []string{"add 10", "first", "remove", "s first"}},
		"the second": {[]int{0, 2}, firstSide, []string{"add 100", "add 1000", "s second", "second", "third"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := forkedWorld(t)
			w.connectAll()
			w.pass(t)
			var salvaged []string
			for _, i := range c.ended {
				salvaged = append(salvaged, w.salvage(t, w.hosts[i])...)
			}
			for _, i := range c.ended {
				w.restart(t, w.hosts[i], "is wiped")
			}
			slices.Sort(salvaged)
			if got := slices.Compact(salvaged); !slices.Equal(got, c.salvaged) {
				t.Errorf("salvaged %q, want %q", got, c.salvaged)
			}
			w.settle(t)
			w.wantEach(t, c.stays)
			for _, h := range w.hosts {
				if f := h.engine.Forks(); len(f) > 0 {
					t.Errorf("host %d still says %+v", h.i, f)
				}
			}
		})
	}
}

// salvage closes a host and says what Salvage finds, in short.
func (w *world) salvage(t *testing.T, h *host) (found []string) {
	t.Helper()
	if err := h.engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	return salvaged(t, h.disk)
}

func salvaged(t *testing.T, disk *disk) (found []string) {
	t.Helper()
	err := Salvage(disk, disk.log, func(s Salvaged) error {
		d := delta.Describe(s.Op)
		what := d.Operation
		switch d.Operation {
		case "add":
			what = fmt.Sprint("add ", d.Amount)
		case "set":
			what = string(d.Value)
		case "insert":
			what = fmt.Sprint(d.Key, " ", d.Path[0].Name)
		}
		found = append(found, what)
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		t.Fatal(err)
	}
	return found
}

// TestAnImageThatMeetsItsOwnWritesIsAFork has a machine put back that wrote nothing since: a neighbour has dots of its
// id that it never issued.
func TestAnImageThatMeetsItsOwnWritesIsAFork(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	putBack := w.image(t, a)
	w.write(t, a, counted(10))
	w.settle(t)
	putBack()
	w.connect(0, 1)
	w.pass(t)
	for i, h := range w.hosts {
		if !h.engine.Quarantined(name(1 - i)) {
			t.Errorf("host %d has the other not in quarantine", i)
		}
	}
}

// TestARepairAcrossAForkIsRefused has the log of the one that has more reach no further than its newest delta.
func TestARepairAcrossAForkIsRefused(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, counted(1))
	putBack := w.image(t, a)
	w.write(t, a, counted(10))
	w.settle(t)
	putBack()
	w.write(t, a, counted(100))
	for range 2 {
		w.write(t, b, counted(1000))
	}
	source, err := b.engine.Pin()
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	a.engine.Connect("1", 0)
	if _, err := a.engine.beginRepairFrom("1", source.seen, source.heads); !errors.Is(err, ErrForked) {
		t.Errorf("the repair begins: %v", err)
	}
	if !a.engine.Quarantined("1") {
		t.Error("the neighbour is not in quarantine")
	}
	a.engine.Serve("1", func(_ *Pinned, why error) { err = why })
	if w.round(t, a); !errors.Is(err, ErrForked) {
		t.Errorf("it would be served a repair: %v", err)
	}
}

// TestNothingIsDiscardedWhileAForkIsKnown has a damaged host meet the other side.
func TestNothingIsDiscardedWhileAForkIsKnown(t *testing.T) {
	w := forkedWorld(t)
	w.connectAll()
	w.pass(t)
	c := w.hosts[2]
	c.engine.setDamaged(errors.New("rot"))
	w.pass(t)
	if c.engine.Rebuilding() {
		t.Error("it was discarded, and could not tell the two sides apart any more")
	}
}

func TestAnIDLivesForOneStart(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 1})
	a := w.hosts[0]
	ids := map[crdt.ReplicaID]bool{}
	for i, how := range []string{"closes", "is killed", "crashes", "closes"} {
		w.write(t, a, counted(1))
		ids[a.engine.ID()] = true
		if len(ids) != i+1 {
			t.Errorf("start %d writes under an id that was there before: %v", i, ids)
		}
		w.restart(t, a, how)
	}
	w.write(t, a, counted(1))
	if v := w.values(t); v[0] == "0 [] []" {
		t.Error("nothing is left")
	}
	before, _ := a.engine.Context()
	replicas := len(before)
	w.restart(t, a, "closes")
	if seen, _ := a.engine.Context(); len(seen) != replicas {
		t.Errorf("a start without a write adds to the context: %v", seen)
	}
}

// TestWhatOthersAreKnownToHaveIsNotSalvaged writes before and after a neighbour was told.
func TestWhatOthersAreKnownToHaveIsNotSalvaged(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, put("known"))
	w.settle(t)
	w.pass(t)
	w.cut(0, 1)
	w.write(t, a, put("only here"))
	if got := w.salvage(t, a); !slices.Equal(got, []string{"only here"}) {
		t.Errorf("salvaged %q", got)
	}
	w.restart(t, a, "is killed") // the id is in no checkpoint, or in one
	w.write(t, a, counted(5))
	a.disk = a.disk.Clone()
	found := 0
	if err := Salvage(a.disk, a.disk.log, func(Salvaged) error { found++; return nil }); err != nil || found != 2 {
		t.Errorf("after a crash %d operations are found (%v), want 2 of two ids", found, err)
	}
}

// TestWhatTheLogHasNoMoreIsSalvagedFromTheCells cuts the log.
func TestWhatTheLogHasNoMoreIsSalvagedFromTheCells(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, put("cut off"))
	w.write(t, a, added("s", "logged"))
	a.cutLog(t, 1)
	if got := w.salvage(t, a); !slices.Equal(got, []string{"s logged", "cut off"}) {
		t.Errorf("salvaged %q", got)
	}
}

// TestAnOlderCheckpointHidesNoID has a rotten table give an older record of the checkpoint than the
// log was cut for.
func TestAnOlderCheckpointHidesNoID(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, added("s", "first"))
	must(t, a.engine.Save(w.now))
	before := a.disk.Snapshot()
	older, found, err := before.Get(keyCheckpoint)
	before.Close()
	if err != nil || !found {
		t.Fatal(found, err)
	}
	w.restart(t, a, "is killed")
	w.write(t, a, added("s", "second"))
	must(t, a.engine.Save(w.now))
	must(t, a.disk.log.DropBefore(a.disk.log.Next()))
	rot := &store.Batch{}
	rot.Set(keyCheckpoint, older)
	must(t, a.disk.Commit(rot, true))
	if got := salvaged(t, a.disk); !slices.Equal(got, []string{"s first", "s second"}) {
		t.Errorf("salvaged %q", got)
	}
}

// wornStoreLog is a wornLog that nobody has open.
type wornStoreLog struct {
	store.Log
	worn wornLog
}

func (l wornStoreLog) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	return l.worn.Read(from, buffer)
}

// TestWhatTheDiskDoesNotGiveBackOfTheLogHidesNothingElse has that be what is before a checkpoint,
// and all of it.
func TestWhatTheDiskDoesNotGiveBackOfTheLogHidesNothingElse(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, put("in the tree"))
	must(t, a.engine.Save(w.now))
	w.write(t, a, added("s", "in the log"))
	for from, want := range map[store.Position]int{Durable(a.disk): 2, a.disk.log.Next() + 1: 1} {
		found := 0
		worn := wornStoreLog{a.disk.log, wornLog{a.disk.log, from}}
		err := Salvage(a.disk, worn, func(Salvaged) error { found++; return nil })
		if found != want || !errors.Is(err, store.ErrCorrupt) || !errors.Is(err, store.ErrUnreadable) {
			t.Errorf("with a log that is read from %d on %d operations are found (%v), want %d", from, found, err, want)
		}
	}
}

// TestARebuildThatCannotEndIsSalvaged has a record of the log rot, and deltas of two ids that saw it: nobody has what
// they follow.
func TestARebuildThatCannotEndIsSalvaged(t *testing.T) {
	w := newWorld(t, 11, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	w.pass(t)
	w.cut(0, 1)
	w.write(t, a, put("lost"))
	lost := a.engine.LogEnd() - 1
	w.write(t, a, counted(10))
	w.restart(t, a, "is killed")
	w.write(t, a, added("s", "kept"))
	a.rotLog(t, lost)
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.pass(t)
	if !a.engine.Rebuilding() || !a.engine.waits() {
		t.Fatalf("rebuilding %v, waits %v", a.engine.Rebuilding(), a.engine.waits())
	}
	if got := w.salvage(t, a); !slices.Equal(got, []string{"add 10", "s kept"}) {
		t.Errorf("salvaged %q", got)
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
		c.theirs.Replica = a.engine.ID()
		if found, _ := searched(t, a, a.engine.Compare("x", c.theirs)); found.Forks != c.forks {
			t.Errorf("%+v: forks %v", c.theirs, found.Forks)
		}
	}
}

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
		if err := repairAll(a.engine, b.engine); err != nil { // a newcomer, bootstrapped
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
		w.open(t, a)
		w.connect(0, 1)
		w.heal(t)
		want := fmt.Sprint(8+2*behind, " [] []")
		if v := w.values(t); v[0] != want || v[1] != want {
			t.Errorf("counts %q, want %s", v, want)
		}
	}
}

// TestNobodyIsInQuarantineWithoutAFork runs healthy hosts through crashes, wipes, copies put back, cut
// logs and repairs.
func TestNobodyIsInQuarantineWithoutAFork(t *testing.T) {
	for seed := uint64(1); seed <= max(10, *seedsFlag/10); seed++ {
		w := newWorld(t, seed, worldConfig{hosts: 3 + int(seed%3), maxLog: []int64{500, 2000, 8000, 1 << 30}[seed%4], crashes: true})
		copies := map[int][]*disk{}
		for i := range 1500 {
			w.step(t)
			h := w.hosts[w.rng.IntN(len(w.hosts))]
			if seed%2 == 0 && w.rng.IntN(60) == 0 && !h.engine.Repairing() {
				copies[h.i] = append(copies[h.i], h.disk.Clone())
			}
			if c := copies[h.i]; len(c) > 0 && w.rng.IntN(80) == 0 {
				for j := range w.hosts {
					w.cut(h.i, j)
				}
				w.say("host %d is put back from a copy", h.i)
				h.disk = c[w.rng.IntN(len(c))].Clone()
				w.open(t, h)
			}
			for _, h := range w.hosts {
				if f := h.engine.Forks(); len(f) > 0 {
					t.Fatalf("seed %d step %d: host %d says %+v", seed, i, h.i, f)
				}
			}
		}
	}
}

// TestAHostThatGoesOnWhereTheOthersAreLeavesQuarantine puts a machine back to two images: the first one is a fork, and
// the second one, in its place, holds all that its neighbour has, and goes on from there.
func TestAHostThatGoesOnWhereTheOthersAreLeavesQuarantine(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	w.settle(t)
	early := w.image(t, a)
	w.write(t, a, counted(10))
	w.settle(t)
	late := w.image(t, a)
	early()
	w.write(t, a, counted(100))
	w.connect(0, 1)
	w.pass(t)
	if !a.engine.Quarantined("1") || !w.hosts[1].engine.Quarantined("0") {
		t.Fatal("there is no fork")
	}
	late()
	w.write(t, a, counted(1000))
	w.write(t, w.hosts[1], counted(10_000))
	w.settle(t)
	w.wantEach(t, "11011 [] []")
	for _, h := range w.hosts {
		if f := h.engine.Forks(); len(f) > 0 {
			t.Errorf("host %d still says %+v", h.i, f)
		}
	}
}

// TestWhatAnImageLostIsSalvaged puts a machine back to two images. A neighbour knew that the first one had some writes
// that both have in common; the second one is from before.
func TestWhatAnImageLostIsSalvaged(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, counted(1))
	w.settle(t)
	early := w.image(t, a)
	w.write(t, a, put("lost"))
	w.write(t, b, put("of b"))
	w.settle(t)
	late := w.image(t, a)
	w.write(t, a, counted(10))
	w.settle(t)
	late()
	w.write(t, a, counted(100))
	w.connect(0, 1)
	w.pass(t)
	early()
	w.write(t, a, counted(1000))
	w.connect(0, 1)
	w.pass(t)
	w.maintain(t, b)
	want := []string{"of b", "lost", "add 10"}
	if got := salvaged(t, b.disk.Clone()); !slices.Equal(got, append([]string{"add 1"}, want...)) {
		t.Errorf("after a crash, when the last checkpoint did not know what both have: salvaged %q", got)
	}
	w.close(t, b)
	if got := salvaged(t, b.disk); !slices.Equal(got, want) {
		t.Errorf("salvaged %q", got)
	}
}

// TestAChainEndsBeforeAHoleBehindWhatIsAsked has a log with a hole behind the dot that the asker is known to have.
func TestAChainEndsBeforeAHoleBehindWhatIsAsked(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	w.write(t, a, counted(1))
	id := a.engine.ID()
	head := a.engine.heads[id]
	w.write(t, a, counted(2))
	w.write(t, a, counted(3))
	a.spoilLog(t, a.engine.LogEnd()-2)
	a.engine.log.recent = nil
	c, _ := searched(t, a, a.engine.Chain(id, 1))
	if len(c.Links) != 1 || c.Links[0] != (gossip.ChainLink{Last: 1, Hash: head}) {
		t.Errorf("got %+v, want the delta that ends at dot 1", c)
	}
}

// searched carries a search to its end, and returns the most work that a step of it did.
func searched[T any](t *testing.T, h *host, search gossip.Search[T]) (found T, worst int) {
	t.Helper()
	for done := false; !done; {
		h.engine.beginStep()
		began := h.engine.work
		var err error
		found, done, err = search()
		must(t, err)
		worst = max(worst, h.engine.work-began)
	}
	return found, worst
}

// TestChainsAreFoundAndComparedInSteps has a log that no step could read at once, and a chain that
// parts from it late.
func TestChainsAreFoundAndComparedInSteps(t *testing.T) {
	const writes, budget, record = 500, 100, 20
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	for range writes {
		w.write(t, a, counted(1))
	}
	a.engine.log.recent = nil
	a.engine.cfg.StepWork = budget
	c, worst := searched(t, a, a.engine.Chain(a.engine.ID(), writes))
	if len(c.Links) != writes || worst > budget+record {
		t.Errorf("%d links, with %d units of work in a step; want %d, with a budget of %d",
			len(c.Links), worst, writes, budget)
	}
	c.Links[writes-1].Hash++
	found, worst := searched(t, a, a.engine.Compare("x", c))
	want := gossip.Comparison{Forks: true, Last: writes - 1}
	if found != want || worst > budget+record {
		t.Errorf("%+v, with %d units of work in a step; want %+v, with a budget of %d",
			found, worst, want, budget)
	}
}

// TestAHelloOfManyWhoAreBehindIsBounded has a neighbour be behind in what many hosts wrote, of which
// the log has much. All forks are found, and no more is read for each than may be.
func TestAHelloOfManyWhoAreBehindIsBounded(t *testing.T) {
	const hosts, large = 10, 400_000
	w := newWorld(t, 1, worldConfig{hosts: hosts, maxLog: 1 << 30})
	for i, h := range w.hosts {
		for range 2 {
			w.write(t, h, func(f crdt.Fields) error {
				return f.String(fmt.Sprint(i)).Set(make([]byte, large))
			})
		}
	}
	w.settle(t)
	a := w.hosts[hosts-1]
	theirs, heads := crdt.VersionVector{}, delta.Heads{}
	for id := range a.engine.seen {
		theirs[id], heads[id] = 1, 7
	}
	a.engine.log.recent = nil
	a.engine.beginStep()
	began := a.engine.work
	d := a.engine.Heard(theirs, heads)
	if work := a.engine.work - began; work > hosts*(maxSearched+2*workOf(large)) || work != a.engine.turn.searched {
		t.Errorf("it did %d units of work, of which %d are said", work, a.engine.turn.searched)
	}
	if len(d.Forked) != hosts {
		t.Errorf("of %d forks it found %v", hosts, d.Forked)
	}
}

// TestARepairLooksAtTheChainsOfAll has a source lack the end of more chains than a hello has looked
// up, and the last of them be another: what its cells are without would be removed here.
func TestARepairLooksAtTheChainsOfAll(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	for range maxCompared + 6 {
		w.write(t, a, counted(1))
		w.write(t, a, counted(1))
		w.restart(t, a, "is killed")
	}
	theirs, heads := crdt.VersionVector{}, delta.Heads{}
	must(t, a.engine.readLog(1, func(rec logged) bool {
		for _, d := range rec.deltas {
			if d.First == 1 {
				theirs[d.Replica], heads[d.Replica] = d.Last(), d.Hash()
			}
		}
		return true
	}))
	forked := theirs.Replicas()[len(theirs)-1]
	heads[forked]++
	_, err := a.engine.beginRepair(theirs, heads)
	if len(theirs) <= maxCompared || !errors.Is(err, ErrForked) || !strings.Contains(err.Error(), forked.String()) {
		t.Errorf("of %d chains, of which that of %v forks, it says: %v", len(theirs), forked, err)
	}
}

// TestWhoWaitsForALargeDeltaIsKnown has a neighbour say hello that has all before one of several
// large deltas: what it has is found without reading those, and then without reading at all.
func TestWhoWaitsForALargeDeltaIsKnown(t *testing.T) {
	const large = 3 << 20
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	a := w.hosts[0]
	heads := map[uint64]delta.Hash{}
	for i := range 3 {
		w.write(t, a, func(f crdt.Fields) error {
			return f.String(fmt.Sprint(i)).Set(make([]byte, large))
		})
		w.write(t, a, counted(1))
		heads[a.engine.seen[a.engine.ID()]] = a.engine.heads[a.engine.ID()]
	}
	a.engine.log.recent = nil
	for last, head := range heads {
		for _, most := range []int{workOf(large) / 2, 0} {
			a.engine.beginStep()
			began := a.engine.work
			if !a.engine.Agrees(a.engine.ID(), last, head) {
				t.Errorf("what ends at dot %d is not found", last)
			}
			if work := a.engine.work - began; work > most {
				t.Errorf("to find what ends at dot %d was %d units of work, want %d at most", last, work, most)
			}
		}
	}
}

// TestARepairEndsWhenItsSourceIsFoundAcrossAFork has a host hear only while it is repaired that its source is on
// another side of a fork. Taking the repair over would remove what is here, as if it had been removed there.
func TestARepairEndsWhenItsSourceIsFoundAcrossAFork(t *testing.T) {
	w := newWorld(t, 5, worldConfig{hosts: 3, maxLog: 1 << 30})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.write(t, c, counted(1))
	w.settle(t)
	w.cut(0, 1)
	w.cut(1, 2)
	putBack := w.image(t, c)
	w.write(t, c, added("s", "first"))
	w.write(t, c, counted(10))
	w.settle2(t, 0, 2)
	putBack()
	for range 3 {
		w.write(t, c, counted(100))
	}
	w.connect(1, 2)
	w.settle2(t, 1, 2)
	w.cut(1, 2)
	w.connect(0, 1)
	a.engine.startPull("1")
	for range 5 {
		w.round(t, a)
		w.stepRepairs(t)
	}
	if len(w.repairs) != 1 {
		t.Fatal("it was refused at once")
	}
	for range 50 {
		w.pump(t, 0, 1)
		w.pump(t, 1, 0)
		w.deliver(t, 0, 1)
		w.deliver(t, 1, 0)
	}
	if !a.engine.Quarantined("1") || !b.engine.Quarantined("0") {
		t.Fatal("there is no quarantine")
	}
	before := w.values(t)[0]
	for range 100 {
		w.stepRepairs(t)
	}
	if got := w.values(t)[0]; w.done["repair"] > 0 || got != before || a.engine.Repairing() {
		t.Errorf("it was taken over: %s became %s", before, got)
	}
}

// TestWhoWillNotComeBackIsOnNoSideOfAFork has the host on the other side of one be given up while
// it is away, of hosts that noticed the fork, and of one that was started again since.
func TestWhoWillNotComeBackIsOnNoSideOfAFork(t *testing.T) {
	w := forkedWorld(t)
	a, c := w.hosts[0], w.hosts[2]
	w.connectAll()
	w.pass(t)
	gone := func(id gossip.NeighbourID) bool { return id == "1" }
	a.engine.GiveUp(gone)
	if len(a.engine.Forks()) != 1 {
		t.Fatal("the quarantine of a host that is linked ends")
	}
	w.cut(0, 1)
	w.cut(1, 2)
	must(t, c.engine.Save(w.now))
	w.restart(t, c, "closes")
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	for _, h := range []*host{a, c} {
		h.engine.GiveUp(gone)
		if forks := h.engine.Forks(); len(forks) > 0 {
			t.Errorf("host %d says %v", h.i, forks)
		}
	}
	w.write(t, c, added("s", "since"))
	w.settle2(t, 0, 2)
	w.pass(t)
	for _, h := range []*host{a, c} {
		w.restart(t, h, "closes") // what is stored names nobody
		w.connect(0, 2)
		w.settle2(t, 0, 2)
		w.pass(t)
		if got := w.salvage(t, h); len(got) > 0 {
			t.Errorf("of host %d, what another has is salvaged: %q", h.i, got)
		}
	}
}

// TestWithoutACheckpointThatCanBeReadAllCellsAreSalvaged has that rot, or be gone with what is
// rotten of a table, which says who wrote here and what others are known to have, where the log no
// longer has what was written.
func TestWithoutACheckpointThatCanBeReadAllCellsAreSalvaged(t *testing.T) {
	for _, gone := range []bool{false, true} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		h := w.hosts[0]
		w.write(t, h, added("s", "in the tree"))
		must(t, h.engine.Save(w.now))
		w.restart(t, h, "is killed")
		w.write(t, h, added("s", "in the log"))
		must(t, h.disk.log.Sync())
		must(t, h.disk.log.DropBefore(Durable(h.disk.tree())))
		snap := h.disk.tree().Snapshot()
		record, _, err := snap.Get(keyCheckpoint)
		must(t, err)
		snap.Close()
		b := &store.Batch{}
		if b.Delete(keyCheckpoint); !gone {
			record[len(record)/2] ^= 1
			b.Set(keyCheckpoint, record)
		}
		must(t, h.disk.tree().Commit(b, true))
		got := salvaged(t, h.disk)
		if want := []string{"s in the log", "s in the tree"}; !slices.Equal(got, want) {
			t.Errorf("gone %v: %q is salvaged, want %q", gone, got, want)
		}
	}
}

// TestStartsThatOnlyReadPushOutNobody reads at more starts than a store remembers ids.
func TestStartsThatOnlyReadPushOutNobody(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, put("x"))
	wrote := h.engine.ID()
	must(t, h.engine.Save(w.now))
	for range maxOwn + 1 {
		w.open(t, h)
		g := h.engine.newGroup(w.now)
		must(t, g.update(func(tx *Tx) error {
			f := Fields(tx)
			f.Register("r").Get()
			return f.Err()
		}))
		w.commit(t, h, g)
		must(t, h.engine.Save(w.now))
	}
	w.open(t, h)
	if !h.engine.Wrote(wrote) {
		t.Error("the store does not know that it wrote")
	}
}

// TestWhatAnotherWroteIsNotTakenForTheNewestOwn after a fork of the other's id was noticed, and a
// restart: whoever has that need not have what was written here.
func TestWhatAnotherWroteIsNotTakenForTheNewestOwn(t *testing.T) {
	w := forkedWorld(t)
	c := w.hosts[2]
	want := crdt.Dot{Replica: c.engine.ID(), Counter: c.engine.seen[c.engine.ID()]}
	w.connectAll()
	w.pass(t)
	if !c.engine.Quarantined("1") {
		t.Fatal("the fork is not noticed")
	}
	must(t, c.engine.Save(w.now))
	w.restart(t, c, "is killed")
	if got, _ := c.engine.Newest(); got != want {
		t.Errorf("%v is said to be the newest, want %v", got, want)
	}
}

// TestWhatTheOtherSideHasIsNotLearntOfOnesOwn has hosts of one side of a fork be started again, and
// meet each other alone: what is to be salvaged is what it was, and what was written since, until
// the other side is ended.
func TestWhatTheOtherSideHasIsNotLearntOfOnesOwn(t *testing.T) {
	w := forkedWorld(t)
	a, c := w.hosts[0], w.hosts[2]
	w.connectAll()
	w.pass(t)
	if !a.engine.Quarantined("1") || !c.engine.Quarantined("1") {
		t.Fatal("the fork is not noticed")
	}
	for _, how := range []string{"closes", "is killed"} {
		must(t, a.engine.Save(w.now))
		must(t, c.engine.Save(w.now))
		w.restart(t, a, how)
		w.restart(t, c, how)
		w.write(t, c, added("s", how))
		w.connect(0, 2)
		w.settle2(t, 0, 2)
		w.pass(t)
	}
	if got, want := w.salvage(t, a), []string{"second", "add 100", "s second"}; !slices.Equal(got, want) {
		t.Errorf("of one %q is salvaged, want %q", got, want)
	}
	want := []string{"second", "add 100", "s second", "third", "add 1000", "s closes", "s is killed"}
	if got := w.salvage(t, c); !slices.Equal(got, want) {
		t.Errorf("of the other %q is salvaged, want %q", got, want)
	}
	w.restart(t, w.hosts[1], "is wiped")
	w.settle(t)
	w.pass(t)
	for _, h := range []*host{a, c} {
		if got := w.salvage(t, h); len(got) > 0 {
			t.Errorf("once the other side is ended %q is salvaged", got)
		}
	}
}
