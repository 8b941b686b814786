package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// loadContext reads the checkpoint, and what it says of the log before it.
func (r *replica) loadContext() error {
	// Who was killed may have left the checkpoint unsynced.
	r.write(Write{SyncTree: true})
	if err := r.opening.finish(); err != nil {
		return err
	}
	snap := r.st.Snapshot()
	defer snap.Close()
	record, ok, err := snap.Get(keyCheckpoint)
	if err != nil || !ok {
		return err
	}
	bases, err := loadBases(snap)
	var c *checkpoint
	if err == nil {
		c, err = decodeCheckpoint(record, &bases)
	}
	if err != nil {
		r.blind = true
		return err
	}
	for _, t := range bases.Tables()[:c.tables] { // more are said again by the log
		r.bases.Hold(t)
	}
	r.recall(c.own)
	r.log.Index, r.flip, r.saveCost = c.log, c.flip, len(record)
	r.log.runBytes = maxRunBytes // how much its newest runs span is not known
	r.saved, r.durable = c.reach, c.reach
	r.opening.root, r.opening.settled = c.root, c.settled
	r.totals = c.totals
	for id, n := range c.seen {
		r.raise(id, n, c.heads[id])
	}
	r.clock.Observe(c.time, c.time.Wall(), time.Millisecond)
	return nil
}

// replay carries out again what the log has behind the checkpoint, in order, over whatever the
// tree has: some of it may be there already. From the first damage on only the context grows: it
// must be known what was here. See Covers.
func (r *replica) replay() error {
	if r.blind {
		return nil
	}
	if next := r.logs.Next(); r.saved.next > next || r.saved.next < r.logs.First() {
		return fmt.Errorf("the log has the positions %d to %d, and the checkpoint ends at %d: %w", r.logs.First(),
			next, r.saved.next, store.ErrCorrupt)
	}
	r.log.Begin(r.logs.First())
	var failed error
	err := scanLog(r.logs, r.saved.next, 0, func(rec logged, at store.Position) bool {
		if failed = r.replayRecord(rec, at); errors.Is(failed, store.ErrCorrupt) && rec.lsn == r.log.Last {
			// The record is known, and what it changes cannot be.
			r.damage, failed = failed, nil
		}
		return failed == nil
	})
	return cmp.Or(failed, err)
}

func (r *replica) replayRecord(rec logged, at store.Position) error {
	if rec.lsn != r.log.Last+1 {
		return fmt.Errorf("the log jumps from %d to %d: %w", r.log.Last, rec.lsn, store.ErrCorrupt)
	}
	r.noteOwn(rec.own)
	r.log.append(rec)
	r.log.Locate(rec.lsn, rec.time, at, rec.next, r.markEvery())
	r.opening.root, r.opening.settled = rec.root, rec.settled
	for _, d := range rec.deltas {
		r.raise(d.Replica, d.Last(), d.Hash())
		r.hold(d)
		r.clock.Observe(d.Time, rec.time, r.cfg.MaxSkew)
	}
	if rec.kind == recordDerived {
		r.opening.derived = append(r.opening.derived, rec.derived)
		return nil
	}
	// Before a group's own may stand what one has left that was cut off.
	if parts := r.opening.derived; rec.before > 0 && rec.before <= uint64(len(parts)) {
		own := parts[len(parts)-int(rec.before):]
		rec.derived = append(slices.Concat(own...), rec.derived...)
	}
	r.opening.derived = nil
	r.totals = rec.totals
	if rec.kind == recordFlip {
		f := rec.flip
		r.flip = &f
		r.raiseTo(&f)
	}
	if r.damage != nil {
		return nil
	}
	if err := r.redo(rec); err != nil {
		return err
	}
	r.opening.replayed = true
	for r.late() && !r.cfg.Full { // memory may hold more: until there is room nothing is committed
		if err := r.pace(rec.time); err != nil {
			return err
		}
		if err := r.opening.finish(); err != nil {
			return err
		}
	}
	return nil
}

