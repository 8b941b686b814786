package peer

import (
	"context"
	"fmt"
	"testing"

	"github.com/peerd/peerd/store"
)

// TestANewcomerIsRepairedWhileKeysAreDeleted has two large keys deleted all the time at the peer that it is
// repaired from, so that something is always to be swept there.
func TestANewcomerIsRepairedWhileKeysAreDeleted(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.LogBytes = 1000
	a := c.start(cfg)
	ctx, stop := context.WithCancel(context.Background())
	done, began := make(chan error, 1), make(chan bool)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if i == 50 {
				close(began)
			}
			for j := range 2 {
				err := a.Update(context.Background(), func(tx *Tx) error {
					if _, err := tx.Remove(fmt.Sprint("k", i-1, " ", j)); err != nil {
						return err
					}
					for k := range 100 {
						if _, err := tx.Set(fmt.Sprint("k", i, " ", j)).Add(fmt.Sprint(k)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	<-began
	b := c.add()
	eventually(t, "the newcomer is repaired", func() bool {
		m, err := b.Metrics()
		return err == nil && m.Repairs > 0
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.converge(a, b)
}

// TestNothingIsSweptUnderAnOpenGroup has something need a moment of rest in the middle of a commit group, as a
// transaction does that reads a broken record.
func TestNothingIsSweptUnderAnOpenGroup(t *testing.T) {
	p, err := Open(context.Background(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	fill := func(tx *Tx) error {
		for i := range 100 {
			if _, err := tx.Set("s").Add(fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	}
	mustUpdate(t, p, fill)
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Set("s").Clear(); return err })
	mustUpdate(t, p, func(tx *Tx) error {
		err := fill(tx)
		own(p).loop.engine.Suspect(store.ErrCorrupt) // whose turn it is
		return err
	})
	pinned, err := own(p).pin("somebody")
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	if err := pinned.Verify(func() bool { return false }); err != nil {
		t.Error(err)
	}
	err = own(p).call(func(l *loop) {
		if _, cells := l.engine.Counts(); cells != 100 {
			t.Errorf("%d cells are counted, want 100", cells)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
