package replica

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A replica whose store was put back from an image of the whole disk goes on from an old state under an id
// whose later dots others have. Nothing on its host shows that. It shows when contexts meet: the deltas of a
// replica are chained by hashes, and the chains fork. The store that forked then discards what it holds,
// fills up from its peers, and issues the deltas of its own branch again under a new id (see
// crdt.Reissue), so that neither branch's writes are lost. Then it tells everyone which branch it abandoned,
// and a host that had taken that one leaves it too: see Replica.Leaves.

// keyOwn is the list of ids under which this store wrote.
var keyOwn = []byte("mown")

// maxOwn is how many of its former ids a store remembers.
const maxOwn = 64

// maxCompared is how many replicas of a neighbour's context are looked up in the log for a fork. An own id
// always is.
const maxCompared = 64

// Heard is told what another replica's context is. If it holds more of this replica's dots than the
// replica issued, or others, then the store lost a tail or forked: it takes a new id at once. Where dots
// stand for other things there than here, a write there that removes what it saw would remove something else
// here.
func (r *Replica) Heard(seen crdt.VersionVector, heads crdt.Heads) (d gossip.Differences) {
	compared := 0
	for _, id := range seen.Replicas() {
		theirs, mine := seen[id], r.seen[id]
		if theirs == mine && heads[id] == r.heads[id] {
			continue
		}
		if r.abandoned(id, theirs, heads[id]) || r.abandoned(id, mine, r.heads[id]) {
			d.Strange = append(d.Strange, id) // who is there knows, or will be told
			continue
		}
		if id == r.id && theirs > mine {
			r.id = 0
		}
		if mine == 0 {
			continue
		}
		own := r.Owns(id)
		if theirs < mine && compared == maxCompared && !own || theirs > mine && !own {
			continue
		}
		compared++
		if theirs != mine && r.agreesAt(id, theirs, heads[id]) {
			continue
		}
		if own {
			d.Suspects = append(d.Suspects, id)
		} else {
			d.Forked = append(d.Forked, id)
		}
		if theirs <= mine {
			d.Strange = append(d.Strange, id)
			r.forked(id)
		}
	}
	return d
}

// Owns reports whether this store wrote under an id.
func (r *Replica) Owns(id crdt.ReplicaID) bool { return slices.Contains(r.own, id) }

// maxSearched bounds the bytes of the log that are read to find one delta.
const maxSearched = 2 << 20

// agreesAt reports whether the log has a delta of a replica that ends at a counter with this hash. If the
// log does not reach there, or would have to be read for long, there is nothing to suspect.
func (r *Replica) agreesAt(id crdt.ReplicaID, last uint64, head crdt.Hash) bool {
	if last > r.seen[id] {
		return false
	}
	agrees := true
	compare := func(d *crdt.Delta) (more bool) {
		if d.Replica != id || d.Last() < last {
			return true
		}
		agrees = d.First > last || d.Last() == last && d.Hash() == head
		return false
	}
	recent := r.log.recent
	for i := len(recent) - 1; i >= 0; i-- {
		for _, d := range recent[i].deltas {
			if d.Replica == id && d.First <= last {
				compare(d)
				if d.Last() >= last {
					return agrees
				}
			}
		}
	}
	read := 0
	err := r.search(id, last, func(rec logged) bool {
		read += rec.bytes
		return !slices.ContainsFunc(rec.deltas, func(d *crdt.Delta) bool { return !compare(d) }) &&
			read < maxSearched
	})
	return err != nil || agrees
}

// search calls fn with the log's records from the one that dot from is in, or a little before.
func (r *Replica) search(id crdt.ReplicaID, from uint64, fn func(logged) bool) error {
	runs := r.log.cover[id]
	i := slices.IndexFunc(runs, func(run run) bool { return run.last >= from })
	if i < 0 {
		return nil
	}
	return r.readLog(max(runs[i].lsn, r.log.first), fn)
}

