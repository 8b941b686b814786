package crdt

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Context is a causal context: a set of dots, kept as a version vector and, for dots that came
// before those in front of them, exceptions. A dot that the context holds and a cell does not
// was removed: the context is the tombstone. The zero Context is empty and ready to use.
//
// Whoever merges states keeps track by contexts of what others have: one that Contains a delta's, or
// a state's, lacks nothing of it. The database needs no exceptions, as it applies deltas whole and in
// causal order: it keeps a VersionVector.
type Context struct {
	vector VersionVector
	cloud  map[Dot]struct{} // dots beyond the vector; none of them next in line
}

// Has reports whether d is in the context.
func (c *Context) Has(d Dot) bool {
	if c.vector.Has(d) {
		return true
	}
	_, ok := c.cloud[d]
	return ok
}

// Contains reports whether every dot of o is in the context. O(len(o)).
func (c *Context) Contains(o *Context) bool {
	if !c.vector.Contains(o.vector) { // then the next dot is missing, as exceptions have gaps before them
		return false
	}
	for d := range o.cloud {
		if !c.Has(d) {
			return false
		}
	}
	return true
}

// add puts d into the context.
func (c *Context) add(d Dot) {
	if d.Counter == 0 || c.Has(d) {
		return
	}
	if c.vector == nil {
		c.vector = VersionVector{}
	}
	if c.vector[d.Replica]+1 != d.Counter {
		if c.cloud == nil {
			c.cloud = map[Dot]struct{}{}
		}
		c.cloud[d] = struct{}{}
		return
	}
	c.vector[d.Replica] = d.Counter
	c.compact(d.Replica)
}

// compact moves the exceptions of r that are now next in line into the vector.
func (c *Context) compact(r ReplicaID) {
	for n := c.vector[r] + 1; len(c.cloud) > 0; n++ {
		d := Dot{Replica: r, Counter: n}
		if _, ok := c.cloud[d]; !ok {
			return
		}
		delete(c.cloud, d)
		c.vector[r] = n
	}
}

// Merge adds the dots of o. O(len(o)), and if o raises the vector O(exceptions).
func (c *Context) Merge(o *Context) {
	if !c.vector.Contains(o.vector) {
		c.raise(o.vector)
	}
	for d := range o.cloud {
		c.add(d)
	}
}

// raise merges v into the vector and drops the exceptions that are then no longer any.
func (c *Context) raise(v VersionVector) {
	if c.vector == nil {
		c.vector = VersionVector{}
	}
	c.vector.Merge(v)
	for d := range c.cloud {
		if c.vector.Has(d) {
			delete(c.cloud, d)
		}
	}
	for r := range v {
		c.compact(r)
	}
}

// Vector returns a copy of the gapless part: for each replica its dots from 1 on.
func (c *Context) Vector() VersionVector { return c.vector.Clone() }

// Exceptions returns the dots beyond the gapless part, in order.
func (c *Context) Exceptions() []Dot {
	return slices.SortedFunc(maps.Keys(c.cloud), Dot.Compare)
}

// next returns the counter of the next dot that r may issue. The context must hold all of r's own.
func (c *Context) next(r ReplicaID) uint64 { return c.vector[r] + 1 }

// Equal reports whether both hold the same dots.
func (c *Context) Equal(o *Context) bool {
	return c.vector.Equal(o.vector) && maps.Equal(c.cloud, o.cloud)
}

// Clone returns a copy that shares nothing.
func (c *Context) Clone() *Context {
	return &Context{vector: c.vector.Clone(), cloud: maps.Clone(c.cloud)}
}

// contextVersion is the version of an encoded Context. Another one is refused.
const contextVersion = 2

// contextSeal is what stands for the key under which a record is sealed.
const contextSeal = "peerd context"

const contextFields = 2 // vector, exceptions

// MarshalBinary returns canonical, versioned and checksummed bytes: equal contexts have equal ones.
// It never fails.
func (c *Context) MarshalBinary() ([]byte, error) {
	body := wire.Encode(func(w *wire.Writer) {
		w.Array(contextFields)
		c.write(w)
	})
	return wire.Seal(contextVersion, []byte(contextSeal), body), nil
}

// UnmarshalBinary replaces the context with the one that MarshalBinary wrote. After an error, for
// bytes that were damaged or are of another version, c is as it was. data is not kept.
func (c *Context) UnmarshalBinary(data []byte) error {
	var read Context
	err := unseal(contextSeal, contextVersion, data, func(r *wire.Reader) {
		extra := r.Fields(contextFields)
		read = readContext(r)
		r.Skip(extra)
	})
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	*c = read
	return nil
}

// contextJSON is a Context in JSON.
type contextJSON struct {
	Vector     VersionVector `json:"vector"`
	Exceptions []Dot         `json:"exceptions,omitempty"`
}

// MarshalJSON returns {"vector": {replica: counter, …}, "exceptions": ["replica:counter", …]}, the
// latter if there are any.
func (c *Context) MarshalJSON() ([]byte, error) {
	return json.Marshal(contextJSON{c.Vector(), c.Exceptions()})
}

// UnmarshalJSON replaces the context with the one that MarshalJSON wrote. After an error c is as it
// was.
func (c *Context) UnmarshalJSON(data []byte) error {
	var read contextJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	next := Context{vector: read.Vector}
	for r, n := range next.vector {
		if r == 0 || n == 0 || n > dotted.MaxCounter {
			return errors.New("context: a vector with a counter of none")
		}
	}
	for _, d := range read.Exceptions {
		if d.Replica == 0 || d.Counter == 0 {
			return errors.New("context: an exception that is no dot")
		}
		next.add(d)
	}
	*c = next
	return nil
}

// write writes the two fields that readContext reads.
func (c *Context) write(w *wire.Writer) {
	dotted.WriteVector(w, c.vector)
	dotted.WriteDots(w, c.Exceptions())
}

// readContext reads a vector and exceptions, of which none may be in the vector or next in line.
func readContext(r *wire.Reader) Context {
	c := Context{vector: dotted.ReadVector(r)}
	n := r.Array(math.MaxInt32) // of numbers, each of a byte at least: who writes at once may have millions of dots
	if n%2 != 0 {
		r.Fail("exceptions of a context of odd length")
	}
	last := Dot{}
	for ; n > 0 && r.Err() == nil; n -= 2 {
		d := dotted.ReadDot(r)
		redundant := d.Counter <= c.next(d.Replica)
		if redundant || d.Compare(last) <= 0 || d.Replica == 0 || d.Counter > dotted.MaxCounter {
			r.Fail("exceptions of a context out of order")
			return Context{}
		}
		c.add(d)
		last = d
	}
	return c
}

// unseal reads what was sealed with a version. read keeps nothing of it but copies.
func unseal(seal string, version byte, data []byte, read func(*wire.Reader)) error {
	got, body, err := wire.Unseal([]byte(seal), data)
	if err != nil {
		return err
	}
	if err := wire.CheckFormat(uint64(got), uint64(version), "have its maker write it again"); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	return wire.Decode(body, read)
}
