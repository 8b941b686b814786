package engine

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
	"github.com/peerd/peerd/internal/engine/order"
)

// The tree lags behind the log: what commits change stays in memory, decoded, until a checkpoint
// has written it to the tree. The present state is a snapshot of the tree with memory laid over
// it.

// item is one record as memory has it. It does not change: a later one takes its place.
//
// There is one for each cell that is touched, and in a processor's cache there is room for few: so
// it has nothing that can be computed, or that only few need.
type item struct {
	hot.Version
	key    string
	*body                  // of another record than a cell's, or of a cell whose place does not say its address; else nil
	cell   dotted.Cell     // one without entries is to be deleted
	single [1]dotted.Entry // where that stands, if it has one
	owed   *owed           // what is to be written with it; nil if that is nothing
	before *dotted.Cell    // of a cell: the state whose index entries the tree has, its dots alone; nil: those are its own

	// See moved and share.
	change, sum    antientropy.Fingerprint
	leaf           uint16
	born           int8
	located, whole bool

	lone   bool // of a string's own cell: its key is known to be lone. Only the owner looks
	unborn bool // the tree has nothing of it, nor gets that before this version. Only the owner looks
}

// body is what few items have.
type body struct {
	value []byte         // of another record than a cell's; nil if it is to be deleted
	node  *order.Node    // of an order, instead of the value
	sums  *sums          // in the value, as far as that was decoded
	named dotted.Address // of a cell
}

// cellItem returns the item of a cell.
func cellItem(key string, a dotted.Address, c dotted.Cell) *item {
	it := &item{key: key, cell: c}
	if key[1:] != string(a) {
		it.body = &body{named: a}
	}
	return it
}

// recordItem returns the item of another record.
func recordItem(key string, of body) *item {
	it := &struct { // allocated together
		item
		of body
	}{item{key: key}, of}
	it.body = &it.of
	return &it.item
}

// address returns that of a cell; empty for another record.
func (it *item) address() dotted.Address {
	switch {
	case it.body != nil:
		return it.named
	case it.key == "" || it.key[0] != prefixCell:
		return ""
	}
	return dotted.Address(it.key[1:])
}

// moved returns what changes in the sums over all cells when the tree gets the cell.
func (it *item) moved() moved { return moved{it.change, it.leaf, it.born} }

// share returns what the cell adds to the tree.
func (it *item) share() share { return share{it.leaf, it.located, it.whole, it.sum} }

// adds sets both, whose leaf is the same.
func (it *item) adds(m moved, s share) {
	it.change, it.born = m.sum, m.born
	it.leaf, it.located, it.whole, it.sum = s.leaf, s.located, s.whole, s.sum
}

// sums are what a record of sums holds, over a key or a string.
type sums struct {
	summary dotted.Summary
	count   counts
	order   *orderRoot
	asOf    uint64 // of which clear: see clears
	none    bool   // there is no record
	near    near   // of sums over a key. Only the owner looks
	after   *item  // in whose place they come, until they have, if it was found
}

// owed is what changes in the tree with a cell.
type owed struct {
	fresh []crdt.Dot // large entries that the tree may not have yet
	dead  []deadBlob // large entries that left the cell, and that the tree may still have
	split bool       // the cell has more than one record, or the tree may have more
}

// deadBlob is a large payload that is to be removed.
type deadBlob struct {
	dot    crdt.Dot
	pieces int
}

// About how many bytes an item takes beside its key and payloads, and sums that are decoded.
const (
	itemOverhead = 192
	bodyBytes    = 64
	sumsBytes    = 100
)

// Key returns where the tree has the record.
func (it *item) Key() string { return it.key }

// Size returns about how many bytes of memory the item takes.
func (it *item) Size() int {
	bytes := itemOverhead + len(it.key) + weightOf(it.cell) + 24*(len(it.owes().fresh)+len(it.owes().dead))
	if it.before != nil {
		bytes += entryBytes * len(*it.before)
	}
	if it.body == nil {
		return bytes
	}
	bytes += bodyBytes + len(it.value) + len(it.named)
	if it.named == "" { // whether they are decoded changes
		bytes += sumsBytes
	}
	if it.node != nil {
		bytes += it.node.Bytes()
	}
	return bytes
}

