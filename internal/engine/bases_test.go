package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// others has an engine apply a write each of many replicas, which end or do not.
func others(t testing.TB, n *Engine, first crdt.ReplicaID, count int, end bool) {
	t.Helper()
	for left := count; left > 0; {
		g := n.newGroup(testStart)
		for ; left > 0 && len(g.deltas) < 1000; left-- {
			id := first + crdt.ReplicaID(count-left)*0x9e3779b97f4a7c15
			d := &delta.Delta{Replica: id, First: 1, Time: dotted.TimeAt(testStart), Ops: []delta.Op{{
				Kind:    delta.OpPut,
				Address: dotted.KeyAddress(fmt.Sprint("of", id%64)).Type(crdt.TypeFlag), Payload: []byte{1},
			}}}
			if end {
				d.Ops = append(d.Ops, delta.Op{Kind: delta.OpEnd})
			}
			if outcome, err := g.apply(d); outcome != gossip.Applied || err != nil {
				t.Fatalf("outcome %v, %v", outcome, err)
			}
		}
		if _, err := g.Commit(false); err != nil {
			t.Fatal(err)
		}
	}
}

// pass lets ticks of an engine pass. It returns how many ids it has said bases of.
func pass(t testing.TB, n *Engine, ticks int) (said int) {
	t.Helper()
	for range ticks {
		rd, err := n.stepAlone(n.now.Add(tickEvery))
		must(t, err)
		for _, d := range rd.Committed {
			for _, table := range d.Tables() {
				said += len(table.Bases)
			}
		}
	}
	return said
}

func transacted(t testing.TB, n *Engine, fn func(f crdt.Fields) error) *delta.Delta {
	t.Helper()
	g := n.newGroup(testStart)
	if err := g.update(func(tx *Tx) error { return fn(Fields(tx)) }); err != nil {
		t.Fatal(err)
	}
	done, err := g.Commit(false)
	if err != nil {
		t.Fatal(err)
	}
	return done.Deltas[0]
}

// TestTenThousandEndedIDsCostNothingInVectors of a hello, a clear, a start's first delta, a checkpoint.
func TestTenThousandEndedIDsCostNothingInVectors(t *testing.T) {
	const ended, most = 10_000, 1 << 10
	st := newDisk()
	n := newEngine(openOn(t, st, 1))
	transacted(t, n, put("mine"))
	others(t, n, 1000, ended, true)
	if said := pass(t, n, 2000); said != ended {
		t.Fatalf("bases of %d ids are said, want %d", said, ended)
	}
	must := func(what string, bytes int) {
		if t.Logf("%s: %d bytes", what, bytes); bytes > most {
			t.Errorf("%s has %d bytes, want %d at most", what, bytes, most)
		}
	}
	n.Connect("other", 1)
	hello, err := n.Next("other")
	if err != nil {
		t.Fatal(err)
	}
	must("a hello", len(hello))
	must("a clear", len(transacted(t, n, func(f crdt.Fields) error { _, err := f.Clear(); return err }).Encode()))
	if err := n.Save(testStart); err != nil {
		t.Fatal(err)
	}
	if err := scanRecords(st.Snapshot(), prefixSeen, func(_, record []byte) error {
		must("what a clear saw", len(record))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	must("a checkpoint's context", len(wire.Encode(func(w *wire.Writer) {
		delta.WriteContext(w, n.short, n.heads)
	})))
	again := newEngine(openOn(t, st, 2))
	must("the first delta of a start", len(transacted(t, again, put("again")).Encode()))
	if got := len(again.seen); got != ended+2 || !again.seen.Contains(n.seen) {
		t.Errorf("the store holds %d replicas", got)
	}
}

// TestBasesAreSaidOfIdsThatWriteNoMore by who may, and not before there are many of them.
func TestBasesAreSaidOfIdsThatWriteNoMore(t *testing.T) {
	for _, c := range []struct {
		name        string
		ended, idle int
		ticks, want int
	}{
		{"few that ended", 15, 0, 20_000, 0},
		{"many that ended", 16, 0, 2000, 16},
		{"few that are idle", 15, 64, 20_000, 0},
		{"many that are not idle for long", 0, 65, 5900, 0},
		{"many that are idle", 3, 65, 20_000, 68},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newEngine(openOn(t, newDisk(), 1))
			transacted(t, n, put("mine"))
			others(t, n, 1000, c.ended, true)
			others(t, n, 5000, c.idle, false)
			if said := pass(t, n, c.ticks); said != c.want {
				t.Errorf("bases of %d ids are said, want %d", said, c.want)
			}
			if _, listed := n.short[n.id]; !listed {
				t.Error("its own id is left out")
			}
		})
	}
}

