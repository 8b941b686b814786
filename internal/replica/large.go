package replica

import (
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A group can be too large for one storage transaction although each of its deltas keeps to the limits: a
// small change to many cells that hold large entries of other replicas rewrites them all. Its writes are
// then staged, in chunks, and one small transaction says that they must be carried out, which they are
// before the store is used again. Carrying a write out twice is carrying it out once.

// commitLarge commits a batch beyond the store's limits.
func (r *Replica) commitLarge(batch *store.Batch, sync bool) error {
	r.sessions++
	session := r.sessions
	chunk := &store.Batch{}
	for i, op := range batch.Ops {
		chunk.Set(stageKey(session, uint64(i)), encodeWrite(stageKey(session, uint64(i)), op))
		if chunk.Bytes() < stageBytes && chunk.Len() < r.perBatch() && i+1 < len(batch.Ops) {
			continue
		}
		if err := r.commit(chunk, false); err != nil {
			return err
		}
		chunk.Reset()
	}
	mark := &store.Batch{}
	mark.Set(keyLarge, encodeSession(keyLarge, session))
	if err := r.commit(mark, sync); err != nil {
		return err
	}
	return r.carryOut(session, sync)
}

// commitWhole commits a batch that is as large as the cells that it changes, while nobody can see a part of it.
func (r *Replica) commitWhole(batch *store.Batch) error {
	if batch.Fits() {
		return r.commit(batch, false)
	}
	return r.commitLarge(batch, false)
}

// carryOut does the staged writes of a session and then removes the mark that they must be done.
func (r *Replica) carryOut(session uint64, sync bool) error {
	next := numbered(prefixStage, session)
	end := after(next)
	for {
		batch := &store.Batch{}
		var failed error
		snap := r.st.Snapshot()
		err := snap.Scan(next, end, func(k, v []byte) bool {
			key := append([]byte(nil), k...)
			next = append(key, 0)
			op, err := decodeWrite(key, append([]byte(nil), v...))
			if err != nil {
				failed = err
				return false
			}
			batch.Ops = append(batch.Ops, op)
			batch.Delete(key)
			return batch.Len() < 2*r.perBatch() && batch.Bytes()+len(v) < stageBytes
		})
		snap.Close()
		if err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
		if batch.Len() == 0 {
			batch.Delete(keyLarge)
			return r.commit(batch, sync)
		}
		if err := r.commit(batch, false); err != nil {
			return err
		}
	}
}

// finishLarge completes at open what a crash interrupted after its mark.
func (r *Replica) finishLarge() error {
	snap := r.st.Snapshot()
	record, marked, err := snap.Get(keyLarge)
	snap.Close()
	if err != nil || !marked {
		return err
	}
	session, err := decodeSession(keyLarge, record)
	if err != nil {
		return err
	}
	return r.carryOut(session, true)
}

func encodeWrite(key []byte, op store.Op) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.Bool(op.Delete)
		w.Bytes(op.Key)
		w.Bytes(op.Value)
	}))
}

func decodeWrite(key, record []byte) (op store.Op, err error) {
	body, err := unseal(key, record)
	if err != nil {
		return op, err
	}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(3)
		op.Delete = r.Bool()
		op.Key = r.Bytes(store.MaxKey)
		op.Value = r.Bytes(store.MaxValue)
	})
	if err != nil {
		return op, damaged(key, err)
	}
	return op, nil
}
