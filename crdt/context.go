package crdt

import (
	"maps"
	"slices"
)

// Context is a causal context: a set of dots, kept as a version vector and, for dots that came
// before those in front of them, exceptions. A dot that the context holds and a cell does not
// was removed: the context is the tombstone. The zero Context is empty and ready to use.
//
// Values used without a store carry a Context (Almeida, Shoker, Baquero: Delta State Replicated
// Data Types, 2018, section 7). A store needs no exceptions: it applies deltas whole and in causal
// order, and keeps a VersionVector.
type Context struct {
	vector VersionVector
	cloud  map[Dot]struct{} // dots beyond the vector; none of them next in line
}

// ContextOf returns a context that holds the dots of v, which it copies.
func ContextOf(v VersionVector) Context { return Context{vector: v.Clone()} }

// Has reports whether d is in the context.
func (c *Context) Has(d Dot) bool {
	if c.vector.Has(d) {
		return true
	}
	_, ok := c.cloud[d]
	return ok
}

// Add puts d into the context.
func (c *Context) Add(d Dot) {
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
		c.Add(d)
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

// Next returns the counter of the next dot that r may issue: 1 if it has issued none. The context
// must hold all of r's own.
func (c *Context) Next(r ReplicaID) uint64 { return c.vector[r] + 1 }

// Equal reports whether both hold the same dots.
func (c *Context) Equal(o *Context) bool {
	return c.vector.Equal(o.vector) && maps.Equal(c.cloud, o.cloud)
}

// Clone returns a copy that shares nothing.
func (c *Context) Clone() Context {
	return Context{vector: c.vector.Clone(), cloud: maps.Clone(c.cloud)}
}