// Due returns when what an expiry is of ends.
func (it *item) Due() int64 {
	if !it.address().IsExpiry() {
		return dotted.Never
	}
	return indexed(it.cell)
}

// owes returns what is to be written with the item. It must not be changed, and is not once the
// item is put: the next one may share it.
func (it *item) owes() *owed { return cmp.Or(it.owed, &nothing) }

var nothing owed

// owe returns it to be added to.
func (it *item) owe() *owed {
	if it.owed == nil {
		it.owed = &owed{}
	}
	return it.owed
}

// Vacant implements hot.Record: the tree is to have no record.
func (it *item) Vacant() bool {
	if it.address() != "" {
		return len(it.cell) == 0
	}
	return it.value == nil && it.node == nil
}

// record returns what the tree has, or is to have, of an item that is not a cell's; nil of a
// cell's.
func (it *item) record() []byte {
	switch {
	case it.body == nil:
		return nil
	case it.node != nil:
		return encodeNode([]byte(it.key), it.node)
	}
	return it.value
}

// item returns the item of a cell that changed from what is stored.
func (g *group) item(c *cellState) *item {
	it := cellItem(c.key, c.address, c.now)
	it.adds(c.moved, c.share)
	it.unborn = g.unborn(len(c.stored) == 0)
	if len(c.now) == 1 {
		it.single[0] = c.now[0]
		it.cell = it.single[:]
	}
	if c.was != nil {
		it.lone = c.was.lone
	}
	if isSplit(c.stored) || isSplit(c.now) {
		it.owe().split = true
	}
	if g.storing(c).indexed() {
		if it.before = &noCell; len(c.stored) > 0 {
			before := withoutPayloads(c)
			it.before = &before
		}
	}
	difference(c.stored, c.now, func(e dotted.Entry, live bool) {
		switch {
		case len(e.Payload) <= maxInline:
		case live:
			it.owe().fresh = append(it.owe().fresh, e.Dot)
		default:
			it.owe().dead = append(it.owe().dead, deadBlob{e.Dot, piecesOf(len(e.Payload))})
		}
	})
	return it
}

// unborn reports whether the tree has nothing either, or will have nothing once what is sealed is
// written, where the group found that nothing is stored, not even what clears hide. So it is
// where memory has nothing newer (see Supersede), whether that was looked up in the tree or
// follows from a listing or from the sums over the key (see bare): all of them tell what is
// stored. But for two times: a filling writes to the tree behind memory's back, until that goes
// or memory begins anew; and where opening finds no cell, an interrupted checkpoint may have left
// its payloads.
func (g *group) unborn(none bool) bool { return none && !g.r.fills() && !g.r.opening.under }

// put takes a cell that changed into memory.
func (g *group) put(c *cellState) {
	it := g.item(c)
	g.r.table.put(it, c.was)
	c.was, c.read = it, false
	c.near.shared(it, c.owner)
	if c.address.IsExpiry() {
		g.noteExpiry(c)
	}
}

// keep keeps what was read from the tree, and is so still.
func (g *group) keep() {
	for _, c := range g.loaded {
		if c.read && !c.gone {
			c.was = cellItem(c.key, c.address, c.stored)
			g.r.table.Keep(c.was)
		}
	}
}

// noCell is what was stored before a cell is born. It must not be changed.
var noCell dotted.Cell

// withoutPayloads returns what is stored of a cell without its payloads, but for those that an
// index asks for.
func withoutPayloads(state *cellState) dotted.Cell {
	c := state.stored
	if len(c) == 0 || state.address.IsExpiry() {
		return slices.Clone(c) // not a part of its item, or that would hold those before it
	}
	out := make(dotted.Cell, len(c))
	for i, e := range c {
		out[i].Dot = e.Dot
	}
	return out
}

