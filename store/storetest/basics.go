package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
)

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
