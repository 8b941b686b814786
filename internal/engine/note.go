package engine

import (
	"time"

	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Touched calls fn with the key of each operation of the transaction so far, in order, from the n-th on, and returns how
// many there are. What clears everything has none.
func (tx *Tx) Touched(from int, fn func(key string)) (end int) {
	for _, o := range tx.delta.Ops[from:] {
		if o.Address != "" && o.Kind != delta.OpEnd && o.Kind != delta.OpBase {
			fn(o.Address.Key())
		}
	}
	return len(tx.delta.Ops)
}

// Moment returns the number of the last record of the log before the transaction's group.
func (tx *Tx) Moment() uint64 { return tx.g.view.Moment() }

// Moment returns the number of the last record of the log that the view sees.
func (v *View) Moment() uint64 { return v.log.Last }

// Writes reports whether the transaction wrote something, and can still be committed.
func (tx *Tx) Writes() bool { return tx.err == nil && len(tx.delta.Ops) > 0 }

// Time returns the transaction's timestamp.
func (tx *Tx) Time() dotted.Time { return tx.delta.Time }

// Note leaves a note for who is told of the delta on this host.
func (tx *Tx) Note(note any) { tx.delta.Note = note }

// noteExpired notes of a delta that it removes a key that had expired by a time, if it removes the cell that says so.
func noteExpired(d *delta.Delta, a dotted.Address, c dotted.Cell, now time.Time) {
	if !a.IsExpiry() || a != dotted.KeyAddress(a.Key()).Expiry() { // that of a field ends no key
		return
	}
	if at, _, ok := c.Expires(); ok && at <= now.UnixMilli() {
		d.Expired = append(d.Expired, a.Key())
	}
}

// noteCleared is noteExpired of all that is under a prefix.
func (g *group) noteCleared(d *delta.Delta, prefix dotted.Address, now time.Time) error {
	if prefix == "" || prefix != prefix.KeyAddress() || !g.timed && !g.r.expiring.timed {
		return nil
	}
	a := prefix.Expiry()
	c, err := g.load(a)
	if err == nil {
		noteExpired(d, a, c.now, now)
	}
	return err
}