// Supersede takes over what the item that was in its place had still to write.
func (it *item) Supersede(r hot.Record) {
	before := r.(*item)
	if !before.Sealed() {
		it.unborn = before.unborn
	}
	if before.address() != "" && !before.Sealed() { // else the tree gets that before this one
		m := it.moved().after(before.moved())
		it.change, it.born = m.sum, m.born
		if before.before != nil {
			it.before = before.before
		}
	}
	old := before.owed
	switch {
	case old == nil:
		return
	case it.owed == nil && len(old.fresh) == 0:
		it.owed = old
		return
	}
	own := it.owe()
	for _, d := range old.fresh {
		if it.cell.Has(d) {
			own.fresh = append(own.fresh, d)
		}
	}
	for _, d := range old.dead {
		if !it.cell.Has(d.dot) { // what a clear hid of an interrupted checkpoint's comes again: see hold
			own.dead = append(own.dead, d)
		}
	}
	own.split = own.split || old.split
}

// table is what memory has beside the tree.
type table struct {
	*hot.Table
	lists *listings
}

func newTable(tree Tree, limit int64) table {
	listed := limit / listedShare
	return table{hot.NewTable(tree.Snapshot(), limit-listed, unpackItem), newListings(listed)}
}

// setLimit bounds the bytes that are kept of what was read.
func (t table) setLimit(limit int64) {
	listed := limit / listedShare
	t.SetLimit(limit - listed)
	t.lists.setLimit(int(listed))
}

// put takes an item in, in place of the last one, which is looked for if it is not the one that
// was found there.
func (t table) put(it, found *item) {
	var last hot.Record // not one that is a nil *item
	if found != nil {
		last = found
	}
	cell := it.address() != ""
	if cell {
		t.lists.changed(it)
	}
	t.Put(it, last, cell || it.sums != nil || it.node != nil)
}

// find returns what memory has at a key; nil if that is nothing.
func (t table) find(key []byte) *item {
	it, _ := t.Find(key).(*item)
	return it
}

// moment is everything that a view sees. It does not change.
type moment struct {
	number uint64 // greater than that of each before it
	shot   *hot.Snapshot
	clears *clears
	totals
	timed   bool
	log     extent
	turns   uint64
	derives *derivation

	entries []entryChange // see changes
}

// moment returns the present one.
func (r *replica) moment() *moment {
	r.moments++
	return &moment{
		number: r.moments,
		shot:   r.table.Snapshot(), clears: r.clears, totals: r.totals, timed: r.expiring.timed,
		log: extent{r.log.Extent(), r.logs}, turns: r.turns, derives: &r.derives,
	}
}

// publish lets views see the present moment: not while a repair is taken over.
func (r *replica) publish() {
	r.unpublished = false
	if r.flip != nil || r.quiet || r.opening.under {
		return
	}
	if old := r.published.Swap(r.moment()); old != nil {
		old.shot.Release()
	}
}

// publishWritten does so once all that waits is written.
func (r *replica) publishWritten() {
	r.unpublished = true
}

// View returns a view of what is committed. It must be closed. It may be called by any goroutine,
// and costs nothing that grows with what is stored.
func (r *replica) View() *View { return r.viewIn(new(View)) }

// viewIn makes one in memory that is there.
func (r *replica) viewIn(v *View) *View {
	for {
		m := r.published.Load()
		*v = View{moment: m, guards: r.guards}
		if m.shot.Acquire() {
			return v
		}
		if r.published.Load() == m { // the replica is closed
			v.closed = true
			return v
		}
	}
}

// Turns returns how many repairs had been taken over since the replica was opened, which the
// log's deltas do not tell.
func (v *View) Turns() uint64 { return v.turns }

// Turns returns how many there are now.
func (r *replica) Turns() uint64 { return r.turns }

// present returns a view of all that happened, also of what is not visible to others yet.
func (r *replica) present() *View { return r.presentIn(new(View)) }

func (r *replica) presentIn(v *View) *View {
	if r.shown() {
		return r.viewIn(v)
	}
	*v = View{moment: r.moment()}
	return v
}

// shown reports whether that is what views show.
func (r *replica) shown() bool {
	return r.flip == nil && !r.quiet && !r.opening.under && !r.unpublished
}

// Close releases what the replica holds of its store. No view is opened afterwards.
func (r *replica) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.table.Close()
	if m := r.published.Load(); m != nil {
		m.shot.Release()
	}
}

