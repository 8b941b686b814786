package dotted

import "github.com/peerd/peerd/internal/wire"

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

// WriteDots writes dots in the given order.
func WriteDots(w *wire.Writer, dots []Dot) {
	w.Array(2 * len(dots))
	for _, d := range dots {
		w.Uint(uint64(d.Replica))
		w.Uint(d.Counter)
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
		dots = append(dots, Dot{ReplicaID(r.Uint()), r.Uint()})
	}
	return dots
}
