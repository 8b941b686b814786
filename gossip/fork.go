package gossip

import (
	"maps"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// A replica's deltas are chained by hashes. An image of running memory that is started again issues the dots of
// its replica a second time, and the chain forks: a dot then names two deltas, and a removal that names it would
// remove something else on the other side. So two hosts whose chains of any replica differ exchange nothing, in
// quarantine, and both name it, until an operator ends one side. Whoever finds a fork tells the other (message
// Fork), and asks for its chain to find where they part (Ask, Chain).

// Fork is a replica whose deltas are others at some hosts than here.
type Fork struct {
	Replica crdt.ReplicaID
	Parts   uint64        // the last dot that both sides have in common, as far as is known
	Here    []NeighbourID // neighbours whose chain is the one here, beyond that dot
	There   []NeighbourID // hosts that have the other one, or another
}

// parting is a host's fork from here, of one replica.
type parting struct {
	last uint64 // dot that both have in common, as far as is known
}

// Limits of what is remembered of forks: of hosts, and of replicas at one host.
const (
	maxApart  = 1024
	maxForked = 64
)

// Quarantined reports whether nothing is exchanged with a host, because a replica's chain there is another.
func (m *Mesh) Quarantined(id NeighbourID) bool { return len(m.apart[id]) > 0 }

// Forks returns the replicas of which hosts have other deltas, in order.
func (m *Mesh) Forks() (forks []Fork) {
	if len(m.apart) == 0 {
		return nil // as nearly always, and it is asked for at each step
	}
	there := map[crdt.ReplicaID]*Fork{}
	for _, id := range slices.Sorted(maps.Keys(m.apart)) {
		for r, p := range m.apart[id] {
			if there[r] == nil {
				there[r] = &Fork{Replica: r}
			}
			there[r].There = append(there[r].There, id)
			there[r].Parts = max(there[r].Parts, p.last)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(there)) {
		f := there[r]
		for _, id := range m.Neighbours() {
			if n := m.neighbours[id]; !slices.Contains(f.There, id) && n.said[r] > f.Parts {
				f.Here = append(f.Here, id)
			}
		}
		forks = append(forks, *f)
	}
	return forks
}

// Estrange puts a host in quarantine, because of replicas whose chains there are others than here.
func (m *Mesh) Estrange(id NeighbourID, replicas ...crdt.ReplicaID) {
	n := m.neighbours[id]
	if n == nil || len(replicas) == 0 {
		return
	}
	for _, r := range replicas {
		if m.apart[id][r] != nil || len(m.apart[id]) == maxForked {
			continue
		}
		if m.apart[id] == nil {
			if len(m.apart) == maxApart {
				return
			}
			m.apart[id] = map[crdt.ReplicaID]*parting{}
		}
		m.apart[id][r] = &parting{}
		n.tellFork, n.ask[r] = true, true
		m.core.Forked(r)
		m.events = append(m.events, Event{Forked, id})
		m.core.Confirm(id, n.stated, n.heads, true)
	}
	if n.partial != nil {
		n.partial.drop()
	}
	m.forgetWaiting(id)
}

// compare is told what a neighbour says that it has, with the hashes of the heads.
func (m *Mesh) compare(id NeighbourID, n *neighbour, seen crdt.VersionVector, heads delta.Heads) {
	for r, count := range seen {
		if count >= n.stated[r] {
			n.stated[r], n.heads[r] = count, heads[r]
		}
	}
	d := m.core.Heard(seen, heads)
	m.Estrange(id, d.Forked...)
	for _, r := range d.Unsure {
		n.ask[r] = true
	}
	m.core.Confirm(id, seen, heads, m.Quarantined(id))
}

// reconcile is told of a neighbour's hello, which it sends anew if it may have lost what it had. A quarantine ends if
// its reason is gone: the host was emptied, or its chain is the beginning of the one here. The other way round only
// the chains tell: they are asked for.
func (m *Mesh) reconcile(id NeighbourID, n *neighbour, h hello, anew bool) {
	for r, p := range m.apart[id] {
		emptied := h.seen[r] == 0 && len(h.seen) >= h.total
		if !m.unissued(n, r, h.seen[r]) && (emptied || m.core.Agrees(r, h.seen[r], h.heads[r])) {
			m.rejoin(id, n, r)
			continue
		}
		if anew {
			p.last = 0
		}
		if anew || h.answer {
			n.ask[r] = true
		}
	}
}

// unissued reports whether one of two, who writes under an id, never issued dots of it that the other one has.
func (m *Mesh) unissued(n *neighbour, r crdt.ReplicaID, theirs uint64) bool {
	seen, _ := m.core.Context()
	return r == n.replica && theirs < seen[r] || r == m.core.ID() && theirs > seen[r]
}

// agrees reports whether a neighbour's chain, which does not fork from the one here as far as is known, is known not
// to: one is the beginning of the other.
func (m *Mesh) agrees(n *neighbour, c Chain) bool {
	seen, heads := m.core.Context()
	r := c.Replica
	head := ChainLink{n.stated[r], n.heads[r]}
	if i := len(c.Links) - 1; i >= 0 && c.Links[i].Last > head.Last {
		head = c.Links[i]
	}
	return !m.unissued(n, r, head.Last) &&
		(slices.Contains(c.Links, ChainLink{seen[r], heads[r]}) || m.core.Agrees(r, head.Last, head.Hash))
}

// rejoin ends a host's quarantine, as far as it is because of one replica. Neither side has taken what the other may
// have sent meanwhile, so both say hello again.
func (m *Mesh) rejoin(id NeighbourID, n *neighbour, r crdt.ReplicaID) {
	if delete(m.apart[id], r); len(m.apart[id]) > 0 {
		return
	}
	delete(m.apart, id)
	n.hello, n.answer, n.tellFork = true, true, false
	m.core.Confirm(id, n.stated, n.heads, false)
}

// GiveUp ends the quarantine of hosts that will not come back. That of a neighbour goes on: it
// would send what it has.
func (m *Mesh) GiveUp(gone func(NeighbourID) bool) {
	maps.DeleteFunc(m.apart, func(id NeighbourID, _ map[crdt.ReplicaID]*parting) bool {
		return m.neighbours[id] == nil && gone(id)
	})
}

// nextFork returns the news that the chains of some replicas are others here than at a neighbour.
func (m *Mesh) nextFork(id NeighbourID, n *neighbour) []byte {
	if !n.tellFork {
		return nil
	}
	n.tellFork = false
	return encodeReplicas(kindFork, slices.Sorted(maps.Keys(m.apart[id])))
}

// maxAsked bounds the chains that a neighbour may have asked for and not got.
const maxAsked = 16

// nextChain returns a question for a chain, or an answer to one.
func (m *Mesh) nextChain(n *neighbour) ([]byte, error) {
	if r, ok := least(n.ask); ok {
		delete(n.ask, r)
		if !n.asked[r] { // the answer to a second question would be one that nobody asked for
			n.asked[r] = true
			return encodeNumber(kindAsk, uint64(r)), nil
		}
	}
	if n.finding == nil {
		r, ok := least(n.chain)
		if !ok {
			return nil, nil
		}
		delete(n.chain, r)
		n.finding = m.core.Chain(r, n.known[r])
	}
	c, done, err := n.finding()
	if n.seeking = !done; err != nil || !done {
		return nil, err
	}
	n.finding = nil
	return encodeChain(c), nil
}

// least returns the first member of a set.
func least(set map[crdt.ReplicaID]bool) (id crdt.ReplicaID, ok bool) {
	for r := range set {
		if !ok || r < id {
			id, ok = r, true
		}
	}
	return id, ok
}

func (m *Mesh) receiveChain(id NeighbourID, n *neighbour, body []byte) error {
	c, err := decodeChain(body)
	if err != nil {
		return err
	}
	if !n.asked[c.Replica] {
		return errUnasked
	}
	delete(n.asked, c.Replica)
	n.chained, n.comparing = c, m.core.Compare(id, c)
	return m.compareOn(id, n)
}

// compareOn goes on comparing a neighbour's chain with the one here.
func (m *Mesh) compareOn(id NeighbourID, n *neighbour) error {
	found, done, err := n.comparing()
	if err != nil || !done {
		return err
	}
	c := n.chained
	n.chained, n.comparing = Chain{}, nil
	switch {
	case found.Forks:
		m.Estrange(id, c.Replica)
	case m.apart[id][c.Replica] != nil && m.agrees(n, c):
		m.rejoin(id, n, c.Replica)
	}
	if p := m.apart[id][c.Replica]; p != nil {
		p.last = max(p.last, found.Last)
	}
	return nil
}
