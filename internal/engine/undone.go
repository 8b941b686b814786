package engine

import (
	"cmp"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Most records of the tree may be of any moment behind the checkpoint, each for itself: what the log has behind it sets them
// again. The nodes of orders must all be of the checkpoint's moment. So a checkpoint that writes one keeps what stood there
// before, in the same batch (u); a checkpoint that is whole says up to which number these records mean nothing any more, and
// they go; and opening puts back what an interrupted one has written over. That holds for removed clears too: without them
// orders that were put back would be there again.

// undone numbers the records of what checkpoints wrote over.
type undone struct {
	last      uint64
	covered   uint64 // a whole checkpoint is behind those up to it
	forgotten uint64 // those up to it have no record any more
}

// keepsOld reports whether what stands in the place of an item is kept until the checkpoint is whole. While a replica is
// filled nothing in the tree counts before.
func (w *treeWriter) keepsOld(it *item) bool {
	switch it.key[0] {
	case prefixOrder, prefixNode:
		return !w.r.fills()
	case prefixClear, prefixSeen:
		return it.Vacant()
	}
	return false
}

// keepOld adds the record of what an item is written over to its batch.
func (w *treeWriter) keepOld(it *item) error {
	if w.old == nil {
		w.old = w.r.st.Snapshot()
	}
	w.r.spend(workMiss)
	old, had, err := w.old.Get([]byte(it.key))
	if err != nil {
		return err
	}
	u := &w.r.undone
	u.last++
	key := numbered(prefixUndone, u.last)
	w.add(key, encodeUndone(key, it.key, old, had), false)
	return nil
}

func (w *treeWriter) close() {
	if w.old != nil {
		w.old.Close()
	}
}

func encodeUndone(key []byte, of string, old []byte, had bool) []byte {
	return seal(key, func(w *wire.Writer) {
		w.Array(3)
		w.String(of)
		w.Bool(had)
		w.Bytes(old)
	})
}

func decodeUndone(key, record []byte) (of, old []byte, had bool, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		r.Array(3)
		of = r.Bytes(store.MaxKey)
		had, old = r.Bool(), r.Bytes(len(record))
	})
	return of, old, had, err
}

// coverUndone has a checkpoint, with its last batch, say that what was written over is not needed.
func (r *replica) coverUndone(last *store.Batch) {
	if u := &r.undone; u.covered < u.last {
		u.covered = u.last
		last.Set(keyUndone, seal(keyUndone, func(w *wire.Writer) { w.Uint(u.covered) }))
	}
}

// putBack puts back what a checkpoint that was interrupted has written over, behind the last one that is whole.
func (r *replica) putBack() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	covered := uint64(0)
	record, ok, err := snap.Get(keyUndone)
	if err == nil && ok {
		err = decodeRecord(keyUndone, record, func(rd *wire.Reader) { covered = rd.Uint() })
	}
	if err != nil {
		return err
	}
	batch, some := &store.Batch{}, false
	flush := func() error {
		if batch.Len() > 0 {
			r.writeBatch(batch, nil)
			batch, some = &store.Batch{}, true
		}
		return r.opening.finish()
	}
	r.undone = undone{covered, covered, covered}
	err = scanRecords(snap, prefixUndone, func(key, record []byte) error {
		number := numberOf(key)
		if number <= covered && r.cfg.Full {
			return nil // it means nothing, and goes with the next opening
		}
		if number > covered {
			if err := r.needRoom("a checkpoint that was interrupted"); err != nil {
				return err
			}
			of, old, had, err := decodeUndone(key, record)
			if err != nil {
				return err
			}
			if had {
				batch.Set(of, old)
			} else {
				batch.Delete(of)
			}
			r.undone = undone{number, number, number}
		}
		if batch.Delete(key); batch.Len() < r.perBatch() && batch.Bytes() < checkpointBytes {
			return nil
		}
		return flush()
	})
	if err = cmp.Or(err, flush()); some {
		r.table.Rebase(r.st.Snapshot())
	}
	return err
}
