// Package store is the contract between the replica core and what keeps its records: snapshots to
// read, ordered scans, and batches that are applied whole or not at all.
//
// A store knows nothing of cells, dots or deltas. Implementations are in store/badger (durable) and
// store/mem (in memory); both pass the conformance suite in store/storetest, and so must any other.
//
// Beside it stands the contract of a log (log.go): records that are appended, synced, read from a
// position on, and dropped before one. It is what makes a commit durable in one write, and lets an
// ordered store lag behind. Implementations are in store/segment (durable) and store/mem.
package store

import "errors"

// Limits that every implementation accepts.
const (
	MaxKey        = 32 << 10 // bytes of a key
	MaxValue      = 6 << 20  // bytes of a value
	MaxBatchOps   = 20_000   // operations in one batch
	MaxBatchBytes = 2 << 20  // bytes in one batch of keys, and of values that are not large
	LargeValue    = 256 << 10
	MaxBatchLarge = 13 << 19 // bytes in one batch of values of more than LargeValue
	MaxPrefix     = 2        // bytes before a key that no limit counts: see Batch.AppendUnder
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
	// ErrBatchTooLarge is returned for a batch beyond the limits. Nothing was applied.
	ErrBatchTooLarge = errors.New("batch too large")
	// ErrCorrupt is wrapped by errors that say the medium returned something else than was stored.
	ErrCorrupt = errors.New("store is damaged")
	// ErrUnreadable is wrapped by errors of opening and reading a log that say that the medium
	// gives back nothing, now.
	ErrUnreadable = errors.New("the disk does not give back what is stored")
	// ErrNoSpace is wrapped when the medium has no room to open the store, or for what was to be
	// appended to a log. Nothing was changed.
	ErrNoSpace = errors.New("there is no room on the disk")
	// ErrFailed is wrapped when the medium did not take what was written to it. What it holds of the
	// last commits is unknown, nothing more is committed, and the store must be closed.
	ErrFailed = errors.New("writing to the disk failed")
	// ErrLocked is wrapped when another process, or this one, has the store open already.
	ErrLocked = errors.New("store is in use by another process, or open in this one already")
)

// Store is an ordered map of byte strings. All methods may be called by many goroutines at once.
type Store interface {
	// Snapshot returns a read-only view of everything committed so far, which later commits do not
	// change. It must be closed.
	Snapshot() Snapshot
	// Commit applies the batch whole or not at all and makes it visible to later snapshots. With sync
	// it returns only when the batch survives a power failure. After an error nothing was applied,
	// unless the error says that the outcome is unknown, in which case the store must be closed. The
	// batch may be reused afterwards; the store keeps none of its slices.
	Commit(b *Batch, sync bool) error
	// Sync returns when everything committed before survives a power failure.
	Sync() error
	// Size returns roughly how many bytes the store takes on its medium.
	Size() int64
	// Close releases everything. Snapshots must be closed before. A second Close does nothing.
	Close() error
}

// Snapshot is a consistent view. Its methods may be called by many goroutines at once.
type Snapshot interface {
	// Get returns the value of key, and false if there is none. The value belongs to the caller.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn with the keys in [start, end) in ascending order and their values, until fn
	// returns false. A nil end means no bound. key and value are valid only during the call and must
	// not be changed.
	Scan(start, end []byte, fn func(key, value []byte) bool) error
	// ScanKeys is Scan without the values.
	ScanKeys(start, end []byte, fn func(key []byte) bool) error
	// Close ends the view. A second Close does nothing.
	Close()
}

// Batch is a list of writes. The last one to a key counts. The zero Batch is empty and ready to
// use.
type Batch struct {
	Ops    []Op
	bytes  int
	large  int // of them, in large values
	prefix int // bytes of each key that the limits do not count
}

// Op is one write of a batch: Value is stored under Key, or Key is deleted.
type Op struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// Set stores value under key. The batch keeps both slices.
func (b *Batch) Set(key, value []byte) {
	b.Ops = append(b.Ops, Op{Key: key, Value: value})
	if b.bytes += len(key) + len(value); len(value) > LargeValue {
		b.large += len(value)
	}
}

// Delete removes key; a key that is not there is no error. The batch keeps the slice.
func (b *Batch) Delete(key []byte) {
	b.Ops = append(b.Ops, Op{Key: key, Delete: true})
	b.bytes += len(key)
}

// Append adds the writes of o behind those of b.
func (b *Batch) Append(o *Batch) {
	b.Ops = append(b.Ops, o.Ops...)
	b.bytes, b.large = b.bytes+o.bytes, b.large+o.large
	b.prefix = max(b.prefix, o.prefix)
}

// AppendUnder adds the writes of o, each key behind a prefix of at most MaxPrefix bytes, which no
// limit counts: whoever has a part of a store has the limits of a whole one. The keys are written
// into the memory that is given; the result is that memory, grown, and may be used again once the
// batch is committed. Values are not copied.
func (b *Batch) AppendUnder(prefix []byte, o *Batch, keys []byte) []byte {
	for _, op := range o.Ops {
		from := len(keys)
		keys = append(append(keys, prefix...), op.Key...)
		op.Key = keys[from:len(keys):len(keys)]
		b.Ops = append(b.Ops, op)
	}
	b.bytes, b.large = b.bytes+o.bytes, b.large+o.large
	b.prefix = max(b.prefix, o.prefix+len(prefix))
	return keys
}

// Len returns the number of writes.
func (b *Batch) Len() int { return len(b.Ops) }

// Bytes returns the size of all keys and values, without what AppendUnder put before them.
func (b *Batch) Bytes() int { return b.bytes }

// Fits reports whether the batch keeps to the limits.
func (b *Batch) Fits() bool {
	return b.Len() <= MaxBatchOps && b.bytes-b.large <= MaxBatchBytes && b.large <= MaxBatchLarge
}

// Check returns ErrBatchTooLarge if the batch, or one of its writes, is beyond the limits. It is
// for implementations.
func (b *Batch) Check() error {
	for _, op := range b.Ops {
		if len(op.Key) > MaxKey+b.prefix || len(op.Value) > MaxValue {
			return ErrBatchTooLarge
		}
	}
	if !b.Fits() || b.prefix > MaxPrefix {
		return ErrBatchTooLarge
	}
	return nil
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Ops)
	b.Ops, b.bytes, b.large, b.prefix = b.Ops[:0], 0, 0, 0
}
