package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/peerd/peerd/crdt"
)

// value is what is stored under a name, of one type: one of crdt's, and with it
// the member that the type has. PUT takes what GET answers.
type value struct {
	Type string `json:"type"`
	// Value is a string as it reads, the increments that were counted on it included.
	Value *octets `json:"value,omitempty"`
	// Values is how a string reads with each of the concurrent texts, in the order of their dots.
	// In a body they may be there if they say what Value says: others would be lost without a
	// word.
	Values  []octets `json:"values,omitempty"`
	Enabled *bool    `json:"enabled,omitempty"`
	// Elements are in order.
	Elements *[]octets `json:"elements,omitempty"`
	// Scores are those of a sorted set, in the order of its elements.
	Scores *[]scored `json:"scores,omitempty"`
	// Bytes are a bitmap's.
	Bytes *octets `json:"bytes,omitempty"`
	// Registers are a HyperLogLog's, a byte each, and Count what they estimate, which a body need
	// not have.
	Registers []byte `json:"registers,omitempty"`
	Count     *int64 `json:"count,omitempty"`
	// Items are those of a list.
	Items *[]octets `json:"items,omitempty"`
	// Entries are a stream's, in the order of their ids.
	Entries *[]streamEntry `json:"entries,omitempty"`
	// Fields are in order. With conflicts a field of several types is there several times.
	Fields *[]field `json:"fields,omitempty"`
}

// field is a field of a map. Its name is not nil once it is checked.
type field struct {
	Name *octets `json:"name"`
	value
}

// errTooMuch is the answer to a read of more than one answer holds.
var errTooMuch = refuse(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf(
	"the answer exceeds %d elements and fields (MaxItems) or %d bytes (MaxAnswer): "+
		"ask for less with limit, or for a field with path", MaxItems, MaxAnswer))

// reader reads values for one answer.
type reader struct {
	conflicts bool
	items     int // left
	bytes     int
	share     *share
}

func newReader(conflicts bool, share *share) *reader {
	return &reader{conflicts: conflicts, items: MaxItems, bytes: MaxAnswer, share: share}
}

// spend counts what goes into the answer.
func (r *reader) spend(items, bytes int) error {
	r.items -= items
	r.bytes -= bytes
	if r.items < 0 || r.bytes < 0 {
		return errTooMuch
	}
	return r.share.take(bytes)
}

// read returns what has type t at a spot.
func (r *reader) read(at spot, t crdt.Type) (value, error) {
	v, _, err := r.page(at, t, nil, MaxItems+1)
	return v, err
}

// page reads what has type t at a spot; if that has members, at most limit of them after the given
// one. It returns the last one if there are more.
func (r *reader) page(at spot, t crdt.Type, after *string, limit int) (
	v value, next *string, err error) {
	v.Type = t.String()
	next, err = formOf(v.Type).read(r, at, after, limit, &v)
	return v, next, err
}

// shown returns which of the types under a name are read, in their order.
func (r *reader) shown(types crdt.Types) []crdt.Type {
	shown := slices.Collect(types.All())
	if !r.conflicts {
		return shown[:min(len(shown), 1)]
	}
	return shown
}

// check returns a problem unless v says of one type what it needs, and nothing else. depth is how
// many names are above what v holds.
func (v *value) check(depth int) error {
	own := formOf(v.Type)
	if own == nil {
		return badRequest(fmt.Sprintf("type %q: must be one of %s", v.Type, formNames()))
	}
	switch {
	case !own.given(v):
		return badRequest(fmt.Sprintf("a %s needs %s", v.Type, own.member))
	case depth > crdt.MaxDepth:
		return badRequest(fmt.Sprintf("maps nested deeper than %d names", crdt.MaxDepth))
	}
	for _, f := range forms {
		if f != own && f.given(v) {
			return badRequest(fmt.Sprintf("a %s has nothing of a %s", v.Type, f.typ))
		}
	}
	return own.check(v, depth)
}

// members returns how many members v has, of those in it too: a field that has some does not
// count itself.
func (v *value) members() int {
	n := lenOf(v.Elements) + lenOf(v.Scores) + lenOf(v.Items) + lenOf(v.Entries)
	if v.Fields != nil {
		for i := range *v.Fields {
			n += max((*v.Fields)[i].members(), 1)
		}
	}
	return n
}

// lenOf returns how long a list is; 0 if it is not given.
func lenOf[T any](list *[]T) int {
	if list == nil {
		return 0
	}
	return len(*list)
}

// put makes a name hold v and nothing else.
func (v *value) put(at spot) error {
	types := at.in.Types(at.name)
	f := formOf(v.Type)
	if overwrites := f.replaces && types.Only(f.typ); types != 0 && !overwrites {
		if _, err := at.in.Remove(at.name); err != nil {
			return err
		}
	}
	return f.write(at, v)
}
