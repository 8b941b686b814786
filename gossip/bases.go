package gossip

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// A hello has the context in its short form (see delta.Bases). Who lacks some of the bases by which it leaves replicas
// out cannot read it: a neighbour would seem to lack what it left out, and a fork would go unnoticed. So a hello says
// how many replicas it stands for, with the sum of their heads, and those bases that the other does not say that it has follow it, before any
// delta. Until they are here nothing is sent and nothing compared.

// readAfter is for how many ticks a hello waits for bases; then it is taken as far as it can be read.
const readAfter = 50

// maxTold bounds the bases that a neighbour sends with one hello.
const maxTold = 16 * delta.MaxReplicas

// read takes a neighbour's hello, if it is known what that stands for, or anyway.
func (m *Mesh) read(id NeighbourID, n *neighbour, anyway bool) {
	h := *n.unread
	h.seen, h.heads = m.core.Expand(h.seen, h.heads, n.tables)
	n.known, n.said = h.seen, h.seen.Clone()
	if !anyway && (len(h.seen) < h.total || sumOf(h.seen, h.heads) != h.sum) {
		return
	}
	n.unread = nil
	m.take(id, n, h)
	n.tables = nil
}

// sumOf returns the sum of a context's heads. Those are hashes, so it is another of another context: also where bases that
// are known here say something else of a replica whose chain forks.
func sumOf(seen crdt.VersionVector, heads delta.Heads) (sum uint64) {
	for id := range seen {
		sum += uint64(heads[id])
	}
	return sum
}

// readAnyway has a tick pass for a hello that waits for bases.
func (m *Mesh) readAnyway(id NeighbourID, n *neighbour) {
	if n.unread == nil {
		return
	}
	if n.waited++; n.waited > readAfter {
		m.read(id, n, true)
	}
}

func (m *Mesh) receiveBases(id NeighbourID, n *neighbour, body []byte) error {
	tables, err := decodeBases(body)
	if err != nil || n.unread == nil {
		return err
	}
	n.tables = append(n.tables, tables...)
	bases := 0
	for _, t := range n.tables {
		bases += len(t.Bases)
	}
	if bases > maxTold {
		return fmt.Errorf("%w: more than %d bases", ErrFrame, maxTold)
	}
	m.read(id, n, false)
	return nil
}

// nextBases returns bases that a neighbour lacks, by its own word, after a hello was sent to it.
func (m *Mesh) nextBases(n *neighbour) []byte {
	if !n.tellBases {
		return nil
	}
	var some []delta.Table
	size := 0
	tables := m.core.Tables()
	for ; n.tellable < len(tables) && size < frameSize; n.tellable++ {
		if t := tables[n.tellable]; !n.said.Has(t.Dot) {
			some = append(some, t)
			size += maxEntry * (len(t.Bases) + 1)
		}
	}
	n.tellBases = n.tellable < len(tables)
	if len(some) == 0 {
		return nil
	}
	return encodeBases(some)
}

// distinct returns of what a neighbour has what may differ from what is here: not what both leave out, by the same
// bases and with the same heads.
func (m *Mesh) distinct(n *neighbour, full crdt.VersionVector, heads delta.Heads) (crdt.VersionVector, delta.Heads) {
	seen, of := crdt.VersionVector{}, delta.Heads{}
	add := func(id crdt.ReplicaID) {
		if full[id] > 0 {
			seen[id], of[id] = full[id], heads[id]
		}
	}
	for id := range n.listed {
		add(id)
	}
	for id := range m.core.Vector() {
		add(id)
	}
	for _, t := range n.tables {
		for _, b := range t.Bases {
			add(b.Replica)
		}
	}
	return seen, of
}

// Writes reports whether a neighbour writes under an id, as far as is known.
func (m *Mesh) Writes(id crdt.ReplicaID) bool {
	for _, n := range m.neighbours {
		if n.greeted && n.replica == id {
			return true
		}
	}
	return false
}
