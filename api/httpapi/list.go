package httpapi

import (
	"strconv"

	"github.com/peerd/peerd/crdt"
)

// listForm is the form of lists.
var listForm = form{
	typ: crdt.TypeList, member: "items", converter: listConverter{},
	operations: map[string]kind{
		"list.append":  {member: "elements", run: appendElements},
		"list.prepend": {member: "elements", run: prependElements},
		"list.clear":   {run: clearList},
	},
}

type listConverter struct{}

func (listConverter) given(v *value) bool { return v.Items != nil }

func (listConverter) check(*value, int) error { return nil }

// read goes on behind an index.
func (listConverter) read(r *reader, at spot, after *string, limit int, v *value) (next *string, err error) {
	all := []octets{}
	v.Items = &all
	from := 0
	if after != nil {
		last, err := strconv.Atoi(*after)
		if err != nil {
			return nil, badRequest("the cursor is not one of a list")
		}
		from = last + 1
	}
	for i, elem := range at.in.List(at.name).From(from, false) {
		if len(all) == limit {
			last := strconv.Itoa(i - 1)
			return &last, nil
		}
		all = append(all, octets(elem))
		if err := r.spend(1, len(elem)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (listConverter) write(at spot, v *value) error { return insert(at, false, *v.Items) }

// insert puts elements before the first or behind the last, in their order.
func insert(at spot, first bool, elements []octets) error {
	l := at.in.List(at.name)
	n := 0
	if !first {
		n = l.Len()
	}
	values := make([][]byte, len(elements))
	for i, e := range elements {
		values[i] = []byte(e)
	}
	return l.Insert(n, values...)
}

func appendElements(o *operation, at spot) (result, error) {
	n := len(o.Elements)
	return result{Changed: n > 0, Count: &n}, insert(at, false, o.Elements)
}

func prependElements(o *operation, at spot) (result, error) {
	n := len(o.Elements)
	return result{Changed: n > 0, Count: &n}, insert(at, true, o.Elements)
}

func clearList(_ *operation, at spot) (result, error) {
	existed, err := at.in.List(at.name).Clear()
	return result{Changed: existed}, err
}
