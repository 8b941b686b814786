package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Fields returns the keys of a Tx or a View as package crdt's types: the only way in which users' functions see them.
func Fields(tx dotted.Tx) (keys crdt.Fields) {
	dotted.Lent.Bind(&keys, tx)
	return keys
}
