package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Whatever is computed from cells has one source, derivation.derive: what a change of one cell,
// from one state to another, changes besides the cell. All of it is a function of a cell's
// address and state alone, and changes by the difference of two states; so it does not matter in
// which steps a cell came to be what it is, and recount, which begins with no cells at all, must
// find the same as commits, flips and sweeps have kept. There are three kinds:
//
//   - Index entries are records without a value: in which cells something is found. They say what is stored, and
//     change in the batch that writes the cell, or a later one while a replica is filled; memory has none, and computes
//     them from its cells for who asks. A cell that a clear hides has its own until it is swept, so who looks cells up by
//     an index hides them as other readers do.
//   - Fingerprints are what the tree in memory sums up. They too are of what is stored.
//   - Additions to named sums, each kept for a range of addresses, those that begin with a prefix. They say what readers
//     see. A clear takes what it hides off them in its commit, and sweeping it changes none. There are sums over keys
//     (how many visible cells there are of each shape) and over strings (what was counted on one, and in how many cells).
//     Ranks and positions in the order of a container's cells are of that kind: see orders.go.
//
// A string exists if it was written or counted on, in one cell or a thousand, and is one of its
// key's visible cells then. That is no sum of cells, but a function of the sums over the string:
// see group.addPresence. And sums over a key are not kept where its string's own cell says them:
// see isLone.
//
// To derive something new, add an index in newDerivation, or a sum to derived.sums and where it
// is kept to group.add and recount.add. Nothing else of the package has to know of it.

// derivation is what is computed from cells.
type derivation struct {
	indexes []cellIndex
}

// newDerivation returns what every replica has, with further indexes.
func newDerivation(more []cellIndex) derivation {
	return derivation{indexes: append([]cellIndex{leaves, expiries}, more...)}
}

// cellIndex is a kind of index entries.
type cellIndex struct {
	kind byte   // that the keys of its entries begin with, and nothing else in the store
	name string // for errors
	// keys calls fn with the keys of a cell's entries, which its address and dots say. An empty cell
	// has none. fn owns the key.
	keys func(a dotted.Address, c dotted.Cell, fn func(key []byte))
	// same reports whether two states of a cell have the same entries, if that is quick to tell.
	// Nil: it is not.
	same func(before, after dotted.Cell) bool
}

// leaves says which cells a leaf of the tree holds.
var leaves = cellIndex{
	kind: prefixLeaf, name: "index of the tree's leaves",
	keys: func(a dotted.Address, c dotted.Cell, fn func(key []byte)) {
		if len(c) > 0 {
			fn(leafKey(antientropy.LeafOf(a), a))
		}
	},
	same: func(before, after dotted.Cell) bool { return len(before) > 0 == (len(after) > 0) },
}

// kinds returns what the keys of all records begin with that can be computed from cells.
func (d *derivation) kinds() []byte {
	kinds := []byte{prefixSummary, prefixCount, prefixOrder, prefixNode}
	for _, x := range d.indexes {
		kinds = append(kinds, x.kind)
	}
	return kinds
}

// has reports whether records of a kind are index entries.
func (d *derivation) has(kind byte) bool {
	return slices.ContainsFunc(d.indexes, func(x cellIndex) bool { return kind == x.kind })
}

// derived is what a change of a cell changes. It is computed when it is asked for.
type derived struct {
	of            *derivation
	address       dotted.Address
	before, after dotted.Cell
}

func (d *derivation) derive(a dotted.Address, before, after dotted.Cell) derived {
	return derived{d, a, before, after}
}

// indexed reports whether index entries may come or go.
func (d derived) indexed() bool {
	return slices.ContainsFunc(d.of.indexes, func(x cellIndex) bool { return x.same == nil || !x.same(d.before, d.after) })
}

// index calls fn with the keys of index entries that go, and of those that come.
func (d derived) index(fn func(key []byte, live bool)) {
	for i := range d.of.indexes {
		if x := &d.of.indexes[i]; x.same == nil || !x.same(d.before, d.after) {
			d.entries(x, fn)
		}
	}
}

