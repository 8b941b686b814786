package engine

import (
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// TestWhatHasNotExpiredCostsNothing to who looks for what has, wherever its times are.
func TestWhatHasNotExpiredCostsNothing(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	at := w.now.Add(time.Minute)
	w.write(t, a, timeKeys(at))
	w.settle(t)
	const enough = 1 << 30
	look := func(what string, now time.Time) (cost, due int) {
		t.Helper()
		v := b.engine.View().At(now, Clock{})
		defer v.Close()
		cost, err := v.DueCost(enough)
		must(t, err)
		must(t, v.Due(func(key string, whole bool) bool {
			if !whole {
				t.Errorf("%s: only fields of %s have expired", what, key)
			}
			due++
			return true
		}))
		if again, err := v.DueCost(enough); again > cost || err != nil {
			t.Errorf("%s: it costs %d, and then %d (%v)", what, cost, again, err)
		} else {
			cost = again
		}
		bounded, err := v.DueCost(cost / 2)
		must(t, err)
		if bounded < cost/2 || bounded > cost/2+2*dueCost+timedKeys {
			t.Errorf("%s: of %d it says %d, asked for no more than half", what, cost, bounded)
		}
		return cost, due
	}
	for _, where := range []string{"in memory", "in the tree", "in both"} {
		switch where {
		case "in the tree":
			must(t, b.engine.Save(w.now))
		case "in both":
			w.write(t, a, func(f crdt.Fields) error {
				_, err := f.Expiry("k0").Set(at.Add(time.Minute))
				return err
			})
			w.settle(t)
		}
		if cost, due := look(where, at.Add(-time.Millisecond)); cost != 0 || due != 0 {
			t.Errorf("%s: before the time it costs %d, and %d are due", where, cost, due)
		}
		want := timedKeys
		if where == "in both" {
			want-- // its time is a later one
		}
		cost, due := look(where, at)
		if due != want || cost < due*dueCost || cost > due*(dueCost+2) {
			t.Errorf("%s: %d are due, at a cost of %d; want %d", where, due, cost, want)
		}
	}
	errs, _ := w.update(t, b, func(tx *Tx) error {
		cost, err := tx.DueCost(enough)
		if cost != 0 {
			t.Errorf("it costs %d before the transaction has written", cost)
		}
		must(t, err)
		f := Fields(tx)
		must(t, f.String("own").SetUntil(nil, w.now))
		n := 0
		must(t, tx.Due(func(key string, whole bool) bool {
			n++
			return whole && key == "own"
		}))
		if cost, err = tx.DueCost(enough); cost != dueCost || n != 1 {
			t.Errorf("its own key, one of %d, costs %d", n, cost)
		}
		return err
	})
	must(t, errs[0])
}
