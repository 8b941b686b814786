package dotted

import "fmt"

// Type tells what is stored under a name: it is one byte of an Address. Which types there are, crdt
// says when it is initialized: see Define.
type Type byte

// Holds is what may follow a type in an address.
type Holds byte

const (
	// HoldsNothing is of a type that is one cell: the address ends.
	HoldsNothing Holds = iota
	// HoldsElements is of a type that has a cell for each name under it.
	HoldsElements
	// HoldsFields is of a type that has names under it, and under each again a type.
	HoldsFields
	// HoldsShares is of a type that is one cell, and has one more for each replica that counted on it.
	HoldsShares
)

// Names reports whether names follow, which end as all names do.
func (h Holds) Names() bool { return h == HoldsElements || h == HoldsFields }

// Kind is what the rest of the code knows of a type, beside how it reads and what can be done with
// it.
type Kind struct {
	Type  Type
	Name  string // what it is called in HTTP, and to people
	Redis Redis
	Holds Holds
	// Order returns where a visible cell, which has a name in its container, stands among the others there: they are in the
	// order of these keys, each of which one cell alone has. Nil: they have no order but that of their names. For what
	// HoldsElements only.
	Order func(name string, c Cell) string
	// Shown returns a name in its container as people write it. Nil: as it is.
	Shown func(name string) string
}

// ShownName returns a name in a container of a type as people write it: the id of an entry of a stream, where a chunk
// of a bitmap begins, in bytes.
func ShownName(in Type, name string) string {
	if shown := kinds[in].Shown; shown != nil {
		return shown(name)
	}
	return name
}

// Redis is a type in the words of the Redis protocol.
type Redis struct {
	Name  string // what TYPE answers
	Event string // what a keyspace notification says of a key that has now this type
}

// kinds are the types that are defined, each at its byte. Of others all is zero.
var kinds [256]Kind

// Define makes types known. crdt does it when it is initialized, and nobody else, so that they are
// listed once, with the rest that a type has. In a program without crdt there is none.
func Define(kind Kind) {
	if kinds[kind.Type].Type != 0 {
		panic(fmt.Sprintf("two types have the byte %q", byte(kind.Type)))
	}
	if kind.Holds == HoldsShares {
		stringType = kind.Type
	}
	kinds[kind.Type] = kind
}

// stringType is the type that holds shares.
var stringType Type

// StringType returns the type of strings, the one that HoldsShares: most keys hold nothing else.
func StringType() Type { return stringType }

// HoldsOf returns what may follow a type in an address. Of one that only a newer version knows it is HoldsNothing: what
// follows is left alone. It is no method, as users of crdt would see it.
func HoldsOf(t Type) Holds { return kinds[t].Holds }

// String returns what the type is called, as in HTTP. One that only a newer version knows is "type"
// and its number.
func (t Type) String() string {
	if name := kinds[t].Name; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Redis returns the type in the words of the Redis protocol; no words for one that only a newer
// version knows.
func (t Type) Redis() Redis { return kinds[t].Redis }
