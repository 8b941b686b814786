package engine

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// Types of this test's own, whose cells stand in an order: by their names, and by what they hold.
const (
	typeLine   dotted.Type = '1'
	typeRanked dotted.Type = '2'
)

func init() {
	dotted.Define(dotted.Kind{Type: typeLine, Name: "line", Holds: dotted.HoldsElements,
		Order: func(name string, _ dotted.Cell) string { return name }})
	dotted.Define(dotted.Kind{Type: typeRanked, Name: "ranked", Holds: dotted.HoldsElements,
		Order: func(name string, c dotted.Cell) string {
			rank := ""
			for _, e := range c {
				rank = max(rank, string(e.Payload))
			}
			return rank + "/" + name
		}})
}

// ranked returns what a cell of a ranked container holds.
func ranked(n int) []byte { return fmt.Appendf([]byte{0}, "%09d", n) }

// stand has a name stand in a container.
func stand(tx dotted.Tx, container dotted.Address, name string, payload []byte) error {
	a := container.Name(name)
	c, err := tx.Cell(a)
	if err != nil {
		return err
	}
	_, err = tx.Put(a, payload, c.Dots())
	return err
}

// leave has a name stand there no longer.
func leave(tx dotted.Tx, container dotted.Address, name string) error {
	c, err := tx.Cell(container.Name(name))
	if err != nil {
		return err
	}
	return tx.Remove(container.Name(name), c.Dots())
}

// mutateOrdered does something random to cells that stand in an order, and asks what stands there.
// Some names are so long that a node holds few.
func (w *world) mutateOrdered(tx *Tx) (err error) {
	key := dotted.KeyAddress(string(rune('a' + w.rng.IntN(4))))
	container := key.Type([]dotted.Type{typeLine, typeRanked}[w.rng.IntN(2)])
	switch w.rng.IntN(12) {
	case 0:
		container = dotted.KeyAddress("m").Type('m').Name(strings.Repeat("f", w.rng.IntN(2)*300)).Type(typeRanked)
	case 1:
		container = dotted.KeyAddress(strings.Repeat("long", 100)).Type(typeRanked)
	}
	at := w.rng.IntN(100)
	each := func(fn func(name string) error) error {
		for i := range 1 + w.rng.IntN(20) {
			n := (at + i) % 100
			if err := fn(fmt.Sprint(n, strings.Repeat("x", 350*(n%3)))); err != nil {
				return err
			}
		}
		return nil
	}
	switch w.rng.IntN(9) {
	default:
		err = each(func(name string) error { return stand(tx, container, name, ranked(w.rng.IntN(50))) })
	case 5, 6:
		err = each(func(name string) error { return leave(tx, container, name) })
	case 7:
		if w.rng.IntN(3) == 0 {
			err = tx.Clear([]dotted.Address{container, container.KeyAddress()}[w.rng.IntN(2)])
		}
	case 8:
		if w.rng.IntN(10) == 0 {
			err = tx.Clear(container.Name(fmt.Sprint(at, strings.Repeat("x", 350*(at%3)))))
		}
	}
	if err != nil {
		return err
	}
	return compareOrder(tx, container, at)
}

// stand has cells stand in an order at a host: so many that a filling is broken off among them.
func (w *world) stand(t *testing.T, h *host, from, to int) {
	t.Helper()
	g := h.engine.newGroup(w.now)
	must(t, g.update(func(tx *Tx) (err error) {
		container := dotted.KeyAddress("r").Type(typeRanked)
		for i := from; i < to && err == nil; i++ {
			err = stand(tx, container, fmt.Sprint(i, strings.Repeat("x", 6000)), ranked(i*7919%1000))
		}
		return err
	}))
	w.commit(t, h, g)
}

