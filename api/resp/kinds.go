package resp

import (
	"iter"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// kind is what commands for keys of any type know of one type: DUMP, SORT, MEMORY and OBJECT. Each
// stands in its type's file.
type kind struct {
	typ crdt.Type
	// count returns of how many parts a value is, and parts passes them: elements, fields with
	// their values, or one without a name. false: a part cannot be shown here.
	count func(tx *embedded.Tx, key string) (n int, shown bool)
	parts func(tx *embedded.Tx, key string) iter.Seq2[string, []byte]
	// countTo is count where that takes long, about, or more than most. Nil: it takes not.
	countTo func(tx *embedded.Tx, key string, most int) int
	// check reports whether a part is one. Nil: whatever has a name that is not too long.
	check func(name string, value []byte) bool
	// put adds a part.
	put func(tx *embedded.Tx, key, name string, value []byte) error
	// encoding is what OBJECT ENCODING says.
	encoding func(tx *embedded.Tx, key string) string
	// sorted tells that SORT takes the parts' names, and sortedValues that it takes their values.
	sorted, sortedValues bool
	// ordered tells that they have an order, which SORT keeps if it is told to sort by nothing.
	ordered bool
}

var kinds = []kind{stringKind, bitmapKind, hyperLogLogKind, setKind, zsetKind, hashKind, listKind, streamKind,
	fieldTimesKind}

// kindOf returns what is known of a type, nil if nothing is.
func kindOf(t crdt.Type) *kind {
	for i := range kinds {
		if kinds[i].typ == t {
			return &kinds[i]
		}
	}
	return nil
}

// countParts counts what a key holds of all types, about, or more than most.
func countParts(tx *embedded.Tx, key string, most int) (n int) {
	for t := range tx.Types(key).All() {
		switch k := kindOf(t); {
		case k == nil:
		case k.countTo != nil:
			n += k.countTo(tx, key, most-n)
		default:
			parts, _ := k.count(tx, key)
			n += parts
		}
	}
	return n
}

// asCells is the encoding of what has a cell for each part.
func asCells(*embedded.Tx, string) string { return "cells" }
