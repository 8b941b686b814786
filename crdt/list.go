package crdt

import (
	"iter"

	"github.com/peerd/peerd/internal/dotted"
)

// List is a sequence of values, each found by how many are before it. Each element has a cell of
// its own, whose name is its place in the order, so that an insertion changes no other element.
//
// Every concurrent insertion stays, in one order everywhere. What one replica inserts one by one,
// forward or backward, stays together, also if others insert at the same place at once: runs are
// not interleaved. A removed element is gone wherever the removal arrives; one that is removed at
// two replicas at once was removed at both, so whoever takes elements there may take one twice. Of
// concurrent Sets of one element the latest wins; it wins over a concurrent removal.
//
// Finding an element by its index is O(log elements) in a database, and O(log² cells) in a State.
type List struct {
	ref
}

// List returns the list under name.
func (f Fields) List(name string) List { return List{f.named(name, TypeList)} }

// Len returns the number of elements. O(1) for a key, and for a field of a map as finding an
// element.
func (l List) Len() int {
	if n, ok, _ := l.visible(); ok {
		return n
	}
	return l.rank(behindAll)
}

// Get returns the element that has i others before it. ok is false if there is none. The value must
// not be changed.
func (l List) Get(i int) (value []byte, ok bool) {
	names := l.names(i, false, 1)
	if len(names) == 0 {
		return nil, false
	}
	c, _ := l.named(names[0]).cell()
	return latestWrite(c)
}

// Values passes all concurrent values of the element that has i others before it, in the order of
// their dots: Get returns the latest. They must not be changed.
func (l List) Values(i int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, name := range l.names(i, false, 1) {
			Register{l.named(name)}.All()(yield)
		}
	}
}

// All passes the elements in their order. They must not be changed.
func (l List) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, value := range l.From(0, false) {
			if !yield(value) {
				return
			}
		}
	}
}

// From passes the elements from the one on that has i others before it, or back from it to the
// first, each with how many were before it. They must not be changed. The loop's body may change
// the list: the numbers are then those from before, within a few hundred.
func (l List) From(i int, back bool) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if l.broken() == nil && l.tx.Replica() == 0 { // the body writes nothing
			l.read(i, back, yield)
			return
		}
		for size := firstPart; ; size = min(2*size, lastPart) {
			names := l.names(i, back, size)
			for _, name := range names {
				c, _ := l.named(name).cell()
				value, ok := latestWrite(c)
				if ok && !yield(i, value) {
					return
				}
				if i++; back {
					i -= 2
				}
			}
			if len(names) < size {
				return
			}
			last := names[size-1]
			if back {
				i = l.rank(last) - 1
			} else {
				i = l.rank(last + "\x00")
			}
		}
	}
}

// lookedUp is how many elements are looked up one by one, which is faster as long as memory has
// them. What is behind is read in the order that it is stored in, which is theirs where names are
// short.
const lookedUp = 1000

// read is From whose body writes nothing.
func (l List) read(i int, back bool, yield func(int, []byte) bool) {
	for more := true; more; {
		var last string
		if i, last, more = l.readRanked(i, back, yield); more {
			i, more = l.readStored(i, last, yield)
		}
	}
}

// readRanked reads so many elements by their ranks, and on to one with a short name, which is the
// last. It returns how many are before the next one, and whether that and what follows is to be
// read.
func (l List) readRanked(i int, back bool, yield func(int, []byte) bool) (next int, last string, more bool) {
	read := 0
	_ = l.ranked(i, back, func(name string) bool {
		value, ok := latestWrite(l.element(name))
		if l.tx.err != nil || ok && !yield(i, value) {
			return false
		}
		if i++; back {
			i -= 2
		}
		read, last = read+1, name
		more = read >= lookedUp && len(name) < dotted.InOrder && !back
		return !more
	})
	return i, last, more
}

// readStored reads the elements behind one as they are stored, of which the first has i before it,
// up to one with a long name: that may stand before others that come first. It returns how many are
// before that, and whether there is one.
func (l List) readStored(i int, behind string, yield func(int, []byte) bool) (next int, more bool) {
	_ = l.scan(l.at.Name(behind), func(a dotted.Address, c dotted.Cell) bool {
		name, rest, ok := a[len(l.at):].CutName()
		if !ok || rest != "" || !c.Visible() {
			return true
		}
		if more = len(name) >= dotted.InOrder; more {
			return false
		}
		value, ok := latestWrite(c)
		if ok && !yield(i, value) {
			return false
		}
		i++
		return true
	})
	return i, more
}

