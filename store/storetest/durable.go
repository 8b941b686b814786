package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
)

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
