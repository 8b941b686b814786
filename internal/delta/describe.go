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

// Describe says what an operation did: "set" a text, "add" to a counter, "insert" an element,
// "enable" a flag, "expire" and "persist" what is under the path, "remove" what was in a cell,
// "clear" all under the path, "flush" all keys, or "reset" a counter: remove what was counted there
// and leave what was set, which a set and a clear do as well. It is "unknown" for what nobody does
// by hand: see dotted.Effect.
func Describe(op Op) Description {
	at, counted := cutCounted(op.Address)
	d := Description{}
	d.Key, d.Path = pathOf(at)
	if at.IsExpiry() && len(d.Path) > 0 {
		d.Path = d.Path[:len(d.Path)-1]
	}
	switch op.Kind {
	case OpRemove, OpClear:
		d.Operation = removal(op, counted)
	case OpEnd:
		d.Operation = "end"
	case OpBase:
		d.Operation = "base"
	default:
		d.Effect = dotted.Lent.Effect(op.Address, op.Payload)
		if d.Operation == "expire" && d.Amount == dotted.Never {
			d.Operation, d.Amount = "persist", 0
		}
	}
	return d
}

// removal names what a removal or a clear did.
func removal(op Op, counted bool) string {
	switch {
	case counted:
		return "reset"
	case op.Address.IsExpiry():
		return "persist"
	case op.Kind == OpRemove:
		return "remove"
	case op.Address == "":
		return "flush"
	}
	return "clear"
}

// cutCounted returns the string of a share, or of all shares of one. Others are no counted ones.
func cutCounted(a dotted.Address) (at dotted.Address, counted bool) {
	if counter, _, ok := a.CutShare(); ok {
		return counter, true
	}
	if at := a[:max(len(a), 1)-1]; at.IsString() && at.Shares() == a {
		return at, true
	}
	return a, false
}

// pathOf returns the key of an address, and the path from there.
func pathOf(a dotted.Address) (key string, path []Step) {
	key, rest, _ := a.CutName()
	for {
		t, under, ok := rest.CutType()
		if !ok {
			return key, path
		}
		step := Step{Type: t}
		step.Name, rest, ok = under.CutName()
		step.Name = dotted.ShownName(t, step.Name)
		if path = append(path, step); !ok {
			return key, path
		}
	}
}
