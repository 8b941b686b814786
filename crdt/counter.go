package crdt

import (
	"errors"
	"math"

	"github.com/peerd/peerd/internal/dotted"
)

// ErrOverflow is returned for an increment that would take the value beyond 64 bits. Nothing
// changed.
var ErrOverflow = errors.New("increment would overflow 64 bits")

// Counter is a sum to which replicas add. Each has one entry, its share, so a counter's size
// depends on how many replicas have counted and not on how often. Clear takes away exactly the
// increments that it has seen; the
// package's doc tells how (Counters).
type Counter struct {
	node
}

// Counter returns the counter under name. It shares its cell with the register and string of that
// name.
func (f Fields) Counter(name string) Counter { return Counter{f.named(name).typed(TypeValue)} }

// Get returns the sum; beyond 64 bits, where concurrent increments can take it, the nearest bound.
func (c Counter) Get() int64 {
	cell, _ := c.cell()
	n, _ := talliesOf(cell).total().value()
	return n
}

// Add adds n, which may be negative or zero, and returns the new value. It returns ErrOverflow if
// n takes the value as seen here out of 64 bits.
func (c Counter) Add(n int64) (int64, error) {
	cell, err := c.cell()
	if err != nil {
		return 0, err
	}
	return c.add(talliesOf(cell), amounts{}, n)
}

// Clear removes the increments that it sees, and reports whether there were any. Concurrent ones
// survive it.
func (c Counter) Clear() (existed bool, err error) {
	cell, err := c.cell()
	if err != nil {
		return false, err
	}
	shares := dotsOf(cell, func(e dotted.Entry) bool { return kindShare.marks(e) })
	return len(shares) > 0, c.retire(cell, shares, nil)
}

// add puts the share of this replica with n more, in a cell that already shows start besides t.
func (n node) add(t tallies, start amounts, by int64) (int64, error) {
	value, exact := start.add(t.total()).plus(by).value()
	if !exact && (by > 0 && value == math.MaxInt64 || by < 0 && value == math.MinInt64) {
		return 0, ErrOverflow
	}
	share, removes := t.add(n.tx.Replica(), by)
	if err := n.put(share.payload(), removes); err != nil {
		return 0, err
	}
	return value, nil
}
