package replica

import (
	"bytes"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
)

// A backup is the records of one moment. The store that is made from it is a new replica with an old state: to
// its peers it is like one that was away since then, and what it lacks reaches it as it would reach that one. It
// draws an id of its own at its first write, as every start does; and the dots that the replica before it
// issued later are, to it, just another replica's.

// Kinds of records that a backup leaves out: those of a repair or a rebuild under way, which at no moment
// between two steps of the replica are a part of what it holds.
var (
	leftOutKinds = []byte{prefixStage, prefixOldLog}
	leftOut      = [][]byte{keyFlip, keyLarge, keyRebuild}
)

// InBackup reports whether the record stored at key belongs into a backup.
func InBackup(key []byte) bool {
	return len(key) > 0 && bytes.IndexByte(leftOutKinds, key[0]) < 0 &&
		!slices.ContainsFunc(leftOut, func(k []byte) bool { return bytes.Equal(k, key) })
}

// Moment is one moment of the replica's records. It may be used by any goroutine until it is closed.
type Moment struct {
	snap        store.Snapshot
	Seen        crdt.VersionVector
	Keys, Cells int
	Records     uint64 // about how many there are
}

// Moment takes the present moment. Cells that a clear hides, and deltas of the log, are in it; what a running
// repair staged is not. It returns ErrBusy in a group, and of a replica that has not what its context says.
func (r *Replica) Moment() (*Moment, error) {
	if r.ahead || !r.Whole() {
		return nil, ErrBusy
	}
	logged := r.log.last + 1 - r.log.first
	return &Moment{
		snap: r.st.Snapshot(), Seen: r.seen.Clone(), Keys: r.keys, Cells: r.cells,
		Records: uint64(2*r.cells+r.keys) + logged, // a cell has an entry in the index of leaves
	}, nil
}

// Scan calls fn with the records, in the order of their keys, until fn returns false. key and value are valid
// only during the call. The error wraps store.ErrCorrupt if a record is not what was written. One of the log is
// not looked at: it is left out where it is read, and what it held is repaired.
func (m *Moment) Scan(fn func(key, value []byte) bool) error {
	var failed error
	err := m.snap.Scan(nil, nil, func(key, value []byte) bool {
		if !InBackup(key) {
			return true
		}
		if key[0] != prefixLeaf && key[0] != prefixLog {
			_, failed = unseal(key, value)
		}
		return failed == nil && fn(key, value)
	})
	if failed != nil {
		return failed
	}
	return err
}

// Close releases the moment.
func (m *Moment) Close() { m.snap.Close() }