// TestSayingBasesIsNoReasonToSayMore by replicas that say bases all at once, before any has heard of another's.
func TestSayingBasesIsNoReasonToSayMore(t *testing.T) {
	const hosts, rounds = 6, 10
	var engines []*Engine
	for i := range hosts {
		id := crdt.ReplicaID(1 + i)
		r, err := openAt(newDisk(), Config{NewID: func() crdt.ReplicaID { return id }, MaxListed: 2, IdleTicks: 4})
		if err != nil {
			t.Fatal(err)
		}
		engines = append(engines, newEngine(r))
		transacted(t, engines[i], put("mine"))
	}
	var said []int
	for range rounds {
		exchange(t, engines)
		all := 0
		for _, n := range engines {
			all += pass(t, n, 100)
		}
		said = append(said, all)
	}
	if said[0] != hosts*(hosts-1) || said[rounds-1] != 0 {
		t.Errorf("bases said in each round: %v, want %d first and none in the end", said, hosts*(hosts-1))
	}
	if engines[0].Basing() {
		t.Error("bases are still to be said")
	}
	for _, n := range engines[:3] { // more than may be listed
		transacted(t, n, put("again"))
	}
	exchange(t, engines)
	if said := pass(t, engines[hosts-1], 100); said != hosts-1 {
		t.Errorf("bases of %d ids are said after some wrote again, want all %d others", said, hosts-1)
	}
}

// exchange has each engine apply what the logs of all have.
func exchange(t testing.TB, engines []*Engine) {
	t.Helper()
	var all []*delta.Delta
	for _, n := range engines {
		if _, _, err := n.LogRead(1, 1000, func(d *delta.Delta) bool { all = append(all, d); return true }); err != nil {
			t.Fatal(err)
		}
	}
	for more := true; more; { // what came early is applied once all that it saw is
		more = false
		for _, n := range engines {
			g := n.newGroup(testStart)
			for _, d := range all {
				outcome, err := g.apply(d)
				if err != nil {
					t.Fatal(err)
				}
				more = more || outcome == gossip.Applied
			}
			if _, err := g.Commit(false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAForkIsFoundOfAnIdThatBothSidesLeaveOut before anything that one side wrote is taken by the other.
func TestAForkIsFoundOfAnIdThatBothSidesLeaveOut(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 3})
	image := w.hosts[0].disk.Clone()
	ids := []crdt.ReplicaID{5, 5} // which an image of running memory would have drawn once
	w.forked = true
	for i, h := range w.hosts[:2] {
		h.disk = image.Clone()
		h.engine = newEngine(openOn(t, h.disk, ids[i]))
		w.write(t, h, put(fmt.Sprint("side", i)))
		h.engine = newEngine(openOn(t, h.disk, crdt.ReplicaID(100+i)))
		w.write(t, h, counted(1))
		h.engine.say = []delta.Base{{Replica: 5, Last: h.engine.seen[5], Head: h.engine.heads[5]}}
		w.round(t, h)
		if _, listed := h.engine.short[5]; listed {
			t.Fatal("the id is not left out")
		}
	}
	a, b := w.hosts[0], w.hosts[1]
	w.connect(0, 1)
	for range 100 {
		for _, p := range [][2]int{{0, 1}, {1, 0}} {
			w.pump(t, p[0], p[1])
			w.deliver(t, p[0], p[1])
		}
	}
	if !a.engine.Quarantined("1") || !b.engine.Quarantined("0") {
		t.Error("the fork is not noticed")
	}
	if a.engine.seen[101] != 0 || b.engine.seen[100] != 0 {
		t.Error("something was exchanged")
	}
}

// TestAHelloIsReadOnceTheBasesAreHereByWhichItLeavesOut so that nobody seems to lack what it left out, and is repaired.
func TestAHelloIsReadOnceTheBasesAreHereByWhichItLeavesOut(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 2})
	a, b := w.hosts[0], w.hosts[1]
	others(t, a.engine, 1000, 40, true)
	w.settle(t)
	w.cut(0, 1)
	b.engine.log.DropBefore(b.engine.log.Last + 1) // nothing of it can be served
	w.wait(t, 2000*tickEvery, a)
	if len(a.engine.short) > 2 {
		t.Fatalf("%d ids are listed", len(a.engine.short))
	}
	before := w.done["repair"]
	w.settle(t)
	if w.done["repair"] != before {
		t.Errorf("there were %d repairs", w.done["repair"]-before)
	}
	if known, _ := b.engine.Known("0"); !slices.Equal(known.Replicas(), a.engine.seen.Replicas()) {
		t.Errorf("the other is known to have %d ids, want %d", len(known), len(a.engine.seen))
	}
}

// BenchmarkEndedIDs is a transaction of a replica whose context has many ids that have ended, and of one with few.
func BenchmarkEndedIDs(b *testing.B) {
	for _, ended := range []int{10, 10_000} {
		b.Run(fmt.Sprint(ended), func(b *testing.B) {
			n := newEngine(openOn(b, newDisk(), 1))
			transacted(b, n, put("mine"))
			others(b, n, 1000, ended, true)
			pass(b, n, 2000)
			b.ReportAllocs()
			for b.Loop() {
				transacted(b, n, put("again"))
			}
		})
	}
}
