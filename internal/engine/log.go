package engine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// index tells where in the log which deltas are. The log holds the deltas that this store applied, in the order in
// which it did, a record a commit group. That order is causal, so it can be sent as it is. The log serves a peer
// only if it covers all that the peer lacks: its beginning is cut when it grows too large or old, and a repair
// leaves holes in it.
type index struct {
	first, last uint64         // number of the oldest and newest record; first > last if there is none
	located     uint64         // the newest record of which it is known where it stands
	next        store.Position // behind that; others' may follow
	cover       map[crdt.ReplicaID][]run
	marks       []mark    // in order; the first one is at or before record first. What is in it does not change
	newest      time.Time // when the last record was written
	recent      []logged  // the newest records, so that peers who keep up are served from memory
	recentBytes int
}

// run says that the dots first to last of a replica are in the log, beginning in record lsn.
type run struct {
	first, last uint64
	lsn         uint64
}

// mark says where a record stands in the log. Those between two marks are found by reading from the first.
type mark struct {
	lsn  uint64
	at   store.Position
	time time.Time
}

const (
	maxRun         = 1024     // dots, and records, that one run spans, so that a search ends near its dot
	maxRuns        = 1 << 17  // in the index, which a checkpoint holds: the log is cut to keep to it
	markBytes      = 64 << 10 // of the log between two marks, at most
	maxRecentBytes = 4 << 20  // bytes of deltas kept in memory for peers who keep up
)

func newIndex() index { return index{first: 1, cover: map[crdt.ReplicaID][]run{}} }

// append adds a record. Where it stands is said by locate.
func (x *index) append(rec logged) {
	x.last, x.newest = rec.lsn, rec.time
	for _, d := range rec.deltas {
		x.addRun(d.Replica, run{first: d.First, last: d.Last(), lsn: rec.lsn})
	}
	x.recent = append(x.recent, rec)
	x.recentBytes += rec.bytes
	drop := 0
	for x.recentBytes > maxRecentBytes && drop < len(x.recent)-1 {
		x.recentBytes -= x.recent[drop].bytes
		drop++
	}
	clear(x.recent[:drop])
	x.recent = x.recent[drop:]
}

// locate says where a record stands, and what follows it. There is a mark for every so many bytes.
func (x *index) locate(lsn uint64, written time.Time, at, next, every store.Position) {
	x.located, x.next = lsn, next
	if n := len(x.marks); n == 0 || at-x.marks[n-1].at >= every {
		x.marks = append(x.marks, mark{lsn, at, written})
	}
}

func (x *index) addRun(id crdt.ReplicaID, r run) {
	runs := x.cover[id]
	if n := len(runs); n > 0 {
		end := &runs[n-1]
		if end.last+1 == r.first && end.last-end.first < maxRun && r.lsn-end.lsn < maxRun {
			end.last = r.last
			return
		}
	}
	x.cover[id] = append(runs, r)
}

