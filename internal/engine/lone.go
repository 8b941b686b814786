package engine

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"

	"github.com/peerd/peerd/internal/dotted"
)

// Most keys hold a string and nothing else, and nobody counted on it: one cell, at an address that
// the key's name gives. Such a key is lone. It has no record of the sums over it: who finds none
// asks the cell. So a string is born and dies without one, and no key has two that say the same. A
// key whose only cell is a member of a set, a field of a map, or a share has one: where its cell
// stands only a search would tell, which passes over all that was deleted there.
//
// That a key is lone follows from its sums, and so from derive: the group that changes them writes
// or removes the record, and a recount expects it where it must be, and nowhere else.

// ownString returns the address of the cell that may be all of a key.
func ownString(key string) dotted.Address { return dotted.Address("").Name(key, dotted.StringType()) }

// loneShape is the shape of that cell.
var loneShape = string([]byte{byte(dotted.StringType())})

// lone is what a visible one says. It must not be changed.
var lone = dotted.Summary{Visible: dotted.Shapes{{Shape: loneShape, Count: 1}}}

// sumOfString returns the sums over a key without a record, from the cell that may be all of it.
func sumOfString(c dotted.Cell) (s dotted.Summary) {
	if c.Visible() {
		s = lone
	}
	return s
}

// isLone reports whether sums over a key are those of such a cell, or of nothing. What was counted
// on a string tallies.
func isLone(s dotted.Summary) bool {
	return s.Tallies == 0 && (len(s.Visible) == 0 || len(s.Visible) == 1 && s.Visible[0] == lone.Visible[0])
}

// ordered reports whether there may be cells in an order under the key.
func (s *summaryState) ordered() bool {
	return slices.ContainsFunc(s.now.Visible, func(c dotted.ShapeCount) bool { return dotted.OrderedShape(c.Shape) })
}

// says reports whether there is anything in sums over a key.
func says(s dotted.Summary) bool { return len(s.Visible) > 0 || s.Tallies != 0 }

// summary returns the group's state of a key's summary.
func (g *group) summary(key string) (*summaryState, error) {
	g.r.spend(workCell)
	if s := g.summed; s != nil && s.name == key {
		return s, nil
	}
	if s, ok := g.sums[key]; ok {
		g.summed = s
		return s, nil
	}
	s := g.memory.keys.next()
	s.name = key
	if err := g.readSums(s); err != nil {
		return nil, err
	}
	s.before = totalsOf(s.now)
	s.bare = !says(s.now)
	g.sums[key], g.summed = s, s
	return s, nil
}

// readSums reads what the sums over a key are: from its record, or from the cell that may be all of
// it. Which of the two memory is asked for first is what the key before it had: most are like it,
// and it answers the same.
func (g *group) readSums(s *summaryState) error {
	if g.r.recorded() && g.recordFirst {
		if it := g.r.table.find(s.appendPlace(g)); it != nil && it.sums != nil && g.takeSums(s, it.key, it.sums) {
			return nil // the cell does not say that it is all of it: see isLone
		}
	}
	s.whole = g.heldString(s.name)
	g.recordFirst = false
	if g.r.recorded() && (s.whole == nil || s.whole.was == nil || !s.whole.was.lone) {
		if err := g.readSummary(s); err != nil {
			return err
		}
		g.recordFirst = says(s.now)
	}
	if says(s.now) || g.r.lone == 0 {
		return nil
	}
	if s.whole == nil {
		var err error
		if s.whole, err = g.load(ownString(s.name)); err != nil {
			return err
		}
	}
	s.now = sumOfString(s.whole.now)
	return nil
}

// newSummary returns the state of a summary that says nothing.
func (g *group) newSummary(key string) *summaryState {
	s := g.memory.keys.next()
	s.name, s.whole = key, g.heldString(key)
	return s
}

// heldString is held of the cell that may be all of a key.
func (g *group) heldString(key string) *cellState {
	g.at = dotted.AppendName(append(g.at[:0], prefixCell), key, dotted.StringType())
	if len(g.at) > dotted.MaxPlain {
		return g.held(ownString(key))
	}
	a := g.at[1:]
	if c := g.last; c != nil && string(c.address) == string(a) {
		return c
	}
	if c := g.cells[dotted.Address(a)]; c != nil {
		g.last = c
		return c
	}
	return g.heldAt(g.at)
}

// at returns where the record of the summary stands.
func (s *summaryState) at() string {
	if s.key == "" {
		s.key = string(place(prefixSummary, dotted.KeyAddress(s.name)))
	}
	return s.key
}

// appendPlace returns the same in memory of the group's.
func (s *summaryState) appendPlace(g *group) []byte {
	if g.at = dotted.AppendName(append(g.at[:0], prefixSummary), s.name); len(g.at) > dotted.MaxPlain {
		g.at = append(g.at[:0], s.at()...)
	}
	return g.at
}

// takeSums takes in what a record says, and reports whether that is anything.
func (g *group) takeSums(s *summaryState, at string, stored *sums) bool {
	s.key, s.sums = at, stored
	if s.stored = says(stored.summary); stored.asOf >= g.clears.emptied { // else it says nothing any more
		s.now = stored.summary
	}
	return says(s.now)
}

// readSummary reads the record of a key's summary, if there is one.
func (g *group) readSummary(s *summaryState) error {
	at, stored, err := g.sumsAt(s.appendPlace(g), func(n *sums, record []byte) (err error) {
		n.summary, err = g.view.summaryIn(g.at, record)
		return err
	})
	if err == nil {
		g.takeSums(s, at, stored)
	}
	return err
}

