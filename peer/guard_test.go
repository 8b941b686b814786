package peer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// guardKeys returns a guard of keys, which the test releases.
func guardKeys(t *testing.T, p *Peer, keys ...string) *Guard {
	t.Helper()
	g := &Guard{}
	t.Cleanup(g.Release)
	mustUpdate(t, p, func(tx *Tx) error {
		for _, key := range keys {
			tx.Guard(g, key)
		}
		return nil
	})
	return g
}

// isChanged reports what a guard says in a transaction that reads, and fails if those that write,
// before and after it, both say otherwise.
func isChanged(t *testing.T, p *Peer, g *Guard) (changed bool) {
	t.Helper()
	written := func() (changed bool) {
		mustUpdate(t, p, func(tx *Tx) error { changed = g.Changed(tx); return nil })
		return changed
	}
	before := written()
	if err := p.View(context.Background(), func(tx *Tx) error { changed = g.Changed(tx); return nil }); err != nil {
		t.Fatal(err)
	}
	if changed != before && changed != written() { // else it expired in between
		t.Errorf("a guard says %v where it is read, and something else where it is written", changed)
	}
	return changed
}

// TestAGuardTellsOfChangesFromEverywhere: here, from another peer, and by expiring.
func TestAGuardTellsOfChangesFromEverywhere(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	enable(t, a, "here", "gone", "kept")
	c.converge(a, b)                                                 // which may take a while the first time
	at := time.Now().Add(3 * time.Second).Truncate(time.Millisecond) // as it is kept
	mustUpdate(t, a, func(tx *Tx) error { return tx.String("short").SetUntil(nil, at) })
	c.converge(a, b)
	here, there, gone := guardKeys(t, a, "here"), guardKeys(t, b, "here"), guardKeys(t, b, "gone", "kept")
	short, kept, none := guardKeys(t, b, "short"), guardKeys(t, b, "kept", "kept"), guardKeys(t, b, "none")
	if isChanged(t, a, here) || isChanged(t, b, gone) {
		t.Error("nothing has changed yet")
	}
	mustUpdate(t, a, func(tx *Tx) error {
		if err := tx.Flag("here").Set(true); err != nil {
			return err
		}
		_, err := tx.Remove("gone")
		return err
	})
	if !isChanged(t, a, here) {
		t.Error("it was written, with what it held, and the guard says nothing")
	}
	c.converge(a, b)
	if !isChanged(t, b, there) || !isChanged(t, b, gone) {
		t.Error("another peer has written to one and deleted the other, and the guards say nothing")
	}
	eventually(t, "what expires is a change", func() bool { return isChanged(t, b, short) })
	if time.Now().Before(at) {
		t.Error("a key changed before it expired")
	}
	if isChanged(t, b, kept) || isChanged(t, b, none) {
		t.Error("what others were written to is said to have changed")
	}
	mustUpdate(t, b, func(tx *Tx) error { _, err := tx.Clear(); return err })
	if !isChanged(t, b, kept) || isChanged(t, b, none) {
		t.Error("all that is there was deleted, and nothing else")
	}
}

// TestAGuardOfAnotherSpaceHasChanged, as has one that was set where nothing is written.
func TestAGuardOfAnotherSpaceHasChanged(t *testing.T) {
	p, q := alone(t, Config{Memory: true}), alone(t, Config{Memory: true})
	g := guardKeys(t, p, "k")
	mustUpdate(t, q, func(tx *Tx) error {
		if !g.Changed(tx) {
			t.Error("a guard of another peer says that nothing has changed")
		}
		return nil
	})
	if err := q.View(context.Background(), func(tx *Tx) error {
		if !g.Changed(tx) {
			t.Error("a guard of another peer says where nothing is written that nothing has changed")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var read Guard
	if err := p.View(context.Background(), func(tx *Tx) error { tx.Guard(&read, "k"); return nil }); err != nil {
		t.Fatal(err)
	}
	if !isChanged(t, p, &read) {
		t.Error("a guard that could not be set says that nothing has changed")
	}
	if isChanged(t, p, &Guard{}) {
		t.Error("a guard of nothing says that something has changed")
	}
}

// TestAGuardIsKeptBeforeItsSpaceIsThere: it notices what it would if somebody had written to that
// already, also where it was dropped.
func TestAGuardIsKeptBeforeItsSpaceIsThere(t *testing.T) {
	p := alone(t, Config{})
	orders, stock := mustSpace(t, p, "orders"), mustSpace(t, p, "stock")
	guard := func(keys ...string) *Guard {
		t.Helper()
		g := &Guard{}
		t.Cleanup(g.Release)
		for _, key := range keys { // each in a transaction of its own
			if err := orders.Update(t.Context(), func(tx *Tx) error { tx.Guard(g, key); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		return g
	}
	expect := func(what string, in *Space, g *Guard, want bool) {
		t.Helper()
		check := func(tx *Tx) error {
			if g.Changed(tx) != want {
				t.Errorf("%s: the guard says that it has changed: %v", what, !want)
			}
			return nil
		}
		err := errors.Join(in.Update(t.Context(), check), in.View(t.Context(), check))
		if err != nil && !errors.Is(err, ErrNotHeld) {
			t.Fatal(err)
		}
	}
	written, kept := guard("k", "more"), guard("other")
	expect("nobody has written to the space", orders, written, false)
	expect("nobody has written to another one", stock, written, true)
	setIn(t, p, "orders", "k", "v")
	expect("the first write is to the key", orders, written, true)
	expect("the first write is to another key", orders, kept, false)
	if err := p.DropSpace(t.Context(), "orders", true); err != nil {
		t.Fatal(err)
	}
	expect("the space was dropped", orders, kept, true)
	expect("it was guarded after that", orders, guard("k"), false)
}

// TestGuardsOfSpacesThatNeverAreAreForgotten once they are released.
func TestGuardsOfSpacesThatNeverAreAreForgotten(t *testing.T) {
	p := alone(t, Config{})
	guard := func(name string) {
		g := &Guard{}
		defer g.Release()
		err := mustSpace(t, p, name).Update(t.Context(), func(tx *Tx) error { tx.Guard(g, "k"); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		guard(fmt.Sprint("s", i))
	}
	unheld := 0
	p.guards.Range(func(name, _ any) bool {
		if p.space(name.(string)) == nil {
			unheld++
		}
		return true
	})
	if unheld > 1 { // that of the last one
		t.Errorf("guards of %d spaces that are not there are kept", unheld)
	}
}
