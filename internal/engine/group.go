package engine

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
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

// group is a commit group: transactions and deltas that are applied one after the other on one
// snapshot, each seeing those before it, and become visible and durable together.
type group struct {
	r      *replica
	number uint64 // greater than that of each group before it
	now    time.Time
	view   *View // the state before the group
	first  View  // memory for it
	cells  map[dotted.Address]*cellState
	loaded []*cellState // those, in the order in which they were loaded, and what was forgotten
	last   *cellState   // that was looked at
	sums   map[string]*summaryState
	summed *summaryState // of them, that was looked at

	recordFirst bool // see readSums
	memory      *groupMemory

	counted  map[dotted.Address]*countState // of strings
	counting *countState                    // of them, that was looked at
	countsOf map[string][]*countState       // by their keys, once a key was cleared
	tallied  bool                           // the group has changed how many cells tally
	timed    bool                           // and whether any key has an expiry

	orders  map[dotted.Address]*orderState // of containers
	ordered []*orderState                  // those, in the order in which they were looked at, and what was forgotten

	at     []byte                         // memory for a key
	order  *btree.Map[string, *cellState] // cells by their keys, once that is asked for
	walked int                            // cells and counts of it that were passed

	undoing *Tx  // that cleared something, and may be taken back
	taken   bool // what the group did is in the replica's own state

	clears         *clears // in force: those before the group, and its own
	firstClear     uint64  // the records of its own have numbers from here on
	added, dropped []*pendingClear
	sawLast        map[crdt.ReplicaID]*seenSet // see saw
	sawFor         *delta.Delta                // which has sawSet
	sawSet         *seenSet
	sawBy          *delta.Delta // see cleared
	sawAll         delta.Seen
	unseen         map[crdt.ReplicaID]*unseen
	looked         int // cells that clears of its transaction looked at: see maxLooked
	looking        looking

	refusal error // why its transactions may not write; nil if they may
	reads   bool  // they only read
	deltas  []*delta.Delta
	own     crdt.ReplicaID // under which some of them were written here; zero if none was
	cost    int
	began   int // replica.work at its beginning
}

// cellState is a cell that the group has looked at.
type cellState struct {
	address dotted.Address
	key     string
	was     *item       // in memory
	read    bool        // from the tree, and memory does not have it
	stored  dotted.Cell // in the store, with what pending clears hide
	now     dotted.Cell
	moved   moved          // between the two, once that is planned
	share   share          // of what is now, once that is planned
	gone    bool           // the group has not looked at it
	near    *near          // by which it is found; nil if that is none
	owner   crdt.ReplicaID // of the share that it is, if that is known: see near
	nth     int            // in what the group loaded
}

// summaryState is a key's summary that the group has looked at.
type summaryState struct {
	name   string
	key    string     // where its record stands, once that is asked for: see at
	whole  *cellState // that may be all of the key; nil if memory does not have it, and it need not be read
	before totals     // what the key adds to those of all keys, as the store has it
	now    dotted.Summary
	sums   *sums // of the record, if there is one
	bare   bool  // the store has nothing of the key
	stored bool  // there is a record of it
	owned  bool  // its shapes are the group's
	dirty  bool
}

// newGroup starts a group. now is the wall clock's time. The group must be ended with commit or
// discard.
func (r *replica) newGroup(now time.Time) *group {
	m := r.spareGroup
	if r.spareGroup = nil; m == nil {
		m = newGroupMemory()
	}
	g := &group{
		r: r, number: r.log.Last + 1, now: now,
		cells:  m.cells,
		loaded: m.loaded,
		sums:   m.sums, counted: m.counted,
		memory: m, at: m.at,
		clears: r.clears, firstClear: r.lastClear + 1,
		began: r.work,
	}
	g.view = r.presentIn(&g.first)
	return g
}

// full reports whether the group should be committed before anything more goes in: it has as much
// as a step does.
func (g *group) full() bool {
	return g.looking.waits || g.cost >= groupCost || g.r.spentSince(g.began) ||
		len(g.added) >= groupClears
}

// empty reports whether the group has nothing to commit.
func (g *group) empty() bool { return len(g.deltas) == 0 }

