package httpapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// operation is one of those of a transaction. Which members it has depends on Op: see operations.
type operation struct {
	Op       string   `json:"op"`
	Path     []octets `json:"path"`
	Prefix   *octets  `json:"prefix"`
	Value    *octets  `json:"value"`
	By       *int64   `json:"by"`
	Elements []octets `json:"elements"`
}

// result is what an operation did.
type result struct {
	// Changed tells whether there is something else to read than before.
	Changed bool `json:"changed"`
	// Count is how many elements, or keys, that concerns.
	Count *int `json:"count,omitempty"`
	// Value is the sum, after an addition.
	Value *int64 `json:"value,omitempty"`
}

// kind is how an operation is done, and what it needs beside a path.
type kind struct {
	typ     crdt.Type // of what it works on; zero: any
	member  string    // value, by, elements: required
	run     func(o *operation, at spot) (result, error)
	special func(o *operation, tx *peer.Tx) (result, []string, error) // instead of run
}

// operations are all that there are.
var operations = map[string]kind{
	"string.set":     {typ: crdt.TypeValue, member: "value", run: setString},
	"string.add":     {typ: crdt.TypeValue, member: "by", run: addString},
	"register.set":   {typ: crdt.TypeValue, member: "value", run: setRegister},
	"register.clear": {typ: crdt.TypeValue, run: clearRegister},
	"counter.add":    {typ: crdt.TypeValue, member: "by", run: addCounter},
	"counter.reset":  {typ: crdt.TypeValue, run: resetCounter},
	"flag.enable":    {typ: crdt.TypeFlag, run: enableFlag},
	"flag.disable":   {typ: crdt.TypeFlag, run: disableFlag},
	"set.add":        {typ: crdt.TypeSet, member: "elements", run: addElements},
	"set.remove":     {typ: crdt.TypeSet, member: "elements", run: removeElements},
	"set.clear":      {typ: crdt.TypeSet, run: clearSet},
	"map.clear":      {typ: crdt.TypeMap, run: clearMap},
	"delete":         {run: deleteName, special: deletePrefix},
}

// check returns a problem if the operation is not one that could be done.
func (o *operation) check() error {
	k, ok := operations[o.Op]
	if !ok {
		return badRequest(fmt.Sprintf("there is no operation %q: there are %s", o.Op,
			strings.Join(slices.Sorted(maps.Keys(operations)), ", ")))
	}
	for _, m := range []struct {
		name  string
		given bool
	}{{"value", o.Value != nil}, {"by", o.By != nil}, {"elements", o.Elements != nil}} {
		switch {
		case m.name == k.member && !m.given:
			return badRequest(o.Op + " needs " + m.name)
		case m.name != k.member && m.given:
			return badRequest(o.Op + " takes no " + m.name)
		}
	}
	if o.Prefix == nil {
		return checkPath(o.Path)
	}
	if k.special == nil || o.Path != nil {
		return badRequest("prefix is for delete, in place of path")
	}
	return nil
}

// do does the operation, and returns the keys that it wrote to.
func (o *operation) do(tx *peer.Tx) (result, []string, error) {
	k := operations[o.Op]
	if o.Prefix != nil {
		return k.special(o, tx)
	}
	at, err := walk(tx.Fields, o.Path)
	if err != nil {
		return result{}, nil, err
	}
	if k.typ != 0 {
		if err := checkType(at.in, at.name, k.typ); err != nil {
			return result{}, nil, err
		}
	}
	r, err := k.run(o, at)
	return r, []string{string(o.Path[0])}, err
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

func enableFlag(_ *operation, at spot) (result, error) {
	on := at.in.Flag(at.name).Get()
	return result{Changed: !on}, at.in.Flag(at.name).Set(true)
}

func disableFlag(_ *operation, at spot) (result, error) {
	on := at.in.Flag(at.name).Get()
	return result{Changed: on}, at.in.Flag(at.name).Set(false)
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

func clearMap(_ *operation, at spot) (result, error) {
	existed, err := at.in.Map(at.name).Clear()
	return result{Changed: existed}, err
}

func deleteName(_ *operation, at spot) (result, error) {
	existed, err := at.in.Remove(at.name)
	return result{Changed: existed}, err
}

// deletePrefix deletes all keys that begin with a prefix.
func deletePrefix(o *operation, tx *peer.Tx) (result, []string, error) {
	var keys []string
	for key := range tx.Keys(string(*o.Prefix), "") {
		if keys = append(keys, key); len(keys) > MaxOperations {
			break
		}
	}
	if len(keys) > MaxOperations {
		return result{}, nil, fmt.Errorf("more than %d keys (MaxOperations) begin with the prefix: "+
			"delete them in parts: %w", MaxOperations, peer.ErrTooLarge)
	}
	for _, key := range keys {
		if _, err := tx.Remove(key); err != nil {
			return result{}, nil, err
		}
	}
	n := len(keys)
	return result{Changed: n > 0, Count: &n}, keys, nil
}
