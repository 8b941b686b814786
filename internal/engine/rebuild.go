package engine

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Two replicas with one context and different cells cannot both be right, and merging them would spread the
// damage: a cell that rotted away here looks like one that was removed. So the replica that fails its own check
// discards its cells and context, fills up from its peers, and then applies the deltas of its own log again, for
// those that no peer had.

// Verify reads every cell of the moment and compares their fingerprints with the tree that was kept in
// place, and what is derived from them with what is stored. It returns an
// error that wraps store.ErrCorrupt if they differ. It may be called by any goroutine, and ends early, without
// an answer, once stop returns true.
func (p *Pinned) Verify(stop func() bool) error {
	n := newRecount(p.view, p.derives)
	err := n.scan(stop)
	if err == nil && !stop() {
		err = n.check(stop)
	}
	if err != nil || stop() {
		return err
	}
	if root, kept := n.tree.Root(), p.tree.Root(); root != kept {
		return fmt.Errorf("the cells sum to %v, the tree says %v: %w", root, kept, store.ErrCorrupt)
	}
	return nil
}

func recordHash(key, value []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(key)
	_, _ = h.Write(value)
	return h.Sum64()
}

// Whole reports whether the replica has what its context says, so that others may rely on it: it is neither
// damaged nor rebuilding.
func (r *Replica) Whole() bool { return r.damage == nil && !r.rebuilding }

// Lacks reports whether the replica lacks something of a context.
func (r *Replica) Lacks(known crdt.VersionVector) bool { return !r.seen.Contains(known) }

// Rebuilding reports whether the replica discarded its cells and has not got all of them back. What it
// holds is then not to be read.
func (r *Replica) Rebuilding() bool { return r.rebuilding }

// discardAll begins a task that begins a rebuild, of a replica that is damaged: all cells and the context go, and the log
// that is there is put aside. A crash on the way is made up for by Open. Neighbours must be told: see Engine.discard.
func (r *Replica) discardAll() {
	if r.repair != nil {
		r.abortRepair(r.repair)
	}
	r.begin(func() (done bool, err error) {
		r.write(Write{SyncLog: true})
		return true, nil
	}, r.putAside)
	r.begin(r.removeEverything()...)
}

// putAside marks the log that is there.
func (r *Replica) putAside() (done bool, err error) {
	if !r.rebuilding {
		r.aside.from = max(r.logs.First(), r.dropped)
	}
	r.aside.end, r.aside.last = r.logs.Next(), r.log.last
	err = scanLog(r.logs, max(r.log.next, r.aside.from), 0, func(rec logged, _ store.Position) bool {
		r.aside.last = max(r.aside.last, rec.lsn) // behind what opening could not read
		return true
	})
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return false, err
	}
	r.markRebuild(rebuildDiscards)
	return true, nil
}

// rebuildPhase is how far a rebuild has come, in its mark.
type rebuildPhase uint64

const (
	rebuildDiscards rebuildPhase = 1 // what is there goes
	rebuildFills    rebuildPhase = 2 // the peers' data comes
)

// rebuild is its mark.
type rebuild struct {
	phase rebuildPhase
	aside aside
	must  crdt.VersionVector // what must have come before it may end
	from  gossip.NeighbourID // who had that when the replica was discarded
	tried crdt.VersionVector // the context when it was last tried to be ended; not stored
}

// aside is the part of the log that was there before: what only it has is applied again in the end.
type aside struct {
	from, end store.Position
	last      uint64 // number of the last record
}

func newRebuild() rebuild { return rebuild{must: crdt.VersionVector{}} }

// encode returns the mark's record. The store's own ids stand in it as well: the checkpoint goes.
func (b *rebuild) encode(writeOwn func(*wire.Writer)) []byte {
	return wire.Seal(formatVersion, keyRebuild, wire.Encode(func(w *wire.Writer) {
		w.Array(7)
		w.Uint(uint64(b.phase))
		w.Uint(uint64(b.aside.from))
		w.Uint(uint64(b.aside.end))
		w.Uint(b.aside.last)
		dotted.WriteVector(w, b.must)
		w.String(string(b.from))
		writeOwn(w)
	}))
}