func (d derived) entries(x *cellIndex, fn func(key []byte, live bool)) {
	switch { // the most frequent cases, without a map
	case len(d.before) == 0:
		x.keys(d.address, d.after, func(key []byte) { fn(key, true) })
		return
	case len(d.after) == 0:
		x.keys(d.address, d.before, func(key []byte) { fn(key, false) })
		return
	}
	was := map[string]bool{}
	x.keys(d.address, d.before, func(key []byte) { was[string(key)] = true })
	x.keys(d.address, d.after, func(key []byte) {
		if !was[string(key)] {
			fn(key, true)
		}
		delete(was, string(key))
	})
	for _, key := range sortedKeys(was) {
		fn([]byte(key), false)
	}
}

// entryChange is an index entry that came or went since the tree was written.
type entryChange struct {
	key  string
	live bool
}

// changes returns how the moment's index entries differ from those of its tree, in the order of
// their keys. The first call looks at all that memory has, which takes a while: not in a step.
func (m *moment) changes() []entryChange {
	m.shot.Once(func() {
		live := map[string]bool{}
		m.shot.All(string(prefixCell), string(prefixCell+1), func(rec hot.Record) {
			it := rec.(*item)
			if it.before == nil {
				return
			}
			now := it
			if newest, _ := m.shot.Get(it.key).(*item); newest != nil {
				now = newest // what is sealed has one above it
			}
			m.derives.derive(it.address(), *it.before, now.cell).index(func(key []byte, comes bool) {
				live[string(key)] = comes
			})
		})
		for _, key := range sortedKeys(live) {
			m.entries = append(m.entries, entryChange{key, live[key]})
		}
	})
	return m.entries
}

// index calls fn with the keys of index entries in [start, end), in their order, until it returns
// false. A key is valid only during the call.
func (v *View) index(start, end []byte, fn func(key []byte) bool) error {
	own := v.changes()
	own = own[sort.Search(len(own), func(i int) bool { return own[i].key >= string(start) }):]
	own = own[:sort.Search(len(own), func(i int) bool { return own[i].key >= string(end) })]
	stopped := false
	emit := func() bool {
		e := own[0]
		own = own[1:]
		stopped = e.live && !fn([]byte(e.key))
		return !stopped
	}
	err := v.shot.Tree().ScanKeys(start, end, func(key []byte) bool {
		for len(own) > 0 && own[0].key < string(key) {
			if !emit() {
				return false
			}
		}
		if len(own) > 0 && own[0].key == string(key) {
			return emit()
		}
		stopped = !fn(key)
		return !stopped
	})
	for err == nil && !stopped && len(own) > 0 {
		emit()
	}
	return err
}

// moved is what a change of a stored cell adds to the sums over all cells: to a leaf of the tree,
// and to their number.
type moved struct {
	sum  antientropy.Fingerprint
	leaf uint16
	born int8
}

// after returns what the change adds together with one of the same cell before it.
func (m moved) after(before moved) moved {
	m.sum, m.born = m.sum.Add(before.sum), m.born+before.born
	return m
}

// share is what a stored cell adds to the tree, as far as that is known: so that what replaces
// all of it needs no look at what was there, and no hash of it.
type share struct {
	leaf    uint16
	located bool // leaf says where
	whole   bool // sum says what
	sum     antientropy.Fingerprint
}

// moved returns what changes in these sums, and what the cell then adds to the tree.
func (d derived) moved(was share) (m moved, now share) {
	if now = was; !now.located {
		now.leaf, now.located = uint16(antientropy.LeafIndex(antientropy.LeafOf(d.address))), true
	}
	stays := slices.ContainsFunc(d.before, func(e dotted.Entry) bool { return d.after.Has(e.Dot) })
	replaced := was.whole && !stays
	var came, gone antientropy.Fingerprint
	if replaced {
		gone = was.sum
	}
	difference(d.before, d.after, func(e dotted.Entry, live bool) {
		if live {
			came = came.Add(antientropy.Of(d.address, e))
		} else if !replaced {
			gone = gone.Add(antientropy.Of(d.address, e))
		}
	})
	if now.sum = came; stays {
		now.sum = was.sum.Sub(gone).Add(came)
	}
	now.whole = was.whole || !stays
	return moved{came.Sub(gone), now.leaf, int8(gain(len(d.before) > 0, len(d.after) > 0))}, now
}

