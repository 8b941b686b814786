package engine

import (
	"math"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
)

// A store remembers under which ids it wrote, and how much of that others are known to have: nothing here depends on
// it, and Salvage tells an operator what would be lost with the store.

// maxOwn is how many of its ids a store remembers.
const maxOwn = 64

// ownID is an id under which this store wrote, or that forked: who wrote the chain that is here may be gone. Up to
// known, others are known to have what was written, on that chain. across is the same for each host that is on another side of a fork.
type ownID struct {
	id     crdt.ReplicaID
	known  uint64
	across map[gossip.NeighbourID]uint64
}

// cross notes what a host on another side of a fork is known to have.
func (o *ownID) cross(host gossip.NeighbourID, n uint64) {
	if o.across == nil {
		o.across = map[gossip.NeighbourID]uint64{}
	}
	o.across[host] = max(o.across[host], n)
}

// sure returns up to where what it wrote is not lost if this store is ended. Once others are on another side of a fork,
// that is what each of them has: the side that is here may be ended as a whole, and any of the others may be kept.
func (o *ownID) sure(across map[gossip.NeighbourID]bool) uint64 {
	if len(across) == 0 {
		return o.known
	}
	sure := uint64(math.MaxUint64)
	for host := range across {
		sure = min(sure, o.across[host])
	}
	return sure
}

// ownID returns what is remembered of an id of this store; nil if it is none.
func (r *Replica) ownID(id crdt.ReplicaID) *ownID {
	for i := range r.own {
		if r.own[i].id == id {
			return &r.own[i]
		}
	}
	return nil
}

// Wrote reports whether this store wrote under an id before it was opened, as far as it remembers.
func (r *Replica) Wrote(id crdt.ReplicaID) bool { return id != r.current() && r.ownID(id) != nil }

// noteOwn remembers an id under which this store writes.
func (r *Replica) noteOwn(id crdt.ReplicaID) { r.remember(ownID{id: id}) }

// Forked is told that a replica's deltas are others at some host.
func (r *Replica) Forked(id crdt.ReplicaID) { r.remember(ownID{id: id, known: math.MaxUint64}) }

func (r *Replica) remember(o ownID) {
	if o.id != 0 && r.ownID(o.id) == nil {
		r.own = append(r.own[max(0, len(r.own)+1-maxOwn):], o)
	}
}

// Confirm is told what another host has. What is not known to be on the chain that is here does not count. across says
// that the host is on another side of a fork.
func (r *Replica) Confirm(host gossip.NeighbourID, seen crdt.VersionVector, heads delta.Heads, across bool) {
	if across {
		r.across[host] = true
	} else {
		delete(r.across, host)
	}
	for i := range r.own {
		o := &r.own[i]
		n := seen[o.id]
		switch {
		case across && n > o.across[host] && r.Agrees(o.id, n, heads[o.id]):
			o.cross(host, n)
		case !across && n > o.known && r.Agrees(o.id, n, heads[o.id]):
			o.known = n
		}
	}
}

// Forget is told that a host may have lost what it is known to have. What Salvage tells must not rest on it any more,
// so a checkpoint is due.
func (r *Replica) Forget(host gossip.NeighbourID) {
	for i := range r.own {
		delete(r.own[i].across, host)
	}
	r.ownFell = r.ownFell || r.across[host]
}

// writeOwn writes the ids of this store.
func (r *Replica) writeOwn(w *wire.Writer) {
	w.Array(2 * len(r.own))
	for _, o := range r.own {
		w.Uint(uint64(o.id))
		w.Uint(o.sure(r.across))
	}
}

// readOwn reads what writeOwn wrote.
func readOwn(rd *wire.Reader) (own []ownID) {
	n := rd.Array(2*maxOwn) / 2
	for i := 0; i < n && rd.Err() == nil; i++ {
		own = append(own, ownID{id: crdt.ReplicaID(rd.Uint()), known: rd.Uint()})
	}
	return own
}
