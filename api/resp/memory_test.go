package resp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// memory is a DB in memory, for tests: one lock around a crdt.State.
type memory struct {
	mu      sync.Mutex
	state   *crdt.State
	replica crdt.ReplicaID
	clock   int // milliseconds since 1970

	views, updates int
	deltas         []*crdt.State // of transactions that wrote
	refusal        error         // if set, what View and each transaction return
}

func newMemory() *memory { return &memory{state: crdt.NewState(), replica: 1} }

type memoryTx struct {
	crdt.Tx
}

func (m *memory) View(_ context.Context, fn func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views++
	err := m.state.View(func(tx crdt.Tx) error { return fn(memoryTx{tx}) })
	return errors.Join(err, m.refusal)
}

func (m *memory) Update(_ context.Context, fns []func(Tx) error) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates++
	errs := make([]error, len(fns))
	for i, fn := range fns {
		errs[i] = m.update(fn)
	}
	return errs
}

// Watch implements DB. It tells nothing.
func (m *memory) Watch() Watch { return &silence{closed: make(chan struct{})} }

type silence struct {
	once   sync.Once
	closed chan struct{}
}

func (s *silence) Next(context.Context) (embedded.Change, error) {
	<-s.closed
	return embedded.Change{}, embedded.ErrClosed
}

func (s *silence) Close() { s.once.Do(func() { close(s.closed) }) }

func (m *memory) update(fn func(Tx) error) error {
	m.clock++
	delta, err := m.state.Update(m.replica, time.UnixMilli(int64(m.clock)), func(tx crdt.Tx) error {
		if err := fn(memoryTx{tx}); err != nil {
			return err
		}
		return m.refusal
	})
	if err == nil && !delta.Equal(crdt.NewState()) {
		m.deltas = append(m.deltas, delta)
	}
	return err
}

func (tx memoryTx) Keys(prefix, after string, fn func(string, crdt.Summary) bool) error {
	last, started := "", false
	visit := func(key string, _ crdt.Type) bool {
		if started && key == last || !strings.HasPrefix(key, prefix) {
			return true
		}
		last, started = key, true
		s, err := tx.Summary(key)
		return err == nil && fn(key, s)
	}
	if after == "" {
		return crdt.Root(tx).Range(visit)
	}
	return crdt.Root(tx).RangeAfter(after, visit)
}

func (tx memoryTx) KeyCount() (n int, err error) {
	err = tx.Keys("", "", func(string, crdt.Summary) bool { n++; return true })
	return n, err
}
