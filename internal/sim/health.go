package sim

import (
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
)

// What package peer does about damage and rebuilds, as the node decides (peer/health.go), with
// events in place of goroutines.

// suspectDamage checks the cells, after a neighbour with the same context was found to have others.
func (h *host) suspectDamage(from gossip.NeighbourID) {
	h.say("has the context of %s and other cells", from)
	if !h.w.rotten {
		h.w.fail("%s and %s have one context and different cells", h.id, from)
	}
	h.verify(replica.VerifyEvery)
}

// suspectRead checks the cells after a read found a record that is not what was written.
func (h *host) suspectRead(err error) {
	if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, antientropy.ErrDamaged) {
		return
	}
	if !h.w.rotten {
		h.w.fail("%s is damaged, and nothing damaged it: %v", h.id, err)
	}
	h.verify(replica.ProofEvery)
}

// verify reads all cells and rebuilds the replica if they are not what the tree says.
func (h *host) verify(every time.Duration) {
	pinned := h.node.Suspect(h.now(), every)
	if pinned == nil {
		return
	}
	h.later(time.Duration(h.w.rng.IntN(500))*time.Millisecond, func() error {
		err := pinned.Verify(func() bool { return false })
		pinned.Close()
		h.say("checks its cells: %v", err)
		if h.node.Judge(h.now(), err) {
			if !h.disk.rotten {
				h.w.fail("%s is damaged, and nothing damaged it: %v", h.id, err)
			}
			h.refusing = errRebuilding
		}
		return nil
	})
}

// now is the time that only goes on.
func (h *host) now() time.Time { return time.Unix(0, 0).Add(h.w.now) }

// lookAfterItself does what a step may have made possible: begin or end a rebuild.
func (h *host) lookAfterItself() error {
	if !h.scarce && h.node.DiscardDue() {
		if err := h.beginRebuild(); err != nil {
			return err
		}
	}
	if h.repairing {
		return nil
	}
	done, err := h.node.CatchUp(h.wall(), !h.scarce)
	if err != nil || !done {
		return err
	}
	h.say("has applied its own log again")
	h.refusing = nil
	h.w.totals.Rebuilds++
	h.noteRebuilt()
	return nil
}

// beginRebuild discards what is here.
func (h *host) beginRebuild() error {
	h.say("discards its cells, damage: %v", h.node.Damaged())
	h.refusing = errRebuilding
	if h.aside == nil || len(h.held) > 0 {
		h.aside = h.held
	}
	h.promised = crdt.VersionVector{}
	h.writes = 0
	err := h.node.Discard()
	h.disk.rotten = err != nil
	h.held = crdt.VersionVector{}
	return err
}