// difference calls fn with the entries of before that are not in now, and of now that are not in
// before.
func difference(before, now dotted.Cell, fn func(e dotted.Entry, live bool)) {
	for _, e := range before {
		if !now.Has(e.Dot) {
			fn(e, false)
		}
	}
	for _, e := range now {
		if !before.Has(e.Dot) {
			fn(e, true)
		}
	}
}

// addition is to one of the sums over a range of addresses.
type addition struct {
	over dotted.Address // what all addresses in the range begin with
	sum  sum
	by   dotted.Int128
}

// sum names a sum, among those over its range.
type sum struct {
	kind  sumKind
	shape string // with sumVisible
}

type sumKind byte

const (
	// Over a key.
	sumVisible sumKind = iota // cells of a shape that readers see; strings count once
	sumTallies                // cells of which a clear has to leave a baseline
	// Over a string.
	sumWritten // 1 if its own cell is seen
	sumShares  // cells of shares that readers see: their number, and below it the sum of their owners' ids
	sumCounted // what they count
)

// additions is memory for those of one change.
type additions [4]addition

// sums appends the additions to sums.
func (d derived) sums(out []addition) []addition {
	visible := gain(d.before.Visible(), d.after.Visible())
	tallied, tallies := d.before.Tallies(), d.after.Tallies()
	if by := gain(tallied, tallies); by != 0 {
		out = append(out, addition{d.address.KeyAddress(), sum{kind: sumTallies}, count(by)})
	}
	if tallied || tallies {
		if counter, owner, ok := d.address.CutShare(); ok {
			return d.sumsOfShare(counter, owner, visible, out)
		}
	}
	switch {
	case d.address.IsExpiry():
		return d.sumsOfExpiry(out)
	case visible == 0:
	case d.address.IsString():
		out = append(out, addition{d.address, sum{kind: sumWritten}, count(visible)})
	default:
		out = append(out, addition{d.address.KeyAddress(), sum{sumVisible, d.address.Shape()}, count(visible)})
	}
	return out
}

// sumsOfExpiry appends what the cell of an expiry adds: a shape that says whether it ever ends.
func (d derived) sumsOfExpiry(out []addition) []addition {
	was, is := d.address.ExpiryShape(d.before), d.address.ExpiryShape(d.after)
	if was == is {
		return out
	}
	over := d.address.KeyAddress()
	if was != "" {
		out = append(out, addition{over, sum{sumVisible, was}, count(-1)})
	}
	if is != "" {
		out = append(out, addition{over, sum{sumVisible, is}, count(1)})
	}
	return out
}

// sumsOfShare appends what a share adds to the sums over its string.
func (d derived) sumsOfShare(counter dotted.Address, owner crdt.ReplicaID, visible int, out []addition) []addition {
	if visible != 0 {
		by := dotted.Int128{Hi: int64(visible), Lo: uint64(visible) * uint64(owner)}
		out = append(out, addition{counter, sum{kind: sumShares}, by})
	}
	by := dotted.Lent.Counted(owner, d.after).Minus(dotted.Lent.Counted(owner, d.before))
	if by != (dotted.Int128{}) {
		out = append(out, addition{counter, sum{kind: sumCounted}, by})
	}
	return out
}

func count(n int) dotted.Int128 { return dotted.Int128Of(int64(n)) }

// gain returns how a count changes when one member's condition goes from before to after.
func gain(before, after bool) int {
	switch {
	case before == after:
		return 0
	case after:
		return 1
	}
	return -1
}

