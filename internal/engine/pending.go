package engine

import (
	"cmp"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
	"github.com/tidwall/btree"
)

// pendingClear is a clear that is committed, and so in force for every reader, while the cells that it
// removed are still in the store. See sweep.
type pendingClear struct {
	number  uint64 // of its record
	prefix  dotted.Address
	replica crdt.ReplicaID // see delta.ClearSet
	below   uint64
	seen    *seenSet
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

// covers reports whether p removes all that a clear of the same prefix removes: it saw that clear, and so
// what that had seen.
func (p *pendingClear) covers(other *pendingClear) bool {
	return p.set().Has(crdt.Dot{Replica: other.replica, Counter: other.below})
}

// same reports whether the two are one clear, which opening found and then carried out again.
func (p *pendingClear) same(other *pendingClear) bool {
	return p.replica == other.replica && p.below == other.below
}

// clears are the pending ones. What a View has does not change: who changes clears takes a copy.
type clears struct {
	// era is how often everything was cleared here. What is visible under a key counts only if it was
	// written in this era.
	era   uint64
	count int
	byAt  btree.Map[dotted.Address, []*pendingClear] // by prefix
}

// copy takes constant time.
func (c *clears) copy() *clears {
	return &clears{era: c.era, count: c.count, byAt: *c.byAt.Copy()}
}

// add adds a clear, and returns those that it makes superfluous.
func (c *clears) add(p *pendingClear) (dropped []*pendingClear) {
	old, _ := c.byAt.Get(p.prefix)
	list := make([]*pendingClear, 0, len(old)+1)
	for _, o := range old {
		if p.covers(o) || p.same(o) {
			dropped = append(dropped, o)
		} else {
			list = append(list, o)
		}
	}
	c.byAt.Set(p.prefix, append(list, p))
	c.count += 1 - len(dropped)
	return dropped
}

func (c *clears) remove(p *pendingClear) {
	old, _ := c.byAt.Get(p.prefix)
	list := make([]*pendingClear, 0, len(old))
	for _, o := range old {
		if o != p {
			list = append(list, o)
		}
	}
	c.count -= len(old) - len(list)
	if len(list) == 0 {
		c.byAt.Delete(p.prefix)
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

// over calls fn with the clears of each prefix of a. The greatest prefix that is not beyond a is one of a, or
// leads to where the next can be: O(log clears) for each name in a.
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

// lastEnd returns the last place up to n at which a prefix of a can end: after a name, after a type, and
// anywhere in what follows a type that holds no names.
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
		if !t.Holds().Names() {
			return n
		}
		rest = next
	}
}

// within calls fn with the clears whose prefixes begin with the given one, in their order from a place on,
// until fn returns false.
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

// first returns the first prefix that has clears.
func (c *clears) first() (prefix dotted.Address) {
	prefix, _, _ = c.byAt.Min()
	return prefix
}

// saw returns the set for clears of a delta: the last one of its replica, if that differs only in what the
// replica itself had written, which a clear names anyway.
func (g *Group) saw(d *delta.Delta) *seenSet {
	if g.sawSet == nil || g.sawFor != d {
		g.sawFor, g.sawSet = d, g.sawAs(d)
	}
	return g.sawSet
}

// cleared returns what a delta's i-th operation, a clear, removes. All that its vector lists is in the context, so what
// that stands for is known.
func (g *Group) cleared(d *delta.Delta, i int) delta.ClearSet {
	if g.sawBy != d {
		g.sawBy, g.sawAll = d, g.r.bases.Read(d.Seen)
	}
	return d.SeenBy(i, g.sawAll)
}

func (g *Group) sawAs(d *delta.Delta) *seenSet {
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

// sameSeen reports whether two short forms stand for contexts that differ only in what one replica itself had written,
// the second having more of it. What that says of bases counts.
func (r *Replica) sameSeen(a, b crdt.VersionVector, but crdt.ReplicaID) bool {
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
func (g *Group) pend(d *delta.Delta, i int) {
	if g.clears == g.r.clears {
		g.clears = g.clears.copy()
	}
	g.r.lastClear++
	p := &pendingClear{number: g.r.lastClear, prefix: d.Ops[i].Address, replica: d.Replica,
		below: d.Dot(i).Counter, seen: g.saw(d)}
	g.dropped = append(g.dropped, g.clears.add(p)...)
	g.added = append(g.added, p)
}

// putClears puts what the group did to the pending clears into memory.
func (g *Group) putClears() {
	r := g.r
	for _, p := range g.dropped {
		if p.number < g.firstClear {
			r.dropClear(p)
		}
	}
	dropped := make(map[uint64]bool, len(g.dropped))
	for _, p := range g.dropped {
		dropped[p.number] = true
	}
	for _, p := range g.added {
		if dropped[p.number] {
			continue
		}
		key := numbered(prefixClear, p.number)
		r.table.put(&item{key: string(key), value: encodeClear(key, p)})
		if r.uses[p.seen.number]++; r.uses[p.seen.number] == 1 {
			key := numbered(prefixSeen, p.seen.number)
			r.table.put(&item{key: string(key), value: encodeSeen(key, p.seen.vector)})
		}
		r.sawLast[p.replica] = p.seen
	}
}

// dropClear deletes the record of a clear, and with the last that saw it that of what it saw.
func (r *Replica) dropClear(p *pendingClear) {
	r.table.put(&item{key: string(numbered(prefixClear, p.number))})
	if r.uses[p.seen.number]--; r.uses[p.seen.number] > 0 {
		return
	}
	delete(r.uses, p.seen.number)
	r.table.put(&item{key: string(numbered(prefixSeen, p.seen.number))})
	if r.sawLast[p.replica] == p.seen {
		delete(r.sawLast, p.replica)
	}
}

func encodeClear(key []byte, p *pendingClear) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(4)
		w.String(string(p.prefix))
		w.Uint(uint64(p.replica))
		w.Uint(p.below)
		w.Uint(p.seen.number)
	}))
}

