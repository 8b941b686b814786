package httpapi

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
)

// hyperLogLogForm is the form of HyperLogLogs.
var hyperLogLogForm = form{
	typ: crdt.TypeHyperLogLog, member: "registers", converter: hyperLogLogConverter{},
	operations: map[string]kind{"hyperloglog.add": {member: "elements", run: countElements}},
}

type hyperLogLogConverter struct{}

func (hyperLogLogConverter) given(v *value) bool { return v.Registers != nil }

func (hyperLogLogConverter) check(v *value, _ int) error {
	if n := len(crdt.Registers{}); len(v.Registers) != n {
		return badRequest(fmt.Sprintf("registers: %d bytes, and not %d", len(v.Registers), n))
	}
	if !(*crdt.Registers)(v.Registers).Possible() {
		return badRequest("registers: no elements lead to one beyond 51")
	}
	return nil
}

func (hyperLogLogConverter) read(r *reader, at spot, _ *string, _ int, v *value) (*string, error) {
	all, _ := at.in.HyperLogLog(at.name).Get()
	n := all.Count()
	v.Count, v.Registers = &n, all[:]
	return nil, r.spend(0, len(all))
}

func (hyperLogLogConverter) write(at spot, v *value) error {
	_, err := at.in.HyperLogLog(at.name).Merge((*crdt.Registers)(v.Registers))
	return err
}

func countElements(o *operation, at spot) (result, error) {
	elems := make([]string, 0, len(o.Elements))
	for _, e := range o.Elements {
		elems = append(elems, string(e))
	}
	changed, err := at.in.HyperLogLog(at.name).Add(elems...)
	return result{Changed: changed}, err
}