// add takes additions into the group's sums. note is told how to take back each of them; nil:
// nobody asks.
func (g *group) add(d derived, note func(undo)) (err error) {
	var room additions
	for _, x := range d.sums(room[:0]) {
		switch x.sum.kind {
		case sumVisible, sumTallies:
			err = g.addToKey(x, note)
		case sumCounted:
			err = g.addToString(x, note)
		default:
			err = g.addPresence(x, note)
		}
		if err != nil {
			return err
		}
	}
	return g.reorder(d, note)
}

// addPresence takes an addition that may make a string begin or cease to exist into the group's
// sums: of the string, and of its key if it does.
func (g *group) addPresence(x addition, note func(undo)) error {
	s, err := g.summary(x.over.Key())
	if err != nil {
		return err
	}
	before, after := x.by.Hi < 0, x.by.Hi >= 0
	if g.known(x.over) != nil || x.sum.kind != sumWritten || s.now.Tallies > 0 {
		n, err := g.present(x, note)
		if err != nil {
			return err
		}
		before = n.exists()
		if err := g.addToString(x, note); err != nil {
			return err
		}
		after = n.exists()
	} // else nothing was counted under the key
	if by := gain(before, after); by != 0 {
		return g.addToKey(addition{x.over.KeyAddress(), sum{sumVisible, x.over.Shape()}, count(by)}, note)
	}
	return nil
}

// derive returns what a change of what readers see of a cell changes.
func (g *group) derive(a dotted.Address, before, after dotted.Cell) derived {
	return g.r.derives.derive(a, before, after)
}

// storing returns what changes when what is stored for a cell becomes what the group has.
func (g *group) storing(c *cellState) derived { return g.derive(c.address, c.stored, c.now) }

// plan notes what changes of stored cells mean for the tree, and returns its root after them.
func (g *group) plan(changed []*cellState) (root antientropy.Fingerprint) {
	root = g.r.tree.Root()
	for _, c := range changed {
		c.moved, c.share = g.storing(c).moved(c.stores())
		root = root.Add(c.moved.sum)
	}
	return root
}

// stores returns what is known of what the stored cell adds to the tree.
func (c *cellState) stores() (s share) {
	if c.was != nil {
		s = c.was.share()
	}
	s.whole = s.whole || len(c.stored) == 0
	return s
}

// account takes committed changes of stored cells into what the replica has in memory.
func (r *replica) account(changed []*cellState) {
	for _, c := range changed {
		r.tree.Add(int(c.moved.leaf), c.moved.sum)
		r.cells += int(c.moved.born)
	}
}

// recount computes all that is derived from the cells of a view anew.
type recount struct {
	view *View
	d    *derivation

	tree  *antientropy.Tree
	cells int
	totals
	live  antientropy.Fingerprint // of what no clear hides
	timed bool                    // there are expiries

	hashes  map[byte]uint64          // by kind, the sums of the hashes of the records that there should be
	derived func(key, record []byte) // is told these records instead; nil: they are hashed
	key     summaryState             // of the key whose cells are being added
	counter countState               // of the string
}

func newRecount(v *View, d *derivation) *recount {
	return &recount{view: v, d: d, tree: &antientropy.Tree{}, hashes: map[byte]uint64{}}
}

// scan adds all cells, until stop returns true.
func (n *recount) scan(stop func() bool) error {
	err := n.view.scanStored("", "", func(a dotted.Address, c dotted.Cell) bool {
		n.add(a, c)
		return !stop()
	})
	n.closeKey()
	return err
}

func (n *recount) add(a dotted.Address, stored dotted.Cell) {
	d := n.d.derive(a, nil, stored)
	was := share{whole: true}
	d.index(func(key []byte, _ bool) {
		if key[0] == prefixLeaf { // which has the hash that says where in the tree it is
			was.leaf, was.located = binary.BigEndian.Uint16(key[1:]), true
		}
		n.found(key, []byte{})
	})
	n.timed = n.timed || a.IsExpiry()
	m, whole := d.moved(was)
	n.tree.Add(int(m.leaf), m.sum)
	n.cells += int(m.born)
	seen := d
	if n.view != nil && n.view.clears.count > 0 {
		seen = n.d.derive(a, nil, n.view.clears.hide(a, stored))
		m, _ = seen.moved(share{leaf: whole.leaf, located: true, whole: true})
	}
	n.live = n.live.Add(m.sum)
	n.standing(a, seen.after)
	var room additions
	for _, x := range seen.sums(room[:0]) {
		if key := x.over.Key(); n.key.key == "" || key != n.key.name {
			n.closeKey()
			n.key = summaryState{name: key, key: string(place(prefixSummary, x.over.KeyAddress()))}
		}
		switch {
		case x.sum.kind == sumVisible || x.sum.kind == sumTallies:
			n.key.add(x)
			continue
		case x.over != n.counter.at:
			n.closeString()
			n.counter = countState{at: x.over, looked: true}
		}
		n.counter.add(x)
	}
}

