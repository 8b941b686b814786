package badger

import (
	"encoding/binary"
	"errors"
	"fmt"

	dgraph "github.com/dgraph-io/badger/v4"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// A prefix is the first byte of Badger's keys, so that this package has a place for keys of its
// own, and users may use any key: Badger has no empty keys, and keeps those that begin with
// !badger! for itself.
type prefix byte

const (
	prefixData  prefix = 'd' // user's key: value, or where its parts are
	prefixOwner prefix = 'o' // id of a large value: its user's key and number of parts
	prefixPart  prefix = 'p' // id of a large value, number of the part: the part
)

func (p prefix) key(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), byte(p)), key...)
}

// end returns the first key beyond the prefix.
func (p prefix) end() []byte { return []byte{byte(p) + 1} }

// metaLarge marks an entry of prefixData that holds a large instead of the value.
const metaLarge = 1

// recordVersion is that of the records below.
const recordVersion = 2

// large says where the parts of a value are. Ids are never reused while the store is open, so that
// the parts of an old value stay for the snapshots that see it.
type large struct {
	id    uint64
	parts int
}

// maxParts bounds what a record may claim.
const maxParts = store.MaxValue/partSize + 1

func (l large) ownerKey() []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(prefixOwner)}, l.id)
}

func (l large) partKey(i int) []byte {
	key := binary.BigEndian.AppendUint64([]byte{byte(prefixPart)}, l.id)
	return binary.BigEndian.AppendUint32(key, uint32(i))
}

// seal returns the record to store under key: where the parts are, and whose they are.
func (l large) seal(key, owner []byte) []byte {
	return wire.Seal(recordVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.Uint(l.id)
		w.Uint(uint64(l.parts))
		w.Bytes(owner)
	}))
}

func unseal(key, record []byte) (l large, owner []byte, err error) {
	version, body, err := wire.Unseal(key, record)
	if err == nil {
		if err := wire.CheckFormat(uint64(version), recordVersion, olderStore); err != nil {
			return large{}, nil, fmt.Errorf("a large value's record: %w", err)
		}
		err = wire.Decode(body, func(r *wire.Reader) {
			if fields := r.Array(3); fields != 3 {
				r.Fail("%d fields", fields)
			}
			id, parts := r.Uint(), r.Uint()
			if parts == 0 || parts > maxParts {
				r.Fail("%d parts", parts)
			}
			l = large{id: id, parts: int(parts)}
			owner = r.Bytes(store.MaxPrefix + store.MaxKey)
		})
	}
	if err != nil {
		return large{}, nil, corrupt("a large value's record: %v", err)
	}
	return l, owner, nil
}

// largeValues knows every value that is stored in parts, so that a write which replaces one can
// have the parts removed without reading. It takes some 100 bytes for each.
type largeValues struct {
	byKey   map[string]large
	lastID  uint64
	garbage []large // parts that no key refers to any more
}

// load finds the large values by their owner records, and those that a crash left behind.
// It costs a read for each. Those of a rotten store that cannot be read are none of either.
func (v *largeValues) load(db *dgraph.DB, rotten bool) error {
	v.byKey = map[string]large{}
	txn := db.NewTransaction(false)
	defer txn.Discard()
	c := newCursor(txn, prefixOwner, nil, nil)
	defer c.close()
	for {
		key, ok, err := c.next()
		if err != nil || !ok {
			return err
		}
		record, err := c.value()
		if err != nil {
			return err
		}
		l, owner, err := unseal(prefixOwner.key(key), record)
		v.lastID = max(v.lastID, l.id)
		var current large
		if err == nil {
			current, err = lookUp(txn, owner)
		}
		switch {
		case err != nil && !rotten:
			return err
		case err != nil:
		case current == l:
			v.byKey[string(owner)] = l
		default:
			v.garbage = append(v.garbage, l)
		}
	}
}

// lookUp returns where the parts of key's value are; a zero large if it has none.
func lookUp(txn *dgraph.Txn, key []byte) (l large, err error) {
	defer caught(&err, faultsPanic())
	stored := prefixData.key(key)
	item, err := txn.Get(stored)
	if errors.Is(err, dgraph.ErrKeyNotFound) {
		return large{}, nil
	}
	if err != nil {
		return large{}, readError(err)
	}
	if item.UserMeta() != metaLarge {
		return large{}, nil
	}
	record, err := item.ValueCopy(nil)
	if err != nil {
		return large{}, readError(err)
	}
	l, _, err = unseal(stored, record)
	return l, err
}

// change is what a batch does to the large values. It counts when the batch is committed.
type change struct {
	laid    []large          // those of the batch, in its order, whose parts are stored
	byKey   map[string]large // the keys it touches, with a zero large for those that have none now
	garbage []large
}

