package engine

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Every start that writes adds an id to the context. So that vectors do not grow with that, replicas say bases of ids
// that have ended, or that have been idle (see delta.Bases): tables of many, by ordinary transactions. It is sound
// whoever says one, of whichever id but its own, at any time, and if several do. Each replica waits for another time
// before it says some, and finds them said if the first one's have reached it.
//
// A replica keeps all of them, in memory and as records of their own: the short form of a stored vector is read with
// them. Its own context is kept in the long form, and the short one beside it.

// Ticks of the engine, of 100 ms. None is more than Config.IdleTicks.
const (
	basesAfter  = 10  // at least so long is waited before bases are said
	basesSpread = 100 // and at most so much more, by the replica's id
	basesIdle   = 600 // and so much more where nothing was written: bases make an id of its own
)

// Config.MaxListed and Config.IdleTicks, unless they are set.
const (
	maxListed = 64
	idleTicks = 6000
)

// based is what a replica has of bases.
type based struct {
	bases delta.Bases
	short crdt.VersionVector // the context's short form

	counts crdt.VersionVector // of listed ids when they were looked at last
	idle   crdt.VersionVector // those that had not grown then since the time before
	ticks  int                // since then
	wait   int                // ticks until bases are said; zero if none are due
	say    []delta.Base       // that are to be said now
}

func newBased() based { return based{short: crdt.VersionVector{}} }

// list puts a replica's entry of the context into the short form, unless that leaves it out, and reports whether it did.
// That of an id as which this replica writes is always listed: what neighbours know of it does not rest on bases.
func (r *replica) list(id crdt.ReplicaID, count uint64, head delta.Hash) bool {
	if id != r.current() && r.bases.LeavesOut(id, count, head) {
		delete(r.short, id)
		return false
	}
	r.short[id] = count
	return true
}

// Vector returns the context in its short form. It must not be changed.
func (r *replica) Vector() crdt.VersionVector { return r.short }

// Bases returns the bases of this moment, for any goroutine.
func (r *replica) Bases() *delta.Bases { return r.bases.Snapshot() }

// Tables returns the bases that the context holds, in the order in which they were applied. They must not be changed.
func (r *replica) Tables() []delta.Table { return r.bases.Tables() }

// Expand returns what another's short form stands for, as far as the bases say that are held here, and more of that
// other's, in its order. If all that the form lists is in the context here that is all of it.
func (r *replica) Expand(v crdt.VersionVector, heads delta.Heads, more []delta.Table) (
	crdt.VersionVector, delta.Heads) {
	return r.basesWith(more).Expand(v, heads)
}

// basesWith returns the bases held here, and more of another's.
func (r *replica) basesWith(more []delta.Table) *delta.Bases {
	all := r.bases.Snapshot()
	for _, t := range more {
		if !r.seen.Has(t.Dot) {
			all.Hold(t)
		}
	}
	return all
}

// hold takes the bases of a delta that was just applied.
func (r *replica) hold(d *delta.Delta) {
	for _, t := range d.Tables() {
		r.holdTable(t)
	}
}

func (r *replica) holdTable(t delta.Table) {
	r.bases.Hold(t)
	key := numbered(prefixBase, uint64(len(r.bases.Tables())))
	r.table.put(recordItem(string(key), body{value: encodeTable(key, t)}), nil)
	for _, b := range t.Bases {
		if n := r.seen[b.Replica]; n > 0 && !r.list(b.Replica, n, r.heads[b.Replica]) {
			delete(r.gained, b.Replica) // what was gained with this has the base's dot
		}
	}
	r.short = r.short.Clone() // a map stays as large as it was
}

func encodeTable(key []byte, t delta.Table) []byte {
	return seal(key, t.Write)
}

func decodeTable(key, record []byte) (t delta.Table, err error) {
	err = decodeRecord(key, record, func(rd *wire.Reader) { t = delta.ReadTable(rd) })
	return t, err
}

// loadBases reads the bases of a moment.
func loadBases(snap store.Snapshot) (b delta.Bases, err error) {
	next := uint64(1)
	err = scanRecords(snap, prefixBase, func(key, record []byte) error {
		t, err := decodeTable(key, record)
		if err == nil && numberOf(key) != next {
			err = damaged(numbered(prefixBase, next), errMissing)
		}
		if err == nil {
			b.Hold(t)
			next++
		}
		return err
	})
	return b, err
}

