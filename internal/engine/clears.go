package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
	"github.com/tidwall/btree"
)

// pendingClear is a clear that is committed, and so in force for every reader, while the cells
// that it removed are still in the store. See sweep.
type pendingClear struct {
	number  uint64 // of its record
	prefix  dotted.Address
	replica crdt.ReplicaID // see delta.ClearSet
	below   uint64
	seen    *seenSet
	group   uint64 // that made it: see group.number
	counted bool   // there may be sums of counters under its prefix that say nothing any more
}

// seenSet is what clears saw, in memory and in the store once for all of them. It never changes.
type seenSet struct {
	number uint64             // of its record
	vector crdt.VersionVector // in its short form
	seen   delta.Seen         // what that stands for
}

func (p *pendingClear) set() delta.ClearSet {
	return delta.ClearSet{Seen: p.seen.seen, Replica: p.replica, Below: p.below}
}

// covers reports whether p removes all that a clear of the same prefix removes: it saw that
// clear, and so what that had seen.
func (p *pendingClear) covers(other *pendingClear) bool {
	return p.set().Has(crdt.Dot{Replica: other.replica, Counter: other.below})
}

// same reports whether the two are one clear, which opening found and then carried out again.
func (p *pendingClear) same(other *pendingClear) bool {
	return p.replica == other.replica && p.below == other.below
}

// clears are the pending ones. What a View has does not change: who changes clears takes a copy.
//
// A clear takes what it hides off the sums over keys in its commit. Sums of counters under its
// prefix it leaves as they are, however many there are, and likewise those over keys if it is one
// of everything. They say nothing any more: each tells as of which clear it was written. They are
// swept before the clear is done with.
type clears struct {
	count    int
	counting int                                        // those with counted
	newest   uint64                                     // group of the newest that there was since the store was opened, or was pending then
	emptied  uint64                                     // that of the newest one of everything; zero if none is pending
	byAt     btree.Map[dotted.Address, []*pendingClear] // by prefix
}

// copy takes constant time.
func (c *clears) copy() *clears {
	out := *c
	out.byAt = *c.byAt.Copy()
	return &out
}

// void reports whether what a sum over addresses that begin with a says, as of a clear, was
// cleared since.
func (c *clears) void(a dotted.Address, asOf uint64) (void bool) {
	if asOf < c.newest && c.count > 0 {
		c.over(a, func(list []*pendingClear) {
			void = void || slices.ContainsFunc(list, func(p *pendingClear) bool { return p.group > asOf })
		})
	}
	return void
}

// add adds a clear, and returns those that it makes superfluous.
func (c *clears) add(p *pendingClear) (dropped []*pendingClear) {
	old, _ := c.byAt.Get(p.prefix)
	list := make([]*pendingClear, 0, len(old)+1)
	for _, o := range old {
		if p.covers(o) || p.same(o) {
			dropped = append(dropped, o)
			p.counted = p.counted || o.counted
			c.counting += gain(o.counted, false)
		} else {
			list = append(list, o)
		}
	}
	c.byAt.Set(p.prefix, append(list, p))
	c.count += 1 - len(dropped)
	c.counting += gain(false, p.counted)
	if c.newest = max(c.newest, p.group); p.prefix == "" {
		c.emptied = max(c.emptied, p.group)
	}
	return dropped
}

func (c *clears) remove(p *pendingClear) {
	old, _ := c.byAt.Get(p.prefix)
	list := slices.DeleteFunc(slices.Clone(old), func(o *pendingClear) bool { return o == p })
	c.count -= len(old) - len(list)
	if c.counting += gain(p.counted, false); len(list) == 0 {
		c.byAt.Delete(p.prefix)
		if p.prefix == "" {
			c.emptied = 0
		}
	} else {
		c.byAt.Set(p.prefix, list)
	}
}

// hide returns what the clears leave of the cell at a.
func (c *clears) hide(a dotted.Address, cell dotted.Cell) dotted.Cell {
	if c.count == 0 || len(cell) == 0 {
		return cell
	}
	c.over(a, func(list []*pendingClear) {
		for _, p := range list {
			cell = cell.Outside(p.set())
		}
	})
	return cell
}

// over calls fn with the clears of each prefix of a. The greatest prefix that is not beyond a is
// one of a, or leads to where the next can be: O(log clears) for each name in a.
func (c *clears) over(a dotted.Address, fn func([]*pendingClear)) {
	for bound, more := a, true; more; {
		more = false
		c.byAt.Descend(bound, func(at dotted.Address, list []*pendingClear) bool {
			common := commonPrefix(at, a)
			if common < len(at) {
				bound, more = a[:lastEnd(a, common)], true
				return false
			}
			fn(list)
			if common > 0 {
				bound, more = a[:common-1], true
			}
			return false
		})
	}
}

