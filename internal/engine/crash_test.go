package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// failing is a disk whose process dies at one of its commits, or when it appends to the log.
type failing struct {
	*disk
	left int // commits until it dies
}

var errDied = errors.New("the process died")

func (f *failing) Commit(b *store.Batch, sync bool) error {
	if f.left--; f.left < 0 {
		return errDied
	}
	return f.Store.Commit(b, sync)
}

func (f *failing) journal() store.Log { return failingLog{f.log, f} }

type failingLog struct {
	store.Log
	of *failing
}

func (l failingLog) Append(records ...[]byte) (first, next store.Position, err error) {
	if l.of.left--; l.of.left < 0 {
		return 0, 0, errDied
	}
	return l.Log.Append(records...)
}

// opened returns an engine on a store.
func (w *world) opened(t testing.TB, m medium) *Engine {
	t.Helper()
	r, err := openAt(m, Config{NewID: w.newID})
	if err != nil {
		t.Fatal(err)
	}
	if why := r.Recounted(); why != nil && r.Damaged() == nil {
		t.Errorf("all cells were read when the store was opened: %v", why)
	}
	e := newEngine(r)
	must(t, e.checkAll())
	return e
}

// repairAll runs a repair of one host from another to its end or its first error.
func repairAll(from, to *Engine) error {
	_, err := repairSome(from, to, math.MaxInt)
	return err
}

// repairSome breaks one off after so many messages, unless it has ended by then.
func repairSome(from, to *Engine, messages int) (ended bool, err error) {
	source, err := from.Pin()
	if err != nil {
		return false, err
	}
	defer source.Close()
	to.Connect("source", 0)
	defer to.Disconnect("source")
	if to.startPull("source"); to.pull == nil {
		return false, ErrBusy
	}
	p := to.pull
	err = to.drive(p, source, 0, func() bool {
		if p.repair != nil && !p.fetched {
			messages--
		}
		return p.fetched || messages > 0 || p.repair == nil
	})
	if !p.Over {
		to.Fail(p, cmp.Or(err, errNoStream))
	}
	for busy := true; busy && !errors.Is(err, errDied); busy = to.Busy() {
		if _, failed := to.stepAlone(to.now); failed != nil {
			return false, failed
		}
	}
	return err == nil && p.Over && p.Err == nil, err
}

// dieEverywhere runs step on a copy of a host's disk that dies at its first commit, then at its second,
// and so on until step survives. After each death, with and without a power failure, the host opens again, and
// must hold what its context stands for. It returns how often step died.
func (w *world) dieEverywhere(t *testing.T, h *host, step func(n *Engine) error) int {
	t.Helper()
	before := h.disk
	for k := 0; ; k++ {
		died := before.Clone()
		st := &failing{disk: died, left: 1 << 30}
		n := w.opened(t, st)
		st.left = k
		h.disk, h.engine = died, n
		err := step(n)
		if err != nil && !errors.Is(err, errDied) {
			t.Fatalf("death at commit %d: %v", k, err)
		}
		for _, h.disk = range []*disk{died.Crash(), died.Clone()} {
			h.engine = w.opened(t, h.disk)
			w.check(t, h)
		}
		if err == nil {
			return k
		}
	}
}

func TestARepairIsWholeOrAbsentWhereverTheProcessDies(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2, maxLog: 1})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, b, func(f crdt.Fields) error { _, err := f.Set("own").Add("x"); return err })
	for i := range 3 {
		w.write(t, a, func(f crdt.Fields) error {
			for j := range 1000 {
				if _, err := f.Set("s").Add(fmt.Sprint(i, j)); err != nil {
					return err
				}
			}
			return f.Register("large").Set(make([]byte, 500_000))
		})
	}
	deaths := w.dieEverywhere(t, b, func(n *Engine) error { return repairAll(a.engine, n) })
	if deaths < 5 {
		t.Errorf("the repair took %d commits: too few to show anything", deaths)
	}
	if seen, _ := b.engine.Context(); seen[a.engine.ID()] != 3003 {
		t.Errorf("after the repair the context is %v", seen)
	}
}

