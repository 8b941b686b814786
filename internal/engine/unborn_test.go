package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// noting is a disk that counts what its tree is told, by kinds of records.
type noting struct {
	*disk
	told map[string]int
}

func (n *noting) Commit(b *store.Batch, sync bool) error {
	for _, op := range b.Ops {
		n.told[string(op.Key[:1])]++
	}
	return n.Store.Commit(b, sync)
}

// TestACheckpointWritesNothingOfWhatCameAndWent has a thousand things come in some groups, and go
// in others.
func TestACheckpointWritesNothingOfWhatCameAndWent(t *testing.T) {
	const n = 1000
	later := testStart.Add(time.Hour)
	one := func(i int) string { return fmt.Sprint("one ", i) }
	gone := func(f crdt.Fields, i int) error { _, err := f.Remove(one(i)); return err }
	for name, c := range map[string]struct {
		comes, goes func(f crdt.Fields, i int) error
		most        int // records that the tree is told of
	}{
		"elements of a queue": {
			comes: func(f crdt.Fields, i int) error { return f.List("queue").Insert(i, []byte("job")) },
			goes:  func(f crdt.Fields, _ int) error { _, _, err := f.List("queue").Pop(0); return err },
			most:  n / 5, // of the nodes of its order
		},
		"sessions": {
			comes: func(f crdt.Fields, i int) error { return f.String(one(i)).SetUntil([]byte("x"), later) },
			goes:  gone,
		},
		"limits": {
			comes: func(f crdt.Fields, i int) error {
				if _, err := f.Counter(one(i)).Add(1); err != nil {
					return err
				}
				_, err := f.Expiry(one(i)).Set(later)
				return err
			},
			goes: gone,
		},
		"large values": {
			comes: func(f crdt.Fields, i int) error { return f.Map("m").Register(one(i)).Set(make([]byte, maxInline+1)) },
			goes:  func(f crdt.Fields, i int) error { _, err := f.Map("m").Remove(one(i)); return err },
		},
	} {
		st := &noting{newDisk(), map[string]int{}}
		r := openOn(t, st, 1)
		pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return fillSet(f, "stays", 1) })
		must(t, r.Save(testStart))
		pipeline(t, r, n, c.comes)
		pipeline(t, r, n, c.goes)
		clear(st.told)
		must(t, r.Save(testStart))
		told := 0
		for kind, times := range st.told {
			if kind != "m" && kind != string(prefixPage) {
				told += times
			}
		}
		if told > c.most {
			t.Errorf("%s: the tree is told of %d records, want %d at most: %v", name, told, c.most, st.told)
		}
		checkWhole(t, r)
		if keys := keysOf(t, openOn(t, st.disk.Clone(), 9)); !slices.Equal(keys, []string{"stays"}) {
			t.Errorf("%s: opened again it has the keys %q", name, keys)
		}
		r.Close()
	}
}

// wantNothing fails if a tree has anything of a cell.
func wantNothing(t *testing.T, when string, d *disk) {
	t.Helper()
	kinds := []byte{prefixCell, prefixPart, prefixBlob, prefixSummary, prefixLeaf, prefixExpiry}
	for _, record := range recordsOf(t, d) {
		if slices.Contains(kinds, record[0][0]) {
			t.Errorf("%s: the tree has %.40q", when, record[0])
		}
	}
}

// TestWhatAClearHidesIsDeletedThoughItCameAgain has a member of a cleared set come and go before
// it is swept.
func TestWhatAClearHidesIsDeletedThoughItCameAgain(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, stepWork: 30})
	h := w.hosts[0]
	w.write(t, h, func(f crdt.Fields) error { return fillSet(f, "s", 20) })
	w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove("s"); return err })
	must(t, h.engine.Save(w.now))
	w.open(t, h) // with nothing in memory
	if h.engine.Clears() != 1 {
		t.Fatalf("%d clears are to be swept, want 1", h.engine.Clears())
	}
	w.write(t, h, added("s", "9")) // which is swept last
	w.write(t, h, removed("s", "9"))
	if h.engine.Clears() == 0 {
		t.Fatal("it was swept before")
	}
	for more := true; more; {
		var err error
		more, err = h.engine.Sweep()
		must(t, err)
	}
	must(t, h.engine.Save(w.now))
	wantNothing(t, "after the sweep", h.disk)
	w.open(t, h)
	w.check(t, h)
}

