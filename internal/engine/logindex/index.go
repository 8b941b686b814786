// Package logindex tells where in a log of deltas what is: which records have which dots, where
// records stand, and where the log is to be cut. It knows numbers, dots and positions alone: it
// reads and writes no log.
//
// A log has the deltas that a store applied, in the order in which it did, a record a commit group.
// That order is causal, so it can be sent as it is. The log serves a peer only if it covers all
// that the peer lacks: its beginning is cut when it grows too large or old, and a repair leaves
// holes in it.
//
// Memory is bounded by cutting: see MaxRuns.
package logindex

import (
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Index is the index of one log. Its fields are set by its methods. It is used by one goroutine.
type Index struct {
	First, Last uint64         // number of the oldest and newest record that is served; First > Last if there is none
	Located     uint64         // the newest record of which it is known where it stands
	Next        store.Position // behind that; others' records may follow

	cover  map[crdt.ReplicaID][]run
	parted uint64    // the record before which the newest runs end: see Part
	marks  []mark    // in order; the first one is at or before record First. What is in it does not change
	own    int64     // bytes of all records that were located, without others' between them
	newest time.Time // when the last record was written
}

// run says that the dots first to last of a replica are in the log, beginning in record number.
type run struct {
	first, last uint64
	number      uint64
}

// mark says where a record stands in the log. Those between two marks are found by reading from the
// first.
type mark struct {
	number uint64
	at     store.Position
	time   time.Time
	own    int64 // Index.own before it
}

const (
	// MaxRuns is how many runs an index has: the log is cut to keep to it. A checkpoint holds them.
	MaxRuns = 1 << 16
	maxRun  = 1024 // dots, and records, that one run spans, so that a search ends near its dot
)

// After returns an index of a log that begins behind a record, which ends at a position.
func After(last uint64, next store.Position) Index {
	return Index{First: last + 1, Last: last, Located: last, Next: next, cover: map[crdt.ReplicaID][]run{}}
}

// Append adds a record. Where it stands is said by Locate, and what is in it by Cover.
func (x *Index) Append(number uint64, written time.Time) { x.Last, x.newest = number, written }

// Part has the last record begin runs: to find one of its dots, what stands before is not read.
func (x *Index) Part() { x.parted = x.Last }

// Cover says that dots are in the last record.
func (x *Index) Cover(id crdt.ReplicaID, first, last uint64) {
	runs := x.cover[id]
	if n := len(runs); n > 0 {
		end := &runs[n-1]
		near := end.number >= x.parted && end.last-end.first < maxRun && x.Last-end.number < maxRun
		if near && end.last+1 == first {
			end.last = last
			return
		}
	}
	x.cover[id] = append(runs, run{first, last, x.Last})
}

// Locate says where a record stands, and what follows it. There is a mark for every so many bytes.
func (x *Index) Locate(number uint64, written time.Time, at, next, every store.Position) {
	x.Located, x.Next = number, next
	if n := len(x.marks); n == 0 || at-x.marks[n-1].at >= every {
		x.marks = append(x.marks, mark{number, at, written, x.own})
	}
	x.own += int64(next - at)
}

// Start returns the first record that someone with the given context needs, and whether the log
// covers all that is in seen and not in theirs. The record is past the end if they lack nothing.
func (x *Index) Start(seen, theirs crdt.VersionVector) (number uint64, covered bool) {
	number = x.Last + 1
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
		number = min(number, runs[i].number)
		for ; runs[i].last < have; i++ {
			if i+1 == len(runs) || runs[i+1].first != runs[i].last+1 {
				return 0, false
			}
		}
	}
	return max(number, x.First), true
}

// Find returns a record that is not behind the first with a dot of a replica that is from or a
// later one.
func (x *Index) Find(id crdt.ReplicaID, from uint64) (number uint64, found bool) {
	runs := x.cover[id]
	i := slices.IndexFunc(runs, func(run run) bool { return run.last >= from })
	if i < 0 {
		return 0, false
	}
	return max(runs[i].number, x.First), true
}

// runs returns how many there are. O(replicas).
func (x *Index) runs() (n int) {
	for _, runs := range x.cover {
		n += len(runs)
	}
	return n
}

// DropBefore has the log serve no records before one any more.
func (x *Index) DropBefore(number uint64) {
	x.First = max(x.First, min(number, x.Last+1))
	for id, runs := range x.cover {
		runs = slices.DeleteFunc(runs, func(r run) bool { return r.number < x.First })
		if x.cover[id] = runs; len(runs) == 0 {
			delete(x.cover, id)
		}
	}
	for len(x.marks) > 1 && x.marks[1].number <= x.First {
		x.marks = x.marks[1:]
	}
	if x.First > x.Last {
		x.marks = nil
	}
}