// load returns the group's state of a cell.
func (g *group) load(a dotted.Address) (*cellState, error) {
	g.r.spend(workCell)
	if c := g.held(a); c != nil {
		return c, nil
	}
	c := g.memory.states.next()
	if err := g.readCell(a, c); err != nil {
		return nil, err
	}
	g.hold(c)
	g.r.spend(workOf(len(a) + weightOf(c.stored)))
	return c, nil
}

// inMemory returns a cell as memory has it, which a group that only reads need not take in.
func (g *group) inMemory(a dotted.Address) (c dotted.Cell, known bool) {
	g.at = appendPlace(g.at[:0], prefixCell, a)
	if it := g.r.table.find(g.at); it != nil {
		c, known = it.cell, true
	} else if c, known = g.r.table.lists.cell(a); !known {
		return nil, false
	}
	g.r.spend(workCell + workOf(len(a)+weightOf(c)))
	return g.clears.hide(a, c), true
}

// held returns the group's state of a cell that it has looked at, or that memory has; else nil.
func (g *group) held(a dotted.Address) *cellState {
	if g.last != nil && g.last.address == a {
		return g.last
	}
	if c, ok := g.cells[a]; ok {
		g.last = c
		return c
	}
	if n := g.nearShare(a); n != nil && n.share != nil && n.share.address() == a {
		if it := g.nearItem(n.share); it != nil {
			return g.holdItem(a, it)
		}
	}
	g.at = appendPlace(g.at[:0], prefixCell, a)
	return g.heldAt(g.at)
}

// hold takes a cell into the group. What is read first after a clear of a transaction is
// forgotten if that fails, because the clear took part in it.
func (g *group) hold(c *cellState) {
	c.now, c.near = g.clears.hide(c.address, c.stored), g.nearShare(c.address)
	c.nth = len(g.loaded)
	if tx := g.undoing; tx != nil {
		tx.fresh = append(tx.fresh, c.address)
	}
	g.cells[c.address], g.last = c, c
	g.loaded = append(g.loaded, c)
	if g.order != nil {
		g.order.Set(c.key, c)
	}
}

// readCell reads what the tree has of a cell that memory has not.
func (g *group) readCell(a dotted.Address, c *cellState) (err error) {
	g.at = appendPlace(g.at[:0], prefixCell, a)
	if listed, known := g.r.table.lists.cell(a); known {
		c.stored = slices.Clone(listed)
	} else if c.read = !g.bare(a); c.read {
		g.r.spend(workMiss)
		if c.stored, err = g.view.inTree(g.at); err != nil {
			return err
		}
	}
	for i := range c.stored {
		if len(c.stored) > 1 { // what is left of them must not pin what they were read from
			c.stored[i].Payload = bytes.Clone(c.stored[i].Payload)
		}
	}
	c.stand(g.at, a)
	return nil
}

// stand says at which place the cell of an address is.
func (c *cellState) stand(at []byte, a dotted.Address) {
	if c.key, c.address = string(at), a; !isShortened(at, a) {
		c.address = dotted.Address(c.key[1:])
	}
}

