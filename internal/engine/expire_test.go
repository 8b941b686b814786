package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// wait lets time pass, in which hosts do what is due and tell each other.
func (w *world) wait(t *testing.T, d time.Duration, hosts ...*host) {
	t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(tickEvery)
		for _, h := range hosts {
			for w.round(t, h) {
			}
		}
	}
}

func (w *world) wantKeys(t *testing.T, h *host, keys, cells int) {
	t.Helper()
	if k, c := h.engine.Counts(); k != keys || c != cells {
		t.Fatalf("host %d has %d keys in %d cells, want %d in %d", h.i, k, c, keys, cells)
	}
	checkWhole(t, h.engine.replica)
}

const timedKeys = 600

func timeKeys(at time.Time) func(crdt.Fields) error {
	return func(f crdt.Fields) error {
		for i := range timedKeys {
			if err := f.String(fmt.Sprint("k", i)).SetUntil([]byte("v"), at); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestWhoSaidItRemovesWhatExpired has keys expire at once where that was said, wherever their expiries are: in memory,
// in the tree, or known from the log alone.
func TestWhoSaidItRemovesWhatExpired(t *testing.T) {
	for name, before := range map[string]func(w *world, h *host){
		"in memory":     func(w *world, h *host) {},
		"in the tree":   func(w *world, h *host) { must(t, h.engine.Save(w.now)) },
		"after closing": func(w *world, h *host) { w.restart(t, h, "closes") },
		"after a kill":  func(w *world, h *host) { w.restart(t, h, "is killed") },
		"in both": func(w *world, h *host) {
			must(t, h.engine.Save(w.now))
			w.write(t, h, timeKeys(w.now.Add(20*time.Second)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, worldConfig{hosts: 1})
			h := w.hosts[0]
			w.write(t, h, timeKeys(w.now.Add(30*time.Second)))
			w.write(t, h, func(f crdt.Fields) error { return f.String("stays").Set(nil) })
			before(w, h)
			if name == "in both" {
				w.wait(t, 19*time.Second, h)
				w.wantKeys(t, h, timedKeys+1, 2*timedKeys+1)
				w.wait(t, 2*time.Second, h)
			} else {
				w.wait(t, 29*time.Second, h)
				w.wantKeys(t, h, timedKeys+1, 2*timedKeys+1)
				if w.wait(t, 2*time.Second, h); name != "in memory" && name != "in the tree" {
					w.wantKeys(t, h, timedKeys+1, 2*timedKeys+1) // another start said it
					w.wait(t, 40*time.Second, h)
				}
			}
			w.wantKeys(t, h, 1, 1)
		})
	}
}

// TestOthersRemoveWhatExpiredLater has the host that said it be away, and two others do its work: both a part of it,
// and what one has removed the other does not.
func TestOthersRemoveWhatExpiredLater(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.write(t, b, func(f crdt.Fields) error { return f.String("b").Set(nil) })
	w.write(t, c, func(f crdt.Fields) error { return f.String("c").Set(nil) })
	w.write(t, a, timeKeys(w.now.Add(time.Second)))
	w.settle(t)
	w.cut(0, 1)
	w.cut(0, 2)
	w.wait(t, othersAfter, b, c)
	w.wantKeys(t, b, timedKeys+2, 2*timedKeys+2)
	for range int(othersSpread/time.Second) + 1 {
		w.wait(t, time.Second, b, c)
		w.settle2(t, 1, 2)
	}
	w.wantKeys(t, b, 2, 2)
	w.wantKeys(t, c, 2, 2)
	for _, h := range []*host{b, c} {
		if n := h.engine.seen[h.engine.id]; n < timedKeys/2 || n > 3*timedKeys {
			t.Errorf("host %d removed in %d mutations", h.i, n)
		}
	}
	w.settle(t)
	w.wantKeys(t, a, 2, 2)
}

// TestAnExtensionIsFoundWhenItIsDue has a key's time be put off again and again.
func TestAnExtensionIsFoundWhenItIsDue(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, func(f crdt.Fields) error { return f.String("k").SetUntil(nil, w.now.Add(time.Second)) })
	for i := range 30 {
		w.write(t, h, func(f crdt.Fields) error {
			_, err := f.Expiry("k").Set(w.now.Add(time.Second))
			return err
		})
		if i%7 == 3 {
			must(t, h.engine.Save(w.now))
		}
		w.wait(t, 700*time.Millisecond, h)
		w.wantKeys(t, h, 1, 2)
	}
	if n := len(h.engine.expiring.young) + len(h.engine.expiring.old); n > 40 {
		t.Errorf("%d times are noted for one key", n)
	}
	w.wait(t, 400*time.Millisecond, h)
	w.wantKeys(t, h, 0, 0)
}

// TestALongNameExpires has keys whose places are not their names.
func TestALongNameExpires(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	key := string(make([]byte, 1000))
	w.write(t, h, func(f crdt.Fields) error { return f.String(key).SetUntil(nil, w.now.Add(time.Second)) })
	must(t, h.engine.Save(w.now))
	w.wait(t, 2*time.Second, h)
	w.wantKeys(t, h, 0, 0)
}

// TestFieldsExpire has fields of one key expire, and then all that is left of it, on a host that said it and on another.
func TestFieldsExpire(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, func(f crdt.Fields) error {
		for i := range 6 {
			name := fmt.Sprint("f", i)
			if err := f.Map("k").String(name).Set(nil); err != nil {
				return err
			}
			if _, err := f.Map("k").Expiry(name).Set(w.now.Add(time.Duration(1+i%3) * time.Second)); err != nil {
				return err
			}
		}
		return nil
	})
	w.settle(t)
	must(t, a.engine.Save(w.now))
	for left := 6; left >= 0; left -= 2 {
		if left == 0 {
			w.wantKeys(t, a, 0, 0)
			break
		}
		w.wantKeys(t, a, 1, 2*left)
		w.wait(t, 1100*time.Millisecond, a, b)
	}
	w.settle(t)
	w.wantKeys(t, b, 0, 0)
}

// TestViewsHideWhatHasExpired reads while what has expired was not removed.
func TestViewsHideWhatHasExpired(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, timeKeys(w.now.Add(time.Second)))
	for _, at := range []struct {
		passed time.Duration
		seen   bool
	}{{999 * time.Millisecond, true}, {time.Second, false}} {
		v := h.engine.View().At(w.now.Add(at.passed), Clock{})
		if _, seen := Fields(v).String("k0").Get(); seen != at.seen {
			t.Errorf("after %v it is seen: %v", at.passed, seen)
		}
		if n := Fields(v).Len(); n > 0 != at.seen {
			t.Errorf("after %v there are %d", at.passed, n)
		}
		v.Close()
	}
}

