// Package replica is the core of peerd: one replica of the data, without I/O of its own.
//
// A Replica keeps cells (see package crdt) in a store, under one causal context, with a log of the deltas
// that it applied and a tree of fingerprints over its cells. Its callers hand it transactions, deltas from
// other replicas, and the time; it answers with what is to be sent. It starts no goroutine, opens no
// socket, reads no clock and takes no lock, so that a seed replays everything that it does.
//
// # Contract
//
// One goroutine owns a Replica and calls its methods, those of its Groups included. A View may be used by
// any goroutine. What a Group did is visible to later Views when Commit returns, never in part. After an
// error of Commit, Sweep, Maintain or a repair's end the Replica must be closed: what the store holds is
// then whole, before or after that step.
//
// # Context
//
// "A dot is in the context" means that every effect of its whole delta is in the cells. The context grows
// in three ways only: a local transaction, an applied delta, a completed repair. A delta is applied only
// when everything that its origin may have seen is in the context, which makes a Clear, that removes
// "all I saw" by naming its context, sound.
//
// # Large changes
//
// A Clear of a million cells is one operation: it is committed together with a note that hides the cells
// from every reader, and Sweep removes them from the store bit by bit. A repair, and a group that does not
// fit into one storage transaction, is staged unseen, committed by one transaction that also notes
// that it must be finished, and then replayed; a crash before that transaction discards it, after it the
// replay is completed before the store opens.
package replica

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Config says how a Replica behaves. The zero value is not valid: see each field.
type Config struct {
	// NewID draws a random replica id that was never used before. Required. It is called once for each start in
	// which the replica writes, and once for each rebuild after which it does.
	NewID func() crdt.ReplicaID
	// MaxSkew is how far ahead another replica's clock may be before it is ignored. Default 500 ms.
	MaxSkew time.Duration
	// MaxLogBytes bounds the log of deltas. A peer that was away for longer than it reaches back is
	// repaired by comparing cells instead. Default 256 MiB.
	MaxLogBytes int64
	// MaxLogAge bounds the age of the log's deltas. Default 7 days.
	MaxLogAge time.Duration
	// MaxBatch is about how many writes one storage transaction takes; what needs more is committed in
	// several, as if in one. Default store.MaxBatchOps.
	MaxBatch int
	// StepWork is how much work a step of the host does before others have their turn (see BeginStep), in units of
	// about a microsecond. Default 5,000.
	StepWork int
	// Exclusive runs fn, which commits something that readers could see a part of: it must let nobody
	// open a view meanwhile, and give what fn returns to those opened later. Nil runs fn alone.
	Exclusive func(fn func() (Published, error)) error
}

// Published is what a view needs beside the store's snapshot. It may be older than the snapshot, unless
// a commit that ran under Config.Exclusive lies between them.
type Published struct {
	clears  *clears
	keys    int
	tallies int
}

// withDefaults returns c with defaults in place of zeros.
func (c Config) withDefaults() Config {
	if c.MaxSkew == 0 {
		c.MaxSkew = 500 * time.Millisecond
	}
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = 256 << 20
	}
	if c.MaxLogAge == 0 {
		c.MaxLogAge = 7 * 24 * time.Hour
	}
	if c.StepWork == 0 {
		c.StepWork = stepWork
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = store.MaxBatchOps
	}
	return c
}

// ErrBusy is returned where a moment of rest is needed: while clears are swept or a repair runs.
var ErrBusy = errors.New("the replica is sweeping or being repaired: try again")

