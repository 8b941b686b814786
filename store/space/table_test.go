package space

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
)

func mustOpenTable(t *testing.T, st store.Store) *Table {
	t.Helper()
	table, err := OpenTable(st)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func mustAdd(t *testing.T, table *Table, name string) Number {
	t.Helper()
	n, err := table.Add(name, 100)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func fill(t *testing.T, tree *Tree, keys int) {
	t.Helper()
	b := &store.Batch{}
	for i := range keys {
		b.Set(fmt.Appendf(nil, "key %d", i), []byte("value"))
	}
	if err := tree.Commit(b, false); err != nil {
		t.Fatal(err)
	}
}

func countKeys(t *testing.T, st store.Store) (n int) {
	t.Helper()
	view := st.Snapshot()
	defer view.Close()
	if err := view.ScanKeys(nil, nil, func([]byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// mortal is a store that dies after some commits.
type mortal struct {
	*mem.Store
	left int
}

var errDied = errors.New("it died")

func (m *mortal) Commit(b *store.Batch, sync bool) error {
	if m.left--; m.left < 0 {
		return errDied
	}
	return m.Store.Commit(b, sync)
}

func dropAndReclaim(table *Table, name string) error {
	if _, err := table.Drop(name); err != nil {
		return err
	}
	for more := true; more; {
		var err error
		if more, err = table.Reclaim(); err != nil {
			return err
		}
	}
	return nil
}

// TestADroppedSpaceGoesWhereverTheHostDies interrupts a drop before each commit, by a kill and by
// a power failure. The space is then held whole, or goes on going; its number is never another's,
// and its neighbours are as they were.
func TestADroppedSpaceGoesWhereverTheHostDies(t *testing.T) {
	const keys = 3000
	for _, power := range []bool{false, true} {
		for left, ended := 0, false; !ended; left++ {
			disk := mem.New()
			table := mustOpenTable(t, disk)
			below, dropped, above := mustAdd(t, table, "below"), mustAdd(t, table, "dropped"), mustAdd(t, table, "above")
			for _, n := range []Number{below, dropped, above} {
				fill(t, NewTree(disk, n), keys)
			}
			if err := disk.Sync(); err != nil {
				t.Fatal(err)
			}
			dying := &mortal{disk, left}
			err := dropAndReclaim(mustOpenTable(t, dying), "dropped")
			if ended = err == nil; !ended && !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			if power {
				disk = disk.Crash()
			} else {
				disk = disk.Clone()
			}
			table = mustOpenTable(t, disk)
			if heldStill := len(table.Spaces()) == 3; heldStill != (left == 0) {
				t.Fatalf("after %d commits the table has %v", left, table.Spaces())
			} else if heldStill {
				continue
			}
			again := mustAdd(t, table, "dropped")
			if again <= above {
				t.Fatalf("number %d was given away twice", again)
			}
			if n := countKeys(t, NewTree(disk, again)); n != 0 {
				t.Fatalf("a new space has %d keys of a dropped one", n)
			}
			for more := true; more; {
				if more, err = table.Reclaim(); err != nil {
					t.Fatal(err)
				}
			}
			got := []int{}
			for _, n := range []Number{below, dropped, above} {
				got = append(got, countKeys(t, NewTree(disk, n)))
			}
			if diff := cmp.Diff([]int{keys, 0, keys}, got); diff != "" {
				t.Fatalf("keys of the three spaces, dead after %d commits, power %v (-want +got):\n%s", left,
					power, diff)
			}
			if n := countKeys(t, NewTree(disk, 0)); n != 4 {
				t.Fatalf("the table has %d records for 3 spaces", n)
			}
		}
	}
}

func TestANumberIsDurableBeforeItIsGiven(t *testing.T) {
	disk := mem.New()
	first := mustAdd(t, mustOpenTable(t, disk), "first")
	disk = disk.Crash()
	table := mustOpenTable(t, disk)
	want := []Space{{first, "first", 100}}
	if diff := cmp.Diff(want, table.Spaces()); diff != "" {
		t.Fatalf("after a power failure (-want +got):\n%s", diff)
	}
	if err := dropAndReclaim(table, "first"); err != nil {
		t.Fatal(err)
	}
	table = mustOpenTable(t, disk.Crash())
	if !table.Dropped("first") || table.Dropped("second") {
		t.Error("it is not known any more what was dropped")
	}
	if n := mustAdd(t, table, "second"); n == first {
		t.Errorf("number %d was given away twice", n)
	}
}

// TestTheNewestSpaceOfANameSaysWhetherItIsDropped also while older ones of that name are still there.
func TestTheNewestSpaceOfANameSaysWhetherItIsDropped(t *testing.T) {
	disk := mem.New()
	table := mustOpenTable(t, disk)
	mustAdd(t, table, "other")
	expect := func(when string, dropped bool) {
		t.Helper()
		for _, one := range []*Table{table, mustOpenTable(t, disk.Clone())} {
			if one.Lacks() != dropped || one.Dropped("orders") != dropped {
				t.Errorf("%s: dropped %v, any %v", when, one.Dropped("orders"), one.Lacks())
			}
		}
	}
	expect("not there yet", false)
	for range 3 {
		mustAdd(t, table, "orders")
		expect("held", false)
		if _, err := table.Drop("orders"); err != nil {
			t.Fatal(err)
		}
		expect("dropped", true)
	}
	reclaimAll(t, table)
	expect("deleted", true)
	mustAdd(t, table, "orders")
	expect("held again", false)
	if n := countKeys(t, NewTree(disk, 0)); n != 3 {
		t.Errorf("the table has %d records for 2 spaces", n)
	}
}

// TestATableOfAllNumbersIsLookedThroughOften would outlast the time that tests have, if each look
// were one at all spaces for each of them.
func TestATableOfAllNumbersIsLookedThroughOften(t *testing.T) {
	disk := mem.New()
	own, batch := NewTree(disk, 0), &store.Batch{}
	batch.Set(keyNext, encodeNext(maxNumber+1))
	for i := range maxNumber {
		e := entry{Space{Number(i + 1), fmt.Sprint("s", i), 0}, held}
		batch.Set(keyOf(e.Number), e.encode())
		if err := own.Commit(batch, false); err != nil {
			t.Fatal(err)
		}
		batch.Reset()
	}
	table := mustOpenTable(t, disk)
	for range 50 {
		if table.Lacks() {
			t.Fatal("it lacks a space, and none was dropped")
		}
	}
	if _, err := table.Drop("s7"); err != nil || !table.Lacks() || !table.Dropped("s7") || table.Dropped("s8") {
		t.Errorf("once one is dropped it lacks any: %v (%v)", table.Lacks(), err)
	}
}

func TestTheTableRefuses(t *testing.T) {
	table := mustOpenTable(t, mem.New())
	mustAdd(t, table, "held")
	_, again := table.Add("held", 0)
	_, unknown := table.Drop("other")
	table.next = maxNumber
	last := mustAdd(t, table, "last")
	_, none := table.Add("beyond", 0)
	if !errors.Is(again, ErrExists) || !errors.Is(unknown, ErrUnknown) || !errors.Is(none, ErrNoNumber) ||
		last != maxNumber {
		t.Errorf("%v; %v; %v; last number %d", again, unknown, none, last)
	}
	for _, name := range []string{"", string(make([]byte, MaxName+1))} {
		if _, err := table.Add(name, 0); err == nil {
			t.Errorf("a name of %d bytes is taken", len(name))
		}
	}
	if st := NewTree(table.st, maxNumber); st.end != nil {
		t.Error("the last space has one behind it")
	}
}

func TestAStoreWithoutATableIsRefused(t *testing.T) {
	old, rotten, newer := mem.New(), mem.New(), mem.New()
	fill(t, NewTree(old, 'c'<<8), 1)
	for st, record := range map[*mem.Store][]byte{
		rotten: []byte("rotten"), newer: wire.Seal(formatVersion+1, keyNext, []byte{0x90}),
	} {
		b := &store.Batch{}
		b.Set(keyNext, record)
		if err := NewTree(st, 0).Commit(b, true); err != nil {
			t.Fatal(err)
		}
	}
	for st, want := range map[*mem.Store]error{
		old: wire.ErrFormat, newer: wire.ErrFormat, rotten: store.ErrCorrupt,
	} {
		if _, err := OpenTable(st); !errors.Is(err, want) {
			t.Errorf("OpenTable: %v, want %v", err, want)
		}
		if n := countKeys(t, st); n != 1 {
			t.Errorf("%d records after a refusal", n)
		}
	}
}

// TestAStoreThatLostItsTableIsDamaged keeps a space's record alone.
func TestAStoreThatLostItsTableIsDamaged(t *testing.T) {
	st, b := mem.New(), &store.Batch{}
	b.Set([]byte{0, 1, 'c', 'x'}, []byte("cell"))
	if err := st.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTable(st); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("it opens with the error %v", err)
	}
}

// TestTheRecordsAreAsTheyWere compares them with testdata/format2.table, which a run with
// UPDATE=1 writes.
func TestTheRecordsAreAsTheyWere(t *testing.T) {
	e := entry{Space{0x0102, "name", 1 << 40}, dropping}
	got := append(encodeNext(0x0103), e.encode()...)
	path := filepath.Join("testdata", "format2.table")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("records are\n%x and were\n%x (%v)", got, want, err)
	}
	if read, err := decodeEntry(keyOf(e.Number), e.encode()); err != nil || read != e {
		t.Errorf("%+v is read as %+v: %v", e, read, err)
	}
}

// TestRecordsOfADroppedSpaceStayWhileItIsInUse also shows that a crash ends that.
func TestRecordsOfADroppedSpaceStayWhileItIsInUse(t *testing.T) {
	disk := mem.New()
	table := mustOpenTable(t, disk)
	first, second := mustAdd(t, table, "first"), mustAdd(t, table, "second")
	fill(t, NewTree(disk, first), 100)
	fill(t, NewTree(disk, second), 100)
	table.Keep(first)
	for _, name := range []string{"first", "second"} {
		if err := dropAndReclaim(table, name); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := countKeys(t, NewTree(disk, first)), countKeys(t, NewTree(disk, second)); n != 100 || m != 0 {
		t.Errorf("a space in use has %d of 100 keys, and the other one %d", n, m)
	}
	if !table.Dropped("first") {
		t.Error("the space is not dropped")
	}
	crashed := disk.Clone()
	reclaimAll(t, mustOpenTable(t, crashed))
	if n := countKeys(t, NewTree(crashed, first)); n != 0 {
		t.Errorf("%d keys are left after a crash", n)
	}
	table.Release(first)
	reclaimAll(t, table)
	if n := countKeys(t, NewTree(disk, first)); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func reclaimAll(t *testing.T, table *Table) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = table.Reclaim(); err != nil {
			t.Fatal(err)
		}
	}
}