func commonPrefix(a, b dotted.Address) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// lastEnd returns the last place up to n at which a prefix of a can end: after a name, after a
// type, and anywhere in what follows a type that holds no names.
func lastEnd(a dotted.Address, n int) int {
	end := 0
	for rest := a; ; {
		_, next, ok := rest.CutName()
		if !ok || len(a)-len(next) > n {
			return end
		}
		end = len(a) - len(next)
		t, next, ok := next.CutType()
		if !ok || end == n {
			return end
		}
		end++
		if !dotted.HoldsOf(t).Names() {
			return n
		}
		rest = next
	}
}

// within calls fn with the clears whose prefixes begin with the given one, in their order from a
// place on, until fn returns false.
func (c *clears) within(prefix, from dotted.Address, fn func(*pendingClear) bool) {
	c.byAt.Ascend(max(prefix, from), func(at dotted.Address, list []*pendingClear) bool {
		if !hasPrefix(at, prefix) {
			return false
		}
		for _, p := range list {
			if !fn(p) {
				return false
			}
		}
		return true
	})
}

// next returns the first prefix after the given one that has clears.
func (c *clears) next(after dotted.Address) (prefix dotted.Address, found bool) {
	c.byAt.Ascend(after, func(at dotted.Address, _ []*pendingClear) bool {
		if at == after {
			return true
		}
		prefix, found = at, true
		return false
	})
	return prefix, found
}

// saw returns the set for clears of a delta: the last one of its replica, if that differs only in
// what the replica itself had written, which a clear names anyway.
func (g *group) saw(d *delta.Delta) *seenSet {
	if g.sawSet == nil || g.sawFor != d {
		g.sawFor, g.sawSet = d, g.sawAs(d)
	}
	return g.sawSet
}

// cleared returns what a delta's i-th operation, a clear, removes. All that its vector lists is
// in the context, so what that stands for is known.
func (g *group) cleared(d *delta.Delta, i int) delta.ClearSet {
	if g.sawBy != d {
		g.sawBy, g.sawAll = d, g.r.bases.Read(d.Seen)
	}
	return d.SeenBy(i, g.sawAll)
}

func (g *group) sawAs(d *delta.Delta) *seenSet {
	r := g.r
	for _, s := range []*seenSet{g.sawLast[d.Replica], r.sawLast[d.Replica]} {
		if s == nil || s.number < g.firstClear && r.uses[s.number] == 0 {
			continue // swept
		}
		if r.sameSeen(s.vector, d.Seen, d.Replica) {
			return s
		}
	}
	r.lastClear++
	s := &seenSet{r.lastClear, d.Seen, g.cleared(d, 0).Seen}
	if g.sawLast == nil {
		g.sawLast = map[crdt.ReplicaID]*seenSet{}
	}
	g.sawLast[d.Replica] = s
	return s
}

// sameSeen reports whether two short forms stand for contexts that differ only in what one
// replica itself had written, the second having more of it. What that says of bases counts.
func (r *replica) sameSeen(a, b crdt.VersionVector, but crdt.ReplicaID) bool {
	if r.bases.Between(but, a[but], b[but]) {
		return false
	}
	for id, n := range a {
		if id != but && b[id] != n {
			return false
		}
	}
	for id := range b {
		if _, ok := a[id]; id != but && !ok {
			return false
		}
	}
	return a[but] <= b[but]
}

// pend makes a clear, of a delta's i-th operation, one of the group's.
func (g *group) pend(d *delta.Delta, i int, counted bool) {
	if g.clears == g.r.clears {
		g.clears = g.clears.copy()
	}
	g.r.lastClear++
	p := &pendingClear{number: g.r.lastClear, prefix: d.Ops[i].Address, replica: d.Replica,
		below: d.Dot(i).Counter, seen: g.saw(d), group: g.number, counted: counted}
	g.dropped = append(g.dropped, g.clears.add(p)...)
	g.added = append(g.added, p)
}

