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
	"github.com/peerd/peerd/internal/engine/health"
	"github.com/peerd/peerd/internal/engine/logindex"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// What package health decides is done here: cells are checked, a damaged replica is emptied and
// filled again.

// Verify reads every cell of the moment and compares their fingerprints with the tree that was
// kept in place, and what is derived from them with what is stored. It returns an error that
// wraps store.ErrCorrupt if they differ. It may be called by any goroutine, and ends early,
// without an answer, once stop returns true.
func (p *Pinned) Verify(stop func() bool) error {
	n, stopped := newRecount(p.view, p.derives), false
	counted := func() bool {
		p.read.Add(1)
		stopped = stopped || stop() // for good: what was read in part would look damaged
		return stopped
	}
	err := n.scan(counted)
	if err == nil && !stopped {
		err = n.check(counted)
	}
	if err != nil || stopped {
		return err
	}
	if root, kept := n.tree.Root(), p.tree.Root(); root != kept {
		return fmt.Errorf("the cells sum to %v, the tree says %v: %w", root, kept, store.ErrCorrupt)
	}
	if n.cells != p.cells || n.totals != p.view.totals {
		return fmt.Errorf("there are %d cells, and of keys %+v, counted were %d and %+v: %w", n.cells, n.totals,
			p.cells, p.view.totals, store.ErrCorrupt)
	}
	return nil
}

// Hurried reports whether somebody waits for what Verify says. Else it is the look at all cells
// after opening, which may take its time.
func (p *Pinned) Hurried() bool { return p.hurried.Load() }

// Verifying returns how many records the check of all cells that is under way has read, and of
// about how many; 0 and 0 if there is none. waits says that one follows.
func (e *Engine) Verifying() (read, all int, waits bool) {
	p := e.checking
	if p == nil {
		return 0, 0, e.unchecked
	}
	all = 2*p.cells + p.view.keys - p.view.lone
	return min(int(p.read.Load()), all), all, false
}

// checkOpened has all cells read once after opening, which took it for given that they are what
// was written.
func (e *Engine) checkOpened() {
	if !e.unchecked || e.now.Before(e.recheck) || e.unsettled() || e.Busy() || e.ending.stop ||
		!e.health.BeginCheck(e.state(), 0) {
		return
	}
	e.unchecked = false
	e.check()
}

// recheckAfter is how long after a check that could not read everything all cells are read again.
const recheckAfter = time.Minute

// check has all cells of the present moment read.
func (e *Engine) check() {
	e.checking = e.pin()
	e.ready.Verify = e.checking
}

// Doubt is to be called after an error of a Step, before the store is closed: if a record was not
// what was written all cells are read when it is opened again.
func Doubt(tree store.Store, why error) error {
	if !errors.Is(why, store.ErrCorrupt) {
		return nil
	}
	return tree.Commit(doubt(), true)
}

// doubt returns what has all cells read when the store is opened.
func doubt() *store.Batch {
	mark := &store.Batch{}
	mark.Set(keyDoubt, seal(keyDoubt, func(w *wire.Writer) { w.Array(0) }))
	return mark
}

func recordHash(key, value []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(key)
	_, _ = h.Write(value)
	return h.Sum64()
}

// Whole reports whether the replica has what its context says, so that others may rely on it: it
// is neither damaged nor rebuilding.
func (r *replica) Whole() bool { return r.damage == nil && !r.rebuilding }

// Lacks reports whether the replica lacks something of a context.
func (r *replica) Lacks(known crdt.VersionVector) bool { return !r.seen.Contains(known) }

// Rebuilding reports whether the replica discarded its cells and has not got all of them back.
// What it holds is then not to be read.
func (r *replica) Rebuilding() bool { return r.rebuilding }

// putAside returns a task: the log that is there is marked.
func (r *replica) putAside() task {
	begun := false
	var from store.Position // where it is read on
	return func() (done bool, err error) {
		if !begun {
			begun = true
			if !r.rebuilding {
				r.aside.from = max(r.logs.First(), r.dropped)
			}
			// What others have written since is not synced, and so no checkpoint may name its end.
			r.aside.end, r.aside.last = r.logs.Synced(), r.log.Last
			from = max(r.log.Next, r.aside.from)
		}
		began, more := r.work, false
		err = scanLog(r.logs, from, 0, func(rec logged, _ store.Position) bool {
			if more = r.spentSince(began); more {
				return false
			}
			r.spendRecord(rec.bytes)
			r.aside.last = max(r.aside.last, rec.lsn) // behind what opening could not read
			from = rec.next
			return true
		})
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			return false, err
		}
		if !more {
			r.markRebuild(rebuildDiscards)
		}
		return !more, nil
	}
}

