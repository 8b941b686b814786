package peer

import (
	"cmp"
	"iter"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Tx is a transaction: a consistent view of the peer's data, with its own writes on top. Its
// embedded Fields are the keys, and give typed handles on them: tx.Counter("visits").Add(1). It is
// used by the function that it was passed to, on one goroutine, and not after it returned.
//
// Reads return no error. If one fails, because the disk does or what it holds is damaged, what the
// transaction reads from then on is empty and what it writes is refused, and View, Update and their
// like return that error, whatever the function returns: nothing has changed. A function that does
// something else with what it read, such as sending it, asks Err before.
type Tx struct {
	crdt.Fields
	base keyed
	err  error // of listing keys
}

// keyed is a transaction or a view of the core.
type keyed interface {
	dotted.Tx
	Keys(prefix, after string, fn func(key string, s dotted.Summary) bool) error
	KeyCount() (int, error)
}

var (
	_ keyed = (*engine.Tx)(nil)
	_ keyed = (*engine.View)(nil)
)

func newTx(base keyed) *Tx { return &Tx{Fields: engine.Fields(base), base: base} }

// run runs a transaction's function. A read that failed counts for more than what the function made
// of it.
func (tx *Tx) run(fn func(*Tx) error) error {
	err := fn(tx)
	return cmp.Or(tx.Err(), err)
}

// Err returns why a read of the transaction failed: the first that did, or nil.
func (tx *Tx) Err() error { return cmp.Or(tx.Fields.Err(), tx.err) }

// Len returns the number of keys that exist. O(1).
func (tx *Tx) Len() int {
	n, err := tx.base.KeyCount()
	tx.err = cmp.Or(tx.err, err)
	return n
}

// All passes the keys that exist, in order, each with its types. The loop may write to them. Keys
// of more than 256 bytes sort by their first 128.
func (tx *Tx) All() iter.Seq2[string, crdt.Types] { return tx.Keys("", "") }

// AllAfter passes the keys greater than the given one, which need not exist, as All does.
func (tx *Tx) AllAfter(key string) iter.Seq2[string, crdt.Types] {
	return func(yield func(string, crdt.Types) bool) {
		for k, types := range tx.Keys("", key) {
			if k != key && !yield(k, types) { // as if it is empty
				return
			}
		}
	}
}

// Keys passes the keys that begin with prefix and are greater than after, as All does. An empty
// after bounds nothing: the empty key is passed too.
func (tx *Tx) Keys(prefix, after string) iter.Seq2[string, crdt.Types] {
	return func(yield func(string, crdt.Types) bool) {
		if tx.base.Replica() == 0 {
			tx.scan(prefix, after, yield)
			return
		}
		tx.inParts(prefix, after, yield)
	}
}

func (tx *Tx) scan(prefix, after string, fn func(string, crdt.Types) bool) {
	if tx.Err() != nil {
		return
	}
	err := tx.base.Keys(prefix, after, func(key string, s dotted.Summary) bool {
		return fn(key, typesOf(s)) && tx.Err() == nil
	})
	tx.err = cmp.Or(tx.err, err)
}

// Part sizes of a loop over keys in a transaction that writes.
const (
	firstPart = 16
	lastPart  = 256
)

// typesOf returns the types of what is stored under a key.
func typesOf(s dotted.Summary) (types crdt.Types) {
	for t := range s.Types() {
		types = types.With(t)
	}
	return types
}

// inParts reads some keys before the loop's body sees them, as what it writes would be in the way
// of a scan.
func (tx *Tx) inParts(prefix, after string, yield func(string, crdt.Types) bool) {
	type named struct {
		key   string
		types crdt.Types
	}
	for size := firstPart; ; size = min(4*size, lastPart) {
		part := make([]named, 0, size)
		tx.scan(prefix, after, func(key string, types crdt.Types) bool {
			part = append(part, named{key, types})
			return len(part) < size
		})
		for _, n := range part {
			if !yield(n.key, n.types) {
				return
			}
		}
		if len(part) < size {
			return
		}
		after = part[size-1].key
	}
}