// found takes in a record that there should be.
func (n *recount) found(key, record []byte) {
	if n.derived != nil {
		n.derived(key, record)
		return
	}
	n.hashes[key[0]] += recordHash(key, record)
}

// closeString takes in the sums of a string, all of whose cells were added.
func (n *recount) closeString() {
	if s := &n.counter; s.exists() {
		n.key.add(addition{s.at.KeyAddress(), sum{sumVisible, s.at.Shape()}, count(1)})
		n.key.now.Sole |= s.isSole()
		if record := s.encode(0); record != nil {
			n.found([]byte(s.place()), record)
		}
	}
	n.counter = countState{}
}

// closeKey takes in those of a key.
func (n *recount) closeKey() {
	n.closeString()
	s := &n.key
	key := []byte(s.key)
	if record := encodeSummary(key, s.name, s.now, 0); record != nil {
		n.found(key, record)
	}
	n.totals.add(totalsOf(s.now), 1)
	n.key = summaryState{}
}

// check compares what the store has with what the cells give. The error wraps store.ErrCorrupt if
// they differ. It ends early, without an answer, once stop returns true.
func (n *recount) check(stop func() bool) error {
	for _, x := range n.d.indexes {
		if stop() {
			return nil
		}
		if err := n.compare(x.kind, x.name, stop); err != nil {
			return err
		}
	}
	if stop() {
		return nil
	}
	if err := n.compare(prefixSummary, "keys' summaries", stop); err != nil || stop() {
		return err
	}
	return cmp.Or(n.compare(prefixCount, "sums of counters", stop), n.compareOrders(stop))
}

// compare compares the sum of the hashes of all records of a kind that say something with what it
// should be. As of which clear sums were written is not compared.
func (n *recount) compare(kind byte, name string, stop func() bool) error {
	var got uint64
	var failed error
	stopped := false
	start, end := []byte{kind}, []byte{kind + 1}
	sums := func(key []byte, _ *item, record []byte) bool {
		if stopped = stop(); stopped {
			return false
		}
		a, asOf, plain, err := readSum(bytes.Clone(key), record)
		if failed = err; err == nil && !n.view.clears.void(a, asOf) {
			got += recordHash(key, plain)
		}
		return failed == nil
	}
	var err error
	if kind == prefixSummary || kind == prefixCount {
		err = n.view.records(start, end, sums)
	} else {
		err = n.view.index(start, end, func(key []byte) bool {
			got += recordHash(key, nil)
			stopped = stop()
			return !stopped
		})
	}
	switch {
	case failed != nil:
		return failed
	case err == nil && !stopped && got != n.hashes[kind]:
		return fmt.Errorf("the cells do not fit the %s: %w", name, store.ErrCorrupt)
	}
	return err
}

// addToKey adds to one of the sums over a key. See add for note.
func (g *group) addToKey(x addition, note func(undo)) error {
	s, err := g.summary(x.over.Key())
	if err != nil {
		return err
	}
	if note != nil {
		less := addition{x.over, x.sum, count(-int(x.by.Lo))}
		note(undo{sum: s, less: &less, dirty: s.dirty})
	}
	g.tallied = g.tallied || x.sum.kind == sumTallies
	s.add(x)
	return nil
}

// add adds to one of the sums.
func (s *summaryState) add(x addition) {
	s.dirty = true
	by := int(x.by.Lo) // it is small
	if x.sum.kind == sumTallies {
		s.now.Tallies += by
		return
	}
	s.own()
	s.now.Visible.Add(x.sum.shape, by)
}