// TestAFillingIsWholeOrAbsentWhereverTheProcessDies repairs an empty replica.
func TestAFillingIsWholeOrAbsentWhereverTheProcessDies(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2, maxLog: 1})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	deaths := w.dieEverywhere(t, b, func(n *Engine) error { return repairAll(a.engine, n) })
	if deaths < 3 {
		t.Errorf("the filling took %d commits: too few to show anything", deaths)
	}
	if seen, _ := b.engine.Context(); !seen.Equal(a.engine.seen) {
		t.Errorf("after the filling the context is %v", seen)
	}
	w.write(t, b, func(f crdt.Fields) error { _, err := f.Counter("n").Add(2); return err })
	w.check(t, b)
	w.open(t, b)
	w.check(t, b)
}

// fillMixed has a host write cells of all kinds of records, at all sizes.
func (w *world) fillMixed(t *testing.T, h *host) {
	for i := range 3 {
		w.write(t, h, func(f crdt.Fields) error {
			for j := range 300 {
				if _, err := f.Set("s").Add(fmt.Sprint(i, j)); err != nil {
					return err
				}
			}
			if _, err := f.Counter("n").Add(3); err != nil {
				return err
			}
			for j := range 60 { // more than one message
				if err := f.Register(fmt.Sprint("r", j)).Set(make([]byte, 40_000+i)); err != nil {
					return err
				}
			}
			return f.Register("large").Set(make([]byte, 1_500_000))
		})
	}
}

// TestAFillingGoesOnFromAnotherSource breaks it off after every number of messages, twice: from sources that each have
// written, replaced and removed what the others have not.
func TestAFillingGoesOnFromAnotherSource(t *testing.T) {
	fillFromSeveral(t, func(*world, *host) {})
}

// TestAFillingGoesOnAfterARestart does the same, and opens the replica again whenever it was broken off: nothing is seen
// of what came, and it is not fetched again.
func TestAFillingGoesOnAfterARestart(t *testing.T) {
	fillFromSeveral(t, func(w *world, b *host) {
		parked, came := b.engine.Parked(), 0
		for _, kv := range recordsOf(t, b.disk) {
			if kv[0][0] == prefixCell {
				came++
			}
		}
		w.open(t, b)
		w.check(t, b)
		if !parked || came == 0 {
			return
		}
		if !b.engine.Parked() || b.engine.filling.count.cells != came {
			t.Fatalf("%d cells had come, and after a restart nobody goes on with them", came)
		}
		v := b.engine.View()
		defer v.Close()
		must(t, v.Keys("", "", func(key string, _ dotted.Summary) bool {
			t.Fatalf("the key %q is seen before all has come", key)
			return false
		}))
		must(t, v.Scan("", "", func(a dotted.Address, _ dotted.Cell) bool {
			t.Fatalf("%q is seen before all has come", a)
			return false
		}))
	})
}

// fillFromSeveral is those two, with something that happens whenever a filling was broken off.
func fillFromSeveral(t *testing.T, brokenOff func(*world, *host)) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.fillMixed(t, a)
	w.stand(t, a, 0, 100)
	must(t, repairAll(a.engine, c.engine))
	w.stand(t, a, 95, 105)
	w.stand(t, c, 102, 110)
	w.part(t, a, 0)
	w.part(t, c, 1)
	whole, mended := 0, 0
	for n := range 7 {
		for m := n % 2; m < 12; m += 2 { // all of them take a minute more
			b.disk = w.newDisk()
			w.open(t, b)
			ended, err := repairSome(a.engine, b.engine, n)
			must(t, err)
			if !ended {
				brokenOff(w, b)
				ended, err = repairSome(c.engine, b.engine, m)
				must(t, err)
			}
			w.check(t, b)
			if ended {
				whole++
				continue
			}
			mended++
			brokenOff(w, b)
			must(t, repairAll(a.engine, b.engine))
			w.check(t, b)
			if _, root, _ := b.engine.Digest(); root != a.engine.tree.Root() || !b.engine.seen.Equal(a.engine.seen) {
				t.Fatalf("after %d and %d messages the replica is not what its last source was", n, m)
			}
			w.open(t, b)
			w.check(t, b)
			w.checkDerived(t, b)
		}
	}
	if whole == 0 || mended == 0 {
		t.Errorf("%d ended with the second source, and %d with the third", whole, mended)
	}
}

