package crdt

import (
	"iter"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// Map is a map from names to values of any type, nested to any depth within MaxDepth. Its fields
// have no cell of their own: a field is there as long as something under it is. So an update
// inside a field wins over a concurrent removal of the field, or of the whole map.
type Map struct {
	Fields
}

// Map returns the map under name.
func (f Fields) Map(name string) Map { return Map{Fields{f.named(name).typed(TypeMap)}} }

// stringField is the shape of a string in a map.
const stringField = string(TypeMap) + string(TypeValue)

// Strings passes the fields that are strings, in order, with how they read. For all of them that
// is less work than asking each. The values must not be changed.
func (m Map) Strings() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if m.err == nil && m.tx.Replica() == 0 {
			m.walkStrings(yield)
			return
		}
		for name, held := range m.All() {
			if !held.Has(TypeValue) {
				continue
			}
			if value, ok := m.String(name).Get(); ok && !yield(name, value) {
				return
			}
		}
	}
}

// walkStrings goes through the cells of the fields. Of a string's shares it looks at no more than the
// first few.
func (m Map) walkStrings(fn func(string, []byte) bool) {
	// The cell to go on from, and the string that fn was called for last.
	var after, last dotted.Address
	for again := true; again; {
		again = false
		passed := 0
		_ = m.scan(after, func(a dotted.Address, c dotted.Cell) bool {
			if last != "" && strings.HasPrefix(string(a), string(last)) {
				passed++
				again = passed == walkSteps
				return !again
			}
			name, rest, _ := a[len(m.at):].CutName()
			if rest == "" || Type(rest[0]) != TypeValue {
				return true
			}
			n := m.named(name).typed(TypeValue)
			last, passed = n.at, 0
			if a != last {
				c = nil // it has no text
			}
			value, ok := n.read(c)
			return !ok || fn(name, value)
		})
		after = endOf(last)
	}
}

// CountStrings returns how many fields are strings. O(1) for a key, else as All.
func (m Map) CountStrings() int {
	if m.depth == 1 && m.err == nil {
		s, _ := m.tx.Summary(m.key)
		return s.Visible[stringField]
	}
	n := 0
	for _, held := range m.All() {
		if held.Has(TypeValue) {
			n++
		}
	}
	return n
}

// flatLen returns the number of fields if each of them is known to have exactly one cell.
func (f Fields) flatLen() (n int, ok bool) {
	if f.err != nil || f.depth != 1 {
		return 0, f.err != nil
	}
	s, err := f.tx.Summary(f.key)
	n = s.Visible[stringField]
	return n, err == nil && s.Count(TypeMap) == n
}
