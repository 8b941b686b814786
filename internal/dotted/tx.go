package dotted

import (
	"errors"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// Tx is what the types of package crdt are views over: a transaction on a sorted set of cells. crdt.State
// implements it in memory, the database over its store, so that each type's meaning is written once.
// Whoever uses values or the database does not meet it: crdt.Fields stands for it.
//
// A transaction sees its own writes. Cells that it returns must not be changed. It is used by one
// goroutine.
type Tx interface {
	// Cell returns the live entries of one cell, nil if there are none. O(log cells).
	Cell(a Address) (Cell, error)
	// Element is Cell of a name under an address, which need not be made if memory has it. The name is one that Ranked
	// has passed, of a type that stands in the order of names.
	Element(container Address, name string) (Cell, error)
	// Scan calls fn with each cell whose address begins with prefix and is greater than after, in the
	// order of addresses, until fn returns false. Hidden cells (see Cell.Visible) are passed too.
	Scan(prefix, after Address, fn func(Address, Cell) bool) error
	// Summary tells what is stored under a key without scanning its cells.
	Summary(key string) (Summary, error)
	// Count tells what was counted on the string at a, without a look at its shares. O(log cells).
	Count(a Address) (Count, error)
	// Rank returns how many of the visible cells of a container whose type has an order (see Kind.Order) come before a
	// key in it, which need not be there. O(log cells).
	Rank(container Address, key string) (before int, err error)
	// Ranked calls fn with the keys in that order, from the one that has so many before it on, or back from it to the
	// first, until fn returns false. fn must not write. O(log cells) for the first, O(1) for each further.
	Ranked(container Address, from int, back bool, fn func(key string) bool) error
	// Tallied calls fn with each key whose Summary has Tallies, until fn returns false. At once if there is none.
	Tallied(fn func(key string) bool) error

	// Put adds an entry to a cell and removes the ones with the given dots. It returns the entry's dot.
	Put(a Address, payload []byte, removes []Dot) (Dot, error)
	// Begin is Put into a cell that nobody has written yet, as its name has who writes it and the next dot. So nothing
	// is looked for.
	Begin(a Address, payload []byte) (Dot, error)
	// Remove removes entries from a cell. Without dots it does nothing.
	Remove(a Address, dots []Dot) error
	// Clear removes every entry of every cell under prefix that the transaction sees: of all cells, if it is
	// empty. One small operation, whatever it removes.
	Clear(prefix Address) error
	// Cleared reports whether all under a was cleared, and what that hides is not removed yet: who
	// looks for what is visible passes it. O(log clears).
	Cleared(a Address) bool

	// Replica returns who issues the transaction's dots; zero in one that only reads.
	Replica() ReplicaID
	// Ended reports whether the transaction sees that a replica issues no more dots, and so all that it issued.
	Ended(id ReplicaID) bool
	// Next returns the counter of the dot that the transaction issues next.
	Next() uint64
	// Time returns the transaction's timestamp.
	Time() Time
	// Now returns the wall clock's time, for what may have expired; zero if nothing has.
	Now() time.Time
	// Timed reports whether any name may have an expiry. O(1).
	Timed() bool
	// Shown returns what the replica's transactions remember together; nil in one that only reads.
	Shown() *Shown
}

// ErrReadOnly is returned by the writing methods of a transaction that only reads.
var ErrReadOnly = errors.New("transaction is read-only")

// Summary counts what is stored under one key.
type Summary struct {
	// Visible counts, for each Address.Shape, the cells that exist for readers. Those of a string and of its
	// shares are one. Expiries are among them, and make nothing exist.
	Visible Shapes
	// Tallies counts the cells for which Cell.Tallies holds.
	Tallies int
	// Sole is who counted on the key's own string, if nobody else did and there is no text beside that.
	Sole ReplicaID
}

// Exists reports whether the key exists for readers.
func (s Summary) Exists() bool {
	return s.Cells() > 0
}

// Cells returns how many visible cells the key has, without those of expiries.
func (s Summary) Cells() (n int) {
	for _, c := range s.Visible {
		if !c.expiry() {
			n += c.Count
		}
	}
	return n
}

// Timed reports whether the key has an expiry, which may be never.
func (s Summary) Timed() bool { return slices.ContainsFunc(s.Visible, ShapeCount.expiry) }

// TimedFields reports whether fields of the key, as a map, have expiries.
func (s Summary) TimedFields() bool {
	return slices.ContainsFunc(s.Visible, func(c ShapeCount) bool {
		return len(c.Shape) == 2 && c.Shape != neverShape && c.expiry()
	})
}

// Types passes the types under the key, in no order, and one again for each shape of cells that begins with it.
func (s Summary) Types() iter.Seq[Type] {
	return func(yield func(Type) bool) {
		for _, c := range s.Visible {
			if c.Count > 0 && len(c.Shape) > 0 && !c.expiry() && !yield(Type(c.Shape[0])) {
				return
			}
		}
	}
}

// Count returns how many visible cells the key has with type t.
func (s Summary) Count(t Type) int {
	total := 0
	for _, c := range s.Visible {
		if len(c.Shape) > 0 && Type(c.Shape[0]) == t {
			total += c.Count
		}
	}
	return total
}

// Shapes counts cells by their shapes, in the order of these, but for those of which there are none: a key has one or two,
// for which a map would take ten times the memory.
type Shapes []ShapeCount

// ShapeCount is how many cells have a shape.
type ShapeCount struct {
	Shape string
	Count int
}

// expiry reports whether the cells are expiries, of a name at any depth.
func (c ShapeCount) expiry() bool {
	return c.Shape != "" && Type(c.Shape[len(c.Shape)-1]) == typeExpiry
}

// Of returns the count of a shape.
func (s Shapes) Of(shape string) int {
	if i, found := s.find(shape); found {
		return s[i].Count
	}
	return 0
}

func (s Shapes) find(shape string) (i int, found bool) {
	return slices.BinarySearchFunc(s, shape, func(c ShapeCount, shape string) int { return strings.Compare(c.Shape, shape) })
}

// Add adds to the count of a shape, in place.
func (s *Shapes) Add(shape string, by int) {
	i, found := s.find(shape)
	switch {
	case !found:
		*s = slices.Insert(*s, i, ShapeCount{shape, by})
	case (*s)[i].Count+by == 0:
		*s = slices.Delete(*s, i, i+1)
	default:
		(*s)[i].Count += by
	}
}

// Count is what was counted on one string, by all its shares together.
type Count struct {
	Sum    Int128 // of what its shares count
	Shares int    // how many of the cells of its shares exist for readers
	// Unwritten says that there are shares and no text beside them. If it is false, that is not known.
	Unwritten bool
}

// Value returns the sum; beyond 64 bits the nearest bound.
func (c Count) Value() int64 {
	n, _ := c.Sum.Int64()
	return n
}

// Int128 is a signed number of 128 bits, in two's complement. Adding wraps around, so that sums that were kept by
// adding and taking away are those of what is there, in whatever order that came and went.
type Int128 struct {
	Hi int64
	Lo uint64
}

// Int128Of returns n.
func Int128Of(n int64) Int128 { return Int128{n >> 63, uint64(n)} }

// Plus returns a + b.
func (a Int128) Plus(b Int128) Int128 {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	return Int128{a.Hi + b.Hi + int64(carry), lo}
}

// Minus returns a − b.
func (a Int128) Minus(b Int128) Int128 {
	lo, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	return Int128{a.Hi - b.Hi - int64(borrow), lo}
}

// Int64 returns the number, and false if that is beyond 64 bits and the nearest bound is returned instead.
func (a Int128) Int64() (n int64, exact bool) {
	switch {
	case a == Int128Of(int64(a.Lo)):
		return int64(a.Lo), true
	case a.Hi < 0:
		return math.MinInt64, false
	}
	return math.MaxInt64, false
}
