package engine

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/tidwall/btree"
)

// groupCost is how much a commit group may cost (see delta.Delta.Cost) before it is full. One more
// delta of delta.MaxSize still fits into a record of the log, with what is derived from it.
const groupCost = 1 << 20

// groupClears bounds what is to be swept after a group.
const groupClears = 512

// Group is a commit group: transactions and deltas that are applied one after the other on one snapshot,
// each seeing those before it, and become visible and durable together.
type Group struct {
	r     *Replica
	now   time.Time
	view  *View // the state before the group
	cells map[dotted.Address]*cellState
	sums  map[string]*summaryState

	counted btree.Map[dotted.Address, *countState] // of strings
	tallied bool                                   // the group has changed how many cells tally

	order *btree.Map[string, *cellState] // cells by their keys, once that is asked for

	clears         *clears // in force: those before the group, and its own
	firstClear     uint64  // the records of its own have numbers from here on
	added, dropped []*pendingClear
	sawLast        map[crdt.ReplicaID]*seenSet // see saw
	sawFor         *delta.Delta                // which has sawSet
	sawSet         *seenSet
	sawBy          *delta.Delta // see cleared
	sawAll         delta.Seen
	unseen         map[crdt.ReplicaID]*unseen

	refusal error // why its transactions may not write; nil if they may
	deltas  []*delta.Delta
	own     crdt.ReplicaID // under which some of them were written here; zero if none was
	cost    int
	began   int // Replica.work at its beginning
}

// cellState is a cell that the group has looked at.
type cellState struct {
	address dotted.Address
	key     []byte
	stored  dotted.Cell // in the store, with what pending clears hide
	now     dotted.Cell
}

// summaryState is a key's summary that the group has looked at.
type summaryState struct {
	name   string
	key    []byte
	before keyCounts // as the store has it
	now    dotted.Summary
	dirty  bool
}

// Begin starts a group. now is the wall clock's time. The group must be ended with commit or Discard.
func (r *Replica) Begin(now time.Time) *Group {
	return &Group{
		r: r, now: now,
		view:   r.present(),
		cells:  map[dotted.Address]*cellState{},
		sums:   map[string]*summaryState{},
		clears: r.clears, firstClear: r.lastClear + 1,
		began: r.work,
	}
}

// full reports whether the group should be committed before anything more goes in: it has as much as a step does.
func (g *Group) full() bool {
	return g.cost >= groupCost || g.r.spentSince(g.began) || len(g.added) >= groupClears
}

// Empty reports whether the group has nothing to commit.
func (g *Group) Empty() bool { return len(g.deltas) == 0 }

// load returns the group's state of a cell.
func (g *Group) load(a dotted.Address) (*cellState, error) {
	g.r.spend(workCell)
	if c, ok := g.cells[a]; ok {
		return c, nil
	}
	c := &cellState{address: a, key: place(prefixCell, a)}
	var cached bool
	if c.stored, cached = g.r.cache.cell(a); !cached {
		g.r.spend(workMiss)
		var err error
		if c.stored, err = g.view.stored(a, c.key); err != nil {
			return nil, err
		}
	}
	c.now = g.clears.hide(a, c.stored)
	g.cells[a] = c
	if g.order != nil {
		g.order.Set(string(c.key), c)
	}
	g.r.spend(workOf(len(a) + weightOf(c.stored)))
	return c, nil
}

// under calls fn with the group's cells under prefix, in the order of their keys, until fn returns false.
func (g *Group) under(prefix dotted.Address, fn func(*cellState) bool) {
	if g.order == nil {
		g.order = &btree.Map[string, *cellState]{}
		for _, c := range g.cells {
			g.order.Set(string(c.key), c)
		}
	}
	start := string(place(prefixCell, prefix))
	g.order.Ascend(start, func(key string, c *cellState) bool {
		return strings.HasPrefix(key, start) && (!hasPrefix(c.address, prefix) || fn(c))
	})
}

// forget takes a cell out of the group.
func (g *Group) forget(a dotted.Address) {
	if c := g.cells[a]; c != nil && g.order != nil {
		g.order.Delete(string(c.key))
	}
	delete(g.cells, a)
}

