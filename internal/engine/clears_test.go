package engine

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// tally is a store that counts what is asked of it.
type tally struct {
	*disk
	reads, scans, writes, bytes int
}

func (s *tally) Commit(b *store.Batch, sync bool) error {
	s.writes += b.Len()
	s.bytes += b.Bytes()
	return s.Store.Commit(b, sync)
}

func (s *tally) Snapshot() store.Snapshot { return tallied{s.Store.Snapshot(), s} }

func (s *tally) journal() store.Log { return talliedLog{s.log, s} }

type talliedLog struct {
	store.Log
	of *tally
}

func (l talliedLog) Append(records ...[]byte) (first, next store.Position, err error) {
	for _, r := range records {
		l.of.writes++
		l.of.bytes += len(r)
	}
	return l.Log.Append(records...)
}

type tallied struct {
	store.Snapshot
	of *tally
}

func (s tallied) Get(key []byte) ([]byte, bool, error) {
	s.of.reads++
	return s.Snapshot.Get(key)
}

func (s tallied) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	s.of.reads++
	s.of.scans++
	return s.Snapshot.Scan(start, end, func(key, value []byte) bool {
		s.of.reads++
		return fn(key, value)
	})
}

var testStart = time.Unix(1_700_000_000, 0)

// pipeline runs transactions one after the other, in as few groups as they fit into, and returns
// their deltas.
func pipeline(t testing.TB, r *replica, n int, fn func(f crdt.Fields, i int) error) (deltas []*delta.Delta) {
	t.Helper()
	g := r.newGroup(testStart)
	commit := func() {
		done, err := g.Commit(false)
		if err != nil {
			t.Fatal(err)
		}
		deltas = append(deltas, done.Deltas...)
	}
	for i := range n {
		if g.full() {
			commit()
			g = r.newGroup(testStart)
		}
		if err := g.update(func(tx *Tx) error { return fn(Fields(tx), i) }); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	return deltas
}

// apply has a replica receive deltas.
func apply(t testing.TB, r *replica, deltas []*delta.Delta) {
	t.Helper()
	g := r.newGroup(testStart)
	for _, d := range deltas {
		if g.full() {
			if _, err := g.Commit(false); err != nil {
				t.Fatal(err)
			}
			g = r.newGroup(testStart)
		}
		if outcome, err := g.apply(d); err != nil || outcome != gossip.Applied {
			t.Fatalf("outcome %v, %v", outcome, err)
		}
	}
	if _, err := g.Commit(false); err != nil {
		t.Fatal(err)
	}
}

func sweepAll(t testing.TB, r *replica) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = r.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Save(testStart); err != nil {
		t.Fatal(err)
	}
}

// checkWhole has all that is derived from the cells be computed anew.
func checkWhole(t testing.TB, r *replica) {
	t.Helper()
	p, err := r.Pin()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Verify(func() bool { return false }); err != nil {
		t.Error(err)
	}
}

func fillSet(f crdt.Fields, key string, members int) error { return fillSetOf(f.Set(key), members) }

func setKey(i int) string { return fmt.Sprintf("set %05d", i) }

func deleteSet(f crdt.Fields, i int) error { _, err := f.Remove(setKey(i)); return err }

// othersWrote returns a delta of each of n other replicas.
func othersWrote(n int) (deltas []*delta.Delta) {
	for i := range n {
		at := dotted.KeyAddress("other").Type(crdt.TypeSet).Name(fmt.Sprint(i))
		deltas = append(deltas, &delta.Delta{Replica: crdt.ReplicaID(1000 + i), First: 1, Time: dotted.Time(i + 1),
			Ops: []delta.Op{{Kind: delta.OpPut, Address: at, Payload: []byte{2}}}})
	}
	return deltas
}

