package gossip

import (
	"cmp"
	"maps"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
)

// Hosts with different chains of a replica's deltas exchange nothing before the store that forked has healed,
// and for that it must meet a host on the other branch. It may have links to none: where not all are linked to
// all, it was perhaps linked to others when it wrote the other branch. So whoever notices the rift tells
// everyone, over any number of hops, and the store that it is about links to both hosts (Event Meet).

// rift says that two hosts have different chains of a replica's deltas.
type rift struct {
	replica crdt.ReplicaID
	hosts   [2]NeighbourID // in order; an empty name is this host's own
}

const (
	maxRifts       = 64  // that are remembered
	riftTicks      = 600 // for how long since it was seen: a minute
	MaxNeighbourID = 128 // bytes
	// riftAgain is after how many ticks strange neighbours say hello again, and tell anew of the rift that
	// is still there: then all have forgotten it, also those who heard it ten seconds late.
	riftAgain = riftTicks + 100
)

// newRift puts the hosts in order.
func newRift(id crdt.ReplicaID, a, b NeighbourID) rift {
	return rift{id, [2]NeighbourID{min(a, b), max(a, b)}}
}

func (r rift) compare(o rift) int {
	return cmp.Or(cmp.Compare(r.replica, o.replica), slices.Compare(r.hosts[:], o.hosts[:]))
}

// noticeRift has everyone told of a rift. It is remembered for some ticks: riftTicks by who sees it, and by who
// hears of it for as long as by who told. Were that longer, the rift would be told for ever.
func (m *Mesh) noticeRift(r rift, ticks int) {
	if ticks == 0 || m.rifts[r] > 0 || len(m.rifts) == maxRifts {
		return
	}
	m.rifts[r] = ticks
	if !m.core.Owns(r.replica) {
		return
	}
	for _, h := range r.hosts {
		if h != "" && m.neighbours[h] == nil {
			m.events = append(m.events, Event{Meet, h})
		}
	}
}

// forgetRifts is due with each tick.
func (m *Mesh) forgetRifts() {
	for r := range m.rifts {
		if m.rifts[r]--; m.rifts[r] == 0 {
			m.forgetRift(r)
		}
	}
}

// healedRifts forgets those of a replica of which a branch was healed. If another is still there, the hosts
// that are on it say hello again.
func (m *Mesh) healedRifts(id crdt.ReplicaID) {
	for r := range m.rifts {
		if r.replica == id {
			m.forgetRift(r)
		}
	}
}

func (m *Mesh) forgetRift(r rift) {
	delete(m.rifts, r)
	for _, n := range m.neighbours {
		delete(n.rifts, r)
	}
}

// nextRift returns a rift that the neighbour was not told of.
func (m *Mesh) nextRift(n *neighbour) []byte {
	if len(n.rifts) == len(m.rifts) {
		return nil
	}
	for _, r := range slices.SortedFunc(maps.Keys(m.rifts), rift.compare) {
		if !n.rifts[r] {
			n.rifts[r] = true
			return encodeRift(r, m.rifts[r])
		}
	}
	return nil
}

func (m *Mesh) receiveRift(from NeighbourID, n *neighbour, body []byte) error {
	r, ticks, err := decodeRift(body)
	if err != nil {
		return err
	}
	if r.hosts[0] == "" {
		r = newRift(r.replica, from, r.hosts[1])
	}
	m.noticeRift(r, ticks)
	if m.rifts[r] > 0 {
		n.rifts[r] = true
	}
	return nil
}

// The sender's own name is left empty: whoever hears it from the host itself knows that.
func encodeRift(r rift, ticks int) []byte {
	return frame(kindRift, func(w *wire.Writer) {
		w.Array(4)
		w.Uint(uint64(r.replica))
		w.String(string(r.hosts[0]))
		w.String(string(r.hosts[1]))
		w.Uint(uint64(ticks))
	})
}

// decodeRift returns a rift, and for how long it is to be remembered: riftTicks at most.
func decodeRift(body []byte) (r rift, ticks int, err error) {
	err = decode(body, 4, func(rd *wire.Reader) {
		id := crdt.ReplicaID(rd.Uint())
		r = newRift(id, NeighbourID(rd.String(MaxNeighbourID)), NeighbourID(rd.String(MaxNeighbourID)))
		ticks = int(min(rd.Uint(), riftTicks))
	})
	return r, ticks, err
}
