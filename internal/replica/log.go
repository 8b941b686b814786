package replica

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// deltaLog is the deltas that this store applied, in the order in which it did, a record a commit group.
// That order is causal, so it can be sent as it is. The log serves a peer only if it covers all that the
// peer lacks: its beginning is cut when it grows too large or old, and a repair leaves holes in it.
type deltaLog struct {
	first, last uint64 // lsn of the oldest and newest record; first > last if there is none
	oldest      uint64 // lsn of the oldest record in the store: before first are those that were dropped
	bytes       int64  // of all records in the store
	cover       map[crdt.ReplicaID][]run
	recent      []logged // the newest records, so that peers who keep up are served from memory
	recentBytes int
}

// run says that the dots first to last of a replica are in the log, beginning in record lsn.
type run struct {
	first, last uint64
	lsn         uint64
}

// logged is one record of the log.
type logged struct {
	lsn    uint64
	time   time.Time
	deltas []*delta.Delta
	own    crdt.ReplicaID          // under which this store wrote some of them; zero if it wrote none
	root   antientropy.Fingerprint // of the stored cells, once the record was applied
	bytes  int
}

const (
	maxRun         = 1024    // dots that one run spans, so that a search ends near its dot
	maxRuns        = 1 << 17 // in the log's index, which a checkpoint holds: the log is cut to keep to it
	maxRecentBytes = 4 << 20 // bytes of deltas kept in memory for peers who keep up
)

func newDeltaLog() deltaLog { return deltaLog{first: 1, oldest: 1, cover: map[crdt.ReplicaID][]run{}} }

// append adds a record that was just stored.
func (l *deltaLog) append(rec logged) {
	l.index(rec)
	l.recent = append(l.recent, rec)
	l.recentBytes += rec.bytes
	drop := 0
	for l.recentBytes > maxRecentBytes && drop < len(l.recent)-1 {
		l.recentBytes -= l.recent[drop].bytes
		drop++
	}
	clear(l.recent[:drop])
	l.recent = l.recent[drop:]
}

// index takes a record into account.
func (l *deltaLog) index(rec logged) {
	l.last = rec.lsn
	l.bytes += int64(rec.bytes)
	for _, d := range rec.deltas {
		l.addRun(d.Replica, run{first: d.First, last: d.Last(), lsn: rec.lsn})
	}
}

func (l *deltaLog) addRun(id crdt.ReplicaID, r run) {
	runs := l.cover[id]
	if n := len(runs); n > 0 {
		end := &runs[n-1]
		if end.last+1 == r.first && end.last-end.first < maxRun {
			end.last = r.last
			return
		}
	}
	l.cover[id] = append(runs, r)
}

// start returns the first record that someone with the given context needs, and whether the log covers
// all that is in seen and not in theirs. The record is past the end if they lack nothing.
func (l *deltaLog) start(seen, theirs crdt.VersionVector) (lsn uint64, covered bool) {
	lsn = l.last + 1
	for id, have := range seen {
		from := theirs[id] + 1
		if from > have {
			continue
		}
		runs := l.cover[id]
		i := sort.Search(len(runs), func(i int) bool { return runs[i].last >= from })
		if i == len(runs) || runs[i].first > from {
			return 0, false
		}
		lsn = min(lsn, runs[i].lsn)
		for ; runs[i].last < have; i++ {
			if i+1 == len(runs) || runs[i+1].first != runs[i].last+1 {
				return 0, false
			}
		}
	}
	return max(lsn, l.first), true
}

// runs returns how many runs the index has. O(replicas).
func (l *deltaLog) runs() (n int) {
	for _, runs := range l.cover {
		n += len(runs)
	}
	return n
}

// dropped reports whether the store has records that the log no longer serves.
func (l *deltaLog) dropped() bool { return l.oldest < l.first }

// forget takes the oldest record, which is removed from the store, out of the log, and returns by how many runs
// the index became smaller.
func (l *deltaLog) forget(rec logged) (runs int) {
	l.oldest = rec.lsn + 1
	l.first = max(l.first, l.oldest)
	if l.bytes -= int64(rec.bytes); l.oldest > l.last {
		l.bytes = 0 // also if one could not be read
	}
	for _, d := range rec.deltas {
		before := l.cover[d.Replica]
		after := before
		for len(after) > 0 && after[0].last <= d.Last() {
			after = after[1:]
		}
		if len(after) > 0 && after[0].first <= d.Last() {
			after[0].first = d.Last() + 1
			after[0].lsn = max(after[0].lsn, l.first)
		}
		l.setRuns(d.Replica, after)
		runs += len(before) - len(after)
	}
	l.trimRecent()
	return runs
}

func (l *deltaLog) setRuns(id crdt.ReplicaID, runs []run) {
	if l.cover[id] = runs; len(runs) == 0 {
		delete(l.cover, id)
	}
}