// TestAnOrderGoesOnThatWasEndedForASourceBefore has that source go away while what came is compared
// with what it holds, and the next one hold more in the last order.
func TestAnOrderGoesOnThatWasEndedForASourceBefore(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.stand(t, a, 100, 200)
	must(t, repairAll(a.engine, c.engine))
	w.write(t, c, func(f crdt.Fields) error { return f.String("a").Set(nil) }) // before that order
	for n, ended := 1, false; b.engine.filling == nil || b.engine.filling.orders.closed == ""; n++ {
		b.disk = w.newDisk()
		w.open(t, b)
		_, err := repairSome(a.engine, b.engine, 2)
		must(t, err)
		if ended, err = repairSome(c.engine, b.engine, n); ended || err != nil {
			t.Fatalf("nothing was compared that had come from two sources (%v)", err)
		}
	}
	w.stand(t, a, 200, 300)
	must(t, repairAll(a.engine, b.engine))
	if _, root, _ := b.engine.Digest(); root != a.engine.tree.Root() {
		t.Error("the replica is not what its last source was")
	}
	w.checkDerived(t, b)
	w.open(t, b)
	w.checkDerived(t, b)
}

// TestWhatDoesNotFitIsFetchedAnew begins with cells that are not what they were counted as.
func TestWhatDoesNotFitIsFetchedAnew(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, err := repairSome(a.engine, b.engine, 3)
	must(t, err)
	b.engine.filling.count.tree.Add(7, antientropy.Of("x", dotted.Entry{}))
	if err := repairAll(a.engine, b.engine); !errors.Is(err, errMixed) {
		t.Errorf("the filling ends with %v", err)
	}
	if n := len(recordsOf(t, b.disk)); n != 0 {
		t.Errorf("%d records are left", n)
	}
	w.check(t, b)
	must(t, repairAll(a.engine, b.engine))
	w.check(t, b)
}

// TestWhatWaitedForASourceIsNotGoneOnWithAfterACommit has the process die at each write of a first commit, and of what
// removes what came. Then the replica is repaired.
func TestWhatWaitedForASourceIsNotGoneOnWithAfterACommit(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, err := repairSome(a.engine, b.engine, 6)
	must(t, err)
	before, partly := b.disk, 0
	for k, over := 0, false; !over; k++ {
		b.disk = before.Clone()
		st := &failing{disk: b.disk, left: 1 << 30}
		b.engine = w.opened(t, st)
		st.left = k
		g := b.engine.newGroup(w.now)
		must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Set("s").Add("own"); return err }))
		_, err := g.Commit(false)
		if err == nil {
			err = b.engine.carry()
		}
		over = err == nil
		b.disk = b.disk.Clone()
		w.open(t, b)
		wrote := len(b.engine.seen) > 0
		if wrote && !over {
			partly++
		}
		must(t, repairAll(a.engine, b.engine))
		must(t, b.engine.checkAll())
		v := b.engine.View()
		if Fields(v).Set("s").Has("own") != wrote {
			t.Fatalf("death at write %d: after a repair its own write is there: %v", k, !wrote)
		}
		v.Close()
	}
	if partly == 0 {
		t.Error("it never died between the commit and the end of what came")
	}
}

