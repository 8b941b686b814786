package peer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// TestAPeerInMemoryHoldsNothingDurably, however it syncs; one on a disk does, also one that answers its own clients before
// it syncs.
func TestAPeerInMemoryHoldsNothingDurably(t *testing.T) {
	c := newCluster(t)
	p := c.add()
	for _, memory := range []bool{false, true} {
		cfg := c.config(t.TempDir())
		cfg.Durability = Interval
		if cfg.Memory = memory; memory {
			cfg.Dir, cfg.Durability = "", Always
		}
		c.start(cfg)
	}
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("k").Set(true) })
	c.converge(c.peers...)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if n, err := p.Replicated(ctx, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	soon, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if n, err := p.Replicated(soon, 2); n != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(n, err)
	}
}

// TestWhatWasWrittenUnderAnIdThatHasEndedIsWaitedFor: the next one has written nothing, which all have.
func TestWhatWasWrittenUnderAnIdThatHasEndedIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	p := c.add()
	c.add()
	cfg := c.config("")
	cfg.Memory = true // it holds nothing durably
	c.start(cfg)
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("k").Set(true) })
	c.converge(c.peers...)
	s, err := p.own().here()
	if err != nil {
		t.Fatal(err)
	}
	id := func() crdt.ReplicaID {
		id, err := ask(t.Context(), s, func(l *loop) crdt.ReplicaID { return l.engine.ID() })
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	was := id()
	if _, err := ask(t.Context(), s, func(l *loop) bool { l.engine.EndID(); return true }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the id has ended", func() bool { return id() != was })
	if n, err := p.Replicated(t.Context(), 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if n, err := p.Replicated(soon, 2); n != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(n, err)
	}
}

// TestWhatWasWrittenBeforeARestartIsWaitedFor where the one peer that is linked has none of it
// durably.
func TestWhatWasWrittenBeforeARestartIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	p := c.start(cfg)
	other := c.config("")
	other.Memory = true // it holds nothing durably
	c.start(other)
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("k").Set(true) })
	c.converge(c.peers...)
	crash(t, p)
	p = c.start(cfg)
	eventually(t, "a link", func() bool {
		s, err := p.own().here()
		if err != nil || s == nil {
			t.Fatal(err)
		}
		n, err := ask(t.Context(), s, func(l *loop) int { return l.replicas(crdt.Dot{}) })
		return err == nil && n == 1
	})
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if n, err := p.Replicated(soon, 1); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(n, err)
	}
	cfg = c.config(t.TempDir())
	c.start(cfg)
	if n, err := p.Replicated(t.Context(), 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}
