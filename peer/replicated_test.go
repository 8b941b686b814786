package peer

import (
	"context"
	"errors"
	"sync/atomic"
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
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
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
	soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
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
	soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
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

// polled counts how often it is asked for Done: each poll of Replicated does three times.
type polled struct {
	context.Context
	dones atomic.Int32
}

func (c *polled) Done() <-chan struct{} {
	c.dones.Add(1)
	return c.Context.Done()
}

// TestAWaitWithoutEndHoldsNobodyUp has some wait for two peers to have what the last start wrote,
// and one for what this one did, before the one other peer that there is comes.
func TestAWaitWithoutEndHoldsNobodyUp(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	p := c.start(cfg)
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("old").Set(true) })
	crash(t, p)
	p = c.start(cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	type answer struct {
		n   int
		err error
	}
	wait := func(n int) <-chan answer {
		w, answered := &polled{Context: ctx}, make(chan answer, 1)
		go func() {
			n, err := p.Replicated(w, n)
			answered <- answer{n, err}
		}()
		eventually(t, "polls at their longest interval", func() bool { return w.dones.Load() >= 3*8 })
		return answered
	}
	endless := []<-chan answer{wait(2), wait(2), wait(2)}
	before := wait(1)
	mustUpdate(t, p, func(tx *Tx) error { return tx.Flag("new").Set(true) })
	after := wait(1)
	c.add()
	for _, w := range []<-chan answer{before, after} {
		if got := <-w; got.n != 1 || got.err != nil {
			t.Errorf("who waited for one was told of %d (%v)", got.n, got.err)
		}
	}
	cancel()
	for _, w := range endless {
		if got := <-w; got.n > 1 || !errors.Is(got.err, context.Canceled) {
			t.Errorf("who waited for two was told of %d (%v)", got.n, got.err)
		}
	}
}
