package crdt

import (
	"iter"

	"github.com/peerd/peerd/internal/dotted"
)

// Set is a set of byte strings. Each element has a cell of its own, so that adding to a set of a
// million costs what adding to an empty one does. An addition wins over a concurrent removal.
type Set struct {
	ref
}

// Set returns the set under name.
func (f Fields) Set(name string) Set { return Set{f.named(name, TypeSet)} }

// Has reports whether elem is in the set. O(log cells).
func (s Set) Has(elem string) bool {
	c, _ := s.named(elem).cell()
	return c.Visible()
}

// Len returns the number of elements. O(1) for a key, O(elements) for a field of a map.
func (s Set) Len() int {
	if n, ok, _ := s.visible(); ok {
		return n
	}
	n := 0
	s.walk("", func(string) bool { n++; return true })
	return n
}

// All passes the elements in ascending order of their bytes; long ones are ordered as Fields.All
// says.
func (s Set) All() iter.Seq[string] { return s.elements("") }

// AllAfter passes the elements greater than the given one, which need not be there.
func (s Set) AllAfter(elem string) iter.Seq[string] { return s.elements(s.beyond(elem)) }

// Next returns the least element greater than the given one, which need not be there, and false if
// there is none. O(log cells) but for the removed cells that stand before it.
func (s Set) Next(elem string) (next string, ok bool) {
	if s.broken() != nil {
		return "", false
	}
	s.walk(s.beyond(elem), func(elem string) bool {
		next, ok = elem, true
		return false
	})
	return next, ok
}

func (s Set) elements(after dotted.Address) iter.Seq[string] {
	return inParts(s.ref, after, s.walk, s.beyond)
}

// beyond returns the address up to which an element reaches.
func (s Set) beyond(elem string) dotted.Address { return s.at.Name(elem) }

// walk calls fn with each element beyond an address.
func (s Set) walk(after dotted.Address, fn func(elem string) bool) {
	_ = s.scan(after, func(a dotted.Address, c dotted.Cell) bool {
		elem, rest, ok := a[len(s.at):].CutName()
		if !ok || rest != "" || !c.Visible() {
			return true
		}
		return fn(elem)
	})
}

// Add puts elem, of at most MaxName bytes, into the set and reports whether it was not there. It
// writes either way, so that it wins over a concurrent Remove. O(log cells).
func (s Set) Add(elem string) (added bool, err error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil {
		return false, err
	}
	return !c.Visible(), e.replace(c, []byte{byte(kindMember)})
}

// Remove takes elem out of the set and reports whether it was there; if not, it writes nothing. A
// concurrent Add survives it. O(log cells).
func (s Set) Remove(elem string) (existed bool, err error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil || !c.Visible() {
		return false, err
	}
	return true, e.replace(c, nil)
}

// Clear removes all elements and reports whether there were any. Concurrent additions survive it.
// For a key of many elements one small operation that looks at none of them.
func (s Set) Clear() (existed bool, err error) { return s.clear() }

func (s Set) copyTo(to Fields, name string) error {
	copied := to.Set(name)
	for elem := range s.All() {
		if _, err := copied.Add(elem); err != nil {
			return err
		}
	}
	return nil
}

func (s Set) appendJSON(b []byte) []byte {
	b = append(b, '[')
	first := true
	for elem := range s.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendText(b, elem)
	}
	return append(b, ']')
}
