package replica

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Clears returns how many clears there are to be swept. They cost every reader a little.
func (r *Replica) Clears() int {
	if r.damage != nil {
		return 0
	}
	return len(r.clears)
}

// Sweep removes cells that a committed clear hides from the store, and with them those that others hide in the
// same place. It does no more work than a step may, but for passing over what was deleted there before, and reports
// whether there is more. Readers see no difference.
func (r *Replica) Sweep() (more bool, err error) {
	if r.Clears() == 0 {
		return false, nil
	}
	g := r.Begin(r.clock.Last().Wall())
	defer g.Discard()
	first := r.clears[0]
	if r.sweepAfter == "" {
		r.sweeping = len(r.clears)
	}
	seen, began, full := 0, r.work, false
	err = g.view.scanStored(first.prefix, r.sweepAfter, func(a crdt.Address, c crdt.Cell) bool {
		g.cells[a] = &cellState{
			address: a, key: place(prefixCell, a), stored: c, now: hide(r.clears, a, c),
		}
		r.sweepAfter = a
		seen++
		last := r.work
		r.spend(workOp + workOf(weightOf(c)))
		r.transacted(last)
		full = seen >= r.cfg.MaxBatch || r.spentSince(began)
		return !full
	})
	if err != nil {
		return false, err
	}
	batch := &store.Batch{}
	changed := g.changed()
	g.writeCells(batch, changed)
	moves, root := r.plan(changed)
	r.writeRoot(batch, root)
	rest := r.clears
	if !full {
		rest = r.unswept(first.prefix)
		batch.Set(keyClears, encodeClears(rest))
		r.sweepAfter = ""
	}
	write := r.commit
	if !batch.Fits() { // it is one cell with very many entries
		write = func(b *store.Batch, sync bool) error {
			return r.exclusively(func() error { return r.commitLarge(b, sync) })
		}
	}
	if err := write(batch, false); err != nil {
		return false, err
	}
	r.account(changed, moves)
	for _, c := range changed {
		r.cache.keep(c.address, c.now)
	}
	r.clears = rest
	return len(rest) > 0, nil
}

// unswept returns the clears that are left when all cells under prefix were swept: those elsewhere, and those
// that came while it was done.
func (r *Replica) unswept(prefix crdt.Address) (rest []pendingClear) {
	for i, c := range r.clears {
		if i >= r.sweeping || !hasPrefix(c.prefix, prefix) {
			rest = append(rest, c)
		}
	}
	return rest
}

// NextSwept returns where the next step sweeps; empty if there is nothing to sweep.
func (r *Replica) NextSwept() crdt.Address {
	if r.Clears() == 0 {
		return ""
	}
	return r.clears[0].prefix
}

// Sweeping reports whether a clear is swept in part.
func (r *Replica) Sweeping() bool { return r.sweepAfter != "" }

func encodeClears(clears []pendingClear) []byte {
	return wire.Seal(formatVersion, keyClears, wire.Encode(func(w *wire.Writer) {
		w.Array(4 * len(clears))
		for _, c := range clears {
			w.String(string(c.prefix))
			w.Uint(uint64(c.set.Replica))
			w.Uint(c.set.Below)
			crdt.WriteVector(w, c.set.Seen)
		}
	}))
}

// loadClears reads the clears that were not swept when the store was closed.
func (r *Replica) loadClears() error {
	_, err := r.load(keyClears, func(rd *wire.Reader) {
		n := rd.Array(maxListed) / 4
		for i := 0; i < n && rd.Err() == nil; i++ {
			c := pendingClear{prefix: crdt.Address(rd.String(crdt.MaxAddress))}
			c.set.Replica = crdt.ReplicaID(rd.Uint())
			c.set.Below = rd.Uint()
			c.set.Seen = crdt.ReadVector(rd)
			r.clears = append(r.clears, c)
		}
	})
	return err
}
