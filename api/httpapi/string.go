package httpapi

import (
	"slices"

	"github.com/peerd/peerd/crdt"
)

// stringForm is the form of strings: registers, counters, and what is both.
var stringForm = form{
	typ: crdt.TypeString, member: "value", replaces: true, converter: stringConverter{},
	operations: map[string]kind{
		"string.set":     {member: "value", run: setString},
		"string.add":     {member: "by", run: addString},
		"register.set":   {member: "value", run: setRegister},
		"register.clear": {run: clearRegister},
		"counter.add":    {member: "by", run: addCounter},
		"counter.reset":  {run: resetCounter},
	},
}

type stringConverter struct{}

func (stringConverter) given(v *value) bool { return v.Value != nil || v.Values != nil }

func (stringConverter) check(v *value, _ int) error {
	if v.Value == nil {
		return badRequest("a string needs value")
	}
	if slices.ContainsFunc(v.Values, func(text octets) bool { return text != *v.Value }) {
		return badRequest("values: a string is put as one text, which replaces those that are there; " +
			"send it as value, and leave values out")
	}
	return nil
}

func (stringConverter) read(r *reader, at spot, _ *string, _ int, v *value) (*string, error) {
	s := at.in.String(at.name)
	text, _ := s.Get()
	if err := r.spend(0, len(text)); err != nil {
		return nil, err
	}
	v.Value = new(octets(text))
	if !r.conflicts {
		return nil, nil
	}
	for text := range s.All() {
		if err := r.spend(0, len(text)); err != nil {
			return nil, err
		}
		v.Values = append(v.Values, octets(text))
	}
	return nil, nil
}

func (stringConverter) write(at spot, v *value) error {
	return at.in.String(at.name).Set([]byte(*v.Value))
}

func setString(o *operation, at spot) (result, error) {
	return result{Changed: true}, at.in.String(at.name).Set([]byte(*o.Value))
}

func addString(o *operation, at spot) (result, error) {
	return add(o, at, at.in.String(at.name).Add)
}

func setRegister(o *operation, at spot) (result, error) {
	return result{Changed: true}, at.in.Register(at.name).Set([]byte(*o.Value))
}

func clearRegister(_ *operation, at spot) (result, error) {
	existed, err := at.in.Register(at.name).Clear()
	return result{Changed: existed}, err
}

func addCounter(o *operation, at spot) (result, error) {
	return add(o, at, at.in.Counter(at.name).Add)
}

// add adds. To add 0 to what is not there makes it, as in Redis.
func add(o *operation, at spot, fn func(int64) (int64, error)) (result, error) {
	_, existed := at.in.String(at.name).Get()
	n, err := fn(*o.By)
	return result{Changed: *o.By != 0 || !existed, Value: &n}, err
}

func resetCounter(_ *operation, at spot) (result, error) {
	n := at.in.Counter(at.name).Get()
	_, err := at.in.Counter(at.name).Clear()
	return result{Changed: n != 0}, err
}