func isSplit(c dotted.Cell) bool {
	return weightOf(c) > maxPart && len(splitCell(c)) > 1
}

// View reads the state of one moment. It implements dotted.Tx for transactions that only read.
// Its methods may be called by many goroutines at once.
type View struct {
	*moment
	guards *Guards
	wall   time.Time
	clock  Clock
	closed bool

	gathers  bool // see Gathering
	gathered []*listing
}

func hasPrefix(a, prefix dotted.Address) bool {
	return len(a) >= len(prefix) && a[:len(prefix)] == prefix
}

// Close ends the view. A second Close does nothing.
func (v *View) Close() {
	if !v.closed {
		v.closed = true
		v.shot.Release()
	}
}

// Cell returns the live entries of one cell.
func (v *View) Cell(a dotted.Address) (dotted.Cell, error) {
	stored, err := v.stored(a, place(prefixCell, a))
	return v.clears.hide(a, stored), err
}

// Element returns the live entries of the cell of a name.
func (v *View) Element(container dotted.Address, name string) (dotted.Cell, error) {
	return v.Cell(container.Name(name))
}

// item returns what memory has at a key; nil if that is nothing.
func (v *View) item(key []byte) *item {
	it, _ := v.shot.Get(string(key)).(*item)
	return it
}

// stored returns a cell with what pending clears hide.
func (v *View) stored(a dotted.Address, key []byte) (dotted.Cell, error) {
	if it := v.item(key); it != nil {
		return it.cell, nil
	}
	return v.inTree(key)
}

// inTree returns a cell that memory has not.
func (v *View) inTree(key []byte) (dotted.Cell, error) {
	record, ok, err := v.shot.Tree().Get(key)
	if err != nil || !ok {
		return nil, err
	}
	_, c, err := decodeCell(v.shot.Tree(), key, record)
	return c, err
}

// bare reports whether nothing is stored under an address's key, if the group knows that from the
// key's summary: it counts all cells but those that a clear hides, where what is stored is the
// present state.
func (g *group) bare(a dotted.Address) bool {
	if g.clears.count > 0 || g.r.opening.under || g.r.unsettled() {
		return false
	}
	s := g.sums[a.Key()]
	return s != nil && s.bare
}

// record returns the record at a key that is not a cell's.
func (v *View) record(key []byte) (record []byte, ok bool, err error) {
	if it := v.item(key); it != nil {
		return it.value, it.value != nil, nil
	}
	return v.shot.Tree().Get(key)
}

// records calls fn with what is at the keys in [start, end), in their order, until it returns
// false: an item of memory, or else what the tree has. key and value are valid only during the
// call. Of index entries see index.
func (v *View) records(start, end []byte, fn func(key []byte, it *item, value []byte) bool) error {
	return v.overlaid(start, end, v.shot.Tree().Scan, fn)
}

// cellKeys is records without the values.
func (v *View) cellKeys(start, end []byte, fn func(key []byte, it *item) bool) error {
	keys := func(start, end []byte, fn func(key, value []byte) bool) error {
		return v.shot.Tree().ScanKeys(start, end, func(key []byte) bool { return fn(key, nil) })
	}
	return v.overlaid(start, end, keys, func(key []byte, it *item, _ []byte) bool {
		return fn(key, it)
	})
}

// overlaid lays what memory has over what scan finds in the tree.
func (v *View) overlaid(start, end []byte,
	scan func(start, end []byte, fn func(key, value []byte) bool) error,
	fn func(key []byte, it *item, value []byte) bool) error {
	own := v.shot.Seek(string(start))
	stopped := false
	var key []byte // of an item
	emit := func() bool {
		it := own.Record.(*item)
		own.Next()
		if it.Vacant() {
			return true
		}
		key = append(key[:0], it.key...)
		var value []byte
		if it.body != nil { // a node is no record that anybody looks for so
			value = it.value
		}
		stopped = !fn(key, it, value)
		return !stopped
	}
	err := scan(start, end, func(key, value []byte) bool {
		for own.Record != nil {
			order := bytes.Compare([]byte(own.Record.Key()), key)
			if order == 0 {
				return emit()
			} else if order > 0 {
				break
			} else if !emit() {
				return false
			}
		}
		stopped = !fn(key, nil, value)
		return !stopped
	})
	for err == nil && !stopped && own.Record != nil && (end == nil || own.Record.Key() < string(end)) {
		emit()
	}
	return err
}

