package engine

import (
	"errors"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
)

// An id lives for one start: it is drawn in memory at the first write after the store was opened, and is stored only
// with the writes that it names. So a store that is restored, copied, rolled back or crashed issues no dot again,
// whatever it lost. Only an image of running memory does, started beside what it is an image of or in its place. That
// shows when contexts meet: the deltas of a replica are chained by hashes, and the chains fork. What is compared here is
// acted on by gossip: see gossip.Fork.

// ErrForked is returned where something is wanted of a host whose chain of some replica's deltas is another.
var ErrForked = errors.New("a replica's deltas are others there than here: nothing is exchanged until one side is ended")

// maxCompared is how many replicas of a neighbour's context are looked up in the log for a fork. The own id always
// is.
const maxCompared = 64

// Heard is told what another replica's context is. Where dots stand for other things there than here, a removal from
// there would remove something else here.
func (r *Replica) Heard(seen crdt.VersionVector, heads delta.Heads) (d gossip.Differences) {
	compared := 0
	for _, id := range seen.Replicas() {
		theirs, mine := seen[id], r.seen[id]
		switch {
		case theirs > mine && id == r.current():
			d.Forked = append(d.Forked, id) // dots that were never issued
		case theirs > mine:
			// Who has more finds out, when it hears what is here.
		case theirs == mine || compared < maxCompared || id == r.current():
			if theirs != mine {
				compared++
			}
			same, known := r.compareAt(id, theirs, heads[id])
			switch {
			case known && !same:
				d.Forked = append(d.Forked, id)
			case !known && id == r.current():
				d.Unsure = append(d.Unsure, id)
			}
		}
	}
	return d
}

// Agrees reports whether a replica's delta that ends at a counter is known to have this hash here.
func (r *Replica) Agrees(id crdt.ReplicaID, last uint64, head delta.Hash) bool {
	same, known := r.compareAt(id, last, head)
	return same && known
}

// maxSearched bounds the bytes of the log that are read to find one delta.
const maxSearched = 2 << 20

// compareAt reports whether a replica's delta that ends at a counter has this hash here. It is not known if the log
// does not reach there, or would have to be read for long. A context ends where deltas do: one that goes on beyond the
// counter is another.
func (r *Replica) compareAt(id crdt.ReplicaID, last uint64, head delta.Hash) (same, known bool) {
	switch mine := r.seen[id]; {
	case last == 0 || last > mine:
		return false, false
	case last == mine:
		return head == r.heads[id], true
	}
	compare := func(d *delta.Delta) (more bool) {
		if d.Replica != id || d.Last() < last {
			return true
		}
		if d.First <= last {
			same, known = d.Last() == last && d.Hash() == head, true
		}
		return false
	}
	recent := r.log.recent
	for i := len(recent) - 1; i >= 0; i-- {
		for _, d := range recent[i].deltas {
			if d.Replica == id && d.First <= last && last <= d.Last() {
				compare(d)
				return same, known
			}
		}
	}
	read := 0
	err := r.search(id, last, func(rec logged) bool {
		read += rec.bytes
		return !slices.ContainsFunc(rec.deltas, func(d *delta.Delta) bool { return !compare(d) }) &&
			read < maxSearched
	})
	return same, known && err == nil
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
func (r *Replica) chain(id crdt.ReplicaID, from uint64, fn func(d *delta.Delta) bool) error {
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
	err := r.chain(id, 1, func(d *delta.Delta) bool {
		if d.First != last+1 && last >= upTo && last > 0 {
			return false
		}
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

// Compare is told a host's chain of a replica. It reports whether that and the one here are known to fork, and
// the last dot that they are known to have in common.
func (r *Replica) Compare(from gossip.NeighbourID, theirs gossip.Chain) (forks bool, last uint64, err error) {
	id := theirs.Replica
	if len(theirs.Links) == 0 {
		return false, 0, nil
	}
	have := make(map[gossip.ChainLink]bool, len(theirs.Links))
	for _, l := range theirs.Links {
		have[l] = true
	}
	theirLast := theirs.Links[len(theirs.Links)-1].Last
	err = r.chain(id, 1, func(d *delta.Delta) bool {
		known := last > 0 || d.First == 1 && theirs.First == 1 // where the two were one
		if have[gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}] {
			last = d.Last()
		} else if known && d.Last() >= theirs.First && d.First <= theirLast {
			forks = true
		}
		return true
	})
	if err != nil {
		return false, 0, err
	}
	forks = forks && theirLast != last // else one is the beginning of the other
	if o := r.ownID(id); o != nil && forks {
		o.cross(from, last)
	}
	return forks, last, nil
}
