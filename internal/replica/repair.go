package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Pinned is one moment of the replica: context, cells and tree together. It implements
// antientropy.Snapshot and may be used by any goroutine until it is closed.
type Pinned struct {
	view  *View
	seen  crdt.VersionVector
	heads delta.Heads
	tree  *antientropy.Tree
}

// Pin takes the present moment. It returns ErrBusy while clears are swept or a repair runs, and of a
// damaged replica.
func (r *Replica) Pin() (*Pinned, error) {
	if r.unsettled() {
		return nil, ErrBusy
	}
	return r.pin(), nil
}

// unsettled reports whether the cells in the store are not those that the context stands for.
func (r *Replica) unsettled() bool {
	return r.clears.count > 0 || r.repair != nil || r.damage != nil
}

func (r *Replica) pin() *Pinned {
	heads := make(delta.Heads, len(r.heads))
	for id, h := range r.heads {
		heads[id] = h
	}
	return &Pinned{view: r.View(), seen: r.seen.Clone(), heads: heads, tree: r.tree.Clone()}
}

// Close releases the moment.
func (p *Pinned) Close() { p.view.Close() }

// Context returns the context and the hashes of its heads.
func (p *Pinned) Context() (crdt.VersionVector, delta.Heads) { return p.seen, p.heads }

// Node returns a node of the tree.
func (p *Pinned) Node(level, index int) antientropy.Fingerprint { return p.tree.Node(level, index) }

// Cell returns one cell.
func (p *Pinned) Cell(a dotted.Address) (dotted.Cell, error) { return p.view.Cell(a) }

// Cells calls fn with all cells beyond after, in the store's order, until fn returns false.
func (p *Pinned) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return p.view.Scan("", after, fn)
}

// Leaf calls fn with the cells of one leaf beyond after in the order of their places, until fn returns
// false. It keeps the places of the whole leaf in memory.
func (p *Pinned) Leaf(leaf int, beyond dotted.Address,
	fn func(dotted.Address, dotted.Cell) bool) error {
	start := numbered(prefixLeaf, uint64(leaf)<<leafShift)
	from := place(prefixCell, beyond)
	var keys []string
	err := p.view.snap.ScanKeys(start, after(start[:3]), func(key []byte) bool {
		if at := string(prefixCell) + string(key[9:]); beyond == "" || at > string(from) {
			keys = append(keys, at)
		}
		return true
	})
	if err != nil {
		return err
	}
	slices.Sort(keys)
	for _, key := range keys {
		a, c, err := p.view.at([]byte(key))
		if err != nil {
			return err
		}
		if !fn(a, c) {
			return nil
		}
	}
	return nil
}

// at returns the cell that the tree's index says is stored at key.
func (v *View) at(key []byte) (dotted.Address, dotted.Cell, error) {
	record, ok, err := v.snap.Get(key)
	if err == nil && !ok {
		err = damaged(key, fmt.Errorf("the tree's index names a cell that is not there"))
	}
	if err != nil {
		return "", nil, err
	}
	return decodeCell(v.snap, key, record)
}

// leafShift takes a leaf's number to the first hash in it: leaves are the first two bytes of a hash.
const leafShift = 48

// Repair is a repair under way: this replica compares itself with another's pinned moment, stages what
// differs, and takes it over at once. There is one at a time. Meanwhile deltas with dots in the other's
// context are dropped, so that what was compared stays compared.
type Repair struct {
	r      *Replica
	Local  *Pinned            // what is compared with the other's moment
	source gossip.NeighbourID // whose that is; empty if it was not begun by a Node
	target crdt.VersionVector
	heads  delta.Heads

	batch   store.Batch
	session uint64 // of staged changes, so that those of an aborted repair are never taken for another's
	next    uint64
}

// newRepair begins a session of staged changes.
func (r *Replica) newRepair() *Repair {
	r.sessions++
	return &Repair{r: r, session: r.sessions}
}

// stageKey returns where a session's n-th change is staged.
func stageKey(session, n uint64) []byte {
	return binary.BigEndian.AppendUint64(numbered(prefixStage, session), n)
}

// covers reports whether the repair will bring dots of d.
func (p *Repair) covers(d *delta.Delta) bool { return p.target[d.Replica] >= d.First }