// Replica is one replica. See the package's contract.
type Replica struct {
	st  store.Store
	cfg Config

	id     crdt.ReplicaID              // zero until the first write after the store was opened
	next   crdt.ReplicaID              // that it takes then; zero if that is not drawn
	own    []ownID                     // under which this store wrote, the newest last; see Salvage
	across map[gossip.NeighbourID]bool // hosts on another side of a fork
	seen   crdt.VersionVector
	heads  delta.Heads
	gained crdt.VersionVector      // what the context gained since this replica's last delta
	digest antientropy.Fingerprint // of seen and heads
	clock  dotted.Clock

	log       deltaLog
	saved     uint64    // last lsn that the stored checkpoint covers
	ownFell   bool      // others may have less of own writes than it says
	saveCost  int       // bytes of that checkpoint
	ages      time.Time // when the log's age is looked at next
	clears    *clears
	lastClear uint64         // number of the newest record of a clear, or of what one saw
	uses      map[uint64]int // how many clears saw what has the number
	sawLast   map[crdt.ReplicaID]*seenSet
	sweep     sweep

	collecting collecting

	work int // done since the store was opened: see BeginStep
	turn step

	cache   *cache
	tree    *antientropy.Tree
	cells   int
	keys    int
	tallies int // cells that count in a dotted.Summary's Tallies

	repair     *Repair
	sessions   uint64 // of staged changes, begun since the store was opened
	repaired   uint64 // that of the last repair; those before it have staged nothing that is left
	rebuilding bool
	rebuild
	ahead  bool                    // a group raised the context and is not committed
	blind  bool                    // the context could not be read: what only this replica has is unknown
	damage error                   // found at open
	root   antientropy.Fingerprint // of the newest log record; only at open
	skewed int                     // remote timestamps that were too far ahead
}

// Open opens the replica that st holds; an empty store is a new one. It reads every cell once, to
// build the tree. The replica does not own st, and must be used by no one else. If what it finds cannot be
// what was written, Damaged says so, and only Discard may be called. The error wraps wire.ErrFormat if another
// version of the program wrote it: nothing was changed then.
func Open(st store.Store, cfg Config) (*Replica, error) {
	r := &Replica{
		st: st, cfg: cfg.withDefaults(),
		seen: crdt.VersionVector{}, heads: delta.Heads{}, gained: crdt.VersionVector{},
		log: newDeltaLog(), cache: newCache(), tree: &antientropy.Tree{}, rebuild: newRebuild(),
		across: map[gossip.NeighbourID]bool{},
	}
	r.resetClears()
	if err := checkFormat(st); err != nil {
		return nil, err
	}
	before := []func() error{r.resumeRebuild, r.finishLarge}
	after := []func() error{r.loadClears, r.loadCells, r.checkRoot, r.finishFlip}
	err := r.open(before)
	if err == nil {
		// Also of a damaged store: it must be known what is here. See Covers.
		err = r.step(r.loadContext)
	}
	if err == nil {
		err = r.open(after)
	}
	if err != nil {
		return nil, err
	}
	r.ahead = false
	return r, nil
}

// checkFormat looks at the first record, before anything is judged or carried out: what another version wrote
// would look like damage. A record that rotted says nothing; who needs it will notice.
func checkFormat(st store.Store) error {
	snap := st.Snapshot()
	defer snap.Close()
	var failed error
	err := snap.Scan(nil, nil, func(key, value []byte) bool {
		if key[0] == prefixLeaf { // not sealed
			return true
		}
		_, failed = unseal(key, value)
		return errors.Is(failed, store.ErrCorrupt)
	})
	if errors.Is(failed, wire.ErrFormat) {
		return failed
	}
	if errors.Is(err, store.ErrCorrupt) {
		return nil
	}
	return err
}

// open takes steps of Open until one finds damage.
func (r *Replica) open(steps []func() error) error {
	for _, step := range steps {
		if r.damage != nil {
			return nil
		}
		if err := r.step(step); err != nil {
			return err
		}
	}
	return nil
}

// step takes a step of Open, and notes the first damage.
func (r *Replica) step(step func() error) error {
	err := step()
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	if r.damage == nil {
		r.damage = err
	}
	return nil
}

