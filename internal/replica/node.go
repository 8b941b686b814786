package replica

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// Node is a replica with its neighbours: what a host runs.
type Node struct {
	*Replica
	*gossip.Mesh
	offered Offered
}

// NewNode returns a node without neighbours.
func NewNode(r *Replica) *Node { return &Node{Replica: r, Mesh: gossip.NewMesh(r)} }

// Whole reports whether a neighbour has what its context says.
func (n *Node) Whole(id gossip.NeighbourID) bool { return n.Mesh.Whole(id) }

// MayDiscard reports whether a neighbour, itself whole, has all that is here, but for what this replica's own
// log has, and all that it must have for what this replica leaves: then nothing is lost with a Discard. After
// a fork it must be on the other branch.
func (n *Node) MayDiscard() bool {
	_, may := n.reliable()
	return may
}

// reliable returns the context of such a neighbour.
func (n *Node) reliable() (known crdt.VersionVector, ok bool) {
	left, healed := n.Leaves()
	for _, id := range n.Neighbours() {
		known := n.Said(id)
		if len(known) == 0 || !n.Whole(id) || !known.Contains(healed) ||
			n.fork.Replica != 0 && !n.Strange(id) {
			continue
		}
		covered := known.Clone()
		for _, b := range left {
			covered.Raise(b.Replica, b.Head.Last) // it is here by other names
		}
		if n.Covers(covered) {
			return known, true
		}
	}
	return nil, false
}

// Discard begins a rebuild, and links again. It ends only when all has come that the neighbour has because of
// which the replica could be discarded.
func (n *Node) Discard() error {
	if known, ok := n.reliable(); ok {
		n.must.Merge(known)
	}
	err := n.Replica.Discard()
	n.Rebase()
	return err
}

// CaughtUp reports whether neighbours have said what they have, and none has what this replica lacks, but
// for those that must heal first. An empty neighbour says nothing to an empty replica.
func (n *Node) CaughtUp() bool {
	greetings := 0
	for _, id := range n.Neighbours() {
		known, greeted := n.Known(id)
		switch {
		case !greeted, n.Strange(id):
		case n.Lacks(known):
			return false
		case len(known) > 0 || n.Rebuilding():
			greetings++
		}
	}
	return greetings > 0
}

// SetDamaged is Replica.SetDamaged; neighbours are asked anew how they are.
func (n *Node) SetDamaged(why error) {
	n.Replica.SetDamaged(why)
	n.Rebase()
}

// Receive takes a frame from a neighbour into the group. See gossip.Mesh.Receive for its errors.
func (n *Node) Receive(g *Group, from gossip.NeighbourID, frame []byte) error {
	return n.Mesh.Receive(from, frame, n.offer(g))
}

// FinishRepair is Replica.FinishRepair; neighbours are told, and what they lack is looked up anew.
func (n *Node) FinishRepair(p *Repair, sync bool) error {
	if err := n.Replica.FinishRepair(p, sync); err != nil {
		return err
	}
	n.Rebase()
	return nil
}

// State returns the digest for the mesh.
func (r *Replica) State() (d gossip.Digest, settled bool) {
	context, root, settled := r.Digest()
	return gossip.Digest{
		Context: gossip.Fingerprint(context),
		Root:    gossip.Fingerprint(root),
	}, settled
}
