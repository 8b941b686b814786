package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

func TestABackupThatMeetsACutLogIsNotTakenForAFork(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	b.disk = newDisk()
	w.cfg.maxLog = 1000
	w.open(t, b)
	w.connect(0, 1)
	inc := func(f crdt.Fields) error { _, err := f.Counter("n").Add(1); return err }
	for range 50 {
		w.write(t, a, inc)
	}
	w.settle(t)
	backup := a.disk.Clone()
	for range 2 {
		for range 25 {
			w.write(t, a, inc)
		}
		w.settle(t)
	}
	w.cut(0, 1)
	a.disk = backup
	w.cfg.maxLog = 0
	w.open(t, a)
	w.connect(0, 1)
	for range 50 {
		w.pump(t, 0, 1)
		w.pump(t, 1, 0)
		w.deliver(t, 0, 1)
		w.deliver(t, 1, 0)
	}
	if forks := a.engine.Forks(); len(forks) > 0 {
		t.Fatalf("taken for a fork: %+v", forks)
	}
	w.settle(t)
	for _, h := range w.hosts {
		v := h.engine.View()
		f := Fields(v)
		if n := f.Counter("n").Get(); f.Err() != nil || n != 100 {
			t.Errorf("host %d: n is %d (%v), want 100", h.i, n, f.Err())
		}
		v.Close()
	}
}

// TestARebuildKeepsWhatDependsOnSomethingThatNoPeerHasYet, also if all is discarded again meanwhile.
func TestARebuildKeepsWhatDependsOnSomethingThatNoPeerHasYet(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := newWorld(t, 1, worldConfig{hosts: 3})
		a, c, x := w.hosts[0], w.hosts[1], w.hosts[2]
		w.cfg.maxLog = 1
		w.open(t, c)
		w.cfg.maxLog = 0
		for i := range 10 {
			w.write(t, c, func(f crdt.Fields) error { return f.String("k").Set([]byte(fmt.Sprint(i))) })
			w.maintain(t, c)
		}
		w.connect(0, 1)
		w.settle2(t, 0, 1)
		if w.done["repair"] == 0 {
			t.Fatal("a should have been bootstrapped by a repair")
		}
		w.cut(0, 1)
		w.write(t, a, func(f crdt.Fields) error { return f.String("only a").Set([]byte("acknowledged")) })
		must(t, a.engine.Discard()) // found itself damaged
		w.write(t, x, func(f crdt.Fields) error { return f.String("newcomer").Set([]byte("y")) })
		w.connect(0, 2)
		w.settle2(t, 0, 2)
		if !a.engine.Rebuilding() {
			t.Fatal("it is rebuilt with the newcomer alone")
		}
		if again {
			must(t, a.engine.Discard())
		}
		w.settle(t)
		if a.engine.Rebuilding() {
			t.Fatal("it is not rebuilt with all")
		}
		for _, h := range w.hosts {
			v := h.engine.View()
			if _, ok := Fields(v).String("only a").Get(); !ok {
				t.Errorf("host %d lost the acknowledged write, discarded again: %v", h.i, again)
			}
			v.Close()
		}
	}
}

func (w *world) settle2(t *testing.T, i, j int) {
	for range 400 {
		w.pump(t, i, j)
		w.pump(t, j, i)
		w.deliver(t, i, j)
		w.deliver(t, j, i)
		w.stepRepairs(t)
	}
}

func TestAClearInALargeGroupIsCounted(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.write(t, a, func(f crdt.Fields) error {
		for j := range 100 {
			if _, err := f.Set("s").Add(fmt.Sprint(j)); err != nil {
				return err
			}
		}
		return nil
	})
	w.fillRegisters(t, a)
	w.write(t, a, func(f crdt.Fields) error {
		for i := range 700 {
			if _, err := f.Map("m").Counter(fmt.Sprint(i/100, i%100)).Add(1); err != nil {
				return err
			}
		}
		_, err := f.Remove("s")
		return err
	})
	v := a.engine.View()
	f := Fields(v)
	if ok := f.Has("s"); f.Err() != nil || ok {
		t.Errorf("after the delete: exists %v, error %v", ok, f.Err())
	}
	v.Close()
}

