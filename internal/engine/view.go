package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// View reads the state of one moment. It implements dotted.Tx for transactions that only read. Its methods may be
// called by many goroutines at once.
type View struct {
	*moment
	closed bool
}

func hasPrefix(a, prefix dotted.Address) bool {
	return len(a) >= len(prefix) && a[:len(prefix)] == prefix
}

// Close ends the view. A second Close does nothing.
func (v *View) Close() {
	if !v.closed {
		v.closed = true
		v.base.release()
	}
}

// Cell returns the live entries of one cell.
func (v *View) Cell(a dotted.Address) (dotted.Cell, error) {
	stored, err := v.stored(a, place(prefixCell, a))
	return v.clears.hide(a, stored), err
}

// stored returns a cell with what pending clears hide.
func (v *View) stored(a dotted.Address, key []byte) (dotted.Cell, error) {
	if it, ok := v.dirty.Get(string(key)); ok {
		return it.cell, nil
	}
	record, ok, err := v.base.snap.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	_, c, err := decodeCell(v.base.snap, key, record)
	return c, err
}

// record returns the record at a key that is not a cell's.
func (v *View) record(key []byte) (record []byte, ok bool, err error) {
	if it, ok := v.dirty.Get(string(key)); ok {
		return it.value, it.value != nil, nil
	}
	return v.base.snap.Get(key)
}

// records calls fn with what is at the keys in [start, end), in their order, until it returns false: an item of
// memory, or else what the tree has. key and value are valid only during the call.
func (v *View) records(start, end []byte, fn func(key []byte, it *item, value []byte) bool) error {
	own := v.dirty.Iter()
	more := own.Seek(string(start))
	within := func() bool { return more && (end == nil || own.Key() < string(end)) }
	stopped := false
	emit := func() bool {
		it := own.Value()
		more = own.Next()
		stopped = !it.gone() && !fn([]byte(it.key), it, it.value)
		return !stopped
	}
	err := v.base.snap.Scan(start, end, func(key, value []byte) bool {
		for within() && own.Key() < string(key) {
			if !emit() {
				return false
			}
		}
		if within() && own.Key() == string(key) {
			return emit()
		}
		stopped = !fn(key, nil, value)
		return !stopped
	})
	for err == nil && !stopped && within() {
		emit()
	}
	return err
}

// Scan calls fn with the cells under prefix beyond after. Names of more than 256 bytes sort by their
// first 128, and then in an order of the store's own.
func (v *View) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored(prefix, after, func(a dotted.Address, c dotted.Cell) bool {
		if c = v.clears.hide(a, c); len(c) == 0 {
			return true
		}
		return fn(a, c)
	})
}

// ScanStored calls fn with all cells, also what pending clears hide of them, until it returns false.
func (v *View) ScanStored(fn func(dotted.Address, dotted.Cell) bool) error {
	return v.scanStored("", "", fn)
}

func (v *View) scanStored(prefix, beyond dotted.Address,
	fn func(dotted.Address, dotted.Cell) bool) error {
	start := place(prefixCell, prefix)
	end := after(start)
	if beyond != "" {
		if from := append(place(prefixCell, beyond), 0); string(from) > string(start) {
			start = from
		}
	}
	var failed error
	err := v.records(start, end, func(key []byte, it *item, value []byte) bool {
		if it != nil {
			return fn(it.address, it.cell)
		}
		// The key and value are the store's: the cell needs copies, since it points into them.
		k, record := append([]byte(nil), key...), append([]byte(nil), value...)
		a, c, err := decodeCell(v.base.snap, k, record)
		if err != nil {
			failed = err
			return false
		}
		return fn(a, c)
	})
	if failed != nil {
		return failed
	}
	return err
}

// Summary tells what is visible under a key. O(log keys).
func (v *View) Summary(key string) (dotted.Summary, error) {
	at := place(prefixSummary, dotted.KeyAddress(key))
	record, ok, err := v.record(at)
	if err != nil || !ok {
		return dotted.Summary{}, err
	}
	_, s, era, err := decodeSummary(at, record)
	if era < v.clears.era {
		s = dotted.Summary{}
	}
	return s, err
}

