package delta

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Description says what an operation did, in the words of the types: for people, when it is to be done again by
// hand.
type Description struct {
	Key           string
	Path          []Step // from the key to the cell, or to what was cleared; of a share to its string
	dotted.Effect        // what was done: see Describe
}

// Step is one part of a path: a type, and under a container the name of an element or a field, as people write it.
type Step struct {
	Type crdt.Type
	Name string
}

// Describe says what an operation did: "set" a text, "add" to a counter, "insert" an element, "enable" a flag, "remove"
// what was in a cell, "clear" all under the path, or "reset", which a clear of counters leaves and nobody has to do
// again. It is "unknown" for what nobody does by hand: see dotted.Effect.
func Describe(op Op) Description {
	d := Description{}
	at := op.Address
	if counter, _, ok := at.CutShare(); ok {
		at = counter
	}
	name, rest, _ := at.CutName()
	d.Key = name
	for {
		t, under, ok := rest.CutType()
		if !ok {
			break
		}
		step := Step{Type: t}
		step.Name, rest, ok = under.CutName()
		step.Name = dotted.ShownName(t, step.Name)
		d.Path = append(d.Path, step)
		if !ok {
			break
		}
	}
	switch op.Kind {
	case OpRemove:
		d.Operation = "remove"
	case OpClear:
		d.Operation = "clear"
	case OpEnd:
		d.Operation = "end"
	case OpBase:
		d.Operation = "base"
	default:
		d.Effect = dotted.Lent.Effect(op.Address, op.Payload)
	}
	return d
}