// rebuildPhase is how far a rebuild has come, in its mark.
type rebuildPhase uint64

const (
	rebuildDiscards rebuildPhase = 1 // what is there goes
	rebuildFills    rebuildPhase = 2 // the peers' data comes
)

// rebuild is its mark.
type rebuild struct {
	phase  rebuildPhase
	aside  aside
	health health.Health // of which it has what must come, and from whom
}

// aside is the part of the log that was there before: what only it has is applied again in the end.
type aside struct {
	from, end store.Position
	last      uint64 // number of the last record
}

// encode returns the mark's record. The store's own ids stand in it as well: the checkpoint goes.
func (b *rebuild) encode(writeOwn func(*wire.Writer)) []byte {
	return wire.Seal(formatVersion, keyRebuild, wire.Encode(func(w *wire.Writer) {
		w.Array(7)
		w.Uint(uint64(b.phase))
		w.Uint(uint64(b.aside.from))
		w.Uint(uint64(b.aside.end))
		w.Uint(b.aside.last)
		dotted.WriteVector(w, b.health.Must)
		w.String(string(b.health.From))
		writeOwn(w)
	}))
}

func decodeRebuild(record []byte) (b rebuild, own []ownID, err error) {
	err = decodeRecord(keyRebuild, record, func(rd *wire.Reader) {
		rd.Array(7)
		b.phase = rebuildPhase(rd.Uint())
		b.aside = aside{store.Position(rd.Uint()), store.Position(rd.Uint()), rd.Uint()}
		b.health.Must = dotted.ReadVector(rd)
		b.health.From = gossip.NeighbourID(rd.String(gossip.MaxNeighbourID))
		own = readOwn(rd)
	})
	return b, own, err
}

// markRebuild has it noted durably how far the rebuild has come.
func (r *replica) markRebuild(phase rebuildPhase) {
	r.phase = phase
	mark := &store.Batch{}
	mark.Set(keyRebuild, r.rebuild.encode(r.writeOwn))
	if phase == rebuildFills { // the log goes on behind what was put aside
		empty := checkpoint{reach: reach{r.aside.last, r.aside.end}, settled: true}
		empty.log = logindex.After(empty.lsn, empty.next)
		mark.Set(keyCheckpoint, empty.encode(r.writeOwn))
		mark.Set(keySums, summed{}.encode())
	}
	r.writeBatch(mark, nil)
	r.write(Write{SyncTree: true})
}

// removeEverything returns a task: what is there is removed. Doing it twice is doing it once.
func (r *replica) removeEverything() (parts []task) {
	kinds := []byte{prefixCell, prefixPart, prefixBlob, prefixStage, prefixClear, prefixSeen, prefixBase, prefixPage,
		prefixMoved, prefixUndone}
	for _, kind := range append(kinds, r.derives.kinds()...) {
		parts = append(parts, r.removeAll([]byte{kind}, []byte{kind + 1}))
	}
	return append(parts, once(func() {
		last := &store.Batch{}
		last.Delete(keyCheckpoint)
		last.Delete(keySums)
		last.Delete(keyDoubt)
		last.Delete(keyUndone)
		r.writeBatch(last, nil)
		r.markRebuild(rebuildFills)
	}), once(r.reset))
}

// reset makes the state in memory that of an empty store, whose log goes on.
func (r *replica) reset() {
	r.id = 0
	r.seen, r.heads, r.gained = crdt.VersionVector{}, delta.Heads{}, crdt.VersionVector{}
	r.digest = contextDigest{}
	r.based = newBased()
	r.refuseBackups()
	r.log, r.saving, r.flip = newLog(r.aside.last, r.aside.end), nil, nil
	r.saved = reach{r.aside.last, r.aside.end}
	r.checkpoints++
	r.durable, r.durables = r.saved, r.checkpoints
	r.resetClears()
	r.found = nil
	r.collecting, r.expiring = collecting{}, expiring{began: r.expiring.began, clock: r.expiring.clock}
	r.tree, r.cells, r.totals = &antientropy.Tree{}, 0, totals{}
	r.paged, r.batches, r.covered, r.forgotten, r.unchecked = &antientropy.Tree{}, 0, 0, 0, false
	r.undone = undone{}
	r.table.Close()
	r.table = newTable(r.st, r.cfg.MaxCache)
	r.damage, r.blind, r.rebuilding, r.opening.loaded = nil, false, true, !r.opening.under
	r.unpublished = true
}

// Damaged returns why the store that was opened cannot be what was written; nil if it can. Then
// nothing may be read or written before that is discarded.
func (r *replica) Damaged() error { return r.damage }

// setDamaged says that the cells were found not to be what was written. Nothing is written any
// more, so that no later check takes the damage for right.
func (r *replica) setDamaged(why error) {
	r.damage = why
	r.spoilFilling()
	r.refuseBackups()
}