// Scan calls fn with the cells under prefix beyond after. Names of more than 256 bytes sort by
// their first 128, and then in an order of the store's own.
func (v *View) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored(prefix, after, func(a dotted.Address, c dotted.Cell) bool {
		if c = v.clears.hide(a, c); len(c) == 0 {
			return true
		}
		return fn(a, c)
	})
}

// ScanStored calls fn with all cells, also what pending clears hide of them, until it returns
// false.
func (v *View) ScanStored(fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored("", "", fn)
}

func (v *View) scanStored(prefix, beyond dotted.Address,
	fn func(dotted.Address, dotted.Cell) bool) error {
	if l := v.gatheredOver(prefix); l != nil {
		l.scan(prefix, beyond, fn)
		return nil
	}
	start := place(prefixCell, prefix)
	end := after(start)
	if beyond != "" {
		if from := append(place(prefixCell, beyond), 0); string(from) > string(start) {
			start = from
		}
	}
	var failed error
	err := v.records(start, end, func(key []byte, it *item, value []byte) bool {
		var a dotted.Address
		var c dotted.Cell
		a, c, failed = v.cellOf(key, it, value)
		return failed == nil && fn(a, c)
	})
	return cmp.Or(failed, err)
}

// cellOf returns a cell that records has found.
func (v *View) cellOf(key []byte, it *item, value []byte) (dotted.Address, dotted.Cell, error) {
	if it != nil {
		return it.address(), it.cell, nil
	}
	// The key and value are the store's: the cell needs copies, since it points into them.
	both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	return decodeCell(v.shot.Tree(), both[:len(key):len(key)], both[len(key):])
}

// Summary tells what is visible under a key. O(log keys).
func (v *View) Summary(key string) (dotted.Summary, error) {
	at := place(prefixSummary, dotted.KeyAddress(key))
	record, ok, err := v.record(at)
	if ok && err == nil {
		var s dotted.Summary
		if s, err = v.summaryIn(at, record); err == nil && says(s) {
			return s, nil
		}
	}
	if err != nil {
		return dotted.Summary{}, err
	}
	c, err := v.heads(ownString(key))
	return sumOfString(c), err
}

// heads returns a cell with the first pieces of large payloads in their places.
func (v *View) heads(a dotted.Address) (c dotted.Cell, err error) {
	key := place(prefixCell, a)
	if it := v.item(key); it != nil {
		return v.clears.hide(a, it.cell), nil
	}
	record, ok, err := v.shot.Tree().Get(key)
	if err == nil && ok {
		_, c, err = readCell(v.shot.Tree(), key, record, readFirst)
	}
	return v.clears.hide(a, c), err
}

// summaryIn returns the summary that a record says; nothing if that was cleared.
func (v *View) summaryIn(at, record []byte) (dotted.Summary, error) {
	_, s, asOf, err := decodeSummary(at, record)
	if asOf < v.clears.emptied {
		s = dotted.Summary{}
	}
	return s, err
}

// Keys calls fn with the keys that exist, begin with prefix and come after the given one, in the
// order of their places, until fn returns false.
func (v *View) Keys(prefix, beyond string, fn func(string, dotted.Summary) bool) error {
	return v.keysStored(prefix, beyond, func(_ []byte, name string, s dotted.Summary) bool {
		return fn(name, s)
	})
}

// keysStored is Keys that also tells where the store has each summary, or would have it.
func (v *View) keysStored(prefix, beyond string,
	fn func(at []byte, name string, s dotted.Summary) bool) error {
	start := nameStart(prefix)
	end := after(start)
	if beyond != "" {
		// One before all that begins with the prefix bounds nothing.
		if from := after(place(prefixSummary, dotted.KeyAddress(beyond))); string(from) > string(start) {
			start = from
		}
	}
	return v.list(start, end, func(at []byte, name string, s dotted.Summary) bool {
		if !s.Exists() || len(name) < len(prefix) || name[:len(prefix)] != prefix {
			return true
		}
		return fn(at, name, s)
	})
}