// weightOf bounds the bytes that a cell's entries take in its records.
func weightOf(c dotted.Cell) (bytes int) { return payloadOf(c) + entryBytes*len(c) }

func payloadOf(c dotted.Cell) (bytes int) {
	for _, e := range c {
		bytes += len(e.Payload)
	}
	return bytes
}

// set changes a cell, and the sums that are computed from it. See add for note.
func (g *Group) set(c *cellState, now dotted.Cell, note func(undo)) error {
	err := g.add(g.derive(c.address, c.now, now), note)
	if err == nil {
		c.now = now
	}
	return err
}

// summary returns the group's state of a key's summary.
func (g *Group) summary(key string) (*summaryState, error) {
	g.r.spend(workCell)
	if s, ok := g.sums[key]; ok {
		return s, nil
	}
	sum, cached := g.r.cache.summary(key)
	if g.emptied() {
		sum, cached = dotted.Summary{}, true // those in the store are of an earlier era
	}
	if !cached {
		g.r.spend(workMiss)
		var err error
		if sum, err = g.view.Summary(key); err != nil {
			return nil, err
		}
	}
	s := &summaryState{name: key, key: place(prefixSummary, dotted.KeyAddress(key)), now: sum}
	s.before = keyCounts{sum.Exists(), sum.Tallies}
	g.sums[key] = s
	return s, nil
}

// scan merges the store's cells with the group's own.
func (g *Group) scan(prefix, beyond dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	var own []*cellState
	from := place(prefixCell, beyond)
	g.under(prefix, func(c *cellState) bool {
		if beyond == "" || string(c.key) > string(from) {
			own = append(own, c)
		}
		return true
	})
	stopped := false
	g.r.spend(workOf(len(g.cells)))
	emit := func(a dotted.Address, c dotted.Cell) bool {
		g.r.spend(workCell + workOf(payloadOf(c)))
		if len(c) > 0 && !fn(a, c) {
			stopped = true
		}
		return !stopped
	}
	err := g.view.scanStored(prefix, beyond, func(a dotted.Address, stored dotted.Cell) bool {
		key := place(prefixCell, a)
		for len(own) > 0 && string(own[0].key) < string(key) {
			if !emit(own[0].address, own[0].now) {
				return false
			}
			own = own[1:]
		}
		if len(own) > 0 && string(own[0].key) == string(key) {
			c := own[0]
			own = own[1:]
			return emit(c.address, c.now)
		}
		return emit(a, g.clears.hide(a, stored))
	})
	for _, c := range own {
		if err != nil || stopped || !emit(c.address, c.now) {
			break
		}
	}
	return err
}

// keys merges the store's keys with the group's own. Both are in the order of places: that of names
// differs from it where they are longer than a place keeps.
func (g *Group) keys(prefix, beyond string, fn func(string, dotted.Summary) bool) error {
	var own []*summaryState
	from := place(prefixSummary, dotted.KeyAddress(beyond))
	for name, s := range g.sums {
		if !s.before.exists && s.now.Exists() && strings.HasPrefix(name, prefix) &&
			(beyond == "" || string(s.key) > string(from)) {
			own = append(own, s)
		}
	}
	sort.Slice(own, func(i, j int) bool { return string(own[i].key) < string(own[j].key) })
	stopped := false
	emit := func(name string, s dotted.Summary) bool {
		g.r.spend(workCell)
		if s.Exists() && !fn(name, s) { // what fn itself wrote may have removed one
			stopped = true
		}
		return !stopped
	}
	stored := func(at []byte, name string, s dotted.Summary) bool {
		for len(own) > 0 && string(own[0].key) < string(at) {
			if !emit(own[0].name, own[0].now) {
				return false
			}
			own = own[1:]
		}
		if mine, ok := g.sums[name]; ok {
			s = mine.now
		}
		return emit(name, s)
	}
	var err error
	if !g.emptied() {
		err = g.view.keysStored(prefix, beyond, stored)
	}
	for _, s := range own {
		if err != nil || stopped || !emit(s.name, s.now) {
			break
		}
	}
	return err
}

