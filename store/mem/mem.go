// Package mem keeps a store's records in memory, for tests and for the simulator.
//
// The records lie in a copy-on-write B-tree: a snapshot is a copy that costs O(1) and shares every
// node until one of the two changes it. Nothing here starts a goroutine, reads a clock or depends
// on map order, so a simulated run replays from its seed.
//
// A medium that forgets can be simulated too. The store remembers what was last synced, and Crash
// returns the store that a machine would find after a power failure: every commit up to the last
// synced one, and none after it. Clone returns a copy as a backup would hold it. The Log does the
// same, and may keep a part of what was not synced, as a disk does.
//
// Package storetest holds the tests.
package mem

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/peerd/peerd/store"
)

// record is one key and its value. Neither slice changes once it is in a tree.
type record struct{ key, value []byte }

type tree = btree.BTreeG[record]

func newTree() *tree {
	less := func(a, b record) bool { return bytes.Compare(a.key, b.key) < 0 }
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
}

// contents is a tree and the bytes of its keys and values.
type contents struct {
	records *tree
	bytes   int64
}

func (c *contents) copy() contents { return contents{c.records.Copy(), c.bytes} }

// Store is a store.Store in memory.
type Store struct {
	mu      sync.Mutex
	live    contents // everything committed
	durable contents // everything synced
	closed  bool
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{live: contents{records: newTree()}, durable: contents{records: newTree()}}
}

// Snapshot implements store.Store in O(1). That of a closed store answers store.ErrClosed.
func (s *Store) Snapshot() store.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := &snapshot{}
	if !s.closed {
		view.records.Store(s.live.records.Copy())
	}
	return view
}

// Commit implements store.Store.
func (s *Store) Commit(b *store.Batch, sync bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := b.Check(); err != nil {
		return err
	}
	for _, op := range b.Ops {
		s.live.apply(op)
	}
	if sync {
		s.durable = s.live.copy()
	}
	return nil
}

func (c *contents) apply(op store.Op) {
	var old record
	if op.Delete {
		old, _ = c.records.Delete(record{key: op.Key})
	} else {
		// An empty value is not nil: nil would make Get's answer depend on who made the batch.
		n := len(op.Key)
		both := append(append(make([]byte, 0, n+len(op.Value)), op.Key...), op.Value...)
		old, _ = c.records.Set(record{key: both[:n:n], value: both[n:]})
		c.bytes += int64(len(both))
	}
	c.bytes -= int64(len(old.key) + len(old.value))
}

// Sync implements store.Store.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.durable = s.live.copy()
	return nil
}

// Size implements store.Store: the bytes of all keys and values.
func (s *Store) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.bytes
}

// Close implements store.Store. What was committed stays for Clone, as it would on a disk.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed, s.durable = true, s.live.copy()
	}
	return nil
}

// Crash closes the store as a power failure would, and returns what is found after it: a new store
// that holds what was synced, and nothing else. After Close that is everything.
func (s *Store) Crash() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return &Store{live: s.durable.copy(), durable: s.durable.copy()}
}

// Clone returns a new store with everything committed so far, all of it synced: the copy of a
// disk, a restored backup, or, after Close, the store reopened. The store itself goes on
// unchanged.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Store{live: s.live.copy(), durable: s.live.copy()}
}

// snapshot is a copy of the tree, which nobody changes, or nil when it is closed.
type snapshot struct{ records atomic.Pointer[tree] }

func (v *snapshot) Get(key []byte) ([]byte, bool, error) {
	records := v.records.Load()
	if records == nil {
		return nil, false, store.ErrClosed
	}
	r, ok := records.Get(record{key: key})
	if !ok {
		return nil, false, nil
	}
	return bytes.Clone(r.value), true, nil
}

func (v *snapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	records := v.records.Load()
	if records == nil {
		return store.ErrClosed
	}
	records.Ascend(record{key: start}, func(r record) bool {
		if end != nil && bytes.Compare(r.key, end) >= 0 {
			return false
		}
		return fn(r.key, r.value)
	})
	return nil
}

func (v *snapshot) ScanKeys(start, end []byte, fn func(key []byte) bool) error {
	return v.Scan(start, end, func(key, _ []byte) bool { return fn(key) })
}

func (v *snapshot) Close() { v.records.Store(nil) }
