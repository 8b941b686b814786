package dotted

import (
	"errors"
	"iter"
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
	// Scan calls fn with each cell whose address begins with prefix and is greater than after, in the
	// order of addresses, until fn returns false. Hidden cells (see Cell.Visible) are passed too.
	Scan(prefix, after Address, fn func(Address, Cell) bool) error
	// Summary tells what is stored under a key without scanning its cells.
	Summary(key string) (Summary, error)
	// Count tells what was counted on the string at a, without a look at its shares. O(log cells).
	Count(a Address) (Count, error)
	// Tallied calls fn with each key whose Summary has Tallies, until fn returns false. At once if there is none.
	Tallied(fn func(key string) bool) error

	// Put adds an entry to a cell and removes the ones with the given dots. It returns the entry's dot.
	Put(a Address, payload []byte, removes []Dot) (Dot, error)
	// Remove removes entries from a cell. Without dots it does nothing.
	Remove(a Address, dots []Dot) error
	// Clear removes every entry of every cell under prefix that the transaction sees: of all cells, if it is
	// empty. One small operation, whatever it removes.
	Clear(prefix Address) error

	// Replica returns who issues the transaction's dots; zero in one that only reads.
	Replica() ReplicaID
	// Ended reports whether the transaction sees that a replica issues no more dots, and so all that it issued.
	Ended(id ReplicaID) bool
	// Time returns the transaction's timestamp.
	Time() Time
}

// ErrReadOnly is returned by the writing methods of a transaction that only reads.
var ErrReadOnly = errors.New("transaction is read-only")

// Summary counts what is stored under one key.
type Summary struct {
	// Visible counts, for each Address.Shape, the cells that exist for readers. Those of a string and of its
	// shares are one.
	Visible map[string]int
	// Tallies counts the cells for which Cell.Tallies holds.
	Tallies int
}

// Exists reports whether the key exists for readers.
func (s Summary) Exists() bool {
	for _, n := range s.Visible {
		if n > 0 {
			return true
		}
	}
	return false
}

// Types passes the types under the key, in no order, and one again for each shape of cells that begins with it.
func (s Summary) Types() iter.Seq[Type] {
	return func(yield func(Type) bool) {
		for shape, n := range s.Visible {
			if n > 0 && len(shape) > 0 && !yield(Type(shape[0])) {
				return
			}
		}
	}
}

// Holds reports whether the key has visible cells of type t.
func (s Summary) Holds(t Type) bool { return s.Count(t) > 0 }

// Count returns how many visible cells the key has with type t.
func (s Summary) Count(t Type) int {
	total := 0
	for shape, n := range s.Visible {
		if len(shape) > 0 && Type(shape[0]) == t {
			total += n
		}
	}
	return total
}