func decodeRebuild(record []byte) (b rebuild, own []ownID, err error) {
	b = newRebuild()
	body, err := unseal(keyRebuild, record)
	if err != nil {
		return b, nil, err
	}
	err = wire.Decode(body, func(rd *wire.Reader) {
		rd.Array(7)
		b.phase = rebuildPhase(rd.Uint())
		b.aside = aside{store.Position(rd.Uint()), store.Position(rd.Uint()), rd.Uint()}
		b.must.Merge(dotted.ReadVector(rd))
		b.from = gossip.NeighbourID(rd.String(gossip.MaxNeighbourID))
		own = readOwn(rd)
	})
	if err != nil {
		return b, nil, damaged(keyRebuild, err)
	}
	return b, own, nil
}

// markRebuild has it noted durably how far the rebuild has come.
func (r *Replica) markRebuild(phase rebuildPhase) {
	r.phase = phase
	mark := &store.Batch{}
	mark.Set(keyRebuild, r.rebuild.encode(r.writeOwn))
	if phase == rebuildFills { // the log goes on behind what was put aside
		empty := checkpoint{reach: reach{r.aside.last, r.aside.end}, settled: true, log: newIndex()}
		empty.log.first = r.aside.last + 1
		mark.Set(keyCheckpoint, empty.encode(r.writeOwn))
	}
	r.writeBatch(mark, nil)
	r.write(Write{SyncTree: true})
}

// removeEverything returns a task: what is there is removed. Doing it twice is doing it once.
func (r *Replica) removeEverything() (parts []task) {
	kinds := []byte{prefixCell, prefixPart, prefixBlob, prefixStage, prefixClear, prefixSeen, prefixBase}
	for _, kind := range append(kinds, r.derives.kinds()...) {
		parts = append(parts, r.removeAll([]byte{kind}, []byte{kind + 1}))
	}
	return append(parts, func() (done bool, err error) {
		last := &store.Batch{}
		last.Delete(keyCheckpoint)
		last.Delete(keyEra)
		r.writeBatch(last, nil)
		r.markRebuild(rebuildFills)
		return true, nil
	}, func() (done bool, err error) {
		r.reset()
		return true, nil
	})
}

// reset makes the state in memory that of an empty store, whose log goes on.
func (r *Replica) reset() {
	r.id = 0
	r.seen, r.heads, r.gained = crdt.VersionVector{}, delta.Heads{}, crdt.VersionVector{}
	r.digest = antientropy.Fingerprint{}
	r.based = newBased()
	r.refuseBackups()
	r.log, r.saving, r.flip = newIndex(), nil, nil
	r.log.last, r.log.located, r.log.first = r.aside.last, r.aside.last, r.aside.last+1
	r.log.next = r.aside.end
	r.saved = reach{r.log.last, r.log.next}
	r.checkpoints++
	r.durable, r.durables = r.saved, r.checkpoints
	r.resetClears()
	r.collecting = collecting{}
	r.tree, r.cells, r.keys, r.tallies = &antientropy.Tree{}, 0, 0, 0
	r.cache = newCache(r.cfg.MaxCache)
	r.table.base.release()
	r.table = newTable(r.st)
	r.damage, r.blind, r.rebuilding, r.opening.loaded = nil, false, true, !r.opening.under
	r.unpublished = true
}

// Damaged returns why the store that was opened cannot be what was written; nil if it can. Then nothing may
// be read or written before that is discarded.
func (r *Replica) Damaged() error { return r.damage }

// setDamaged says that the cells were found not to be what was written. Nothing is written any more, so that
// no later check takes the damage for right.
func (r *Replica) setDamaged(why error) {
	r.damage = why
	r.refuseBackups()
}

