package httpapi

import "github.com/peerd/peerd/crdt"

// flagForm is the form of flags.
var flagForm = form{
	typ: crdt.TypeFlag, member: "enabled", converter: flagConverter{},
	operations: map[string]kind{
		"flag.enable":  {run: enableFlag},
		"flag.disable": {run: disableFlag},
	},
}

type flagConverter struct{}

func (flagConverter) given(v *value) bool { return v.Enabled != nil }

func (flagConverter) check(*value, int) error { return nil }

func (flagConverter) read(_ *reader, at spot, _ *string, _ int, v *value) (*string, error) {
	on := at.in.Flag(at.name).Get()
	v.Enabled = &on
	return nil, nil
}

func (flagConverter) write(at spot, v *value) error {
	if !*v.Enabled {
		return nil
	}
	return at.in.Flag(at.name).Set(true)
}

func enableFlag(_ *operation, at spot) (result, error) {
	on := at.in.Flag(at.name).Get()
	return result{Changed: !on}, at.in.Flag(at.name).Set(true)
}

func disableFlag(_ *operation, at spot) (result, error) {
	on := at.in.Flag(at.name).Get()
	return result{Changed: on}, at.in.Flag(at.name).Set(false)
}