// TestWhatACheckpointWritesGoesWithTheNext has cells go after each number of the steps of the
// checkpoint that has them.
func TestWhatACheckpointWritesGoesWithTheNext(t *testing.T) {
	for steps, ended := 0, false; !ended; steps++ {
		w := newWorld(t, 1, worldConfig{hosts: 1, maxBatch: 4})
		h := w.hosts[0]
		e := h.engine
		save := func(most int) {
			for ; most > 0 && e.saving != nil; most-- {
				must(t, e.saveSome())
				must(t, e.carry())
			}
		}
		w.write(t, h, func(f crdt.Fields) error { return fillSet(f, "s", 12) })
		must(t, h.disk.log.Sync())
		e.freeze(w.now)
		save(steps)
		ended = e.saving == nil
		w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove("s"); return err })
		save(math.MaxInt)
		must(t, e.Save(w.now))
		wantNothing(t, fmt.Sprintf("gone after %d steps", steps), h.disk)
		w.open(t, h)
		w.check(t, h)
	}
}

// TestNothingIsLeftOfWhatCameAndWentWhereverTheProcessDies has cells come, go while a checkpoint
// writes them, and come and go again. After each death all that is there goes, and the tree has
// nothing of it.
func TestNothingIsLeftOfWhatCameAndWentWhereverTheProcessDies(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	before, deaths := h.disk, 0
	for died := true; died; deaths++ {
		w.order = nil
		left := before.Clone()
		st := &failing{disk: left, left: 1 << 30}
		h.disk, h.engine = left, w.opened(t, st)
		st.left = deaths
		err := w.comeAndGo(t, h)
		if died = errors.Is(err, errDied); !died {
			must(t, err)
		}
		for _, h.disk = range []*disk{left.Crash(), left.Clone()} {
			w.open(t, h)
			w.check(t, h)
			w.write(t, h, w.goes)
			must(t, h.engine.Save(w.now))
			wantNothing(t, fmt.Sprintf("after death %d", deaths), h.disk)
			w.check(t, h)
			w.checkDerived(t, h)
		}
	}
	if deaths < 10 {
		t.Errorf("it ended at the %d-th attempt: too few to show anything", deaths)
	}
}

// TestALargeValueThatAClearHidAndComesAgainStays has a process die after each number of steps of
// a checkpoint that writes a large value and the clear which hides it: opening finds the value,
// hides it, and puts it again.
func TestALargeValueThatAClearHidAndComesAgainStays(t *testing.T) {
	for steps, ended := 1, false; !ended; steps++ {
		w := newWorld(t, 1, worldConfig{hosts: 1, maxBatch: 1})
		h := w.hosts[0]
		for range 2 {
			w.write(t, h, func(f crdt.Fields) error { return fillSet(f, "r", 20) })
			w.write(t, h, func(f crdt.Fields) error { return f.Register("r").Set(make([]byte, maxInline+1)) })
		}
		w.write(t, h, func(f crdt.Fields) error { _, err := f.Clear(); return err })
		must(t, h.disk.log.Sync())
		e := h.engine
		e.freeze(w.now)
		for i := 0; i < steps && e.saving != nil; i++ {
			e.beginStep()
			must(t, e.saveSome())
			must(t, e.carry())
		}
		ended = e.saving == nil
		h.disk = h.disk.Clone()
		w.open(t, h)
		must(t, h.engine.Save(w.now))
		w.open(t, h)
		for more := true; more; {
			var err error
			if more, err = h.engine.Sweep(); err != nil {
				t.Fatalf("died after %d steps: %v", steps, err)
			}
		}
		must(t, h.engine.Save(w.now))
		wantNothing(t, fmt.Sprintf("swept after %d steps", steps), h.disk)
	}
}

