package httpapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// operation is one of those of a transaction. Which members it has depends on Op: see operations.
type operation struct {
	Op       string     `json:"op"`
	Path     []octets   `json:"path"`
	Prefix   *octets    `json:"prefix"`
	Cursor   string     `json:"cursor"` // of the answer to the step before, with prefix
	Value    *octets    `json:"value"`
	By       *int64     `json:"by"`
	Elements []octets   `json:"elements"`
	Scores   []scored   `json:"scores"`
	Bits     []int64    `json:"bits"`
	Until    *time.Time `json:"until"`

	most   int // keys that a delete by prefix may look at; 0: MaxOperations
	looked int // at how many the last did
}

// result is what an operation did.
type result struct {
	// Changed tells whether there is something else to read than before.
	Changed bool `json:"changed"`
	// Count is how many elements, or keys, that concerns.
	Count *int `json:"count,omitempty"`
	// Value is the sum, after an addition.
	Value *int64 `json:"value,omitempty"`
	// Scores are those of a sorted set, after additions.
	Scores []scored `json:"scores,omitempty"`
	// Cursor is there if a delete by prefix has more to do: the next one brings it.
	Cursor string `json:"cursor,omitempty"`
}

// kind is how an operation is done, and what it needs beside a path.
type kind struct {
	typ     crdt.Type // of what it works on, which is its form's; zero: any
	member  string    // value, by, elements, scores, bits, until: required
	expires bool      // it is on a key, or a field of one, and nothing deeper
	run     func(o *operation, at spot) (result, error)
	special func(o *operation, tx *peer.Tx) (result, []string, error) // instead of run
}

// operations are all that there are.
var operations = allOperations()

func allOperations() map[string]kind {
	all := map[string]kind{"delete": {run: deleteName, special: deletePrefix}}
	maps.Copy(all, expiryOperations)
	for _, f := range forms {
		for name, k := range f.operations {
			k.typ = f.typ
			all[name] = k
		}
	}
	return all
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
	}{{"value", o.Value != nil}, {"by", o.By != nil}, {"elements", o.Elements != nil}, {"scores", o.Scores != nil},
		{"bits", o.Bits != nil}, {"until", o.Until != nil}} {
		switch {
		case m.name == k.member && !m.given:
			return badRequest(o.Op + " needs " + m.name)
		case m.name != k.member && m.given:
			return badRequest(o.Op + " takes no " + m.name)
		}
	}
	if err := checkScores(o.Scores); err != nil {
		return err
	}
	if k.expires && len(o.Path) > 2 {
		return badRequest(o.Op + " is for keys, and for fields of maps that are keys: nothing deeper expires")
	}
	if o.Prefix == nil && o.Cursor != "" {
		return badRequest("cursor is for a delete with prefix")
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

func deleteName(_ *operation, at spot) (result, error) {
	existed, err := at.in.Remove(at.name)
	return result{Changed: existed}, err
}

// maxDeleted is how many bytes of keys a delete by prefix names in one step: a quarter of a
// transaction.
const maxDeleted = peer.MaxCost / 4

// deletePrefix deletes keys that begin with a prefix, from the cursor on: as many as a step may.
func deletePrefix(o *operation, tx *peer.Tx) (result, []string, error) {
	from, err := nameAt(o.Cursor)
	if err != nil {
		return result{}, nil, err
	}
	var keys []string
	most, size, last, more := cmp.Or(o.most, MaxOperations), 0, "", false
	o.looked = 0
	for key, types := range tx.Scan(string(*o.Prefix), from) {
		if more = o.looked == most || size > maxDeleted; more {
			break
		}
		size, last = size+len(key), key
		o.looked++
		if types != 0 { // else it has expired
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if _, err := tx.Remove(key); err != nil {
			return result{}, nil, err
		}
	}
	n := len(keys)
	r := result{Changed: n > 0, Count: &n}
	if more {
		r.Cursor = cursorAt(&last)
	}
	return r, keys, nil
}