// TestOpeningFindsThatThereAreExpiries reads from a store that was just opened.
func TestOpeningFindsThatThereAreExpiries(t *testing.T) {
	for _, never := range []bool{false, true} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		h := w.hosts[0]
		w.write(t, h, func(f crdt.Fields) error { return f.String("k").SetUntil(nil, w.now.Add(time.Hour)) })
		if never {
			w.write(t, h, func(f crdt.Fields) error { _, err := f.Expiry("k").Clear(); return err })
		}
		w.restart(t, h, "closes")
		if !h.engine.expiring.timed {
			t.Errorf("it does not; never: %v", never)
		}
	}
}

// TestWhoseClockMayBeAheadWaits has a host that may be an hour ahead of another, which nobody knows.
func TestWhoseClockMayBeAheadWaits(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	h.engine.SetClock(Clock{Slack: time.Hour})
	w.write(t, h, timeKeys(w.now.Add(time.Second)))
	w.wait(t, time.Hour, h)
	w.wantKeys(t, h, timedKeys, 2*timedKeys)
	w.wait(t, 2*time.Second, h)
	w.wantKeys(t, h, 0, 0)
}

// TestWhatCannotBeRemovedStandsInNobodysWay has keys that are together too large for one transaction, and others.
func TestWhatCannotBeRemovedStandsInNobodysWay(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	const large, small = 40, 50
	at := w.now.Add(time.Minute)
	for i := range large {
		w.write(t, h, func(f crdt.Fields) error {
			key := fmt.Sprint("large", i)
			for n := range 16 {
				if _, err := f.Set(key).Add(fmt.Sprint(n) + strings.Repeat("m", 60_000)); err != nil {
					return err
				}
			}
			_, err := f.Expiry(key).Set(at)
			return err
		})
	}
	w.write(t, h, func(f crdt.Fields) error {
		for i := range small {
			if err := f.String(fmt.Sprint("small", i)).SetUntil(nil, at.Add(time.Second)); err != nil {
				return err
			}
		}
		return nil
	})
	before := h.engine.work
	w.wait(t, 59*time.Second, h)
	w.wantKeys(t, h, large+small, 17*large+2*small)
	w.wait(t, 4*time.Second, h)
	w.wantKeys(t, h, 0, 0)
	if n := (h.engine.work - before) / large; n > 100_000 {
		t.Errorf("a key took %d of work", n)
	}
}

// TestWhoseClockIsWrongGoesByOthers has a host that is an hour behind.
func TestWhoseClockIsWrongGoesByOthers(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	h.engine.SetClock(Clock{Ahead: time.Hour})
	w.write(t, h, timeKeys(w.now.Add(time.Hour+time.Second)))
	w.wait(t, 900*time.Millisecond, h)
	w.wantKeys(t, h, timedKeys, 2*timedKeys)
	w.wait(t, 200*time.Millisecond, h)
	w.wantKeys(t, h, 0, 0)
}

