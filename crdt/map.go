package crdt

import (
	"iter"

	"github.com/peerd/peerd/internal/dotted"
)

// Map is a map from names to values of any type, nested to any depth within MaxDepth. Its fields
// have no cell of their own: a field is there as long as something under it is. So an update
// inside a field wins over a concurrent removal of the field, or of the whole map.
type Map struct {
	Fields
}

// Map returns the map under name.
func (f Fields) Map(name string) Map { return Map{Fields{f.named(name, TypeMap)}} }

// stringField is the shape of a string in a map.
const stringField = string(TypeMap) + string(TypeString)

// Strings passes the fields that are strings, in order, with how they read. For all of them that
// is less work than asking each. The values must not be changed. The loop's body may change the map:
// what it sees of the next few hundred fields is from before.
func (m Map) Strings() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if m.broken() == nil && m.tx.Replica() == 0 {
			m.walkStrings("", yield)
			return
		}
		var part []field // read before the loop's body sees them: see inParts
		for after, more := dotted.Address(""), true; more; {
			part, more = part[:0], false
			size := 0
			m.walkStrings(after, func(name string, value []byte) bool {
				part, size = append(part, field{name, value}), size+len(value)
				more = len(part) == lastPart || size > partBytes
				return !more
			})
			for _, f := range part {
				if !yield(f.name, f.value) {
					return
				}
			}
			if more {
				after = m.beyond(part[len(part)-1].name)
			}
		}
	}
}

// field is one that is a string.
type field struct {
	name  string
	value []byte
}

// partBytes is about how many bytes of values are read before a loop's body sees the first.
const partBytes = 64 << 10

// walkStrings goes through the cells of the fields beyond an address. Of a string's shares it looks at
// no more than the first few.
func (m Map) walkStrings(after dotted.Address, fn func(string, []byte) bool) {
	_ = m.walk(after, func(name string, t Type, first addressed) bool {
		if t != TypeString {
			return true
		}
		n := m.named(name, t)
		if first.at != n.at {
			first.cell = nil // a share's: the string has no text
		}
		value, ok := n.read(first.cell)
		return !ok || fn(name, value)
	})
}

// Counted reports whether CountStrings goes through no fields: those of a key are counted, unless some
// of them have expiries.
func (m Map) Counted() bool { return m.depth == 1 && !m.fieldsHide() }

// CountStrings returns how many fields are strings. O(1) if they are Counted, else as All.
func (m Map) CountStrings() int {
	if m.Counted() {
		s, _ := m.summary()
		return s.Visible.Of(stringField)
	}
	n := 0
	for _, held := range m.All() {
		if held.Has(TypeString) {
			n++
		}
	}
	return n
}

// flatLen returns the number of fields if each of them is known to have exactly one cell.
func (f Fields) flatLen() (n int, ok bool) {
	if f.depth != 1 || f.fieldsHide() {
		return 0, f.err != nil
	}
	s, err := f.summary()
	n = s.Visible.Of(stringField)
	return n, err != nil || s.Count(TypeMap) == n
}

func (m Map) copyTo(to Fields, name string) error {
	copied := to.Map(name).Fields
	for field, held := range m.All() {
		if err := m.copyEach(field, held, copied, field); err != nil {
			return err
		}
	}
	return nil
}

// withoutHidden returns the types of what is under a key without its map, if all fields of that have expired.
func (n ref) withoutHidden(held Types) Types {
	if held.Has(TypeMap) && n.fieldsHide() {
		if some, _ := n.typed(TypeMap).exists(); !some {
			held &^= bitOf(TypeMap)
		}
	}
	return held
}

// loseFields is lose for all fields of the map that n is, or its key has, if any has an expiry.
func (n ref) loseFields() {
	if key := n.holder(1); (n.typ == 0 || n.typ == TypeMap) && n.tx.fieldsTimed(key.at) {
		n.tx.noteLost(key.at.Type(TypeMap))
	}
}