// chain calls fn with the deltas of a replica in the log, from about the one with dot from.
func (r *Replica) chain(id crdt.ReplicaID, from uint64, fn func(d *crdt.Delta) bool) error {
	return r.search(id, from, func(rec logged) bool {
		for _, d := range rec.deltas {
			if d.Replica == id && !fn(d) {
				return false
			}
		}
		return true
	})
}

// Chain returns the chain of a replica's deltas in the log, up to the first that ends beyond a counter:
// the newest gossip.MaxChain of them, and only those behind the last hole.
func (r *Replica) Chain(id crdt.ReplicaID, upTo uint64) (gossip.Chain, error) {
	c := gossip.Chain{Replica: id}
	var last uint64
	err := r.chain(id, 1, func(d *crdt.Delta) bool {
		if d.First != last+1 {
			c.Links = c.Links[:0] // whether what is in the hole differs is not known
		}
		if last = d.Last(); len(c.Links) == 0 {
			c.First = d.First
		}
		if len(c.Links) == gossip.MaxChain {
			c.First, c.Links = c.Links[0].Last+1, c.Links[1:]
		}
		c.Links = append(c.Links, gossip.ChainLink{Last: last, Hash: d.Hash()})
		return last <= upTo
	})
	return c, err
}

// Compare is told another replica's chain of one of this store's ids, and finds out whether and where
// the two fork.
func (r *Replica) Compare(theirs gossip.Chain) (forks bool, err error) {
	id := theirs.Replica
	if !r.Owns(id) || len(theirs.Links) == 0 {
		return false, nil
	}
	if slices.ContainsFunc(theirs.Links, func(l gossip.ChainLink) bool {
		return r.abandoned(id, l.Last, l.Hash)
	}) || r.mayBeAbandoned(id, theirs.Links[len(theirs.Links)-1].Last) {
		return true, nil // its fork is known
	}
	have := make(map[gossip.ChainLink]bool, len(theirs.Links))
	for _, l := range theirs.Links {
		have[l] = true
	}
	theirLast := theirs.Links[len(theirs.Links)-1].Last
	var common uint64
	diverged := false
	err = r.chain(id, 1, func(d *crdt.Delta) bool {
		known := common > 0 || d.First == 1 && theirs.First == 1 // where the two were one
		if have[gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}] {
			common = d.Last()
		} else if known && d.Last() >= theirs.First && d.First <= theirLast {
			diverged = true
		}
		return true
	})
	switch {
	case err != nil:
		return false, err
	case !diverged || theirLast == common:
		return false, nil // one is the beginning of the other
	}
	r.forked(id)
	if r.fork.Replica == 0 || r.fork.Replica == id {
		r.fork = gossip.BranchName{Replica: id, Common: common}
	}
	if r.id == id {
		r.id = 0
	}
	return true, nil
}

// mayBeAbandoned reports whether a counter is in a branch so long that its older deltas are not remembered.
func (r *Replica) mayBeAbandoned(id crdt.ReplicaID, last uint64) bool {
	return slices.ContainsFunc(r.branches, func(b gossip.Branch) bool {
		return b.Replica == id && b.Forgot(last)
	})
}

// writeNames writes the lists of the store's own ids and of abandoned branches, and with them which of those
// a rebuild leaves.
func (r *Replica) writeNames(batch *store.Batch) {
	batch.Set(keyOwn, r.encodeOwn())
	if len(r.branches) > 0 {
		batch.Set(keyBranches, r.encodeBranches())
	}
	if r.rebuilding {
		batch.Set(keyRebuild, r.rebuild.encode())
	}
}

// encodeOwn and loadOwn keep the list of the store's own ids.
func (r *Replica) encodeOwn() []byte {
	return wire.Seal(formatVersion, keyOwn, wire.Encode(func(w *wire.Writer) {
		w.Array(len(r.own))
		for _, id := range r.own {
			w.Uint(uint64(id))
		}
	}))
}

func (r *Replica) loadOwn() error {
	_, err := r.load(keyOwn, func(rd *wire.Reader) {
		n := rd.Array(maxListed)
		for i := 0; i < n && rd.Err() == nil; i++ {
			r.own = append(r.own, crdt.ReplicaID(rd.Uint()))
		}
	})
	return err
}