// BeginRepair starts a repair with another replica's pinned context. It returns ErrBusy while clears are
// swept or another repair runs, and ErrForked if the other's dots are others than those here.
func (r *Replica) BeginRepair(target crdt.VersionVector, heads delta.Heads) (*Repair, error) {
	if r.unsettled() {
		return nil, ErrBusy
	}
	if err := r.dropStaged(r.repaired); err != nil {
		return nil, err
	}
	if d := r.Heard(target, heads); len(d.Forked) > 0 {
		return nil, fmt.Errorf("replica %v: %w", d.Forked[0], ErrForked)
	}
	if all := r.seen.Clone(); len(target) > delta.MaxReplicas || len(all) > delta.MaxReplicas-len(target) {
		if all.Merge(target); len(all) > delta.MaxReplicas {
			return nil, fmt.Errorf("%d replicas have written here or there (limit %d)",
				len(all), delta.MaxReplicas)
		}
	}
	r.repair = r.newRepair()
	r.repaired = r.repair.session
	r.repair.Local, r.repair.target, r.repair.heads = r.pin(), target, heads
	return r.repair, nil
}

// Repairing reports whether a repair runs.
func (r *Replica) Repairing() bool { return r.repair != nil }

// Add stages entries that a cell is to gain. It may be called by the goroutine that drives the repair.
func (p *Repair) Add(a dotted.Address, entries []dotted.Entry) error {
	for len(entries) > 0 {
		n, size := 0, 0
		for n < min(len(entries), maxEntries) && (n == 0 || size+len(entries[n].Payload) <= stageBytes) {
			size += len(entries[n].Payload)
			n++
		}
		if err := p.stage(change{address: a, adds: entries[:n]}); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// Remove stages dots that a cell is to lose. It may be called by the goroutine that drives the repair.
func (p *Repair) Remove(a dotted.Address, dots []crdt.Dot) error {
	for some := range slices.Chunk(dots, maxEntries) {
		if err := p.stage(change{address: a, removes: some}); err != nil {
			return err
		}
	}
	return nil
}

// stageBytes is about how many bytes of payload one storage transaction of a repair takes.
const stageBytes = 1 << 20

func (p *Repair) stage(c change) error {
	p.next++
	key := stageKey(p.session, p.next)
	p.batch.Set(key, c.encode(key))
	if p.batch.Bytes() < stageBytes {
		return nil
	}
	return p.flush()
}

func (p *Repair) flush() error {
	err := p.r.st.Commit(&p.batch, false)
	p.batch.Reset()
	return err
}

// AbortRepair ends a repair without effect. A second call, or one after FinishRepair, does nothing.
func (r *Replica) AbortRepair(p *Repair) error {
	if r.repair != p {
		return nil
	}
	r.repair = nil
	p.Local.Close()
	return r.dropStaged(p.session)
}

// FinishRepair takes everything staged over, and the other's context with it.
func (r *Replica) FinishRepair(p *Repair, sync bool) error {
	if r.repair != p {
		return ErrBusy
	}
	if err := p.flush(); err != nil {
		return err
	}
	r.repair = nil
	p.Local.Close()
	r.collecting.due = true // for baselines that come with it
	for id, n := range p.target {
		if n > r.seen[id] {
			r.raise(id, n, p.heads[id])
		}
	}
	mark := &store.Batch{}
	mark.Set(keyCheckpoint, r.checkpoint())
	r.writeRoot(mark, r.tree.Root())
	mark.Set(keyFlip, encodeSession(keyFlip, p.session))
	if err := r.commit(mark, true); err != nil {
		return err
	}
	r.saved, r.ahead = r.log.last, false
	return r.exclusively(func() error { return r.replay(p.session, sync) })
}

// change is what happens to one cell when staged changes are taken over. Doing it twice is doing it once.
type change struct {
	address dotted.Address
	adds    []dotted.Entry
	removes []crdt.Dot
}

func (c change) encode(key []byte) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.String(string(c.address))
		dotted.WriteDots(w, c.removes)
		w.Array(3 * len(c.adds))
		for _, e := range c.adds {
			w.Uint(uint64(e.Dot.Replica))
			w.Uint(e.Dot.Counter)
			w.Bytes(e.Payload)
		}
	}))
}

