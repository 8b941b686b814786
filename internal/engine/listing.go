package engine

import (
	"cmp"
	"slices"
	"sort"

	"github.com/peerd/peerd/internal/dotted"
)

// To begin a scan of the tree costs as much as to find some ten records in it, and it passes over what
// was deleted there. So what goes through all of a small value often, such as the fields of a hash, is
// kept listed in memory: see [Tx.AtHand]. A view makes the listing, while others write. Each change of a
// cell, which comes through [table.put], is done to a listing too; what is asked for and not made yet
// is asked for in vain then.

const (
	mostListed      = 128      // cells of one listing
	mostListedBytes = 32 << 10 // that they take
	listedShare     = 8        // of memory for what is read is for listings
	listingBytes    = 200      // that one takes beside its cells
	listedBytes     = 100      // that a cell takes beside its address and payloads

	// A view gathers this much, though it is not kept: so nothing is read twice.
	mostGathered, mostGatheredKeys = 1 << 20, 8
)

// listing is what is stored under a key, with what pending clears hide.
type listing struct {
	of    dotted.Address // of the key
	cells []listedCell   // in their order; none has an address that its place shortens
	bytes int
	state listingState
	since uint64 // the number of the moment that shows all that came before it was asked for
}

type listingState int

const (
	listingAsked listingState = iota
	listingMade
	listingLarge // it is not kept, nor asked for until something changes
)

type listedCell struct {
	address dotted.Address
	cell    dotted.Cell
}

func (c listedCell) bytes() int { return listedBytes + len(c.address) + weightOf(c.cell) }

// index returns where the cell at an address is, or would be.
func (l *listing) index(a dotted.Address) (i int, found bool) {
	return slices.BinarySearchFunc(l.cells, a, func(c listedCell, a dotted.Address) int { return cmp.Compare(c.address, a) })
}

// set has a cell change.
func (l *listing) set(c listedCell) {
	i, found := l.index(c.address)
	if found {
		l.bytes -= l.cells[i].bytes()
	}
	if len(c.cell) > 0 {
		l.bytes += c.bytes()
	}
	switch {
	case len(c.cell) == 0 && found:
		l.cells = slices.Delete(l.cells, i, i+1)
	case len(c.cell) == 0:
	case found:
		l.cells[i] = c
	default:
		l.cells = slices.Insert(l.cells, i, c)
	}
}

// isLittle reports whether the listing may be kept.
func (l *listing) isLittle() bool { return len(l.cells) <= mostListed && l.bytes <= mostListedBytes }

// scan is View.scanStored of what is under the key.
func (l *listing) scan(prefix, beyond dotted.Address, fn func(dotted.Address, dotted.Cell) bool) {
	from := string(prefix)
	if beyond != "" {
		from = max(from, string(place(prefixCell, beyond)[1:])+"\x00")
	}
	i := sort.Search(len(l.cells), func(i int) bool { return string(l.cells[i].address) >= from })
	for _, c := range l.cells[i:] {
		if !hasPrefix(c.address, prefix) || !fn(c.address, c.cell) {
			return
		}
	}
}

// listings are those that were asked for last.
type listings struct {
	limit      int                         // bytes
	bytes      int                         // of the young ones
	oldBytes   int                         // of the old ones, when they were young
	young, old map[dotted.Address]*listing // by the addresses of the keys
}

func newListings(limit int64) *listings {
	return &listings{limit: int(limit), young: map[dotted.Address]*listing{}}
}

// setLimit bounds what they take. What is beyond a lower limit is forgotten at once.
func (ls *listings) setLimit(limit int) {
	was := ls.limit
	if ls.limit = limit; limit >= was {
		return
	}
	if ls.bytes+ls.oldBytes > limit {
		ls.old, ls.oldBytes = nil, 0
	}
	if ls.bytes > limit {
		ls.young, ls.bytes = map[dotted.Address]*listing{}, 0
	}
}

// find returns that of the key in which an address lies; nil if there is none.
func (ls *listings) find(a dotted.Address) *listing {
	if len(ls.young)+len(ls.old) == 0 {
		return nil
	}
	key := a.KeyAddress()
	l := ls.young[key]
	if l == nil {
		l = ls.old[key]
	}
	return l
}

// over returns the one that is made of all that begins with a prefix; nil if there is none.
func (ls *listings) over(prefix dotted.Address) *listing {
	if l := ls.find(prefix); l != nil && l.state == listingMade && hasPrefix(prefix, l.of) {
		return l
	}
	return nil
}

// cell returns what is stored of a cell, as far as a listing tells. It must not be changed.
func (ls *listings) cell(a dotted.Address) (c dotted.Cell, known bool) {
	l := ls.over(a)
	if l == nil || len(a) > dotted.MaxPlain {
		return nil, false
	}
	if i, found := l.index(a); found {
		c = l.cells[i].cell
	}
	return c, true
}

