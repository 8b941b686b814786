package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/peerd/peerd/crdt"
)

// value is what is stored under a name, of one type: "string", "flag", "set" or "map", and with it
// the member that the type has. PUT takes what GET answers.
type value struct {
	Type string `json:"type"`
	// Value is a string as it reads, the increments that were counted on it included.
	Value *octets `json:"value,omitempty"`
	// Values is how a string reads with each of the concurrent texts, in the order of their dots. In a
	// body they may be there if they say what Value says: others would be lost without a word.
	Values  []octets `json:"values,omitempty"`
	Enabled *bool    `json:"enabled,omitempty"`
	// Elements are in order.
	Elements *[]octets `json:"elements,omitempty"`
	// Fields are in order. With conflicts a field of several types is there several times.
	Fields *[]field `json:"fields,omitempty"`
}

// field is a field of a map.
type field struct {
	Name octets `json:"name"`
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

// read returns what has type t under a name.
func (r *reader) read(in crdt.Fields, name string, t crdt.Type) (v value, err error) {
	v.Type = t.String()
	switch t {
	case crdt.TypeValue:
		err = r.text(in.String(name), &v)
	case crdt.TypeFlag:
		on := in.Flag(name).Get()
		v.Enabled = &on
	case crdt.TypeSet:
		_, err = r.elements(in.Set(name), nil, MaxItems+1, &v)
	case crdt.TypeMap:
		_, err = r.fields(in.Map(name), nil, MaxItems+1, &v)
	}
	return v, err
}

func (r *reader) text(s crdt.String, v *value) error {
	text, _ := s.Get()
	shown := octets(text)
	v.Value = &shown
	size := len(text)
	if r.conflicts {
		for text := range s.All() {
			v.Values = append(v.Values, octets(text))
			size += len(text)
		}
	}
	return r.spend(0, size)
}

// elements reads at most limit elements after the given one. It returns the last one if there are
// more.
func (r *reader) elements(s crdt.Set, after *string, limit int, v *value) (
	next *string, err error) {
	all := []octets{}
	v.Elements = &all
	elems := s.All()
	if after != nil {
		elems = s.AllAfter(*after)
	}
	for elem := range elems {
		if len(all) == limit {
			last := string(all[limit-1])
			return &last, nil
		}
		all = append(all, octets(elem))
		if err := r.spend(1, len(elem)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// fields reads at most limit fields after the given one, as elements does.
func (r *reader) fields(m crdt.Map, after *string, limit int, v *value) (next *string, err error) {
	all := []field{}
	v.Fields = &all
	names, next, err := r.names(m, after, limit)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		for _, t := range r.shown(n.types) {
			if err := r.spend(1, 0); err != nil {
				return nil, err
			}
			inner, err := r.read(m.Fields, n.name, t)
			if err != nil {
				return nil, err
			}
			all = append(all, field{octets(n.name), inner})
		}
	}
	return next, nil
}

// named is a name in a map, with the types under it.
type named struct {
	name  string
	types crdt.Types
}

// names reads the names of at most limit fields, and spends what they take.
func (r *reader) names(m crdt.Map, after *string, limit int) (
	all []named, next *string, err error) {
	names := m.All()
	if after != nil {
		names = m.AllAfter(*after)
	}
	for name, types := range names {
		if len(all) == limit {
			return all, &all[limit-1].name, nil
		}
		all = append(all, named{name, types})
		if err := r.spend(0, len(name)); err != nil {
			return nil, nil, err
		}
		if len(all) > r.items {
			break
		}
	}
	return all, nil, nil
}

// shown returns which of the types under a name are read, in their order.
func (r *reader) shown(types crdt.Types) []crdt.Type {
	shown := slices.Collect(types.All())
	if !r.conflicts {
		return shown[:min(len(shown), 1)]
	}
	return shown
}