// putClears puts what the group did to the pending clears into memory.
func (g *group) putClears() {
	r := g.r
	dropped := make(map[uint64]bool, len(g.dropped))
	for _, p := range g.dropped {
		if dropped[p.number] = true; p.number < g.firstClear {
			r.dropClear(p)
		}
	}
	for _, p := range g.added {
		if dropped[p.number] {
			continue
		}
		key := numbered(prefixClear, p.number)
		r.table.put(recordItem(string(key), body{value: encodeClear(key, p)}), nil)
		if r.uses[p.seen.number]++; r.uses[p.seen.number] == 1 {
			key := numbered(prefixSeen, p.seen.number)
			r.table.put(recordItem(string(key), body{value: encodeSeen(key, p.seen.vector)}), nil)
		}
		r.sawLast[p.replica] = p.seen
	}
}

// dropClear deletes the record of a clear, and with the last that saw it that of what it saw.
func (r *replica) dropClear(p *pendingClear) {
	r.table.put(recordItem(string(numbered(prefixClear, p.number)), body{}), nil)
	if r.uses[p.seen.number]--; r.uses[p.seen.number] > 0 {
		return
	}
	delete(r.uses, p.seen.number)
	r.table.put(recordItem(string(numbered(prefixSeen, p.seen.number)), body{}), nil)
	if r.sawLast[p.replica] == p.seen {
		delete(r.sawLast, p.replica)
	}
}

func encodeClear(key []byte, p *pendingClear) []byte {
	return encodeRecord(key, func(w *wire.Writer) {
		w.Array(6)
		w.String(string(p.prefix))
		w.Uint(uint64(p.replica))
		w.Uint(p.below)
		w.Uint(p.seen.number)
		w.Uint(p.group)
		w.Bool(p.counted)
	})
}

// decodeClear returns a clear, and the number of what it saw.
func decodeClear(key, record []byte) (p *pendingClear, seen uint64, err error) {
	p = &pendingClear{number: numberOf(key)}
	err = decodeRecord(key, record, func(rd *wire.Reader) {
		rd.Array(6)
		p.prefix = dotted.Address(rd.String(crdt.MaxAddress))
		p.replica, p.below, seen = crdt.ReplicaID(rd.Uint()), rd.Uint(), rd.Uint()
		p.group, p.counted = rd.Uint(), rd.Bool()
	})
	return p, seen, err
}

func encodeSeen(key []byte, v crdt.VersionVector) []byte {
	return encodeRecord(key, func(w *wire.Writer) { dotted.WriteVector(w, v) })
}

func decodeSeen(key, record []byte, bases *delta.Bases) (*seenSet, error) {
	s := &seenSet{number: numberOf(key)}
	err := decodeRecord(key, record, func(rd *wire.Reader) { s.vector = dotted.ReadVector(rd) })
	s.seen = bases.Read(s.vector)
	return s, err
}

// resetClears makes it that nothing is to be swept, as in an empty store.
func (r *replica) resetClears() {
	r.clears, r.sweep, r.lastClear = &clears{}, sweep{}, 0
	r.uses, r.sawLast = map[uint64]int{}, map[crdt.ReplicaID]*seenSet{}
}

// loadClears reads the clears that were not swept when the store was closed.
func (r *replica) loadClears() error {
	r.resetClears()
	snap := r.st.Snapshot()
	defer snap.Close()
	err := loadClears(snap, &r.bases, func(p *pendingClear) {
		r.uses[p.seen.number]++
		for _, twice := range r.clears.add(p) {
			r.dropClear(twice)
		}
	}, func(number uint64) { r.lastClear = max(r.lastClear, number) })
	if err != nil {
		return err
	}
	// A checkpoint that was interrupted may have written what clears saw, and not the clears.
	return snap.ScanKeys([]byte{prefixSeen}, []byte{prefixSeen + 1}, func(key []byte) bool {
		if r.uses[numberOf(key)] == 0 {
			r.table.put(recordItem(string(key), body{}), nil)
		}
		return true
	})
}

// loadClears calls add with the clears of a moment that are not swept, and used with the numbers
// that are taken.
func loadClears(snap store.Snapshot, bases *delta.Bases, add func(*pendingClear), used func(number uint64)) error {
	seen := map[uint64]*seenSet{}
	err := scanRecords(snap, prefixSeen, func(key, record []byte) error {
		s, err := decodeSeen(key, record, bases)
		seen[s.number] = s
		used(s.number)
		return err
	})
	if err != nil {
		return err
	}
	return scanRecords(snap, prefixClear, func(key, record []byte) error {
		p, saw, err := decodeClear(key, record)
		if err != nil {
			return err
		}
		if p.seen = seen[saw]; p.seen == nil {
			return damaged(numbered(prefixSeen, saw), errMissing)
		}
		used(p.number)
		add(p)
		return nil
	})
}

