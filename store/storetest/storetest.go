// Package storetest is the conformance suite of the contract in package store: what passes Run is
// a store.Store, and what passes RunDurable as well keeps its records when it is opened again.
//
// An implementation calls both from its own tests:
//
//	storetest.Run(t, func(t *testing.T) store.Store { ... an empty store ... })
//	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { ... })
//
// The suite closes the stores that it opens. What differs between media, such as a process that is
// killed or a bit that flips, is tested next to the implementation.
package storetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/store"
)

// Run tests everything in the contract that does not need a second opening. Each call of open
// returns a new, empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"a committed value is read back", testReadBack},
		{"empty keys and values are kept", testEmpty},
		{"keys may be any bytes", testBinaryKeys},
		{"a value that was read belongs to its reader", testValueIsOwned},
		{"a batch may be reused after its commit", testBatchReuse},
		{"the last write of a batch to a key counts", testLastWriteCounts},
		{"deleting an absent key is no error", testDeleteAbsent},
		{"an empty batch commits", testEmptyBatch},
		{"a scan is ordered and keeps to its bounds", testScanBounds},
		{"a scan stops when it is told to", testScanStops},
		{"reads nest in a scan", testNestedReads},
		{"a snapshot does not change", testSnapshotIsolation},
		{"a large value survives overwrites and deletes", testLargeValues},
		{"a batch at the limits commits and one beyond them does not", testLimits},
		{"a closed store and a closed snapshot say so", testClosed},
		{"commits and snapshots may run at once", testConcurrency},
		{"it agrees with a sorted map", testModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			test.run(t, s)
		})
	}
}

// record is what a scan returned or should return.
type record struct{ Key, Value string }