// comeAndGo has a host, whose process may die, do that.
func (w *world) comeAndGo(t *testing.T, h *host) error {
	e := h.engine
	e.cfg.MaxBatch = 4
	write := func(fn func(f crdt.Fields) error) func() error {
		return func() error {
			g := e.newGroup(w.now)
			must(t, g.update(func(tx *Tx) error { return fn(Fields(tx)) }))
			done, err := g.Commit(false)
			w.noteSeen(h, done.Deltas)
			w.order = append(w.order, done.Deltas...)
			return err
		}
	}
	begin := func() error {
		e.freeze(w.now)
		return h.disk.log.Sync()
	}
	save := func() error { return cmp.Or(e.saveSome(), e.carry()) }
	end := func() (err error) {
		for err == nil && e.saving != nil {
			err = save()
		}
		return err
	}
	last := func() error { return e.Save(w.now) }
	for _, do := range []func() error{
		write(w.comes), begin, save, write(w.goes), end, write(w.comes), write(w.goes), last,
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// comes puts a set that expires, and a value that has more than one piece.
func (w *world) comes(f crdt.Fields) error {
	if err := fillSet(f, "s", 6); err != nil {
		return err
	}
	if _, err := f.Expiry("s").Set(w.now.Add(time.Hour)); err != nil {
		return err
	}
	return f.Register("large").Set(make([]byte, maxPiece+1))
}

func (w *world) goes(f crdt.Fields) error {
	_, err := f.Remove("s")
	if err == nil {
		_, err = f.Remove("large")
	}
	return err
}

// TestNothingIsLeftOfTheRecordsOfALargeCellWhereverTheProcessDies has a checkpoint write a cell of several records. After
// each death the cell becomes small, or goes.
func TestNothingIsLeftOfTheRecordsOfALargeCellWhereverTheProcessDies(t *testing.T) {
	cell := dotted.KeyAddress("k").Type(crdt.TypeString)
	for _, stays := range []bool{false, true} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		h := w.hosts[0]
		g := h.engine.newGroup(w.now)
		for i := range 250 {
			d := &delta.Delta{Replica: crdt.ReplicaID(1000 + i), First: 1, Time: dotted.Time(i + 1), Ops: []delta.Op{{
				Kind: delta.OpPut, Address: cell, Payload: make([]byte, maxInline),
			}}}
			if outcome, err := g.apply(d); err != nil || outcome != gossip.Applied {
				t.Fatal(outcome, err)
			}
		}
		w.commit(t, h, g)
		must(t, h.disk.log.Sync())
		before := h.disk
		for deaths, died := 0, true; died; deaths++ {
			left := before.Clone()
			st := &failing{disk: left, left: 1 << 30}
			h.disk, h.engine = left, w.opened(t, st)
			st.left = deaths
			err := h.engine.Save(w.now)
			if died = errors.Is(err, errDied); !died {
				must(t, err)
			}
			h.disk = left.Clone()
			w.open(t, h)
			if stays {
				g := h.engine.newGroup(w.now)
				must(t, g.update(func(tx *Tx) error {
					c, err := tx.Cell(cell)
					return cmp.Or(err, tx.Remove(cell, c.Dots()[1:]))
				}))
				w.commit(t, h, g)
				must(t, h.engine.Save(w.now))
				w.check(t, h)
			}
			w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove("k"); return err })
			for more := true; more; {
				more, err = h.engine.Sweep()
				must(t, err)
			}
			must(t, h.engine.Save(w.now))
			wantNothing(t, fmt.Sprintf("it stays: %v, after death %d", stays, deaths), h.disk)
			w.check(t, h)
		}
	}
}