// removeAll returns a task: a range of keys is deleted, batch by batch.
func (r *replica) removeAll(start, end []byte) task {
	return func() (done bool, err error) {
		batch, began := &store.Batch{}, r.work
		snap := r.st.Snapshot()
		defer snap.Close()
		err = snap.ScanKeys(start, end, func(key []byte) bool {
			key = append([]byte(nil), key...)
			start = append(key, 0) // what is deleted takes time to pass over
			batch.Delete(key)
			last := r.work
			r.spend(workCut)
			r.transacted(last)
			return batch.Len() < r.perBatch() && batch.Bytes() < stageBytes && !r.spentSince(began)
		})
		if err != nil || batch.Len() == 0 {
			return true, err
		}
		r.writeBatch(batch, nil)
		return false, nil
	}
}

// reapply begins a task that ends a rebuild, once the replica has got from its peers what they
// have: it applies the deltas of its own former log that none of them had. ended is called if
// that was all: if some of them depend on what no peer has brought yet they are kept, the replica
// goes on rebuilding, and reapply is to be called again when more has come.
func (r *replica) reapply(now time.Time, ended func()) {
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
			r.then(r.save(now), once(func() {
				end := &store.Batch{}
				end.Delete(keyRebuild)
				r.writeBatch(end, nil)
				r.write(Write{SyncTree: true})
			}), once(func() {
				r.rebuilding, r.phase, r.aside = false, 0, aside{}
				r.health.End()
				r.dropLog()
				ended()
			}))
		}
		return true, nil
	})
}

// reapplyClears is how many clears may wait to be swept between two groups of reapply.
const reapplyClears = 16

// reapplySome takes records from the log that was put aside, from a position on, as many as one
// group holds, and returns where to go on. It counts those with deltas that are early. What was
// applied is known the next time.
func (r *replica) reapplySome(now time.Time, from store.Position, early *int) (
	next store.Position, more bool, err error) {
	g := r.newGroup(now)
	g.looking.may = true
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
		r.noteOwn(rec.own) // which a checkpoint that could not be read had
		waits := false
		work := r.work
		defer func() { r.transacted(work) }()
		for _, d := range rec.deltas {
			var outcome gossip.Outcome
			if outcome, failed = g.apply(d); failed != nil || outcome == gossip.Later {
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
		g.discard()
		return next, false, err
	}
	if failed != nil {
		g.discard()
		return next, false, failed
	}
	g.commit()
	return next, more && next < r.aside.end && next > from || g.looking.waits, nil
}

// resumeRebuild continues at open what a crash interrupted.
func (r *replica) resumeRebuild() error {
	snap := r.st.Snapshot()
	record, ok, err := snap.Get(keyRebuild)
	snap.Close()
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	var own []ownID
	if r.rebuild, own, err = decodeRebuild(record); err != nil {
		return err
	}
	r.recall(own)
	r.rebuilding = true
	if r.phase != rebuildDiscards {
		return nil
	}
	if err := r.needRoom("the removal of damaged data"); err != nil {
		return err
	}
	r.begin(r.removeEverything()...)
	return r.opening.finish()
}

// How often all cells are read while they are found right: because of a suspicion, and because a
// record here was found broken.
const (
	verifyEvery = 10 * time.Minute
	proofEvery  = 15 * time.Second
)

// verify has the cells checked, but not if they were found right less than a time ago. If there
// is nothing to do, or no moment of rest, it is not done: what was noticed will be noticed again.
func (e *Engine) verify(every time.Duration, because gossip.NeighbourID) {
	e.whenSettled(func(settled bool) {
		if p := e.checking; p != nil {
			p.hurried.Store(true)
		}
		if !settled || e.unsettled() || !e.health.BeginCheck(e.state(), every) {
			return
		}
		e.check()
		e.checking.hurried.Store(true)
		if every == verifyEvery {
			e.tell(Notice{Kind: Checking, From: because})
		}
	})
}

// IsDamage reports whether an error says that something is not what was written.
func IsDamage(err error) bool {
	return errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged)
}

// Suspect has the cells checked after a read of a view failed with an error, if that says that
// they are damaged.
func (e *Engine) Suspect(err error) {
	if IsDamage(err) {
		e.verify(proofEvery, "")
	}
}

// Verified takes the outcome of a check.
func (e *Engine) Verified(outcome error) {
	if e.Busy() { // what is under way comes to its end
		e.replica.begin(once(func() { e.judge(outcome) }))
		return
	}
	e.judge(outcome)
}

