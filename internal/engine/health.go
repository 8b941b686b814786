package engine

import (
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
)

// health is what an engine knows of how it is, beyond its store.
type health struct {
	caughtUp  bool      // it has had all that its neighbours had, or began with data
	verifying bool      // its cells are being read
	verified  time.Time // when they were last found right
	alarmed   time.Time // when forks were named last
	helped    time.Time // when a damaged replica last had somebody to help it, or needed nobody
	helpless  time.Time // when it was last said that nobody can
}

// How often all cells are read while they are found right: because of a suspicion, and because a record here
// was found broken.
const (
	VerifyEvery = 10 * time.Minute
	ProofEvery  = 15 * time.Second
)

// verify has the cells checked, but not if they were found right less than a time ago. If there is nothing to do, or no moment of
// rest, it is not done: what was noticed will be noticed again.
func (e *Engine) verify(every time.Duration) {
	e.whenSettled(func(settled bool) {
		if !settled || e.verifying || e.rebuilding || !e.verified.IsZero() && e.now.Sub(e.verified) < every {
			return
		}
		pinned, err := e.Pin()
		if err != nil {
			return
		}
		e.verifying = true
		e.ready.Verify = pinned
		if every == VerifyEvery {
			e.tell(Notice{Kind: Checking})
		}
	})
}

// Suspect has the cells checked after a read of a view failed with an error, if that says that they are damaged.
func (e *Engine) Suspect(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		e.verify(ProofEvery)
	}
}

// Verified takes the outcome of a check.
func (e *Engine) Verified(outcome error) {
	if e.Busy() { // what is under way comes to its end
		e.Replica.begin(func() (done bool, err error) {
			e.judge(outcome)
			return true, nil
		})
		return
	}
	e.judge(outcome)
}

func (e *Engine) judge(outcome error) {
	e.verifying = false
	switch {
	case e.rebuilding:
	case outcome == nil:
		e.verified = e.now
		e.tell(Notice{Kind: Sound})
	case errors.Is(outcome, store.ErrCorrupt):
		e.SetDamaged(outcome)
		e.tell(Notice{Kind: Damaged, Err: outcome})
	default:
		e.tell(Notice{Kind: CannotCheck, Err: outcome})
	}
}

// ErrRebuilding is returned while a damaged replica is rebuilt from others, or waits for one that it can be rebuilt from.
var ErrRebuilding = errors.New("the data here is damaged and is rebuilt from other peers: try again later")

// Refusal returns why nothing may be read or written now; nil if it may.
func (e *Engine) Refusal() error {
	if e.damage != nil || e.rebuilding {
		return ErrRebuilding
	}
	return nil
}

// SetDamaged is Replica.SetDamaged; neighbours are asked anew how they are.
func (e *Engine) SetDamaged(why error) {
	e.Replica.SetDamaged(why)
	e.Rebase()
}

// DiscardDue reports whether what is here must go, because it is damaged, and may: a neighbour, itself whole, has
// all of it but for what this replica's own log has. Then nothing is lost with a Discard. While a fork is known nothing is
// discarded: an empty replica could not tell the two sides apart.
func (e *Engine) DiscardDue() bool {
	if e.damage == nil || len(e.Forks()) > 0 {
		return false
	}
	id, _ := e.reliable()
	return id != ""
}

// discard begins a task that begins a rebuild, and links again. It ends only when all has come that the neighbour has
// because of which the replica could be discarded.
func (e *Engine) discard() {
	if id, known := e.reliable(); id != "" {
		e.from = id
		e.must.Merge(known)
	}
	e.caughtUp, e.tried = false, nil
	e.tell(Notice{Kind: Discarding})
	e.discardAll()
	e.Replica.begin(func() (done bool, err error) {
		e.Rebase()
		e.tell(Notice{Kind: Discarded})
		return true, nil
	})
}