// removeAll returns a task: a range of keys is deleted, batch by batch.
func (r *Replica) removeAll(start, end []byte) task {
	return func() (done bool, err error) {
		batch := &store.Batch{}
		snap := r.st.Snapshot()
		defer snap.Close()
		err = snap.ScanKeys(start, end, func(key []byte) bool {
			key = append([]byte(nil), key...)
			start = append(key, 0) // what is deleted takes time to pass over
			batch.Delete(key)
			return batch.Len() < r.perBatch()
		})
		if err != nil || batch.Len() == 0 {
			return true, err
		}
		r.writeBatch(batch, nil)
		return false, nil
	}
}

// reapply begins a task that ends a rebuild, once the replica has got from its peers what they have: it applies the
// deltas of its own former log that none of them had. ended is called if that was all: if some of them depend on what no
// peer has brought yet they are kept, the replica goes on rebuilding, and reapply is to be called again when more has come.
func (r *Replica) reapply(now time.Time, ended func()) {
	if !r.seen.Contains(r.must) {
		return
	}
	from, early, more := r.aside.from, 0, true
	r.begin(func() (done bool, err error) {
		switch {
		case r.late():
			return false, r.pace(now)
		case r.clears.count > reapplyClears:
			_, err = r.sweepSome()
			return false, err
		case more:
			from, more, err = r.reapplySome(now, from, &early)
			return false, err
		case early == 0:
			r.then(r.save(now), r.endRebuild, func() (done bool, err error) {
				r.rebuilding, r.rebuild = false, newRebuild()
				r.dropLog()
				ended()
				return true, nil
			})
		}
		return true, nil
	})
}

// endRebuild has the mark of the rebuild removed.
func (r *Replica) endRebuild() (done bool, err error) {
	end := &store.Batch{}
	end.Delete(keyRebuild)
	r.writeBatch(end, nil)
	r.write(Write{SyncTree: true})
	return true, nil
}

// reapplyClears is how many clears may wait to be swept between two groups of reapply.
const reapplyClears = 16

// reapplySome takes records from the log that was put aside, from a position on, as many as one group holds, and
// returns where to go on. It counts those with deltas that are early. What was applied is known the next time.
func (r *Replica) reapplySome(now time.Time, from store.Position, early *int) (
	next store.Position, more bool, err error) {
	g := r.Begin(now)
	var failed error
	bytes := 0
	next = from
	err = scanLog(r.logs, from, 0, func(rec logged, at store.Position) bool {
		if more = at < r.aside.end; !more {
			return false
		}
		if next = at; bytes > 0 && (bytes+rec.bytes > groupCost || g.full()) {
			return false // one record of the log takes no more than a group that was filled at once
		}
		bytes += rec.bytes
		waits := false
		work := r.work
		defer func() { r.transacted(work) }()
		for _, d := range rec.deltas {
			var outcome gossip.Outcome
			if outcome, failed = g.apply(d); failed != nil {
				return false
			}
			waits = waits || outcome != gossip.Applied && outcome != gossip.Known
		}
		if waits {
			*early++
		}
		next = rec.next
		return true
	})
	if err = cmp.Or(failed, err); err != nil && !errors.Is(err, store.ErrCorrupt) {
		g.Discard()
		return next, false, err
	}
	if failed != nil {
		g.Discard()
		return next, false, failed
	}
	g.commit()
	return next, more && next < r.aside.end && next > from, nil
}

// resumeRebuild continues at open what a crash interrupted.
func (r *Replica) resumeRebuild() error {
	snap := r.st.Snapshot()
	record, ok, err := snap.Get(keyRebuild)
	snap.Close()
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	if r.rebuild, r.own, err = decodeRebuild(record); err != nil {
		return err
	}
	r.rebuilding = true
	if r.phase != rebuildDiscards {
		return nil
	}
	r.begin(r.removeEverything()...)
	return r.opening.finish()
}

