package crdt

import "encoding/json"

// MarshalJSON returns what readers see, to look at or to serve: an object of keys. Strings and
// registers are strings, counters numbers, flags true, sets arrays, maps objects; of several
// types under one name there is the first of Types.First, and of concurrent values the one that
// Get shows. Bytes that are no UTF-8 are replaced. It does not fail.
//
// There is no way back: what makes the state mergeable is not in it. See MarshalBinary for that.
func (s *State) MarshalJSON() ([]byte, error) { return s.View().appendJSON(nil), nil }

func (f Fields) appendJSON(b []byte) []byte {
	b = append(b, '{')
	first := true
	for name, held := range f.All() {
		if held.First() == 0 {
			continue // of a newer version
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, name), ':')
		b = f.handle(name, held.First()).appendJSON(b)
	}
	return append(b, '}')
}

// handle returns the handle of what is stored with type t under name; nil if only a newer version
// knows the type.
func (f Fields) handle(name string, t Type) handle {
	for i := range types {
		if types[i].Type == t {
			return types[i].handle(f.named(name).typed(t))
		}
	}
	return nil
}

func appendText(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string has no reason to fail
	return append(b, quoted...)
}
