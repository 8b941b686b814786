package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/wire"
)

// A replica whose store was put back from an image of the whole disk goes on from an old state under an id
// whose later dots others have. Nothing on its host shows that. It shows when contexts meet: the deltas of a
// replica are chained by hashes, and the chains fork. The store that forked then discards what it holds,
// fills up from its peers, and issues the deltas of its own branch again under a new id (see
// crdt.Reissue), so that neither branch's writes are lost.

// keyOwn is the list of ids under which this store wrote.
var keyOwn = []byte("mown")

// maxOwn is how many of its former ids a store remembers.
const maxOwn = 64

// Fork says that this store issued dots of a replica, beyond Common, that stand for something else
// elsewhere.
type Fork struct {
	Replica crdt.ReplicaID
	Common  uint64
}

// Fork returns a fork of this store's own that must be healed with Node.Discard.
func (r *Replica) Fork() (Fork, bool) { return r.fork, r.fork.Replica != 0 }

// Heard is told what another replica's context is. If it holds more of this replica's dots than the
// replica issued, or others, then the store lost a tail or forked: it takes a new id at once, and
// those of its ids are returned whose chains must be compared.
func (r *Replica) Heard(seen crdt.VersionVector, heads crdt.Heads) (suspects []crdt.ReplicaID) {
	for _, id := range seen.Replicas() {
		theirs, own := seen[id], r.seen[id]
		switch {
		case theirs == own && heads[id] == r.heads[id]:
		case theirs == own:
			r.forked(id)
			fallthrough
		default:
			if slices.Contains(r.own, id) && own > 0 && !r.agreesAt(id, theirs, heads[id]) {
				suspects = append(suspects, id)
			}
		}
		if id == r.id && theirs > own {
			r.id = 0
		}
	}
	return suspects
}

// agreesAt reports whether the log has a delta of a replica that ends at a counter with this hash. If the
// log does not reach there, or cannot be read, there is nothing to suspect.
func (r *Replica) agreesAt(id crdt.ReplicaID, last uint64, head crdt.Hash) bool {
	if last > r.seen[id] {
		return false
	}
	agrees := true
	err := r.chain(id, last, func(d *crdt.Delta) bool {
		if d.Last() < last {
			return true
		}
		agrees = d.First > last || d.Last() == last && d.Hash() == head
		return false
	})
	return err != nil || agrees
}

// chain calls fn with the deltas of a replica in the log, from about the one with dot from.
func (r *Replica) chain(id crdt.ReplicaID, from uint64, fn func(d *crdt.Delta) bool) error {
	runs := r.log.cover[id]
	i := slices.IndexFunc(runs, func(run run) bool { return run.last >= from })
	if i < 0 {
		return nil
	}
	more := true
	return r.readLog(max(runs[i].lsn, r.log.first), func(rec logged) bool {
		for _, d := range rec.deltas {
			if more && d.Replica == id {
				more = fn(d)
			}
		}
		return more
	})
}

// Chain returns the chain of a replica's deltas in the log, the newest gossip.MaxChain of them.
func (r *Replica) Chain(id crdt.ReplicaID) (gossip.Chain, error) {
	c := gossip.Chain{Replica: id}
	err := r.chain(id, 1, func(d *crdt.Delta) bool {
		if len(c.Links) == gossip.MaxChain {
			c.Links = c.Links[1:]
		}
		c.Links = append(c.Links, gossip.ChainLink{Last: d.Last(), Hash: d.Hash()})
		return true
	})
	return c, err
}

// Compare is told another replica's chain of one of this store's ids, and finds out whether and where
// the two fork.
func (r *Replica) Compare(theirs gossip.Chain) error {
	id := theirs.Replica
	if !slices.Contains(r.own, id) || r.fork.Replica != 0 || len(theirs.Links) == 0 {
		return nil
	}
	have := make(map[gossip.ChainLink]bool, len(theirs.Links))
	for _, l := range theirs.Links {
		have[l] = true
	}
	var common, first uint64
	diverged := false
	err := r.chain(id, 1, func(d *crdt.Delta) bool {
		if first == 0 {
			first = d.First
		}
		if have[gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}] {
			common = d.Last()
		} else if d.Last() >= theirs.Links[0].Last && (common > 0 || d.First == 1) {
			diverged = true
		}
		return true
	})
	theirLast := theirs.Links[len(theirs.Links)-1].Last
	switch {
	case err != nil:
		return err
	case !diverged || theirLast == common:
		return nil // one is the beginning of the other
	}
	r.forked(id)
	r.fork = Fork{Replica: id, Common: common}
	if r.id == id {
		r.id = 0
	}
	return nil
}