// Tallied calls fn with the keys that hold counters, or what is left of such. O(keys), unless
// there is none.
func (v *View) Tallied(fn func(key string) bool) error {
	if v.tallies == 0 {
		return nil
	}
	kind := []byte{prefixSummary}
	return v.summaries(kind, after(kind), func(_ []byte, name string, s dotted.Summary) bool {
		return s.Tallies == 0 || fn(name)
	})
}

// summaries calls fn with the keys between two places that are not lone, until fn returns false.
func (v *View) summaries(start, end []byte,
	fn func(at []byte, name string, s dotted.Summary) bool) error {
	var failed error
	err := v.records(start, end, func(key []byte, _ *item, value []byte) bool {
		at := append([]byte(nil), key...)
		name, s, asOf, err := decodeSummary(at, value)
		if err != nil {
			failed = err
			return false
		}
		return asOf < v.clears.emptied || fn(at, name, s)
	})
	return cmp.Or(failed, err)
}

// KeyCount returns the number of keys that exist, and of them that have an expiry. O(1).
func (v *View) KeyCount() (keys, ending int, err error) { return v.keys, v.ending, nil }

// Log calls fn with the records of the moment's log from number on, each with its deltas in the
// order in which they were applied here, until fn returns false. It stops where a record is
// missing: fn is not called at all if that is the first one.
func (v *View) Log(number uint64, fn func(number uint64, deltas []*delta.Delta) bool) error {
	return v.log.read(number, func(rec logged) bool {
		if rec.lsn != number {
			return false
		}
		number++
		return fn(rec.lsn, rec.deltas)
	})
}

// nameStart returns where the summaries of keys begin that begin with prefix: before those of
// long keys, of which the place keeps only the beginning.
func nameStart(prefix string) []byte {
	escaped := dotted.KeyAddress(prefix[:min(len(prefix), placeKeeps)])
	return append([]byte{prefixSummary}, escaped[:len(escaped)-2]...)
}

// placeKeeps is how many bytes of a name its place has at least.
const placeKeeps = 128

// Put refuses: a view only reads.
func (v *View) Put(dotted.Address, []byte, []crdt.Dot) (crdt.Dot, error) {
	return crdt.Dot{}, crdt.ErrReadOnly
}

// Remove refuses: a view only reads.
func (v *View) Remove(dotted.Address, []crdt.Dot) error { return crdt.ErrReadOnly }

// Begin refuses: a view only reads.
func (v *View) Begin(dotted.Address, []byte) (crdt.Dot, error) { return crdt.Dot{}, crdt.ErrReadOnly }

// Clear refuses: a view only reads.
func (v *View) Clear(dotted.Address) error { return crdt.ErrReadOnly }

// Replica returns zero: a view issues no dots.
func (v *View) Replica() crdt.ReplicaID { return 0 }

// Ended returns false: who only reads need not know.
func (v *View) Ended(crdt.ReplicaID) bool { return false }

// Next returns zero: a view issues no dots.
func (v *View) Next() uint64 { return 0 }

// Time returns zero: a view has no timestamp.
func (v *View) Time() dotted.Time { return 0 }

// Fields returns the keys of a Tx or a View as package crdt's types: the only way in which users'
// functions see them.
func Fields(tx dotted.Tx) (keys crdt.Fields) {
	if own, ok := tx.(*Tx); ok {
		if !own.bound {
			own.bound = true
			dotted.Lent.Bind(&own.g.r.spareFields, own)
		}
		return own.g.r.spareFields
	}
	return fieldsOf(tx)
}

func fieldsOf(tx dotted.Tx) (keys crdt.Fields) {
	dotted.Lent.Bind(&keys, tx)
	return keys
}

// Bind makes fields those of tx, in the memory of a transaction that is over, if they were its.
func Bind(fields *crdt.Fields, tx dotted.Tx) { dotted.Lent.Bind(fields, tx) }

// End has fields that were bound, and the handles that were taken of them, read of tx, and take no writes.
func End(fields *crdt.Fields, tx dotted.Tx, why error) { dotted.Lent.End(fields, tx, why) }
