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
)

// listing is what is stored under a key, with what pending clears hide.
type listing struct {
	of    dotted.Address // of the key
	cells []listedCell   // in their order; none has an address that its place shortens
	bytes int
	made  bool
	since uint64 // the number of the moment that shows all that came before it was asked for
}

type listedCell struct {
	address dotted.Address
	cell    dotted.Cell
}

func (c listedCell) bytes() int { return listedBytes + len(c.address) + weightOf(c.cell) }

// set has a cell change, and reports whether the listing may be kept.
func (l *listing) set(c listedCell) bool {
	i, found := slices.BinarySearchFunc(l.cells, c.address, func(c listedCell, a dotted.Address) int {
		return cmp.Compare(c.address, a)
	})
	if found {
		l.bytes -= l.cells[i].bytes()
	}
	switch {
	case len(c.cell) == 0 && found:
		l.cells = slices.Delete(l.cells, i, i+1)
	case len(c.cell) == 0:
	case found:
		l.cells[i] = c
		l.bytes += c.bytes()
	default:
		l.cells = slices.Insert(l.cells, i, c)
		l.bytes += c.bytes()
	}
	return len(l.cells) <= mostListed && l.bytes <= mostListedBytes
}

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
	young, old map[dotted.Address]*listing // by the addresses of the keys
}

func newListings(limit int64) *listings {
	return &listings{limit: int(limit), young: map[dotted.Address]*listing{}}
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
	if l := ls.find(prefix); l != nil && l.made && hasPrefix(prefix, l.of) {
		return l
	}
	return nil
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
	if ls.bytes += listingBytes + l.bytes; ls.bytes > ls.limit/2 {
		ls.old, ls.young, ls.bytes = ls.young, map[dotted.Address]*listing{}, 0
	}
}

// changed takes the new state of a cell.
func (ls *listings) changed(it *item) {
	l := ls.find(it.address)
	if l == nil {
		return
	}
	if !l.made || it.key[1:] != string(it.address) || !l.set(listedCell{it.address, it.cell}) {
		delete(ls.young, l.of)
		delete(ls.old, l.of)
	}
}

// isLittle reports whether that which the sums over a key tell of is, and anything.
func isLittle(s dotted.Summary) bool {
	n := 0
	for _, c := range s.Visible {
		n += c.Count
	}
	return 0 < n && n <= mostListed
}

// AtHand reports whether all that a key holds is in memory, so that to go through it needs no scan of
// the store. If that is little, a View that gathers it (see View.AtHand) makes it so for those who come
// later.
func (tx *Tx) AtHand(key string) bool {
	g := tx.g
	s, err := g.summary(key)
	if err != nil || tx.err != nil {
		return false // who reads it is told
	}
	of := dotted.KeyAddress(key)
	switch {
	case !isLittle(s.now):
		return g.bare(of)
	case g.r.table.lists.use(of):
		return true
	}
	asked := &listing{of: of, since: g.r.moments + 1}
	if g.r.shown() { // views see all that there is
		asked.since = g.r.published.Load().number
	}
	g.r.table.lists.put(asked)
	return false
}

// Gathering returns the View, of which AtHand gathers what a key holds. It is used by one goroutine.
func (v *View) Gathering() *View {
	v.gathers = true
	return v
}

// AtHand reads all that a key holds, if it is little and the View gathers: then scans of it look at that.
// It reports whether that is so.
func (v *View) AtHand(key string) bool {
	if !v.gathers {
		return false
	}
	s, err := v.Summary(key)
	if err != nil || !isLittle(s) {
		return false
	}
	l, little := &listing{of: dotted.KeyAddress(key), made: true}, true
	start := place(prefixCell, l.of)
	err = v.records(start, after(start), func(key []byte, it *item, value []byte) bool {
		a, c, err := v.cellOf(key, it, value)
		little = err == nil && string(key[1:]) == string(a) && l.set(listedCell{a, c})
		return little
	})
	if little = little && err == nil; little {
		v.listed = l
	}
	return little
}

// Gathered reports whether there is anything for Remember.
func (v *View) Gathered() bool { return v.listed != nil }

// Remember keeps what a view has gathered for those who come later, unless something changed there since it was asked
// for, or nobody has. It is the last call of the view but Close.
func (r *replica) Remember(v *View) {
	l := v.listed
	v.listed = nil
	if asked := r.table.lists.find(l.of); asked != nil && !asked.made && v.number >= asked.since {
		r.table.lists.put(l)
	}
}
