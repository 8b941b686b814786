package crdt

import (
	"iter"
	"slices"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// Type tells what is stored under a name. Its String is "string", "flag", "set" or "map".
type Type = dotted.Type

const (
	// TypeValue is a register, a counter, or both: a string.
	TypeValue = dotted.TypeValue
	// TypeFlag is a flag.
	TypeFlag = dotted.TypeFlag
	// TypeSet is a set of elements.
	TypeSet = dotted.TypeSet
	// TypeMap is a map with fields of any type.
	TypeMap = dotted.TypeMap
)

// types is the order in which several types under one name are listed: what holds the most comes
// first. A front-end that can show only one shows the first.
var types = [...]Type{TypeMap, TypeSet, TypeValue, TypeFlag}

// Types is the types of what is stored under one name. It is zero if nothing is. It is not zero if
// something is of a type that only a newer version knows, though none of its methods tells that.
type Types uint8

const unknownType Types = 1 << len(types)

// With returns them with t among them.
func (ts Types) With(t Type) Types {
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
func (ts Types) Only(t Type) bool { return ts != 0 && ts == Types(0).With(t) && ts != unknownType }

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

// typesOf returns the types of what is stored under a key.
func typesOf(s dotted.Summary) (held Types) {
	for t := range s.Types() {
		held = held.With(t)
	}
	return held
}
