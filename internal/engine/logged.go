package engine

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

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