// decodeClear returns a clear, and the number of what it saw.
func decodeClear(key, record []byte) (p *pendingClear, seen uint64, err error) {
	p = &pendingClear{number: numberOf(key)}
	err = decodeRecord(key, record, func(rd *wire.Reader) {
		rd.Array(4)
		p.prefix = dotted.Address(rd.String(crdt.MaxAddress))
		p.replica, p.below, seen = crdt.ReplicaID(rd.Uint()), rd.Uint(), rd.Uint()
	})
	return p, seen, err
}

func encodeSeen(key []byte, v crdt.VersionVector) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) { dotted.WriteVector(w, v) }))
}

func decodeSeen(key, record []byte, bases *delta.Bases) (*seenSet, error) {
	s := &seenSet{number: numberOf(key)}
	err := decodeRecord(key, record, func(rd *wire.Reader) { s.vector = dotted.ReadVector(rd) })
	s.seen = bases.Read(s.vector)
	return s, err
}

func decodeRecord(key, record []byte, read func(*wire.Reader)) error {
	body, err := unseal(key, record)
	if err == nil {
		if err = wire.Decode(body, read); err != nil {
			err = damaged(key, err)
		}
	}
	return err
}

// resetClears makes it that nothing is to be swept, as in an empty store.
func (r *Replica) resetClears() {
	r.clears, r.sweep, r.lastClear = &clears{}, sweep{}, 0
	r.uses, r.sawLast = map[uint64]int{}, map[crdt.ReplicaID]*seenSet{}
}

// loadClears reads the clears that were not swept when the store was closed.
func (r *Replica) loadClears() error {
	r.resetClears()
	if _, err := r.load(keyEra, func(rd *wire.Reader) {
		rd.Array(1)
		r.clears.era = rd.Uint()
	}); err != nil {
		return err
	}
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
			r.table.put(&item{key: string(key)})
		}
		return true
	})
}

// loadClears calls add with the clears of a moment that are not swept, and used with the numbers that are taken.
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

// scanRecords calls fn with copies of all records of a kind, in the order of their keys, until it fails.
func scanRecords(snap store.Snapshot, kind byte, fn func(key, record []byte) error) error {
	var failed error
	err := snap.Scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) bool {
		failed = fn(append([]byte(nil), key...), append([]byte(nil), value...))
		return failed == nil
	})
	return cmp.Or(failed, err)
}
