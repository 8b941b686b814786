package replica

import (
	"encoding/binary"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/wire"
)

// reapply applies a delta of the log that was put aside. Those of a branch that this store abandons are
// issued again; those of another's are here by another name.
func (g *Group) reapply(d *crdt.Delta, again *crdt.Reissue) (gossip.Outcome, error) {
	switch {
	case g.r.abandons(d):
		return gossip.Applied, g.reissueAll(d, again)
	case g.r.leaves(d):
		return gossip.Known, nil
	}
	return g.Apply(d)
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
