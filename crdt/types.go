package crdt

import (
	"iter"
	"slices"
	"strings"
)

// types is the order in which several types under one name are listed: what holds the most comes
// first. A front-end that can show only one shows the first.
var types = [...]Type{TypeMap, TypeSet, TypeValue, TypeFlag}

// String returns what the type is called: "string", "flag", "set" or "map".
func (t Type) String() string {
	switch t {
	case TypeMap:
		return "map"
	case TypeSet:
		return "set"
	case TypeValue:
		return "string"
	case TypeFlag:
		return "flag"
	}
	return "unknown"
}

// Types is the types of what is stored under one name. It is zero if nothing is. It is not zero if
// something is of a type that only a newer version knows, though none of its methods tells that.
type Types uint8

const unknownType Types = 1 << len(types)

func (ts Types) with(t Type) Types {
	if i := slices.Index(types[:], t); i >= 0 {
		return ts | 1<<i
	}
	return ts | unknownType
}

// Has reports whether t is among them.
func (ts Types) Has(t Type) bool {
	i := slices.Index(types[:], t)
	return i >= 0 && ts&(1<<i) != 0
}

// Only reports whether t is there and nothing else.
func (ts Types) Only(t Type) bool { return ts != 0 && ts == Types(0).with(t) && ts != unknownType }

// First returns the type to show where only one can be: of a map, a set, a string and a flag the
// first that is there. It is zero if there is none.
func (ts Types) First() Type {
	for t := range ts.All() {
		return t
	}
	return 0
}

// All passes them in the order of First.
func (ts Types) All() iter.Seq[Type] {
	return func(yield func(Type) bool) {
		for _, t := range types {
			if ts.Has(t) && !yield(t) {
				return
			}
		}
	}
}

// String lists them.
func (ts Types) String() string {
	var names []string
	for t := range ts.All() {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}
