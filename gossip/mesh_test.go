package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// fakeCore is a replica that keeps deltas and nothing else.
type fakeCore struct {
	tables []delta.Table
	id     crdt.ReplicaID
	seen   crdt.VersionVector
	heads  delta.Heads
	log    []*delta.Delta // records are numbered from 1, with a delta each
	cut    uint64         // records up to this one are gone
	rotten uint64         // when this one is read they are, up to it; zero if none is
	root   uint64
	heard  int

	forked []crdt.ReplicaID // that it finds different at all others
	unsure bool             // its log does not reach to the fork
	slow   int              // steps that a search takes beside the last
}

func newFake(id crdt.ReplicaID) *fakeCore {
	return &fakeCore{id: id, seen: crdt.VersionVector{}, heads: delta.Heads{}}
}

func (c *fakeCore) Vector() crdt.VersionVector { return c.seen }
func (c *fakeCore) Tables() []delta.Table      { return c.tables }

func (c *fakeCore) Expand(v crdt.VersionVector, heads delta.Heads, more []delta.Table) (
	crdt.VersionVector, delta.Heads) {
	var b delta.Bases
	for _, t := range append(slices.Clone(c.tables), more...) {
		b.Hold(t)
	}
	return b.Expand(v, heads)
}

func (c *fakeCore) Whole() bool                                { return true }
func (c *fakeCore) ID() crdt.ReplicaID                         { return c.id }
func (c *fakeCore) Context() (crdt.VersionVector, delta.Heads) { return c.seen, c.heads }

func (c *fakeCore) State() (Digest, bool) {
	var sum uint64
	for id, n := range c.seen {
		sum += uint64(id) * 1000003 * n
	}
	return Digest{Context: sum, Root: sum + c.root}, true
}

func (c *fakeCore) Heard(crdt.VersionVector, delta.Heads) Differences {
	c.heard++
	return Differences{Forked: c.forked}
}

func (c *fakeCore) Confirm(NeighbourID, crdt.VersionVector, delta.Heads, bool) {}
func (c *fakeCore) Forget(NeighbourID)                                         {}
func (c *fakeCore) Forked(crdt.ReplicaID)                                      {}
func (c *fakeCore) Agrees(crdt.ReplicaID, uint64, delta.Hash) bool {
	return len(c.forked) == 0 && !c.unsure
}
func (c *fakeCore) Chain(id crdt.ReplicaID, _ uint64) Search[Chain] {
	return searching(c.slow, Chain{Replica: id})
}
func (c *fakeCore) Compare(NeighbourID, Chain) Search[Comparison] {
	return searching(c.slow, Comparison{Last: 3})
}
func (c *fakeCore) Lacks(known crdt.VersionVector) bool { return !c.seen.Contains(known) }

func searching[T any](steps int, found T) Search[T] {
	return func() (T, bool, error) {
		steps--
		return found, steps < 0, nil
	}
}

func (c *fakeCore) LogStart(theirs crdt.VersionVector) (uint64, bool) {
	for i, d := range c.log {
		if d.Last() > theirs[d.Replica] {
			return uint64(i) + 1, uint64(i)+1 > c.cut
		}
	}
	return uint64(len(c.log)) + 1, true
}

func (c *fakeCore) LogRead(record uint64, maxRecords int, fn func(*delta.Delta) bool) (
	uint64, bool, error) {
	if record <= c.cut {
		return record, false, nil
	}
	for ; record <= uint64(len(c.log)) && maxRecords > 0; record, maxRecords = record+1, maxRecords-1 {
		if record == c.rotten {
			c.cut, c.rotten = record, 0
			return record, false, nil
		}
		if !fn(c.log[record-1]) {
			break
		}
	}
	return record, true, nil
}

func (c *fakeCore) write(n int) {
	for range n {
		d := &delta.Delta{
			Replica: c.id, First: c.seen[c.id] + 1, Prev: c.heads[c.id], Time: 1,
			Deps: crdt.VersionVector{},
			Ops:  []delta.Op{{Kind: delta.OpPut, Address: dotted.KeyAddress("k").Type('v'), Payload: []byte{1}}},
		}
		for id, n := range c.seen {
			if id != c.id {
				d.Deps[id] = n
			}
		}
		c.take(d)
	}
}

func (c *fakeCore) take(d *delta.Delta) {
	c.seen[d.Replica], c.heads[d.Replica] = d.Last(), d.Hash()
	c.log = append(c.log, d)
}

func (c *fakeCore) apply(d *delta.Delta) (Outcome, error) {
	switch {
	case d.Last() <= c.seen[d.Replica]:
		return Known, nil
	case !d.Ready(c.seen):
		return Early, nil
	}
	c.take(d)
	return Applied, nil
}

// net is meshes with links between all that are connected. Frames arrive in order.
type net struct {
	t      *testing.T
	cores  []*fakeCore
	meshes []*Mesh
	frames map[[2]int][][]byte
	sent   map[kind]int
	deltas int // carried by frames
}