// countDownBases lets a tick pass until bases are said. current reports whether a neighbour writes under an id.
func (r *replica) countDownBases(current func(crdt.ReplicaID) bool) {
	b := &r.based
	if b.ticks++; b.ticks >= r.cfg.IdleTicks {
		b.noteIdle()
	}
	switch {
	case !r.Whole() || r.repair != nil || len(b.say) > 0:
	case b.wait > 1:
		b.wait--
	case b.ticks%min(basesAfter, r.cfg.IdleTicks) != 0:
	case len(r.baseable(current)) == 0:
		b.wait = 0
	case b.wait == 0:
		b.wait = min(basesAfter, r.cfg.IdleTicks) + int(uint64(r.ID())%uint64(min(basesSpread, r.cfg.IdleTicks)))
		if r.id == 0 {
			b.wait += min(basesIdle, r.cfg.IdleTicks)
		}
	default:
		b.wait, b.say = 0, r.baseable(current)
	}
}

// noteIdle finds the ids that have not grown since the last time.
func (b *based) noteIdle() {
	b.idle = crdt.VersionVector{}
	for id, n := range b.short {
		if b.counts[id] == n {
			b.idle[id] = n
		}
	}
	b.ticks, b.counts = 0, b.short.Clone()
}

// baseable returns bases of what is to be left out of vectors from now on, in the order of replicas: all ids that
// have ended, and all of others that have been idle, if there are too many of the one or the other.
func (r *replica) baseable(current func(crdt.ReplicaID) bool) (bases []delta.Base) {
	idle := func(id crdt.ReplicaID, n uint64) bool { return r.idle[id] == n && !current(id) }
	tooManyEnded, tooManyIdle := r.tooMany(idle)
	if !tooManyEnded && !tooManyIdle {
		return nil
	}
	for _, id := range r.short.Replicas() {
		n, ends := r.short[id], r.Ended(id)
		if !r.mayBase(id, n) || !ends && (!tooManyIdle || !idle(id, n)) {
			continue
		}
		bases = append(bases, delta.Base{Replica: id, Last: n, Head: r.heads[id]})
	}
	return bases[:min(len(bases), delta.MaxBases)]
}

// Basing reports whether bases are to be said, or will be once ids that nobody is linked as have been idle.
func (e *Engine) Basing() bool {
	ended, idle := e.tooMany(func(id crdt.ReplicaID, _ uint64) bool { return !e.Writes(id) })
	return ended || idle || e.wait > 0 || len(e.say) > 0
}

// tooMany reports whether there are so many listed ids that have ended, or are idle, that bases are said. One that since
// its base has done nothing but say some does not count: else each saying would be a reason for the next, by another
// that had not heard of it, and they would go on for ever where an id is idle sooner than a saying has reached all.
func (r *replica) tooMany(idle func(id crdt.ReplicaID, n uint64) bool) (ofEnded, ofIdle bool) {
	said := r.bases.Uncovered()
	ended, others := 0, 0
	for id, n := range r.short {
		switch {
		case !r.mayBase(id, n):
		case r.Ended(id):
			ended++
		case idle(id, n) && r.bases.Says(id).Last+said[id] < n:
			others++
		}
	}
	return ended >= max(r.cfg.MaxListed/4, 1), others > r.cfg.MaxListed
}

// mayBase reports whether a base may be said of a listed id: not of one's own, which goes on, nor twice, of which the
// first is then of another side of a fork.
func (r *replica) mayBase(id crdt.ReplicaID, n uint64) bool {
	return id != r.current() && r.bases.Says(id).Last != n
}

// sayBases says the bases that are due, in one transaction.
func (r *replica) sayBases(g *group) error {
	say := r.say
	r.say = nil
	return g.update(func(tx *Tx) error {
		say = slices.DeleteFunc(say, func(b delta.Base) bool {
			return r.short[b.Replica] != b.Last || !r.mayBase(b.Replica, b.Last) || r.heads[b.Replica] != b.Head
		})
		if len(say) == 0 {
			return nil
		}
		_, err := tx.op(delta.BaseOp(say))
		return err
	})
}
