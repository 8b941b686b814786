package sim

import (
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
)

// What package peer decides about damage, forks and rebuilds (peer/health.go), with events in
// place of goroutines.

// suspectDamage checks the cells, after a neighbour with the same context was found to have others.
func (h *host) suspectDamage(from gossip.NeighbourID) {
	h.say("has the context of %s and other cells", from)
	if !h.w.rotten {
		h.w.fail("%s and %s have one context and different cells", h.id, from)
	}
	if !h.node.Rebuilding() && h.node.Damaged() == nil {
		h.verify(verifyEvery)
	}
}

// suspectRead checks the cells after a read found a record that is not what was written.
func (h *host) suspectRead(err error) {
	if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, antientropy.ErrDamaged) {
		return
	}
	if !h.w.rotten {
		h.w.fail("%s is damaged, and nothing damaged it: %v", h.id, err)
	}
	h.verify(proofEvery)
}

// verify reads all cells and rebuilds the replica if they are not what the tree says.
func (h *host) verify(every time.Duration) {
	if h.verifying || h.node.Rebuilding() || h.w.now-h.verified < every {
		return
	}
	pinned, err := h.node.Pin()
	if err != nil {
		return
	}
	h.verifying = true
	h.later(time.Duration(h.w.rng.IntN(500))*time.Millisecond, func() error {
		err := pinned.Verify(func() bool { return false })
		pinned.Close()
		h.verifying = false
		h.judge(err)
		return nil
	})
}

// judge acts on the outcome of a check.
func (h *host) judge(err error) {
	h.say("checks its cells: %v", err)
	switch {
	case h.node.Rebuilding():
	case err == nil:
		h.verified = h.w.now
	case errors.Is(err, store.ErrCorrupt):
		if !h.disk.rotten {
			h.w.fail("%s is damaged, and nothing damaged it: %v", h.id, err)
		}
		h.node.SetDamaged(err)
		h.refusing = errRebuilding
	}
}

// lookAfterItself does what a step may have made possible: begin or end a rebuild.
func (h *host) lookAfterItself() error {
	if forks := h.node.Forks(); len(forks) > 0 {
		h.w.noticeFork(h, forks)
	}
	left, _ := h.node.Leaves()
	if (h.node.Damaged() != nil || len(left) > 0) && !h.scarce && h.node.MayDiscard() {
		if err := h.beginRebuild(); err != nil {
			return err
		}
	}
	return h.noticeCatchingUp()
}

// beginRebuild discards what is here.
func (h *host) beginRebuild() error {
	h.say("discards its cells, damage: %v", h.node.Damaged())
	h.refusing = errRebuilding
	h.disk.mark = ""
	h.caughtUp, h.reapplied = false, nil
	if h.aside == nil || len(h.held) > 0 {
		h.aside = h.held
	}
	h.promised = crdt.VersionVector{}
	err := h.node.Discard()
	h.disk.rotten = err != nil
	h.held = crdt.VersionVector{}
	return err
}

// noticeCatchingUp notes that an empty or rebuilding replica has all that its neighbours have.
func (h *host) noticeCatchingUp() error {
	if h.caughtUp && !h.node.Rebuilding() || h.repairing || h.node.Repairing() {
		return nil
	}
	if !h.node.CaughtUp() {
		return nil
	}
	h.caughtUp = true
	return h.endRebuild()
}

// endRebuild applies what only this replica's own former log had.
func (h *host) endRebuild() error {
	seen, _ := h.node.Context()
	if !h.node.Rebuilding() || h.scarce || h.reapplied != nil && h.reapplied.Equal(seen) {
		return nil
	}
	h.reapplied = seen.Clone()
	done, err := h.node.Reapply(h.wall())
	h.say("applies its own log again: done %v, %v", done, err)
	h.noticeReissue()
	if err != nil || !done {
		return err
	}
	h.refusing = nil
	h.w.totals.Rebuilds++
	h.noteRebuilt()
	return nil
}

// noticeReissue notes that the rebuild issued writes again under a new id, since a rotten record
// of the log took what they followed.
func (h *host) noticeReissue() {
	seen, _ := h.node.Context()
	_, known := h.w.hist.replicas[h.node.ID()]
	if seen[h.node.ID()] == 0 || known || h.w.blind {
		return
	}
	if !h.disk.rotLog {
		h.w.fail("%s issues writes again, and its log has all that they followed", h.id)
	}
	h.w.blind = true
}
