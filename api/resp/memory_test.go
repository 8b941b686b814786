package resp

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// memory is a peer in memory that counts what it is asked for, and can be made to refuse it.
type memory struct {
	*embedded.Peer
	views, updates atomic.Int64 // Read counts as a view, Submit as an update
	refusal        error        // if set, what View and each transaction return
	unrun          bool         // and none is run
	accepts        atomic.Bool  // while it is set, nothing is refused
}

func newMemory(t testing.TB) *memory {
	t.Helper()
	p, err := embedded.Open(context.Background(), embedded.Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &memory{Peer: p}
}

func (m *memory) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	m.views.Add(1)
	if m.accepts.Load() {
		return m.Peer.View(ctx, fn)
	}
	if m.unrun {
		return m.refusal
	}
	return errors.Join(m.Peer.View(ctx, fn), m.refusal)
}

func (m *memory) UpdateAll(ctx context.Context, fns []func(*embedded.Tx) error) []error {
	m.updates.Add(1)
	return m.Peer.UpdateAll(ctx, m.refused(fns))
}

func (m *memory) Read(fns []func(*embedded.Tx) error) []error {
	m.views.Add(1)
	return m.Peer.Read(m.refused(fns))
}

func (m *memory) Submit(fns []func(*embedded.Tx) error, done func([]error)) {
	m.updates.Add(1)
	m.Peer.Submit(m.refused(fns), done)
}

// refused returns functions that the database does not carry out, if it is to refuse them.
func (m *memory) refused(fns []func(*embedded.Tx) error) []func(*embedded.Tx) error {
	if m.accepts.Load() || m.refusal == nil {
		return fns
	}
	refused := make([]func(*embedded.Tx) error, len(fns))
	for i, fn := range fns {
		refused[i] = func(tx *embedded.Tx) error {
			if m.unrun {
				return m.refusal
			}
			return errors.Join(fn(tx), m.refusal)
		}
	}
	return refused
}

// status returns what the peer says of itself.
func (m *memory) status(t testing.TB) embedded.Status {
	t.Helper()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mutations returns how many there are, of all replicas.
func mutations(s embedded.Status) (n uint64) { return s.Mutations }