// lay stores the parts of a batch's large values, in transactions of their own: a memtable need
// not hold seven times as much. No key refers to them yet. If none ever does they are garbage,
// which load finds.
func (v *largeValues) lay(b *store.Batch, write func(func(*dgraph.Txn) error) error) (*change, error) {
	c := &change{}
	for _, op := range b.Ops {
		if op.Delete || len(op.Value) <= partSize {
			continue
		}
		v.lastID++
		l := large{id: v.lastID, parts: (len(op.Value) + partSize - 1) / partSize}
		for from := 0; from < l.parts; from += partsAtOnce {
			err := write(func(txn *dgraph.Txn) error { return l.store(txn, op, from) })
			if err != nil {
				return nil, err
			}
		}
		c.laid = append(c.laid, l)
	}
	return c, nil
}

// store stores some parts of a value; with the first ones, whose they are.
func (l large) store(txn *dgraph.Txn, op store.Op, from int) error {
	if from == 0 {
		if err := txn.Set(l.ownerKey(), l.seal(l.ownerKey(), op.Key)); err != nil {
			return err
		}
	}
	for i := from; i < min(from+partsAtOnce, l.parts); i++ {
		part := op.Value[i*partSize : min((i+1)*partSize, len(op.Value))]
		if err := txn.Set(l.partKey(i), part); err != nil {
			return err
		}
	}
	return nil
}

// stage fills a transaction with a batch whose parts are stored. The large values stay as they are.
func (v *largeValues) stage(txn *dgraph.Txn, b *store.Batch, c *change) error {
	laid := c.laid
	// One allocation: all of the batch's keys, with space.
	keys := make([]byte, 0, b.Bytes()+b.Len()*(1+store.MaxPrefix))
	for _, op := range b.Ops {
		from := len(keys)
		keys = append(append(keys, byte(prefixData)), op.Key...)
		key := keys[from:len(keys):len(keys)]
		v.release(c, op.Key)
		var err error
		switch {
		case op.Delete:
			err = txn.Delete(key)
		case len(op.Value) > partSize:
			c.set(op.Key, laid[0])
			err = txn.SetEntry(dgraph.NewEntry(key, laid[0].seal(key, nil)).WithMeta(metaLarge))
			laid = laid[1:]
		default:
			err = txn.Set(key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// release notes that key's value is about to be replaced.
func (v *largeValues) release(c *change, key []byte) {
	old, staged := c.byKey[string(key)]
	if !staged {
		old = v.byKey[string(key)]
	}
	if old.parts == 0 {
		return
	}
	c.garbage = append(c.garbage, old)
	c.set(key, large{})
}

func (c *change) set(key []byte, l large) {
	if c.byKey == nil {
		c.byKey = map[string]large{}
	}
	c.byKey[string(key)] = l
}

// adopt makes a committed change count.
func (v *largeValues) adopt(c *change) {
	v.garbage = append(v.garbage, c.garbage...)
	for key, l := range c.byKey {
		if l.parts == 0 {
			delete(v.byKey, key)
		} else {
			v.byKey[key] = l
		}
	}
}

// sweepAtOnce is how many large values lose their parts after a commit: enough to keep up, and no
// commit waits long for it. What is left when the store closes is found again by load.
const sweepAtOnce = 8

// sweep removes the parts of some values that no key refers to. Snapshots still see them.
func (v *largeValues) sweep(db *dgraph.DB) error {
	for range min(sweepAtOnce, len(v.garbage)) {
		l := v.garbage[len(v.garbage)-1]
		if err := remove(db, l); err != nil {
			return err
		}
		v.garbage = v.garbage[:len(v.garbage)-1]
	}
	return nil
}

func remove(db *dgraph.DB, l large) error {
	return db.Update(func(txn *dgraph.Txn) error {
		for i := range l.parts {
			if err := txn.Delete(l.partKey(i)); err != nil {
				return err
			}
		}
		return txn.Delete(l.ownerKey())
	})
}

// get returns the value under a key of Badger's.
func get(txn *dgraph.Txn, key []byte) (value []byte, ok bool, err error) {
	defer caught(&err, faultsPanic())
	item, err := txn.Get(key)
	if errors.Is(err, dgraph.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(err)
	}
	value, err = load(txn, item, nil)
	return value, err == nil, err
}

// load returns the value of an item, put together if it is in parts, in buf if that is large
// enough.
func load(txn *dgraph.Txn, item *dgraph.Item, buf []byte) (value []byte, err error) {
	defer caught(&err, faultsPanic())
	value, err = item.ValueCopy(buf)
	if err != nil || item.UserMeta() != metaLarge {
		return value, readError(err)
	}
	l, _, err := unseal(item.Key(), value)
	if err != nil {
		return nil, err
	}
	value = make([]byte, 0, l.parts*partSize)
	for i := range l.parts {
		part, err := txn.Get(l.partKey(i))
		if err != nil {
			return nil, corrupt("part %d of %d of a large value: %v", i, l.parts, brief(err))
		}
		err = part.Value(func(p []byte) error {
			value = append(value, p...)
			return nil
		})
		if err != nil {
			return nil, readError(err)
		}
	}
	return value, nil
}