// trimRecent drops the records in memory that the log no longer serves.
func (l *deltaLog) trimRecent() {
	for len(l.recent) > 0 && l.recent[0].lsn < l.first {
		l.recentBytes -= l.recent[0].bytes
		l.recent[0] = logged{}
		l.recent = l.recent[1:]
	}
}

// dropUpTo has the log serve no records to lsn any more, without looking at them. They stay in the store, and
// count, until they are cut.
func (l *deltaLog) dropUpTo(lsn uint64) {
	l.first = max(l.first, lsn+1)
	for id, runs := range l.cover {
		l.setRuns(id, slices.DeleteFunc(runs, func(r run) bool { return r.lsn <= lsn }))
	}
	l.trimRecent()
}

// read calls fn with the records from lsn on until fn returns false.
func (l *deltaLog) read(s store.Store, lsn uint64, fn func(logged) bool) error {
	if len(l.recent) > 0 && lsn >= l.recent[0].lsn {
		for _, rec := range l.recent[lsn-l.recent[0].lsn:] {
			if !fn(rec) {
				return nil
			}
		}
		return nil
	}
	snap := s.Snapshot()
	defer snap.Close()
	return readLog(snap, prefixLog, lsn, fn)
}

// readLog reads records of a log from the store.
func readLog(snap store.Snapshot, kind byte, lsn uint64, fn func(logged) bool) error {
	var failed error
	err := snap.Scan(numbered(kind, lsn), []byte{kind + 1}, func(key, value []byte) bool {
		rec, err := decodeLogged(key, slices.Clone(value))
		if err != nil {
			failed = err
			return false
		}
		return fn(rec)
	})
	if failed != nil {
		return failed
	}
	return err
}

func encodeLogged(key []byte, rec logged) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(4)
		w.Uint(uint64(rec.time.UnixMilli()))
		antientropy.WriteFingerprint(w, rec.root)
		w.Uint(uint64(rec.own))
		w.Array(len(rec.deltas))
		for _, d := range rec.deltas {
			w.Bytes(d.Encode())
		}
	}))
}

func decodeLogged(key, record []byte) (logged, error) {
	rec := logged{lsn: numberOf(key), bytes: len(record)}
	body, err := unseal(key, record)
	if err != nil {
		return rec, err
	}
	var bad error
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(4)
		rec.time = time.UnixMilli(int64(r.Uint()))
		rec.root = antientropy.ReadFingerprint(r)
		rec.own = crdt.ReplicaID(r.Uint())
		n := r.Array(len(body))
		for i := 0; i < n && r.Err() == nil && bad == nil; i++ {
			var d *delta.Delta
			if d, bad = delta.Decode(r.Bytes(delta.MaxSize)); bad == nil {
				rec.deltas = append(rec.deltas, d)
			}
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return rec, damaged(key, err)
	}
	return rec, nil
}

// checkpoint is what a store would otherwise have to read its whole log for.
type checkpoint struct {
	own   []ownID
	seen  crdt.VersionVector
	heads delta.Heads
	time  dotted.Time
	log   deltaLog // without recent
}

func (c *checkpoint) encode(writeOwn func(*wire.Writer)) []byte {
	return wire.Seal(formatVersion, keyCheckpoint, wire.Encode(func(w *wire.Writer) {
		w.Array(7)
		writeOwn(w)
		delta.WriteContext(w, c.seen, c.heads)
		w.Uint(uint64(c.time))
		w.Uint(c.log.oldest) // the index says which of them are served
		w.Uint(c.log.last)
		w.Uint(uint64(c.log.bytes))
		ids := make(crdt.VersionVector, len(c.log.cover))
		for id := range c.log.cover {
			ids[id] = 1
		}
		w.Array(2 * len(ids))
		for _, id := range ids.Replicas() {
			w.Uint(uint64(id))
			w.Array(3 * len(c.log.cover[id]))
			for _, r := range c.log.cover[id] {
				w.Uint(r.first)
				w.Uint(r.last)
				w.Uint(r.lsn)
			}
		}
	}))
}

func decodeCheckpoint(record []byte) (*checkpoint, error) {
	body, err := unseal(keyCheckpoint, record)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{log: newDeltaLog()}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(7)
		c.own = readOwn(r)
		c.seen, c.heads = delta.ReadContext(r)
		c.time = dotted.Time(r.Uint())
		c.log.first, c.log.last, c.log.bytes = r.Uint(), r.Uint(), int64(r.Uint())
		c.log.oldest = c.log.first
		ids := r.Array(len(body))
		for i := 0; i < ids/2 && r.Err() == nil; i++ {
			id := crdt.ReplicaID(r.Uint())
			runs := r.Array(len(body))
			for j := 0; j < runs/3 && r.Err() == nil; j++ {
				c.log.cover[id] = append(c.log.cover[id], run{r.Uint(), r.Uint(), r.Uint()})
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", damaged(keyCheckpoint, err))
	}
	return c, nil
}
