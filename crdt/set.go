package crdt

// Set is a set of byte strings. Each element has a cell of its own, so that adding to a set of a
// million costs what adding to an empty one does. An addition wins over a concurrent removal.
type Set struct {
	node
}

// Add puts elem into the set and reports whether it was not there. It writes either way, so that
// it wins over a concurrent Remove. O(log cells).
func (s Set) Add(elem string) (added bool, err error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil {
		return false, err
	}
	return !c.Visible(), e.replace(c, []byte{byte(kindMember)})
}

// Remove takes elem out of the set and reports whether it was there. O(log cells).
func (s Set) Remove(elem string) (removed bool, err error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil || !c.Visible() {
		return false, err
	}
	return true, e.replace(c, nil)
}

// Contains reports whether elem is in the set. O(log cells).
func (s Set) Contains(elem string) (bool, error) {
	c, err := s.named(elem).cell()
	return c.Visible(), err
}

// Len returns the number of elements. O(1) for a key, O(elements) for a field of a map.
func (s Set) Len() (int, error) {
	if n, ok, err := s.summary(); ok || err != nil {
		return n, err
	}
	n := 0
	err := s.Range(func(string) bool { n++; return true })
	return n, err
}

// Range calls fn with each element in ascending order until fn returns false. fn must not write.
func (s Set) Range(fn func(elem string) bool) error { return s.walk("", fn) }

// RangeAfter is Range from the first element greater than after.
func (s Set) RangeAfter(after string, fn func(elem string) bool) error {
	if err := checkName(after, s.depth+1); err != nil {
		return err
	}
	return s.walk(s.at.Name(after), fn)
}

func (s Set) walk(after Address, fn func(elem string) bool) error {
	return s.scan(after, func(a Address, c Cell) bool {
		elem, rest, ok := a[len(s.at):].CutName()
		if !ok || rest != "" || !c.Visible() {
			return true
		}
		return fn(elem)
	})
}

// Elements returns the elements in ascending order. O(elements).
func (s Set) Elements() ([]string, error) {
	var elems []string
	err := s.Range(func(elem string) bool {
		elems = append(elems, elem)
		return true
	})
	return elems, err
}

// Clear removes all elements and reports whether there were any. Concurrent additions survive it.
// For a key of many elements one small operation that looks at none of them.
func (s Set) Clear() (existed bool, err error) { return s.clear() }
