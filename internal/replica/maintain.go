package replica

import (
	"time"

	"github.com/peerd/peerd/store"
)

const (
	checkpointEvery = 4096        // log records between two checkpoints
	agesEvery       = time.Minute // between two looks at the age of the oldest
)

// Maintain writes a checkpoint and cuts the log where it is due. It does no more work than a step may, and
// reports whether there is more: then it is to be called again soon.
func (r *Replica) Maintain(now time.Time) (more bool, err error) {
	if r.damage != nil {
		return false, nil
	}
	oversize := r.log.bytes > r.cfg.MaxLogBytes
	if !oversize && r.log.last-r.saved < checkpointEvery && now.Before(r.ages) {
		return false, nil
	}
	cut, more, err := r.cuttable(now)
	if err != nil {
		return false, err
	}
	if !now.Before(r.ages) {
		if r.ages = now.Add(agesEvery); len(cut) == 0 {
			return false, nil
		}
		if more {
			r.ages = now
		}
	}
	return more, r.save(cut, false)
}

// Save writes a checkpoint that survives a power failure: the last thing to do before closing.
func (r *Replica) Save(now time.Time) error {
	if r.damage != nil {
		return nil
	}
	cut, _, err := r.cuttable(now)
	if err != nil {
		return err
	}
	return r.save(cut, true)
}

// save writes a checkpoint, without records that are cut off the log.
func (r *Replica) save(cut []logged, sync bool) error {
	batch := &store.Batch{}
	// The log's index changes only in memory until the commit; after an error the replica is closed.
	for _, rec := range cut {
		batch.Delete(numbered(prefixLog, rec.lsn))
		r.log.forget(rec)
	}
	batch.Set(keyCheckpoint, r.checkpoint())
	r.writeNames(batch)
	r.writeRoot(batch, r.tree.Root())
	if err := r.commit(batch, sync); err != nil {
		return err
	}
	r.unsaved = false
	r.saved = r.log.last
	return nil
}

// cuttable returns the oldest records that the log's bounds no longer admit, and whether there are more than a step
// may cut. The newest one stays.
func (r *Replica) cuttable(now time.Time) (cut []logged, more bool, err error) {
	left := r.log.bytes
	began := r.work
	err = r.readLog(r.log.first, func(rec logged) bool {
		old := now.Sub(rec.time) > r.cfg.MaxLogAge
		due := old || left > r.cfg.MaxLogBytes
		if !due || rec.lsn >= r.log.last {
			return false
		}
		if more = r.spentSince(began) || len(cut) == r.cfg.MaxBatch; more {
			return false
		}
		last := r.work
		r.spend(workCut + workOf(rec.bytes))
		r.transacted(last)
		left -= int64(rec.bytes)
		cut = append(cut, rec)
		return true
	})
	return cut, more, err
}
