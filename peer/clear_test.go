package peer

import (
	"context"
	"fmt"
	"testing"
)

// TestEverythingIsClearedEverywhere clears everything at one peer: a watch at another is told so, and not a key of
// no name.
func TestEverythingIsClearedEverywhere(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	mustUpdate(t, a, func(tx *Tx) error {
		for i := range 100 {
			if err := tx.String(fmt.Sprint("k", i)).Set([]byte("v")); err != nil {
				return err
			}
		}
		return nil
	})
	c.converge(a, b)
	w, noted := b.Watch(""), b.Watch("")
	defer w.Close()
	defer noted.Close()
	noted.WithNotes()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mustUpdate(t, a, func(tx *Tx) error { _, err := tx.Clear(); return err })
	change, err := w.Next(ctx)
	if err != nil || !change.Reset || len(change.Keys) > 0 {
		t.Errorf("the watch is told %+v, %v; want a reset without keys", change, err)
	}
	change, err = noted.Next(ctx)
	if err != nil || change.Reset || !change.Emptied || len(change.Keys) > 0 {
		t.Errorf("the watch with notes is told %+v, %v; want that all was emptied", change, err)
	}
	c.converge(a, b)
	err = b.View(ctx, func(tx *Tx) error {
		if n := tx.Len(); n != 0 {
			t.Errorf("%d keys", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