// Discard ends the group without effect.
func (g *Group) Discard() { g.view.Close() }

// commit has what the group did written to the log, as one record, and takes it into the replica's own state. Views see
// it once it is written. It returns the deltas in the order of applying.
func (g *Group) commit() []*delta.Delta {
	defer g.view.Close()
	if g.Empty() {
		return nil
	}
	r := g.r
	changed := g.changed()
	moves, root := g.plan(changed)
	rec := logged{
		kind: recordGroup, deltas: g.deltas, own: g.own, derived: g.derived(),
		root: root, settled: g.clears.count == 0,
	}
	g.log(rec)
	g.take(rec.derived, changed, moves)
	r.ahead = false
	r.publishWritten()
	return g.deltas
}

// log has a record about the group appended.
func (g *Group) log(rec logged) {
	rec.lsn, rec.time = g.r.log.last+1, g.now
	g.r.append(rec)
}

// changed returns the cells that the group changed, in the order of their keys.
func (g *Group) changed() []*cellState {
	var out []*cellState
	for _, c := range g.cells {
		if !sameDots(c.stored, c.now) {
			out = append(out, c)
		}
	}
	sort.Slice(out, func(i, j int) bool { return string(out[i].key) < string(out[j].key) })
	return out
}

func sameDots(a, b dotted.Cell) bool {
	return slices.EqualFunc(a, b, func(x, y dotted.Entry) bool { return x.Dot == y.Dot })
}

// derived returns the new values of what is derived from the cells that the group changed.
func (g *Group) derived() (items []*item) {
	for _, name := range g.dirtySums() {
		s := g.sums[name]
		items = append(items, &item{
			key: string(s.key), value: encodeSummary(s.key, s.name, s.now, g.clears.era),
		})
	}
	g.counted.Scan(func(_ dotted.Address, n *countState) bool {
		if n.dirty {
			items = append(items, &item{key: string(n.key()), value: n.encode(g.clears.era)})
		}
		return true
	})
	if g.emptied() {
		items = append(items, &item{key: string(keyEra), value: encodeSession(keyEra, g.clears.era)})
	}
	return items
}

// dirtySums returns the keys whose summaries the group changed, in order.
func (g *Group) dirtySums() (names []string) {
	for name, s := range g.sums {
		if s.dirty {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// take takes what was logged into memory.
func (g *Group) take(derived []*item, changed []*cellState, moves []move) {
	r := g.r
	for _, c := range changed {
		it := g.item(c)
		c.now = it.cell
		r.table.put(it)
	}
	for _, it := range derived {
		r.table.put(it)
	}
	g.putClears()
	r.account(changed, moves)
	r.keys, r.tallies = g.counts()
	if g.emptied() {
		r.cache.forgetSummaries()
	}
	g.counted.Scan(func(a dotted.Address, n *countState) bool {
		r.cache.keepCount(a, n.now)
		return true
	})
	r.clears = g.clears
	for name, s := range g.sums {
		r.cache.keepSummary(name, s.now)
	}
	for a, c := range g.cells {
		r.cache.keep(a, c.now)
	}
}

// checkCost reports whether a delta's cost keeps to the protocol's limits.
func checkCost(ops, cost int) error {
	switch {
	case ops > delta.MaxOps:
		return fmt.Errorf("%w: %d changes (limit %d)", delta.ErrTooLarge, ops, delta.MaxOps)
	case cost > delta.MaxCost:
		return fmt.Errorf("%w: it would write about %d bytes (limit %d)",
			delta.ErrTooLarge, cost, delta.MaxCost)
	}
	return nil
}

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

// apply takes a delta of another replica into the group. A delta whose dependencies are not all here is
// dropped, and so is one that a running repair will bring: the sender offers it again. One that does not continue the
// chain of its replica's deltas changes nothing.
func (g *Group) apply(d *delta.Delta) (gossip.Outcome, error) {
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

// Fields returns the keys of a Tx or a View as package crdt's types: the only way in which users' functions see them.
func Fields(tx dotted.Tx) (keys crdt.Fields) {
	dotted.Lent.Bind(&keys, tx)
	return keys
}
