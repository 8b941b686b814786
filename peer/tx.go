package peer

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/replica"
)

// Tx is a transaction: a consistent view of the peer's data, with its own writes on top. Its embedded
// Fields give typed handles on keys: tx.Counter("visits").Add(1). It is used by the function that it was
// passed to, on one goroutine, and not after it returned.
type Tx struct {
	crdt.Fields
	base keyed
}

// keyed is a transaction or a view of the core.
type keyed interface {
	crdt.Tx
	Keys(prefix, after string, fn func(key string, s crdt.Summary) bool) error
	KeyCount() (int, error)
}

// updating is what an Update's function works on, also where its writes are refused.
type updating interface {
	keyed
	Context() crdt.VersionVector
}

var (
	_ updating = (*replica.Tx)(nil)
	_ updating = (*readingTx)(nil)
	_ keyed    = (*replica.View)(nil)
)

func newTx(base keyed) *Tx { return &Tx{Fields: crdt.Root(base), base: base} }

// Base returns the transaction that the handles work on, for types of one's own.
func (tx *Tx) Base() crdt.Tx { return tx.base }

// Keys calls fn with each key that exists, begins with prefix and comes after the given one, in order,
// until fn returns false. The summary tells its types and how many cells it has. Keys of more than 256
// bytes sort by their first 128.
func (tx *Tx) Keys(prefix, after string, fn func(key string, s crdt.Summary) bool) error {
	return tx.base.Keys(prefix, after, fn)
}

// KeyCount returns the number of keys that exist. O(1).
func (tx *Tx) KeyCount() (int, error) { return tx.base.KeyCount() }