// markLone notes at the cells in memory that may be all of their keys whether they are, so that who
// finds one does not look for the key's record.
func (g *group) markLone() {
	for _, s := range g.sums {
		c := s.whole
		if c == nil || s.dirty && !g.taken {
			continue
		}
		it, alone := c.was, isLone(s.now)
		if c.gone || it != nil && it.lone != alone && !g.r.table.Current(it) { // else it was packed with what it said
			it = g.r.table.find([]byte(c.key))
		}
		if it == nil || it.lone == alone {
			continue
		}
		if it.lone = alone; !alone {
			g.r.table.Forget(it)
		}
	}
}

// How many records of keys are read before the cells between them are looked at.
const (
	firstListed = 16
	lastListed  = 256
)

// listed is a key that was found.
type listed struct {
	at   []byte
	name string
	sums dotted.Summary
}

// list calls fn with the keys between two places, lone ones and others, until it returns false. at
// is valid only during the call.
func (v *View) list(start, end []byte, fn func(at []byte, name string, s dotted.Summary) bool) error {
	if v.lone == 0 {
		return v.summaries(start, end, fn)
	}
	for size, more := firstListed, true; more; size = min(4*size, lastListed) {
		var some []listed
		more = false
		err := v.summaries(start, end, func(at []byte, name string, s dotted.Summary) bool {
			some = append(some, listed{at, name, s})
			more = len(some) == size
			return !more
		})
		if err != nil {
			return err
		}
		upTo := end
		if more {
			upTo = after(some[size-1].at)
		}
		stopped, err := v.merge(some, start, upTo, fn)
		if err != nil || stopped {
			return err
		}
		start = upTo
	}
	return nil
}

// merge calls fn with some keys, and with the lone ones between two places.
func (v *View) merge(some []listed, start, end []byte, fn func(at []byte, name string, s dotted.Summary) bool) (
	stopped bool, err error) {
	emit := func(k listed) bool {
		stopped = !fn(k.at, k.name, k.sums)
		return !stopped
	}
	at := []byte{prefixSummary}
	err = v.strings(cellsOf(start), cellsOf(end), func(place []byte, a dotted.Address) bool {
		at = append(at[:1], place...)
		for len(some) > 0 && bytes.Compare(some[0].at, at) < 0 {
			if !emit(some[0]) {
				return false
			}
			some = some[1:]
		}
		if len(some) > 0 && bytes.Equal(some[0].at, at) {
			return true // its turn comes before the next one's
		}
		return emit(listed{at, a.Key(), lone})
	})
	for err == nil && !stopped && len(some) > 0 {
		emit(some[0])
		some = some[1:]
	}
	return stopped, err
}

// cellsOf returns where the cells stand of the keys from a place on at which sums over keys stand.
func cellsOf(at []byte) []byte {
	if at[0] != prefixSummary {
		return []byte{prefixCell + 1}
	}
	return append([]byte{prefixCell}, at[1:]...)
}

// passedBy is how many further cells of a key are gone through before they are skipped, which takes
// as long as that.
const passedBy = 64

// strings calls fn with the strings of keys that were written, of those whose cells stand between
// two places, until it returns false: with the part of the place that names the key, which is valid
// only during the call.
func (v *View) strings(start, end []byte, fn func(place []byte, a dotted.Address) bool) (failed error) {
	for start != nil && bytes.Compare(start, end) < 0 {
		var skip, in []byte
		passed := 0
		err := v.cellKeys(start, end, func(key []byte, it *item) bool {
			n := keyBytes(key)
			rest := string(key[n:])
			switch {
			case rest == loneShape:
				var a dotted.Address
				var seen bool
				a, seen, failed = v.seesString(key, it)
				return failed == nil && (!seen || fn(key[1:n], a))
			case !bytes.Equal(key[:n], in):
				in, passed = append(in[:0], key[:n]...), 0
			}
			if passed++; passed <= passedBy {
				return true
			}
			if skip = after(in); rest < loneShape {
				skip = append(in, loneShape...)
			}
			return false
		})
		if failed = cmp.Or(failed, err); failed != nil {
			return failed
		}
		start = skip
	}
	return nil
}

// keyBytes returns how much of a cell's place names its key, with the kind before it.
func keyBytes(key []byte) int {
	for i := 1; i+1 < len(key); i++ {
		if key[i] != 0 {
			continue
		}
		switch i++; key[i] {
		case 0xff: // an escaped zero
		case 1:
			return i + 1
		default: // shortened: a sum follows
			return min(i+1+sha256.Size, len(key))
		}
	}
	return len(key)
}

// seesString returns the address of the string's own cell that stands at a place, and whether
// readers see it. Where its key has no record of sums it tallies nothing, and so is seen unless it
// was cleared.
func (v *View) seesString(key []byte, it *item) (a dotted.Address, seen bool, err error) {
	if a = dotted.Address(key[1:]); it != nil {
		a = it.address()
	} else if _, _, whole := a.CutName(); !whole {
		if a, err = v.addressAt(bytes.Clone(key)); err != nil {
			return "", false, err
		}
	}
	if v.clears.count == 0 || !v.clears.cover(a) {
		return a, true, nil
	}
	c, err := v.heads(a)
	return a, c.Visible(), err
}

// addressAt returns the address of a cell that the tree has at a place.
func (v *View) addressAt(key []byte) (dotted.Address, error) {
	record, ok, err := v.shot.Tree().Get(key)
	if err == nil && !ok {
		err = damaged(key, errMissing)
	}
	if err != nil {
		return "", err
	}
	a, _, _, _, err := decodeFirst(key, record)
	return a, err
}

// cover reports whether there is a clear of a prefix of a.
func (c *clears) cover(a dotted.Address) (found bool) {
	c.over(a, func([]*pendingClear) { found = true })
	return found
}
