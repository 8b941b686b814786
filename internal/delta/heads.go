package delta

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Hash is the first 8 bytes of a SHA-256. It chains the deltas of a replica so that a dot that was
// issued twice is noticed; it is no defence against a member that lies. Its lowest bit is not of the
// sum: it tells whether the delta is its replica's last. So whoever has a context with its heads
// knows which replicas have ended, however the context came.
type Hash uint64

// Ends reports whether the hash is that of a replica's last delta.
func (h Hash) Ends() bool { return h&1 != 0 }

// Heads holds, for the replicas of a version vector, the hash of the delta that ends at their counter.
type Heads map[crdt.ReplicaID]Hash

// WriteContext writes a version vector together with its heads, in the order of replicas.
func WriteContext(w *wire.Writer, v crdt.VersionVector, heads Heads) {
	w.Array(3 * len(v))
	for _, id := range v.Replicas() {
		w.Uint(uint64(id))
		w.Uint(v[id])
		w.Uint(uint64(heads[id]))
	}
}

// ReadContext reads what WriteContext wrote. The maps are never nil.
func ReadContext(r *wire.Reader) (crdt.VersionVector, Heads) {
	n := r.Array(3 * dotted.MaxVector)
	v := make(crdt.VersionVector, min(n/3, 1024))
	heads := make(Heads, min(n/3, 1024))
	last := crdt.ReplicaID(0)
	for i := 0; i < n/3 && r.Err() == nil; i++ {
		id, count, head := crdt.ReplicaID(r.Uint()), r.Uint(), Hash(r.Uint())
		if id <= last || count == 0 || count > dotted.MaxCounter {
			r.Fail("context out of order")
			break
		}
		v[id], heads[id], last = count, head, id
	}
	if n%3 != 0 {
		r.Fail("context of odd length")
	}
	return v, heads
}
