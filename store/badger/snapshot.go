package badger

import (
	"bytes"

	dgraph "github.com/dgraph-io/badger/v4"

	"github.com/peerd/peerd/store"
)

// snapshot is a read-only transaction of Badger's, whose reads change nothing in it and so may run
// at once. Both gates are passed by every call: the store's, because Close unmaps what is read
// here, and the snapshot's own, because Badger panics when a transaction ends before its
// iterators.
type snapshot struct {
	s     *Store
	txn   *dgraph.Txn
	known *filter // that has each key of it; nil if there is none
	gate  gate
}

// Snapshot implements store.Store. That of a closed store answers store.ErrClosed.
//
// While a snapshot is open Badger keeps every version that it can see: open it late and close it
// soon.
func (s *Store) Snapshot() store.Snapshot {
	v := &snapshot{s: s}
	v.gate.drained = v.discard
	if !s.gate.enter() {
		v.gate.shut()
		return v
	}
	defer s.gate.leave()
	v.txn, v.known = s.begin()
	return v
}

// begin returns a transaction that reads what is committed, and a filter that has each key of it.
func (s *Store) begin() (txn *dgraph.Txn, known *filter) {
	known = s.presence.whole.Load()
	if s.presence.opening != nil {
		s.presence.opening()
	}
	txn = s.db.NewTransaction(false)
	// One that has come or gone meanwhile may lack what was written before or after.
	if s.presence.whole.Load() != known {
		known = nil
	}
	return txn, known
}

func (v *snapshot) discard() {
	// Badger that is closed has forgotten its transactions, and waits for ever if told of one.
	if v.txn != nil && v.s.gate.enter() {
		v.txn.Discard()
		v.s.gate.leave()
	}
}

func (v *snapshot) Close() { v.gate.shut() }

func (v *snapshot) enter() error {
	if !v.gate.enter() {
		return store.ErrClosed
	}
	if !v.s.gate.enter() {
		v.gate.leave()
		return store.ErrClosed
	}
	return nil
}

func (v *snapshot) leave() {
	v.s.gate.leave()
	v.gate.leave()
}

func (v *snapshot) Get(key []byte) (value []byte, ok bool, err error) {
	if err := v.enter(); err != nil {
		return nil, false, err
	}
	defer v.leave()
	if v.s.presence.absent(v.known, key) {
		return nil, false, nil
	}
	value, ok, err = get(v.txn, prefixData.key(key))
	if err == nil && !ok {
		v.s.missedOne()
	}
	return value, ok, err
}

func (v *snapshot) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	return v.walk(start, end, func(c *cursor, key []byte) (more bool, err error) {
		value, err := c.value()
		if err != nil && v.s.copy {
			return true, nil // parts of it are among what Damage names
		}
		return err == nil && fn(key, value), err
	})
}

func (v *snapshot) ScanKeys(start, end []byte, fn func(key []byte) bool) error {
	return v.walk(start, end, func(_ *cursor, key []byte) (more bool, err error) { return fn(key), nil })
}

// walk stands on each key in [start, end) while it calls fn, until that wants no more.
func (v *snapshot) walk(start, end []byte, fn func(c *cursor, key []byte) (more bool, err error)) error {
	if err := v.enter(); err != nil {
		return err
	}
	defer v.leave()
	c := newCursor(v.txn, prefixData, start, end)
	defer c.close()
	for {
		key, ok, err := c.next()
		if err != nil || !ok {
			return err
		}
		if more, err := fn(c, key); err != nil || !more {
			return err
		}
	}
}

// cursor goes through the records under one prefix in ascending order.
type cursor struct {
	txn     *dgraph.Txn
	it      *dgraph.Iterator
	first   []byte // key of Badger's at which to start
	end     []byte // key of Badger's before which to stop
	started bool
	buf     []byte // of the latest value
}

// newCursor returns a cursor over the keys under a prefix in [start, end); a nil end is no bound.
func newCursor(txn *dgraph.Txn, in prefix, start, end []byte) *cursor {
	c := &cursor{txn: txn, first: in.key(start), end: in.end()}
	if end != nil {
		c.end = in.key(end)
	}
	return c
}

// next moves to the first or next record and returns its key, which is valid until the call after.
func (c *cursor) next() (key []byte, ok bool, err error) {
	defer caught(&err, faultsPanic())
	if !c.started {
		c.started = true
		// Values are not fetched ahead: they lie beside their keys, and it takes a goroutine for
		// each.
		c.it = c.txn.NewIterator(dgraph.IteratorOptions{Prefix: sharedPrefix(c.first, c.end)})
		c.it.Seek(c.first)
	} else {
		c.it.Next()
	}
	if !c.it.Valid() {
		return nil, false, nil
	}
	key = c.it.Item().Key()
	if bytes.Compare(key, c.end) >= 0 {
		return nil, false, nil
	}
	return key[1:], true, nil
}

// value returns the value of the record, which is valid until the next call.
func (c *cursor) value() (value []byte, err error) {
	value, err = load(c.txn, c.it.Item(), c.buf)
	c.buf = value
	return value, err
}

func (c *cursor) close() {
	if c.it != nil {
		c.it.Close()
	}
}

// sharedPrefix returns the longest prefix of all keys in [start, end), if it is one that can be
// seen: Badger then looks only at the tables that can hold it, and a short scan takes 0.8 of the
// time.
func sharedPrefix(start, end []byte) []byte {
	n := 0
	for n < len(start) && n < len(end) && start[n] == end[n] {
		n++
	}
	// The usual end of a scan for a prefix is that prefix with its last byte one higher.
	if n < len(start) && n+1 == len(end) && start[n]+1 == end[n] {
		n++
	}
	return start[:n]
}