// redo changes the cells as a record says, and sets what was derived from them then.
func (r *replica) redo(rec logged) error {
	g := r.newGroup(rec.time)
	defer g.discard()
	g.number = rec.lsn - rec.before
	for _, d := range rec.deltas {
		for i := range d.Ops {
			if err := g.redo(d, i); err != nil {
				return err
			}
		}
	}
	if rec.kind == recordSlice || rec.kind == recordLast {
		if r.flip == nil {
			return fmt.Errorf("log record %d: it takes over what no record begins: %w", rec.lsn, store.ErrCorrupt)
		}
		if _, _, err := g.takeStaged(r.flip.session, r.flip.upTo, rec.flip.upTo); err != nil {
			return err
		}
		r.flip.upTo = rec.flip.upTo
		if rec.kind == recordLast {
			r.flip = nil
		}
	}
	touched := slices.Collect(maps.Values(g.cells)) // also where what is stored is as new already
	g.plan(touched)
	for _, c := range touched {
		g.put(c)
	}
	r.account(touched)
	derived, err := g.redoOrders(rec.derived)
	if err != nil {
		return err
	}
	for _, it := range derived {
		r.table.put(it, nil)
	}
	g.putClears()
	r.clears = g.clears
	return nil
}

// redo does a delta's i-th operation to the cells alone.
func (g *group) redo(d *delta.Delta, i int) error {
	op := &d.Ops[i]
	switch op.Kind {
	case delta.OpEnd, delta.OpBase:
		return nil
	case delta.OpClear:
		set := g.cleared(d, i)
		g.under(op.Address, func(c *cellState) bool {
			c.now = c.now.Outside(set)
			return true
		})
		g.pend(d, i, true)
		return nil
	}
	c, err := g.load(op.Address)
	if err != nil {
		return err
	}
	c.now = c.now.Without(op.Removes)
	if op.Kind == delta.OpPut {
		c.now = c.now.With(dotted.Entry{Dot: d.Dot(i), Payload: bytes.Clone(op.Payload)})
	}
	return nil
}

// needRoom returns an error if there is no room for what opening must do, though that may be much.
func (r *replica) needRoom(what string) error {
	if !r.cfg.Full {
		return nil
	}
	return fmt.Errorf("%w to end %s, before which nothing can be read", store.ErrNoSpace, what)
}

// finishOpen does what opening began or found begun: a repair is taken over to its end, and what
// was only staged goes, which may wait for room. That may be needed again until a checkpoint is behind it.
func (r *replica) finishOpen() error {
	now := r.clock.Last().Wall()
	flipped := r.flip != nil
	if flipped {
		if err := r.needRoom("a repair that was half taken over"); err != nil {
			return err
		}
	}
	r.begin(r.takeOver(now))
	if err := r.opening.finish(); err != nil {
		return err
	}
	snap := r.st.Snapshot()
	staged := false
	err := snap.ScanKeys([]byte{prefixStage}, []byte{prefixStage + 1}, func([]byte) bool {
		staged = true
		return false
	})
	snap.Close()
	if err != nil || !staged {
		return err
	}
	parts := []task{r.dropStaged(0)}
	if r.opening.replayed || flipped {
		parts = []task{r.saveAll(now), r.dropStaged(0)}
	}
	if r.cfg.Full {
		r.opening.later = parts
		return nil
	}
	r.begin(parts...)
	return r.opening.finish()
}

// loadCells compares the sums over all cells with what the last record says. If they differ, or
// there was a doubt about what is stored of them, it reads all cells, and they decide.
func (r *replica) loadCells() error {
	r.opening.loaded = true
	said := r.opening.settled && r.flip == nil
	if said && r.clears.count == 0 && r.tree.Root() != r.opening.root && r.opening.doubt == nil {
		r.opening.doubt = fmt.Errorf("the stored cells sum to %v, the last commit says %v: %w", r.tree.Root(),
			r.opening.root, store.ErrCorrupt)
	}
	if r.opening.doubt == nil {
		r.unchecked = len(r.seen) > 0
		return nil
	}
	v := r.present()
	defer v.Close()
	n, never := newRecount(v, &r.derives), func() bool { return false }
	err := n.scan(never)
	r.tree, r.cells, r.totals, r.paged = n.tree, n.cells, n.totals, nil
	if err == nil {
		err = n.check(never)
	}
	// But for what clears hide that may have been swept.
	if err == nil && said && n.live != r.opening.root {
		err = fmt.Errorf("the cells sum to %v, the last commit says %v: %w", n.live, r.opening.root, store.ErrCorrupt)
	}
	return err
}