func commit(t rapid.TB, s store.Store, b *store.Batch) {
	t.Helper()
	if err := s.Commit(b, false); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// set commits one batch of keys and values in turn.
func set(t rapid.TB, s store.Store, pairs ...string) {
	t.Helper()
	var b store.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	commit(t, s, &b)
}

func remove(t rapid.TB, s store.Store, keys ...string) {
	t.Helper()
	var b store.Batch
	for _, key := range keys {
		b.Delete([]byte(key))
	}
	commit(t, s, &b)
}

// scan returns the records in [start, end). It reads every key with Get and ScanKeys as well,
// which have to agree.
func scan(t rapid.TB, view store.Snapshot, start, end []byte) []record {
	t.Helper()
	var got []record
	err := view.Scan(start, end, func(key, value []byte) bool {
		got = append(got, record{string(key), string(value)})
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	next := 0
	err = view.ScanKeys(start, end, func(key []byte) bool {
		if next >= len(got) || got[next].Key != string(key) {
			t.Fatalf("ScanKeys: key %d is %q, which Scan did not return there", next, key)
		}
		next++
		return true
	})
	if err != nil || next != len(got) {
		t.Fatalf("ScanKeys returned %d keys and %v, Scan %d", next, err, len(got))
	}
	for _, r := range got {
		expectGet(t, view, r.Key, r.Value)
	}
	return got
}

func expectGet(t rapid.TB, view store.Snapshot, key, want string) {
	t.Helper()
	value, ok, err := view.Get([]byte(key))
	switch {
	case err != nil:
		t.Fatalf("Get(%.40q): %v", key, err)
	case !ok:
		t.Fatalf("Get(%.40q) finds nothing", key)
	case string(value) != want:
		t.Fatalf("Get(%.40q) = %.40q (%d bytes), want %.40q (%d bytes)",
			key, value, len(value), want, len(want))
	}
}

func expectAbsent(t rapid.TB, view store.Snapshot, key string) {
	t.Helper()
	value, ok, err := view.Get([]byte(key))
	if err != nil || ok || value != nil {
		t.Fatalf("Get(%.40q) = %d bytes, %v, %v, want nothing", key, len(value), ok, err)
	}
}

// now runs fn on a snapshot of this moment.
func now(s store.Store, fn func(view store.Snapshot)) {
	view := s.Snapshot()
	defer view.Close()
	fn(view)
}

func expectErr(t rapid.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// filled returns n bytes that differ from those of another seed, and within themselves.
func filled(seed byte, n int) []byte {
	out := bytes.Repeat([]byte{seed}, n)
	for i := 0; i < n; i += 61 {
		out[i] = byte(i/61) ^ seed
	}
	return out
}

func testReadBack(t *testing.T, s store.Store) {
	set(t, s, "a", "1", "b", "2")
	now(s, func(view store.Snapshot) {
		expectGet(t, view, "a", "1")
		expectGet(t, view, "b", "2")
		expectAbsent(t, view, "c")
	})
	if s.Size() < 0 {
		t.Errorf("Size() = %d", s.Size())
	}
	if err := s.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
}

func testEmpty(t *testing.T, s store.Store) {
	var b store.Batch
	b.Set([]byte("nil"), nil)
	b.Set([]byte("none"), []byte{})
	b.Set(nil, []byte("of no key"))
	commit(t, s, &b)
	now(s, func(view store.Snapshot) {
		want := []record{{"", "of no key"}, {"nil", ""}, {"none", ""}}
		if diff := cmp.Diff(want, scan(t, view, nil, nil)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// testBinaryKeys writes keys that an implementation might use itself, or sort by another rule.
func testBinaryKeys(t *testing.T, s store.Store) {
	keys := []string{
		"", "\x00", "\x00\x00", "\x00\xff", "\x01", "!badger!", "!badger!txn", "a", "a\x00",
		"a\x00\x00\x00\x00\x00\x00\x00\x00", "a\x00b", "a\xff\xff\xff\xff\xff\xff\xff\xff", "aa",
		"ab", "b", "\x7f", "\x80", "\xc3\x28", "\xfe", "\xff", "\xff\x00", "\xff\xff",
	}
	for _, key := range keys {
		set(t, s, key, "under "+key)
	}
	slices.Sort(keys)
	var want []record
	for _, key := range keys {
		want = append(want, record{key, "under " + key})
	}
	now(s, func(view store.Snapshot) {
		if diff := cmp.Diff(want, scan(t, view, nil, nil)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

func testValueIsOwned(t *testing.T, s store.Store) {
	set(t, s, "a", "value")
	now(s, func(view store.Snapshot) {
		value, _, err := view.Get([]byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		clear(value)
		expectGet(t, view, "a", "value")
	})
}

func testBatchReuse(t *testing.T, s store.Store) {
	var b store.Batch
	key, value := []byte("first"), []byte("value")
	b.Set(key, value)
	commit(t, s, &b)
	copy(key, "other")
	copy(value, "worth")
	b.Reset()
	b.Set(key, value)
	commit(t, s, &b)
	now(s, func(view store.Snapshot) {
		expectGet(t, view, "first", "value")
		expectGet(t, view, "other", "worth")
	})
}

func testLastWriteCounts(t *testing.T, s store.Store) {
	var b store.Batch
	b.Set([]byte("set"), []byte("1"))
	b.Set([]byte("set"), []byte("2"))
	b.Set([]byte("gone"), []byte("1"))
	b.Delete([]byte("gone"))
	b.Delete([]byte("back"))
	b.Set([]byte("back"), []byte("1"))
	commit(t, s, &b)
	now(s, func(view store.Snapshot) {
		want := []record{{"back", "1"}, {"set", "2"}}
		if diff := cmp.Diff(want, scan(t, view, nil, nil)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

func testDeleteAbsent(t *testing.T, s store.Store) {
	remove(t, s, "never")
	set(t, s, "once", "1")
	remove(t, s, "once")
	remove(t, s, "once")
	now(s, func(view store.Snapshot) { expectAbsent(t, view, "once") })
}

func testEmptyBatch(t *testing.T, s store.Store) {
	for _, sync := range []bool{false, true} {
		if err := s.Commit(&store.Batch{}, sync); err != nil {
			t.Errorf("an empty batch, sync %v: %v", sync, err)
		}
	}
}

func testSnapshotIsolation(t *testing.T, s store.Store) {
	empty := s.Snapshot()
	defer empty.Close()
	set(t, s, "changed", "old", "deleted", "old")
	old := s.Snapshot()
	defer old.Close()
	set(t, s, "changed", "new", "added", "new")
	remove(t, s, "deleted")
	fresh := s.Snapshot()
	defer fresh.Close()

	for _, test := range []struct {
		name string
		view store.Snapshot
		want []record
	}{
		{"before the first commit", empty, nil},
		{"between", old, []record{{"changed", "old"}, {"deleted", "old"}}},
		{"after the last commit", fresh, []record{{"added", "new"}, {"changed", "new"}}},
	} {
		if diff := cmp.Diff(test.want, scan(t, test.view, nil, nil)); diff != "" {
			t.Errorf("a snapshot %s (-want +got):\n%s", test.name, diff)
		}
	}
	expectAbsent(t, old, "added")
}

func testClosed(t *testing.T, s store.Store) {
	set(t, s, "a", "1")
	view := s.Snapshot()
	view.Close()
	view.Close()
	expectClosed(t, view)

	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	var b store.Batch
	b.Set([]byte("a"), []byte("2"))
	expectErr(t, "Commit", s.Commit(&b, false), store.ErrClosed)
	expectErr(t, "Commit with sync", s.Commit(&b, true), store.ErrClosed)
	expectErr(t, "an empty Commit", s.Commit(&store.Batch{}, false), store.ErrClosed)
	expectErr(t, "Sync", s.Sync(), store.ErrClosed)
	now(s, func(view store.Snapshot) { expectClosed(t, view) })
}

// expectClosed reads a snapshot that is closed, or was taken of a closed store.
func expectClosed(t *testing.T, view store.Snapshot) {
	t.Helper()
	never := errors.New("the callback was called")
	_, _, err := view.Get([]byte("a"))
	expectErr(t, "Get", err, store.ErrClosed)
	err = view.Scan(nil, nil, func(_, _ []byte) bool { t.Error(never); return true })
	expectErr(t, "Scan", err, store.ErrClosed)
	err = view.ScanKeys(nil, nil, func([]byte) bool { t.Error(never); return true })
	expectErr(t, "ScanKeys", err, store.ErrClosed)
}

func testScanBounds(t *testing.T, s store.Store) {
	all := []string{"a", "b", "b\x00", "ba", "bb", "c", "c\xff", "d", "\xff", "\xff\xff"}
	for _, key := range all {
		set(t, s, key, "of "+key)
	}
	view := s.Snapshot()
	defer view.Close()

	none := []byte(nil)
	bound := func(s string) []byte { return []byte(s) }
	for _, test := range []struct {
		start, end []byte
		want       []string
	}{
		{none, none, all},
		{bound(""), none, all},
		{bound("b"), none, all[1:]},
		{none, bound("b"), all[:1]},
		{bound("b"), bound("c"), all[1:5]},
		{bound("b"), bound("b\x00"), all[1:2]},
		{bound("b\x00"), bound("bb"), all[2:4]},
		{bound("b\x01"), bound("d"), all[3:7]},
		{bound("c\xff"), bound("d"), all[6:7]},
		{bound("\xff"), none, all[8:]},
		{bound("\xff"), bound("\xff\xff"), all[8:9]},
		{bound("\xff\xff\x00"), none, nil},
		{bound("bc"), bound("bz"), nil},
		{bound("b"), bound("b"), nil},
		{bound("c"), bound("b"), nil},
		{none, bound(""), nil},
	} {
		var want []record
		for _, key := range test.want {
			want = append(want, record{key, "of " + key})
		}
		if diff := cmp.Diff(want, scan(t, view, test.start, test.end)); diff != "" {
			t.Errorf("scan of [%q, %q) (-want +got):\n%s", test.start, test.end, diff)
		}
	}
}

func testScanStops(t *testing.T, s store.Store) {
	for i := range 100 {
		set(t, s, fmt.Sprintf("%02d", i), "value")
	}
	now(s, func(view store.Snapshot) {
		for _, limit := range []int{1, 2, 50, 100} {
			values, keys := 0, 0
			err := view.Scan(nil, nil, func(_, _ []byte) bool { values++; return values < limit })
			if err != nil || values != limit {
				t.Errorf("Scan told to stop at %d stopped at %d: %v", limit, values, err)
			}
			err = view.ScanKeys(nil, nil, func([]byte) bool { keys++; return keys < limit })
			if err != nil || keys != limit {
				t.Errorf("ScanKeys told to stop at %d stopped at %d: %v", limit, keys, err)
			}
		}
	})
}

// testNestedReads reads and commits in the middle of a scan, which has to go on as if nothing
// happened.
func testNestedReads(t *testing.T, s store.Store) {
	set(t, s, "a", "1", "b", "2", "c", "3")
	view := s.Snapshot()
	defer view.Close()
	var got []string
	err := view.Scan(nil, nil, func(key, value []byte) bool {
		got = append(got, string(key)+string(value))
		expectGet(t, view, "c", "3")
		err := view.ScanKeys([]byte("b"), nil, func(inner []byte) bool {
			got = append(got, string(inner))
			return false
		})
		if err != nil {
			t.Errorf("ScanKeys: %v", err)
		}
		set(t, s, string(key)+"new", "4")
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	if diff := cmp.Diff([]string{"a1", "b", "b2", "b", "c3", "b"}, got); diff != "" {
		t.Errorf("what the scans saw (-want +got):\n%s", diff)
	}
}

// testLargeValues replaces values on both sides of every size at which an implementation may
// change the way it stores them.
func testLargeValues(t *testing.T, s store.Store) {
	const mib = 1 << 20
	sizes := []int{mib, 300 << 10, 3*mib + 1, 10, store.MaxValue, 256 << 10, 256<<10 + 1, 0, 2 * mib}
	var views []store.Snapshot
	for i, size := range sizes {
		set(t, s, "big", string(filled(byte(i), size)), "small", fmt.Sprint(i))
		views = append(views, s.Snapshot())
	}
	remove(t, s, "big")
	for i, size := range sizes {
		want := []record{{"big", string(filled(byte(i), size))}, {"small", fmt.Sprint(i)}}
		if got := scan(t, views[i], nil, nil); !cmp.Equal(want, got) {
			t.Errorf("the snapshot that saw %d bytes no longer does: %d records", size, len(got))
		}
		views[i].Close()
	}

	var twice store.Batch
	twice.Set([]byte("big"), filled(1, mib))
	twice.Set([]byte("big"), filled(2, 2*mib))
	twice.Set([]byte("gone"), filled(3, mib))
	twice.Delete([]byte("gone"))
	commit(t, s, &twice)
	now(s, func(view store.Snapshot) {
		expectGet(t, view, "big", string(filled(2, 2*mib)))
		expectAbsent(t, view, "gone")
	})
}

// numbered returns a key of n bytes.
func numbered(i, n int) []byte {
	key := make([]byte, n)
	binary.BigEndian.PutUint32(key, uint32(i))
	return key
}

// full returns a batch of exactly ops writes and size bytes.
func full(ops, size int) *store.Batch {
	const keySize = 8
	b := &store.Batch{}
	for i := range ops {
		rest := size - b.Bytes() - (ops-i)*keySize
		b.Set(numbered(i, keySize), make([]byte, rest/(ops-i)))
	}
	return b
}

// spread returns a batch of size bytes in values that are as large as they can be.
func spread(size int) *store.Batch {
	b := &store.Batch{}
	for i := 0; size > 0; i++ {
		n := min(store.MaxValue, size)
		b.Set(numbered(i, 8), make([]byte, n))
		size -= n
	}
	return b
}

func testLimits(t *testing.T, s store.Store) {
	one := func(key, value []byte) *store.Batch {
		b := &store.Batch{}
		b.Set(key, value)
		return b
	}
	deletes := func(n int) *store.Batch {
		b := &store.Batch{}
		for i := range n {
			b.Delete(numbered(i, 8))
		}
		return b
	}
	for _, test := range []struct {
		name  string
		batch *store.Batch
		want  error
	}{
		{"a key at the limit", one(make([]byte, store.MaxKey), nil), nil},
		{"a key beyond the limit", one(make([]byte, store.MaxKey+1), nil), store.ErrBatchTooLarge},
		{"a value at the limit", one(nil, make([]byte, store.MaxValue)), nil},
		{"a value beyond the limit", one(nil, make([]byte, store.MaxValue+1)), store.ErrBatchTooLarge},
		{"both limits", full(store.MaxBatchOps, store.MaxBatchBytes), nil},
		{"large values at the limit", spread(store.MaxBatchLarge), nil},
		{"a byte too many", full(store.MaxBatchOps, store.MaxBatchBytes+1), store.ErrBatchTooLarge},
		{"large values, a byte too many", spread(store.MaxBatchLarge + 1), store.ErrBatchTooLarge},
		{"deletes at the limit", deletes(store.MaxBatchOps), nil},
		{"a delete too many", deletes(store.MaxBatchOps + 1), store.ErrBatchTooLarge},
		{"a write too many", full(store.MaxBatchOps+1, 1<<20), store.ErrBatchTooLarge},
	} {
		before := count(t, s)
		err := s.Commit(test.batch, false)
		if test.want == nil && err != nil {
			t.Errorf("%s (%d writes, %d bytes): %v", test.name, test.batch.Len(), test.batch.Bytes(), err)
		}
		if test.want != nil {
			expectErr(t, test.name, err, test.want)
			if after := count(t, s); after != before {
				t.Errorf("%s was refused and changed the store: %d keys, then %d", test.name, before, after)
			}
		}
	}
	now(s, func(view store.Snapshot) {
		expectGet(t, view, string(make([]byte, store.MaxKey)), "")
		expectGet(t, view, "", string(make([]byte, store.MaxValue)))
	})
}

func count(t *testing.T, s store.Store) int {
	t.Helper()
	n := 0
	now(s, func(view store.Snapshot) {
		if err := view.ScanKeys(nil, nil, func([]byte) bool { n++; return true }); err != nil {
			t.Fatalf("ScanKeys: %v", err)
		}
	})
	return n
}

// RunDurable tests what a store must still hold after it was closed and opened again in the same
// directory. Each call of open opens the store in dir, which is empty the first time.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	t.Run("opening again finds what was committed", func(t *testing.T) { testReopen(t, open) })
	t.Run("opening again finds large values", func(t *testing.T) { testReopenLarge(t, open) })
	t.Run("a refused batch leaves nothing", func(t *testing.T) { testReopenRefused(t, open) })
}

type opener = func(t *testing.T, dir string) store.Store

// reopen runs fn on the store in dir and closes it.
func reopen(t *testing.T, open opener, dir string, fn func(s store.Store)) {
	t.Helper()
	s := open(t, dir)
	fn(s)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func testReopen(t *testing.T, open opener) {
	dir := t.TempDir()
	want := model{}
	for round := range 4 {
		reopen(t, open, dir, func(s store.Store) {
			now(s, func(view store.Snapshot) {
				if diff := cmp.Diff(want.records(nil, nil), scan(t, view, nil, nil)); diff != "" {
					t.Fatalf("opening %d (-want +got):\n%s", round, diff)
				}
			})
			for i := range 50 {
				b := &store.Batch{}
				b.Set(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "round %d", round))
				b.Set(fmt.Appendf(nil, "key %d of round %d", i, round), nil)
				b.Delete(fmt.Appendf(nil, "key %d of round %d", i, round-2))
				if err := s.Commit(b, i%10 == 0); err != nil {
					t.Fatalf("Commit: %v", err)
				}
				want.apply(b)
			}
		})
	}
}

func testReopenLarge(t *testing.T, open opener) {
	dir := t.TempDir()
	const size = 3 << 20
	reopen(t, open, dir, func(s store.Store) {
		set(t, s, "kept", string(filled(1, size)))
		set(t, s, "replaced", string(filled(2, size)))
		set(t, s, "deleted", string(filled(3, size)))
	})
	reopen(t, open, dir, func(s store.Store) {
		set(t, s, "replaced", string(filled(4, size+1)))
		remove(t, s, "deleted")
	})
	reopen(t, open, dir, func(s store.Store) {
		now(s, func(view store.Snapshot) {
			expectGet(t, view, "kept", string(filled(1, size)))
			expectGet(t, view, "replaced", string(filled(4, size+1)))
			expectAbsent(t, view, "deleted")
		})
	})
}

func testReopenRefused(t *testing.T, open opener) {
	dir := t.TempDir()
	reopen(t, open, dir, func(s store.Store) {
		b := full(store.MaxBatchOps+1, 1<<20)
		expectErr(t, "Commit", s.Commit(b, true), store.ErrBatchTooLarge)
	})
	reopen(t, open, dir, func(s store.Store) {
		if n := count(t, s); n != 0 {
			t.Errorf("%d keys of a refused batch are there", n)
		}
	})
}
