package engine

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Apply takes a delta of another replica into the group. A delta whose dependencies are not all here is
// dropped, and so is one that a running repair will bring: the sender offers it again. One that does not continue the
// chain of its replica's deltas changes nothing.
func (g *Group) Apply(d *delta.Delta) (gossip.Outcome, error) {
	r := g.r
	defer r.transacted(r.work)
	r.spend(workTransaction)
	switch {
	case d.Last() <= r.seen[d.Replica]:
		if d.Last() == r.seen[d.Replica] && d.Hash() != r.heads[d.Replica] {
			return gossip.Astray, nil
		}
		return gossip.Known, nil
	case d.Replica == r.current(), r.ended(d.Replica), d.First <= r.seen[d.Replica]:
		return gossip.Astray, nil // it was never issued here, follows the last one, or begins within another
	case r.damage != nil, r.repair != nil && r.repair.covers(d):
		return gossip.Refused, nil
	case r.seen[d.Replica] == 0 && len(r.seen) >= delta.MaxReplicas:
		return gossip.Refused, nil
	case !d.Ready(r.seen):
		return gossip.Early, nil
	case d.Prev != r.heads[d.Replica]:
		return gossip.Astray, nil
	}
	exact := g.clearsAll(d)
	for i := range d.Ops {
		if err := g.applyOp(d, i, exact); err != nil {
			return gossip.Early, err
		}
	}
	r.observe(d.Time, g.now)
	r.advance(d)
	r.hold(d)
	g.deltas = append(g.deltas, d)
	g.cost += max(d.Cost(), len(d.Encode())) // a newer version may have written more than is read here
	return gossip.Applied, nil
}

func (g *Group) applyOp(d *delta.Delta, i int, exact bool) error {
	op := &d.Ops[i]
	g.r.spend(workOfOp(op))
	switch op.Kind {
	case delta.OpClear:
		return g.clear(d, i, exact, nil)
	case delta.OpEnd, delta.OpBase:
		return nil
	}
	c, err := g.load(op.Address)
	if err != nil {
		return err
	}
	now := c.now.Without(op.Removes)
	if op.Kind == delta.OpPut {
		now = now.With(dotted.Entry{Dot: d.Dot(i), Payload: op.Payload})
		g.r.owe(op)
	}
	if slices.Equal(now.Dots(), c.now.Dots()) {
		return nil
	}
	if len(op.Removes) > 0 {
		g.r.oweLeft(op.Address, now)
	}
	return g.set(c, now, nil)
}

// clearsAll reports whether a delta that clears saw everything that is in the context, so that nothing in the
// range of its clears survives.
func (g *Group) clearsAll(d *delta.Delta) bool {
	if !slices.ContainsFunc(d.Ops, func(o delta.Op) bool { return o.Kind == delta.OpClear }) {
		return false
	}
	set := g.cleared(d, 0)
	for id, n := range g.r.short {
		if !set.Has(crdt.Dot{Replica: id, Counter: n}) {
			return false
		}
	}
	return true
}

// advance puts a delta that was just applied into the context.
func (r *Replica) advance(d *delta.Delta) {
	r.raise(d.Replica, d.Last(), d.Hash())
}

// raise sets a replica's entry of the context.
func (r *Replica) raise(id crdt.ReplicaID, counter uint64, head delta.Hash) {
	if old := r.seen[id]; old > 0 {
		r.digest = r.digest.Sub(contextEntry(id, old, r.heads[id]))
	}
	r.seen[id], r.heads[id] = counter, head
	listed := r.list(id, counter, head)
	r.ahead = true
	r.collecting.due = r.collecting.due || head.Ends()
	r.digest = r.digest.Add(contextEntry(id, counter, head))
	if listed {
		r.gained[id] = counter
	} else {
		delete(r.gained, id) // the base came with it, or before
	}
}
