package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

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
	short crdt.VersionVector // form of it
	heads delta.Heads
	bases *delta.Bases
	tree  *antientropy.Tree
	cells int

	derives *derivation
	read    atomic.Int64 // cells, by Verify
	hurried atomic.Bool
}

// Pin takes the present moment. It returns ErrBusy while clears are swept or a repair runs, and
// of a damaged replica.
func (r *replica) Pin() (*Pinned, error) {
	if r.unsettled() {
		return nil, ErrBusy
	}
	return r.pin(), nil
}

// unsettled reports whether the cells in the store are not those that the context stands for.
func (r *replica) unsettled() bool { return r.filling != nil || r.changes() }

func (r *replica) changes() bool {
	return r.clears.count > 0 || r.repair != nil || r.flip != nil || r.damage != nil || r.Busy()
}

func (r *replica) pin() *Pinned {
	heads := make(delta.Heads, len(r.heads))
	for id, h := range r.heads {
		heads[id] = h
	}
	return &Pinned{view: r.present(), seen: r.seen.Clone(), short: r.short.Clone(), heads: heads, bases: r.Bases(),
		tree: r.tree.Clone(), cells: r.cells, derives: &r.derives}
}

// Close releases the moment.
func (p *Pinned) Close() { p.view.Close() }

// Context returns the context and the hashes of its heads.
func (p *Pinned) Context() (crdt.VersionVector, delta.Heads) { return p.seen, p.heads }

// Vector returns the context's short form.
func (p *Pinned) Vector() crdt.VersionVector { return p.short }

// Bases returns the bases in the context.
func (p *Pinned) Bases() *delta.Bases { return p.bases }

// Count returns how many cells there are.
func (p *Pinned) Count() int { return p.cells }

// Node returns a node of the tree.
func (p *Pinned) Node(level, index int) antientropy.Fingerprint { return p.tree.Node(level, index) }

// Cell returns one cell.
func (p *Pinned) Cell(a dotted.Address) (dotted.Cell, error) { return p.view.Cell(a) }

// Cells calls fn with all cells beyond after, in the store's order, until fn returns false.
func (p *Pinned) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return p.view.Scan("", after, fn)
}

