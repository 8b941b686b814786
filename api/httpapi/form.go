package httpapi

import (
	"strings"

	"github.com/peerd/peerd/crdt"
)

// form is how a type is in JSON, and what can be done with it: a type has one, in a file of its
// own.
type form struct {
	typ    crdt.Type
	member string // of value: what one of the type needs to have
	// replaces is set if write replaces what is there of the type, so that it need not be removed
	// before.
	replaces   bool
	operations map[string]kind
	converter
}

// converter reads and writes the members of value that a type has.
type converter interface {
	// given reports whether v has what a value of the type needs.
	given(v *value) bool
	// check returns a problem if what is given is none; depth as in value.check.
	check(v *value, depth int) error
	// read reads what is at a spot into v: see reader.page.
	read(r *reader, at spot, after *string, limit int, v *value) (next *string, err error)
	// write adds v, which is checked, to what is at a spot.
	write(at spot, v *value) error
}

// forms are those of all types, in the order of crdt.Types.
var forms = []*form{&mapForm, &setForm, &sortedSetForm, &listForm, &streamForm, &stringForm, &bitmapForm,
	&hyperLogLogForm, &flagForm}

// formOf returns the form of the type with a name, nil if there is none.
func formOf(typ string) *form {
	for _, f := range forms {
		if f.typ.String() == typ {
			return f
		}
	}
	return nil
}

// formNames lists the types.
func formNames() string {
	var names []string
	for _, f := range forms {
		names = append(names, f.typ.String())
	}
	return strings.Join(names, ", ")
}