// scanRecords calls fn with copies of all records of a kind, in the order of their keys, until it
// fails.
func scanRecords(snap store.Snapshot, kind byte, fn func(key, record []byte) error) error {
	var failed error
	err := snap.Scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) bool {
		failed = fn(append([]byte(nil), key...), append([]byte(nil), value...))
		return failed == nil
	})
	return cmp.Or(failed, err)
}

// clear does a delta's i-th operation, a clear: at once for readers, later in the store. exact
// says that nothing under its prefix survives. See group.add for note.
func (g *group) clear(d *delta.Delta, i int, exact bool, note func(undo)) error {
	prefix, set := d.Ops[i].Address, g.cleared(d, i)
	survivors, known, err := g.survivors(d, i, exact)
	counted := true
	switch {
	case err != nil:
	case prefix == "":
		survivors, err = g.discountAll(set, survivors, known, note)
	default:
		survivors, counted, err = g.discount(prefix, set, survivors, known, note)
	}
	if err != nil {
		return err
	}
	g.under(prefix, func(c *cellState) bool {
		c.now = c.now.Outside(set)
		return true
	})
	g.pend(d, i, counted)
	return g.countLeft(survivors, note)
}

// discount takes the cells that a clear removes off the sums over their key and its strings.
// Under a key, or under a key's type, only what survives has to be looked at, if that is known:
// then nothing is left in the sums, and discount returns what is to be counted again. counted
// says whether there were counters, or cells in an order, under the key.
func (g *group) discount(prefix dotted.Address, set delta.ClearSet, survivors []dotted.Address, known bool,
	note func(undo)) (left []dotted.Address, counted bool, err error) {
	s, err := g.summary(prefix.Key())
	if err != nil {
		return nil, false, err
	}
	counted = s.now.Tallies > 0
	_, rest, _ := prefix.CutName()
	if whole := rest == "" || len(rest) == 1 && !counted; !whole || !known {
		return nil, counted, g.discountEach(prefix, set, note)
	}
	counted = g.forgetOrders(prefix, note) || counted || s.ordered()
	g.forgetCounts(prefix, note)
	s.forget(string(rest))
	return survivors, counted, nil
}

// maxLooked is how many cells all clears together may look at that a transaction makes: about as
// much work as the largest transaction. Only one of a part of a key looks at what it removes, since
// that has no sums of its own. Who receives a clear looks at as many, and at what its maker had not
// seen.
const maxLooked = 4 * delta.MaxOps

// discountEach is discount with a look at each cell.
func (g *group) discountEach(prefix dotted.Address, set delta.ClearSet, note func(undo)) error {
	var failed error
	most := cmp.Or(g.r.cfg.looked, maxLooked)
	err := g.scan(prefix, "", func(a dotted.Address, c dotted.Cell) bool {
		if g.looked++; g.looked > most && note != nil {
			failed = fmt.Errorf("%w: it clears parts of keys that have more than %d cells (clear whole keys, or fewer or smaller parts at once)",
				delta.ErrTooLarge, most)
			return false
		}
		stays := c.Outside(set)
		if failed = g.add(g.derive(a, c, stays), note); failed == nil && len(stays) > 0 {
			g.r.oweLeft(a, stays)
			if failed = g.recount(a, note); failed == nil {
				failed = g.touchOrder(a, note)
			}
		}
		return failed == nil
	})
	return cmp.Or(failed, err)
}

// recount has the sums over the string that a share's cell at a belongs to written as of the
// clear that leaves it.
func (g *group) recount(a dotted.Address, note func(undo)) error {
	counter, _, ok := a.CutShare()
	if !ok {
		return nil
	}
	n, err := g.count(counter, note)
	if err != nil || n.dirty {
		return err
	}
	if note != nil {
		note(undo{count: n, counted: g.countBefore(n)})
	}
	n.dirty = true
	return nil
}

