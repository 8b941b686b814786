package dotted

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/peerd/peerd/internal/wire"
)

// MaxPayload is how long a payload may be, in bytes: a value of 16 MiB, and what its type puts before it. A longer
// one is refused with ErrTooLong, and not read.
const MaxPayload = 16<<20 + 64

// Entry is one live mutation of a cell: its dot and what it put there. Payloads are immutable.
type Entry struct {
	Dot     Dot
	Payload []byte
}

// Every payload begins with a byte that tells its kind. What follows is its type's own affair; stores
// look at two bits of the first byte only.
const (
	// PayloadHidden marks an entry that does not make its cell exist for readers, as a counter's
	// baseline. A cell with hidden entries alone is not counted, listed or scanned by users.
	PayloadHidden = 0x80
	// PayloadTally marks an entry of which a Clear by context would lose something: a counter's share.
	// Whoever clears cells that hold one puts a baseline beside it.
	PayloadTally = 0x40
)

// Cell is the live entries of one address, in the order of their dots. It holds one entry, rarely a
// few: one for each write that no other has replaced yet.
type Cell []Entry

// Find returns the position of d, and whether it is there.
func (c Cell) Find(d Dot) (int, bool) {
	return slices.BinarySearchFunc(c, d, func(e Entry, d Dot) int { return e.Dot.Compare(d) })
}

// Has reports whether d is live in the cell.
func (c Cell) Has(d Dot) bool {
	_, ok := c.Find(d)
	return ok
}

// With returns the cell with e in it. The receiver is not changed.
func (c Cell) With(e Entry) Cell {
	i, ok := c.Find(e.Dot)
	if ok {
		return c
	}
	out := make(Cell, 0, len(c)+1)
	return append(append(append(out, c[:i]...), e), c[i:]...)
}

// Without returns the cell without the given dots. The receiver is not changed.
func (c Cell) Without(dots []Dot) Cell {
	if !slices.IsSortedFunc(dots, Dot.Compare) {
		dots = slices.SortedFunc(slices.Values(dots), Dot.Compare)
	}
	var out Cell
	for i, e := range c {
		if _, gone := slices.BinarySearchFunc(dots, e.Dot, Dot.Compare); !gone {
			if out == nil {
				out = make(Cell, 0, len(c)-i)
			}
			out = append(out, e)
		}
	}
	return out
}

// Outside returns the entries whose dots are not in s: what a clear that saw s leaves.
func (c Cell) Outside(s DotSet) Cell {
	var out Cell
	for _, e := range c {
		if !s.Has(e.Dot) {
			out = append(out, e)
		}
	}
	return out
}

// Equal reports whether both cells have the same entries.
func (c Cell) Equal(o Cell) bool {
	return slices.EqualFunc(c, o, func(a, b Entry) bool { return a.Dot == b.Dot && bytes.Equal(a.Payload, b.Payload) })
}

// Dots returns the dots of the entries.
func (c Cell) Dots() []Dot {
	dots := make([]Dot, len(c))
	for i, e := range c {
		dots[i] = e.Dot
	}
	return dots
}

// Visible reports whether the cell exists for readers.
func (c Cell) Visible() bool {
	return slices.ContainsFunc(c, func(e Entry) bool { return !e.Has(PayloadHidden) })
}

// Tallies reports whether a clear of the cell needs a baseline, or may need to do something that a newer version knows. A
// cell that has entries is visible, or tallies, or both.
func (c Cell) Tallies() bool {
	return slices.ContainsFunc(c, func(e Entry) bool { return e.Has(PayloadTally | PayloadHidden) })
}

// Has reports whether the first byte of the payload has a flag: PayloadHidden or PayloadTally.
func (e Entry) Has(flag byte) bool { return len(e.Payload) > 0 && e.Payload[0]&flag != 0 }

// HoldsBaseline reports whether the cell at an address has a baseline for a share of which wanted says that.
func (c Cell) HoldsBaseline(a Address, wanted func(owner ReplicaID) bool) bool {
	return slices.ContainsFunc(c, func(e Entry) bool {
		owner, ok := a.BaselineOwner(e)
		return ok && wanted(owner)
	})
}

// HoldsShare reports whether the cell has a share of an owner.
func (c Cell) HoldsShare(owner ReplicaID) bool {
	return slices.ContainsFunc(c, func(e Entry) bool {
		return e.Dot.Replica == owner && e.Has(PayloadTally) && !e.Has(PayloadHidden)
	})
}

// BaselineOwner returns for whose share an entry in the cell at a is a baseline, which the address says or else what
// follows the first byte of the payload. ok is false if it is none.
func (a Address) BaselineOwner(e Entry) (owner ReplicaID, ok bool) {
	if !e.Has(PayloadHidden) || !e.Has(PayloadTally) {
		return 0, false
	}
	if _, owner, ok = a.CutShare(); ok || len(e.Payload) < 9 {
		return owner, ok
	}
	return ReplicaID(binary.BigEndian.Uint64(e.Payload[1:])), true
}

// Write writes the entries, each of which is three values.
func (c Cell) Write(w *wire.Writer) {
	w.Array(3 * len(c))
	for _, e := range c {
		WriteDot(w, e.Dot)
		w.Bytes(e.Payload)
	}
}

// Join merges one cell as two replicas have it, each under its own causal context. An entry stays if
// both have it, or if one has it and the other has never seen its dot. Commutative, associative and
// idempotent. O(len(a) + len(b)).
func Join(a Cell, seenByA DotSet, b Cell, seenByB DotSet) Cell {
	var out Cell
	for len(a) > 0 || len(b) > 0 {
		switch order := compareHeads(a, b); {
		case order == 0:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		case order < 0:
			if !seenByB.Has(a[0].Dot) {
				out = append(out, a[0])
			}
			a = a[1:]
		default:
			if !seenByA.Has(b[0].Dot) {
				out = append(out, b[0])
			}
			b = b[1:]
		}
	}
	return out
}

func compareHeads(a, b Cell) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return a[0].Dot.Compare(b[0].Dot)
}
