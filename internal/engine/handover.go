package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

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

// Handover tells how far neighbours have what is here. Those that have not said whether it survives
// a loss of power are asked by that; what they have somebody must Inquire. parted says of whom the
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
