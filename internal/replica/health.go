package replica

import (
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
)

// health is what a node knows of how it is, beyond its store. It decides about damage, forks and rebuilds;
// its shell asks it after each step, and only carries out what it says.
type health struct {
	caughtUp  bool      // it has had all that its neighbours had, or began with data
	verifying bool      // its cells are being read
	verified  time.Time // when they were last found right
	missing   time.Time // since when a rebuild has all that the neighbours have, but not what it was told of
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

// DiscardDue reports whether what is here must go, because it is damaged or on an abandoned branch, and may:
// a neighbour, itself whole, has all of it but for what this replica's own log has, and all that it must have
// for what this replica leaves, and differs from it in nothing else. Then nothing is lost with a Discard. After a
// fork that neighbour must be on the other branch.
func (n *Node) DiscardDue() bool {
	if n.damage == nil && !n.stranded() {
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
	n.caughtUp, n.tried, n.missing = false, nil, time.Time{}
	err := n.Replica.Discard()
	n.Rebase()
	return err
}

// CaughtUp reports whether the node has had all that its neighbours had, or began with data.
func (n *Node) CaughtUp() bool { return n.caughtUp }

// CatchUp notes whether the node has all that its neighbours have, and then ends a rebuild if that is all
// that it needs. It reports whether it did. roomy says that there is room on the disk for what that writes.
func (n *Node) CatchUp(now time.Time, roomy bool) (rebuilt bool, err error) {
	if !n.hasGreeted() {
		n.missing = time.Time{} // it was not among others
	}
	if n.caughtUp && !n.rebuilding || n.Repairing() || !n.hasAll() {
		return false, nil
	}
	n.caughtUp = true
	if !n.rebuilding || !roomy {
		return false, nil
	}
	n.lower()
	if waits, err := n.waitsForOld(now); waits || err != nil || n.Waits() {
		return false, err
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
	n.tried, n.unsaved = nil, true
}

// healPatience is how long a store that was put back to when it healed a fork waits for what it issued then: who
// tells of that may not have it yet. After that it is taken for lost, and issued again.
const healPatience = time.Minute

// waitsForOld reports whether such a store still waits.
func (n *Node) waitsForOld(now time.Time) (bool, error) {
	switch {
	case !n.misses():
		n.missing = time.Time{}
		return false, nil
	case n.missing.IsZero():
		n.missing = now
	}
	if now.Sub(n.missing) < healPatience {
		return true, nil
	}
	return false, n.reclaim()
}

// Waits reports whether a rebuild has all that the neighbours have and needs more: what only this
// replica's own former log has depends on what none of them has.
func (n *Node) Waits() bool { return n.rebuilding && n.tried != nil && n.tried.Equal(n.seen) }

// hasGreeted reports whether any neighbour has said what it has.
func (n *Node) hasGreeted() bool {
	return slices.ContainsFunc(n.Neighbours(), func(id gossip.NeighbourID) bool {
		_, greeted := n.Known(id)
		return greeted
	})
}

// hasAll reports whether neighbours have said what they have, and none has what this replica lacks, but
// for those that must heal first. An empty neighbour says nothing to an empty replica.
func (n *Node) hasAll() bool {
	greetings := 0
	for _, id := range n.Neighbours() {
		known, greeted := n.Known(id)
		switch {
		case !greeted, n.Strange(id):
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
		if known, greeted := n.Known(id); greeted && n.Lacks(known) {
			return true
		}
	}
	return false
}

// Strangers returns the neighbours with which no writes are exchanged because of a fork.
func (n *Node) Strangers() (strangers []gossip.NeighbourID) {
	for _, id := range n.Neighbours() {
		if n.Strange(id) {
			strangers = append(strangers, id)
		}
	}
	return strangers
}
