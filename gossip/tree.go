package gossip

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// The links over which a replica's deltas travel are a tree, which grows from two rules: who is linked to
// the replica itself has its deltas from there; everyone else from whoever sent one first.

// linked has every other neighbour leave out what a new one writes, and the new one leave out what they
// write: it comes from themselves soonest. So their first writes need not find that out.
func (m *Mesh) linked(n *neighbour) {
	for _, other := range m.neighbours {
		if other.greeted && other.replica != n.replica {
			other.leaveOut(n.replica)
			n.leaveOut(other.replica)
		}
	}
}

// offered is told that a neighbour has a replica's deltas without us. The first who says so is to send them
// on if we are not linked to the replica, and nobody else.
func (m *Mesh) offered(from NeighbourID, n *neighbour, id crdt.ReplicaID) {
	for _, other := range m.neighbours {
		if other.replica == id {
			return
		}
	}
	if source := m.neighbours[m.source[id]]; source != nil && source != n && !source.pruned[id] {
		n.leaveOut(id)
	} else if !n.pruned[id] {
		m.source[id] = from
	}
}

// leaveOut has a neighbour be asked not to send a replica's deltas.
func (n *neighbour) leaveOut(id crdt.ReplicaID) {
	if !n.pruned[id] {
		n.pruned[id], n.prune[id] = true, true
	}
}

// arrived notes who sent a delta that is new here, and passes it on without delay.
func (m *Mesh) arrived(from NeighbourID, d *delta.Delta) {
	m.source[d.Replica] = from
	if m.holds {
		m.hurry(d)
	}
}

// surplus is told that a neighbour sent a replica's delta that was here already. From now on both leave
// that replica's out: each gets them sooner from elsewhere. But what came first may have come from one
// that was asked to leave them out, and will: then the neighbour is the one who goes on sending them.
func (m *Mesh) surplus(n *neighbour, id crdt.ReplicaID) {
	source := m.neighbours[m.source[id]]
	if id == n.replica || n.pruned[id] || source == nil || source == n || source.pruned[id] {
		return
	}
	n.leaveOut(id)
	n.unwanted[id] = true
}

// Hold has own deltas wait, from now on, until Release: many small ones then travel in few frames. One
// that is passed on takes those that wait along, so that none waits twice: deltas wait for what they
// depend on, and what is late on one link makes others late on all of the links behind it.
func (m *Mesh) Hold() { m.holds = true }

// Release sends what waits now.
func (m *Mesh) Release() {
	for _, n := range m.neighbours {
		n.due = true
	}
}

// hurry has a delta go to those that it is passed on to.
func (m *Mesh) hurry(d *delta.Delta) {
	for _, n := range m.neighbours {
		n.due = n.due || n.lacks(d)
	}
}

// lacks reports whether a neighbour is to be sent a delta.
func (n *neighbour) lacks(d *delta.Delta) bool {
	return d.Last() > n.known[d.Replica] && !n.unwanted[d.Replica] && d.Replica != n.replica
}
