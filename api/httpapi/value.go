package httpapi

import (
	"cmp"
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

var typeNames = map[crdt.Type]string{
	crdt.TypeMap: "map", crdt.TypeSet: "set", crdt.TypeValue: "string", crdt.TypeFlag: "flag",
}

// byPriority is the order of Fields.Types: of several types a plain read shows the first.
var byPriority = []crdt.Type{crdt.TypeMap, crdt.TypeSet, crdt.TypeValue, crdt.TypeFlag}

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
	v.Type = typeNames[t]
	switch t {
	case crdt.TypeValue:
		err = r.text(in.String(name), &v)
	case crdt.TypeFlag:
		on, err := in.Flag(name).Enabled()
		v.Enabled = &on
		return v, err
	case crdt.TypeSet:
		_, err = r.elements(in.Set(name), nil, MaxItems+1, &v)
	case crdt.TypeMap:
		_, err = r.fields(in.Map(name), nil, MaxItems+1, &v)
	}
	return v, err
}

func (r *reader) text(s crdt.String, v *value) error {
	text, _, err := s.Get()
	if err != nil {
		return err
	}
	shown := octets(text)
	v.Value = &shown
	size := len(text)
	if r.conflicts {
		all, err := s.Values()
		if err != nil {
			return err
		}
		for _, text := range all {
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
	var full error
	visit := func(elem string) bool {
		if len(all) == limit {
			last := string(all[limit-1])
			next = &last
			return false
		}
		all = append(all, octets(elem))
		full = r.spend(1, len(elem))
		return full == nil
	}
	if after == nil {
		err = s.Range(visit)
	} else {
		err = s.RangeAfter(*after, visit)
	}
	return next, cmp.Or(err, full)
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
	types []crdt.Type
}

// names reads the names of at most limit fields, and spends what they take.
func (r *reader) names(m crdt.Map, after *string, limit int) (
	all []named, next *string, err error) {
	var full error
	visit := func(name string, t crdt.Type) bool {
		if n := len(all); n > 0 && all[n-1].name == name {
			all[n-1].types = append(all[n-1].types, t)
			return true
		}
		if len(all) == limit {
			next = &all[limit-1].name
			return false
		}
		all = append(all, named{name, []crdt.Type{t}})
		full = r.spend(0, len(name))
		return full == nil && len(all) <= r.items
	}
	if after == nil {
		err = m.Range(visit)
	} else {
		err = m.RangeAfter(*after, visit)
	}
	return all, next, cmp.Or(err, full)
}

// shown returns which of the types under a name are read, in their order.
func (r *reader) shown(types []crdt.Type) []crdt.Type {
	slices.SortFunc(types, func(a, b crdt.Type) int {
		return slices.Index(byPriority, a) - slices.Index(byPriority, b)
	})
	if !r.conflicts {
		return types[:min(len(types), 1)]
	}
	return types
}
