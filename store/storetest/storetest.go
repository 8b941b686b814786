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
	"errors"
	"testing"

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