// forget takes a cell out of the group.
func (g *group) forget(a dotted.Address) {
	c := g.cells[a]
	if c == nil {
		return
	}
	if g.order != nil {
		g.order.Delete(c.key)
	}
	c.gone, g.last = true, nil
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
func (g *group) set(c *cellState, now dotted.Cell, note func(undo)) error {
	g.timed = g.timed || c.address.IsExpiry()
	err := g.add(g.derive(c.address, c.now, now), note)
	if err == nil {
		c.now = now
	}
	return err
}

// sumsAt returns the sums that are stored at a key, and that to be kept. read decodes those that
// memory has not decoded.
func (g *group) sumsAt(key []byte, read func(n *sums, record []byte) error) (at string, found *sums, err error) {
	it := g.r.table.find(key)
	if it != nil && it.sums != nil {
		return it.key, it.sums, nil
	}
	g.r.spend(workMiss)
	n := &sums{asOf: g.view.clears.newest}
	var record []byte
	if it != nil {
		record = it.value
	} else {
		if record, _, err = g.view.shot.Tree().Get(key); err != nil {
			return "", nil, err
		}
	}
	if n.none = record == nil; !n.none {
		if err := read(n, record); err != nil {
			return "", nil, err
		}
	}
	if it != nil {
		it.sums = n // of what memory had packed
		return it.key, n, nil
	}
	at = string(key)
	if record != nil || key[0] == prefixCount { // of a key that is not there something is written next
		g.r.table.Keep(recordItem(at, body{value: record, sums: n}))
	}
	return at, n, nil
}

// discard ends the group without effect.
func (g *group) discard() {
	g.view.Close()
	if g.memory == nil {
		return
	}
	g.keep()
	g.markLone()
	m := g.memory
	m.loaded, m.sums, m.at = g.loaded, g.sums, g.at
	g.memory, g.cells, g.loaded, g.sums, g.counted, g.at = nil, nil, nil, nil, nil, nil
	if m.reset() {
		g.r.spareGroup = m
	}
}

// commit has what the group did written to the log, as one record, and takes it into the
// replica's own state. Views see it once it is written. It returns the deltas in the order of
// applying.
func (g *group) commit() []*delta.Delta {
	defer g.discard() // what is left of it
	if g.empty() {
		return nil
	}
	r := g.r
	changed := g.changed()
	root := g.plan(changed)
	rec := logged{
		kind: recordGroup, deltas: g.deltas, own: g.own, derived: g.derived(),
		root: root, settled: g.clears.count == 0,
	}
	g.log(rec)
	g.take(rec.derived, changed)
	r.ahead = false
	r.publishWritten()
	return g.deltas
}

// log has a record about the group appended.
func (g *group) log(rec logged) {
	rec.lsn, rec.time = g.r.log.Last+1, g.now
	rec.totals = g.totals()
	g.r.append(rec)
}

// changed returns the cells that the group changed, in the order in which it looked at them.
func (g *group) changed() []*cellState {
	out := make([]*cellState, 0, len(g.cells))
	for _, c := range g.loaded {
		if !c.gone && !sameDots(c.stored, c.now) {
			out = append(out, c)
		}
	}
	return out
}

func sameDots(a, b dotted.Cell) bool {
	return slices.EqualFunc(a, b, func(x, y dotted.Entry) bool { return x.Dot == y.Dot })
}

// derived returns the new values of what is derived from the cells that the group changed, in the
// order in which it looked at them; of orders it has what became of them.
func (g *group) derived() (items []*item) {
	g.memory.counts.each(func(n *countState) {
		if n.dirty && g.counted[n.at] == n {
			items = g.derivedCount(n, items)
		}
	})
	g.memory.keys.each(func(s *summaryState) {
		if !s.dirty || g.sums[s.name] != s {
			return
		}
		it := recordItem(s.at(), body{value: encodeSummary([]byte(s.at()), s.name, s.now, g.clears.newest)})
		it.unborn = g.unborn(s.sums != nil && s.sums.none)
		if it.sums = (&sums{asOf: g.clears.newest, none: it.value == nil}); it.value != nil {
			it.sums.summary = s.now
		} else if !s.stored {
			return
		}
		items = append(items, it)
	})
	return append(items, g.loggedOrders()...)
}

// take takes what was logged into memory.
func (g *group) take(derived []*item, changed []*cellState) {
	r := g.r
	g.taken = true
	for _, c := range changed {
		g.put(c)
	}
	for _, it := range derived {
		if it.sums != nil { // else it is of an order
			r.table.put(it, it.sums.after)
			it.sums.after = nil
		}
	}
	g.putOrders()
	g.putClears()
	r.account(changed)
	r.totals = g.totals()
	r.clears = g.clears
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
	g     *group
	delta *delta.Delta // apart, as the log keeps it in memory, and not with it what could be undone
	bound bool         // replica.spareFields are its
	cost  int
	undo  []undo
	saved *saved           // once it clears
	fresh []dotted.Address // cells that it read since
	err   error
}

// saved is the group's clears before the transaction's.
type saved struct {
	clears         *clears
	added, dropped int
	sums           map[string]*summaryState // before it cleared everything
}

// undo is one step back: the state before a change of a cell, of sums over a key, or of sums over
// a string; or what the group did not know before.
type undo struct {
	cell    *cellState
	now     dotted.Cell
	sum     *summaryState
	was     *summaryState // nil if there is less: a copy for each change would be quadratic in a key's shapes
	less    *addition     // what takes that back
	dirty   bool          // the sums over the key before that
	count   *countState
	counted *countState
	uncount dotted.Address // sums over a string that it had not read
	order   *orderUndo
}

// update runs fn as one transaction: its writes become one delta. If fn returns an error, or the
// transaction grows beyond its limits, nothing of it stays; nor if fn panics or ends its goroutine.
func (g *group) update(fn func(tx *Tx) error) error {
	r := g.r
	defer r.transacted(r.work)
	r.spend(workTransaction)
	if r.id == 0 && g.refusal == nil {
		r.drawID()
	}
	tx := &Tx{g: g, undo: r.spareUndo}
	r.spareUndo = nil
	if tx.delta, r.spareDelta = r.spareDelta, nil; tx.delta == nil {
		tx.delta = delta.New()
	}
	tx.delta.Begin(r.id, r.seen[r.id]+1, r.clock.Now(g.now), r.heads[r.id])
	tx.cost = 20 * len(r.gained)
	g.looked = 0
	whole := false
	defer func() {
		if g.undoing = nil; !whole {
			tx.rollback()
		}
		if tx.bound {
			dotted.Lent.Bind(&r.spareFields, nil) // which must not hold it
		}
		if clear(tx.undo); cap(tx.undo) <= maxSpare {
			r.spareUndo = tx.undo[:0]
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if tx.err != nil {
		return tx.err
	}
	if len(tx.delta.Ops) == 0 {
		r.spareDelta, whole = tx.delta, true
		return nil
	}
	if len(r.gained) > 0 {
		tx.delta.Deps = r.gained // which accept replaces
	}
	if size := len(tx.delta.Encode()); size > delta.MaxSize {
		return fmt.Errorf("%w: %d bytes (limit %d)", delta.ErrTooLarge, size, delta.MaxSize)
	}
	g.fold(tx.delta)
	g.accept(tx.delta, tx.cost)
	whole = true
	return nil
}

// accept puts a finished delta of this replica into the group.
func (g *group) accept(d *delta.Delta, cost int) {
	r := g.r
	if len(r.gained) > 0 {
		r.gained = crdt.VersionVector{} // the delta has the other, as its deps
	}
	r.guards.noteAll(d)
	r.noteOwn(r.id)
	r.advance(d)
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
		if u.uncount != "" {
			delete(tx.g.counted, u.uncount)
			tx.g.counting = nil
		}
		if u.order != nil {
			tx.g.undoOrder(u.order)
		}
	}
	for _, a := range tx.fresh {
		tx.g.forget(a)
	}
	s := tx.saved
	if s == nil {
		return
	}
	tx.g.clears, tx.g.added, tx.g.dropped = s.clears, tx.g.added[:s.added], tx.g.dropped[:s.dropped]
	if s.sums != nil {
		tx.g.sums, tx.g.summed = s.sums, nil
	}
}

// op checks that the transaction may do one thing more, and gives it its dot.
func (tx *Tx) op(o delta.Op) (crdt.Dot, error) {
	if why := tx.g.refusal; why != nil {
		return crdt.Dot{}, tx.fail(why)
	}
	if r := tx.g.r; len(tx.delta.Ops) == 0 && len(r.seen) >= delta.MaxReplicas && r.seen[r.id] == 0 {
		return crdt.Dot{}, tx.fail(fmt.Errorf(
			"%w: it would be this replica's first, and %d have written (limit %d)",
			delta.ErrTooLarge, len(r.seen), delta.MaxReplicas))
	}
	if err := o.Check(); err != nil {
		return crdt.Dot{}, tx.fail(err)
	}
	cost := tx.cost + o.Cost()
	if err := checkCost(len(tx.delta.Ops)+1, cost+delta.HeadCost); err != nil {
		return crdt.Dot{}, tx.fail(err)
	}
	tx.cost = cost
	tx.g.r.spend(workOfOp(&o))
	tx.delta.Ops = append(tx.delta.Ops, o)
	return tx.delta.Dot(len(tx.delta.Ops) - 1), nil
}

// fail makes the whole transaction fail, even if its function goes on as if nothing were: a store
// that could not be read or a limit must not leave half of a change.
func (tx *Tx) fail(err error) error {
	if tx.err == nil {
		tx.err = err
	}
	return err
}

// failed is fail if there is an error.
func (tx *Tx) failed(err error) error {
	if err != nil {
		return tx.fail(err)
	}
	return nil
}

// Cell returns the live entries of one cell.
func (tx *Tx) Cell(a dotted.Address) (dotted.Cell, error) {
	if tx.g.reads {
		if c, known := tx.g.inMemory(a); known {
			return c, nil
		}
	}
	c, err := tx.g.load(a)
	if err != nil {
		return nil, tx.fail(err)
	}
	return c.now, nil
}

// Element returns the live entries of the cell of a name.
func (tx *Tx) Element(container dotted.Address, name string) (dotted.Cell, error) {
	if g := tx.g; g.reads {
		g.at = dotted.AppendName(append(append(g.at[:0], prefixCell), container...), name)
		if it := g.r.table.find(g.at); it != nil && len(g.at) <= dotted.MaxPlain { // else its place is another
			g.r.spend(workCell + workOf(len(g.at)+weightOf(it.cell)))
			return g.clears.hide(it.address(), it.cell), nil
		}
	}
	return tx.Cell(container.Name(name))
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

// Put adds an entry to a cell and removes the ones with the given dots.
func (tx *Tx) Put(a dotted.Address, payload []byte, removes []crdt.Dot) (crdt.Dot, error) {
	d, err := tx.op(delta.Op{Kind: delta.OpPut, Address: a, Payload: payload, Removes: removes})
	if err != nil {
		return crdt.Dot{}, err
	}
	return d, tx.enter(a, dotted.Entry{Dot: d, Payload: payload}, removes)
}

func (tx *Tx) enter(a dotted.Address, e dotted.Entry, removes []crdt.Dot) error {
	return tx.change(a, func(c dotted.Cell) dotted.Cell {
		if c = c.Without(removes); len(c) == 0 {
			return tx.g.memory.cellOf(e)
		}
		return c.With(e)
	})
}

// Begin adds an entry to a cell that nobody has written yet, so that it is neither in memory nor in
// the tree.
func (tx *Tx) Begin(a dotted.Address, payload []byte) (crdt.Dot, error) {
	d, err := tx.op(delta.Op{Kind: delta.OpPut, Address: a, Payload: payload})
	if err != nil {
		return crdt.Dot{}, err
	}
	if g := tx.g; g.cells[a] == nil {
		c := g.memory.states.next()
		g.at = appendPlace(g.at[:0], prefixCell, a)
		c.stand(g.at, a)
		g.hold(c)
	}
	return d, tx.enter(a, dotted.Entry{Dot: d, Payload: payload}, nil)
}

// Remove removes entries from a cell.
func (tx *Tx) Remove(a dotted.Address, dots []crdt.Dot) error {
	if len(dots) == 0 {
		return nil
	}
	if _, err := tx.op(delta.Op{Kind: delta.OpRemove, Address: a, Removes: dots}); err != nil {
		return err
	}
	return tx.change(a, func(c dotted.Cell) dotted.Cell {
		noteExpired(tx.delta, a, c, tx.Now())
		return c.Without(dots)
	})
}

func (tx *Tx) change(a dotted.Address, fn func(dotted.Cell) dotted.Cell) error {
	c, err := tx.g.load(a)
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
	c.now.Visible, c.owned = slices.Clone(s.now.Visible), true
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
	if err := g.noteCleared(tx.delta, prefix, tx.Now()); err != nil {
		return tx.fail(err)
	}
	if err := g.clear(tx.delta, i, true, tx.note); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Cleared implements dotted.Tx. A clear of everything does not count: as a rule little of what it hides is under
// one name, and until it is swept each name that is removed would be a clear of its own.
func (tx *Tx) Cleared(a dotted.Address) (cleared bool) {
	tx.g.clears.over(a, func(list []*pendingClear) { cleared = cleared || list[0].prefix != "" })
	return cleared
}

// save notes what a clear is about to change.
func (tx *Tx) save(prefix dotted.Address) error {
	g := tx.g
	if tx.saved == nil {
		tx.saved = &saved{clears: g.clears, added: len(g.added), dropped: len(g.dropped)}
		g.clears = g.clears.copy()
		g.undoing = tx
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
func (tx *Tx) Replica() crdt.ReplicaID {
	if tx.g.reads {
		return 0
	}
	return tx.g.r.id
}

// Next returns the counter of the dot that the transaction issues next.
func (tx *Tx) Next() uint64 { return tx.delta.First + uint64(len(tx.delta.Ops)) }

// Ended reports whether a replica's last delta is in the context.
func (tx *Tx) Ended(id crdt.ReplicaID) bool { return tx.g.r.Ended(id) }

// Vector returns the short form of everything that the transaction sees, what it wrote so far
// included. The caller owns it.
func (tx *Tx) Vector() crdt.VersionVector {
	seen := tx.g.r.short.Clone()
	if n := len(tx.delta.Ops); n > 0 {
		seen[tx.delta.Replica] = tx.delta.Dot(n - 1).Counter
	}
	return seen
}

// Keys calls fn with the keys that exist, begin with prefix and come after the given one, in the
// order of View.Keys.
func (tx *Tx) Keys(prefix, after string, fn func(string, dotted.Summary) bool) error {
	if err := tx.g.keys(prefix, after, fn); err != nil {
		return tx.fail(err)
	}
	return nil
}

// Tallied calls fn with the keys that hold counters, or what is left of such. O(keys), unless
// there is none.
func (tx *Tx) Tallied(fn func(key string) bool) error {
	if err := tx.g.tallying(fn); err != nil {
		return tx.fail(err)
	}
	return nil
}

// KeyCount is View.KeyCount, as the transaction sees it. O(keys written by the group).
func (tx *Tx) KeyCount() (keys, ending int, err error) {
	n := tx.g.totals()
	return n.keys, n.ending, nil
}

// apply takes a delta of another replica into the group. A delta whose dependencies are not all
// here is dropped, and so is one that a running repair will bring: the sender offers it again.
// One that does not continue the chain of its replica's deltas changes nothing.
func (g *group) apply(d *delta.Delta) (gossip.Outcome, error) {
	r := g.r
	defer r.transacted(r.work)
	r.spend(workTransaction)
	switch {
	case d.Last() <= r.seen[d.Replica]:
		if d.Last() == r.seen[d.Replica] && d.Hash() != r.heads[d.Replica] {
			return gossip.Astray, nil
		}
		return gossip.Known, nil
	case d.Replica == r.current(), r.Ended(d.Replica), d.First <= r.seen[d.Replica]:
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
	if waits, err := g.looksFirst(d, exact); waits || err != nil {
		return gossip.Later, err
	}
	for i := range d.Ops {
		if err := g.applyOp(d, i, exact); err != nil {
			return gossip.Early, err
		}
	}
	if err := g.noteSurvivors(d); err != nil {
		return gossip.Early, err
	}
	r.observe(d.Time, g.now)
	r.advance(d)
	r.hold(d)
	g.deltas = append(g.deltas, d)
	g.cost += max(d.Cost(), len(d.Encode())) // a newer version may have written more than is read here
	return gossip.Applied, nil
}

func (g *group) applyOp(d *delta.Delta, i int, exact bool) error {
	op := &d.Ops[i]
	g.r.spend(workOfOp(op))
	switch op.Kind {
	case delta.OpClear:
		if err := cmp.Or(g.noteCleared(d, op.Address, d.Time.Wall()), g.noteGuarded(op)); err != nil {
			return err
		}
		return g.clear(d, i, exact, nil)
	case delta.OpEnd, delta.OpBase:
		return nil
	}
	c, err := g.load(op.Address)
	if err != nil {
		return err
	}
	now := c.now.Without(op.Removes)
	if op.Kind == delta.OpRemove {
		noteExpired(d, op.Address, c.now, d.Time.Wall())
	}
	if op.Kind == delta.OpPut {
		now = now.With(dotted.Entry{Dot: d.Dot(i), Payload: lasting(d, i)})
		g.r.owe(op)
	}
	if slices.Equal(now.Dots(), c.now.Dots()) {
		return nil
	}
	g.r.guards.note(op)
	if len(op.Removes) > 0 {
		g.r.oweLeft(op.Address, now)
	}
	return g.set(c, now, nil)
}