// Keys calls fn with the keys that exist, begin with prefix and come after the given one, in the order of
// their places, until fn returns false.
func (v *View) Keys(prefix, beyond string, fn func(string, dotted.Summary) bool) error {
	return v.keysStored(prefix, beyond, func(_ []byte, name string, s dotted.Summary) bool {
		return fn(name, s)
	})
}

// keysStored is Keys that also tells where the store has each summary.
func (v *View) keysStored(prefix, beyond string,
	fn func(at []byte, name string, s dotted.Summary) bool) error {
	start := nameStart(prefix)
	end := after(start)
	if beyond != "" {
		// One before all that begins with the prefix bounds nothing.
		if from := append(place(prefixSummary, dotted.KeyAddress(beyond)), 0); string(from) > string(start) {
			start = from
		}
	}
	return v.summaries(start, end, func(at []byte, name string, s dotted.Summary) bool {
		if !s.Exists() || len(name) < len(prefix) || name[:len(prefix)] != prefix {
			return true
		}
		return fn(at, name, s)
	})
}

// Tallied calls fn with the keys that hold counters, or what is left of such. O(keys), unless there is none.
func (v *View) Tallied(fn func(key string) bool) error {
	if v.tallies == 0 {
		return nil
	}
	kind := []byte{prefixSummary}
	return v.summaries(kind, after(kind), func(_ []byte, name string, s dotted.Summary) bool {
		return s.Tallies == 0 || fn(name)
	})
}

// summaries calls fn with the keys between two places that are written in this era, until fn returns false.
func (v *View) summaries(start, end []byte, fn func(at []byte, name string, s dotted.Summary) bool) error {
	return v.allSummaries(start, end, func(at []byte, name string, s dotted.Summary, era uint64) bool {
		return era < v.clears.era || fn(at, name, s)
	})
}

// allSummaries is summaries of all eras.
func (v *View) allSummaries(start, end []byte,
	fn func(at []byte, name string, s dotted.Summary, era uint64) bool) error {
	var failed error
	err := v.records(start, end, func(key []byte, _ *item, value []byte) bool {
		at := append([]byte(nil), key...)
		name, s, era, err := decodeSummary(at, value)
		if err != nil {
			failed = err
			return false
		}
		return fn(at, name, s, era)
	})
	if failed != nil {
		return failed
	}
	return err
}

// KeyCount returns the number of keys that exist. O(1).
func (v *View) KeyCount() (int, error) { return v.keys, nil }

// Log calls fn with the records of the moment's log from number on, each with its deltas in the order
// in which they were applied here, until fn returns false. It stops where a record is missing: fn is
// not called at all if that is the first one.
func (v *View) Log(number uint64, fn func(number uint64, deltas []*delta.Delta) bool) error {
	return v.log.read(number, func(rec logged) bool {
		if rec.lsn != number {
			return false
		}
		number++
		return fn(rec.lsn, rec.deltas)
	})
}

// nameStart returns where the summaries of keys begin that begin with prefix: before those of long keys,
// of which the place keeps only the beginning.
func nameStart(prefix string) []byte {
	escaped := dotted.KeyAddress(prefix[:min(len(prefix), placeKeeps)])
	return append([]byte{prefixSummary}, escaped[:len(escaped)-2]...)
}

// placeKeeps is how many bytes of a name its place has at least.
const placeKeeps = 128

// Put refuses: a view only reads.
func (v *View) Put(dotted.Address, []byte, []crdt.Dot) (crdt.Dot, error) {
	return crdt.Dot{}, crdt.ErrReadOnly
}

// Remove refuses: a view only reads.
func (v *View) Remove(dotted.Address, []crdt.Dot) error { return crdt.ErrReadOnly }

// Clear refuses: a view only reads.
func (v *View) Clear(dotted.Address) error { return crdt.ErrReadOnly }

// Replica returns zero: a view issues no dots.
func (v *View) Replica() crdt.ReplicaID { return 0 }

// Ended returns false: who only reads need not know.
func (v *View) Ended(crdt.ReplicaID) bool { return false }

// Time returns zero: a view has no timestamp.
func (v *View) Time() dotted.Time { return 0 }