// reapply applies a delta of the log that was put aside. Those of the branch that this store abandons are
// issued again.
func (g *Group) reapply(d *crdt.Delta, again *crdt.Reissue) (gossip.Outcome, error) {
	if again.Replica == 0 || d.Replica != again.Replica || d.First <= again.Common {
		return g.Apply(d)
	}
	return gossip.Applied, g.reissueAll(d, again)
}

func (g *Group) reissueAll(d *crdt.Delta, again *crdt.Reissue) error {
	start := 0
	for i, op := range d.Ops {
		if op.Kind != crdt.OpClear {
			continue
		}
		if err := g.reissue(d, start, i, again); err != nil {
			return err
		}
		if err := g.reissueClear(d, i, again); err != nil {
			return err
		}
		start = i + 1
	}
	return g.reissue(d, start, len(d.Ops), again)
}

// reissue issues some of a delta's operations again, as one transaction.
func (g *Group) reissue(d *crdt.Delta, from, to int, again *crdt.Reissue) error {
	if from == to {
		return nil
	}
	err := g.Update(func(tx *Tx) error {
		for i := from; i < to; i++ {
			if _, err := again.Op(tx, d.Ops[i], d.Dot(i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	for i := from; i < to && err == nil; i++ {
		if now, ok := again.Moved(d.Dot(i)); ok {
			key := movedKey(d.Dot(i))
			g.also.Set(key, wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
				crdt.WriteDots(w, []crdt.Dot{now})
			})))
		}
	}
	return err
}

func movedKey(was crdt.Dot) []byte {
	return append([]byte{prefixMoved}, blobKey(was)[1:]...)
}

// loadMoved tells again what was issued before a restart.
func (r *Replica) loadMoved(again *crdt.Reissue) error {
	snap := r.st.Snapshot()
	defer snap.Close()
	var failed error
	err := snap.Scan([]byte{prefixMoved}, []byte{prefixMoved + 1}, func(key, value []byte) bool {
		var body []byte
		if body, failed = unseal(key, value); failed != nil {
			return false
		}
		was := crdt.Dot{
			Replica: crdt.ReplicaID(binary.BigEndian.Uint64(key[1:9])),
			Counter: binary.BigEndian.Uint64(key[9:]),
		}
		failed = wire.Decode(body, func(rd *wire.Reader) {
			if dots := crdt.ReadDots(rd); len(dots) == 1 {
				again.Move(was, dots[0])
			}
		})
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// reissueClear issues a clear again: as removals, which may take several transactions.
func (g *Group) reissueClear(d *crdt.Delta, i int, again *crdt.Reissue) error {
	var removals []crdt.Op
	err := g.Update(func(tx *Tx) (err error) {
		removals, err = again.Op(tx, d.Ops[i], d.Dot(i), d.SeenBy(i))
		return err
	})
	for len(removals) > 0 && err == nil {
		n := min(len(removals), crdt.MaxOps/4)
		if g.Full() {
			if err = g.renew(); err != nil {
				return err
			}
		}
		err = g.Update(func(tx *Tx) error {
			for _, op := range removals[:n] {
				if err := tx.Remove(op.Address, op.Removes); err != nil {
					return err
				}
			}
			return nil
		})
		removals = removals[n:]
	}
	return err
}

// renew commits the group and makes it an empty one.
func (g *Group) renew() error {
	if _, err := g.Commit(false); err != nil {
		return err
	}
	*g = *g.r.Begin(g.now)
	return nil
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
	snap := r.st.Snapshot()
	defer snap.Close()
	record, ok, err := snap.Get(keyOwn)
	if err != nil || !ok {
		return err
	}
	body, err := unseal(keyOwn, record)
	if err != nil {
		return err
	}
	err = wire.Decode(body, func(rd *wire.Reader) {
		n := rd.Array(len(body))
		for i := 0; i < n && rd.Err() == nil; i++ {
			r.own = append(r.own, crdt.ReplicaID(rd.Uint()))
		}
	})
	if err != nil {
		return fmt.Errorf("own ids: %w", damaged(keyOwn, err))
	}
	return nil
}