// Leaf calls fn with the cells of one leaf beyond after in the order of their places, until fn
// returns false. It keeps the places of the whole leaf in memory.
func (p *Pinned) Leaf(leaf int, beyond dotted.Address,
	fn func(dotted.Address, dotted.Cell) bool) error {
	start := numbered(prefixLeaf, uint64(leaf)<<leafShift)
	from := place(prefixCell, beyond)
	var keys []string
	err := p.view.index(start, after(start[:3]), func(key []byte) bool {
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
	if it := v.item(key); it != nil && !it.Vacant() {
		return it.address(), it.cell, nil
	} else if it != nil {
		return "", nil, damaged(key, errNoCell)
	}
	record, ok, err := v.shot.Tree().Get(key)
	if err == nil && !ok {
		err = damaged(key, errNoCell)
	}
	if err != nil {
		return "", nil, err
	}
	return decodeCell(v.shot.Tree(), key, record)
}

var errNoCell = errors.New("the tree's index names a cell that is not there")

// leafShift takes a leaf's number to the first hash in it: leaves are the first two bytes of a
// hash.
const leafShift = 48

// repairSession is a repair under way: this replica compares itself with another's pinned moment,
// stages what differs, and takes it over at once. There is one at a time. Meanwhile deltas with
// dots in the other's context are dropped, so that what was compared stays compared.
type repairSession struct {
	local  *Pinned            // what is compared with the other's moment
	source gossip.NeighbourID // whose that is; empty if it was not begun by an engine
	target crdt.VersionVector
	heads  delta.Heads
	bases  []delta.Table // of the target that are not held here
	tree   Tree

	batch   *store.Batch
	write   Stage    // how what is staged reaches the tree while the repair goes on
	fill    *filling // instead of staging; nil if it stages
	pulls   *antientropy.Puller
	failed  error  // why it could not be taken over
	session uint64 // of staged changes, so that those of an aborted repair are never taken for another's
	next    uint64
}

// stageKey returns where a session's n-th change is staged.
func stageKey(session, n uint64) []byte {
	return binary.BigEndian.AppendUint64(numbered(prefixStage, session), n)
}

// release closes the moments that it reads.
func (p *repairSession) release() {
	p.local.Close()
	if p.fill != nil && p.fill.all != nil {
		p.fill.all.Close()
	}
}

// covers reports whether the repair will bring dots of d.
func (p *repairSession) covers(d *delta.Delta) bool { return p.target[d.Replica] >= d.First }

// beginRepair starts a repair with another replica's pinned context in its short form, and what
// bases that has and this replica lacks, in its order. It returns ErrBusy while clears are swept
// or another repair runs, ErrForked if the other's dots are others than those here, and
// antientropy.ErrBadSource if context and bases do not fit.
func (r *replica) beginRepair(target crdt.VersionVector, heads delta.Heads, bases ...delta.Table) (*repairSession, error) {
	if r.changes() || r.filling != nil && !r.Parked() {
		return nil, ErrBusy
	}
	bases = slices.DeleteFunc(bases, func(t delta.Table) bool { return r.seen.Has(t.Dot) })
	target, heads, err := r.readTarget(target, heads, bases)
	if err != nil {
		return nil, err
	}
	if all := r.seen.Clone(); len(target) > delta.MaxReplicas || len(all) > delta.MaxReplicas-len(target) {
		if all.Merge(target); len(all) > delta.MaxReplicas {
			return nil, fmt.Errorf("%d replicas have written here or there (limit %d)",
				len(all), delta.MaxReplicas)
		}
	}
	if d := r.heard(target, heads, len(target)); len(d.Forked) > 0 {
		return nil, fmt.Errorf("replica %v: %w", d.Forked[0], ErrForked)
	}
	r.sessions++
	r.repaired = r.sessions
	r.repair = &repairSession{
		local: r.pin(), target: target, heads: heads, bases: bases, tree: r.st, batch: &store.Batch{},
		session: r.sessions,
	}
	if r.filling != nil || r.mayFill() {
		r.repair.fill = r.beginFilling()
	}
	return r.repair, nil
}

// readTarget reads a source's context with its bases: of those here some may not be in it.
func (r *replica) readTarget(v crdt.VersionVector, heads delta.Heads, more []delta.Table) (
	crdt.VersionVector, delta.Heads, error) {
	all := r.basesWith(more)
	v, heads = all.Expand(v, heads)
	for _, t := range more {
		fits := v.Has(t.Dot)
		for _, b := range t.Bases {
			fits = fits && v[b.Replica] >= b.Last && b.Replica != t.Dot.Replica
		}
		if !fits {
			return nil, nil, fmt.Errorf("%w: the bases %v are not in its context", antientropy.ErrBadSource, t.Dot)
		}
	}
	return v, heads, nil
}

// Repairing reports whether a repair runs.
func (r *replica) Repairing() bool { return r.repair != nil }

// Add stages entries that a cell is to gain. It may be called by the goroutine that drives the
// repair.
func (p *repairSession) Add(a dotted.Address, entries []dotted.Entry) error {
	if p.fill != nil && p.fill.all == nil {
		return p.fill.add(a, entries, p.write)
	}
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

// Remove stages dots that a cell is to lose. It may be called by the goroutine that drives the
// repair.
func (p *repairSession) Remove(a dotted.Address, dots []crdt.Dot) error {
	for some := range slices.Chunk(dots, maxEntries) {
		if err := p.stage(change{address: a, removes: some}); err != nil {
			return err
		}
	}
	return nil
}

// stageBytes is about how many bytes of payload one storage transaction of a repair takes.
const stageBytes = 1 << 20

func (p *repairSession) stage(c change) error {
	encoded := c.encode()
	left := piecesOf(len(encoded))
	for piece := range slices.Chunk(encoded, maxPiece) {
		p.next++
		left--
		key := stageKey(p.session, p.next)
		p.batch.Set(key, sealPiece(key, piece, left))
		if p.batch.Bytes() < stageBytes && p.batch.Len() < fillItems {
			continue
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (p *repairSession) flush() error {
	err := p.write(p.batch)
	p.batch = &store.Batch{}
	return err
}

// close has the last of it written: all is here.
func (p *repairSession) close() (err error) {
	if p.batch.Len() > 0 {
		err = p.flush()
	}
	if err == nil && p.fill != nil {
		return p.fill.close(p.write)
	}
	if err == nil {
		err = p.write(nil)
	}
	return err
}

// abortRepair ends a repair without effect: a task removes what it staged, but what filled an
// empty replica waits for the next source. Whoever drove it must be done with it. A second call,
// or one after takeRepair, does nothing.
func (r *replica) abortRepair(p *repairSession) {
	if r.repair != p {
		return
	}
	r.repair = nil
	if p.fill != nil {
		r.leaveFilling(p)
		return
	}
	r.begin(r.dropStaged(p.session))
}

// takeRepair returns a task: everything staged is taken over, and the other's context with it.
func (r *replica) takeRepair(p *repairSession) ([]task, error) {
	if r.repair != p {
		return nil, ErrBusy
	}
	if p.fill != nil && p.fill.ended.Load() {
		r.abortRepair(p)
		return nil, errNotEmpty
	}
	if p.fill != nil {
		return r.takeFilling(p), nil
	}
	now := r.wallTime()
	return []task{
		r.beginFlip(p, now), r.takeOver(now),
		r.saveAll(now), // before it what is staged cannot go
		r.dropStaged(p.session), r.endFlip,
	}, nil
}

// beginFlip returns a task: a record that says that what is staged is to be taken over.
func (r *replica) beginFlip(p *repairSession, now time.Time) task {
	return func() (done bool, err error) {
		if r.late() { // bases that come with it wait for a checkpoint
			return false, r.pace(now)
		}
		r.write(Write{SyncTree: true})
		r.repair = nil
		p.local.Close()
		f := flip{session: p.session, seen: crdt.VersionVector{}, heads: delta.Heads{}}
		for id, n := range p.target {
			if n > r.seen[id] {
				f.seen[id], f.heads[id] = n, p.heads[id]
			}
		}
		for _, t := range p.bases {
			if !r.seen.Has(t.Dot) {
				f.tables = append(f.tables, t)
			}
		}
		r.append(logged{lsn: r.log.Last + 1, kind: recordFlip, time: now, flip: f, totals: r.totals})
		r.write(Write{SyncLog: true})
		r.flip, r.quiet = &f, true
		r.raiseTo(&f)
		return true, nil
	}
}

// endFlip lets readers see what was taken over or filled in. The tree has nothing any more of
// what was staged.
func (r *replica) endFlip() (done bool, err error) {
	r.ahead, r.quiet = false, false
	r.table.Rebase(r.st.Snapshot())
	r.turns++
	r.unpublished = true
	return true, nil
}

// raiseTo takes a repair's context over.
func (r *replica) raiseTo(f *flip) {
	for _, t := range f.tables {
		r.holdTable(t)
	}
	for id, n := range f.seen {
		r.raise(id, n, f.heads[id])
	}
	r.guards.forget()
}

// takeOver returns a task: the rest of what the repair that is taken over staged, slice by slice.
func (r *replica) takeOver(now time.Time) task {
	return func() (done bool, err error) {
		if r.flip == nil {
			return true, nil
		}
		if r.late() {
			return false, r.pace(now)
		}
		return false, r.takeSlice(now)
	}
}

// takeSlice does one slice of it.
func (r *replica) takeSlice(now time.Time) error {
	g := r.newGroup(now)
	defer g.discard()
	upTo, more, err := g.takeStaged(r.flip.session, r.flip.upTo, nil)
	if err != nil {
		return err
	}
	changed := g.changed()
	root := g.plan(changed)
	rec := logged{
		kind: recordSlice, flip: flip{session: r.flip.session, upTo: upTo}, derived: g.derived(), root: root,
	}
	if !more {
		rec.kind, rec.settled = recordLast, g.clears.count == 0
	}
	g.log(rec)
	g.take(rec.derived, changed)
	if r.flip.upTo = upTo; !more {
		r.flip = nil
		r.collecting.due = true // for baselines that came with it: before they are here there seem to be none
	}
	return nil
}

// replayItems and replayBytes bound the staged changes of one slice.
const (
	replayItems = 1024
	replayBytes = 1 << 20
)

// perBatch returns how many staged changes a slice takes, and how many records are removed, or
// pages written, at once.
func (r *replica) perBatch() int { return min(replayItems, r.cfg.MaxBatch) }

// takeStaged applies staged changes of a session to the group: those behind the key from, up to
// the key last, or as many as a slice takes if there is none. It returns the key of the last one,
// and whether there are more.
func (g *group) takeStaged(session uint64, from, last []byte) (upTo []byte, more bool, err error) {
	snap := g.r.st.Snapshot() // the view's may be older
	defer snap.Close()
	upTo = from
	start, end := numbered(prefixStage, session), after(numbered(prefixStage, session))
	if len(from) > 0 {
		start = append(slices.Clone(from), 0)
	}
	if last != nil {
		end = append(slices.Clone(last), 0)
	}
	var failed error
	var begun []byte // of a change that has more than one piece
	items, size := 0, 0
	err = snap.Scan(start, end, func(k, v []byte) bool {
		full := items >= g.r.perBatch() || size >= replayBytes || items > 0 && g.r.spentSince(g.began)
		if more = len(begun) == 0 && last == nil && full; more {
			return false
		}
		work := g.r.work
		defer func() { g.r.transacted(work) }()
		var piece []byte
		var left uint64
		if piece, left, failed = unsealPiece(k, v); failed != nil {
			return false
		}
		size += len(v)
		if begun = append(begun, piece...); left > 0 {
			return true
		}
		upTo = slices.Clone(k)
		var c change
		if c, failed = decodeChange(upTo, begun); failed == nil {
			failed = g.change(c)
		}
		begun = nil // the cell keeps what it points to
		if failed != nil {
			return false
		}
		items++
		size += 4*len(c.address) + weightOf(g.cells[c.address].now)
		return true
	})
	if err == nil && failed == nil && len(begun) > 0 {
		failed = damaged(upTo, errMissing)
	}
	if err == nil && failed == nil && last != nil && !bytes.Equal(upTo, last) {
		failed = damaged(last, errMissing)
	}
	return upTo, more, cmp.Or(failed, err)
}

// change applies a staged change.
func (g *group) change(c change) error {
	g.r.spend(workOp + workOf(len(c.address)))
	state, err := g.load(c.address)
	if err != nil {
		return err
	}
	now := state.now.Without(c.removes)
	for _, e := range c.adds {
		now = now.With(e)
	}
	if g.r.opening.loaded {
		return g.set(state, now, nil)
	}
	state.now = now // what is derived was logged
	return nil
}

// dropStaged returns a task: the staged changes of a session and of those after it are removed.
func (r *replica) dropStaged(session uint64) task {
	return r.removeAll(numbered(prefixStage, session), []byte{prefixStage + 1})
}

// change is what happens to one cell when staged changes are taken over. Doing it twice is doing
// it once.
type change struct {
	address dotted.Address
	adds    []dotted.Entry
	removes []crdt.Dot
}

func (c change) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.String(string(c.address))
		dotted.WriteDots(w, c.removes)
		w.Array(3 * len(c.adds))
		for _, e := range c.adds {
			w.Uint(uint64(e.Dot.Replica))
			w.Uint(e.Dot.Counter)
			w.Bytes(e.Payload)
		}
	})
}

// decodeChange reads a change. key is that of its last piece.
func decodeChange(key, body []byte) (c change, err error) {
	err = decodeBody(key, body, func(r *wire.Reader) {
		r.Array(3)
		c.address = dotted.Address(r.String(crdt.MaxAddress))
		c.removes = dotted.ReadDots(r)
		n := r.Array(3*maxEntries) / 3
		for i := 0; i < n && r.Err() == nil; i++ {
			d := crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
			c.adds = append(c.adds, dotted.Entry{Dot: d, Payload: r.Bytes(dotted.MaxPayload)})
		}
	})
	return c, err
}

// sealPiece returns the record of a piece of a staged change. left are those that follow.
func sealPiece(key, piece []byte, left int) []byte {
	return seal(key, func(w *wire.Writer) {
		w.Array(2)
		w.Uint(uint64(left))
		w.Bytes(piece)
	})
}

func unsealPiece(key, record []byte) (piece []byte, left uint64, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		r.Array(2)
		left = r.Uint()
		piece = r.Bytes(maxPiece)
	})
	return piece, left, err
}

// Pull is a repair of this replica from a neighbour whose log does not reach what is missing
// here. Its host opens a stream to the neighbour and carries questions and answers: the work in
// between is done by Go, beside the engine. Where the engine must be asked Go says so, and Take
// is called: the Pull is in a Ready again once it may go on, or is over.
type Pull struct {
	From    gossip.NeighbourID
	Spoiled bool               // it can have no effect any more: its stream is to be ended, and Fail to be called
	Over    bool               // it is
	Err     error              // why it had no effect; nil if it had
	Result  antientropy.Result // what it did, once it is over

	gathering *antientropy.Gathering
	source    antientropy.Response // the answer with which that ended
	repair    *repairSession
	puller    *antientropy.Puller
	had       int  // cells that sources before brought
	fetched   bool // all that is missing is staged
	taken     bool // and the engine takes it over

	progress atomic.Pointer[Progress]
}

// beginPull begins its comparison. It returns ErrBusy if the replica was discarded meanwhile: it
// has no longer what the source left out.
func (e *Engine) beginPull(p *Pull) (*repairSession, error) {
	if e.Lacks(p.gathering.Held()) {
		return nil, ErrBusy
	}
	return e.beginRepairFrom(p.From, p.source.Context, p.source.Heads, p.gathering.Tables()...)
}

// startPull begins a repair, unless one runs. The neighbour says again that it is needed.
func (e *Engine) startPull(from gossip.NeighbourID) {
	if e.pull != nil || e.Repairing() || !e.linked(from) || e.room != Roomy || e.damage != nil {
		return
	}
	e.pull = &Pull{From: from, gathering: antientropy.Gather(e.Vector())}
	e.ready.Pulls = append(e.ready.Pulls, e.pull)
}

// Start returns the first question.
func (p *Pull) Start() antientropy.Request { return p.gathering.Start() }

// Stage is how a repair writes to the tree, one batch after the other. It may return while one is being written: of nil it
// returns when all are.
type Stage func(*store.Batch) error

// Go takes an answer and returns the next question; asks is false if the engine is to be asked
// first, with Take. After an error, once all that was staged is written or has failed, the engine must be told by Fail. It
// may be called by any goroutine.
func (p *Pull) Go(answer antientropy.Response, commit Stage) (
	question antientropy.Request, asks bool, err error) {
	done := false
	if p.repair == nil {
		question, done, err = p.gathering.Handle(answer)
		p.source = answer
		return question, !done, err
	}
	p.repair.write = commit
	question, done, err = p.puller.Handle(answer)
	if done && err == nil {
		err = p.repair.close()
	}
	p.fetched = done
	p.note(p.puller.Result())
	return question, !done, err
}

// note notes how far it has come.
func (p *Pull) note(r antientropy.Result) {
	at := &Progress{Of: r.All, Bytes: r.Bytes}
	if r.All > 0 {
		at.Had, at.Cells = p.had, min(p.had+r.Cells, r.All)
	}
	p.progress.Store(at)
}

// Resume is Go after Take.
func (p *Pull) Resume(commit Stage) (question antientropy.Request, asks bool, err error) {
	answer := p.source
	answer.Context, answer.Heads = p.repair.target, p.repair.heads
	return p.Go(answer, commit)
}

// Unwritten says, before Fail, that something that was staged was not written: no source can go on behind it.
func (p *Pull) Unwritten() {
	if p.repair != nil && p.repair.fill != nil {
		p.repair.fill.over = true
	}
}

// Abandon releases what the pull holds, if the engine is no more. It must not be used afterwards.
func (p *Pull) Abandon() {
	if p.repair != nil {
		p.repair.release()
	}
}

// Progress is how far a repair has come. Cells and Of are 0 if only those are sent that differ:
// nobody knows how many these are.
type Progress struct {
	Cells int   // that came from this source, and those before it
	Had   int   // of them, when this one began
	Of    int   // that the source has
	Bytes int64 // of addresses and payloads received
}

// Progress may be called by any goroutine.
func (p *Pull) Progress() Progress {
	if at := p.progress.Load(); at != nil {
		return *at
	}
	return Progress{}
}

// Take takes a pull on: the comparison begins, or what was fetched takes effect.
func (e *Engine) Take(p *Pull) {
	if e.pull != p {
		return
	}
	if p.fetched {
		p.taken = true
		e.replica.begin(once(func() {
			if err := e.finish(p); err != nil {
				e.endPull(p, err)
			}
		}))
		return
	}
	if e.repaired > 0 { // a repair that was aborted may have gone on to stage something
		e.replica.begin(e.dropStaged(e.repaired))
	}
	e.whenSettled(func(settled bool) {
		if e.pull != p {
			return
		}
		err := ErrBusy
		if settled {
			p.repair, err = e.beginPull(p)
		}
		if err != nil {
			e.endPull(p, err)
			return
		}
		if p.puller = p.repair.puller(); p.repair.fill != nil {
			p.had = p.repair.fill.count.cells
		}
		e.ready.Pulls = append(e.ready.Pulls, p)
	})
}

// Fail ends a pull without effect, because of an error of Go or of its stream. It does nothing
// once Take was called for what was fetched: the source is not needed any more.
func (e *Engine) Fail(p *Pull, err error) {
	if e.pull != p || p.taken {
		return
	}
	rotten := IsDamage(err)
	if p.repair != nil {
		if p.repair.fill != nil && rotten {
			p.repair.fill.over = true // the next source would come upon the same
		}
		e.abortRepair(p.repair)
	}
	if p.Spoiled {
		err = errNotEmpty
	}
	e.endPull(p, err)
	if rotten { // a record here that cannot be compared would stop every repair
		e.replica.begin(once(func() { e.verify(proofEvery, "") })) // removing what is staged may take long
	}
}

// finish begins a task that takes a repair over; neighbours are told, and what they lack is
// looked up anew. If the source has come into quarantine since, the repair ends without effect:
// what is here would be taken for removed there.
func (e *Engine) finish(p *Pull) error {
	if e.Quarantined(p.From) {
		e.abortRepair(p.repair)
		return ErrForked
	}
	if e.damage != nil {
		e.abortRepair(p.repair)
		return ErrBusy
	}
	parts, err := e.takeRepair(p.repair)
	if err != nil {
		return err
	}
	e.replica.then(append(parts, once(func() {
		if e.Rebase(); p.repair.failed != nil {
			e.endPull(p, p.repair.failed)
			return
		}
		e.dirty, e.ready.Jumped = true, true
		e.tell(Notice{Kind: Repaired, From: p.From})
		e.endPull(p, nil)
	}))...)
	return nil
}

func (e *Engine) endPull(p *Pull, err error) {
	e.pull = nil
	p.Abandon()
	p.Over, p.Err = true, err
	if p.puller != nil {
		p.Result = p.puller.Result()
	}
	e.ready.Pulls = append(e.ready.Pulls, p)
}

// spoilPull has a pull end whose filling has failed.
func (e *Engine) spoilPull() {
	p := e.pull
	if p == nil || p.Spoiled || p.taken || p.repair == nil || p.repair.fill == nil || !p.repair.fill.ended.Load() ||
		slices.Contains(e.ready.Pulls, p) {
		return
	}
	p.Spoiled = true
	e.ready.Pulls = append(e.ready.Pulls, p)
}

// Pulling reports whether a repair was started and has not ended.
func (e *Engine) Pulling() bool { return e.pull != nil }

// MaxSources is how many repairs a host serves at once, of all its spaces. Each pins a snapshot,
// and what changes of the tree meanwhile, 1.1 MB at most, is copied. PullTimeout ends a repair
// whose other side is silent.
const (
	MaxSources  = 2
	PullTimeout = 60 * time.Second
)

// Sources are the repairs that a host serves. They may be used by any goroutine.
type Sources struct{ served atomic.Int32 }

// Begin takes one more, or returns ErrBusy where MaxSources are served.
func (s *Sources) Begin() error {
	for {
		n := s.served.Load()
		if n >= MaxSources {
			return fmt.Errorf("%d repairs are served already: %w", n, ErrBusy)
		}
		if s.served.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// End takes note that one has ended.
func (s *Sources) End() { s.served.Add(-1) }

// Served returns how many there are.
func (s *Sources) Served() int { return int(s.served.Load()) }

// Serve calls fn with the present moment for the repair of a neighbour, as soon as nothing is to
// be swept; or with ErrBusy if that takes too long, and ErrForked if the neighbour is in
// quarantine.
func (e *Engine) Serve(to gossip.NeighbourID, fn func(*Pinned, error)) {
	e.whenSettled(func(settled bool) {
		switch {
		case e.Quarantined(to):
			fn(nil, ErrForked)
		case !settled:
			fn(nil, ErrBusy)
		default:
			fn(e.Pin())
		}
	})
}

// settleTime is how long something waits for a moment with nothing left to be swept. What is left
// then is swept without rests.
const settleTime = 250 * time.Millisecond

// settling is something that waits for such a moment.
type settling struct {
	until time.Time
	fn    func(settled bool)
}

// whenSettled calls fn at such a moment, or after a while without one.
func (e *Engine) whenSettled(fn func(settled bool)) {
	e.settling = append(e.settling, settling{e.now.Add(settleTime), fn})
}

// settle does what waited for nothing to be swept.
func (e *Engine) settle() {
	e.sweeps.hurried = (e.sweeps.hurried || len(e.settling) > 0) && e.Clears() > 0
	settled := e.Clears() == 0 && !e.Busy()
	all := e.settling
	e.settling = nil
	for _, s := range all {
		if settled || !e.now.Before(s.until) {
			s.fn(settled)
		} else {
			e.settling = append(e.settling, s)
		}
	}
}

// beginRepairFrom is replica.beginRepair with a neighbour's context. If it returns ErrForked the
// neighbour is in quarantine.
func (e *Engine) beginRepairFrom(id gossip.NeighbourID, target crdt.VersionVector, heads delta.Heads,
	bases ...delta.Table) (*repairSession, error) {
	if e.Quarantined(id) {
		return nil, ErrForked
	}
	p, err := e.beginRepair(target, heads, bases...)
	switch {
	case err == nil:
		p.source = id
	case errors.Is(err, ErrForked):
		e.Estrange(id, e.replica.heard(target, heads, len(target)).Forked...)
	}
	return p, err
}