// use reports whether that of a key is made, and keeps it longer.
func (ls *listings) use(key dotted.Address) bool {
	l := ls.over(key)
	if l != nil && ls.young[key] != l {
		ls.put(l)
	}
	return l != nil
}

// put keeps a listing, in place of the one that its key has.
func (ls *listings) put(l *listing) {
	delete(ls.old, l.of)
	ls.young[l.of] = l
	ls.grew(listingBytes + len(l.of) + l.bytes)
}

// grew takes note that those that are kept take more bytes.
func (ls *listings) grew(bytes int) {
	if ls.bytes += bytes; ls.bytes > ls.limit/2 {
		ls.old, ls.oldBytes = ls.young, ls.bytes
		ls.young, ls.bytes = map[dotted.Address]*listing{}, 0
	}
}

// changed takes the new state of a cell.
func (ls *listings) changed(it *item) {
	l := ls.find(it.address())
	if l == nil {
		return
	}
	before := l.bytes
	if l.state == listingMade && it.key[1:] == string(it.address()) {
		l.set(listedCell{it.address(), slices.Clone(it.cell)}) // a part of the item else
		if l.isLittle() {
			ls.grew(max(l.bytes-before, 0))
			return
		}
	}
	delete(ls.young, l.of)
	delete(ls.old, l.of)
}

// mayList reports whether there is so little under a key, by the sums over it, that it may be listed, and anything.
func mayList(key string, s dotted.Summary) bool {
	n := 0
	for _, c := range s.Visible {
		n += c.Count
	}
	return 0 < n && n <= mostListed && len(key) < dotted.MaxPlain/2
}

// AtHand reports whether all that a key holds is in memory, but for the order of its elements if it has one: to go
// through it needs no scan of the store. If that is little, a View that gathers it (see View.AtHand) makes it so for those
// who come later.
func (tx *Tx) AtHand(key string) bool {
	g := tx.g
	s, err := g.summary(key)
	if err != nil || tx.err != nil {
		return false // who reads it is told
	}
	of, lists := dotted.KeyAddress(key), g.r.table.lists
	switch {
	case !mayList(key, s.now):
		return g.bare(of)
	case lists.use(of):
		return true
	case lists.find(of) != nil: // nothing has changed since it was asked for
		return false
	}
	asked := &listing{of: of, since: g.r.moments + 1}
	if g.r.shown() { // views see all that there is
		asked.since = g.r.published.Load().number
	}
	lists.put(asked)
	return false
}

// Gathering returns the View, of which AtHand gathers what keys hold. It is used by one goroutine.
func (v *View) Gathering() *View {
	v.gathers = true
	return v
}

// AtHand reads all that a key holds, if it is little and the View gathers: then what is scanned of it is found there.
// It reports whether that is so.
func (v *View) AtHand(key string) bool {
	of := dotted.KeyAddress(key)
	switch {
	case !v.gathers:
		return false
	case v.gatheredOver(of) != nil:
		return true
	case len(v.gathered) == mostGatheredKeys:
		return false
	}
	s, err := v.Summary(key)
	if err != nil || !mayList(key, s) {
		return false
	}
	l, whole := &listing{of: of, state: listingMade}, true
	start := place(prefixCell, of)
	err = v.records(start, after(start), func(key []byte, it *item, value []byte) bool {
		a, c, err := v.cellOf(key, it, value)
		if whole = err == nil && string(key[1:]) == string(a); whole {
			l.set(listedCell{a, slices.Clone(c)})
			whole = len(l.cells) <= mostListed && l.bytes <= mostGathered
		}
		return whole
	})
	if whole = whole && err == nil; whole {
		v.gathered = append(v.gathered, l)
	}
	return whole
}

// gatheredOver returns what the view has gathered of all that begins with a prefix; nil if that is nothing.
func (v *View) gatheredOver(prefix dotted.Address) *listing {
	for _, l := range v.gathered {
		if hasPrefix(prefix, l.of) {
			return l
		}
	}
	return nil
}

// Gathered reports whether there is anything for Remember.
func (v *View) Gathered() bool { return len(v.gathered) > 0 }

// Remember keeps what a view has gathered for those who come later, unless something changed there since it was asked
// for, or nobody has. It is the last call of the view but Close.
func (r *replica) Remember(v *View) {
	lists := r.table.lists
	for _, l := range v.gathered {
		if asked := lists.find(l.of); asked == nil || asked.state != listingAsked || v.number < asked.since {
			continue
		}
		if !l.isLittle() {
			l = &listing{of: l.of, state: listingLarge}
		}
		lists.put(l)
	}
	v.gathered = nil
}
