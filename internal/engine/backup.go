package engine

import (
	"bytes"
	"cmp"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/engine/logindex"
	"github.com/peerd/peerd/store"
)

// A backup is the tree as a checkpoint leaves it. The store that is made from it is a new replica with an old state, and
// an empty log: to its peers it is like one that was away since then, and what it lacks reaches it as it would reach
// that one. It draws an id of its own at its first write, as every start does; and the dots that the replica before it
// issued later are, to it, just another replica's.

// InBackup reports whether the record stored at key belongs into a backup: those of a repair or a rebuild under way do
// not.
func InBackup(key []byte) bool {
	return len(key) > 0 && key[0] != prefixStage && key[0] != prefixMoved && key[0] != prefixUndone &&
		!bytes.Equal(key, keyRebuild) &&
		!bytes.Equal(key, keyFilling) && !bytes.Equal(key, keyUndone) && !bytes.Equal(key, keyDoubt)
}

// Moment is one moment of the replica's records. It may be used by any goroutine until it is closed.
type Moment struct {
	snap        store.Snapshot
	checkpoint  []byte
	derives     *derivation
	Seen        crdt.VersionVector
	Keys, Cells int
	Records     uint64 // about how many there are
}

// Backup has fn called with the moment of the next checkpoint, which is begun soon: see maintain. It is nil if the
// replica was found damaged meanwhile, and fn is not called if it is closed before. It returns ErrBusy in a group, and of a replica that has not what its context says.
func (r *replica) Backup(fn func(*Moment)) error {
	if r.ahead && !r.quiet || !r.Whole() { // it may wait for the end of a repair
		return ErrBusy
	}
	r.wanted = append(r.wanted, fn)
	return nil
}

// refuseBackups tells those who wait for one that there is none.
func (r *replica) refuseBackups() {
	if r.saving != nil {
		r.wanted = append(r.wanted, r.saving.wanted...)
		r.saving.wanted, r.saving.backup = nil, nil
	}
	for _, fn := range r.wanted {
		fn(nil)
	}
	r.wanted = nil
}

// backup returns the moment of a checkpoint that begins, without its records. The log is not among them.
func (r *replica) backup(c *checkpoint) *Moment {
	alone := *c
	alone.reach, alone.log = reach{lsn: c.lsn}, logindex.After(c.lsn, 0) // sums are as of groups with numbers before it
	return &Moment{
		checkpoint: alone.encode(r.writeOwn), derives: &r.derives, Seen: r.seen.Clone(), Keys: r.keys, Cells: r.cells,
		Records: uint64(2*r.cells + r.keys - r.lone), // a cell has an entry in the index of leaves
	}
}

// Scan calls fn with the records, in the order of their keys, until fn returns false. key and value are valid
// only during the call. The error wraps store.ErrCorrupt if a record is not what was written.
func (m *Moment) Scan(fn func(key, value []byte) bool) error {
	var failed error
	err := m.snap.Scan(nil, nil, func(key, value []byte) bool {
		if !InBackup(key) {
			return true
		}
		if bytes.Equal(key, keyCheckpoint) {
			value = m.checkpoint
		}
		if !m.derives.has(key[0]) {
			_, failed = unseal(key, value)
		}
		return failed == nil && fn(key, value)
	})
	return cmp.Or(failed, err)
}

// Close releases the moment.
func (m *Moment) Close() { m.snap.Close() }