func newNet(t *testing.T, n int) *net {
	w := &net{t: t, frames: map[[2]int][][]byte{}, sent: map[kind]int{}}
	for i := range n {
		c := newFake(crdt.ReplicaID(i + 1))
		w.cores = append(w.cores, c)
		w.meshes = append(w.meshes, NewMesh(c))
	}
	return w
}

func id(i int) NeighbourID { return NeighbourID(fmt.Sprint(i)) }

func (w *net) connect(i, j int) {
	w.meshes[i].Connect(id(j))
	w.meshes[j].Connect(id(i))
	w.frames[[2]int{i, j}], w.frames[[2]int{j, i}] = nil, nil
}

func (w *net) connectAll() {
	for i := range w.cores {
		for j := range i {
			w.connect(i, j)
		}
	}
}

// run moves frames until none is left; it returns whether there were any.
func (w *net) run() (moved bool) {
	w.t.Helper()
	for busy := true; busy; {
		busy = false
		for i, m := range w.meshes {
			for _, to := range m.Neighbours() {
				data, err := m.Next(to)
				if err != nil {
					w.t.Fatal(err)
				}
				if data == nil {
					busy = busy || m.Seeking(to)
					continue
				}
				busy, moved = true, true
				w.sent[kind(data[0])]++
				w.deliver(i, to, data)
			}
		}
	}
	return moved
}

func (w *net) deliver(from int, to NeighbourID, data []byte) {
	w.t.Helper()
	var j int
	_, _ = fmt.Sscan(string(to), &j)
	apply := func(d *delta.Delta) (Outcome, error) {
		w.deltas++
		return w.cores[j].apply(d)
	}
	err := w.meshes[j].Receive(id(from), data, apply)
	for err == nil && w.meshes[j].Unfinished(id(from)) {
		err = w.meshes[j].Resume(id(from), apply)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *net) tick(n int) {
	for range n {
		for _, m := range w.meshes {
			m.Tick(false)
		}
		w.run()
	}
}

func (w *net) mustAgree() {
	w.t.Helper()
	for i, c := range w.cores {
		if !c.seen.Equal(w.cores[0].seen) {
			w.t.Fatalf("peer %d has %v, peer 0 has %v", i, c.seen, w.cores[0].seen)
		}
	}
}

func TestNeighboursExchangeWhatTheyLackWhenTheyConnect(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].write(3)
	w.cores[1].write(5)
	w.connect(0, 1)
	w.run()
	w.mustAgree()
	if w.deltas != 8 {
		t.Errorf("%d deltas were sent, 8 were missing", w.deltas)
	}
}

func TestAFullMeshSendsEachDeltaToEachPeerOnce(t *testing.T) {
	const peers = 6
	w := newNet(t, peers)
	w.connectAll()
	w.run()
	const writes = 20
	for i := range writes {
		w.cores[i%peers].write(1)
		w.run()
		w.tick(1)
	}
	w.mustAgree()
	if floor := writes * (peers - 1); w.deltas != floor {
		t.Errorf("%d copies were sent of %d deltas to %d others: want %d", w.deltas, writes, peers-1, floor)
	}
}

func TestALostLinkIsMadeUpForByAnother(t *testing.T) {
	w := newNet(t, 3)
	w.connectAll()
	for range 3 {
		for _, c := range w.cores {
			c.write(1)
		}
		w.run()
		w.tick(3)
	}
	w.meshes[0].Disconnect(id(1))
	w.meshes[1].Disconnect(id(0))
	w.cores[0].write(1)
	w.run()
	w.tick(tellAlone + patience)
	w.mustAgree()
}

func TestADeltaThatOvertookAnotherWaitsForIt(t *testing.T) {
	w := newNet(t, 3)
	w.connectAll()
	w.run()
	w.cores[0].write(1)
	first := w.cores[0].log[0]
	w.cores[1].take(first)
	w.cores[1].write(1)
	w.deliver(1, id(2), encodeDeltas(packed(w.cores[1].log[1]), nil, nil))
	if n := w.meshes[2].Waiting(); n != 1 {
		t.Fatalf("%d deltas wait, want 1", n)
	}
	w.deliver(0, id(2), encodeDeltas(packed(first), nil, nil))
	if n := w.meshes[2].Waiting(); n != 0 || w.cores[2].seen[2] != 1 {
		t.Fatalf("%d deltas wait, and the context is %v", n, w.cores[2].seen)
	}
}

// TestADeltaThatWaitedForARepairIsAppliedAndPassedOn has only host 2 hold a delta, whose writer is gone, and
// what it depends on come by a repair.
func TestADeltaThatWaitedForARepairIsAppliedAndPassedOn(t *testing.T) {
	w := newNet(t, 4)
	w.connect(1, 2)
	w.connect(2, 3)
	w.run()
	w.cores[0].write(1)
	first := w.cores[0].log[0]
	w.cores[1].take(first)
	w.cores[1].write(1)
	w.deliver(1, id(2), encodeDeltas(packed(w.cores[1].log[1]), nil, nil))
	w.meshes[2].Disconnect(id(1))
	w.meshes[1].Disconnect(id(2))
	for _, i := range []int{2, 3} {
		w.cores[i].take(first)
		w.meshes[i].Rebase()
	}
	w.run()
	if n := w.meshes[2].Waiting(); n != 0 || w.cores[3].seen[2] != 1 {
		t.Fatalf("%d deltas wait, and its neighbour's context is %v", n, w.cores[3].seen)
	}
}