// loadContext reads the checkpoint and the log behind it.
func (r *Replica) loadContext() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	record, ok, err := snap.Get(keyCheckpoint)
	if err != nil {
		return err
	}
	if ok {
		c, err := decodeCheckpoint(record)
		if err != nil {
			r.blind = true
			return err
		}
		r.own, r.log, r.saved, r.saveCost = c.own, c.log, c.log.last, len(record)
		for id, n := range c.seen {
			r.raise(id, n, c.heads[id])
		}
		r.clock.Observe(c.time, c.time.Wall(), time.Millisecond)
	}
	var broken error
	err = readLog(snap, prefixLog, r.saved+1, func(rec logged) bool {
		if rec.lsn != r.log.last+1 {
			broken = damaged(numbered(prefixLog, rec.lsn),
				fmt.Errorf("the log jumps from %d to %d", r.log.last, rec.lsn))
			return false
		}
		r.noteOwn(rec.own)
		for _, d := range rec.deltas {
			r.raise(d.Replica, d.Last(), d.Hash())
			r.clock.Observe(d.Time, rec.time, r.cfg.MaxSkew)
		}
		r.log.index(rec)
		r.root = rec.root
		return true
	})
	return errors.Join(err, broken)
}

// loadCells builds the tree and counts what is there.
func (r *Replica) loadCells() error {
	r.tree, r.cells, r.keys, r.tallies = &antientropy.Tree{}, 0, 0, 0
	v := r.View()
	defer v.Close()
	var index uint64
	err := v.scanStored("", "", func(a dotted.Address, c dotted.Cell) bool {
		index += recordHash(leafKey(leafOf(a), place(prefixCell, a)), nil)
		cell := []*cellState{{address: a, now: c}}
		moves, _ := r.plan(cell)
		r.account(cell, moves)
		return true
	})
	if err == nil {
		err = v.checkDerived(prefixLeaf, "index of the tree's leaves", index)
	}
	if err != nil {
		return err
	}
	return v.summaries([]byte{prefixSummary}, []byte{prefixSummary + 1}, func(_ []byte, _ string, s dotted.Summary) bool {
		r.keys += gain(false, s.Exists())
		r.tallies += s.Tallies
		return true
	})
}

// View returns a view of what is committed. It must be closed.
func (r *Replica) View() *View { return NewView(r.st, r.Published()) }

// Published returns what views opened from now on need.
func (r *Replica) Published() Published {
	return Published{clears: r.clears, keys: r.keys, tallies: r.tallies}
}

// exclusively runs a commit that readers could see a part of.
func (r *Replica) exclusively(fn func() error) error {
	if r.cfg.Exclusive == nil {
		return fn()
	}
	return r.cfg.Exclusive(func() (Published, error) {
		err := fn()
		return r.Published(), err
	})
}

// ID returns the id under which the replica writes, or will if it does.
func (r *Replica) ID() crdt.ReplicaID {
	if r.id == 0 && r.next == 0 {
		r.next = r.cfg.NewID()
	}
	return r.current()
}

// current returns the id of this start; zero if none is drawn yet.
func (r *Replica) current() crdt.ReplicaID { return cmp.Or(r.id, r.next) }

// Context returns the context and the hashes of its heads. They must not be changed.
func (r *Replica) Context() (crdt.VersionVector, delta.Heads) { return r.seen, r.heads }

// Digest returns fingerprints of the context and of all cells. settled is false while cells that are
// removed already are still swept, and within a group, and then root says nothing.
func (r *Replica) Digest() (context, root antientropy.Fingerprint, settled bool) {
	return r.digest, r.tree.Root(), r.clears.count == 0 && r.damage == nil && !r.ahead
}

// Counts returns the number of keys that exist and of cells in the store.
func (r *Replica) Counts() (keys, cells int) { return r.keys, r.cells }

// drawID begins a new incarnation. The id becomes durable with the first write that it names.
func (r *Replica) drawID() {
	r.id, r.next = r.ID(), 0
	r.noteOwn(r.id)
	r.gained = r.seen.Clone()
	delete(r.gained, r.id) // that an image of memory may have written under
}

