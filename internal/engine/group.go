package engine

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
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

// Begin starts a group. now is the wall clock's time. The group must be ended with Commit or Discard.
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

// Full reports whether the group should be committed before anything more goes in: it has as much as a step does.
func (g *Group) Full() bool {
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
