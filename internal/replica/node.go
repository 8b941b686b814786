package replica

import (
	"cmp"
	"errors"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
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
	for _, id := range n.Neighbours() {
		known := n.Said(id)
		if len(known) > 0 && n.Whole(id) && !n.Quarantined(id) && n.Covers(known) {
			return id, known
		}
	}
	return "", nil
}

// BeginGathered is BeginRepairFrom with what was gathered. It returns ErrBusy if the replica was discarded meanwhile: it has
// no longer what the source left out.
func (n *Node) BeginGathered(id gossip.NeighbourID, g *antientropy.Gathering, target crdt.VersionVector,
	heads delta.Heads) (*Repair, error) {
	if n.Lacks(g.Held()) {
		return nil, ErrBusy
	}
	return n.BeginRepairFrom(id, target, heads, g.Tables()...)
}

// BeginRepairFrom is Replica.BeginRepair with a neighbour's context. If it returns ErrForked the neighbour is in
// quarantine.
func (n *Node) BeginRepairFrom(id gossip.NeighbourID, target crdt.VersionVector, heads delta.Heads,
	bases ...delta.Table) (*Repair, error) {
	if n.Quarantined(id) {
		return nil, ErrForked
	}
	p, err := n.BeginRepair(target, heads, bases...)
	switch {
	case err == nil:
		p.source = id
	case errors.Is(err, ErrForked):
		n.Estrange(id, n.Heard(target, heads).Forked...)
	}
	return p, err
}

// PinFor is Replica.Pin for a neighbour's repair. It returns ErrForked if the neighbour is in quarantine.
func (n *Node) PinFor(id gossip.NeighbourID) (*Pinned, error) {
	if n.Quarantined(id) {
		return nil, ErrForked
	}
	return n.Pin()
}

// Receive takes a frame from a neighbour into the group, until that is full. See gossip.Mesh.Receive for its errors.
func (n *Node) Receive(g *Group, from gossip.NeighbourID, frame []byte) error {
	return n.Mesh.Receive(from, frame, n.offer(g))
}

// Resume goes on in another group with a frame for which the last one had no room. See Mesh.Unfinished.
func (n *Node) Resume(g *Group, from gossip.NeighbourID) error {
	return n.Mesh.Resume(from, n.offer(g))
}

// FinishRepair is Replica.FinishRepair; neighbours are told, and what they lack is looked up anew. If the source has
// come into quarantine since, the repair ends without effect, and it returns ErrForked: what is here would be taken
// for removed there.
func (n *Node) FinishRepair(p *Repair) error {
	if n.Quarantined(p.source) {
		return cmp.Or(n.AbortRepair(p), ErrForked)
	}
	if err := n.Replica.FinishRepair(p); err != nil {
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