// start returns the first record that someone with the given context needs, and whether the log covers
// all that is in seen and not in theirs. The record is past the end if they lack nothing.
func (x *index) start(seen, theirs crdt.VersionVector) (lsn uint64, covered bool) {
	lsn = x.last + 1
	for id, have := range seen {
		from := theirs[id] + 1
		if from > have {
			continue
		}
		runs := x.cover[id]
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
	return max(lsn, x.first), true
}

// runs returns how many runs the index has. O(replicas).
func (x *index) runs() (n int) {
	for _, runs := range x.cover {
		n += len(runs)
	}
	return n
}

// dropBefore has the log serve no records before one any more.
func (x *index) dropBefore(lsn uint64) {
	x.first = max(x.first, min(lsn, x.last+1))
	for id, runs := range x.cover {
		runs = slices.DeleteFunc(runs, func(r run) bool { return r.lsn < x.first })
		if x.cover[id] = runs; len(runs) == 0 {
			delete(x.cover, id)
		}
	}
	for len(x.marks) > 1 && x.marks[1].lsn <= x.first {
		x.marks = x.marks[1:]
	}
	if x.first > x.last {
		x.marks = nil
	}
	for len(x.recent) > 0 && x.recent[0].lsn < x.first {
		x.recentBytes -= x.recent[0].bytes
		x.recent[0] = logged{}
		x.recent = x.recent[1:]
	}
}

// begin takes out what a log that begins at a position no longer has.
func (x *index) begin(at store.Position) {
	i := slices.IndexFunc(x.marks, func(m mark) bool { return m.at >= at })
	switch {
	case i > 0:
		x.dropBefore(x.marks[i].lsn)
	case i < 0:
		x.dropBefore(x.last + 1)
	}
}

// bytes returns the size of what a log that ends at a position holds.
func (x *index) bytes(end store.Position) int64 {
	if len(x.marks) == 0 {
		return 0
	}
	return int64(end - x.marks[0].at)
}

// due returns the mark before which the log, which ends at a position, is to be cut: what lies before it is too old,
// or too much. Nothing from record keep on is cut. All goes if what others wrote since is too much by itself.
func (x *index) due(keep uint64, end store.Position, maxBytes int64, oldest time.Time) (m mark, cut bool) {
	if x.last < keep && x.first <= x.last && (x.newest.Before(oldest) || int64(end-x.next) > maxBytes) {
		return mark{x.last + 1, x.next, x.newest}, true
	}
	crowded := x.runs() - maxRuns
	for i := 1; i < len(x.marks) && x.marks[i].lsn <= keep; i++ {
		if !x.marks[i].time.Before(oldest) && int64(end-x.marks[i-1].at) <= maxBytes && crowded <= 0 {
			break
		}
		crowded -= maxRun
		m, cut = x.marks[i], true
	}
	return m, cut
}

// extent is where a moment's log is. It may be read by any goroutine.
type extent struct {
	log         Log
	first, last uint64
	marks       []mark
}

func (x *index) extent(log Log) extent { return extent{log, x.first, x.located, x.marks} }

// read calls fn with the records from lsn on, until it returns false. The first one that it is called with is a later
// one if that is not there.
func (e extent) read(lsn uint64, fn func(logged) bool) error {
	i := sort.Search(len(e.marks), func(i int) bool { return e.marks[i].lsn > lsn })
	if i == 0 || lsn < e.first || lsn > e.last {
		return nil
	}
	err := scanLog(e.log, e.marks[i-1].at, lsn, func(rec logged, _ store.Position) bool {
		return rec.lsn <= e.last && fn(rec) && rec.lsn < e.last // others' records may follow, up to the log's end
	})
	if errors.Is(err, store.ErrDropped) {
		return nil
	}
	return err
}

// readBuffer is how many bytes of the log are read at once.
const readBuffer = 64 << 10

// scanLog calls fn with the records of a log from a position on whose number is lsn or more, until it returns false.
// One that is not what was written is left out: the numbers jump there. The error wraps store.ErrCorrupt if that was
// so, and none that could be read stood behind it.
func scanLog(log Log, at store.Position, lsn uint64, fn func(logged, store.Position) bool) error {
	r, err := log.Read(at, make([]byte, readBuffer))
	if err != nil {
		return err
	}
	defer r.Close()
	var broken error
	for {
		got, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return broken
		case errors.Is(err, store.ErrCorrupt):
			broken = err
			continue
		case err != nil:
			return err
		}
		if numberIn(got.Data) < lsn {
			continue
		}
		rec, err := decodeLogged(slices.Clone(got.Data))
		switch {
		case errors.Is(err, store.ErrCorrupt):
			broken = err
			continue
		case err != nil:
			return err
		}
		broken = nil
		rec.next = got.Next
		if !fn(rec, got.Position) {
			return nil
		}
	}
}

// readLog calls fn with the log's records from lsn on, until it returns false. One that is damaged takes those
// before it with it: the log then no longer covers them, and who needs them is repaired by comparing cells.
func (r *Replica) readLog(lsn uint64, fn func(logged) bool) error {
	if recent := r.log.recent; len(recent) > 0 && lsn >= recent[0].lsn {
		for i := lsn - recent[0].lsn; i < uint64(len(recent)) && fn(recent[i]); i++ {
		}
		return nil
	}
	next := lsn
	err := r.log.extent(r.logs).read(lsn, func(rec logged) bool {
		if rec.lsn != next {
			r.log.dropBefore(rec.lsn)
			return false
		}
		next++
		return fn(rec)
	})
	if errors.Is(err, store.ErrCorrupt) {
		r.log.dropBefore(r.log.last + 1)
		err = nil
	}
	if r.log.first > lsn {
		r.ages = time.Time{} // there is something to be cut
	}
	return err
}

// maxDerived bounds the derived records in one record of the log, in bytes: a transaction changes few, unless it changes
// very many keys.
const maxDerived = 16 << 20

// append has a record written to the log. Derived records that are too many for it are written before it.
func (r *Replica) append(rec logged) {
	for {
		n, size := 0, 0
		for n < len(rec.derived) && size < r.maxDerived() {
			size += len(rec.derived[n].key) + len(rec.derived[n].value)
			n++
		}
		if n == len(rec.derived) {
			r.appendOne(rec)
			return
		}
		some := logged{lsn: rec.lsn, kind: recordDerived, time: rec.time, derived: rec.derived[:n]}
		r.appendOne(some)
		rec.derived = rec.derived[n:]
		rec.lsn++
		rec.before++
	}
}

