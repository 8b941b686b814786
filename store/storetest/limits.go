package storetest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
)

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
	twice.Set([]byte("big"), filled(1, 2*mib))
	twice.Set([]byte("big"), filled(2, 3*mib))
	twice.Set([]byte("gone"), filled(3, 2*mib))
	twice.Delete([]byte("gone"))
	commit(t, s, &twice)
	now(s, func(view store.Snapshot) {
		expectGet(t, view, "big", string(filled(2, 3*mib)))
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
	for i := 0; b.Bytes() < size; i++ {
		b.Set(numbered(i, 8), make([]byte, min(store.MaxValue, size-b.Bytes()-8)))
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
		{"large values at the limit", spread(store.MaxBatchBytes), nil},
		{"a byte too many", full(store.MaxBatchOps, store.MaxBatchBytes+1), store.ErrBatchTooLarge},
		{"large values, a byte too many", spread(store.MaxBatchBytes + 1), store.ErrBatchTooLarge},
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
