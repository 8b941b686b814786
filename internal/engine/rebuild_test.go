package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

// heal lets time pass until nothing is left to heal.
func (w *world) heal(t *testing.T) {
	t.Helper()
	for round := range 3000 {
		if round > 20 && w.agreed() && !slices.ContainsFunc(w.hosts, func(h *host) bool { return !h.engine.replica.Whole() }) {
			break
		}
		if round > 400 && !slices.ContainsFunc(w.hosts, func(h *host) bool { return h.engine.Rebuilding() }) {
			break // not all are connected
		}
		w.healRound(t)
	}
	for _, h := range w.hosts {
		if h.engine.Rebuilding() {
			t.Fatalf("host %d is still rebuilding: %s", h.i, w.describe())
		}
	}
}

func (w *world) healRound(t *testing.T) {
	t.Helper()
	w.now = w.now.Add(tickEvery)
	for _, h := range w.hosts {
		if w.cfg.crashes && w.rng.IntN(200) == 0 {
			w.kill(t, h)
		}
		h.due = true
		w.turn(t, h)
		w.stepRepairs(t)
	}
}

// kill ends a host's process, and starts it and its links again.
func (w *world) kill(t *testing.T, h *host) {
	var linked []int
	for j := range w.hosts {
		if w.links[[2]int{h.i, j}] != nil {
			linked = append(linked, j)
		}
	}
	w.restart(t, h, "is killed")
	for _, j := range linked {
		w.connect(h.i, j)
	}
}

func counted(n int64) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Counter("n").Add(n); return err }
}

func added(set, element string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Set(set).Add(element); return err }
}

func removed(set, element string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { _, err := f.Set(set).Remove(element); return err }
}

func put(value string) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { return f.Register("r").Set([]byte(value)) }
}

// values returns what every host says of n, s and r.
func (w *world) values(t *testing.T) (all []string) {
	t.Helper()
	for _, h := range w.hosts {
		v := h.engine.View()
		f := Fields(v)
		n, s := f.Counter("n").Get(), slices.Collect(f.Set("s").All())
		r := slices.Collect(f.Register("r").All())
		v.Close()
		if f.Err() != nil {
			t.Fatal(f.Err())
		}
		slices.SortFunc(r, bytes.Compare)
		all = append(all, fmt.Sprintf("%v %v %s", n, s, r))
	}
	return all
}

// wantEach fails unless every host says want.
func (w *world) wantEach(t *testing.T, want string) {
	t.Helper()
	for i, v := range w.values(t) {
		if v != want {
			t.Errorf("host %d: %s, want %s", i, v, want)
		}
	}
	if t.Failed() {
		t.Log(w.describe())
	}
}

// discarded has a host's cells discarded because of damage.
func (w *world) discarded(t *testing.T, h *host) {
	t.Helper()
	h.engine.setDamaged(errors.New("rot"))
	w.untilDiscarded(t, h)
}

// untilDiscarded lets time pass until a host has discarded its cells.
func (w *world) untilDiscarded(t *testing.T, h *host) {
	t.Helper()
	for range 200 {
		if w.healRound(t); h.engine.Rebuilding() {
			return
		}
	}
	t.Fatal("the host does not discard its cells")
}

// TestACheckThatEndsEarlySaysNothing ends one after each number of records, as a peer does that is closed: it
// asks once in a while.
func TestACheckThatEndsEarlySaysNothing(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	for i := range 10 {
		w.write(t, h, added(fmt.Sprint("set ", i), "x"))
	}
	for end := range 50 {
		pinned, err := h.engine.Pin()
		must(t, err)
		asked := 0
		err = pinned.Verify(func() bool { asked++; return asked == end+1 })
		pinned.Close()
		if err != nil {
			t.Errorf("ended when it had asked %d times: %v", end+1, err)
		}
	}
}

// TestACheckThatCannotReadAllIsMadeAgain has the read of one record fail while all cells are read
// after opening.
func TestACheckThatCannotReadAllIsMadeAgain(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, added("set", "x"))
	r, err := openAt(h.disk.Clone(), Config{NewID: w.newID})
	must(t, err)
	e := newEngine(r)
	step := func(after time.Duration) *Pinned {
		must(t, e.Step(e.now.Add(after), w.now))
		check := e.Ready().Verify
		must(t, e.carry())
		return check
	}
	check := step(0)
	if check == nil {
		t.Fatal("not all cells are read after opening")
	}
	check.Close()
	e.Verified(errors.New("a read failed"))
	if _, _, waits := e.Verifying(); !waits {
		t.Error("it counts as if all had been read")
	}
	if step(time.Second) != nil {
		t.Error("it is made again at once")
	}
	if check = step(recheckAfter); check == nil {
		t.Fatal("it is not made again")
	}
	check.Close()
	e.Verified(nil)
	if _, _, waits := e.Verifying(); waits || step(recheckAfter) != nil {
		t.Error("it is made again though all was read")
	}
}