// TestManySetsAreDeletedAmongManyReplicas deletes 4,000 sets where 300 replicas have written, in
// one transaction and in a pipeline: each clear has seen all of them.
func TestManySetsAreDeletedAmongManyReplicas(t *testing.T) {
	const sets, others = 4000, 300
	for name, del := range map[string]func(r *replica) []*delta.Delta{
		"transaction": func(r *replica) []*delta.Delta {
			return pipeline(t, r, 1, func(f crdt.Fields, _ int) error {
				for i := range sets {
					if err := deleteSet(f, i); err != nil {
						return err
					}
				}
				return nil
			})
		},
		"pipeline": func(r *replica) []*delta.Delta { return pipeline(t, r, sets, deleteSet) },
	} {
		t.Run(name, func(t *testing.T) {
			st := &tally{disk: newDisk()}
			r := openOn(t, st, 1)
			apply(t, r, othersWrote(others))
			pipeline(t, r, sets, func(f crdt.Fields, i int) error { return fillSet(f, setKey(i), 17) })
			st.bytes = 0
			sent := 0
			for _, d := range del(r) {
				sent += len(d.Encode())
			}
			if limit := 2*sent + 500*sets; st.bytes > limit {
				t.Errorf("%d bytes are written for deltas of %d, want at most %d", st.bytes, sent, limit)
			}
			r = openOn(t, st, 500)
			if keys, _ := r.Counts(); keys != 1 || r.Clears() != sets {
				t.Fatalf("opened again: %d keys, %d clears; want 1 and %d", keys, r.Clears(), sets)
			}
			sweepAll(t, r)
			checkWhole(t, r)
			if _, cells := r.Counts(); cells != others {
				t.Errorf("%d cells are left, want %d", cells, others)
			}
			left := 0
			err := st.Store.Snapshot().ScanKeys([]byte{prefixClear}, []byte{prefixClear + 1}, func([]byte) bool {
				left++
				return true
			})
			if err != nil || left > 0 || len(r.uses) > 0 {
				t.Errorf("%d records of clears and %d of what they saw are left, %v", left, len(r.uses), err)
			}
		})
	}
}

// TestDeletingManySetsIsLinear counts what a pipeline of deletes costs the replica that runs it,
// and one that has written meanwhile and so has to find what survives: four times as many sets
// cost four times as much.
func TestDeletingManySetsIsLinear(t *testing.T) {
	cost := func(sets int) (origin, receiver tally, work [2]int) {
		a, b := &tally{disk: newDisk()}, &tally{disk: newDisk()}
		r, other := openOn(t, a, 1), openOn(t, b, 500)
		apply(t, other, pipeline(t, r, sets, func(f crdt.Fields, i int) error { return fillSet(f, setKey(i), 20) }))
		pipeline(t, other, 10, func(f crdt.Fields, i int) error { return fillSet(f, setKey(i), 21) })
		*a, *b, work = tally{disk: a.disk}, tally{disk: b.disk}, [2]int{r.work, other.work}
		deltas := pipeline(t, r, sets, deleteSet)
		sweepAll(t, r)
		apply(t, other, deltas)
		sweepAll(t, other)
		if keys, cells := r.Counts(); keys+cells != 0 {
			t.Fatalf("%d keys in %d cells are left", keys, cells)
		}
		if keys, cells := other.Counts(); keys != 10 || cells != 210 {
			t.Fatalf("%d keys in %d cells are left, want 10 in 210", keys, cells)
		}
		checkWhole(t, other)
		return *a, *b, [2]int{r.work - work[0], other.work - work[1]}
	}
	oneA, oneB, one := cost(500)
	fourA, fourB, four := cost(2000)
	for _, c := range []struct {
		what      string
		one, four int
	}{
		{"reads of the origin", oneA.reads, fourA.reads},
		{"writes of the origin", oneA.writes, fourA.writes},
		{"bytes of the origin", oneA.bytes, fourA.bytes},
		{"reads of the receiver", oneB.reads, fourB.reads},
		{"writes of the receiver", oneB.writes, fourB.writes},
		{"bytes of the receiver", oneB.bytes, fourB.bytes},
		{"work of the origin", one[0], four[0]},
		{"work of the receiver", one[1], four[1]},
	} {
		t.Logf("%s: %d, of four times as many sets %d", c.what, c.one, c.four)
		if float64(c.four) > 4.5*float64(c.one) {
			t.Errorf("%s: %d, of four times as many sets %d", c.what, c.one, c.four)
		}
	}
}