// TestAFilledOrderHasNoNodeBesideItsOwn though keys of all lengths have nodes that are written split and put together again.
func TestAFilledOrderHasNoNodeBesideItsOwn(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := newWorld(t, seed, worldConfig{hosts: 2})
		a, b := w.hosts[0], w.hosts[1]
		g := a.engine.newGroup(w.now)
		must(t, g.update(func(tx *Tx) (err error) {
			for i := 0; i < 120 && err == nil; i++ {
				length := w.rng.IntN(40)
				if w.rng.IntN(4) == 0 {
					length = w.rng.IntN(3100)
				}
				err = stand(tx, dotted.KeyAddress("k").Type(typeRanked), fmt.Sprint(i, strings.Repeat("x", length)), ranked(w.rng.IntN(1000)))
			}
			return err
		}))
		w.commit(t, a, g)
		must(t, repairAll(a.engine, b.engine))
		w.checkDerived(t, b)
	}
}

// compareOrder compares what is kept of a container's order with a look at all its cells.
func compareOrder(tx dotted.Tx, container dotted.Address, at int) error {
	var kept, found [2][]string
	for i, back := range []bool{false, true} {
		gather := func(into *[]string) func(string) bool {
			return func(key string) bool { *into = append(*into, key); return true }
		}
		if err := errors.Join(tx.Ranked(container, at%50, back, gather(&kept[i])),
			dotted.ScanRanked(tx, container, at%50, back, gather(&found[i]))); err != nil {
			return err
		}
		if !slices.Equal(kept[i], found[i]) {
			return fmt.Errorf("of %q, from %d, back %v, there is %.9q, and should be %.9q", container, at%50, back, kept[i], found[i])
		}
	}
	keys := []string{fmt.Sprint(at), string(ranked(at))}
	if n := len(found[0]); n > 0 {
		keys = append(keys, found[0][0], found[0][n/2], found[0][n-1])
	}
	for _, key := range keys {
		kept, err := tx.Rank(container, key)
		found, failed := dotted.ScanRank(tx, container, key)
		if err != nil || failed != nil || kept != found {
			return fmt.Errorf("in %q %d are before %.20q, and not %d: %w", container, found, key, kept, errors.Join(err, failed))
		}
	}
	return nil
}

