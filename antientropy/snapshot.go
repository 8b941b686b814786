package antientropy

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Snapshot is one pinned moment of a replica: its context, cells and tree belong together and
// never change. It is used by one goroutine at a time. Cells passed or returned must not be
// changed, and stay valid after the call.
type Snapshot interface {
	// Context returns the pinned context and its heads, which the session does not change.
	Context() (crdt.VersionVector, delta.Heads)
	// Vector returns the context's short form, and Bases what that is read with.
	Vector() crdt.VersionVector
	Bases() *delta.Bases
	// Count returns how many cells there are.
	Count() int
	// Node returns a node of the tree, as Tree.Node does.
	Node(level, index int) Fingerprint
	// Leaf calls fn with the cells of one leaf whose address is greater than after, in the order
	// of their places (dotted.Address.Place), until fn returns false.
	Leaf(leaf int, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error
	// Cells calls fn with all cells whose address is greater than after, in the order of places,
	// until fn returns false.
	Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error
	// Cell returns one cell, nil if there is none.
	Cell(a dotted.Address) (dotted.Cell, error)
}

// Staging takes what a session finds, to be applied in one flip or thrown away. Each entry is
// added once and each dot removed once, but one cell may come in several calls. The slices and
// payloads point into decoded messages: a stage that outlives them copies. An error ends the
// session.
type Staging interface {
	// Add stages entries that the local replica has not seen, in the order of their dots.
	Add(a dotted.Address, entries []dotted.Entry) error
	// Remove stages the removal of local entries, in the order of their dots.
	Remove(a dotted.Address, dots []crdt.Dot) error
}

// Cursor is a position among entries in the order of places, then dots: just behind the entry
// that it names. The zero Cursor is before everything.
type Cursor struct {
	Address dotted.Address
	Dot     crdt.Dot
}

// Part is a cell, or some of its entries: a large cell is sent in parts.
type Part struct {
	Address dotted.Address
	Entries dotted.Cell // never empty, in the order of dots
}

// scan is how a Snapshot is walked: by its Cells, or by its Leaf for one leaf.
type scan func(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error

func scanLeaf(s Snapshot, leaf int) scan {
	return func(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
		return s.Leaf(leaf, after, fn)
	}
}

// walk calls fn with the entries behind a cursor, cell by cell, until fn returns false. The first
// cell may be the rest of the one that the cursor stands in.
func walk(s Snapshot, cells scan, after Cursor, fn func(dotted.Address, dotted.Cell) bool) error {
	if after != (Cursor{}) {
		cell, err := s.Cell(after.Address)
		if err != nil {
			return err
		}
		if cell = behind(cell, after.Dot); len(cell) > 0 && !fn(after.Address, cell) {
			return nil
		}
	}
	return cells(after.Address, fn)
}

// fromCell calls fn with the cells of a leaf from the one at an address on, whole, until fn returns false.
func fromCell(s Snapshot, leaf int, first dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	if first != "" {
		cell, err := s.Cell(first)
		if err != nil || len(cell) > 0 && !fn(first, cell) {
			return err
		}
	}
	return s.Leaf(leaf, first, fn)
}

// upTo returns the entries whose dots are not beyond d, and behind the others.
func upTo(c dotted.Cell, d crdt.Dot) dotted.Cell { return c[:len(c)-len(behind(c, d))] }

func behind(c dotted.Cell, d crdt.Dot) dotted.Cell {
	i, found := c.Find(d)
	if found {
		i++
	}
	return c[i:]
}