// TestWhatWaitsForASourceGoesWithTheFirstCommit breaks a filling off.
func TestWhatWaitsForASourceGoesWithTheFirstCommit(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	_, err := repairSome(a.engine, b.engine, 3)
	must(t, err)
	w.write(t, b, func(f crdt.Fields) error { _, err := f.Set("s").Add("own"); return err })
	must(t, b.engine.carry())
	if n := len(recordsOf(t, b.disk)); n != 0 {
		t.Errorf("%d records are left", n)
	}
	w.check(t, b)
	must(t, repairAll(a.engine, b.engine))
	w.check(t, b)
}

// TestAPullTellsHowFarItIs breaks one off, and begins another.
func TestAPullTellsHowFarItIs(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2, maxLog: 1})
	a, b := w.hosts[0], w.hosts[1].engine
	w.fillMixed(t, a)
	for i := range 2 {
		p, source := b.pulls(t, a.engine)
		last := Progress{}
		must(t, b.drive(p, source, 1<<10, func() bool {
			now := p.Progress()
			if now.Cells < last.Cells || last.Of > 0 && now.Of != source.Count() || now.Bytes < last.Bytes {
				t.Fatalf("it is at %+v after %+v", now, last)
			}
			last = now
			return last.Cells <= last.Had+100
		}))
		if had := p.Progress().Had; (i > 0) != (had > 100) {
			t.Errorf("pull %d began with %d cells", i, had)
		}
		b.Fail(p, errors.New("broken off"))
		must(t, b.carry())
	}
	if n := b.filling.count.cells; n < 200 {
		t.Errorf("two pulls brought %d cells", n)
	}
}

// part has a host write, replace and remove what others do not.
func (w *world) part(t *testing.T, h *host, i int) {
	w.write(t, h, func(f crdt.Fields) error {
		for j := range 100 {
			if _, err := f.Set("s").Remove(fmt.Sprint(i, j)); err != nil {
				return err
			}
			if _, err := f.Set(fmt.Sprint("own", i)).Add(fmt.Sprint(j)); err != nil {
				return err
			}
		}
		if _, err := f.Counter("n").Add(int64(i)); err != nil {
			return err
		}
		return f.Register("large").Set(make([]byte, 1_000_000+i))
	})
}

// TestAMendedFillingIsWholeOrAbsentWhereverTheProcessDies fills from two sources.
func TestAMendedFillingIsWholeOrAbsentWhereverTheProcessDies(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3, maxLog: 1})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.fillMixed(t, a)
	must(t, repairAll(a.engine, c.engine))
	w.part(t, a, 0)
	w.dieEverywhere(t, b, func(n *Engine) error {
		if ended, err := repairSome(a.engine, n, 2); err != nil || ended {
			return fmt.Errorf("ended: %v, %w", ended, err)
		}
		return repairAll(c.engine, n)
	})
	if seen, _ := b.engine.Context(); !seen.Equal(c.engine.seen) {
		t.Errorf("after the filling the context is %v", seen)
	}
	w.write(t, b, func(f crdt.Fields) error { _, err := f.Counter("n").Add(2); return err })
	w.check(t, b)
}

// TestAFilledCheckpointNamesWhatIsSynced has another space append between any two steps of the end of a filling.
func TestAFilledCheckpointNamesWhatIsSynced(t *testing.T) {
	w := newWorld(t, 6, worldConfig{hosts: 2, shared: true})
	a, b := w.hosts[0], w.hosts[1]
	w.fillMixed(t, a)
	p, source := b.engine.pulls(t, a.engine)
	must(t, b.engine.drive(p, source, 0, func() bool { return !p.fetched }))
	b.engine.Take(p)
	log := b.engine.logs.(*busyLog)
	for b.engine.Busy() {
		_, _, err := log.beside.Append(make([]byte, 50))
		must(t, err)
		must(t, b.engine.goOn())
		must(t, CarryOut(b.engine.writes, b.engine.st.(store.Store), log))
		b.engine.written()
	}
	if named, synced := b.engine.saved.next, log.Synced(); named > synced {
		t.Errorf("the checkpoint ends at %d, and the log is synced to %d", named, synced)
	}
}