// checkOrders does that for all containers.
func checkOrders(t testing.TB, tx dotted.Tx) {
	t.Helper()
	seen := map[dotted.Address]bool{}
	err := tx.Scan("", "", func(a dotted.Address, c dotted.Cell) bool {
		if container, _, _, ok := a.Standing(); ok {
			seen[container] = true
		}
		return true
	})
	for _, container := range sortedKeys(seen) {
		for _, at := range []int{0, 7, 30, 49} {
			err = errors.Join(err, compareOrder(tx, container, at))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestOrdersAreOfOneMomentWhereverTheProcessDies has checkpoints of many batches go on beside
// commits, clears and the sweep. After each step the host is opened anew as a kill and as a power
// failure leave it, and now and then goes on from there.
func TestOrdersAreOfOneMomentWhereverTheProcessDies(t *testing.T) {
	put := 0
	for seed := uint64(1); seed <= 4; seed++ {
		w := newWorld(t, seed, worldConfig{hosts: 1, ordered: true, maxBatch: 12, maxLog: 1 << 30})
		h := w.hosts[0]
		for range 120 {
			switch w.rng.IntN(8) {
			case 0, 1:
				w.transact(t, h)
			case 2:
				_, err := h.engine.Sweep()
				must(t, err)
			case 3:
				w.now = w.now.Add(checkpointEvery)
			default:
				_, err := h.engine.Maintain(w.now)
				must(t, err)
			}
			for _, left := range []*disk{h.disk.Clone(), h.disk.Clone().Crash()} {
				must(t, left.tree().Snapshot().ScanKeys([]byte{prefixUndone}, []byte{prefixUndone + 1}, func([]byte) bool {
					put++
					return true
				}))
				again := &host{disk: left}
				w.open(t, again)
				if err := again.engine.Damaged(); err != nil {
					t.Fatalf("seed %d: opened again, it takes itself for damaged: %v", seed, err)
				}
				w.checkDerived(t, again)
				if w.rng.IntN(20) == 0 {
					h.disk, h.engine = again.disk, again.engine
				}
			}
		}
	}
	if put == 0 {
		t.Error("no checkpoint wrote over anything")
	}
}

// TestAnInterruptedCheckpointOfOrdersIsNotPutBackOnAFullDisk has a host be killed between two
// batches, and be started where there is no room: nothing at all may be written then. With room it
// is as it was.
func TestAnInterruptedCheckpointOfOrdersIsNotPutBackOnAFullDisk(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, ordered: true, maxBatch: 12, maxLog: 1 << 30})
	h := w.hosts[0]
	refused, opened := 0, 0
	for range 150 {
		if w.rng.IntN(4) == 0 {
			w.transact(t, h)
		}
		w.now = w.now.Add(checkpointEvery / 4)
		_, err := h.engine.Maintain(w.now)
		must(t, err)
		left := &host{disk: h.disk.Clone()}
		before := recordsOf(t, left.disk)
		r, err := openAt(left.disk, Config{NewID: w.newID, Full: true})
		if after := recordsOf(t, left.disk); !reflect.DeepEqual(before, after) {
			t.Fatalf("of %d records there are %d", len(before), len(after))
		}
		if err == nil {
			opened++
			r.Close()
			continue
		}
		if refused++; !errors.Is(err, store.ErrNoSpace) {
			t.Fatal(err)
		}
		w.open(t, left)
		w.checkDerived(t, left)
	}
	if refused == 0 || opened == 0 {
		t.Errorf("%d starts were refused, and %d were not", refused, opened)
	}
}

// TestAClearedOrderStaysClearedWhereverACheckpointEnds interrupts the one that removes the last of
// a clear that was swept.
func TestAClearedOrderStaysClearedWhereverACheckpointEnds(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxBatch: 12, maxLog: 1 << 30})
	h := w.hosts[0]
	container := dotted.KeyAddress("k").Type(typeRanked)
	update := func(fn func(tx *Tx) error) {
		g := h.engine.newGroup(w.now)
		must(t, g.update(fn))
		w.commit(t, h, g)
	}
	update(func(tx *Tx) (err error) {
		for i := 0; i < 200 && err == nil; i++ {
			err = stand(tx, container, fmt.Sprint(i), ranked(i))
		}
		return err
	})
	must(t, h.engine.Save(w.now))
	update(func(tx *Tx) error { return tx.Clear(container) })
	must(t, h.engine.Save(w.now))
	for more := true; more; {
		var err error
		more, err = h.engine.Sweep()
		must(t, err)
	}
	w.now = w.now.Add(checkpointEvery)
	for more, steps := true, 0; more || steps < 3; steps++ {
		var err error
		more, err = h.engine.Maintain(w.now)
		must(t, err)
		again := &host{disk: h.disk.Clone()}
		w.open(t, again)
		if err := again.engine.Damaged(); err != nil {
			t.Fatalf("opened again after step %d, it takes itself for damaged: %v", steps, err)
		}
		w.checkDerived(t, again)
	}
	if left := recordsOf(t, h.disk); slices.ContainsFunc(left, func(r [2][]byte) bool {
		return slices.Contains([]byte{prefixOrder, prefixNode, prefixClear, prefixCell}, r[0][0])
	}) {
		t.Errorf("something of the container is left: %.20q", left)
	}
}

// TestWhatIsLeftOfAnOrderIsSweptThoughItWasEmptyWhenCleared clears a container in the commit that
// took all its cells.
func TestWhatIsLeftOfAnOrderIsSweptThoughItWasEmptyWhenCleared(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1, maxLog: 1 << 30})
	h := w.hosts[0]
	container := dotted.KeyAddress("k").Type(typeRanked)
	update := func(fns ...func(tx *Tx) error) {
		g := h.engine.newGroup(w.now)
		for _, fn := range fns {
			must(t, g.update(fn))
		}
		w.commit(t, h, g)
	}
	each := func(do func(tx *Tx, name string) error) func(tx *Tx) error {
		return func(tx *Tx) (err error) {
			for i := 0; i < 200 && err == nil; i++ {
				err = do(tx, fmt.Sprint(i))
			}
			return err
		}
	}
	update(each(func(tx *Tx, name string) error { return stand(tx, container, name, ranked(1)) }))
	must(t, h.engine.Save(w.now))
	update(each(func(tx *Tx, name string) error { return leave(tx, container, name) }),
		func(tx *Tx) error { return tx.Clear(container) })
	for more := true; more; {
		var err error
		more, err = h.engine.Sweep()
		must(t, err)
	}
	w.checkDerived(t, h)
}