// reliable returns a neighbour because of which the replica may be discarded, and its context. See DiscardDue.
func (e *Engine) reliable() (id gossip.NeighbourID, known crdt.VersionVector) {
	for _, id := range e.Neighbours() {
		known := e.Said(id)
		if len(known) > 0 && e.Whole(id) && !e.Quarantined(id) && e.Covers(known) {
			return id, known
		}
	}
	return "", nil
}

// CaughtUp reports whether the replica has had all that its neighbours had, or began with data.
func (e *Engine) CaughtUp() bool { return e.caughtUp }

// lookAfterData begins or ends a rebuild, and says what people should know.
func (e *Engine) lookAfterData() {
	e.nameForks()
	if e.room == Roomy && !e.Busy() && e.DiscardDue() {
		e.discard()
	}
	if e.pull == nil && !e.Busy() {
		e.catchUp()
	}
	e.noticeHelplessness()
}

// catchUp notes whether all is here that the neighbours have, and ends a rebuild then: what only this
// replica's own former log had is applied. If that depends on what no neighbour has, it is tried again
// whenever more has come.
func (e *Engine) catchUp() {
	if e.caughtUp && !e.rebuilding || e.Repairing() || !e.hasAll() {
		return
	}
	e.caughtUp = true
	if !e.rebuilding || e.room != Roomy || e.damage != nil {
		return
	}
	e.lower()
	if e.Waits() {
		return
	}
	e.tried = e.seen.Clone()
	e.reapply(e.wall, func() {
		e.Rebase()
		e.ready.Jumped = true
		e.tell(Notice{Kind: Rebuilt})
	})
}

// helpGrace is how long neighbours have to say how they are, before it is said that none can help, and warnEvery how
// often that is said, and which forks there are.
const (
	helpGrace = 5 * time.Second
	warnEvery = time.Minute
)

// noticeHelplessness says, now and then, that nobody can help a replica that is damaged or rebuilding.
func (e *Engine) noticeHelplessness() {
	if e.damage == nil && !e.Waits() || len(e.takes) == 0 {
		e.helped = e.now
	}
	if e.now.Sub(e.helped) < helpGrace || e.now.Sub(e.helpless) < warnEvery {
		return
	}
	e.helpless = e.now
	if e.damage == nil {
		e.tell(Notice{Kind: Incomplete})
	} else {
		e.tell(Notice{Kind: Helpless, Err: e.damage})
	}
}

// nameForks says, at once and now and then, which writes exist in two versions.
func (e *Engine) nameForks() {
	if e.now.Sub(e.alarmed) < warnEvery {
		return
	}
	if forks := e.Forks(); len(forks) > 0 {
		e.alarmed = e.now
		e.tell(Notice{Kind: Forked, Forks: forks})
	}
}

// lower takes back of what must come for a rebuild to end what the neighbour, because of which the replica could be
// discarded, has lost meanwhile, as in a power failure.
func (e *Engine) lower() {
	known := e.Said(e.from)
	if len(known) == 0 || !e.Whole(e.from) || known.Contains(e.must) {
		return
	}
	e.must = known.Clone()
	e.tried = nil
}

// Waits reports whether a rebuild has all that the neighbours have and needs more: what only this
// replica's own former log has depends on what none of them has.
func (e *Engine) Waits() bool { return e.rebuilding && e.tried != nil && e.tried.Equal(e.seen) }

// hasAll reports whether neighbours have said what they have, and none has what this replica lacks, but
// for those in quarantine. An empty neighbour says nothing to an empty replica.
func (e *Engine) hasAll() bool {
	greetings := 0
	for _, id := range e.Neighbours() {
		known, greeted := e.Known(id)
		switch {
		case !greeted, e.Quarantined(id):
		case e.Lacks(known):
			return false
		case len(known) > 0 || e.Rebuilding():
			greetings++
		}
	}
	return greetings > 0
}

// SomeoneIsAhead reports whether a neighbour has what this replica lacks.
func (e *Engine) SomeoneIsAhead() bool {
	for _, id := range e.Neighbours() {
		if known, greeted := e.Known(id); greeted && !e.Quarantined(id) && e.Lacks(known) {
			return true
		}
	}
	return false
}