func TestWaitingDeltasAreBounded(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	other := newFake(9)
	other.write(2 * MaxWaiting)
	for _, d := range other.log[1:] {
		w.deliver(0, id(1), encodeDeltas(packed(d), nil, nil))
	}
	if n := w.meshes[1].Waiting(); n != MaxWaiting {
		t.Errorf("%d deltas wait, the limit is %d", n, MaxWaiting)
	}
}

func TestWhoeverTheLogDoesNotReachIsToldSo(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].write(10)
	w.cores[0].cut = 5
	w.connect(0, 1)
	w.run()
	events := w.meshes[1].Events()
	if !slices.Contains(events, Event{Behind, id(0)}) {
		t.Fatalf("events: %v", events)
	}
	if w.deltas != 0 {
		t.Errorf("%d deltas were sent that cannot be applied", w.deltas)
	}
	for _, d := range w.cores[0].log { // the repair
		w.cores[1].take(d)
	}
	w.meshes[1].Rebase()
	w.run()
	w.cores[0].write(1)
	w.run()
	w.mustAgree()
}

func TestOneContextOverDifferentCellsIsReported(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].write(1)
	w.connect(0, 1)
	w.run()
	w.cores[1].root = 1
	w.meshes[0].SendDigest(rand.New(rand.NewPCG(1, 1)))
	w.run()
	if events := w.meshes[1].Events(); !slices.Contains(events, Event{Damaged, id(0)}) {
		t.Errorf("events: %v", events)
	}
}

// TestAnOldWordOfANeighbourDoesNotCount has a neighbour's hello on the way while this replica finds itself damaged:
// the neighbour may give up what it holds because of this one.
func TestAnOldWordOfANeighbourDoesNotCount(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	w.meshes[1].neighbours["0"].hello = true
	old, err := w.meshes[1].Next("0")
	if err != nil {
		t.Fatal(err)
	}
	w.meshes[0].Rebase()
	w.deliver(1, "0", old)
	if w.meshes[0].Whole("1") {
		t.Error("what the neighbour said before it heard of that counts")
	}
	w.run()
	if !w.meshes[0].Whole("1") {
		t.Error("what it says then does not count")
	}
}

func TestAMessageBeforeHelloEndsTheLink(t *testing.T) {
	m := NewMesh(newFake(1))
	m.Connect("x")
	err := m.Receive("x", encodeHave(crdt.VersionVector{1: 1}, nil), nil)
	if !errors.Is(err, ErrFrame) {
		t.Errorf("error: %v", err)
	}
}

func TestAFrameOfAnUnknownKindIsPassedOver(t *testing.T) {
	m := NewMesh(newFake(1))
	m.Connect("x")
	for _, frame := range [][]byte{hello{version: protocolVersion, replica: 2}.encode(), {99, 1, 2}} {
		if err := m.Receive("x", frame, nil); err != nil {
			t.Errorf("%x: %v", frame, err)
		}
	}
}

func TestALinkThatBrokeAnywhereIsTakenUpAgain(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newNet(t, 4)
		for range 300 {
			i, j := rng.IntN(4), rng.IntN(4)
			switch rng.IntN(6) {
			case 0:
				w.cores[i].write(1 + rng.IntN(3))
			case 1:
				if i != j {
					w.connect(i, j)
				}
			case 2:
				w.meshes[i].Tick(false)
			default: // one frame, delivered or lost together with its link
				data, err := w.meshes[i].Next(id(j))
				if err != nil {
					t.Fatal(err)
				}
				if data == nil || w.meshes[j].neighbours[id(i)] == nil {
					continue
				}
				if rng.IntN(10) == 0 {
					w.connect(i, j)
					continue
				}
				w.deliver(i, id(j), data)
			}
		}
		w.connectAll()
		w.run()
		w.tick(2 * askEvery)
		for i, c := range w.cores {
			if !c.seen.Equal(w.cores[0].seen) {
				t.Fatalf("seed %d: peer %d has %v, peer 0 has %v (replay: the seed is the loop's variable)",
					seed, i, c.seen, w.cores[0].seen)
			}
		}
	}
}

// TestWhatIsReadBeforeARottenRecordIsSent: it is taken for sent, and the neighbour may lack nothing else.
func TestWhatIsReadBeforeARottenRecordIsSent(t *testing.T) {
	w := newNet(t, 2)
	w.cores[0].write(1)
	w.cores[1].write(1)
	w.cores[0].take(w.cores[1].log[0])
	w.cores[0].rotten = 2
	w.connect(0, 1)
	w.run()
	w.mustAgree()
}
