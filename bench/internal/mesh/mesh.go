// Package mesh simulates how peerd's dissemination spreads writes among up to thousands of peers:
// package gossip itself, over links of its own and on virtual time, from a seed. A peer here keeps
// deltas and nothing else, and no link breaks. The replica core in whole worlds full of faults is
// package sim of the main module, for few hosts.
package mesh

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Simulation is peers of which one writes.
type Simulation struct {
	Peers   int
	Links   int           // each peer opens those to so many others, chosen as package peer does
	Latency time.Duration // of a frame, one way, on average
	// Loss is the probability that a frame must be sent again. As streams do, the link waits for four
	// latencies then, twice as long each further time, and what follows waits behind it.
	Loss   float64
	Writes int
	Warm   int // writes before those that count: in these the trees grow
	Seed   uint64
}

// Result is what became of the writes that count.
type Result struct {
	All    []time.Duration // of each write, until all have it
	Hops   []int           // of each, links on the longest way
	Copies float64         // received, for each write and peer
}

// tick is how often a mesh is ticked.
const tick = 100 * time.Millisecond

// world is a running simulation.
type world struct {
	Simulation
	chance  *rand.Rand
	now     time.Duration
	events  agenda
	peers   []*peer
	written []time.Duration
	missing []int // peers that lack each write
	result  Result
	copies  int
}

// event is a frame that arrives, or a tick of all peers if it has none.
type event struct {
	at       time.Duration
	number   int // of events at one time, in order
	from, to int
	frame    []byte
}

type agenda struct {
	all    []event
	number int
}

func (a *agenda) Len() int { return len(a.all) }
func (a *agenda) Less(i, j int) bool {
	x, y := &a.all[i], &a.all[j]
	return x.at < y.at || x.at == y.at && x.number < y.number
}
func (a *agenda) Swap(i, j int) { a.all[i], a.all[j] = a.all[j], a.all[i] }
func (a *agenda) Push(e any)    { a.all = append(a.all, e.(event)) }
func (a *agenda) Pop() any {
	e := a.all[len(a.all)-1]
	a.all = a.all[:len(a.all)-1]
	return e
}

// Run runs the simulation.
func (s Simulation) Run() (Result, error) {
	w := &world{Simulation: s, chance: rand.New(rand.NewPCG(s.Seed, 1))}
	for i := range s.Peers {
		w.peers = append(w.peers, newPeer(i))
	}
	w.link()
	if err := w.until(2 * time.Second); err != nil { // all have said hello
		return Result{}, err
	}
	const between = tick
	for n := range s.Warm + s.Writes {
		if n == s.Warm {
			w.copies = 0
		}
		w.written, w.missing = append(w.written, w.now), append(w.missing, s.Peers-1)
		w.result.All, w.result.Hops = append(w.result.All, 0), append(w.result.Hops, 0)
		w.peers[0].write()
		if err := w.sendAll(w.peers[0]); err != nil {
			return Result{}, err
		}
		if err := w.until(w.now + between); err != nil {
			return Result{}, err
		}
	}
	for limit := w.now + time.Minute; slices.Max(w.missing) > 0; {
		if w.now > limit {
			return Result{}, fmt.Errorf("a write has not reached all of %d peers after a minute", s.Peers)
		}
		if err := w.until(w.now + tick); err != nil {
			return Result{}, err
		}
	}
	w.result.All, w.result.Hops = w.result.All[s.Warm:], w.result.Hops[s.Warm:]
	w.result.Copies = float64(w.copies) / float64(s.Writes*(s.Peers-1))
	return w.result, nil
}

// link opens the links: of each pair those that either of the two chose.
func (w *world) link() {
	rank := func(i, j int) uint64 { // the same from both sides
		return rand.NewPCG(w.Seed, uint64(min(i, j))<<32|uint64(max(i, j))).Uint64()
	}
	for i, p := range w.peers {
		others := make([]int, 0, w.Peers)
		ranks := make(map[int]uint64, w.Peers)
		for j := range w.peers {
			if j != i {
				others, ranks[j] = append(others, j), rank(i, j)
			}
		}
		slices.SortFunc(others, func(a, b int) int { return cmp.Compare(ranks[a], ranks[b]) })
		for _, j := range others[:min(w.Links, len(others))] {
			if p.links[j] == nil {
				p.connect(j)
				w.peers[j].connect(i)
			}
		}
	}
	w.push(event{at: tick})
}

func (w *world) push(e event) {
	w.events.number++
	e.number = w.events.number
	heap.Push(&w.events, e)
}

// until lets time pass, and all happen that is due.
func (w *world) until(end time.Duration) error {
	for w.events.all[0].at <= end {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		if e.frame != nil {
			if err := w.receive(e); err != nil {
				return err
			}
			continue
		}
		for _, p := range w.peers {
			p.mesh.Tick(false)
			if err := w.sendAll(p); err != nil {
				return err
			}
		}
		w.push(event{at: w.now + tick})
	}
	w.now = end
	return nil
}

// sendAll has all frames that a peer has for others leave.
func (w *world) sendAll(p *peer) error {
	for _, id := range p.mesh.Neighbours() {
		if err := w.send(p, p.numbers[id]); err != nil {
			return err
		}
	}
	return nil
}

// send has those leave that it has for one.
func (w *world) send(p *peer, to int) error {
	l := p.links[to]
	for {
		frame, err := p.mesh.Next(l.to)
		if frame == nil || err != nil {
			return err
		}
		took := time.Duration((0.8 + 0.4*w.chance.Float64()) * float64(w.Latency))
		for again := 4 * w.Latency; w.chance.Float64() < w.Loss; again *= 2 {
			took += again
		}
		l.free = max(l.free, w.now+took)
		w.push(event{at: l.free, from: p.index, to: to, frame: frame})
	}
}