// TestAfterADoubtNothingSoundIsDoubted interrupts a checkpoint, before or after an opening that has a doubt.
func TestAfterADoubtNothingSoundIsDoubted(t *testing.T) {
	for _, first := range []string{"doubt", "interruption"} {
		t.Run(first, func(t *testing.T) {
			w := newWorld(t, 6, worldConfig{hosts: 1})
			h := w.hosts[0]
			open := func(d *disk) {
				r, err := openAt(d, Config{NewID: w.newID, MaxBatch: 20})
				must(t, err)
				h.disk, h.engine = d, newEngine(r)
			}
			put := func(n int, value string) {
				w.write(t, h, func(f crdt.Fields) error {
					for i := range n {
						if err := f.String(fmt.Sprint("k", i)).Set([]byte(value)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			doubted := func() {
				d := h.disk.Clone()
				must(t, d.Commit(doubt(), true))
				if open(d); h.engine.Recounted() == nil {
					t.Fatal("a doubt is overlooked")
				}
			}
			interrupted := func() { // after the first batch
				e := h.engine
				e.freeze(w.now)
				e.write(Write{SyncLog: true})
				must(t, e.carry())
				must(t, e.saveSome())
				i := slices.IndexFunc(e.writes, func(w Write) bool { return w.Batch != nil })
				must(t, CarryOut(e.writes[:i+1], h.disk.Store, h.disk.log))
				open(h.disk.Clone())
			}
			open(h.disk)
			put(6000, "one")
			must(t, h.engine.Save(w.now))
			if first == "doubt" {
				doubted()
			}
			put(100, "two")
			w.write(t, h, func(f crdt.Fields) error { _, err := f.Clear(); return err })
			interrupted()
			if first != "doubt" {
				doubted()
			}
			for more := true; more; {
				var err error
				more, err = h.engine.Sweep()
				must(t, err)
			}
			must(t, h.engine.checkAll())
			if damage := h.engine.Damaged(); damage != nil {
				t.Error(damage)
			}
			must(t, h.engine.Save(w.now))
			if open(h.disk.Clone()); h.engine.Recounted() != nil || h.engine.Damaged() != nil {
				t.Errorf("after a whole checkpoint all is read again (%v, %v)", h.engine.Recounted(), h.engine.Damaged())
			}
		})
	}
}

// TestAFillingEndsWithTheFirstCommit writes to a replica that is filled, when some of it or all has
// come, and has its host go on with that: nothing of what came stays, nothing is shown of it
// meanwhile, and the next repair brings it.
func TestAFillingEndsWithTheFirstCommit(t *testing.T) {
	for _, all := range []bool{false, true} {
		w, b, source := beginsFilling(t, 1)
		p, asked := b.engine.pull, 0
		err := b.engine.drive(p, source, 4096, func() bool {
			if asked++; p.fetched || !all && asked == 8 {
				w.check(t, b)
				b.engine.Submit(wishFor(func(tx *Tx) error { return added("s", "own")(Fields(tx)) }))
				b.steps(t, int(2*checkpointEvery/tickEvery), func(rd *Ready) { // a checkpoint is due
					w.noteCommitted(t, b, rd.Committed)
				})
				w.check(t, b)
			}
			return !p.fetched
		})
		if all {
			must(t, err)
			b.engine.Take(p)
		} else if b.engine.Fail(p, err); !errors.Is(err, errNotEmpty) {
			t.Errorf("behind the commit it goes on, until %v", err)
		}
		must(t, b.engine.carry())
		if !errors.Is(p.Err, ErrBusy) {
			t.Errorf("the filling ends with %v", p.Err)
		}
		if n := len(recordsOf(t, b.disk)); n != 0 {
			t.Errorf("%d records are left", n)
		}
		w.check(t, b)
		must(t, repairAll(w.hosts[0].engine, b.engine))
		w.check(t, b)
	}
}

// TestWhatIsNotShownIsNotReadBesideStepsEither of a replica that is filled, and of one that is written to.
func TestWhatIsNotShownIsNotReadBesideStepsEither(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, func(f crdt.Fields) error { _, err := f.Set("s").Add("x"); return err })
	found := 0
	u := wishFor(func(tx *Tx) error { found = Fields(tx).Set("s").Len(); return nil })
	if next := a.engine.Read(u, 0, time.Time{}); next != 1 || found != 1 || u.errs[0] != nil {
		t.Errorf("what was committed: %d have run, %d members, %v", next, found, u.errs)
	}
	b.engine.compares(t, a.engine)
	if next := b.engine.Read(u, 0, time.Time{}); next != 1 || found != 0 {
		t.Errorf("while the replica is filled: %d have run, %d members", next, found)
	}
	g := a.engine.newGroup(w.now)
	must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Set("s").Add("z"); return err }))
	g.commit()
	if next := a.engine.Read(u, 0, time.Time{}); next != 0 {
		t.Error("a read ran before the record of what it would see was written")
	}
	must(t, a.engine.carry())
	if next := a.engine.Read(u, 0, time.Time{}); next != 1 || found != 2 {
		t.Errorf("once it is written: %d have run, %d members", next, found)
	}
}

func TestADeleteOfManyCellsIsWholeOrAbsentWhereverTheProcessDies(t *testing.T) {
	w := newWorld(t, 2, worldConfig{hosts: 2})
	a := w.hosts[0]
	w.write(t, a, func(f crdt.Fields) error {
		for j := range 4000 {
			if _, err := f.Set("s").Add(fmt.Sprint(j)); err != nil {
				return err
			}
		}
		return nil
	})
	deaths := w.dieEverywhere(t, a, func(n *Engine) error {
		g := n.newGroup(w.now)
		err := g.update(func(tx *Tx) error { _, err := Fields(tx).Remove("s"); return err })
		if err != nil {
			t.Fatal(err)
		}
		done, err := g.Commit(false)
		if err != nil {
			return err
		}
		saw := n.seen.Clone()
		saw[done.Deltas[0].Replica] = done.Deltas[0].First - 1
		w.saw[done.Deltas[0].Dot(0)] = saw // what it wrote is on a disk of its own
		w.order = append(w.order, done.Deltas...)
		if size := len(done.Deltas[0].Encode()); size > 200 {
			t.Fatalf("the delete is %d bytes", size)
		}
		w.check(t, a)
		for more := true; more; {
			if more, err = n.Sweep(); err != nil {
				return err
			}
			w.check(t, a)
		}
		if _, cells := n.Counts(); cells != 0 {
			t.Fatalf("%d cells are left", cells)
		}
		return n.Save(w.now)
	})
	if deaths < 4 {
		t.Errorf("the delete took %d commits: too few to show anything", deaths)
	}
}

// TestAGroupTooLargeForTheTreeIsWholeOrAbsent applies a small delta to cells whose records are large.
func TestAGroupTooLargeForTheTreeIsWholeOrAbsent(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.fillRegisters(t, a)
	w.write(t, b, func(f crdt.Fields) error {
		for i := range 700 {
			if err := f.Map("m").Register(fmt.Sprint(i/100, i%100)).Set([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
	late := w.order[len(w.order)-1]
	deaths := w.dieEverywhere(t, a, func(n *Engine) error {
		g := n.newGroup(w.now)
		if outcome, err := g.apply(late); err != nil || outcome != gossip.Applied {
			t.Fatalf("outcome %v, error %v", outcome, err)
		}
		if _, err := g.Commit(false); err != nil {
			return err
		}
		return n.Save(w.now)
	})
	if deaths < 5 {
		t.Errorf("the group took %d commits: it was not too large", deaths)
	}
}

// TestWhatAGroupThatWasCutOffLeftIsNoPartOfTheNext kills a host between two records of a group, and again
// behind the next group.
func TestWhatAGroupThatWasCutOffLeftIsNoPartOfTheNext(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, derivedBytes: 1})
	h := w.hosts[0]
	several := func(f crdt.Fields) error {
		for i := range 3 {
			if _, err := f.Set(fmt.Sprint("set ", i)).Add("x"); err != nil {
				return err
			}
		}
		return nil
	}
	g := h.engine.newGroup(w.now)
	must(t, g.update(func(tx *Tx) error { return several(Fields(tx)) }))
	_, err := g.Commit(false)
	must(t, err)
	in, err := h.disk.log.Read(0, nil)
	must(t, err)
	first, err := in.Next()
	in.Close()
	must(t, err)
	h.disk = &disk{h.disk.Store.Crash(), h.disk.log.Crash(int64(first.Next)), false}
	if w.open(t, h); h.engine.LogEnd() != 2 {
		t.Fatalf("%d records are left, want 1", h.engine.LogEnd()-1)
	}
	w.write(t, h, several)
	h.disk = h.disk.Clone()
	w.open(t, h) // which reads all cells
	must(t, h.engine.Damaged())
	w.check(t, h)
}

// TestADamagedReplicaRebuildsItself takes a cell away behind a replica's back. It must find that, fill up
// from its peer, keep the writes that only it had, and never spread the loss.
func TestADamagedReplicaRebuildsItself(t *testing.T) {
	w := newWorld(t, 4, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	for i := range 20 {
		w.write(t, w.hosts[i%2], func(f crdt.Fields) error {
			if err := f.String(fmt.Sprint(i)).Set([]byte("x")); err != nil {
				return err
			}
			_, err := f.Counter("n").Add(1)
			return err
		})
	}
	w.settle(t)
	b.spoil(t, func(rot *store.Batch) {
		rot.Delete(place(prefixCell, dotted.KeyAddress("7").Type(crdt.TypeString)))
	})
	w.cut(0, 1)
	w.write(t, b, func(f crdt.Fields) error { return f.String("only here").Set([]byte("y")) })
	w.write(t, a, func(f crdt.Fields) error { return f.String("only there").Set([]byte("z")) })
	pinned, err := b.engine.Pin()
	if err != nil {
		t.Fatal(err)
	}
	if err := pinned.Verify(func() bool { return false }); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("the check says: %v", err)
	}
	pinned.Close()
	deaths := w.dieWhile(t, b, func(n *Engine) error { return n.Discard() })
	if deaths < 3 {
		t.Errorf("the discard took %d commits: too few to show anything", deaths)
	}
	if !b.engine.Rebuilding() {
		t.Fatal("not rebuilding")
	}
	w.connect(0, 1)
	w.heal(t)
	w.settle(t)
	for _, h := range w.hosts {
		w.check(t, h)
		if keys, _ := h.engine.Counts(); keys != 23 {
			t.Errorf("host %d has %d keys, want 23", h.i, keys)
		}
	}
}

// dieWhile is dieEverywhere for a step on the way of which the replica does not hold what it should.
func (w *world) dieWhile(t *testing.T, h *host, step func(n *Engine) error) int {
	t.Helper()
	before := h.disk
	for k := 0; ; k++ {
		h.disk = before.Clone()
		st := &failing{disk: h.disk, left: 1 << 30}
		n := w.opened(t, st)
		st.left = k
		err := step(n)
		if err != nil && !errors.Is(err, errDied) {
			t.Fatalf("death at commit %d: %v", k, err)
		}
		h.engine = w.opened(t, h.disk)
		if err == nil {
			return k
		}
	}
}