// Insert puts values before the element that has i others before it, in their order; with the
// list's length or more behind all, and with less than 0 before all. It returns ErrTooLong for a
// value of more than MaxValue bytes, and if too much was inserted at one place inside the list:
// some two hundred elements, each of them between the last two. Then none is inserted. Values
// are copied. O(values), each as finding an element.
func (l List) Insert(i int, values ...[]byte) error {
	for _, v := range values {
		if err := checkValue(v); err != nil {
			return err
		}
	}
	if err := l.broken(); err != nil {
		return err
	}
	before, behind, err := l.around(i)
	if err != nil {
		return err
	}
	by := author{l.tx.Replica(), l.tx.Next()}
	left := before == "" && behind != "" // the run grows to the left
	names := make([]string, len(values))
	for n := range names {
		name, err := by.between(before, behind)
		if err == nil {
			err = l.named(name).err
		}
		if err != nil {
			return err
		}
		if left {
			names[len(names)-1-n], behind = name, name
		} else {
			names[n], before = name, name
		}
	}
	for n, name := range names {
		if err := l.named(name).begin(writePayload(l.tx.Time(), values[n])); err != nil {
			return err
		}
	}
	return nil
}

// around returns the names of the elements between which an index is; "" for none.
func (l List) around(i int) (before, behind string, err error) {
	n := l.Len()
	i = min(max(i, 0), n)
	from := max(i-1, 0)
	names := l.names(from, false, i-from+1)
	if len(names) > 0 && i > from {
		before, names = names[0], names[1:]
	}
	if len(names) > 0 {
		behind = names[0]
	}
	return before, behind, l.tx.err
}

// Set replaces the element that has i others before it, and reports whether there is one. It
// returns ErrTooLong for more than MaxValue bytes. The value is copied. O(log elements).
func (l List) Set(i int, value []byte) (existed bool, err error) {
	if err := checkValue(value); err != nil {
		return false, err
	}
	names := l.names(i, false, 1)
	if err := l.broken(); err != nil || len(names) == 0 {
		return false, err
	}
	e := l.named(names[0])
	c, err := e.cell()
	if err != nil {
		return false, err
	}
	return true, e.replace(c, writePayload(e.tx.Time(), value))
}

// Remove removes the elements from one index up to another, which stays, and returns how many there
// were. O(removed · log elements); all of a key's at once are one small operation.
func (l List) Remove(from, to int) (removed int, err error) {
	n := l.Len()
	from, to = max(from, 0), min(to, n)
	if err := l.broken(); err != nil || from >= to {
		return 0, err
	}
	if from == 0 && to == n {
		_, err := l.clear()
		return n, err
	}
	names := l.names(from, false, to-from)
	for _, name := range names {
		e := l.named(name)
		c, err := e.cell()
		if err != nil {
			return 0, err
		}
		if err := e.replace(c, nil); err != nil {
			return 0, err
		}
	}
	return len(names), l.tx.err
}

// Pop removes the element that has i others before it, and returns it. ok is false if there is
// none. The value must not be changed. O(log elements).
func (l List) Pop(i int) (value []byte, ok bool, err error) {
	names := l.names(i, false, 1)
	if err := l.broken(); err != nil || len(names) == 0 {
		return nil, false, err
	}
	e := l.named(names[0])
	c, err := e.cell()
	if err != nil {
		return nil, false, err
	}
	value, ok = latestWrite(c)
	return value, ok, e.replace(c, nil)
}

// Clear removes all elements and reports whether there were any. Concurrent insertions survive it.
// For a key of many elements one small operation that looks at none of them.
func (l List) Clear() (existed bool, err error) { return l.clear() }

// ranked calls fn with the names of elements, as dotted.Tx.Ranked does.
func (l List) ranked(from int, back bool, fn func(name string) bool) error {
	_, err := read(l.ref, func() (struct{}, error) { return struct{}{}, l.tx.Ranked(l.at, from, back, fn) })
	return err
}

// element returns the cell of an element, which is there.
func (l List) element(name string) dotted.Cell {
	c, err := l.tx.Element(l.at, name)
	if l.tx.err == nil {
		l.tx.err = err
	}
	return c
}

// names returns the names of at most so many elements, from an index on or back from it.
func (l List) names(from int, back bool, limit int) (names []string) {
	if limit <= 0 || from < 0 {
		return nil
	}
	names = make([]string, 0, min(limit, lastPart))
	_ = l.ranked(from, back, func(name string) bool {
		names = append(names, name)
		return len(names) < limit
	})
	return names
}

// rank returns how many elements have names less than one.
func (l List) rank(name string) int {
	n, _ := read(l.ref, func() (int, error) { return l.tx.Rank(l.at, name) })
	return n
}

// positionOf is the order of a list's cells: that of their names.
func positionOf(name string, _ dotted.Cell) string { return name }

func (l List) copyTo(to Fields, name string) error {
	copied := to.List(name)
	n := 0
	for value := range l.All() {
		if err := copied.Insert(n, value); err != nil {
			return err
		}
		n++
	}
	return nil
}

func (l List) appendJSON(b []byte) []byte {
	b = append(b, '[')
	first := true
	for value := range l.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendText(b, string(value))
	}
	return append(b, ']')
}
