package httpapi

import "github.com/peerd/peerd/crdt"

// setForm is the form of sets.
var setForm = form{
	typ: crdt.TypeSet, member: "elements", converter: setConverter{},
	operations: map[string]kind{
		"set.add":    {member: "elements", run: addElements},
		"set.remove": {member: "elements", run: removeElements},
		"set.clear":  {run: clearSet},
	},
}

type setConverter struct{}

func (setConverter) given(v *value) bool { return v.Elements != nil }

func (setConverter) check(*value, int) error { return nil }

func (setConverter) read(r *reader, at spot, after *string, limit int, v *value) (
	next *string, err error) {
	all := []octets{}
	v.Elements = &all
	s := at.in.Set(at.name)
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

func (setConverter) write(at spot, v *value) error {
	for _, elem := range *v.Elements {
		if _, err := at.in.Set(at.name).Add(string(elem)); err != nil {
			return err
		}
	}
	return nil
}

func addElements(o *operation, at spot) (result, error) {
	return countEach(o.Elements, at.in.Set(at.name).Add)
}

func removeElements(o *operation, at spot) (result, error) {
	return countEach(o.Elements, at.in.Set(at.name).Remove)
}

func countEach(elements []octets, fn func(string) (bool, error)) (result, error) {
	n := 0
	for _, e := range elements {
		changed, err := fn(string(e))
		if err != nil {
			return result{}, err
		}
		if changed {
			n++
		}
	}
	return result{Changed: n > 0, Count: &n}, nil
}

func clearSet(_ *operation, at spot) (result, error) {
	existed, err := at.in.Set(at.name).Clear()
	return result{Changed: existed}, err
}
