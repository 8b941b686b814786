package httpapi

import (
	"fmt"
	"net/http"

	"github.com/peerd/peerd/crdt"
)

// spot is a name in a map, or among the keys: where a path of names leads.
type spot struct {
	in   crdt.Fields
	name string
}

// walk follows a path: a key, and the names of fields in nested maps. It returns a problem if a
// name on the way stands for something that is no map.
func walk(keys crdt.Fields, path []octets) (spot, error) {
	in := keys
	for i, name := range path[:len(path)-1] {
		inner, err := fieldsAt(spot{in, string(name)})
		if err != nil {
			return spot{}, fmt.Errorf("path[%d]: %w", i, err)
		}
		in = inner
	}
	return spot{in, string(path[len(path)-1])}, nil
}

// checkType returns a problem if there is something under a name, and nothing of type t.
func checkType(in crdt.Fields, name string, t crdt.Type) error {
	types := in.Types(name)
	if types == 0 || types.Has(t) {
		return nil
	}
	return refuse(http.StatusConflict, "wrong-type", fmt.Sprintf(
		"this is a %s and no %s: delete it first, or use another name",
		types.First(), t))
}

// checkPath returns a problem unless the path can be walked.
func checkPath(path []octets) error {
	if len(path) == 0 {
		return badRequest(`path: name a key, as ["visits"], or a field in it, as ["ann", "mail"]`)
	}
	if len(path) > crdt.MaxDepth {
		return badRequest(fmt.Sprintf("path: %d names (limit %d)", len(path), crdt.MaxDepth))
	}
	return nil
}
