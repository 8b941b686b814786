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
		b = f.appendValue(b, name, held.First())
	}
	return append(b, '}')
}

func (f Fields) appendValue(b []byte, name string, t Type) []byte {
	switch t {
	case TypeMap:
		return f.Map(name).appendJSON(b)
	case TypeSet:
		return f.Set(name).appendJSON(b)
	case TypeFlag:
		return append(b, "true"...) // one that is not set is not there
	}
	value, ok := f.String(name).Get()
	switch _, written := f.Register(name).Get(); {
	case !ok:
		return append(b, "null"...) // entries that only a newer version can read
	case written:
		return appendText(b, string(value))
	}
	return append(b, value...) // a sum
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

func appendText(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string has no reason to fail
	return append(b, quoted...)
}
