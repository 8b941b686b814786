// Package space divides one store and one log among many owners: the spaces of a host. Each owner
// has a number, and sees a store.Store and a store.Log of its own.
//
// # Idea
//
// A Tree is the part of a store whose keys begin with a number. A Committer stands before the log:
// appends that wait at once, of whatever spaces, become one write, and syncs one fsync. Each record
// begins with its space's number; a reader passes over those of others. The log is cut before what
// the space needs that lags behind most. The Table, in the part of number 0, says which spaces
// there are.
//
// # A space comes and goes
//
// Committer.Begin and Table.Add together give a new space its number, and note where in the log it
// begins, so that what was cut before that is not missed. Table.Drop notes durably that a space is
// given up, Table.Reclaim deletes its records, batch by batch and also after a crash. No number is
// used twice: what the log still has of a dropped space belongs to nobody.
//
// # Caveats
//
// Before any space drops something from the log, all spaces of the Table must have been given
// theirs: what the Committer does not know of holds nothing back.
//
// Closing a Tree or a space's log closes neither the store nor the log below.
//
// The conformance suites in store/storetest run over both parts, alone and beside a space that is
// being written. docs/storage.md has the bytes.
package space

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/peerd/peerd/store"
)

// Number is what a host calls a space on its disk. 0 is the host itself.
type Number uint16

// numberSize is how many bytes a number takes before a key and a record.
const numberSize = 2

// A key may have a number before it: if it may not, this constant is negative.
const _ = uint(store.MaxPrefix - numberSize)

func (n Number) append(b []byte) []byte { return binary.BigEndian.AppendUint16(b, uint16(n)) }

// Tree is the part of a store that belongs to one space. It is a store.Store with the limits of a
// whole one.
type Tree struct {
	under  store.Store
	prefix []byte
	end    []byte // the first key of the next space; nil behind the last
	closed atomic.Bool
	spare  sync.Pool // of *prefixed
}

// prefixed is memory for a batch and its keys.
type prefixed struct {
	batch store.Batch
	keys  []byte
}

// keptKeys is how large a memory for keys a Commit may leave to the next, in bytes.
const keptKeys = 1 << 20

var _ store.Store = (*Tree)(nil)

// NewTree returns a space's part of a store.
func NewTree(under store.Store, n Number) *Tree {
	t := &Tree{under: under, prefix: n.append(nil)}
	if n+1 != 0 {
		t.end = (n + 1).append(nil)
	}
	return t
}

// Snapshot implements store.Store.
func (t *Tree) Snapshot() store.Snapshot {
	view := &snapshot{t, t.under.Snapshot()}
	if t.closed.Load() {
		view.Close()
	}
	return view
}

// Commit implements store.Store. Values are not copied.
func (t *Tree) Commit(b *store.Batch, sync bool) error {
	if t.closed.Load() {
		return store.ErrClosed
	}
	p, _ := t.spare.Get().(*prefixed)
	if p == nil {
		p = &prefixed{}
	}
	p.keys = p.batch.AppendUnder(t.prefix, b, p.keys[:0])
	err := t.under.Commit(&p.batch, sync)
	if p.batch.Reset(); cap(p.keys) <= keptKeys {
		t.spare.Put(p)
	}
	return err
}

// Sync implements store.Store.
func (t *Tree) Sync() error {
	if t.closed.Load() {
		return store.ErrClosed
	}
	return t.under.Sync()
}

// Size implements store.Store: that of the whole store.
func (t *Tree) Size() int64 { return t.under.Size() }

// Close implements store.Store. What lies below stays open, and what was not synced is as durable
// as before.
func (t *Tree) Close() error {
	t.closed.Store(true)
	return nil
}

// snapshot is a view of a Tree.
type snapshot struct {
	tree  *Tree
	under store.Snapshot
}

func (v *snapshot) key(key []byte) []byte {
	return append(append(make([]byte, 0, numberSize+len(key)), v.tree.prefix...), key...)
}

func (v *snapshot) bounds(start, end []byte) (from, to []byte) {
	if to = v.tree.end; end != nil {
		to = v.key(end)
	}
	return v.key(start), to
}

func (v *snapshot) Get(key []byte) (value []byte, ok bool, err error) { return v.under.Get(v.key(key)) }

func (v *snapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	from, to := v.bounds(start, end)
	return v.under.Scan(from, to, func(key, value []byte) bool { return fn(key[numberSize:], value) })
}

func (v *snapshot) ScanKeys(start, end []byte, fn func(key []byte) bool) error {
	from, to := v.bounds(start, end)
	return v.under.ScanKeys(from, to, func(key []byte) bool { return fn(key[numberSize:]) })
}

func (v *snapshot) Close() { v.under.Close() }
