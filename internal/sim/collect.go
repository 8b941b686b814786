package sim

import (
	"errors"

	"github.com/peerd/peerd/internal/delta"

	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
)

// mayCollect reports whether counters' baselines can be collected now.
func (h *host) mayCollect() bool { return h.node.Collects() && h.refusing == nil && !h.scarce }

// collect does some of that in a group.
func (h *host) collect(g *replica.Group) error {
	if !h.mayCollect() {
		return nil
	}
	err := h.node.Collect(g)
	switch {
	case errors.Is(err, store.ErrCorrupt) && h.disk.rotten:
		h.verify(replica.ProofEvery)
		return nil
	case errors.Is(err, errRead), errors.Is(err, delta.ErrTooLarge):
		return nil
	}
	return err
}

// end ends the process's id, if its disk has room.
func (h *host) end() error {
	if h.refusing != nil || h.scarce {
		return nil
	}
	id, last := h.writes, h.held[h.writes]
	for h.node.Owes() {
		if err := h.endWith(h.collect); err != nil {
			return err
		}
	}
	if err := h.endWith((*replica.Group).End); err != nil {
		return err
	}
	if n := h.held[id]; n > last {
		h.w.ended[id] = n
	}
	return nil
}

// endWith commits a group with something that is to be done before the end.
func (h *host) endWith(fn func(g *replica.Group) error) error {
	h.node.BeginStep()
	g := h.node.Begin(h.wall())
	if err := fn(g); err != nil {
		g.Discard()
		return err
	}
	return h.commit(g, nil)
}

// noteBases counts what the host itself says of bases.
func (h *host) noteBases(d *delta.Delta) {
	if d.Replica != h.writes {
		return
	}
	for _, t := range d.Tables() {
		h.w.totals.Bases += len(t.Bases)
		h.say("says bases %v: %v", t.Dot, t.Bases)
	}
}
