package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Tx is a transaction of this replica, inside a commit group. It implements dotted.Tx.
type Tx struct {
	g     *Group
	delta delta.Delta
	cost  int
	undo  []undo
	saved *saved // once it clears
	fresh map[dotted.Address]bool
	err   error
}

// saved is the group's clears before the transaction's.
type saved struct {
	clears         *clears
	added, dropped int
	sums           map[string]*summaryState // before it cleared everything
}

// undo is one step back: the state before a change of a cell, of sums over a key, or of sums over a string; or what
// the group did not know before.
type undo struct {
	cell    *cellState
	now     dotted.Cell
	sum     *summaryState
	was     *summaryState // nil if there is less: a copy for each change would be quadratic in a key's shapes
	less    *addition     // what takes that back
	dirty   bool          // the sums over the key before that
	count   *countState
	counted *countState

	read, uncount dotted.Address // a cell, and sums over a string, that it had not read
}

// Update runs fn as one transaction: its writes become one delta. If fn returns an error, or the
// transaction grows beyond its limits, nothing of it stays; nor if fn panics or ends its goroutine.
func (g *Group) Update(fn func(tx *Tx) error) error {
	r := g.r
	defer r.transacted(r.work)
	r.spend(workTransaction)
	if r.id == 0 {
		r.drawID()
	}
	tx := &Tx{g: g}
	tx.delta = delta.Delta{
		Replica: r.id,
		First:   r.seen[r.id] + 1,
		Time:    r.clock.Now(g.now),
		Prev:    r.heads[r.id],
	}
	tx.cost = 20 * len(r.gained)
	whole := false
	defer func() {
		if !whole {
			tx.rollback()
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if tx.err != nil {
		return tx.err
	}
	if len(tx.delta.Ops) == 0 {
		whole = true
		return nil
	}
	tx.delta.Deps = r.gained // which accept replaces
	if r.seen[r.id] == 0 && len(r.seen) >= delta.MaxReplicas {
		return fmt.Errorf("%w: it would be this replica's first, and %d have written (limit %d)",
			delta.ErrTooLarge, len(r.seen), delta.MaxReplicas)
	}
	if size := len(tx.delta.Encode()); size > delta.MaxSize {
		return fmt.Errorf("%w: %d bytes (limit %d)", delta.ErrTooLarge, size, delta.MaxSize)
	}
	d := tx.delta // a copy: the log keeps it in memory, and must not keep with it what tx could undo
	g.accept(&d, tx.cost)
	whole = true
	return nil
}

// accept puts a finished delta of this replica into the group.
func (g *Group) accept(d *delta.Delta, cost int) {
	r := g.r
	r.gained = crdt.VersionVector{} // the delta has the other, as its deps
	r.advance(d)
	delete(r.gained, r.id)
	r.hold(d)
	g.deltas, g.own = append(g.deltas, d), r.id
	g.cost += cost
}

// rollback takes the transaction's changes out of the group.
func (tx *Tx) rollback() {
	for _, u := range slices.Backward(tx.undo) {
		if u.cell != nil {
			u.cell.now = u.now
		}
		if u.less != nil {
			u.sum.add(*u.less)
			u.sum.dirty = u.dirty
		} else if u.sum != nil {
			*u.sum = *u.was
		}
		if u.count != nil {
			*u.count = *u.counted
		}
		if u.read != "" {
			tx.g.forget(u.read)
		}
		if u.uncount != "" {
			tx.g.counted.Delete(u.uncount)
		}
	}
	for a := range tx.fresh {
		tx.g.forget(a)
	}
	s := tx.saved
	if s == nil {
		return
	}
	tx.g.clears, tx.g.added, tx.g.dropped = s.clears, tx.g.added[:s.added], tx.g.dropped[:s.dropped]
	if s.sums != nil {
		tx.g.sums = s.sums
	}
}

// op checks that the transaction may do one thing more, and gives it its dot.
func (tx *Tx) op(o delta.Op) (crdt.Dot, error) {
	if why := tx.g.refusal; why != nil {
		return crdt.Dot{}, tx.fail(why)
	}
	if err := o.Check(); err != nil {
		return crdt.Dot{}, tx.fail(err)
	}
	cost := tx.cost + o.Cost()
	if err := checkCost(len(tx.delta.Ops)+1, cost); err != nil {
		return crdt.Dot{}, tx.fail(err)
	}
	tx.cost = cost
	tx.g.r.spend(workOfOp(&o))
	tx.delta.Ops = append(tx.delta.Ops, o)
	return tx.delta.Dot(len(tx.delta.Ops) - 1), nil
}

// fail makes the whole transaction fail, even if its function goes on as if nothing were: a store that
// could not be read or a limit must not leave half of a change.
func (tx *Tx) fail(err error) error {
	if tx.err == nil {
		tx.err = err
	}
	return err
}

// Cell returns the live entries of one cell.
func (tx *Tx) Cell(a dotted.Address) (dotted.Cell, error) {
	c, err := tx.load(a)
	if err != nil {
		return nil, tx.fail(err)
	}
	return c.now, nil
}

// load is the group's load. What is read first after a clear of this transaction is forgotten if the
// transaction fails, because the clear took part in it.
func (tx *Tx) load(a dotted.Address) (*cellState, error) {
	_, known := tx.g.cells[a]
	c, err := tx.g.load(a)
	if !known && err == nil && tx.saved != nil {
		if tx.fresh == nil {
			tx.fresh = map[dotted.Address]bool{}
		}
		tx.fresh[a] = true
	}
	return c, err
}

// Scan calls fn with the cells under prefix beyond after, in the order of View.Scan.
func (tx *Tx) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	if err := tx.g.scan(prefix, after, fn); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Summary tells what is visible under a key.
func (tx *Tx) Summary(key string) (dotted.Summary, error) {
	s, err := tx.g.summary(key)
	if err != nil {
		return dotted.Summary{}, tx.fail(err)
	}
	return s.now, nil
}

// Count tells what was counted on the string at a.
func (tx *Tx) Count(a dotted.Address) (dotted.Count, error) {
	if tx.g.noneCounted() {
		return dotted.Count{}, nil
	}
	n, err := tx.g.count(a, tx.note)
	if err != nil {
		return dotted.Count{}, tx.fail(err)
	}
	return n.now, nil
}

// Put adds an entry to a cell and removes the ones with the given dots.
func (tx *Tx) Put(a dotted.Address, payload []byte, removes []crdt.Dot) (crdt.Dot, error) {
	d, err := tx.op(delta.Op{Kind: delta.OpPut, Address: a, Payload: payload, Removes: removes})
	if err != nil {
		return crdt.Dot{}, err
	}
	return d, tx.change(a, func(c dotted.Cell) dotted.Cell {
		return c.Without(removes).With(dotted.Entry{Dot: d, Payload: payload})
	})
}

// Remove removes entries from a cell.
func (tx *Tx) Remove(a dotted.Address, dots []crdt.Dot) error {
	if len(dots) == 0 {
		return nil
	}
	if _, err := tx.op(delta.Op{Kind: delta.OpRemove, Address: a, Removes: dots}); err != nil {
		return err
	}
	return tx.change(a, func(c dotted.Cell) dotted.Cell { return c.Without(dots) })
}

func (tx *Tx) change(a dotted.Address, fn func(dotted.Cell) dotted.Cell) error {
	c, err := tx.load(a)
	if err != nil {
		return tx.fail(err)
	}
	was := c.now
	tx.note(undo{cell: c, now: was})
	if err := tx.g.set(c, fn(was), tx.note); err != nil {
		return tx.fail(err)
	}
	return nil
}

// note keeps a step back.
func (tx *Tx) note(u undo) { tx.undo = append(tx.undo, u) }

// copy returns what s is now, whatever happens to it.
func (s *summaryState) copy() *summaryState {
	c := *s
	c.now.Visible = maps.Clone(s.now.Visible)
	return &c
}

// Clear removes every entry of every cell under prefix; of all cells, if it is empty.
func (tx *Tx) Clear(prefix dotted.Address) error {
	g, i := tx.g, len(tx.delta.Ops)
	if tx.delta.Seen == nil {
		tx.delta.Seen = g.r.short.Clone()
		tx.cost += 20 * len(tx.delta.Seen)
	}
	if _, err := tx.op(delta.Op{Kind: delta.OpClear, Address: prefix}); err != nil {
		return err
	}
	if err := tx.save(prefix); err != nil {
		return tx.fail(err)
	}
	if err := g.clear(&tx.delta, i, true, tx.note); err != nil {
		return tx.fail(err)
	}
	return nil
}

// save notes what a clear is about to change.
func (tx *Tx) save(prefix dotted.Address) error {
	g := tx.g
	if tx.saved == nil {
		tx.saved = &saved{clears: g.clears, added: len(g.added), dropped: len(g.dropped)}
		g.clears = g.clears.copy()
	}
	if prefix == "" {
		for _, s := range g.sums {
			tx.undo = append(tx.undo, undo{sum: s, was: s.copy()})
		}
		if tx.saved.sums == nil {
			tx.saved.sums = maps.Clone(g.sums)
		}
	} else {
		s, err := g.summary(prefix.Key())
		if err != nil {
			return err
		}
		tx.undo = append(tx.undo, undo{sum: s, was: s.copy()})
	}
	g.under(prefix, func(c *cellState) bool {
		tx.undo = append(tx.undo, undo{cell: c, now: c.now})
		return true
	})
	return nil
}

// Replica returns who issues the transaction's dots.
func (tx *Tx) Replica() crdt.ReplicaID { return tx.g.r.id }

// Ended reports whether a replica's last delta is in the context.
func (tx *Tx) Ended(id crdt.ReplicaID) bool { return tx.g.r.ended(id) }

// Vector returns the short form of everything that the transaction sees, what it wrote so far included. The caller owns
// it.
func (tx *Tx) Vector() crdt.VersionVector {
	seen := tx.g.r.short.Clone()
	if n := len(tx.delta.Ops); n > 0 {
		seen[tx.delta.Replica] = tx.delta.Dot(n - 1).Counter
	}
	return seen
}

// Time returns the transaction's timestamp.
func (tx *Tx) Time() dotted.Time { return tx.delta.Time }

// Keys calls fn with the keys that exist, begin with prefix and come after the given one, in the order
// of View.Keys.
func (tx *Tx) Keys(prefix, after string, fn func(string, dotted.Summary) bool) error {
	if err := tx.g.keys(prefix, after, fn); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Tallied calls fn with the keys that hold counters, or what is left of such. O(keys), unless there is none.
func (tx *Tx) Tallied(fn func(key string) bool) error {
	if err := tx.g.tallying(fn); err != nil {
		return tx.fail(err)
	}
	return nil
}

// KeyCount returns the number of keys that exist. O(keys written by the group).
func (tx *Tx) KeyCount() (int, error) {
	n, _ := tx.g.counts()
	return n, nil
}