// maxDerived is maxDerived, or less in tests.
func (r *Replica) maxDerived() int { return min(maxDerived, cmp.Or(r.cfg.derivedBytes, maxDerived)) }

func (r *Replica) appendOne(rec logged) {
	record := encodeLogged(rec)
	rec.bytes = len(record)
	r.log.append(rec)
	r.write(Write{Record: record, then: func(w *Write) { r.log.locate(rec.lsn, rec.time, w.at, w.next, r.markEvery()) }})
}

// logEnd returns where the log ends: others may have written behind this replica's newest record. While it is opened
// that is how far it was read.
func (r *Replica) logEnd() store.Position {
	if r.opening.under {
		return r.log.next
	}
	return r.logs.Next()
}

// markEvery is how many bytes of the log lie between two marks, which are where it can be cut.
func (r *Replica) markEvery() store.Position {
	return store.Position(max(min(markBytes, r.cfg.MaxLogBytes/16), 1))
}

// LogStart returns where in the log someone with the given context must begin to read, and whether the
// log covers all that they lack.
func (r *Replica) LogStart(theirs crdt.VersionVector) (lsn uint64, covered bool) {
	return r.log.start(r.seen, theirs)
}

// LogRead calls fn with the deltas from record lsn on, in the order in which they were applied here,
// until fn returns false, and returns the record to go on with. At most maxRecords are read, and what is left
// of the step; one in any case. covered is false if the log no longer has record lsn.
func (r *Replica) LogRead(lsn uint64, maxRecords int,
	fn func(d *delta.Delta) bool) (next uint64, covered bool, err error) {
	if lsn < r.log.first {
		return lsn, false, nil
	}
	next = lsn
	began := r.work
	if !r.isSpent() {
		began = r.turn.began
	}
	err = r.readLog(lsn, func(rec logged) bool {
		last := r.work
		r.spend(workRecord + workOf(rec.bytes))
		r.transacted(last)
		for _, d := range rec.deltas {
			if !fn(d) {
				return false
			}
		}
		next = rec.lsn + 1
		maxRecords--
		return maxRecords > 0 && !r.spentSince(began)
	})
	return next, next >= r.log.first, err
}

// LogEnd returns the number of the record that will be written next.
func (r *Replica) LogEnd() uint64 { return r.log.last + 1 }

// LogBytes returns the size of the log.
func (r *Replica) LogBytes() int64 { return r.log.bytes(r.logEnd()) }

// covers reports whether the log has all that someone with the given context lacks: if this replica
// discards itself, nothing is lost then that they do not have.
func (r *Replica) covers(theirs crdt.VersionVector) bool {
	if r.blind {
		return false
	}
	_, covered := r.log.start(r.seen, theirs)
	return covered
}

// logged is one record of the log: what one commit group applied, or a part of a repair. It is the commit: what the
// tree has may be older, or newer, and the records behind a checkpoint make the state whole.
type logged struct {
	lsn    uint64
	kind   recordKind
	time   time.Time
	deltas []*delta.Delta
	own    crdt.ReplicaID // under which this store wrote some of them; zero if it wrote none
	// derived are the new values of the records that are derived from cells and changed. They are set again as they
	// are, so that they and the cells need not reach the tree together.
	derived []*item
	// before is how many records of kind recordDerived stand before this one and belong to it.
	before uint64
	// root is the fingerprint of the cells once the record was applied. It says nothing unless it is settled: while
	// clears are to be swept what is there depends on how far the sweep is.
	root    antientropy.Fingerprint
	settled bool
	flip    flip
	bytes   int
	next    store.Position // of what follows it in the log; set by scanLog
}

// recordKind tells what a log record is about.
type recordKind byte

const (
	recordGroup recordKind = 1 // a commit group
	recordFlip  recordKind = 2 // a repair's end: what was staged takes effect, and the other's context with it
	recordSlice recordKind = 3 // some of what was staged did
	recordLast  recordKind = 4 // the rest of it
	// recordDerived has more derived records of the one that follows, where they are too many for it: it says nothing by
	// itself.
	recordDerived recordKind = 5
)

// flip is a repair that is being taken over.
type flip struct {
	session uint64
	seen    crdt.VersionVector
	heads   delta.Heads
	tables  []delta.Table // of the other's bases that were not here
	upTo    []byte        // the staged change up to which it came
}