// discountAll takes everything off all sums: those in the store say nothing then. It returns what
// survives and is to be counted again, which takes a look at every cell if it is not known.
func (g *group) discountAll(set delta.ClearSet, survivors []dotted.Address, known bool,
	note func(undo)) (left []dotted.Address, err error) {
	if !known {
		err := g.scan("", "", func(a dotted.Address, c dotted.Cell) bool {
			if len(c.Outside(set)) > 0 {
				survivors = append(survivors, a)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	for _, s := range g.sums {
		s.before, s.now, s.dirty = totals{}, dotted.Summary{}, true
	}
	for _, a := range survivors { // are counted from nothing
		if key := a.Key(); g.sums[key] == nil {
			g.sums[key] = g.newSummary(key)
		}
	}
	g.forgetCounts("", note)
	g.forgetOrders("", note)
	return survivors, nil
}

// countLeft counts what a clear left of cells.
func (g *group) countLeft(survivors []dotted.Address, note func(undo)) error {
	for _, a := range survivors {
		at, _, isShare := a.CutShare()
		if !isShare {
			at = a
		}
		if g.known(at) == nil && at.IsString() {
			g.keepCount(countState{at: at}, note).looked = true
		}
	}
	for _, a := range survivors {
		c, err := g.load(a)
		if err != nil {
			return err
		}
		g.r.oweLeft(a, c.now)
		if err := g.add(g.derive(a, nil, c.now), note); err != nil {
			return err
		}
	}
	return nil
}

// clearsAll reports whether a delta that clears saw everything that is in the context, so that
// nothing in the range of its clears survives.
func (g *group) clearsAll(d *delta.Delta) bool {
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

// What a delta's clears did not see is searched for in at most maxConcurrent records of the log,
// and for as much work as maxUnseen steps do. Beyond that all cells that they cover are looked at
// instead.
const (
	maxConcurrent = 4096
	maxUnseen     = 4
)

// unseen is what was put that the clears of a replica had not seen. It is found once a group:
// what its later clears had seen of it is left out where it is looked up.
type unseen struct {
	known  bool // whether the log reaches back far enough
	deltas int  // how many of the group's are in it
	puts   btree.Map[dotted.Address, []crdt.Dot]
}

func (u *unseen) add(d *delta.Delta, set delta.ClearSet) {
	for i := range d.Ops {
		if dot, op := d.Dot(i), &d.Ops[i]; op.Kind == delta.OpPut && !set.Has(dot) {
			dots, _ := u.puts.Get(op.Address)
			u.puts.Set(op.Address, append(dots, dot))
		}
	}
}

// survivors returns the addresses under the prefix of a delta's clear at which entries were put
// that it did not see. known is false if the log cannot tell.
func (g *group) survivors(d *delta.Delta, i int, exact bool) (found []dotted.Address, known bool, err error) {
	if exact {
		return nil, true, nil
	}
	prefix, set := d.Ops[i].Address, g.cleared(d, i)
	if _, rest, _ := prefix.CutName(); len(rest) > 1 {
		return nil, false, nil // each cell under it is looked at: see discount
	}
	u, err := g.foundFor(d, set)
	if u == nil && err == nil {
		u, err = g.putUnseen(d, set)
	}
	if err != nil || !u.known {
		return nil, false, err
	}
	u.puts.Ascend(prefix, func(a dotted.Address, dots []crdt.Dot) bool {
		if !hasPrefix(a, prefix) {
			return false
		}
		if slices.ContainsFunc(dots, func(d crdt.Dot) bool { return !set.Has(d) }) {
			found = append(found, a)
		}
		return true
	})
	return found, true, nil
}

func (g *group) putUnseen(d *delta.Delta, set delta.ClearSet) (u *unseen, err error) {
	if u = g.unseen[d.Replica]; u == nil {
		u = &unseen{}
		if u.known, err = g.searchLog(u, set); err != nil {
			return nil, err
		}
		if g.unseen == nil {
			g.unseen = map[crdt.ReplicaID]*unseen{}
		}
		g.unseen[d.Replica] = u
	}
	u.addGroup(g, set)
	return u, nil
}

func (u *unseen) addGroup(g *group, set delta.ClearSet) {
	for ; u.known && u.deltas < len(g.deltas); u.deltas++ {
		u.add(g.deltas[u.deltas], set)
	}
}

// searchLog finds in the log what set lacks.
func (g *group) searchLog(u *unseen, set delta.ClearSet) (known bool, err error) {
	r := g.r
	stored := r.seen.Clone() // without what this group has applied so far
	for _, d := range g.deltas {
		stored[d.Replica] = min(stored[d.Replica], d.First-1)
	}
	theirs, _ := r.Expand(g.sawBy.Seen, nil, nil)
	theirs.Raise(set.Replica, set.Below-1)
	lsn, covered := r.log.Start(stored, theirs)
	if !covered || r.log.Last+1-lsn > maxConcurrent {
		return false, nil
	}
	began, known := r.work, true
	err = r.readLog(lsn, func(rec logged) bool {
		for _, d := range rec.deltas {
			u.add(d, set)
		}
		known = r.work-began < maxUnseen*r.cfg.StepWork
		return known
	})
	return known && lsn >= r.log.First, err
}