// until sets a key that expires after a time.
func (w *world) until(d time.Duration) func(f crdt.Fields) error {
	return func(f crdt.Fields) error { return f.String("k").SetUntil(nil, w.now.Add(d)) }
}

// TestWhatIsWrittenOverAClearExpires clears everything, lets a key's time pass, and writes to the key again before what was
// cleared is swept.
func TestWhatIsWrittenOverAClearExpires(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, stepWork: 100})
	h := w.hosts[0]
	wait := func() { // in few steps
		for range 20 {
			w.now = w.now.Add(tickEvery)
			w.round(t, h)
		}
	}
	w.write(t, h, func(f crdt.Fields) error { return fillSet(f, "a", 1000) }) // is swept first
	w.write(t, h, w.until(time.Second))
	w.write(t, h, func(f crdt.Fields) error { _, err := f.Clear(); return err })
	wait()
	w.write(t, h, w.until(time.Second))
	wait()
	if h.engine.Clears() == 0 {
		t.Fatal("what was cleared is swept")
	}
	if keys, _ := h.engine.Counts(); keys != 0 {
		t.Errorf("%d keys are left", keys)
	}
}

// TestWhatIsSetAgainAsItIsRemovedExpires sets a key with a time anew, in the group that removes it as the one before has
// passed.
func TestWhatIsSetAgainAsItIsRemovedExpires(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	w.write(t, h, w.until(time.Second))
	w.now = w.now.Add(time.Second)
	w.write(t, h, w.until(time.Second))
	w.wantKeys(t, h, 1, 2)
	w.wait(t, 2*time.Second, h)
	w.wantKeys(t, h, 0, 0)
}

// TestWhatAClearShowsExpires clears a time that hid an earlier one, said elsewhere at once, once that has passed.
func TestWhatAClearShowsExpires(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, b, w.until(time.Second))
	w.write(t, a, w.until(time.Hour))
	w.write(t, a, func(f crdt.Fields) error { _, err := f.Clear(); return err })
	var deltas []*delta.Delta
	_, _, err := a.engine.LogRead(1, 2, func(d *delta.Delta) bool { deltas = append(deltas, d); return true })
	must(t, err)
	apply(t, b.engine.replica, deltas[:1])
	w.wait(t, 2*time.Second, b)
	w.wantKeys(t, b, 1, 2)
	apply(t, b.engine.replica, deltas[1:])
	for more := true; more; {
		more, err = b.engine.Sweep()
		must(t, err)
	}
	w.wait(t, time.Second, b)
	w.wantKeys(t, b, 0, 0)
}

// TestWhatIsSetAgainOnceItHasExpiredExpires sets a key anew, as another host's had expired, which
// that one was left to remove for a while.
func TestWhatIsSetAgainOnceItHasExpiredExpires(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, b, func(f crdt.Fields) error { return f.String("stays").Set(nil) })
	w.write(t, a, w.until(time.Second))
	w.settle(t)
	w.cut(0, 1)
	w.wait(t, 2*time.Second, b)
	w.wantKeys(t, b, 2, 3)
	w.write(t, b, w.until(time.Second))
	w.wait(t, 2*time.Second, b)
	w.wantKeys(t, b, 1, 1)
}

// waitBy is wait for one host, whose wall clock is set to a time and goes on from there.
func (w *world) waitBy(t *testing.T, wall time.Time, d time.Duration, h *host) {
	t.Helper()
	for end := w.now.Add(d); w.now.Before(end); wall = wall.Add(tickEvery) {
		w.now = w.now.Add(tickEvery)
		for more := true; more; {
			must(t, h.engine.Step(w.now, wall))
			rd := h.engine.Ready()
			must(t, CarryOut(rd.Writes, h.engine.st.(store.Store), h.engine.logs.(store.Log)))
			h.engine.Advance()
			if more = rd.Again || rd.Sync != nil; rd.Sync != nil {
				must(t, h.engine.endSync(rd.Sync))
			}
		}
	}
}

// TestASetClockPutsNoRemovalOff has a host be started with a clock that is weeks ahead, and that be
// set back.
func TestASetClockPutsNoRemovalOff(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	right := w.now
	w.write(t, h, timeKeys(right.Add(time.Minute)))
	w.restart(t, h, "closes")
	w.waitBy(t, right.Add(1000*time.Hour), time.Second, h)
	w.waitBy(t, right, time.Minute, h)
	w.wantKeys(t, h, timedKeys, 2*timedKeys)
	w.waitBy(t, right.Add(time.Minute), OthersWait+time.Second, h)
	w.wantKeys(t, h, 0, 0)
}
