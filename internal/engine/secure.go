package engine

import (
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// What a neighbour asks for, by gossip.Mesh.Secure, must survive a loss of power here before it is told so. That the log has it
// is not enough: with Config.Sync a sync has followed; with SyncEverySecond one is begun at once, as somebody waits; with
// neither nobody is told before the log is synced for a checkpoint.

// vouch looks what neighbours can be told, once all of the context is written. It reports whether that is to be done at once.
func (e *Engine) vouch() bool {
	if e.cfg.Volatile || !e.replica.Whole() || e.Busy() { // of what a task does not all may be written
		return false
	}
	told, waits := e.Mesh.Vouch(uint64(e.log.Next), uint64(e.logs.Synced()))
	e.awaited = waits && (e.cfg.Sync || e.cfg.SyncEverySecond)
	return told || e.awaited && !e.syncing
}

// Newest returns the last dot that was written here, under whatever id, also before the engine was
// opened; zero if there is none. Who has it has what was written before. Of earlier starts it is
// not known while the replica is damaged or rebuilds, which brings back what they wrote.
func (e *Engine) Newest() (d crdt.Dot, known bool) {
	if e.newest.Counter > 0 {
		return e.newest, true
	}
	d, _ = e.newestOwn()
	return d, e.replica.Whole()
}

// Secure has neighbours asked whether a dot that Newest returned survives there: see
// gossip.Mesh.Secure. Once this start has written under a later id they are asked for the first dot
// of that, which depends on all that was written before: so whoever waits asks for one replica,
// whenever that began. It returns what they are asked for.
func (e *Engine) Secure(d crdt.Dot) crdt.Dot {
	if d.Counter == 0 {
		return d
	}
	if id := e.newest.Replica; id != 0 && id != d.Replica {
		d = crdt.Dot{Replica: id, Counter: 1}
	}
	e.Mesh.Secure(d)
	return d
}

// newestOwn returns the last dot in the context that was written here, and where its id is among
// the store's own.
func (r *replica) newestOwn() (d crdt.Dot, at int) {
	for at, o := range slices.Backward(r.own) {
		if n := r.seen[o.id]; n > 0 && o.known != math.MaxUint64 { // that is another's, which has forked
			return crdt.Dot{Replica: o.id, Counter: n}, at
		}
	}
	return crdt.Dot{}, 0
}

// A host that gives up its copy of a space leaves what is here to neighbours. First it says so, by
// gossip.Mesh.Leave: of two that give theirs up at once each would else rely on the other. It has
// the id ended, by EndID, so that whoever has the last dot that was written here has all that it
// saw. Then it looks, by Handover, until its copy may go or its patience ends.

// Handover is what stands between a copy and its end.
type Handover struct {
	Refusal error  // why it cannot be told what is here; nil if it can
	Missing uint64 // mutations here that no neighbour whose copy stays has said to have
	Durable bool   // what was written here survives a loss of power at one of them, or need not
}

// Safe reports whether the copy may go, and no acknowledged write with it.
func (h Handover) Safe() bool { return h.Refusal == nil && h.Missing == 0 && h.Durable }

// How a host that gives up its copy waits for neighbours.
const (
	handoverPatience = 3 * time.Second
	inquireEvery     = 500 * time.Millisecond // what comes to one after its answer it may not tell unasked
)

// Stays reports whether a copy that is not Safe stays, so long after the host first wanted to give it up.
func (h Handover) Stays(waited time.Duration) bool {
	return h.Refusal != nil || waited >= handoverPatience
}

// Inquires reports whether the host is to Inquire, so long after it did.
func (h Handover) Inquires(since time.Duration) bool { return h.Missing > 0 && since >= inquireEvery }

// Handover tells how far neighbours have what is here. Those that have not said whether it survives
// a loss of power are asked by that; what they have the host must Inquire. parted says of whom the
// end of the link is known elsewhere.
func (e *Engine) Handover(parted func(gossip.NeighbourID) bool) Handover {
	h := Handover{Refusal: e.Refusal()}
	elsewhere := crdt.VersionVector{}
	last, _ := e.Newest()
	h.Durable = e.cfg.Volatile || !e.cfg.Sync && !e.cfg.SyncEverySecond || last.Counter == 0
	for _, id := range e.Neighbours() {
		// One that is rebuilt says what it will have, and one that has gone may come back without it.
		if parted(id) || !e.Whole(id) || e.Quarantined(id) {
			continue
		}
		elsewhere.Merge(e.Said(id))
		secured := e.Secured(id)
		h.Durable = h.Durable || secured.Replica == last.Replica && secured.Counter >= last.Counter
	}
	if h.Missing = elsewhere.Missing(e.seen); h.Missing == 0 && !h.Durable {
		e.Secure(last)
	}
	return h
}
