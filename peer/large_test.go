package peer

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"github.com/peerd/peerd/store"
)

// scales weigh what is live in memory, in bytes, while something large is written.
type scales struct {
	mu             sync.Mutex
	logged, stored uint64 // at most, when the log and the tree were given it
}

// live returns how many bytes of memory are in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (s *scales) weigh(most *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*most = max(*most, live())
}

type weighedLog struct {
	store.Log
	*scales
}

func (l weighedLog) Append(records ...[]byte) (first, next store.Position, err error) {
	if len(bytes.Join(records, nil)) > 1<<20 {
		l.weigh(&l.logged)
	}
	return l.Log.Append(records...)
}

func (l weighedLog) AppendParts(parts ...[]byte) (first, next store.Position, err error) {
	l.weigh(&l.logged)
	return l.Log.AppendParts(parts...)
}

type weighedStore struct {
	store.Store
	*scales
}

func (s weighedStore) Commit(b *store.Batch, sync bool) error {
	if b.Bytes() > 1<<19 {
		s.weigh(&s.stored)
	}
	return s.Store.Commit(b, sync)
}

// TestALargeValueIsInMemoryOnce beside what its writer has, while it is written to the log and to
// the tree.
func TestALargeValueIsInMemoryOnce(t *testing.T) {
	const size, slack = 16<<20 - 64, 6 << 20
	s := &scales{}
	cfg := Config{Dir: t.TempDir(), Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		return weighedStore{st, s}, weighedLog{log, s}
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, p, setting("small", "v"))
	value := bytes.Repeat([]byte("v"), size)
	before := live()
	mustUpdate(t, p, func(tx *Tx) error { return tx.String("k").Set(value) })
	if s.logged == 0 || s.logged > before+size+slack {
		t.Errorf("%d KiB more than before are in memory while a value of %d KiB is logged",
			(s.logged-before)>>10, size>>10)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if s.stored == 0 || s.stored > before+size+slack {
		t.Errorf("%d KiB more than before are in memory while a value of %d KiB is stored",
			(s.stored-before)>>10, size>>10)
	}
	runtime.KeepAlive(value)
	if p, err = Open(t.Context(), Config{Dir: cfg.Dir, Offline: true}); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var got string
	if err := p.View(t.Context(), reading("k", &got)); err != nil || got != string(value) {
		t.Errorf("it is read as %d bytes: %v", len(got), err)
	}
}