// contents returns what a view says of all keys, each in several ways.
func contents(t testing.TB, r *replica) map[string]int {
	t.Helper()
	v := r.View()
	defer v.Close()
	found := map[string]int{}
	err := v.Keys("", "", func(key string, s dotted.Summary) bool {
		found[key] = s.Count(crdt.TypeSet) + s.Count(crdt.TypeString)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := v.KeyCount(); err != nil || n != len(found) {
		t.Errorf("%d keys are counted and %d listed, %v", n, len(found), err)
	}
	f, ranged := Fields(v), 0
	for range f.All() {
		ranged++
	}
	if f.Err() != nil || ranged != len(found) {
		t.Errorf("%d keys have cells and %d are listed, %v", ranged, len(found), f.Err())
	}
	return found
}

// TestEverythingIsClearedInOneOperation has one replica clear everything while another writes.
func TestEverythingIsClearedInOneOperation(t *testing.T) {
	const sets = 300
	disk := &tally{disk: newDisk()}
	a, b := openOn(t, disk, 1), openOn(t, newDisk(), 500)
	apply(t, b, pipeline(t, a, sets, func(f crdt.Fields, i int) error { return fillSet(f, setKey(i), 20) }))
	later := pipeline(t, b, 2, func(f crdt.Fields, i int) error { return fillSet(f, []string{"new", setKey(7)}[i], 3) })
	disk.writes, disk.reads = 0, 0
	cleared := pipeline(t, a, 1, func(f crdt.Fields, _ int) error { _, err := f.Clear(); return err })
	if n := len(cleared[0].Ops); n != 1 || disk.writes > 6 || disk.reads > 100 {
		t.Errorf("%d operations, %d reads, %d writes", n, disk.reads, disk.writes)
	}
	if got := contents(t, a); len(got) != 0 {
		t.Errorf("after the clear: %v", got)
	}
	more := pipeline(t, a, 1, func(f crdt.Fields, _ int) error { return fillSet(f, setKey(8), 2) })
	apply(t, b, append(cleared, more...))
	want := map[string]int{"new": 3, setKey(7): 3, setKey(8): 2}
	check := func(r *replica) {
		t.Helper()
		if got := contents(t, r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check(b)
	if _, err := a.Sweep(); err != nil || !a.isSweeping() {
		t.Fatalf("a step is not in the middle of the sweep: %v", err)
	}
	a = openOn(t, disk, 200)
	apply(t, a, later)
	check(a)
	for _, r := range []*replica{a, b} {
		sweepAll(t, r)
		check(r)
		checkWhole(t, r)
	}
	if a.tree.Root() != b.tree.Root() {
		t.Error("the two do not agree")
	}
	check(openOn(t, disk, 300))
}

// TestAClearOfEverythingIsTakenBack gives a transaction up that cleared everything and went on.
func TestAClearOfEverythingIsTakenBack(t *testing.T) {
	r := openOn(t, newDisk(), 1)
	pipeline(t, r, 20, func(f crdt.Fields, i int) error { return fillSet(f, setKey(i), 20) })
	before := contents(t, r)
	g := r.newGroup(testStart)
	err := g.update(func(tx *Tx) error { return fillSet(Fields(tx), setKey(3), 21) })
	if err != nil {
		t.Fatal(err)
	}
	err = g.update(func(tx *Tx) error {
		f := Fields(tx)
		if _, err := f.Clear(); err != nil {
			return err
		}
		if n, _, _ := tx.KeyCount(); n != 0 {
			t.Errorf("%d keys in the transaction", n)
		}
		if err := fillSet(f, setKey(4), 1); err != nil {
			return err
		}
		if n, _, _ := tx.KeyCount(); n != 1 {
			t.Errorf("%d keys in the transaction after one was written", n)
		}
		return errGaveUp
	})
	if err != errGaveUp {
		t.Fatal(err)
	}
	if _, err := g.Commit(false); err != nil {
		t.Fatal(err)
	}
	before[setKey(3)] = 21
	if got := contents(t, r); fmt.Sprint(got) != fmt.Sprint(before) || r.Clears() != 0 {
		t.Errorf("%d clears, got %v, want %v", r.Clears(), got, before)
	}
	checkWhole(t, r)
}

// TestAClearOfEverythingKeepsTheRuleOfCounters has a counter be incremented while all is cleared:
// what the clear saw is gone, and what it did not see counts.
func TestAClearOfEverythingKeepsTheRuleOfCounters(t *testing.T) {
	a, b := openOn(t, newDisk(), 1), openOn(t, newDisk(), 500)
	add := func(r *replica, n int64) []*delta.Delta {
		return pipeline(t, r, 1, func(f crdt.Fields, _ int) error { _, err := f.Counter("n").Add(n); return err })
	}
	apply(t, b, pipeline(t, a, 1, func(f crdt.Fields, _ int) error { return fillSet(f, "s", 30) }))
	apply(t, a, add(b, 5))
	cleared := pipeline(t, a, 1, func(f crdt.Fields, _ int) error { _, err := f.Clear(); return err })
	apply(t, a, add(b, 2))
	apply(t, b, cleared)
	for name, r := range map[string]*replica{"who cleared": a, "who counted": b} {
		v := r.View()
		f := Fields(v)
		n := f.Counter("n").Get()
		v.Close()
		if f.Err() != nil || n != 2 {
			t.Errorf("%s reads %d, %v; want 2", name, n, f.Err())
		}
		sweepAll(t, r)
		checkWhole(t, r)
	}
}

// TestHiddenCellsAreFoundByEveryPrefix compares the look-up of the clears over an address with a
// look at each.
func TestHiddenCellsAreFoundByEveryPrefix(t *testing.T) {
	w := newWorld(t, 11, worldConfig{hosts: 1})
	random := func() (a dotted.Address) {
		for range w.rng.IntN(4) {
			a = a.Name([]string{"", "a", "ab", "b", "\x00"}[w.rng.IntN(5)])
			if w.rng.IntN(4) == 0 {
				return a
			}
			a = a.Type([]crdt.Type{crdt.TypeSet, crdt.TypeMap, crdt.TypeString, 'x'}[w.rng.IntN(4)])
			if a[len(a)-1] == 'x' {
				return a + dotted.Address([]string{"", "y", "yz"}[w.rng.IntN(3)])
			}
		}
		return a
	}
	for range 2000 {
		c := &clears{}
		var all []dotted.Address
		for i := range w.rng.IntN(12) {
			all = append(all, random())
			c.add(&pendingClear{prefix: all[i], replica: crdt.ReplicaID(i + 1), below: 1, seen: &seenSet{}})
		}
		a, want, got := random(), 0, 0
		for _, p := range all {
			if hasPrefix(a, p) {
				want++
			}
		}
		c.over(a, func(list []*pendingClear) { got += len(list) })
		if got != want {
			t.Fatalf("%q is under %d of %q, found %d", a, want, all, got)
		}
	}
}

// TestADeltaInMemoryKeepsNothingElseThere deletes a set and looks for the transaction: the log
// keeps its delta for the neighbours, and with it went the clears of that time, of each
// transaction others.
func TestADeltaInMemoryKeepsNothingElseThere(t *testing.T) {
	r := openOn(t, newDisk(), 0x100)
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error {
		for m := range 20 {
			if _, err := f.Set("s").Add(fmt.Sprint(m)); err != nil {
				return err
			}
		}
		return nil
	})
	var gone weak.Pointer[Tx]
	g := r.newGroup(testStart)
	err := g.update(func(tx *Tx) error {
		gone = weak.Make(tx)
		_, err := Fields(tx).Remove("s")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Commit(false); err != nil {
		t.Fatal(err)
	}
	g = nil
	runtime.GC()
	if len(r.log.recent) == 0 || gone.Value() != nil {
		t.Errorf("%d records in memory, and the transaction", len(r.log.recent))
	}
	runtime.KeepAlive(r)
}

// countedMap counts on n fields of a map.
func countedMap(t testing.TB, r *replica, n int) []*delta.Delta {
	return pipeline(t, r, n, func(f crdt.Fields, i int) error {
		_, err := f.Map("m").Counter(fmt.Sprintf("%05d", i)).Add(int64(i))
		return err
	})
}

// wantCounted compares a field's sum, and how many there are.
func wantCounted(t testing.TB, r *replica, when string, field string, sum int64, fields int) {
	t.Helper()
	v := r.View()
	defer v.Close()
	f := Fields(v)
	got, n := f.Map("m").Counter(field).Get(), f.Map("m").Len()
	if got != sum || n != fields || f.Err() != nil {
		t.Errorf("%s: %d in a map of %d, %v; want %d in %d", when, got, n, f.Err(), sum, fields)
	}
}

// TestAClearOfAMapCostsTheSameHoweverManyCountersAreInIt, for who receives it. What was counted
// is gone at once, and from the store bit by bit; what is counted meanwhile counts from zero,
// also once the store was opened anew.
func TestAClearOfAMapCostsTheSameHoweverManyCountersAreInIt(t *testing.T) {
	worked := map[int]int{}
	for _, n := range []int{50, 5000} {
		disk := newDisk()
		a, b := openOn(t, newDisk(), 1), openOn(t, disk, 2)
		apply(t, b, countedMap(t, a, n))
		must(t, b.Save(testStart))
		cleared := pipeline(t, a, 1, func(f crdt.Fields, _ int) error { _, err := f.Remove("m"); return err })
		began := b.work
		apply(t, b, cleared)
		worked[n] = b.work - began
		for name, r := range map[string]*replica{"who cleared": a, "who was told": b} {
			wantCounted(t, r, name, "00007", 0, 0)
		}
		again := func(field string) {
			pipeline(t, b, 1, func(f crdt.Fields, _ int) error { _, err := f.Map("m").Counter(field).Add(5); return err })
		}
		again("00007")
		b.cfg.MaxBatch = n / 5
		_, err := b.Sweep()
		must(t, err)
		again("00049")
		for _, when := range []string{"in the middle of the sweep", "opened anew"} {
			wantCounted(t, b, when, "00007", 5, 2)
			wantCounted(t, b, when, "00049", 5, 2)
			wantCounted(t, b, when, "00048", 0, 2)
			if b = openOn(t, disk, 3); b.Damaged() != nil {
				t.Fatal(b.Damaged())
			}
		}
		sweepAll(t, b)
		checkWhole(t, b)
		wantCounted(t, b, "swept", "00007", 5, 2)
		counts := 0
		v := b.View()
		must(t, v.records([]byte{prefixCount}, []byte{prefixCount + 1}, func([]byte, *item, []byte) bool {
			counts++
			return true
		}))
		v.Close()
		if counts != 2 {
			t.Errorf("the store has the sums of %d counters, want 2", counts)
		}
	}
	if worked[50] != worked[5000] {
		t.Errorf("clearing 5,000 counters took %d units of work, and 50 took %d", worked[5000], worked[50])
	}
}

// TestAClearWhileCountersAreSweptIsOneInARestoredBackup takes a backup while sums are as of a
// clear, and clears in what was made from it: groups there have later numbers than those that the
// sums name.
func TestAClearWhileCountersAreSweptIsOneInARestoredBackup(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	clearIt := func(r *replica) {
		pipeline(t, r, 1, func(f crdt.Fields, _ int) error { _, err := f.Remove("m"); return err })
	}
	countedMap(t, r, 30)
	clearIt(r)
	countedMap(t, r, 20)
	restored := openOn(t, backedUp(t, w, w.hosts[0]), 9)
	wantCounted(t, restored, "restored", "00007", 7, 20)
	clearIt(restored)
	wantCounted(t, restored, "cleared", "00007", 0, 0)
	sweepAll(t, restored)
	checkWhole(t, restored)
}

// TestClearsOfPartsLookAtABoundedNumberOfCells: a transaction that would look at more is refused,
// and changes nothing.
func TestClearsOfPartsLookAtABoundedNumberOfCells(t *testing.T) {
	r := openOn(t, newDisk(), 1)
	r.cfg.looked = 40
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return fillSetOf(f.Map("m").Set("small"), 40) })
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return fillSetOf(f.Map("m").Set("large"), 41) })
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return fillSetOf(f.Map("m").Set("other"), 20) })
	for _, test := range []struct {
		parts []string
		want  error
	}{{[]string{"large"}, delta.ErrTooLarge}, {[]string{"small", "other"}, delta.ErrTooLarge}, {[]string{"small"}, nil}, {[]string{"other"}, nil}} {
		g := r.newGroup(testStart)
		err := g.update(func(tx *Tx) error {
			for _, part := range test.parts {
				if _, err := Fields(tx).Map("m").Remove(part); err != nil {
					return err
				}
			}
			return nil
		})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.parts, err)
		}
		_, err = g.Commit(false)
		must(t, err)
	}
	v := r.View()
	if got := Fields(v).Map("m").Set("large").Len(); got != 41 {
		t.Errorf("%d elements are left, want 41", got)
	}
	v.Close()
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error { _, err := f.Remove("m"); return err })
	sweepAll(t, r)
	checkWhole(t, r)
}