// observe takes a remote clock into account.
func (r *Replica) observe(t dotted.Time, now time.Time) {
	if !r.clock.Observe(t, now, r.cfg.MaxSkew) {
		r.skewed++
	}
}

// commit writes a batch.
func (r *Replica) commit(b *store.Batch, sync bool) error { return r.st.Commit(b, sync) }

// checkpoint returns the record of the present context and log.
func (r *Replica) checkpoint() []byte {
	c := checkpoint{seen: r.seen, heads: r.heads, time: r.clock.Last(), log: r.log}
	return c.encode(r.writeOwn)
}

// Covers reports whether the log has all that someone with the given context lacks: if this replica
// discards itself, nothing is lost then that they do not have.
func (r *Replica) Covers(theirs crdt.VersionVector) bool {
	if r.blind {
		return false
	}
	_, covered := r.log.start(r.seen, theirs)
	return covered
}

// LogStart returns where in the log someone with the given context must begin to read, and whether the
// log covers all that they lack.
func (r *Replica) LogStart(theirs crdt.VersionVector) (lsn uint64, covered bool) {
	return r.log.start(r.seen, theirs)
}

// LogRead calls fn with the deltas from record lsn on, in the order in which they were applied here,
// until fn returns false, and returns the record to go on with. At most maxRecords are read, and what is left
// of the step; one in any case. covered is false if the log no longer has record lsn.
func (r *Replica) LogRead(lsn uint64, maxRecords int,
	fn func(d *delta.Delta) bool) (next uint64, covered bool, err error) {
	if lsn < r.log.first {
		return lsn, false, nil
	}
	next = lsn
	began := r.work
	if !r.Spent() {
		began = r.turn.began
	}
	err = r.readLog(lsn, func(rec logged) bool {
		last := r.work
		r.spend(workRecord + workOf(rec.bytes))
		r.transacted(last)
		for _, d := range rec.deltas {
			if !fn(d) {
				return false
			}
		}
		next = rec.lsn + 1
		maxRecords--
		return maxRecords > 0 && !r.spentSince(began)
	})
	return next, next >= r.log.first, err
}

// readLog calls fn with the log's records from lsn on. One that is damaged takes those before it with it: the
// log then no longer covers them, Maintain removes them, and who needs them is repaired by comparing cells.
func (r *Replica) readLog(lsn uint64, fn func(logged) bool) error {
	next := lsn
	err := r.log.read(r.st, lsn, func(rec logged) bool {
		next = rec.lsn + 1
		return fn(rec)
	})
	if errors.Is(err, store.ErrCorrupt) {
		r.log.dropUpTo(next)
		return nil
	}
	return err
}

// LogEnd returns the number of the record that will be written next.
func (r *Replica) LogEnd() uint64 { return r.log.last + 1 }

// SetLimits puts others in the place of Config.MaxSkew, MaxLogBytes and MaxLogAge. Zeros are the defaults.
func (r *Replica) SetLimits(skew time.Duration, logBytes int64, logAge time.Duration) {
	r.cfg.MaxSkew, r.cfg.MaxLogBytes, r.cfg.MaxLogAge = skew, logBytes, logAge
	r.cfg = r.cfg.withDefaults()
}

// LogBytes returns the size of the log.
func (r *Replica) LogBytes() int64 { return r.log.bytes }

func sortedKeys[K interface{ ~string | ~uint64 }, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

func leafOf(a dotted.Address) uint64 { return antientropy.LeafOf(a) }

func fingerprint(a dotted.Address, e dotted.Entry) antientropy.Fingerprint {
	return antientropy.Of(a, e)
}

func contextEntry(id crdt.ReplicaID, n uint64, h delta.Hash) antientropy.Fingerprint {
	return antientropy.ContextEntry(id, n, h)
}

func sealBlob(key, payload []byte) []byte { return wire.Seal(formatVersion, key, payload) }
