package sim

import (
	"errors"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// noteNews holds what an engine says against what happened to its host.
func (h *host) noteNews(rd *engine.Ready) {
	for _, n := range rd.Notices {
		switch n.Kind {
		case engine.Mismatch:
			h.say("has the context of %s and other cells", n.From)
			if !h.w.rotten {
				h.w.fail("%s and %s have one context and different cells", h.name, n.From)
			}
		case engine.Damaged:
			h.say("is damaged: %v", n.Err)
			if !h.scars().rotten {
				h.w.fail("%s is damaged, and nothing damaged it: %v", h.name, n.Err)
			}
		case engine.Discarded:
			h.scars().rotten = false
			h.held = crdt.VersionVector{}
		case engine.Rebuilt:
			h.say("has applied its own log again")
			h.w.totals.Rebuilds++
			h.noteRebuilt()
		case engine.Forked:
			h.noteForks()
		case engine.CannotCollect:
			h.noteUncollected(n.Err)
		}
	}
}

// noteDiscard takes note that the host discards what it holds.
func (h *host) noteDiscard() {
	h.say("discards its cells, damage: %v", h.engine.Damaged())
	if h.aside == nil || len(h.held) > 0 {
		h.aside = h.held
	}
	h.promised, h.vouched = crdt.VersionVector{}, crdt.VersionVector{}
	h.writes = 0
}

// noteUncollected holds against the host that it could not collect what counters left.
func (h *host) noteUncollected(err error) {
	switch {
	case errors.Is(err, store.ErrCorrupt) && h.scars().rotten:
	case errors.Is(err, errRead):
	default:
		h.broken = err
	}
}

// suspectRead checks the cells after a read found a record that is not what was written.
func (h *host) suspectRead(err error) {
	if !engine.IsDamage(err) {
		return
	}
	if !h.w.rotten {
		h.w.fail("%s is damaged, and nothing damaged it: %v", h.name, err)
	}
	h.engine.Suspect(err)
	h.wake()
}

// verify reads all cells.
func (h *host) verify(pinned *engine.Pinned) {
	h.later(time.Duration(h.w.rng.IntN(500))*time.Millisecond, func() error {
		err := pinned.Verify(func() bool { return false })
		pinned.Close()
		h.say("checks its cells: %v", err)
		h.engine.Verified(err)
		return nil
	})
}
