package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine/logindex"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// deltaLog is what is known of the log, and its newest records, so that peers who keep up are
// served from memory.
type deltaLog struct {
	logindex.Index
	recent      []logged
	recentBytes int
	runBytes    int // since runs ended: see maxRunBytes
	// found are hashes of deltas that were searched for, by the dot at their end: a neighbour that
	// waits for what is large says again and again that it has what stands before.
	found map[crdt.Dot]delta.Hash
}

const (
	markBytes      = 64 << 10 // of the log between two marks of the index; in a very long one there are more
	maxMarks       = 1 << 15  // in a log as long as it may be: a checkpoint holds them, see store.MaxValue
	maxRecentBytes = 4 << 20  // bytes of deltas kept in memory for peers who keep up
	maxRunBytes    = 1 << 20  // of the log that a run spans, or one record: less than maxSearched
	maxFound       = 256      // hashes in deltaLog.found; with one more it begins anew
)

// newLog returns one that begins behind a record, which ends at a position.
func newLog(last uint64, next store.Position) deltaLog {
	return deltaLog{Index: logindex.After(last, next)}
}

// append adds a record. Where it stands is said by Locate.
func (l *deltaLog) append(rec logged) {
	l.Append(rec.lsn, rec.time)
	if l.runBytes += rec.bytes; l.runBytes > maxRunBytes {
		l.Part()
		l.runBytes = rec.bytes
	}
	for i := 0; i < len(rec.deltas); {
		first := rec.deltas[i]
		last := first.Last()
		for i++; i < len(rec.deltas) && rec.deltas[i].Replica == first.Replica && rec.deltas[i].First == last+1; i++ {
			last = rec.deltas[i].Last()
		}
		l.Cover(first.Replica, first.First, last)
	}
	rec.derived = nil // which nobody reads there
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

// Locate says where a record stands: what other spaces have written before it belongs to a run as well.
func (l *deltaLog) Locate(number uint64, written time.Time, at, next, every store.Position) {
	l.runBytes += int(at - l.Next)
	l.Index.Locate(number, written, at, next, every)
}

// note has the hash of a delta that was searched for be in found.
func (l *deltaLog) note(d *delta.Delta) {
	if l.found == nil || len(l.found) == maxFound {
		l.found = map[crdt.Dot]delta.Hash{}
	}
	l.found[crdt.Dot{Replica: d.Replica, Counter: d.Last()}] = d.Hash()
}

// DropBefore has no records before one be served any more.
func (l *deltaLog) DropBefore(lsn uint64) {
	l.Index.DropBefore(lsn)
	for len(l.recent) > 0 && l.recent[0].lsn < l.First {
		l.recentBytes -= l.recent[0].bytes
		l.recent[0] = logged{}
		l.recent = l.recent[1:]
	}
}

// extent is where a moment's log is. It may be read by any goroutine.
type extent struct {
	logindex.Extent
	log Log
}

// read calls fn with the records from lsn on, until it returns false. The first one that it is
// called with is a later one if that is not there.
func (e extent) read(lsn uint64, fn func(logged) bool) error {
	at, served := e.From(lsn)
	if !served {
		return nil
	}
	err := scanLog(e.log, at, lsn, func(rec logged, _ store.Position) bool {
		return rec.lsn <= e.Last && fn(rec) && rec.lsn < e.Last // others' records may follow, up to the log's end
	})
	switch {
	case errors.Is(err, store.ErrDropped):
		return nil
	case errors.Is(err, store.ErrUnreadable): // who needs it is repaired by comparing cells
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
}

// readBuffer is how many bytes of the log are read at once.
const readBuffer = 64 << 10

// scanLog calls fn with the records of a log from a position on whose number is lsn or more,
// until it returns false. One that is not what was written is left out: the numbers jump there.
// The error wraps store.ErrCorrupt if that was so, and none that could be read stood behind it.
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

// readLog calls fn with the log's records from lsn on, until it returns false. One that is
// damaged takes those before it with it: the log then no longer covers them, and who needs them
// is repaired by comparing cells. Each record is a part of the step's work.
func (r *replica) readLog(lsn uint64, fn func(logged) bool) error {
	if recent := r.log.recent; len(recent) > 0 && lsn >= recent[0].lsn {
		for i := lsn - recent[0].lsn; i < uint64(len(recent)); i++ {
			r.spendRecord(recent[i].bytes)
			if !fn(recent[i]) {
				break
			}
		}
		return nil
	}
	next, at := lsn, store.Position(0)
	err := extent{r.log.Extent(), r.logs}.read(lsn, func(rec logged) bool {
		if rec.lsn != next {
			r.log.DropBefore(rec.lsn)
			return false
		}
		next++
		bytes := rec.bytes
		if at > 0 {
			bytes = int(rec.next - at) // with what other spaces have written between
		}
		at = rec.next
		r.spendRecord(bytes)
		return fn(rec)
	})
	if errors.Is(err, store.ErrCorrupt) {
		r.log.DropBefore(r.log.Last + 1)
		err = nil
	}
	if r.log.First > lsn {
		r.ages = time.Time{} // there is something to be cut
	}
	return err
}

// spendRecord counts the work of reading a record, which cannot be split.
func (r *replica) spendRecord(bytes int) {
	began := r.work
	r.spend(workRecord + workOf(bytes))
	r.transacted(began)
}

// maxDerived bounds the derived records in one record of the log, in bytes: a transaction changes
// few, unless it changes very many keys.
const maxDerived = 16 << 20

// append has a record written to the log. Derived records that are too many for it are written
// before it.
func (r *replica) append(rec logged) {
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
func (r *replica) maxDerived() int { return min(maxDerived, cmp.Or(r.cfg.derivedBytes, maxDerived)) }

func (r *replica) appendOne(rec logged) {
	r.spoilFilling()
	w := Write{}
	if slices.ContainsFunc(rec.deltas, isLarge) {
		w.Parts = partsOfLogged(rec)
	} else {
		w.Record = encodeLogged(r.spareRecord, rec)
		r.spareRecord = nil
	}
	rec.bytes = w.recordSize()
	r.log.append(rec)
	w.then = func(w *Write) {
		r.log.Locate(rec.lsn, rec.time, w.at, w.next, r.markEvery())
		if w.Record != nil && cap(w.Record) <= maxSpareRecord {
			r.spareRecord = w.Record[:0]
		}
	}
	r.write(w)
}

// maxSpareRecord is how large the memory of a record may be, in bytes, that the next one takes: a
// commit group fits.
const maxSpareRecord = 1 << 20

// logEnd returns where the log ends: others may have written behind this replica's newest record.
// While it is opened that is how far it was read.
func (r *replica) logEnd() store.Position {
	if r.opening.under {
		return r.log.Next
	}
	return r.logs.Next()
}

// markEvery is how many bytes of the log lie between two marks, which are where it can be cut.
func (r *replica) markEvery() store.Position {
	return store.Position(max(min(markBytes, r.cfg.MaxLogBytes/16), r.cfg.MaxLogBytes/maxMarks, 1))
}

// LogStart returns where in the log someone with the given context must begin to read, and
// whether the log covers all that they lack. To someone who has nothing a long log is not
// offered: cells that are filled in cost both sides a part of what their deltas do, and are not
// read by this goroutine. What other spaces wrote to the log does not make it long.
func (r *replica) LogStart(theirs crdt.VersionVector) (lsn uint64, covered bool) {
	lsn, covered = r.log.Start(r.seen, theirs)
	return lsn, covered && (len(theirs) > 0 || r.log.Own() <= r.behind())
}

// LogRead calls fn with the deltas from record lsn on, in the order in which they were applied
// here, until fn returns false, and returns the record to go on with. At most maxRecords are
// read, and what is left of the step; one in any case. covered is false if the log no longer has
// record lsn.
func (r *replica) LogRead(lsn uint64, maxRecords int,
	fn func(d *delta.Delta) bool) (next uint64, covered bool, err error) {
	if lsn < r.log.First {
		return lsn, false, nil
	}
	next = lsn
	began := r.work
	if !r.isSpent() {
		began = r.turn.began
	}
	err = r.readLog(lsn, func(rec logged) bool {
		for _, d := range rec.deltas {
			if !fn(d) {
				return false
			}
		}
		next = rec.lsn + 1
		maxRecords--
		return maxRecords > 0 && !r.spentSince(began)
	})
	return next, next >= r.log.First, err
}

// LogEnd returns the number of the record that will be written next.
func (r *replica) LogEnd() uint64 { return r.log.Last + 1 }

// LogBytes returns the size of the log.
func (r *replica) LogBytes() int64 { return r.log.Bytes(r.logEnd()) }

// Covers reports whether the log has all that someone with the given context lacks: if this replica
// discards itself, nothing is lost then that they do not have.
func (r *replica) Covers(theirs crdt.VersionVector) bool {
	if r.blind {
		return false
	}
	_, covered := r.log.Start(r.seen, theirs)
	return covered
}

// logged is one record of the log: what one commit group applied, or a part of a repair. It is
// the commit: what the tree has may be older, or newer, and the records behind a checkpoint make
// the state whole.
type logged struct {
	lsn    uint64
	kind   recordKind
	time   time.Time
	deltas []*delta.Delta
	own    crdt.ReplicaID // under which this store wrote some of them; zero if it wrote none
	// derived are the new values of the records that are derived from cells and changed. They are
	// set again as they are, so that they and the cells need not reach the tree together.
	derived []*item
	// before is how many records of kind recordDerived stand before this one and belong to it.
	before uint64
	// root is the fingerprint of the cells once the record was applied. It says nothing unless it is
	// settled: while clears are to be swept what is there depends on how far the sweep is.
	root    antientropy.Fingerprint
	settled bool
	totals  // after it
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
	// recordDerived has more derived records of the one that follows, where they are too many for
	// it: it says nothing by itself.
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

// encodeLogged appends a record to memory for one.
func encodeLogged(memory []byte, rec logged) []byte {
	return writeLogged(memory, rec, func(w *wire.Writer, d *delta.Delta) { w.Bytes(d.Encode()) })
}

// writeLogged appends a record to memory for one, with what write writes of each delta.
func writeLogged(memory []byte, rec logged, write func(w *wire.Writer, d *delta.Delta)) []byte {
	var head [logHeader]byte
	head[0], head[1] = formatVersion, byte(rec.kind)
	binary.BigEndian.PutUint64(head[2:], rec.lsn)
	return wire.AppendTo(memory, func(w *wire.Writer) {
		w.Raw(head[:])
		w.Array(7 + totalsFields)
		w.Uint(uint64(rec.time.UnixMilli()))
		w.Uint(uint64(rec.own))
		w.Bool(rec.settled)
		antientropy.WriteFingerprint(w, rec.root)
		switch rec.kind {
		case recordGroup, recordDerived:
			w.Array(len(rec.deltas))
			for _, d := range rec.deltas {
				write(w, d)
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
		rec.totals.write(w)
	})
}

func (f *flip) write(w *wire.Writer) {
	w.Array(4)
	w.Uint(f.session)
	delta.WriteContext(w, f.seen, f.heads)
	delta.WriteTables(w, f.tables)
	w.Bytes(f.upTo)
}

func readFlip(r *wire.Reader, limit int) (f flip) {
	r.Array(4)
	f.session = r.Uint()
	f.seen, f.heads = delta.ReadContext(r)
	f.tables = delta.ReadTables(r, limit)
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

// decodeLogged reads a record. The result points into it. The error wraps store.ErrCorrupt, or
// wire.ErrFormat if another version of the program wrote it.
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
		r.Array(7 + totalsFields)
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
		if bad != nil {
			r.Fail("a delta")
			return
		}
		rec.derived = readDerived(r, len(record))
		rec.totals = readTotals(r)
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
		it := recordItem(r.String(store.MaxKey), body{})
		gone := r.Bool()
		if value := r.Bytes(store.MaxValue); !gone {
			it.value = append([]byte{}, value...)
		}
		derived = append(derived, it)
	}
	return derived
}

// A value of up to 16 MiB is in memory once, beside what its writer has: in the encoded delta. The
// cell points there until the tree has it, and the log's record is written in parts, of which that
// is one. A checkpoint writes it in pieces, each made when it is written (see treeWriter.blob).

// largeDelta is from how many bytes on a delta is not copied to be written: it takes long enough
// that nobody's turn should append it at once, and is more than the log keeps memory for.
const largeDelta = 4 << 20

func isLarge(d *delta.Delta) bool { return len(d.Encode()) > largeDelta }

// fold has the group's cell keep a large payload where the encoded delta has it.
func (g *group) fold(d *delta.Delta) {
	for i := range d.Ops {
		if !d.IsMost(i) {
			continue
		}
		d.Fold(i)
		if c := g.cells[d.Ops[i].Address]; c != nil {
			if at, ok := c.now.Find(d.Dot(i)); ok {
				c.now[at].Payload = d.Ops[i].Payload // nobody else has the cell yet
			}
		}
	}
}

// lasting returns the payload of an op of another replica's delta, which is a part of what came
// with it: a copy, unless it is most of that.
func lasting(d *delta.Delta, i int) []byte {
	payload := d.Ops[i].Payload
	if !d.IsMost(i) {
		payload = bytes.Clone(payload)
	}
	return payload
}

// partsOfLogged returns the parts of a record, of which each large delta is one.
func partsOfLogged(rec logged) (parts [][]byte) {
	var large []*delta.Delta
	var before []int // bytes of the rest, for each of them
	rest := writeLogged(nil, rec, func(w *wire.Writer, d *delta.Delta) {
		if !isLarge(d) {
			w.Bytes(d.Encode())
			return
		}
		w.BytesHeader(len(d.Encode()))
		large, before = append(large, d), append(before, w.Size())
	})
	from := 0
	for i, d := range large {
		parts = append(parts, rest[from:before[i]], d.Encode())
		from = before[i]
	}
	return append(parts, rest[from:])
}
