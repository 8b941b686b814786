package engine

import (
	"time"

	"github.com/peerd/peerd/internal/delta"

	"github.com/peerd/peerd/gossip"
)

// Figures are counts for monitoring.
type Figures struct {
	LogRecords   uint64
	OldestLogged time.Time // when the oldest record of the log was written; zero if there is none
	Waiting      int       // deltas that overtook what they depend on
	NotAdopted   int       // times of other replicas that were too far ahead
	Deltas       Offered
}

// Offered counts the deltas that neighbours sent, by what became of them.
type Offered struct {
	Applied uint64 // new here
	Copies  uint64 // here already
	Refused uint64 // dropped: a repair brings them, or they are of a fork
}

// Figures returns the present counts.
func (n *Engine) Figures() Figures {
	f := Figures{Waiting: n.Waiting(), NotAdopted: n.skewed, Deltas: n.offered}
	if n.log.first <= n.log.last && len(n.log.marks) > 0 {
		f.OldestLogged = n.log.marks[0].time
	}
	f.LogRecords = n.log.last + 1 - n.log.first // a rotten one was taken out
	return f
}

// Stable returns how many of the mutations here all of the linked neighbours are known to have too. Without
// a neighbour there is none of which that is known.
func (n *Engine) Stable() (total uint64) {
	least, someone := n.seen.Clone(), false
	for _, id := range n.Neighbours() {
		known, greeted := n.Known(id)
		greeted = greeted && !n.Quarantined(id)
		someone = someone || greeted
		for r, count := range least {
			if greeted && known[r] < count {
				least[r] = known[r]
			}
		}
	}
	if !someone {
		return 0
	}
	for _, count := range least {
		total += count
	}
	return total
}

// offer applies a delta of a neighbour's to a group, and counts what becomes of it.
func (n *Engine) offer(g *Group) func(*delta.Delta) (gossip.Outcome, error) {
	return func(d *delta.Delta) (gossip.Outcome, error) {
		if g.Full() {
			return gossip.Later, nil
		}
		outcome, err := g.Apply(d)
		switch {
		case err != nil:
		case outcome == gossip.Applied:
			n.offered.Applied++
		case outcome == gossip.Known:
			n.offered.Copies++
		case outcome == gossip.Refused, outcome == gossip.Astray:
			n.offered.Refused++
		}
		return outcome, err
	}
}