// own makes the summary's shapes the group's, which may change them.
func (s *summaryState) own() {
	if !s.owned {
		s.now.Visible, s.owned = slices.Clone(s.now.Visible), true
	}
}

// forget drops the counts of all shapes that begin with a type; of the whole key, if it is empty.
func (s *summaryState) forget(typ string) {
	s.dirty = true
	if typ == "" {
		s.now = dotted.Summary{}
		return
	}
	if typ == loneShape {
		s.now.Sole = 0
	}
	s.own()
	s.now.Visible = slices.DeleteFunc(s.now.Visible, func(c dotted.ShapeCount) bool {
		return strings.HasPrefix(c.Shape, typ)
	})
}

// emptied reports whether the group clears everything.
func (g *group) emptied() bool { return g.clears.emptied > g.r.clears.emptied }

// tallying calls fn with each key that has tallies.
func (g *group) tallying(fn func(key string) bool) error {
	if g.totals().tallies == 0 {
		return nil
	}
	more := true
	for _, name := range sortedKeys(g.sums) {
		if more && g.sums[name].now.Tallies > 0 {
			more = fn(name)
		}
	}
	if !more || g.emptied() {
		return nil
	}
	return g.view.Tallied(func(key string) bool { return g.sums[key] != nil || fn(key) })
}

// countState is the sums over a string that the group has looked at. Those of a string that was
// not counted on have no record.
type countState struct {
	at      dotted.Address // the string's
	key     string         // of its record, once that is asked for: see place
	now     counts
	sole    crdt.ReplicaID // as the summary of the key has it
	stored  bool           // there is a record
	dirty   bool
	written bool // the string's own cell is seen
	looked  bool // whether it is, is known
	near    *near
}

// counts is what a record says of what was counted on a string.
type counts struct {
	dotted.Count
	owners uint64 // the sum of the ids of those whose shares are counted
}

func (n *countState) exists() bool { return n.written || n.now.Shares > 0 }

// add adds to one of the sums.
func (n *countState) add(x addition) {
	switch x.sum.kind {
	case sumWritten:
		n.written = x.by.Hi >= 0
		n.dirty = n.dirty || n.now != (counts{})
	case sumShares:
		n.now.Shares, n.now.owners, n.dirty = n.now.Shares+int(x.by.Hi), n.now.owners+x.by.Lo, true
	case sumCounted:
		n.now.Sum, n.dirty = n.now.Sum.Plus(x.by), true
	}
}

// took takes in what a record says. Without one it is not known whether the string is written.
func (n *countState) took(c counts) {
	n.looked = c != (counts{})
	n.written = n.looked && !c.Unwritten
	c.Unwritten = false
	n.now = c
}

// told returns what the record says.
func (n *countState) told() counts {
	c := n.now
	c.Unwritten = c.Shares > 0 && !n.written
	return c
}

// noneCounted reports whether nothing was counted on any string of a's key: no cell of it tallies. What is known of all
// keys, or of the one that was looked at last, tells most.
func (g *group) noneCounted(a dotted.Address) (bool, error) {
	if g.r.tallies == 0 && !g.tallied {
		return true, nil
	}
	s, err := g.summary(a.Key())
	return err == nil && s.now.Tallies == 0, err
}

// count returns the group's state of the sums over a string. See add for note.
func (g *group) count(a dotted.Address, note func(undo)) (*countState, error) {
	g.r.spend(workCell)
	if n := g.known(a); n != nil {
		return n, nil
	}
	if g.bare(a) {
		return g.keepCount(countState{at: a}, note), nil
	}
	switch sole, err := g.soleOf(a); {
	case err != nil:
		return nil, err
	case sole != 0:
		return g.countSole(a, sole, note)
	}
	near := g.nearBy(a)
	at, stored, err := g.countAt(a, near)
	if err != nil {
		return nil, err
	}
	n := countState{at: a, key: at, near: near, stored: stored.count != counts{}}
	if !g.clears.void(a, stored.asOf) {
		n.took(stored.count)
	}
	return g.keepCount(n, note), nil
}

