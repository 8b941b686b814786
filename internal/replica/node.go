package replica

import (
	"github.com/peerd/peerd/gossip"
)

// Node is a replica with its neighbours: what a host runs.
type Node struct {
	*Replica
	*gossip.Mesh
}

// NewNode returns a node without neighbours.
func NewNode(r *Replica) *Node { return &Node{Replica: r, Mesh: gossip.NewMesh(r)} }

// Whole reports whether a neighbour has what its context says.
func (n *Node) Whole(id gossip.NeighbourID) bool { return n.Mesh.Whole(id) }

// SetDamaged is Replica.SetDamaged; neighbours are asked anew how they are.
func (n *Node) SetDamaged(why error) {
	n.Replica.SetDamaged(why)
	n.Rebase()
}

// Receive takes a frame from a neighbour into the group. See gossip.Mesh.Receive for its errors.
func (n *Node) Receive(g *Group, from gossip.NeighbourID, frame []byte) error {
	return n.Mesh.Receive(from, frame, g.Apply)
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
