package dotted

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/peerd/peerd/internal/wire"
)

// MaxCounter bounds the counters that are read from elsewhere: so adding to one never overflows.
const MaxCounter = 1 << 62

// ReplicaID names one writer: one copy of a State, or one incarnation of a store. It is 64 random
// bits, as of crypto/rand, so that no two ever share one; zero means none.
type ReplicaID uint64

// String returns the id as 16 hexadecimal digits.
func (r ReplicaID) String() string { return fmt.Sprintf("%016x", uint64(r)) }

// ParseReplicaID reads what String wrote.
func ParseReplicaID(s string) (ReplicaID, error) {
	u, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("replica id %q: want 16 hexadecimal digits", s)
	}
	return ReplicaID(u), nil
}

// MarshalText returns what String does.
func (r ReplicaID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *ReplicaID) UnmarshalText(text []byte) error {
	id, err := ParseReplicaID(string(text))
	if err == nil {
		*r = id
	}
	return err
}

// Dot names one mutation: the Counter-th of a replica, from 1 on without gaps. What a dot stands for
// never changes.
type Dot struct {
	Replica ReplicaID
	Counter uint64
}

// String returns "replica:counter".
func (d Dot) String() string { return fmt.Sprintf("%v:%d", d.Replica, d.Counter) }

// IsZero reports whether d is no dot.
func (d Dot) IsZero() bool { return d == Dot{} }

// Compare orders dots by replica, then counter.
func (d Dot) Compare(o Dot) int {
	return cmp.Or(cmp.Compare(d.Replica, o.Replica), cmp.Compare(d.Counter, o.Counter))
}

// ParseDot reads what String wrote.
func ParseDot(s string) (Dot, error) {
	id, count, ok := strings.Cut(s, ":")
	if ok {
		r, err := ParseReplicaID(id)
		n, err2 := strconv.ParseUint(count, 10, 64)
		if err == nil && err2 == nil && n <= MaxCounter {
			return Dot{r, n}, nil
		}
	}
	return Dot{}, fmt.Errorf("dot %q: want a replica id, a colon and a number", s)
}

// MarshalText returns what String does.
func (d Dot) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Dot) UnmarshalText(text []byte) error {
	read, err := ParseDot(string(text))
	if err == nil {
		*d = read
	}
	return err
}

// DotSet is what can say whether it holds a dot: a VersionVector, say, or a crdt.Context.
type DotSet interface {
	Has(d Dot) bool
}

// VersionVector holds, for each replica, its dots from 1 to the given counter. The nil vector is
// empty and may be read. An entry is never zero.
type VersionVector map[ReplicaID]uint64

// Has reports whether d is in the vector.
func (v VersionVector) Has(d Dot) bool { return d.Counter <= v[d.Replica] && d.Counter > 0 }

// Contains reports whether every dot of o is in v. O(len(o)).
func (v VersionVector) Contains(o VersionVector) bool {
	for r, n := range o {
		if v[r] < n {
			return false
		}
	}
	return true
}

// Equal reports whether both hold the same dots.
func (v VersionVector) Equal(o VersionVector) bool { return maps.Equal(v, o) }

// Merge adds the dots of o.
func (v VersionVector) Merge(o VersionVector) {
	for r, n := range o {
		if n > v[r] {
			v[r] = n
		}
	}
}

// Raise adds the dots of replica r up to and with n; n of zero changes nothing.
func (v VersionVector) Raise(r ReplicaID, n uint64) {
	if n > v[r] {
		v[r] = n
	}
}

// Clone returns a copy; never nil.
func (v VersionVector) Clone() VersionVector {
	c := make(VersionVector, len(v)+1)
	for r, n := range v {
		c[r] = n
	}
	return c
}

// Missing counts the dots of o that v lacks.
func (v VersionVector) Missing(o VersionVector) uint64 {
	var missing uint64
	for r, n := range o {
		if have := v[r]; n > have {
			missing += n - have
		}
	}
	return missing
}

// Replicas returns the replicas in the vector in ascending order.
func (v VersionVector) Replicas() []ReplicaID {
	ids := slices.AppendSeq(make([]ReplicaID, 0, len(v)), maps.Keys(v))
	slices.Sort(ids)
	return ids
}

const (
	// MaxVector bounds the entries of a vector that is read. It is far above how many replicas may have written,
	// as two contexts that are joined can have more than either.
	MaxVector = 1 << 20
	// maxDots bounds a list of dots that is read: what an encoded delta has room for.
	maxDots = 2 << 20
)

// WriteVector writes v in the order of replicas.
func WriteVector(w *wire.Writer, v VersionVector) {
	w.Array(2 * len(v))
	if len(v) == 0 {
		return // most are
	}
	for _, id := range v.Replicas() {
		w.Uint(uint64(id))
		w.Uint(v[id])
	}
}

// ReadVector reads what WriteVector wrote; nil for an empty one.
func ReadVector(r *wire.Reader) VersionVector {
	n := r.Array(2 * MaxVector)
	if n == 0 {
		return nil
	}
	v := make(VersionVector, min(n/2, 1024))
	last := ReplicaID(0)
	for i := 0; i < n/2 && r.Err() == nil; i++ {
		id, count := ReplicaID(r.Uint()), r.Uint()
		if id <= last || count == 0 || count > MaxCounter {
			r.Fail("version vector out of order")
			return nil
		}
		v[id], last = count, id
	}
	if n%2 != 0 {
		r.Fail("version vector of odd length")
	}
	return v
}

// WriteDot writes a dot, which is two values.
func WriteDot(w *wire.Writer, d Dot) {
	w.Uint(uint64(d.Replica))
	w.Uint(d.Counter)
}

// ReadDot reads what WriteDot wrote.
func ReadDot(r *wire.Reader) Dot { return Dot{ReplicaID(r.Uint()), r.Uint()} }

// WriteDots writes dots in the given order.
func WriteDots(w *wire.Writer, dots []Dot) {
	w.Array(2 * len(dots))
	for _, d := range dots {
		WriteDot(w, d)
	}
}

// ReadDots reads what WriteDots wrote; nil for none.
func ReadDots(r *wire.Reader) []Dot {
	n := r.Array(2 * maxDots)
	if n == 0 {
		return nil
	}
	if n%2 != 0 {
		r.Fail("dots of odd length")
		return nil
	}
	dots := make([]Dot, 0, min(n/2, 1024))
	for i := 0; i < n/2 && r.Err() == nil; i++ {
		dots = append(dots, ReadDot(r))
	}
	return dots
}
