package engine

import (
	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// advance puts a delta that was just applied into the context.
func (r *replica) advance(d *delta.Delta) {
	r.raise(d.Replica, d.Last(), d.Hash())
	r.guards.settle(d)
}

// raise sets a replica's entry of the context.
func (r *replica) raise(id crdt.ReplicaID, counter uint64, head delta.Hash) {
	if r.digest.late != id {
		r.digest.catchUp(r.seen, r.heads)
		r.digest.leave(id, r.seen[id], r.heads[id])
	}
	r.seen[id], r.heads[id] = counter, head
	listed := r.list(id, counter, head)
	r.ahead = true
	r.collecting.due = r.collecting.due || head.Ends()
	if listed && id != r.id {
		r.gained[id] = counter
	} else {
		delete(r.gained, id) // the base came with it, or before
	}
}

// contextDigest is a fingerprint of a context, but for the replica whose entry changed last: who writes much changes that
// often, and the digest is asked for now and then.
type contextDigest struct {
	sum  antientropy.Fingerprint
	late crdt.ReplicaID // whose entry is not in the sum; zero if all are
}

// leave takes the entry of a replica out, before it changes.
func (d *contextDigest) leave(id crdt.ReplicaID, counter uint64, head delta.Hash) {
	if d.late = id; counter > 0 {
		d.sum = d.sum.Sub(antientropy.ContextEntry(id, counter, head))
	}
}

// catchUp takes all in that is in the context.
func (d *contextDigest) catchUp(seen crdt.VersionVector, heads delta.Heads) antientropy.Fingerprint {
	if id := d.late; id != 0 {
		d.sum, d.late = d.sum.Add(antientropy.ContextEntry(id, seen[id], heads[id])), 0
	}
	return d.sum
}
