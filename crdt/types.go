package crdt

import (
	"iter"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// Type tells what is stored under a name. Its String is "string", "set" and so on; Redis
// returns what the Redis protocol calls it.
type Type = dotted.Type

const (
	// TypeString is a register, a counter, or both: a string.
	TypeString Type = 'v'
	// TypeFlag is a flag.
	TypeFlag Type = 'f'
	// TypeSet is a set of elements.
	TypeSet Type = 's'
	// TypeSortedSet is a set of elements with scores.
	TypeSortedSet Type = 'z'
	// TypeBitmap is a string in chunks: a bitmap.
	TypeBitmap Type = 'b'
	// TypeHyperLogLog is a HyperLogLog.
	TypeHyperLogLog Type = 'h'
	// TypeMap is a map with fields of any type.
	TypeMap Type = 'm'
	// TypeList is a list of values.
	TypeList Type = 'L'
	// TypeStream is a stream of entries, with its groups.
	TypeStream Type = 'X'
)

// types are all that there are: whoever adds one writes an entry here, and a file named for it that
// has its handle with its readings and writes, and Fields' method that returns it. The front-ends
// have a file for it each.
//
// They are in the order in which several types under one name are listed: what holds the most comes
// first. A front-end that can show only one shows the first.
var types = [...]struct {
	dotted.Kind
	handle func(ref) handle
}{{
	dotted.Kind{Type: TypeMap, Name: "map", Redis: dotted.Redis{Name: "hash", Event: "hset"},
		Holds: dotted.HoldsFields},
	func(n ref) handle { return Map{Fields{n}} },
}, {
	dotted.Kind{Type: TypeSet, Name: "set", Redis: dotted.Redis{Name: "set", Event: "sadd"},
		Holds: dotted.HoldsElements},
	func(n ref) handle { return Set{n} },
}, {
	dotted.Kind{Type: TypeSortedSet, Name: "sorted-set", Redis: dotted.Redis{Name: "zset", Event: "zadd"},
		Holds: dotted.HoldsElements, Order: func(name string, c dotted.Cell) string { return orderKey(scoreIn(c), name) }},
	func(n ref) handle { return SortedSet{n} },
}, {
	dotted.Kind{Type: TypeList, Name: "list", Redis: dotted.Redis{Name: "list", Event: "rpush"},
		Holds: dotted.HoldsElements, Order: positionOf},
	func(n ref) handle { return List{n} },
}, {
	dotted.Kind{Type: TypeStream, Name: "stream", Redis: dotted.Redis{Name: "stream", Event: "xadd"},
		Holds: dotted.HoldsElements, Order: func(id string, _ dotted.Cell) string { return id }, Shown: shownID},
	func(n ref) handle { return Stream{n} },
}, {
	dotted.Kind{Type: TypeString, Name: "string", Redis: dotted.Redis{Name: "string", Event: "set"},
		Holds: dotted.HoldsShares},
	func(n ref) handle { return String{n} },
}, {
	dotted.Kind{Type: TypeBitmap, Name: "bitmap", Redis: dotted.Redis{Name: "string", Event: "setbit"},
		Holds: dotted.HoldsElements, Shown: shownChunk},
	func(n ref) handle { return Bitmap{n} },
}, {
	dotted.Kind{Type: TypeHyperLogLog, Name: "hyperloglog", Redis: dotted.Redis{Name: "string", Event: "pfadd"},
		Holds: dotted.HoldsElements},
	func(n ref) handle { return HyperLogLog{n} },
}, {
	dotted.Kind{Type: TypeFlag, Name: "flag", Redis: dotted.Redis{Name: "flag", Event: "set"}},
	func(n ref) handle { return Flag{n} },
}}

// handle is what every type has.
type handle interface {
	// appendJSON appends what readers see. There is something visible.
	appendJSON(b []byte) []byte
	// copyTo writes what readers see under a name where there is nothing.
	copyTo(to Fields, name string) error
}

func init() {
	for _, t := range types {
		dotted.Define(t.Kind)
	}
}

// bitOf returns the bit of a type among Types.
func bitOf(t Type) Types {
	for i := range types {
		if types[i].Type == t {
			return 1 << i
		}
	}
	return unknownType
}

// Types is the types of what is stored under one name: nearly always one, as several come about
// only where replicas make one name at once with different types. It is zero if nothing is stored.
// It is not zero if something is of a type that only a newer version knows, though none of its
// methods tells that.
type Types uint16

const unknownType Types = 1 << len(types)

// With returns them with t among them.
func (ts Types) With(t Type) Types { return ts | bitOf(t) }

// Has reports whether t is among them.
func (ts Types) Has(t Type) bool {
	bit := bitOf(t)
	return bit != unknownType && ts&bit != 0
}

// Only reports whether t is there and nothing else.
func (ts Types) Only(t Type) bool { return ts.Has(t) && ts == bitOf(t) }

// First returns the type to show where only one can be: in the order map, set, sorted set, list, stream, string,
// bitmap, HyperLogLog, flag the first that is there. It is zero if there is none.
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
			if ts.Has(t.Type) && !yield(t.Type) {
				return
			}
		}
	}
}

// String lists them in the order of First, as "map, string".
func (ts Types) String() string {
	var names []string
	for t := range ts.All() {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}