func TestALargeGroupMayCommitDuringARepair(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.fillRegisters(t, a)
	if _, err := a.engine.beginRepair(crdt.VersionVector{77: 5}, delta.Heads{77: 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.try(t, a, func(f crdt.Fields) error {
		for i := range 700 {
			if _, err := f.Map("m").Counter(fmt.Sprint(i/100, i%100)).Add(1); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Errorf("an ordinary transaction: %v", err)
	}
}

func TestARepairOfLargeCellsFitsIntoTheStoresBatches(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	for i := range 10 {
		w.write(t, b, func(f crdt.Fields) error {
			for j := range 100 {
				if err := f.String(fmt.Sprint(i, " ", j)).Set(make([]byte, 16_000)); err != nil {
					return err
				}
			}
			return nil
		})
		w.write(t, a, func(f crdt.Fields) error {
			for j := range 100 {
				if err := f.String(fmt.Sprint(i, " ", j)).Set([]byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := repairAll(a.engine, b.engine); err != nil {
		t.Error(err)
	}
	if _, err := openAt(b.disk.Clone(), Config{NewID: w.newID}); err != nil {
		t.Error(err)
	}
}

func TestADigestThatArrivesWithTheDeltasItIsAboutIsNoAlarm(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	w.write(t, a, func(f crdt.Fields) error { return f.String("k").Set([]byte("v")) })
	w.connect(0, 1)
	w.settle2(t, 0, 1) // b has it
	w.connect(0, 2)
	w.connect(1, 2)
	for range 5 { // hellos only
		w.pump(t, 2, 0)
		w.deliver(t, 2, 0)
		w.pump(t, 2, 1)
		w.deliver(t, 2, 1)
	}
	hello := func(from int) {
		frame, _ := w.hosts[from].engine.Next(name(2))
		c.engine.Receive(&Frame{From: name(from), Data: frame})
		w.round(t, c)
	}
	hello(0)
	hello(1)
	var deltas []byte
	for deltas == nil || deltas[0] != 2 {
		deltas, _ = a.engine.Next(name(2))
	}
	for { // drain b's frames except for the digest
		f, _ := b.engine.Next(name(2))
		if f == nil {
			break
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var digest []byte
	for digest == nil {
		b.engine.SendDigest(rng)
		digest, _ = b.engine.Next(name(2))
		if digest != nil && digest[0] != 6 {
			digest = nil
		}
	}
	if deltas[0] != 2 || digest[0] != 6 {
		t.Fatalf("frames of kinds %d and %d, want deltas and a digest", deltas[0], digest[0])
	}
	c.engine.Receive(&Frame{From: name(0), Data: deltas})
	c.engine.Receive(&Frame{From: name(1), Data: digest})
	w.round(t, c) // which fails after an alarm
}

func TestALongAddressOfAnUnknownTypeIsKept(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	a := w.hosts[0]
	long := dotted.KeyAddress("k").Type('?') + dotted.Address(make([]byte, 100_000))
	d := &delta.Delta{Replica: 99, First: 1, Ops: []delta.Op{
		{Kind: delta.OpPut, Address: long, Payload: []byte("x")},
	}}
	d, err := delta.Decode(d.Encode())
	if err != nil {
		t.Fatal(err)
	}
	g := a.engine.newGroup(w.now)
	if out, err := g.apply(d); err != nil || out != gossip.Applied {
		t.Fatal(out, err)
	}
	w.commit(t, a, g)
	w.check(t, a)
}

func TestAnEntryAtABareKeyIsRefused(t *testing.T) {
	d := &delta.Delta{Replica: 99, First: 1, Ops: []delta.Op{
		{Kind: delta.OpPut, Address: dotted.KeyAddress("k"), Payload: []byte("\x01")},
	}}
	if _, err := delta.Decode(d.Encode()); err == nil {
		t.Error("accepted")
	}
}

func TestTheClockSurvivesARestartAndAdoptsNoFarFuture(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	a := w.hosts[0]
	for range 3 {
		w.write(t, a, func(f crdt.Fields) error { return f.String("k").Set([]byte("v")) })
	}
	before := a.engine.clock.Last()
	w.restart(t, a, "closes")
	if after := a.engine.clock.Last(); after < before {
		t.Errorf("clock was %v, is %v", before, after)
	}
	future := dotted.TimeAt(w.now.Add(50 * 365 * 24 * time.Hour))
	d := &delta.Delta{Replica: 99, First: 1, Time: future, Ops: []delta.Op{{Kind: delta.OpPut, Address: dotted.KeyAddress("q").Type('v'), Payload: []byte("\x02")}}}
	g := a.engine.newGroup(w.now)
	if _, err := g.apply(d); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Commit(true); err != nil {
		t.Fatal(err)
	}
	live := a.engine.clock.Last()
	w.restart(t, a, "is killed")
	if after := a.engine.clock.Last(); after.Wall().Sub(w.now) > time.Second {
		t.Errorf("clock was %v; after a restart it has adopted %v", live, after)
	}
}

func TestAForkWithOtherBoundariesIsNoticed(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	a := w.hosts[0]
	put := func(first uint64, n int, prev delta.Hash) *delta.Delta {
		d := &delta.Delta{Replica: 99, First: first, Prev: prev}
		for i := range n {
			d.Ops = append(d.Ops, delta.Op{Kind: delta.OpPut, Address: dotted.KeyAddress(fmt.Sprint(i)).Type('v'), Payload: []byte("\x02")})
		}
		return d
	}
	one := put(1, 1, 0)
	g := a.engine.newGroup(w.now)
	for _, d := range []*delta.Delta{one, put(2, 1, one.Hash())} {
		if out, _ := g.apply(d); out != gossip.Applied {
			t.Fatal(out)
		}
	}
	out, _ := g.apply(put(2, 3, one.Hash()))
	if out != gossip.Astray {
		t.Errorf("outcome %v: the fork is not noticed", out)
	}
}

func TestWhatAnAbortedRepairStagedIsNeverTakenOver(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 1})
	a := w.hosts[0]
	w.fillRegisters(t, a)
	p, err := a.engine.beginRepair(crdt.VersionVector{77: 5}, delta.Heads{77: 1})
	if err != nil {
		t.Fatal(err)
	}
	a.engine.abortRepair(p) // as Discard does while the puller is under way
	must(t, a.engine.carry())
	p.write = a.engine.stage
	p.next = 5000
	_ = p.Add(dotted.KeyAddress("ghost").Type('v'), []dotted.Entry{{Dot: crdt.Dot{Replica: 77, Counter: 3}, Payload: make([]byte, 2<<20)[:1<<20]}})
	_ = p.flush()
	w.write(t, a, func(f crdt.Fields) error {
		for i := range 700 {
			if _, err := f.Map("m").Counter(fmt.Sprint(i/100, i%100)).Add(1); err != nil {
				return err
			}
		}
		return nil
	})
	v := a.engine.View()
	defer v.Close()
	if c, _ := v.Cell(dotted.KeyAddress("ghost").Type('v')); len(c) > 0 {
		t.Errorf("what an aborted repair staged is in the cells: %v", c.Dots())
	}
}

// TestAHelloThatArrivesWithDeltasIsAnsweredFromTheLogAfterThem puts both into one group: while it is open
// the context is ahead of the log, which then seems not to reach.
func TestAHelloThatArrivesWithDeltasIsAnsweredFromTheLogAfterThem(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	a, c := w.hosts[0], w.hosts[2]
	w.connect(0, 2)
	w.settle2(t, 0, 2)
	w.write(t, a, func(f crdt.Fields) error { return f.String("k").Set([]byte("v")) })
	deltas, err := a.engine.Next(name(2))
	if err != nil || deltas == nil || deltas[0] != 2 {
		t.Fatalf("frame %v (%v), want deltas", deltas, err)
	}
	w.connect(1, 2)
	hello, err := w.hosts[1].engine.Next(name(2))
	if err != nil || hello == nil || hello[0] != 1 {
		t.Fatalf("frame %v (%v), want a hello", hello, err)
	}
	c.engine.Receive(&Frame{From: name(0), Data: deltas})
	c.engine.Receive(&Frame{From: name(1), Data: hello})
	w.round(t, c)
	for {
		frame, err := c.engine.Next(name(1))
		if err != nil {
			t.Fatal(err)
		}
		if frame == nil {
			break
		}
		if frame[0] == 5 {
			t.Fatal("the neighbour was told that the log does not reach")
		}
	}
}

// fillRegisters writes 700 registers of 16 kB: more than one batch of the tree takes.
func (w *world) fillRegisters(t *testing.T, h *host) {
	t.Helper()
	for i := range 7 {
		w.write(t, h, func(f crdt.Fields) error {
			for j := range 100 {
				if err := f.Map("m").Register(fmt.Sprint(i, j)).Set(make([]byte, 16_000)); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
