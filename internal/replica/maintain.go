package replica

import (
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/store"
)

const (
	checkpointEvery = 4096        // log records between two checkpoints
	agesEvery       = time.Minute // between two looks at the age of the oldest

	maxLogSlack = 64 << 10 // see logSlack
)

// logSlack is by how many bytes the log may outgrow Config.MaxLogBytes before a commit cuts it. A cut writes a
// checkpoint, so one is made for as many commits as log as much as that.
func (r *Replica) logSlack() int64 {
	return max(min(maxLogSlack, r.cfg.MaxLogBytes/8), int64(r.saveCost))
}

// LogBound returns how large the log may be, in bytes, after a commit and after Maintain, unless that says that
// there is more to do. A newest record that is larger stays.
func (r *Replica) LogBound() int64 {
	bound := r.cfg.MaxLogBytes + r.logSlack()
	if r.log.oldest >= r.log.last {
		bound = max(bound, r.log.bytes)
	}
	return bound
}

// Maintain writes a checkpoint and cuts the log where it is due. It does no more work than a step may, and
// reports whether there is more: then it is to be called again soon.
func (r *Replica) Maintain(now time.Time) (more bool, err error) {
	due := r.log.bytes > r.cfg.MaxLogBytes || r.log.last-r.saved >= checkpointEvery || r.log.dropped() ||
		r.ownFell
	switch {
	case r.damage != nil:
		return false, nil
	case due:
		return r.save(now, false)
	case now.Before(r.ages):
		return false, nil
	}
	r.ages = now.Add(agesEvery)
	old, err := r.isOld(now)
	if err != nil || !old {
		return false, err
	}
	return r.save(now, false)
}

// keepPace cuts the log after a commit that added some bytes to it, if it has outgrown its limit: by more than
// was added, so that it does not grow further, however fast commits follow each other.
func (r *Replica) keepPace(now time.Time, added int) error {
	slack := r.logSlack()
	if r.damage != nil || r.log.bytes <= r.cfg.MaxLogBytes+slack {
		return nil
	}
	for left := 2 * (slack + int64(added)); left > 0; {
		before := r.log.bytes
		more, err := r.save(now, false)
		if err != nil || !more {
			return err
		}
		left -= max(before-r.log.bytes, 1)
	}
	return nil
}

// Save writes a checkpoint that survives a power failure: the last thing to do before closing.
func (r *Replica) Save(now time.Time) error {
	if r.damage != nil {
		return nil
	}
	_, err := r.save(now, true)
	return err
}

// save writes a checkpoint, and cuts the log as far as one step goes. more reports whether it is to be cut
// further.
func (r *Replica) save(now time.Time, sync bool) (more bool, err error) {
	batch := &store.Batch{}
	// The log's index changes only in memory until the commit; after an error the replica is closed.
	if more, err = r.cut(now, batch); err != nil {
		return false, err
	}
	if more {
		r.ages = time.Time{} // the rest may be old, too
	}
	point := r.checkpoint()
	r.saveCost = len(point)
	batch.Set(keyCheckpoint, point)
	r.writeRoot(batch, r.tree.Root())
	if err := r.commit(batch, sync); err != nil {
		return false, err
	}
	r.saved, r.ownFell = r.log.last, false
	return more, nil
}

// cut takes the records out of the log that its bounds no longer admit, the oldest first, and what is left of
// those that were dropped before. The newest one stays. more reports whether it stopped for the sake of time.
func (r *Replica) cut(now time.Time, batch *store.Batch) (more bool, err error) {
	snap := r.st.Snapshot()
	defer snap.Close()
	runs, began := r.log.runs(), r.work
	next := r.log.oldest
	err = snap.Scan(numbered(prefixLog, next), numbered(prefixLog, r.log.last+1), func(k, v []byte) bool {
		key := slices.Clone(k)
		next = numberOf(key) + 1
		rec, due := r.due(now, key, v, runs)
		if more = due && (batch.Len() == r.cfg.MaxBatch || r.spentSince(began)); more || !due {
			return false
		}
		last := r.work
		r.spend(workCut + workOf(rec.bytes))
		r.transacted(last)
		batch.Delete(key)
		runs -= r.log.forget(rec)
		return true
	})
	if errors.Is(err, store.ErrCorrupt) && next <= r.log.last {
		// The store cannot read the record at next. It goes unread, and with it those before it.
		r.log.dropUpTo(next)
		batch.Delete(numbered(prefixLog, next))
		r.log.forget(logged{lsn: next})
		return true, nil
	}
	return more, err
}

// due returns a record of the log, and whether it is to be cut. One that is broken is, and with it those before it.
func (r *Replica) due(now time.Time, key, value []byte, runs int) (rec logged, due bool) {
	rec = logged{lsn: numberOf(key), bytes: len(value)}
	if rec.lsn < r.log.first {
		return rec, true
	}
	whole, err := decodeLogged(key, slices.Clone(value))
	if err != nil {
		r.log.dropUpTo(rec.lsn)
		return rec, true
	}
	beyond := runs > maxRuns || r.log.bytes > r.cfg.MaxLogBytes || now.Sub(whole.time) > r.cfg.MaxLogAge
	return whole, beyond && rec.lsn < r.log.last
}

// isOld reports whether the log's oldest record is beyond its age.
func (r *Replica) isOld(now time.Time) (old bool, err error) {
	err = r.readLog(r.log.first, func(rec logged) bool {
		old = rec.lsn < r.log.last && now.Sub(rec.time) > r.cfg.MaxLogAge
		return false
	})
	return old || r.log.dropped(), err
}
