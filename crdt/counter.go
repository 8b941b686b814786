package crdt

import (
	"errors"
	"math"

	"github.com/peerd/peerd/internal/dotted"
)

// ErrOverflow is returned for an increment that would take the value beyond 64 bits. Nothing
// changed.
var ErrOverflow = errors.New("increment would overflow 64 bits")

// Counter is a sum to which replicas add. Each has a cell, its share, so a counter's size depends
// on how many replicas have counted and not on how often, and what it costs to read or to add to on
// neither. Clear takes away exactly the increments that it has seen; the package's doc tells how
// (Counters).
type Counter struct {
	node
}

// Counter returns the counter under name. It is what was added to the string of that name.
func (f Fields) Counter(name string) Counter { return Counter{f.named(name).typed(TypeValue)} }

// Get returns the sum; beyond 64 bits, where concurrent increments can take it, the nearest bound.
// O(log cells).
func (c Counter) Get() int64 {
	counted, _ := c.count()
	return counted.Value()
}

// Add adds n, which may be negative or zero, and returns the new value. It returns ErrOverflow if
// n takes the value as seen here out of 64 bits. O(log cells).
func (c Counter) Add(n int64) (int64, error) { return c.add(0, n) }

// Clear removes the increments that it sees, and reports whether there were any. Concurrent ones
// survive it. O(replicas that have counted).
func (c Counter) Clear() (existed bool, err error) { return c.uncount() }

// add adds n more to this replica's share in the string at n, whose text begins at start.
func (n node) add(start, by int64) (int64, error) {
	counted, err := n.count()
	if err != nil {
		return 0, err
	}
	sum := counted.Sum.Plus(dotted.Int128Of(start)).Plus(dotted.Int128Of(by))
	value, exact := sum.Int64()
	if !exact && (by > 0 && value == math.MaxInt64 || by < 0 && value == math.MinInt64) {
		return 0, ErrOverflow
	}
	owner := n.tx.Replica()
	n.at = n.at.Share(owner)
	c, err := n.cell()
	if err != nil {
		return 0, err
	}
	share, removes := tallyOf(owner, c).add(by)
	return value, n.put(share.payload(), removes)
}

// uncount removes what was counted on the string at n, and leaves the baselines that are needed.
func (n node) uncount() (existed bool, err error) {
	counted, err := n.count()
	if err != nil || counted.Shares == 0 {
		return false, err
	}
	n.at = n.at.Shares()
	cells, err := n.visibleCells(min(counted.Shares, fewCells+1))
	switch {
	case err != nil:
		return false, err
	case len(cells) > fewCells:
		return true, n.clearAll()
	}
	return true, n.clearEach(cells)
}