// logHeader is what stands before the body of a record: the format's version, its kind, its number.
const logHeader = 1 + 1 + 8

func encodeLogged(rec logged) []byte {
	var head [logHeader]byte
	head[0], head[1] = formatVersion, byte(rec.kind)
	binary.BigEndian.PutUint64(head[2:], rec.lsn)
	return wire.Encode(func(w *wire.Writer) {
		w.Raw(head[:])
		w.Array(7)
		w.Uint(uint64(rec.time.UnixMilli()))
		w.Uint(uint64(rec.own))
		w.Bool(rec.settled)
		antientropy.WriteFingerprint(w, rec.root)
		switch rec.kind {
		case recordGroup, recordDerived:
			w.Array(len(rec.deltas))
			for _, d := range rec.deltas {
				w.Bytes(d.Encode())
			}
		default:
			rec.flip.write(w)
		}
		w.Uint(rec.before)
		w.Array(3 * len(rec.derived))
		for _, it := range rec.derived {
			w.String(it.key)
			w.Bool(it.value == nil)
			w.Bytes(it.value)
		}
	})
}

func (f *flip) write(w *wire.Writer) {
	w.Array(4)
	w.Uint(f.session)
	delta.WriteContext(w, f.seen, f.heads)
	w.Array(len(f.tables))
	for _, t := range f.tables {
		t.Write(w)
	}
	w.Bytes(f.upTo)
}

func readFlip(r *wire.Reader, limit int) (f flip) {
	r.Array(4)
	f.session = r.Uint()
	f.seen, f.heads = delta.ReadContext(r)
	n := r.Array(limit)
	for i := 0; i < n && r.Err() == nil; i++ {
		f.tables = append(f.tables, delta.ReadTable(r))
	}
	f.upTo = r.Bytes(store.MaxKey)
	return f
}

// numberIn returns the number of a record; zero if it is none.
func numberIn(record []byte) uint64 {
	if len(record) < logHeader {
		return 0
	}
	return binary.BigEndian.Uint64(record[2:])
}

// decodeLogged reads a record. The result points into it. The error wraps store.ErrCorrupt, or wire.ErrFormat if
// another version of the program wrote it.
func decodeLogged(record []byte) (logged, error) {
	rec := logged{lsn: numberIn(record), bytes: len(record)}
	if rec.lsn == 0 {
		return rec, fmt.Errorf("a log record of %d bytes: %w", len(record), store.ErrCorrupt)
	}
	if err := wire.CheckFormat(uint64(record[0]), formatVersion, olderStore); err != nil {
		return rec, fmt.Errorf("log record %d: %w", rec.lsn, err)
	}
	if rec.kind = recordKind(record[1]); rec.kind < recordGroup || rec.kind > recordDerived {
		return rec, fmt.Errorf("log record %d has kind %d: %w", rec.lsn, rec.kind, store.ErrCorrupt)
	}
	var bad error
	err := wire.Decode(record[logHeader:], func(r *wire.Reader) {
		r.Array(7)
		rec.time = time.UnixMilli(int64(r.Uint()))
		rec.own = crdt.ReplicaID(r.Uint())
		rec.settled = r.Bool()
		rec.root = antientropy.ReadFingerprint(r)
		switch rec.kind {
		case recordGroup, recordDerived:
			rec.deltas, bad = readDeltas(r, len(record))
		default:
			rec.flip = readFlip(r, len(record))
		}
		rec.before = r.Uint()
		if bad == nil {
			rec.derived = readDerived(r, len(record))
		} else {
			r.Fail("a delta")
		}
	})
	if bad != nil {
		err = bad
	}
	if err != nil {
		return rec, fmt.Errorf("log record %d: %w: %w", rec.lsn, store.ErrCorrupt, err)
	}
	return rec, nil
}

func readDeltas(r *wire.Reader, limit int) (deltas []*delta.Delta, err error) {
	n := r.Array(limit)
	for i := 0; i < n && r.Err() == nil; i++ {
		d, err := delta.Decode(r.Bytes(delta.MaxSize))
		if err != nil {
			return nil, err
		}
		deltas = append(deltas, d)
	}
	return deltas, nil
}

func readDerived(r *wire.Reader, limit int) (derived []*item) {
	n := r.Array(limit) / 3
	for i := 0; i < n && r.Err() == nil; i++ {
		it := &item{key: r.String(store.MaxKey)}
		gone := r.Bool()
		if value := r.Bytes(store.MaxValue); !gone {
			it.value = append([]byte{}, value...)
		}
		derived = append(derived, it)
	}
	return derived
}