// keepCount takes sums over a string that the group did not know into it.
func (g *group) keepCount(c countState, note func(undo)) *countState {
	n := g.memory.counts.next()
	*n = c
	g.noteKey(n)
	if g.counted[n.at], g.counting = n, n; note != nil {
		note(undo{uncount: n.at})
	}
	return n
}

// known returns the sums over a string, if the group has looked at them.
func (g *group) known(a dotted.Address) *countState {
	if n := g.counting; n != nil && n.at == a {
		return n
	}
	n := g.counted[a]
	if n != nil {
		g.counting = n
	}
	return n
}

// present returns the state of a string, before an addition that may change whether it exists.
func (g *group) present(x addition, note func(undo)) (*countState, error) {
	n, err := g.count(x.over, note)
	if err != nil || n.looked {
		return n, err
	}
	written := x.by.Hi < 0
	if x.sum.kind != sumWritten {
		c, err := g.load(x.over)
		if err != nil {
			return nil, err
		}
		written = c.now.Visible()
	}
	if note != nil {
		note(undo{count: n, counted: g.countBefore(n)})
	}
	n.written, n.looked = written, true
	return n, nil
}

// addToString adds to one of the sums over a string. See add for note.
func (g *group) addToString(x addition, note func(undo)) error {
	n, err := g.present(x, note)
	if err != nil {
		return err
	}
	if note != nil {
		note(undo{count: n, counted: g.countBefore(n)})
	}
	n.add(x)
	return nil
}

// encode returns the record of what was counted on a string, as of a clear; nil if that is nothing, or a sole share.
func (n *countState) encode(asOf uint64) []byte {
	if n.now == (counts{}) || n.isSole() != 0 {
		return nil
	}
	key := []byte(n.place())
	return seal(key, func(w *wire.Writer) {
		w.Array(6 + min(int(asOf), 1))
		if isShortened(key, n.at) {
			w.String(string(n.at))
		} else {
			w.Bytes(nil)
		}
		w.Uint(uint64(n.now.Shares))
		w.Uint(n.now.owners)
		w.Int(n.now.Sum.Hi)
		w.Uint(n.now.Sum.Lo)
		w.Bool(n.told().Unwritten)
		if asOf > 0 {
			w.Uint(asOf)
		}
	})
}

func decodeCount(key, record []byte) (a dotted.Address, n counts, asOf uint64, err error) {
	a = dotted.Address(key[1:])
	err = decodeRecord(key, record, func(r *wire.Reader) {
		fields := r.Array(7)
		if at := r.String(crdt.MaxAddress); at != "" {
			a = dotted.Address(at)
		}
		n.Shares, n.owners = int(r.Uint()), r.Uint()
		n.Sum = dotted.Int128{Hi: r.Int(), Lo: r.Uint()}
		n.Unwritten = r.Bool()
		if fields > 6 {
			asOf = r.Uint()
		}
	})
	return a, n, asOf, err
}

// readSum reads the record of the sums over a key or a string: what a clear must be of for them
// to say nothing, as of which clear they were written, and the record as it would be without
// that.
func readSum(key, record []byte) (a dotted.Address, asOf uint64, plain []byte, err error) {
	if plain = record; key[0] == prefixCount {
		n := countState{key: string(key)}
		var c counts
		n.at, c, asOf, err = decodeCount(key, record)
		if n.took(c); asOf > 0 {
			plain = n.encode(0)
		}
		return n.at, asOf, plain, err
	}
	name, s, asOf, err := decodeSummary(key, record)
	if asOf > 0 {
		plain = encodeSummary(key, name, s, 0)
	}
	return "", asOf, plain, err
}

// countIn returns what a record says with other clears in force.
func countIn(a dotted.Address, key, record []byte, clears *clears) (counts, error) {
	_, n, asOf, err := decodeCount(key, record)
	if clears.void(a, asOf) {
		n = counts{}
	}
	return n, err
}