func fillSetOf(s crdt.Set, members int) error {
	for i := range members {
		if _, err := s.Add(fmt.Sprint(i)); err != nil {
			return err
		}
	}
	return nil
}

// readLog is a log that counts how often it is read.
type readLog struct {
	store.Log
	reads int
}

func (l *readLog) Read(from store.Position, buffer []byte) (store.LogReader, error) {
	l.reads++
	return l.Log.Read(from, buffer)
}

// TestAClearOfAPartDoesNotReadTheLog has a part of a key be removed by who has not seen what was
// written here: more than is kept of the log in memory. What the part had is looked at anyway.
func TestAClearOfAPartDoesNotReadTheLog(t *testing.T) {
	a, b := openOn(t, newDisk(), 1), openOn(t, newDisk(), 500)
	part := func(f crdt.Fields) crdt.Set { return f.Map("m").Set("part") }
	apply(t, b, pipeline(t, a, 1, func(f crdt.Fields, _ int) error { return fillSetOf(part(f), 20) }))
	pipeline(t, b, 1, func(f crdt.Fields, _ int) error { return fillSetOf(part(f), 21) })
	pipeline(t, b, 100, func(f crdt.Fields, i int) error {
		return f.String(fmt.Sprint("large ", i)).Set(make([]byte, maxRecentBytes/40))
	})
	log := &readLog{Log: b.logs.(store.Log)}
	b.logs = log
	apply(t, b, pipeline(t, a, 1, func(f crdt.Fields, _ int) error { _, err := f.Map("m").Remove("part"); return err }))
	if log.reads > 0 {
		t.Errorf("the log was read %d times", log.reads)
	}
	v := b.View()
	if got := part(Fields(v)).Len(); got != 21 {
		t.Errorf("%d elements are left, want 21", got)
	}
	v.Close()
	sweepAll(t, b)
	checkWhole(t, b)
}
