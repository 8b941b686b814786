package delta

import (
	"maps"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// A store draws a new replica id at every start, so a context has an entry for each start that ever
// wrote. Vectors do not grow with that, because of bases. A base is the permanent fact that a
// replica had issued its dots up to some one of them. It is replicated as an ordinary operation,
// OpBase, whose delta depends on those dots.
//
// Whoever has applied a base leaves its replica out of the vectors that it sends and stores, if it
// has exactly as much of it. That is the short form of a context. Who reads one takes a replica
// that is missing for what a base says only if that base's own dot is in the same vector, listed or
// by another base; else as nothing. So:
//
//   - If all that a short form lists is in a context, all that it stands for is. For the dots of the bases by which
//     it leaves out are then there, and so is what those depend on.
//   - Contexts whose short forms are equal are equal.
//   - A reader that lacks some of the bases takes a vector for less than it stands for, never for more.
//
// Taking a missing replica for what a base says without a look for that base in the vector is
// wrong, and so is leaving out what has more than its base, or leaving it out in the delta that
// makes the base.

// MaxBases bounds the bases of one operation.
const MaxBases = 8192

// Base says that a replica had issued its dots up to Last, and which hash the delta has that ends
// there.
type Base struct {
	Replica crdt.ReplicaID
	Last    uint64
	Head    Hash
}

// Table is what one OpBase says.
type Table struct {
	Dot   crdt.Dot // of the operation
	Bases []Base   // in the order of replicas
}

// BaseOp returns an operation that says bases, which are in the order of replicas.
func BaseOp(bases []Base) Op {
	return Op{Kind: OpBase, Payload: wire.Encode(func(w *wire.Writer) { writeBases(w, bases) })}
}

// Bases returns what an OpBase says.
func (o *Op) Bases() (bases []Base, err error) {
	err = wire.Decode(o.Payload, func(r *wire.Reader) { bases = readBases(r) })
	return bases, err
}

func writeBases(w *wire.Writer, bases []Base) {
	w.Array(3 * len(bases))
	for _, b := range bases {
		w.Uint(uint64(b.Replica))
		w.Uint(b.Last)
		w.Uint(uint64(b.Head))
	}
}

func readBases(r *wire.Reader) []Base {
	n := r.Array(3 * MaxBases)
	if n == 0 || n%3 != 0 {
		r.Fail("%d values of bases", n)
		return nil
	}
	bases := make([]Base, 0, min(n/3, 1024))
	last := crdt.ReplicaID(0)
	for i := 0; i < n/3 && r.Err() == nil; i++ {
		b := Base{crdt.ReplicaID(r.Uint()), r.Uint(), Hash(r.Uint())}
		if b.Replica <= last || b.Last == 0 || b.Last > dotted.MaxCounter {
			r.Fail("bases out of order")
		}
		last = b.Replica
		bases = append(bases, b)
	}
	return bases
}

const tableFields = 3 // replica and counter of the dot, bases

// Write writes the table, which is three values.
func (t Table) Write(w *wire.Writer) {
	dotted.WriteDot(w, t.Dot)
	writeBases(w, t.Bases)
}

// ReadTable reads what Write wrote.
func ReadTable(r *wire.Reader) Table {
	t := Table{Dot: dotted.ReadDot(r)}
	if t.Dot.Replica == 0 || t.Dot.Counter == 0 || t.Dot.Counter > dotted.MaxCounter {
		r.Fail("bases without a dot")
	}
	t.Bases = readBases(r)
	return t
}

// WriteTables writes tables in their order, as one array.
func WriteTables(w *wire.Writer, tables []Table) {
	w.Array(tableFields * len(tables))
	for _, t := range tables {
		t.Write(w)
	}
}

// ReadTables reads what WriteTables wrote, at most so many values.
func ReadTables(r *wire.Reader, most int) (tables []Table) {
	n := r.Array(most)
	if n%tableFields != 0 {
		r.Fail("%d values of tables of bases", n)
	}
	for ; n > 0 && r.Err() == nil; n -= tableFields {
		tables = append(tables, ReadTable(r))
	}
	return tables
}

// Tables returns what the delta's operations say of bases, in their order.
func (d *Delta) Tables() (tables []Table) {
	for i := range d.Ops {
		if d.Ops[i].Kind != OpBase {
			continue
		}
		if bases, err := d.Ops[i].Bases(); err == nil { // it was checked when the delta was made or read
			tables = append(tables, Table{Dot: d.Dot(i), Bases: bases})
		}
	}
	return tables
}

// Bases are those that a context holds: the tables of all OpBases that are in it. The zero value
// holds none. One goroutine owns it, but for what Snapshot returns.
type Bases struct {
	// tables stand in the order in which they were applied, which is causal: one that says
	// something of another's issuer, up to its dot or beyond, stands behind it.
	tables []Table
	of     map[crdt.ReplicaID]Base   // of each replica the one that says most
	tops   map[crdt.ReplicaID]uint64 // dots of tables that no base covers: who has these has all
	shared bool                      // a Snapshot has the maps
}

// Snapshot returns the bases of this moment, which never change: any goroutine may use them. It
// takes constant time.
func (b *Bases) Snapshot() *Bases {
	if !b.shared { // that of a snapshot is: many goroutines may take one of it
		b.shared = true
	}
	s := *b
	s.tables = b.tables[:len(b.tables):len(b.tables)]
	return &s
}

// Tables returns the tables in the order in which they were applied. They must not be changed.
func (b *Bases) Tables() []Table { return b.tables[:len(b.tables):len(b.tables)] }

// First returns the first n of the tables, for any goroutine. O(bases of these), unless they are
// all.
func (b *Bases) First(n int) *Bases {
	if n == len(b.tables) {
		return b.Snapshot()
	}
	first := &Bases{}
	for _, t := range b.tables[:n] {
		first.Hold(t)
	}
	return first
}

// Hold adds a table that was just applied. O(bases) once after each Snapshot, else O(bases of the
// table).
func (b *Bases) Hold(t Table) {
	if b.shared || b.of == nil {
		b.of, b.tops, b.shared = orEmpty(maps.Clone(b.of)), orEmpty(maps.Clone(b.tops)), false
	}
	b.tables = append(b.tables, t)
	for _, base := range t.Bases {
		if base.Last > b.of[base.Replica].Last {
			b.of[base.Replica] = base
		}
		if at, ok := b.tops[base.Replica]; ok && at <= base.Last {
			delete(b.tops, base.Replica)
		}
	}
	if t.Dot.Counter > b.of[t.Dot.Replica].Last {
		b.tops[t.Dot.Replica] = max(b.tops[t.Dot.Replica], t.Dot.Counter)
	}
}

func orEmpty[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// Between reports whether a replica said bases after one of its dots and up to another.
func (b *Bases) Between(id crdt.ReplicaID, after, upTo uint64) bool {
	return slices.ContainsFunc(b.tables, func(t Table) bool {
		return t.Dot.Replica == id && t.Dot.Counter > after && t.Dot.Counter <= upTo
	})
}

// LeavesOut reports whether a context that holds the bases, and so many dots of a replica, leaves
// it out.
func (b *Bases) LeavesOut(id crdt.ReplicaID, count uint64, head Hash) bool {
	base := b.of[id]
	return base.Last == count && base.Head == head && count > 0
}

// Says returns the base that says most of a replica; the zero Base if there is none.
func (b *Bases) Says(id crdt.ReplicaID) Base { return b.of[id] }

// Uncovered returns how many tables each replica issued beyond what the bases say of it. O(tables).
func (b *Bases) Uncovered() map[crdt.ReplicaID]uint64 {
	n := map[crdt.ReplicaID]uint64{}
	for i := range b.tables {
		if dot := b.tables[i].Dot; dot.Counter > b.of[dot.Replica].Last {
			n[dot.Replica]++
		}
	}
	return n
}

// allIn reports whether a vector has the dots of all tables. Who has a table has all that its bases
// cover.
func (b *Bases) allIn(v crdt.VersionVector) bool {
	for id, counter := range b.tops {
		if v[id] < counter {
			return false
		}
	}
	return true
}

// Expand returns what a short form stands for, as far as these bases say, and the heads of that. It
// owns what it returns. O(bases).
func (b *Bases) Expand(v crdt.VersionVector, heads Heads) (crdt.VersionVector, Heads) {
	full, all := orEmpty(v.Clone()), orEmpty(maps.Clone(heads))
	b.within(full, func(base Base) {
		// Of two with the last dot of a forked id it is the one that came first, as in Hold.
		if _, listed := v[base.Replica]; !listed && full[base.Replica] <= base.Last {
			full[base.Replica], all[base.Replica] = base.Last, base.Head
		}
	})
	return full, all
}

// within calls fn with the bases of those tables that are in a vector, as far as that is known; fn
// may add to it. The newest come first: what says that a table is in the vector stands behind it.
func (b *Bases) within(v crdt.VersionVector, fn func(Base)) {
	for i := len(b.tables) - 1; i >= 0; i-- {
		if t := &b.tables[i]; v[t.Dot.Replica] >= t.Dot.Counter {
			for _, base := range t.Bases {
				fn(base)
			}
		}
	}
}

// Shorten returns a vector without what it may leave out. The vector may leave out some already.
func (b *Bases) Shorten(v crdt.VersionVector) crdt.VersionVector {
	said := b.of
	if !b.allIn(v) {
		said = map[crdt.ReplicaID]Base{}
		full, _ := b.Expand(v, nil)
		b.within(full, func(base Base) {
			if base.Last > said[base.Replica].Last {
				said[base.Replica] = base
			}
		})
	}
	short := crdt.VersionVector{}
	for id, n := range v {
		if said[id].Last != n {
			short[id] = n
		}
	}
	return short
}

// Seen is a context in its short form, together with what tells what that stands for.
type Seen struct {
	listed crdt.VersionVector
	less   crdt.VersionVector // of replicas that it leaves out and of which it has less than bases says; nil if of none
	bases  *Bases
}

// Read returns what a short form stands for, as far as these bases say. It keeps the vector. It
// takes constant time if all bases are in it, else O(bases).
func (b *Bases) Read(v crdt.VersionVector) Seen {
	s := Seen{listed: v, bases: b.Snapshot()}
	if b.allIn(v) {
		return s
	}
	full, _ := b.Expand(v, nil)
	s.less = crdt.VersionVector{}
	for id, base := range b.of {
		if _, listed := v[id]; !listed && full[id] != base.Last {
			s.less[id] = full[id]
		}
	}
	return s
}

// Whole returns a context in its long form as a Seen.
func Whole(v crdt.VersionVector) Seen { return Seen{listed: v} }

// Vector returns the short form. It must not be changed.
func (s Seen) Vector() crdt.VersionVector { return s.listed }

// Clone returns a copy: Raise of the one does not change the other.
func (s Seen) Clone() Seen {
	s.listed = s.listed.Clone()
	return s
}

// Count returns how many dots of a replica are in it.
func (s Seen) Count(id crdt.ReplicaID) uint64 {
	if n, ok := s.listed[id]; ok || s.bases == nil {
		return n
	}
	if n, ok := s.less[id]; ok {
		return n
	}
	return s.bases.of[id].Last
}

// Has reports whether a dot is in it.
func (s Seen) Has(d crdt.Dot) bool { return d.Counter > 0 && d.Counter <= s.Count(d.Replica) }

// Raise adds the dots of a replica up to and with n.
func (s Seen) Raise(id crdt.ReplicaID, n uint64) {
	if n > s.Count(id) {
		s.listed[id] = n
	}
}

// Missing counts the dots that a vector lists and it lacks, by replica.
func (s Seen) Missing(v crdt.VersionVector) crdt.VersionVector {
	missing := crdt.VersionVector{}
	for id, n := range v {
		if have := s.Count(id); have < n {
			missing[id] = n - have
		}
	}
	return missing
}
