package httpapi

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
)

// mapForm is the form of maps.
var mapForm = form{
	typ: crdt.TypeMap, member: "fields", converter: mapConverter{},
	operations: map[string]kind{
		"map.clear": {run: clearMap},
	},
}

type mapConverter struct{}

func (mapConverter) given(v *value) bool { return v.Fields != nil }

func (mapConverter) check(v *value, depth int) error {
	for i, f := range *v.Fields {
		if f.Name == nil {
			return badRequest(fmt.Sprintf("fields[%d]: needs name", i))
		}
		if err := f.check(depth + 1); err != nil {
			return fmt.Errorf("field %.64q: %w", string(*f.Name), err)
		}
	}
	return nil
}

func (mapConverter) read(r *reader, at spot, after *string, limit int, v *value) (
	next *string, err error) {
	m := at.in.Map(at.name)
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
			inner, err := r.read(spot{m.Fields, n.name}, t)
			if err != nil {
				return nil, err
			}
			all = append(all, field{new(octets(n.name)), inner})
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

func (mapConverter) write(at spot, v *value) error {
	fields := at.in.Map(at.name).Fields
	for _, f := range *v.Fields {
		if err := formOf(f.Type).write(spot{fields, string(*f.Name)}, &f.value); err != nil {
			return err
		}
	}
	return nil
}

// fieldsAt returns what is in the map at a spot, and a problem if there is something else than a
// map.
func fieldsAt(at spot) (crdt.Fields, error) {
	err := checkType(at.in, at.name, crdt.TypeMap)
	return at.in.Map(at.name).Fields, err
}

func clearMap(_ *operation, at spot) (result, error) {
	existed, err := at.in.Map(at.name).Clear()
	return result{Changed: existed}, err
}
