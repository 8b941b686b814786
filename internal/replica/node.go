package replica

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// Node is a replica with its neighbours: what a host runs.
type Node struct {
	*Replica
	*gossip.Mesh
	health
	offered Offered
}

// NewNode returns a node without neighbours.
func NewNode(r *Replica) *Node {
	return &Node{Replica: r, Mesh: gossip.NewMesh(r), health: health{caughtUp: len(r.seen) > 0}}
}

// Whole reports whether a neighbour has what its context says.
func (n *Node) Whole(id gossip.NeighbourID) bool { return n.Mesh.Whole(id) }

// reliable returns a neighbour because of which the replica may be discarded, and its context. See DiscardDue.
func (n *Node) reliable() (id gossip.NeighbourID, known crdt.VersionVector) {
	left, healed := n.Leaves()
	for _, id := range n.Neighbours() {
		known := n.Said(id)
		if len(known) == 0 || !n.Whole(id) || !known.Contains(healed) || !n.differsOnlyIn(id, left) {
			continue
		}
		covered := known.Clone()
		for _, b := range left {
			covered.Raise(b.Replica, b.Head.Last) // it is here by other names
		}
		if n.Covers(covered) {
			return id, known
		}
	}
	return "", nil
}

// differsOnlyIn reports whether a neighbour has other deltas only of replicas whose branches are left, and of this
// store's own that forked. Of any other replica, what is here would be lost with a Discard.
func (n *Node) differsOnlyIn(id gossip.NeighbourID, left []gossip.BranchName) bool {
	differs := n.Differs(id)
	for _, d := range differs {
		if !slices.ContainsFunc(left, func(b gossip.BranchName) bool { return b.Replica == d }) {
			return false
		}
	}
	return n.fork.Replica == 0 || slices.Contains(differs, n.fork.Replica)
}

// Receive takes a frame from a neighbour into the group, until that is full. See gossip.Mesh.Receive for its errors.
func (n *Node) Receive(g *Group, from gossip.NeighbourID, frame []byte) error {
	return n.Mesh.Receive(from, frame, n.offer(g))
}

// Resume goes on in another group with a frame for which the last one had no room. See Mesh.Unfinished.
func (n *Node) Resume(g *Group, from gossip.NeighbourID) error {
	return n.Mesh.Resume(from, n.offer(g))
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