func (e *Engine) judge(outcome error) {
	hurried := e.checking == nil || e.checking.Hurried()
	e.checking = nil
	e.health.EndCheck(e.state(), outcome == nil)
	switch {
	case e.rebuilding:
	case outcome == nil && !hurried:
		e.tell(Notice{Kind: Checked})
	case outcome == nil:
		e.tell(Notice{Kind: Sound})
	case errors.Is(outcome, store.ErrCorrupt):
		e.setDamaged(outcome)
		e.tell(Notice{Kind: Damaged, Err: outcome})
	default:
		e.unchecked, e.recheck = true, e.now.Add(recheckAfter)
		e.tell(Notice{Kind: CannotCheck, Err: outcome})
	}
}

// ErrRebuilding is returned while a damaged replica is rebuilt from others, or waits for one that
// it can be rebuilt from.
var ErrRebuilding = errors.New("the data here is damaged and is rebuilt from other peers: try again later")

// Refusal returns why nothing may be read or written now; nil if it may.
func (e *Engine) Refusal() error {
	if e.damage != nil || e.rebuilding {
		return ErrRebuilding
	}
	return nil
}

// setDamaged is replica.setDamaged; neighbours are asked anew how they are.
func (e *Engine) setDamaged(why error) {
	e.replica.setDamaged(why)
	if e.room != Full {
		e.writeBatch(doubt(), nil) // so that it is found again at once
	}
	e.Rebase()
}

// state is what package health asks.
func (e *Engine) state() health.State {
	return health.State{Now: e.now, Damaged: e.damage != nil, Rebuilding: e.rebuilding, Seen: e.seen}
}

// DiscardDue reports whether what is here must go, because it is damaged, and may. While a fork
// is known nothing is discarded: an empty replica could not tell the two sides apart.
func (e *Engine) DiscardDue() bool {
	_, _, may := health.MayDiscard(e.state(), e)
	return may && len(e.Forks()) == 0
}

// discard begins a task that begins a rebuild, of a replica that is damaged, and links again: all
// cells and the context go, and the log that is there is put aside. A crash on the way is made up
// for by Open.
func (e *Engine) discard() {
	e.health.Discard(e.state(), e)
	e.tell(Notice{Kind: Discarding})
	if e.repair != nil {
		e.abortRepair(e.repair)
	}
	e.replica.begin(once(func() { e.write(Write{SyncLog: true}) }), e.putAside())
	e.replica.begin(e.removeEverything()...)
	e.replica.begin(once(func() {
		e.Rebase()
		e.tell(Notice{Kind: Discarded})
	}))
}

// CaughtUp reports whether the replica has had all that its neighbours had, or began with data.
func (e *Engine) CaughtUp() bool { return e.health.CaughtUp }

// lookAfterData begins or ends a rebuild, and says what people should know.
func (e *Engine) lookAfterData() {
	e.nameForks()
	e.checkOpened()
	if e.room == Scarce && e.Parked() {
		e.spoilFilling() // no source may go on with it, and it takes room
	}
	if e.room == Roomy && !e.Busy() && !e.fills() && e.DiscardDue() {
		e.discard()
	}
	if e.pull == nil && !e.Busy() {
		e.catchUp()
	}
	e.noticeHelplessness()
}

// catchUp notes whether all is here that the neighbours have, and ends a rebuild then: what only
// this replica's own former log had is applied. If that depends on what no neighbour has, it is
// tried again whenever more has come.
func (e *Engine) catchUp() {
	if e.Repairing() || e.fills() || !e.health.Filled(e.state(), e, e.room == Roomy) {
		return
	}
	e.reapply(e.wall, func() {
		e.Rebase()
		e.ready.Jumped = true
		e.tell(Notice{Kind: Rebuilt})
	})
}

// noticeHelplessness says, now and then, that nobody can help a replica that is damaged or
// rebuilding.
func (e *Engine) noticeHelplessness() {
	switch {
	case !e.health.Helpless(e.state(), len(e.takes) > 0):
	case e.damage == nil:
		e.tell(Notice{Kind: Incomplete})
	default:
		e.tell(Notice{Kind: Helpless, Err: e.damage})
	}
}

// nameForks says, at once and now and then, which writes exist in two versions.
func (e *Engine) nameForks() {
	if e.now.Sub(e.alarmed) < health.WarnEvery {
		return
	}
	if forks := e.Forks(); len(forks) > 0 {
		e.alarmed = e.now
		e.tell(Notice{Kind: Forked, Forks: forks})
	}
}

// waits reports whether a rebuild has all that the neighbours have and needs more.
func (e *Engine) waits() bool { return e.health.Waits(e.state()) }

// SomeoneIsAhead reports whether a neighbour has what this replica lacks.
func (e *Engine) SomeoneIsAhead() bool { return health.SomeoneIsAhead(e) }
