// Package health decides what becomes of a replica whose cells may be damaged: when they are
// checked, when they may be discarded, when what neighbours brought makes it whole again, and when
// people should know that nobody can help. It carries out nothing: whoever asks it reads cells,
// empties the store and applies the log.
//
// Two replicas with one context and different cells cannot both be right, and merging them would
// spread the damage: a cell that rotted away here looks like one that was removed. So the replica
// that fails its own check discards its cells and context, fills up from its peers, and then
// applies the deltas of its own log again, for those that no peer had.
package health

import (
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// State is how the replica is.
type State struct {
	Now        time.Time
	Damaged    bool               // its cells were found not to be what was written
	Rebuilding bool               // it was discarded, and is not whole again
	Seen       crdt.VersionVector // its context
}

// Neighbours are those linked, and what they said.
type Neighbours interface {
	Neighbours() []gossip.NeighbourID
	// Known returns a neighbour's context as far as it is known, and false if it said nothing yet;
	// Said what itself said.
	Known(gossip.NeighbourID) (crdt.VersionVector, bool)
	Said(gossip.NeighbourID) crdt.VersionVector
	Whole(gossip.NeighbourID) bool       // it has what its context says
	Quarantined(gossip.NeighbourID) bool // nothing is exchanged with it
	// Lacks reports whether the replica lacks something of a context, and Covers whether the
	// replica's own log has all that is here and not in a context.
	Lacks(crdt.VersionVector) bool
	Covers(crdt.VersionVector) bool
}

// Health is what is known of a replica's health beyond its store.
type Health struct {
	CaughtUp bool               // it has had all that its neighbours had, or began with data
	Must     crdt.VersionVector // what must have come before a rebuild may end. The store has it, and the next
	From     gossip.NeighbourID // who had that when the replica was discarded

	tried     crdt.VersionVector // the context when it was last tried to end a rebuild
	verifying bool
	verified  time.Time // when the cells were last found right
	helped    time.Time // when somebody last could help, or nobody had to
	helpless  time.Time // when it was last said that nobody can
}

// Begin says that the replica was opened.
func (h *Health) Begin(caughtUp bool, now time.Time) { h.CaughtUp, h.helped = caughtUp, now }

// BeginCheck reports whether the cells are to be checked now, if that is not under way and they
// were not found right less than a time ago.
func (h *Health) BeginCheck(s State, every time.Duration) bool {
	if h.verifying || s.Rebuilding || !h.verified.IsZero() && s.Now.Sub(h.verified) < every {
		return false
	}
	h.verifying = true
	return true
}

// EndCheck takes note that the check is over, and of whether it found the cells right.
func (h *Health) EndCheck(s State, right bool) {
	if h.verifying = false; right && !s.Rebuilding {
		h.verified = s.Now
	}
}

// MayDiscard returns a neighbour because of which a damaged replica may be discarded: itself whole,
// it has all of it but for what this replica's own log has. Then nothing is lost.
func MayDiscard(s State, around Neighbours) (id gossip.NeighbourID, known crdt.VersionVector, may bool) {
	if !s.Damaged {
		return "", nil, false
	}
	for _, id := range around.Neighbours() {
		known := around.Said(id)
		some := len(known) > 0 || len(s.Seen) == 0 // who holds nothing gives nothing up
		if some && around.Whole(id) && !around.Quarantined(id) && around.Covers(known) {
			return id, known, true
		}
	}
	return "", nil, false
}

// Discard takes note that the replica is discarded. The rebuild ends only when all has come that
// the neighbour has.
func (h *Health) Discard(s State, around Neighbours) {
	if id, known, may := MayDiscard(s, around); may {
		must := known.Clone()
		must.Merge(h.Must)
		h.From, h.Must = id, must
	}
	h.CaughtUp, h.tried = false, nil
}

// Filled notes whether all is here that the neighbours have, and reports whether a rebuild, if it
// may, is to be ended then. If what only the replica's own log has depends on what no neighbour
// has, that is tried again once more has come.
func (h *Health) Filled(s State, around Neighbours, may bool) (end bool) {
	if h.CaughtUp && !s.Rebuilding || !hasAll(s, around) {
		return false
	}
	h.CaughtUp = true
	if !s.Rebuilding || !may || s.Damaged {
		return false
	}
	h.lower(around)
	if h.Waits(s) {
		return false
	}
	h.tried = s.Seen.Clone()
	return s.Seen.Contains(h.Must)
}

// End takes note that the rebuild has ended.
func (h *Health) End() { h.Must, h.From, h.tried = nil, "", nil }

// lower takes back of what must come what the neighbour, because of which the replica could be
// discarded, has lost meanwhile, as in a power failure.
func (h *Health) lower(around Neighbours) {
	known := around.Said(h.From)
	if len(known) > 0 && around.Whole(h.From) && !known.Contains(h.Must) {
		h.Must, h.tried = known.Clone(), nil
	}
}

// Waits reports whether a rebuild has all that the neighbours have and needs more: what only the
// replica's own log has depends on what none of them has.
func (h *Health) Waits(s State) bool { return s.Rebuilding && h.tried != nil && h.tried.Equal(s.Seen) }

// hasAll reports whether neighbours have said what they have, and none has what the replica lacks,
// but for those in quarantine. An empty neighbour says nothing to an empty replica.
func hasAll(s State, around Neighbours) bool {
	greetings := 0
	for _, id := range around.Neighbours() {
		known, greeted := around.Known(id)
		switch {
		case !greeted, around.Quarantined(id):
		case around.Lacks(known):
			return false
		case len(known) > 0 || s.Rebuilding:
			greetings++
		}
	}
	return greetings > 0
}

// SomeoneIsAhead reports whether a neighbour has what the replica lacks.
func SomeoneIsAhead(around Neighbours) bool {
	for _, id := range around.Neighbours() {
		if known, greeted := around.Known(id); greeted && !around.Quarantined(id) && around.Lacks(known) {
			return true
		}
	}
	return false
}

// Grace is how long neighbours have to say how they are, before it is said that none can help, and
// WarnEvery how often.
const (
	Grace     = 5 * time.Second
	WarnEvery = time.Minute
)

// Helpless reports, now and then, that nobody can help a replica that is damaged or rebuilding.
// linked says whether there are neighbours at all.
func (h *Health) Helpless(s State, linked bool) bool {
	if !s.Damaged && !h.Waits(s) || !linked {
		h.helped = s.Now
	}
	if s.Now.Sub(h.helped) < Grace || s.Now.Sub(h.helpless) < WarnEvery {
		return false
	}
	h.helpless = s.Now
	return true
}
