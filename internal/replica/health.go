package replica

import (
	"errors"
	"time"

	"github.com/peerd/peerd/store"
)

// health is what a node knows of how it is, beyond its store. It decides about damage and rebuilds;
// its shell asks it after each step, and only carries out what it says.
type health struct {
	caughtUp  bool      // it has had all that its neighbours had, or began with data
	verifying bool      // its cells are being read
	verified  time.Time // when they were last found right
}

// How often all cells are read while they are found right: because of a suspicion, and because a record here
// was found broken.
const (
	VerifyEvery = 10 * time.Minute
	ProofEvery  = 15 * time.Second
)

// Suspect begins to check the cells, but not if they were found right less than a time ago. It returns the
// moment that is to be verified and closed, by any goroutine, with the outcome for Judge; nil if there is
// nothing to do, or no moment of rest: what was noticed will be noticed again.
func (n *Node) Suspect(now time.Time, every time.Duration) *Pinned {
	if n.verifying || n.rebuilding || !n.verified.IsZero() && now.Sub(n.verified) < every {
		return nil
	}
	pinned, err := n.Pin()
	if err != nil {
		return nil
	}
	n.verifying = true
	return pinned
}

// Judge takes the outcome of a check. It reports whether the data is damaged: it must not be read any more.
func (n *Node) Judge(now time.Time, outcome error) (damaged bool) {
	n.verifying = false
	switch {
	case n.rebuilding:
	case outcome == nil:
		n.verified = now
	case errors.Is(outcome, store.ErrCorrupt):
		n.SetDamaged(outcome)
		return true
	}
	return false
}

// SetDamaged is Replica.SetDamaged; neighbours are asked anew how they are.
func (n *Node) SetDamaged(why error) {
	n.Replica.SetDamaged(why)
	n.Rebase()
}

// DiscardDue reports whether what is here must go, because it is damaged, and may: a neighbour, itself whole, has
// all of it but for what this replica's own log has. Then nothing is lost with a Discard. While a fork is known nothing is
// discarded: an empty replica could not tell the two sides apart.
func (n *Node) DiscardDue() bool {
	if n.damage == nil || len(n.Forks()) > 0 {
		return false
	}
	id, _ := n.reliable()
	return id != ""
}

// Discard begins a rebuild, and links again. It ends only when all has come that the neighbour has because of
// which the replica could be discarded.
func (n *Node) Discard() error {
	if id, known := n.reliable(); id != "" {
		n.from = id
		n.must.Merge(known)
	}
	n.caughtUp, n.tried = false, nil
	err := n.Replica.Discard()
	n.Rebase()
	return err
}

// CaughtUp reports whether the node has had all that its neighbours had, or began with data.
func (n *Node) CaughtUp() bool { return n.caughtUp }

// CatchUp notes whether the node has all that its neighbours have, and then ends a rebuild if that is all
// that it needs. It reports whether it did. roomy says that there is room on the disk for what that writes.
func (n *Node) CatchUp(now time.Time, roomy bool) (rebuilt bool, err error) {
	if n.caughtUp && !n.rebuilding || n.Repairing() || !n.hasAll() {
		return false, nil
	}
	n.caughtUp = true
	if !n.rebuilding || !roomy {
		return false, nil
	}
	n.lower()
	if n.Waits() {
		return false, nil
	}
	n.tried = n.seen.Clone()
	return n.Reapply(now)
}

// lower takes back of what must come for a rebuild to end what the neighbour, because of which the replica could be
// discarded, has lost meanwhile, as in a power failure.
func (n *Node) lower() {
	known := n.Said(n.from)
	if len(known) == 0 || !n.Whole(n.from) || known.Contains(n.must) {
		return
	}
	n.must = known.Clone()
	n.tried = nil
}

// Waits reports whether a rebuild has all that the neighbours have and needs more: what only this
// replica's own former log has depends on what none of them has.
func (n *Node) Waits() bool { return n.rebuilding && n.tried != nil && n.tried.Equal(n.seen) }

// hasAll reports whether neighbours have said what they have, and none has what this replica lacks, but
// for those in quarantine. An empty neighbour says nothing to an empty replica.
func (n *Node) hasAll() bool {
	greetings := 0
	for _, id := range n.Neighbours() {
		known, greeted := n.Known(id)
		switch {
		case !greeted, n.Quarantined(id):
		case n.Lacks(known):
			return false
		case len(known) > 0 || n.Rebuilding():
			greetings++
		}
	}
	return greetings > 0
}

// SomeoneIsAhead reports whether a neighbour has what this replica lacks.
func (n *Node) SomeoneIsAhead() bool {
	for _, id := range n.Neighbours() {
		if known, greeted := n.Known(id); greeted && !n.Quarantined(id) && n.Lacks(known) {
			return true
		}
	}
	return false
}
