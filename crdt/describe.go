package crdt

// Description says what an operation did, in the words of the types: for people, when it is to be done again by
// hand.
type Description struct {
	Key       string
	Path      []Step // from the key to the cell, or to what was cleared
	Operation string // what was done: see Describe
	Value     []byte // that was set
	Amount    int64  // that was added
	Total     int64  // that its replica has counted there, with Amount
}

// Step is one part of a path: a type, and under a container the name of an element or a field.
type Step struct {
	Type Type
	Name string
}

// Describe says what an operation did: "set" a text, "add" to a counter, "insert" an element, "enable" a flag, "remove"
// what was in a cell, "clear" all under the path, or "reset", which a clear of counters leaves and nobody has to do
// again. It is "unknown" for what a later version writes.
func Describe(op Op) Description {
	d := Description{}
	name, rest, _ := op.Address.CutName()
	d.Key = name
	for {
		t, under, ok := rest.CutType()
		if !ok {
			break
		}
		step := Step{Type: t}
		step.Name, rest, ok = under.CutName()
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
	default:
		d.put(Entry{Payload: op.Payload})
	}
	return d
}

// put says what an entry is.
func (d *Description) put(e Entry) {
	s, counts := share{}, false
	if e.is(kindShare) {
		s, counts = parseShare(e)
	}
	switch {
	case isWrite(e):
		d.Operation = "set"
		_, d.Value = splitWrite(e)
	case counts:
		d.Operation, d.Amount = "add", s.last
		d.Total, _ = s.cum.sub(s.base).value()
	case e.is(kindMember):
		d.Operation = "insert"
	case e.is(kindEnabled):
		d.Operation = "enable"
	case e.is(kindBaseline):
		d.Operation = "reset"
	default:
		d.Operation = "unknown"
	}
}