// Begin takes out what a log that begins at a position no longer has.
func (x *Index) Begin(at store.Position) {
	i := slices.IndexFunc(x.marks, func(m mark) bool { return m.at >= at })
	switch {
	case i > 0:
		x.DropBefore(x.marks[i].number)
	case i < 0:
		x.DropBefore(x.Last + 1)
	}
}

// Bytes returns the size of what a log that ends at a position holds.
func (x *Index) Bytes(end store.Position) int64 { return x.since(0, end) }

// Own returns how many bytes of that are its own records, and not others' that stand between them.
func (x *Index) Own() int64 {
	if len(x.marks) == 0 {
		return 0
	}
	return x.own - x.marks[0].own
}

// Least returns the size of what it holds at least, however it is cut: of what is behind the last
// place for that.
func (x *Index) Least(end store.Position) int64 { return x.since(len(x.marks)-1, end) }

func (x *Index) since(mark int, end store.Position) int64 {
	if len(x.marks) == 0 {
		return 0
	}
	return int64(end - x.marks[mark].at)
}

// Oldest tells where the oldest record stands, and when it was written; found is false if there is
// none.
func (x *Index) Oldest() (at store.Position, written time.Time, found bool) {
	if len(x.marks) == 0 {
		return 0, written, false
	}
	return x.marks[0].at, x.marks[0].time, true
}

// Large reports whether the log, which ends at a position, is larger than it may be, or has too
// many runs.
func (x *Index) Large(end store.Position, maxBytes int64) bool {
	return x.Bytes(end) > maxBytes || x.runs() > MaxRuns
}

// Due returns the record before which the log, which ends at a position, is to be cut: what lies
// before it is too old, or too much. It is First if nothing is. Nothing from record keep on is cut.
// All goes if what others wrote since is too much by itself.
func (x *Index) Due(keep uint64, end store.Position, maxBytes int64, oldest time.Time) (number uint64) {
	if x.Last < keep && x.First <= x.Last && (x.newest.Before(oldest) || int64(end-x.Next) > maxBytes) {
		return x.Last + 1
	}
	number = x.First
	crowded := x.runs() - MaxRuns
	for i := 1; i < len(x.marks) && x.marks[i].number <= keep; i++ {
		if !x.marks[i].time.Before(oldest) && x.since(i-1, end) <= maxBytes && crowded <= 0 {
			break
		}
		crowded -= maxRun
		number = x.marks[i].number
	}
	return number
}

// Extent is where a moment's log is. It may be used by any goroutine.
type Extent struct {
	Last  uint64 // the newest record that can be read
	first uint64
	marks []mark
}

// Extent returns that of the present moment.
func (x *Index) Extent() Extent { return Extent{x.Located, x.First, x.marks} }

// From returns where to begin to read for a record: a few may stand before it. served is false if
// the log does not have it.
func (e Extent) From(number uint64) (at store.Position, served bool) {
	i := sort.Search(len(e.marks), func(i int) bool { return e.marks[i].number > number })
	if i == 0 || number < e.first || number > e.Last {
		return 0, false
	}
	return e.marks[i-1].at, true
}

// Write writes the index, but for what Read is told.
func (x *Index) Write(w *wire.Writer) {
	w.Array(5)
	w.Uint(x.First)
	w.Uint(uint64(x.newest.UnixMilli()))
	w.Uint(uint64(x.own))
	w.Array(4 * len(x.marks))
	for _, m := range x.marks {
		w.Uint(m.number)
		w.Uint(uint64(m.at))
		w.Uint(uint64(m.time.UnixMilli()))
		w.Uint(uint64(m.own))
	}
	ids := slices.Sorted(maps.Keys(x.cover))
	w.Array(2 * len(ids))
	for _, id := range ids {
		w.Uint(uint64(id))
		w.Array(3 * len(x.cover[id]))
		for _, r := range x.cover[id] {
			w.Uint(r.first)
			w.Uint(r.last)
			w.Uint(r.number)
		}
	}
}

// Read reads an index of a log up to a record, which ends at a position, from at most limit bytes.
func Read(r *wire.Reader, limit int, last uint64, next store.Position) Index {
	x := After(last, next)
	r.Array(5)
	x.First, x.newest, x.own = r.Uint(), time.UnixMilli(int64(r.Uint())), int64(r.Uint())
	n := r.Array(limit) / 4
	for i := 0; i < n && r.Err() == nil; i++ {
		at := mark{r.Uint(), store.Position(r.Uint()), time.UnixMilli(int64(r.Uint())), int64(r.Uint())}
		x.marks = append(x.marks, at)
	}
	ids := r.Array(limit) / 2
	for i := 0; i < ids && r.Err() == nil; i++ {
		id := crdt.ReplicaID(r.Uint())
		runs := r.Array(limit) / 3
		for j := 0; j < runs && r.Err() == nil; j++ {
			x.cover[id] = append(x.cover[id], run{r.Uint(), r.Uint(), r.Uint()})
		}
	}
	return x
}
