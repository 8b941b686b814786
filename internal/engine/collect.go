package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// A reset of a counter leaves baselines for shares that others may still add to. They are removed, by ordinary
// transactions, once no share of their epoch can come any more: the owner of the share knows that at once, others
// when they have the owner's end in their context. So the owner collects as soon as one comes in. Those of ids that
// have ended are looked for in a pass over the keys with counters. Each replica waits for another time before its
// pass, and finds little left to do if the first one's changes have reached it.

// waits before a pass, in ticks of the engine.
const (
	passAfter  = 10  // at least
	passSpread = 100 // and at most so much more, by the replica's id
	passIdle   = 100 // and so much more where nothing was written: a replica that only reads had better not
)

// maxOwed bounds the cells that are to be looked at. If there are more a pass finds them.
const maxOwed = 1 << 16

// collectShare is which part of a step's budget collecting takes.
const collectShare = 2

// collecting is what there is to collect.
type collecting struct {
	owed  []dotted.Address // cells that may have baselines to be removed, those of the replica's own shares first
	due   bool             // a pass is to be made
	wait  int              // ticks until it begins
	pass  bool             // it is under way
	from  []byte           // where its search for keys goes on
	key   string           // the key whose cells it looks at, if inKey
	in    dotted.Address   // the last of them that it has looked at
	inKey bool
}

// Ended reports whether a replica's last delta is in the context.
func (r *replica) Ended(id crdt.ReplicaID) bool { return r.heads[id].Ends() }

// owe notes what a put means for collecting.
func (r *replica) owe(put *delta.Op) {
	if owner, ok := put.Address.BaselineOwner(dotted.Entry{Payload: put.Payload}); ok {
		r.oweFor(put.Address, owner)
	}
}

// oweLeft notes what entries that stay in a cell mean for collecting. The share for which a baseline had to stay may be
// gone, and who removed it puts no other if that one says the same, or if it saw the owner's end and not that one.
func (r *replica) oweLeft(a dotted.Address, left dotted.Cell) {
	left.HoldsBaseline(a, func(owner crdt.ReplicaID) bool {
		if !left.HoldsShare(owner) {
			r.oweFor(a, owner)
		}
		return false
	})
}

// oweFor notes that baselines for an owner's share may have to be removed from a cell.
func (r *replica) oweFor(cell dotted.Address, owner crdt.ReplicaID) {
	switch c := &r.collecting; {
	case owner != r.id:
		c.due = c.due || r.Ended(owner)
	case len(c.owed) < maxOwed:
		c.owed = append(c.owed, cell)
	default:
		c.due = true
	}
}

// Tick is Mesh.Tick, and lets the time pass until baselines are looked for.
func (e *Engine) Tick(still bool) {
	e.Mesh.Tick(still)
	e.countDown()
	e.countDownExpiries(e.wall)
	e.countDownBases(e.Writes)
}

func (r *replica) countDown() {
	c := &r.collecting
	switch {
	case c.pass || !c.due || !r.Whole():
	case r.tallies == 0:
		c.wait, c.due = 0, false
	case c.wait == 0:
		c.wait = passAfter + int(uint64(r.ID())%passSpread)
		if r.id == 0 {
			c.wait += passIdle
		}
	case c.wait > 1:
		c.wait--
	default:
		c.wait, c.due = 0, false
		c.pass, c.from, c.inKey = true, []byte{prefixSummary}, false
	}
}

// Collecting reports whether baselines may be left that are to be removed, now or after a wait.
func (r *replica) Collecting() bool { return r.collecting.due || r.Collects() }

// Collects reports whether there is something to be collected or looked for now.
func (r *replica) Collects() bool {
	return r.Whole() && (r.collecting.pass || len(r.collecting.owed) > 0 || len(r.say) > 0 || r.expiring.due)
}

// collectSome does some of that in a group: it takes no more than half of a step, so that others get their turn. After an
// error nothing has changed, and a later pass tries it again.
func (r *replica) collectSome(g *group) error {
	c := &r.collecting
	var err error
	if len(r.say) > 0 {
		return r.sayBases(g)
	}
	if r.expiring.due {
		return r.expireSome(g)
	}
	if len(c.owed) > 0 {
		err = r.collectOwed(g)
	} else if c.pass {
		err = r.find(g)
	}
	if err != nil {
		c.owed, c.pass, c.due = nil, false, true
	}
	return err
}

// collected reports whether what began at some work has had its share of the step.
func (r *replica) collected(began int) bool { return r.work-began >= r.cfg.StepWork/collectShare }

// collectOwed removes what the first of the cells owe, in one transaction.
func (r *replica) collectOwed(g *group) error {
	c, began := &r.collecting, r.work
	r.guards.resting = true
	defer func() { r.guards.resting = false }()
	return g.update(func(tx *Tx) error {
		for len(c.owed) > 0 && !r.collected(began) && tx.cost < groupCost/2 && len(tx.delta.Ops) < delta.MaxOps/2 {
			at := c.owed[0]
			more, err := dotted.Lent.Collect(tx, at)
			if err != nil {
				return err
			}
			if c.owed = c.owed[1:]; more {
				c.owed = append(c.owed, at)
				return nil
			}
		}
		return nil
	})
}

// find looks for cells that owe something.
func (r *replica) find(g *group) error {
	c, began := &r.collecting, r.work
	for c.pass && !r.collected(began) && len(c.owed) == 0 {
		if c.inKey {
			if err := r.findInKey(g, began); err != nil {
				return err
			}
			continue
		}
		found := false
		err := g.view.summaries(c.from, []byte{prefixSummary + 1}, func(at []byte, name string, s dotted.Summary) bool {
			r.look()
			c.from = append(at, 0)
			if found = s.Tallies > 0; found {
				c.key, c.in, c.inKey = name, "", true
			}
			return !found && !r.collected(began)
		})
		if err != nil {
			return err
		}
		c.pass = found || r.collected(began)
	}
	return nil
}

// findInKey looks at the cells of a key.
func (r *replica) findInKey(g *group, began int) error {
	c := &r.collecting
	full := false
	err := g.view.Scan(dotted.KeyAddress(c.key), c.in, func(a dotted.Address, cell dotted.Cell) bool {
		r.look()
		c.in = a
		if cell.HoldsBaseline(a, func(owner crdt.ReplicaID) bool { return owner == r.id || r.Ended(owner) }) {
			c.owed = append(c.owed, a)
		}
		full = r.collected(began) || len(c.owed) >= maxOwed
		return !full
	})
	c.inKey = full
	return err
}

// look counts the work of looking at a cell or a summary.
func (r *replica) look() {
	last := r.work
	r.spend(workCell)
	r.transacted(last)
}

// owes reports whether baselines of the replica's own shares are to be removed: see group.end.
func (r *replica) owes() bool { return r.Whole() && len(r.collecting.owed) > 0 }

// end ends the replica's id, if it has written anything: it puts a last delta into the group, which says that none
// follows, and which must be the only one. What the replica owes is best collected before, since nobody else
// does it so soon. Who writes afterwards takes another id.
func (g *group) end() error {
	r := g.r
	if r.id == 0 || r.seen[r.id] == 0 || !r.Whole() {
		return nil
	}
	err := g.update(func(tx *Tx) error {
		_, err := tx.op(delta.Op{Kind: delta.OpEnd})
		return err
	})
	if err == nil {
		r.id = 0
	}
	return err
}