// TestARebuildDoesNotWaitForWhatItsNeighbourLost has the neighbour, because of which a host
// discarded its cells, lose its last write in a power failure: with a copy of it in the host's
// own log, and without.
func TestARebuildDoesNotWaitForWhatItsNeighbourLost(t *testing.T) {
	for _, copied := range []bool{true, false} {
		w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
		a, b := w.hosts[0], w.hosts[1]
		w.write(t, a, counted(1))
		w.write(t, b, counted(10))
		w.settle(t)
		if err := b.engine.Save(w.now); err != nil {
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
		w.open(t, b)
		w.connect(0, 1)
		w.heal(t)
		if copied {
			w.wantEach(t, "1111 [] []")
		} else {
			w.wantEach(t, "1011 [] []")
		}
	}
}

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
	if err := a.engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	if err := w.hosts[1].engine.Save(w.now); err != nil {
		t.Fatal(err)
	}
	a.spoil(t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, dotted.KeyAddress("r").Type(crdt.TypeString)))
	})
	w.cut(0, 1)
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.untilDiscarded(t, a)
	w.cut(0, 1) // the good peer restarts just then
	w.connect(0, 2)
	for range 100 {
		w.healRound(t)
	}
	t.Logf("rebuilding %v; context %v", a.engine.Rebuilding(), a.engine.seen)
	w.connect(0, 1)
	w.connect(1, 2)
	w.heal(t)
	w.wantEach(t, "111 [] [x]")
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
	lost := a.engine.LogEnd() - 1
	w.write(t, a, counted(10))
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	a.rotLog(t, lost)
	w.open(t, a)
	if a.engine.Damaged() == nil {
		t.Fatal("not noticed")
	}
	w.connect(0, 1)
	w.pass(t)
	if !a.engine.waits() {
		t.Fatal("it does not wait for what the absent peer has")
	}
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
	lost := a.engine.LogEnd() - 1
	w.write(t, a, counted(10))
	disk := a.disk.Clone()
	w.write(t, a, counted(100)) // a tail that a power failure takes
	w.settle2(t, 0, 2)
	w.cut(0, 2)
	a.disk = disk
	a.rotLog(t, lost)
	w.open(t, a)
	w.connect(0, 1)
	w.pass(t)
	w.connect(0, 2)
	w.connect(1, 2)
	w.heal(t)
	want := "111 [] [at host 2]"
	w.wantEach(t, want)
}

// TestWhatARebuildBringsBackIsTheNewestOwn has a host restart while it rebuilds; its former log
// alone has what it wrote last. The second has lost its checkpoint, too.
func TestWhatARebuildBringsBackIsTheNewestOwn(t *testing.T) {
	for _, blind := range []bool{false, true} {
		w := newWorld(t, 5, worldConfig{hosts: 2, maxLog: 1 << 30})
		a := w.hosts[0]
		w.write(t, a, counted(1))
		w.settle(t)
		w.cut(0, 1)
		w.restart(t, a, "is killed")
		w.write(t, a, put("only here"))
		want := crdt.Dot{Replica: a.engine.ID(), Counter: 1}
		must(t, a.engine.Save(w.now))
		if blind {
			a.spoil(t, func(rot *store.Batch) { rot.Set(keyCheckpoint, []byte("rot")) })
			w.open(t, a)
		} else {
			a.engine.setDamaged(errors.New("rot"))
		}
		must(t, a.engine.Discard())
		w.restart(t, a, "is killed")
		if !a.engine.Rebuilding() {
			t.Fatal("it does not rebuild")
		}
		if d, known := a.engine.Newest(); known {
			t.Errorf("while it rebuilds %v is said to be the newest", d)
		}
		w.connect(0, 1)
		w.heal(t)
		if got, known := a.engine.Newest(); got != want || !known {
			t.Errorf("%v is said to be the newest (%v), want %v", got, known, want)
		}
	}
}

func TestLongKeysAreRemovedInBatchesThatFit(t *testing.T) {
	st, log := mem.New(), mem.NewLog()
	r, err := open(st, log, Config{NewID: func() crdt.ReplicaID { return 7 }, StepWork: 1 << 20})
	must(t, err)
	defer r.Close()
	const keys, size = 400, 30 << 10
	for i := range keys {
		b := &store.Batch{}
		b.Set(append(make([]byte, size), byte(i>>8), byte(i)), nil)
		must(t, st.Commit(b, false))
	}
	r.then(r.removeAll([]byte{0}, []byte{1}))
	must(t, r.settle(st, log))
	snap := st.Snapshot()
	defer snap.Close()
	must(t, snap.ScanKeys([]byte{0}, []byte{1}, func(key []byte) bool {
		t.Errorf("a key of %d bytes is left", len(key))
		return false
	}))
}