// health is what an engine knows of how it is, beyond its store.
type health struct {
	caughtUp  bool      // it has had all that its neighbours had, or began with data
	verifying bool      // its cells are being read
	verified  time.Time // when they were last found right
	alarmed   time.Time // when forks were named last
	helped    time.Time // when a damaged replica last had somebody to help it, or needed nobody
	helpless  time.Time // when it was last said that nobody can
}

// How often all cells are read while they are found right: because of a suspicion, and because a record here
// was found broken.
const (
	VerifyEvery = 10 * time.Minute
	ProofEvery  = 15 * time.Second
)

// verify has the cells checked, but not if they were found right less than a time ago. If there is nothing to do, or no moment of
// rest, it is not done: what was noticed will be noticed again.
func (e *Engine) verify(every time.Duration, because gossip.NeighbourID) {
	e.whenSettled(func(settled bool) {
		if !settled || e.verifying || e.rebuilding || !e.verified.IsZero() && e.now.Sub(e.verified) < every {
			return
		}
		pinned, err := e.Pin()
		if err != nil {
			return
		}
		e.verifying = true
		e.ready.Verify = pinned
		if every == VerifyEvery {
			e.tell(Notice{Kind: Checking, From: because})
		}
	})
}

// Suspect has the cells checked after a read of a view failed with an error, if that says that they are damaged.
func (e *Engine) Suspect(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		e.verify(ProofEvery, "")
	}
}

// Verified takes the outcome of a check.
func (e *Engine) Verified(outcome error) {
	if e.Busy() { // what is under way comes to its end
		e.Replica.begin(func() (done bool, err error) {
			e.judge(outcome)
			return true, nil
		})
		return
	}
	e.judge(outcome)
}

func (e *Engine) judge(outcome error) {
	e.verifying = false
	switch {
	case e.rebuilding:
	case outcome == nil:
		e.verified = e.now
		e.tell(Notice{Kind: Sound})
	case errors.Is(outcome, store.ErrCorrupt):
		e.setDamaged(outcome)
		e.tell(Notice{Kind: Damaged, Err: outcome})
	default:
		e.tell(Notice{Kind: CannotCheck, Err: outcome})
	}
}

// ErrRebuilding is returned while a damaged replica is rebuilt from others, or waits for one that it can be rebuilt from.
var ErrRebuilding = errors.New("the data here is damaged and is rebuilt from other peers: try again later")

// Refusal returns why nothing may be read or written now; nil if it may.
func (e *Engine) Refusal() error {
	if e.damage != nil || e.rebuilding {
		return ErrRebuilding
	}
	return nil
}

// setDamaged is Replica.setDamaged; neighbours are asked anew how they are.
func (e *Engine) setDamaged(why error) {
	e.Replica.setDamaged(why)
	e.Rebase()
}

// DiscardDue reports whether what is here must go, because it is damaged, and may: a neighbour, itself whole, has
// all of it but for what this replica's own log has. Then nothing is lost with it. While a fork is known nothing is
// discarded: an empty replica could not tell the two sides apart.
func (e *Engine) DiscardDue() bool {
	if e.damage == nil || len(e.Forks()) > 0 {
		return false
	}
	id, _ := e.reliable()
	return id != ""
}

// discard begins a task that begins a rebuild, and links again. It ends only when all has come that the neighbour has
// because of which the replica could be discarded.
func (e *Engine) discard() {
	if id, known := e.reliable(); id != "" {
		e.from = id
		e.must.Merge(known)
	}
	e.caughtUp, e.tried = false, nil
	e.tell(Notice{Kind: Discarding})
	e.discardAll()
	e.Replica.begin(func() (done bool, err error) {
		e.Rebase()
		e.tell(Notice{Kind: Discarded})
		return true, nil
	})
}

// reliable returns a neighbour because of which the replica may be discarded, and its context. See DiscardDue.
func (e *Engine) reliable() (id gossip.NeighbourID, known crdt.VersionVector) {
	for _, id := range e.Neighbours() {
		known := e.Said(id)
		some := len(known) > 0 || len(e.seen) == 0 // who holds nothing gives nothing up
		if some && e.Whole(id) && !e.Quarantined(id) && e.covers(known) {
			return id, known
		}
	}
	return "", nil
}