func (w *world) receive(e event) error {
	p, isNew := w.peers[e.to], false
	err := p.mesh.Receive(p.links[e.from].to, e.frame, func(d *delta.Delta) (gossip.Outcome, error) {
		w.copies++
		switch {
		case d.Last() <= p.seen[d.Replica]:
			return gossip.Known, nil
		case !d.Ready(p.seen):
			return gossip.Early, nil
		}
		p.take(d)
		isNew = true
		n := int(d.First) - 1
		p.hops[n] = w.peers[e.from].hops[n] + 1
		w.missing[n]--
		w.result.All[n], w.result.Hops[n] = w.now-w.written[n], max(w.result.Hops[n], p.hops[n])
		return gossip.Applied, nil
	})
	if err != nil || !isNew {
		return cmp.Or(err, w.send(p, e.from)) // the others have nothing from that before the next tick
	}
	return w.sendAll(p)
}

// peer is one. It is its mesh's core.
type peer struct {
	index   int
	id      crdt.ReplicaID
	mesh    *gossip.Mesh
	links   map[int]*link
	numbers map[gossip.NeighbourID]int // of those that it is linked with
	seen    crdt.VersionVector
	heads   delta.Heads
	log     []*delta.Delta // records are numbered from 1, with a delta each
	hops    map[int]int    // of writes, how many links they crossed
}

// link is one direction of a link.
type link struct {
	to   gossip.NeighbourID
	free time.Duration // when the last frame in it arrives
}

func newPeer(i int) *peer {
	p := &peer{index: i, id: crdt.ReplicaID(i + 1), seen: crdt.VersionVector{}, heads: delta.Heads{}, hops: map[int]int{},
		links: map[int]*link{}, numbers: map[gossip.NeighbourID]int{}}
	p.mesh = gossip.NewMesh(p)
	return p
}

func (p *peer) connect(to int) {
	l := &link{to: gossip.NeighbourID(fmt.Sprint(to))}
	p.links[to], p.numbers[l.to] = l, to
	p.mesh.Connect(l.to)
}

func (p *peer) write() {
	p.take(&delta.Delta{Replica: p.id, First: p.seen[p.id] + 1, Prev: p.heads[p.id], Time: 1, Deps: crdt.VersionVector{},
		Ops: []delta.Op{{Kind: delta.OpPut, Address: dotted.KeyAddress("k").Type('v'), Payload: make([]byte, 64)}}})
}

func (p *peer) take(d *delta.Delta) {
	p.seen[d.Replica], p.heads[d.Replica] = d.Last(), d.Hash()
	p.log = append(p.log, d)
}

// What follows is gossip.Core, of a replica that is whole, never forks, and never ends an id.

// ID returns the id under which the peer writes.
func (p *peer) ID() crdt.ReplicaID { return p.id }

// Whole says that it has what its context says.
func (p *peer) Whole() bool { return true }

// Lacks reports whether it lacks something of a context.
func (p *peer) Lacks(known crdt.VersionVector) bool { return !p.seen.Contains(known) }

// Context returns what it has.
func (p *peer) Context() (crdt.VersionVector, delta.Heads) { return p.seen, p.heads }

// Vector is its context, of which nothing is left out.
func (p *peer) Vector() crdt.VersionVector { return p.seen }

// Tables returns none.
func (p *peer) Tables() []delta.Table { return nil }

// Expand returns what is in its long form already.
func (p *peer) Expand(v crdt.VersionVector, heads delta.Heads, _ []delta.Table) (crdt.VersionVector, delta.Heads) {
	return v, heads
}

// State returns no digest: equal contexts are equal data here.
func (p *peer) State() (d gossip.Digest, settled bool) { return d, false }

// Heard finds nothing different.
func (p *peer) Heard(crdt.VersionVector, delta.Heads) gossip.Differences { return gossip.Differences{} }

// Confirm does nothing.
func (p *peer) Confirm(gossip.NeighbourID, crdt.VersionVector, delta.Heads, bool) {}

// Forget does nothing.
func (p *peer) Forget(gossip.NeighbourID) {}

// Forked is never called.
func (p *peer) Forked(crdt.ReplicaID) {}

// Agrees says so.
func (p *peer) Agrees(crdt.ReplicaID, uint64, delta.Hash) bool { return true }

// Chain is never asked for.
func (p *peer) Chain(id crdt.ReplicaID, _ uint64) gossip.Search[gossip.Chain] {
	return func() (gossip.Chain, bool, error) { return gossip.Chain{Replica: id}, true, nil }
}

// Compare is never asked for.
func (p *peer) Compare(gossip.NeighbourID, gossip.Chain) gossip.Search[gossip.Comparison] {
	return func() (found gossip.Comparison, done bool, err error) { return found, true, nil }
}

// LogStart returns the first record that somebody lacks.
func (p *peer) LogStart(theirs crdt.VersionVector) (uint64, bool) {
	for i, d := range p.log {
		if d.Last() > theirs[d.Replica] {
			return uint64(i) + 1, true
		}
	}
	return uint64(len(p.log)) + 1, true
}

// LogRead reads records.
func (p *peer) LogRead(record uint64, most int, fn func(*delta.Delta) bool) (uint64, bool, error) {
	for ; record <= uint64(len(p.log)) && most > 0 && fn(p.log[record-1]); most-- {
		record++
	}
	return record, true, nil
}
