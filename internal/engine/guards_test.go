package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// guarding is a guard of a key, and what can be seen of the key since.
type guarding struct {
	guard *Guard
	key   string
	epoch int
	cells map[dotted.Address]string
}

// seenOf returns the dots of what can be seen of a key.
func (h *host) seenOf(t *testing.T, key string) map[dotted.Address]string {
	t.Helper()
	v := h.engine.View()
	defer v.Close()
	cells := map[dotted.Address]string{}
	err := v.Scan(dotted.KeyAddress(key), "", func(a dotted.Address, c dotted.Cell) bool {
		for _, e := range c {
			one := dotted.Cell{e}
			if one.Visible() && !one.HoldsBaseline(a, func(crdt.ReplicaID) bool { return true }) {
				cells[a] += e.Dot.String()
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return cells
}

// guardKey has a guard watch over a key.
func (w *world) guardKey(t *testing.T, h *host, guard *Guard, key string) {
	t.Helper()
	g := h.engine.newGroup(w.now)
	defer g.discard()
	if err := g.update(func(tx *Tx) error { tx.Guard(guard, key); return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestAGuardNoticesWhateverHappens guards keys in random worlds: of one that holds something else in the end the guard has
// noticed that. That it holds nothing any more its owner sees.
func TestAGuardNoticesWhateverHappens(t *testing.T) {
	noticed, same := 0, 0
	for seed := uint64(1); seed <= 20; seed++ {
		cfg := configOf(seed)
		w := newWorld(t, seed, cfg)
		var all []guarding
		for i := range cfg.steps {
			w.step(t)
			if i%20 == 0 {
				h := w.hosts[w.rng.IntN(len(w.hosts))]
				key := string(rune('a' + w.rng.IntN(4)))
				n := guarding{&Guard{}, key, h.epoch<<8 | h.i, h.seenOf(t, key)}
				w.guardKey(t, h, n.guard, key)
				all = append(all, n)
			}
			all = slices.DeleteFunc(all, func(n guarding) bool {
				h := w.hosts[n.epoch&0xff]
				if n.epoch>>8 != h.epoch || n.guard.Changed() {
					noticed++
					n.guard.Release()
					return true
				}
				now := h.seenOf(t, n.key)
				if len(now) > 0 && !maps.Equal(now, n.cells) {
					t.Fatalf("seed %d: key %q of host %d was\n%v and is\n%v, and nothing was noticed", seed, n.key, h.i, n.cells, now)
				}
				same++
				return false
			})
		}
	}
	if noticed < 100 || same < 100 {
		t.Errorf("%d guards noticed something, %d times one had nothing to notice", noticed, same)
	}
}

// TestWhatNobodySeesIsNoChange: guards notice nothing of what had expired or was deleted when that is cleaned up, here or
// elsewhere, nor of what is taken back or is about another key.
func TestWhatNobodySeesIsNoChange(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	w.write(t, a, func(f crdt.Fields) error { return f.String("t").SetUntil(nil, w.now.Add(1)) })
	w.write(t, b, func(f crdt.Fields) error { _, err := f.Counter("n").Add(1); return err })
	w.settle(t)
	w.write(t, a, func(f crdt.Fields) error { _, err := f.Remove("n"); return err })
	w.settle(t)
	w.now = w.now.Add(1e9)
	guards := map[string]*Guard{}
	for _, h := range w.hosts {
		for _, key := range []string{"t", "other"} {
			guards[string(name(h.i))+key] = &Guard{}
			w.guardKey(t, h, guards[string(name(h.i))+key], key)
		}
	}
	w.wait(t, 2e9, a)
	w.settle(t)
	w.collect(t)
	w.wantKeys(t, a, 0, 0)
	g := a.engine.newGroup(w.now)
	if err := g.update(func(tx *Tx) error {
		_ = Fields(tx).String("other").Set(nil)
		return errGaveUp
	}); err != errGaveUp {
		t.Fatal(err)
	}
	w.commit(t, a, g)
	for what, guard := range guards {
		if guard.Changed() {
			t.Errorf("of %s something was noticed", what)
		}
	}
	w.write(t, a, func(f crdt.Fields) error { return f.String("t").Set(nil) })
	w.settle(t)
	if !guards["0t"].Changed() || !guards["1t"].Changed() {
		t.Error("a key was written to again, and its guards noticed nothing")
	}
}

// TestReleasedGuardsCostNothing, however many there were.
func TestReleasedGuardsCostNothing(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	s := h.engine.guards
	var last *Guard
	for i := range 5 * sweptGuards {
		if last != nil {
			last.Release()
		}
		last = &Guard{}
		w.guardKey(t, h, last, string(name(i)))
		if s.held > 2*sweptGuards+2 || len(s.keys) != s.held {
			t.Fatalf("%d guards of %d keys are held, and one is not released", s.held, len(s.keys))
		}
	}
	last.Release()
	last.Release()
	w.write(t, h, func(f crdt.Fields) error { return f.String("k").Set(nil) })
	if s.keys != nil || s.live.Load() != 0 {
		t.Errorf("%d keys are held, of %d guards, and all are released", len(s.keys), s.live.Load())
	}
}

// TestAClearFromElsewhereIsNoticedWhereSomethingSurvivesIt: of one key, and of everything. Of a key that was not there it
// is no change.
func TestAClearFromElsewhereIsNoticedWhereSomethingSurvivesIt(t *testing.T) {
	for what, remove := range map[string]func(f crdt.Fields) error{
		"a key":      func(f crdt.Fields) error { _, err := f.Remove("k"); return err },
		"everything": func(f crdt.Fields) error { _, err := f.Clear(); return err },
	} {
		w := newWorld(t, 1, worldConfig{hosts: 2})
		a, b := w.hosts[0], w.hosts[1]
		w.write(t, a, func(f crdt.Fields) error {
			for i := range 40 {
				if _, err := f.Set("k").Add(string(name(i))); err != nil {
					return err
				}
			}
			return nil
		})
		w.settle(t)
		w.cut(0, 1)
		w.write(t, b, func(f crdt.Fields) error { _, err := f.Set("k").Add("more"); return err })
		w.write(t, a, remove)
		there, none := &Guard{}, &Guard{}
		w.guardKey(t, b, there, "k")
		w.guardKey(t, b, none, "none")
		w.settle(t)
		w.wantKeys(t, b, 1, 1)
		if !there.Changed() || none.Changed() {
			t.Errorf("%s: a key of which much is gone has changed: %v; one that never was: %v", what, there.Changed(), none.Changed())
		}
	}
}

// TestWhatSurvivesARemovalOfWhatHadExpiredIsNoticed: another host removes a key whose time has come
// by its clock, and has not seen all of it. By the clock here it is there still.
func TestWhatSurvivesARemovalOfWhatHadExpiredIsNoticed(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	add := func(elem string) func(f crdt.Fields) error {
		return func(f crdt.Fields) error { _, err := f.Set("k").Add(elem); return err }
	}
	w.write(t, b, add("a"))
	w.write(t, b, func(f crdt.Fields) error {
		_, err := f.Expiry("k").Set(w.now.Add(time.Second))
		return err
	})
	w.settle(t)
	w.cut(0, 1)
	w.write(t, a, add("b"))
	guard := &Guard{}
	w.guardKey(t, a, guard, "k")
	was := w.now
	w.wait(t, 2*time.Second, b)
	w.wantKeys(t, b, 0, 0)
	w.now = was
	w.settle(t)
	if w.wantKeys(t, a, 1, 2); !guard.Changed() {
		t.Error("half of a key is gone, and its guard noticed nothing")
	}
}

// TestWhatIsLoggedDoesNotDependOnTheOrderOfGuards: a clear of everything looks at each key that is
// guarded.
func TestWhatIsLoggedDoesNotDependOnTheOrderOfGuards(t *testing.T) {
	const keys = 40
	var first []string
	for range 3 {
		w := newWorld(t, 1, worldConfig{hosts: 2})
		a, b := w.hosts[0], w.hosts[1]
		for i := range keys {
			w.write(t, a, func(f crdt.Fields) error {
				set := f.Set(string(name(i))) // of more than one element: there is a record of its sums
				_, err1 := set.Add("x")
				_, err2 := set.Add("y")
				return cmp.Or(err1, err2)
			})
		}
		w.settle(t)
		must(t, b.engine.Save(w.now))
		for i := range keys {
			w.guardKey(t, b, &Guard{}, string(name(i)))
		}
		w.cut(0, 1)
		w.write(t, b, func(f crdt.Fields) error { return f.String(string(name(0))).Set(nil) })
		w.write(t, a, func(f crdt.Fields) error { _, err := f.Clear(); return err })
		w.settle(t)
		var says []string
		r, err := b.disk.log.Read(b.disk.log.First(), make([]byte, readBuffer))
		for err == nil {
			var rec store.Record
			if rec, err = r.Next(); err == nil {
				says = append(says, string(rec.Data))
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if first == nil {
			first = says
		}
		if !slices.Equal(says, first) {
			t.Fatal("two worlds of one seed log other records")
		}
	}
}

// BenchmarkGuardsOfWhatExpires applies a delta that removes many keys that had expired, all of them
// guarded: what one costs does not grow with their number.
func BenchmarkGuardsOfWhatExpires(b *testing.B) {
	for _, many := range []int{100, 1000, 10_000} {
		b.Run(strconv.Itoa(many), func(b *testing.B) {
			s, d := &Guards{}, &delta.Delta{}
			var noted []note
			for i := range many {
				key := fmt.Sprintf("session:%d", i)
				d.Expired, noted = append(d.Expired, key), append(noted, note{key: key})
			}
			for b.Loop() {
				s.noted = append(s.noted, noted...)
				s.settle(d)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/key")
		})
	}
}