// CaughtUp reports whether the replica has had all that its neighbours had, or began with data.
func (e *Engine) CaughtUp() bool { return e.caughtUp }

// lookAfterData begins or ends a rebuild, and says what people should know.
func (e *Engine) lookAfterData() {
	e.nameForks()
	if e.room == Roomy && !e.Busy() && e.DiscardDue() {
		e.discard()
	}
	if e.pull == nil && !e.Busy() {
		e.catchUp()
	}
	e.noticeHelplessness()
}

// catchUp notes whether all is here that the neighbours have, and ends a rebuild then: what only this
// replica's own former log had is applied. If that depends on what no neighbour has, it is tried again
// whenever more has come.
func (e *Engine) catchUp() {
	if e.caughtUp && !e.rebuilding || e.Repairing() || !e.hasAll() {
		return
	}
	e.caughtUp = true
	if !e.rebuilding || e.room != Roomy || e.damage != nil {
		return
	}
	e.lower()
	if e.waits() {
		return
	}
	e.tried = e.seen.Clone()
	e.reapply(e.wall, func() {
		e.Rebase()
		e.ready.Jumped = true
		e.tell(Notice{Kind: Rebuilt})
	})
}

// helpGrace is how long neighbours have to say how they are, before it is said that none can help, and warnEvery how
// often that is said, and which forks there are.
const (
	helpGrace = 5 * time.Second
	warnEvery = time.Minute
)

// noticeHelplessness says, now and then, that nobody can help a replica that is damaged or rebuilding.
func (e *Engine) noticeHelplessness() {
	if e.damage == nil && !e.waits() || len(e.takes) == 0 {
		e.helped = e.now
	}
	if e.now.Sub(e.helped) < helpGrace || e.now.Sub(e.helpless) < warnEvery {
		return
	}
	e.helpless = e.now
	if e.damage == nil {
		e.tell(Notice{Kind: Incomplete})
	} else {
		e.tell(Notice{Kind: Helpless, Err: e.damage})
	}
}

// nameForks says, at once and now and then, which writes exist in two versions.
func (e *Engine) nameForks() {
	if e.now.Sub(e.alarmed) < warnEvery {
		return
	}
	if forks := e.Forks(); len(forks) > 0 {
		e.alarmed = e.now
		e.tell(Notice{Kind: Forked, Forks: forks})
	}
}

// lower takes back of what must come for a rebuild to end what the neighbour, because of which the replica could be
// discarded, has lost meanwhile, as in a power failure.
func (e *Engine) lower() {
	known := e.Said(e.from)
	if len(known) == 0 || !e.Whole(e.from) || known.Contains(e.must) {
		return
	}
	e.must = known.Clone()
	e.tried = nil
}

// waits reports whether a rebuild has all that the neighbours have and needs more: what only this
// replica's own former log has depends on what none of them has.
func (e *Engine) waits() bool { return e.rebuilding && e.tried != nil && e.tried.Equal(e.seen) }

// hasAll reports whether neighbours have said what they have, and none has what this replica lacks, but
// for those in quarantine. An empty neighbour says nothing to an empty replica.
func (e *Engine) hasAll() bool {
	greetings := 0
	for _, id := range e.Neighbours() {
		known, greeted := e.Known(id)
		switch {
		case !greeted, e.Quarantined(id):
		case e.Lacks(known):
			return false
		case len(known) > 0 || e.Rebuilding():
			greetings++
		}
	}
	return greetings > 0
}

// SomeoneIsAhead reports whether a neighbour has what this replica lacks.
func (e *Engine) SomeoneIsAhead() bool {
	for _, id := range e.Neighbours() {
		if known, greeted := e.Known(id); greeted && !e.Quarantined(id) && e.Lacks(known) {
			return true
		}
	}
	return false
}