func decodeChange(key, record []byte) (c change, err error) {
	body, err := unseal(key, record)
	if err != nil {
		return c, err
	}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(3)
		c.address = dotted.Address(r.String(crdt.MaxAddress))
		c.removes = dotted.ReadDots(r)
		n := r.Array(3*maxEntries) / 3
		for i := 0; i < n && r.Err() == nil; i++ {
			d := crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
			c.adds = append(c.adds, dotted.Entry{Dot: d, Payload: r.Bytes(dotted.MaxPayload)})
		}
	})
	if err != nil {
		return c, damaged(key, err)
	}
	return c, nil
}

// replay takes staged changes over, batch by batch, and then removes the mark that they must be.
func (r *Replica) replay(session uint64, sync bool) error {
	for next := numbered(prefixStage, session); next != nil; {
		var err error
		if next, err = r.replaySome(session, next); err != nil {
			return err
		}
	}
	end := &store.Batch{}
	end.Delete(keyFlip)
	return r.commit(end, sync)
}

// replayItems and replayBytes bound the staged changes of one batch.
const (
	replayItems = 1024
	replayBytes = 1 << 20
)

// perBatch returns how many staged changes one batch takes.
func (r *Replica) perBatch() int { return min(replayItems, r.cfg.MaxBatch) }

// replaySome takes over one batch of a session's staged changes, from a key on, and returns the key to go on
// from, nil after the last. Each batch deletes what it took, so the scan does not begin at the first again:
// a store on disk would pass over all that was deleted before.
func (r *Replica) replaySome(session uint64, from []byte) (next []byte, err error) {
	g := r.Begin(r.clock.Last().Wall())
	defer g.Discard()
	batch := &store.Batch{}
	var failed error
	items, bytes := 0, 0
	err = g.view.snap.Scan(from, after(numbered(prefixStage, session)), func(k, v []byte) bool {
		key := append([]byte(nil), k...)
		next = append(key, 0)
		c, err := decodeChange(key, append([]byte(nil), v...))
		if err == nil {
			err = g.take(c)
		}
		if err != nil {
			failed = err
			return false
		}
		batch.Delete(key)
		items++
		bytes += len(v) + 4*len(c.address)
		bytes += entryBytes * len(g.cells[c.address].now)
		for _, e := range g.cells[c.address].now {
			bytes += min(len(e.Payload), maxInline)
		}
		return items < r.perBatch() && bytes < replayBytes
	})
	if err == nil {
		err = failed
	}
	if err != nil || items == 0 {
		return nil, err
	}
	return next, g.commitState(batch)
}

// take applies a staged change to the group.
func (g *Group) take(c change) error {
	state, err := g.load(c.address)
	if err != nil {
		return err
	}
	now := state.now.Without(c.removes)
	for _, e := range c.adds {
		now = now.With(e)
	}
	return g.set(state, now)
}

// commitState commits the group's cells and summaries, and what is in batch already, without a log record.
func (g *Group) commitState(batch *store.Batch) error {
	changed := g.changed()
	g.writeCells(batch, changed)
	g.writeSummaries(batch)
	moves, root := g.r.plan(changed)
	g.r.writeRoot(batch, root)
	if err := g.r.commitWhole(batch); err != nil {
		return err
	}
	g.publish(changed, moves)
	return nil
}

// finishFlip completes at open what a crash interrupted after its mark, and drops what was only staged.
func (r *Replica) finishFlip() error {
	snap := r.st.Snapshot()
	record, marked, err := snap.Get(keyFlip)
	snap.Close()
	if err != nil {
		return err
	}
	if marked {
		session, err := decodeSession(keyFlip, record)
		if err == nil {
			r.sessions = max(r.sessions, session) // the replay may need some of its own
			err = r.replay(session, true)
		}
		if err != nil {
			return err
		}
	}
	return r.dropStaged(0)
}

func encodeSession(key []byte, session uint64) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(1)
		w.Uint(session)
	}))
}

func decodeSession(key, record []byte) (session uint64, err error) {
	body, err := unseal(key, record)
	if err != nil {
		return 0, err
	}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(1)
		session = r.Uint()
	})
	if err != nil {
		return 0, damaged(key, err)
	}
	return session, nil
}

// dropStaged removes the staged changes of a session and of those after it.
func (r *Replica) dropStaged(session uint64) error {
	return r.removeAll(numbered(prefixStage, session), []byte{prefixStage + 1})
}
