// Package engine is the core of peerd: one replica of the data and what it knows of its
// neighbours, as a state machine without I/O.
//
// An Engine keeps cells (see package crdt) in an ordered store, the tree, under one causal
// context, with a log of the deltas that it applied and fingerprints of its cells. It starts no
// goroutine, opens no socket, reads no clock, writes to no disk and takes no lock, so that a seed
// replays everything that it does. Whoever does that for it is its host: package peer with
// goroutines, streams and files, package internal/sim with events, a script in testdata with
// words. All of them run the same decisions: there are none but here.
//
// # A round
//
// A host goes round:
//
//	e.Submit(update); e.Receive(frame); e.Takes(id, 2); ...   what happened
//	err := e.Step(now, wall)                                  some of what there is to do
//	rd := e.Ready()                                           what is to be done about it
//	err = CarryOut(rd.Writes, tree, log)
//	e.Advance()
//	...                                                       the rest of rd
//
// The calls before Step tell the engine what happened, and do no work to speak of. A step does a
// part of each kind of work, none more than a budget of it: of a task or a checkpoint, of
// transactions and frames in turn, of the sweep, of serving links. So whatever clients do, a host
// looks at its streams, its syncs and its clock every few milliseconds. Ready.Again says that
// there is more to do at once, Ready.At when there will be.
//
// One goroutine at a time calls all this. A View, a Pinned and a Moment may be used by any; so
// may Syncing.Run, Beside.Run, Pull.Go and Pinned.Verify, which are the work that takes long and
// is done beside the engine: it is told the outcome by a call. After an error of Step or CarryOut
// the engine must be closed: what the disk holds is then whole, before or after one of the
// writes.
//
// # Writes come first
//
// The engine never writes. What is to be written waits in order (Write) and is handed out with
// the answers, frames and notices that rest on it, in one Ready. A host that carries out the
// fields of a Ready in their order cannot acknowledge, send or show anything that a crash takes
// back, and there is no second place that would have to remember to wait. Readers see what was
// committed once Advance is called, never in part.
//
// What is read, in turn, sees only what was carried out. So whatever must read what it wrote
// takes several steps: it is a task, made of parts that are called one a step, each of which sees
// what those before it wrote. Nothing else writes between them. Taking a repair over, beginning
// and ending a rebuild, and a whole checkpoint are tasks. A crash may come between any two writes
// of one; opening completes or forgets it.
//
// # Context
//
// "A dot is in the context" means that every effect of its whole delta is in the cells. The
// context grows in three ways only: a local transaction, an applied delta, a completed repair. A
// delta is applied only when everything that its origin may have seen is in the context, which
// makes a Clear, that removes "all I saw" by naming its context, sound.
//
// # The log and the tree
//
// A commit is a record that is appended to a log. What it changes stays in memory until a
// checkpoint has written it to the tree in the background: so the tree lags behind, and opening
// carries out again what the log has behind the last checkpoint. A View is a snapshot of the tree
// with memory laid over it.
//
// # Large changes
//
// A Clear of a million cells is one operation: its commit hides the cells from every reader, and
// the sweep removes them bit by bit. A repair is staged in the tree unseen. A record of the log
// says that it is to be taken over, more records do so slice by slice, and readers see the
// outcome at the end; what a crash interrupts is completed before the store opens.
//
// # Where to begin reading
//
// The scripts in testdata show conversations: write.txt first, then repair.txt and rebuild.txt.
// In the code ready.go has the contract and what a task is, engine.go the step, group.go what a
// commit does. An Engine is a replica, which is the part without neighbours, and a gossip.Mesh.
// Package health decides about damage, package logindex knows the log.
package engine

import (
	"cmp"
	"errors"
	"maps"
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

// MaxSkew is how far ahead another replica's clock may be, by default, before it is ignored.
const MaxSkew = 500 * time.Millisecond

// Config says how an Engine behaves. The zero value is not valid: see each field.
type Config struct {
	// NewID draws a random replica id that was never used before. Required. It is called when the
	// id is first asked for, or a transaction begins that may write; again after the id has ended,
	// and after a rebuild.
	NewID func() crdt.ReplicaID
	// MaxSkew is how far ahead another replica's clock may be before it is ignored. Default
	// MaxSkew.
	MaxSkew time.Duration
	// MaxLogBytes bounds the log of deltas. A peer that was away for longer than it reaches back is
	// repaired by comparing cells instead. Default 256 MiB.
	MaxLogBytes int64
	// MaxLogAge bounds the age of the log's deltas. Default 7 days.
	MaxLogAge time.Duration
	// MaxDirty is about how many bytes of memory what is not in the tree yet may take: beyond
	// that a commit waits for a part of a checkpoint. Default 64 MiB.
	MaxDirty int64
	// MaxCache is about how many bytes of memory the cells and sums that were touched last may
	// take. Default 48 MiB.
	MaxCache int64
	// MaxBatch is about how many records one transaction of the tree takes. Default
	// store.MaxBatchOps.
	MaxBatch int
	// MaxListed is how many ids of replicas that write no more a vector lists, of those that did
	// not say that they ended, before they are left out by bases (see delta.Bases); and four
	// times how many of those that did. Default 64.
	MaxListed int
	// IdleTicks is how long a replica must have written nothing to be one of the former, in ticks
	// of the engine. Default 6,000: ten minutes.
	IdleTicks int
	// StepWork is how much work a step of the host does before others have their turn (see
	// beginStep), in units of about a microsecond. Default 5,000.
	StepWork int

	// Sync has answers wait until the log is synced, and SyncEverySecond has it synced each second.
	// With neither it is synced when the replica needs that.
	Sync, SyncEverySecond bool
	// Beside says that the host does what Ready.Beside has; else that is among its Writes.
	Beside bool
	// Volatile says that nothing stored survives the process: no neighbour is told that it does.
	Volatile bool
	// Full says that the disk is full while the replica is opened. What was begun and can wait
	// does so until there is room; if it must be ended first, and may write much, the error wraps
	// store.ErrNoSpace.
	Full bool
	// Doubt has all cells read while the replica is opened, and compared with all that is stored
	// of them.
	Doubt bool
	// PushDelay is for how long a write waits for others that go along with it to neighbours.
	PushDelay time.Duration
	// MaxClears is how many clears may wait to be swept before writes wait for the sweep. Default
	// 65,536.
	MaxClears int

	// Alone says that there is no other host, to which anything could be left.
	Alone bool
	// Expired, unless it is nil, is told which keys and fields a transaction of the replica
	// removed since they had expired, and the dots of that: from first on up to last. It must not
	// use the engine.
	Expired func(names []dotted.Address, first crdt.Dot, last uint64)
	// Guards, unless it is nil, are those of a replica that this one takes the place of, and go on.
	Guards *Guards
	// Spent, unless it is nil, is told how much work each part of a step did, and how much it
	// might: for tests.
	Spent func(part string, work, limit int)

	indexes      []cellIndex // of a test, kept besides the replica's own
	derivedBytes int         // of a test: see maxDerived
	looked       int         // of a test: see maxLooked
	orderBytes   int         // of a test: see fillOrderBytes
	leavesAtOnce int         // likewise
}

// Defaults of Config.MaxDirty and MaxCache, in bytes.
const (
	MaxDirty = 128 << 20
	MaxCache = 48 << 20
)

// withDefaults returns c with defaults in place of zeros.
func (c Config) withDefaults() Config {
	c.MaxSkew = cmp.Or(c.MaxSkew, MaxSkew)
	c.MaxLogBytes = cmp.Or(c.MaxLogBytes, 256<<20)
	c.MaxLogAge = cmp.Or(c.MaxLogAge, 7*24*time.Hour)
	c.MaxDirty = cmp.Or(c.MaxDirty, MaxDirty)
	c.MaxCache = cmp.Or(c.MaxCache, MaxCache)
	c.StepWork = cmp.Or(c.StepWork, StepWork)
	c.MaxListed = cmp.Or(c.MaxListed, maxListed)
	c.IdleTicks = cmp.Or(c.IdleTicks, idleTicks)
	c.MaxClears = cmp.Or(c.MaxClears, maxClears)
	c.MaxBatch = cmp.Or(c.MaxBatch, store.MaxBatchOps)
	return c
}

// ErrBusy is returned where a moment of rest is needed: while clears are swept or a repair runs.
var ErrBusy = errors.New("the replica is sweeping or being repaired: try again")

// replica is an engine without neighbours.
type replica struct {
	st   Tree
	logs Log
	cfg  Config

	writes, spare []Write // that wait to be carried out; and memory for more
	beside        *Beside // that goes beside them, or is under way; nil if none is
	unpublished   bool    // once they are, views see what is here now
	tasks         []task  // parts of what is under way
	nested        []task  // that come before the part goes on that is being called
	inPart        bool    // one is

	id     crdt.ReplicaID              // zero until the first write after the store was opened
	next   crdt.ReplicaID              // that it takes then; zero if that is not drawn
	own    []ownID                     // under which this store wrote, the newest last; see Salvage
	across map[gossip.NeighbourID]bool // hosts on another side of a fork
	seen   crdt.VersionVector
	heads  delta.Heads
	gained crdt.VersionVector // what the context gained since this replica's last delta
	digest contextDigest      // of seen and heads
	clock  dotted.Clock
	based

	derives   derivation
	table     table
	published atomic.Pointer[moment]
	moments   uint64 // how many were made
	tree      *antientropy.Tree
	paged     *antientropy.Tree // as its pages are stored; nil if that is not known
	batches   uint64            // of cells that were written to the store: the number of the last one
	covered   uint64            // all pages have those up to it
	forgotten uint64            // those up to it have no record any more
	undone    undone
	cells     int
	totals

	log     deltaLog
	saving  *saving        // a checkpoint under way
	saved   reach          // that the tree has
	durable reach          // and that survives a power failure
	dropped store.Position // before it the log was given up, though others may have kept it
	// checkpoints counts those since the store was opened, durables is the last one that survives a
	// power failure.
	checkpoints, durables int
	saves                 time.Time
	wall                  time.Time       // when maintain was called last
	ages                  time.Time       // when the log's age is looked at next
	saveCost              int             // bytes of the checkpoint's record
	ownFell               bool            // others may have less of own writes than it says
	wanted                []func(*Moment) // by whom the next checkpoint is waited for

	clears    *clears
	lastClear uint64         // number of the newest record of a clear, or of what one saw
	uses      map[uint64]int // how many clears saw what has the number
	sawLast   map[crdt.ReplicaID]*seenSet
	sweep     sweep

	collecting collecting
	expiring   expiring
	guards     *Guards

	spareGroup  *groupMemory // see maxSpare
	spareUndo   []undo
	spareFields crdt.Fields  // of a transaction that is over
	spareDelta  *delta.Delta // of a transaction that only read
	spareRecord []byte       // of the log

	work int // done since the store was opened: see beginStep
	turn step

	repair     *repairSession
	filling    *filling // a repair of an empty replica; nil if none is under way or left to be removed
	flip       *flip    // a repair that is being taken over
	sessions   uint64   // of staged changes, begun since the store was opened
	turns      uint64   // how many were taken over
	quiet      bool     // and one is: views see the moment before
	repaired   uint64   // that of the last repair; those before it have staged nothing that is left
	rebuilding bool
	rebuild
	ahead  bool  // a group raised the context and is not committed
	blind  bool  // the context could not be read: what only this replica has is unknown
	damage error // found at open

	found     *found
	unchecked bool // not all cells were read since the store was opened
	skewed    int  // remote timestamps that were too far ahead
	closed    bool

	opening opening
}

// opening is what matters until the replica is open.
type opening struct {
	under    bool         // it is under way: nothing is published
	finish   func() error // carries out what waits to be written, and the task that is under way
	loaded   bool         // the log was carried out again: what is there is the present state
	replayed bool         // records of it were
	root     antientropy.Fingerprint
	derived  [][]*item // of each record of kind recordDerived whose own record was not seen yet
	settled  bool      // see logged: of the last of them, or of the checkpoint
	doubt    error     // why all cells are to be read; nil if they need not be
	marked   bool      // the store says so: see keyDoubt
	later    []task    // what waits for room
}

func open(tree store.Store, log store.Log, cfg Config) (*replica, error) {
	r := &replica{
		st: tree, logs: log, cfg: cfg.withDefaults(),
		seen: crdt.VersionVector{}, heads: delta.Heads{}, gained: crdt.VersionVector{},
		log: newLog(0, 0), tree: &antientropy.Tree{},
		across: map[gossip.NeighbourID]bool{}, based: newBased(),
		derives: newDerivation(cfg.indexes), guards: cmp.Or(cfg.Guards, &Guards{}),
		opening: opening{under: true, settled: true},
	}
	r.opening.finish = func() error { return r.settle(tree, log) }
	r.resetClears()
	if err := checkFormat(tree, log, &r.derives); err != nil {
		return nil, err
	}
	r.table = newTable(tree, r.cfg.MaxCache)
	steps := []func() error{r.resumeRebuild, r.resumeFilling, r.putBack, r.loadContext, r.loadClears, r.loadPages, r.loadExpiries, r.replay, r.loadCells, r.finishOpen}
	for i, step := range steps {
		if r.damage != nil && i > 7 {
			break // also of a damaged store it must be known what is here: see Covers
		}
		if err := step(); errors.Is(err, store.ErrCorrupt) {
			r.damage = cmp.Or(r.damage, err) // the first is told
			if i == len(steps)-1 {
				r.tasks = nil // a repair that was taken over: it cannot go on, and all is discarded
			}
		} else if err != nil {
			r.Close()
			return nil, err
		}
	}
	r.ahead, r.opening.under = false, false
	r.saves, r.ages = time.Time{}, time.Time{} // opening has no clock
	if err := r.opening.finish(); err != nil {
		r.Close()
		return nil, err
	}
	r.publish()
	r.begin(r.opening.later...)
	return r, nil
}

// settle carries out what waits to be written, and all of the task that is under way.
func (r *replica) settle(tree store.Store, log store.Log) error {
	for {
		if err := CarryOut(r.writes, tree, log); err != nil {
			return err
		}
		r.written()
		if len(r.writes) > 0 {
			continue
		}
		if !r.Busy() {
			return nil
		}
		if err := r.goOn(); err != nil {
			return err
		}
	}
}

// checkFormat looks at the first records, before anything is judged or carried out: what another
// version wrote would look like damage. One that rotted says nothing; who needs it will notice.
func checkFormat(st Tree, log Log, derives *derivation) error {
	snap := st.Snapshot()
	defer snap.Close()
	var failed error
	err := snap.Scan(nil, nil, func(key, value []byte) bool {
		if derives.has(key[0]) { // not sealed
			return true
		}
		_, failed = unseal(key, value)
		return errors.Is(failed, store.ErrCorrupt)
	})
	if failed == nil {
		// Before the checkpoint the log is of its format; there may be much of others there.
		at := max(log.First(), Durable(st))
		failed = scanLog(log, at, 0, func(logged, store.Position) bool { return false })
	}
	if errors.Is(failed, wire.ErrFormat) {
		return failed
	}
	if errors.Is(err, store.ErrCorrupt) {
		return nil
	}
	return err
}

// ID returns the id under which the replica writes, or will if it does.
func (r *replica) ID() crdt.ReplicaID {
	if r.id == 0 && r.next == 0 {
		r.next = r.cfg.NewID()
	}
	return r.current()
}

// current returns the id of this start; zero if none is drawn yet.
func (r *replica) current() crdt.ReplicaID { return cmp.Or(r.id, r.next) }

// Context returns the context and the hashes of its heads. They must not be changed.
func (r *replica) Context() (crdt.VersionVector, delta.Heads) { return r.seen, r.heads }

// Digest returns fingerprints of the context and of all cells. settled is false while cells that
// are removed already are still swept, within a group, and while the cells of a repair are here and
// what it has seen is not, and then root says nothing.
func (r *replica) Digest() (context, root antientropy.Fingerprint, settled bool) {
	return r.digest.catchUp(r.seen, r.heads), r.tree.Root(), r.clears.count == 0 && r.flip == nil &&
		!r.quiet && r.damage == nil && !r.ahead
}

// Counts returns the number of keys that exist and of cells in the store.
func (r *replica) Counts() (keys, cells int) { return r.keys, r.cells }

// drawID begins a new incarnation. The id becomes durable with the first write that it names.
func (r *replica) drawID() {
	r.id, r.next = r.ID(), 0
	r.gained = r.short.Clone()
	delete(r.gained, r.id) // that an image of memory may have written under
}

// wallTime returns what the host's clock said last, as far as that is known.
func (r *replica) wallTime() time.Time {
	if r.wall.IsZero() {
		return r.clock.Last().Wall()
	}
	return r.wall
}

// observe takes a remote clock into account.
func (r *replica) observe(t dotted.Time, now time.Time) {
	if !r.clock.Observe(t, now, r.cfg.MaxSkew) {
		r.skewed++
	}
}

// SetMemory puts others in the place of Config.MaxDirty and MaxCache. What is in the cache beyond
// that is forgotten.
func (r *replica) SetMemory(dirty, cache int64) {
	r.cfg.MaxDirty, r.cfg.MaxCache = dirty, cache
	r.table.setLimit(cache)
}

// SetLimits puts others in the place of Config.MaxSkew, MaxLogBytes and MaxLogAge. Zeros are the
// defaults.
func (r *replica) SetLimits(skew time.Duration, logBytes int64, logAge time.Duration) {
	r.cfg.MaxSkew, r.cfg.MaxLogBytes, r.cfg.MaxLogAge = skew, logBytes, logAge
	r.cfg = r.cfg.withDefaults()
}

func sortedKeys[K interface{ ~string | ~uint64 }, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// advance puts a delta that was just applied into the context.
func (r *replica) advance(d *delta.Delta) {
	r.raise(d.Replica, d.Last(), d.Hash())
	r.guards.settle(d)
}

// raise sets a replica's entry of the context.
func (r *replica) raise(id crdt.ReplicaID, counter uint64, head delta.Hash) {
	if r.digest.late != id {
		r.digest.catchUp(r.seen, r.heads)
		r.digest.leave(id, r.seen[id], r.heads[id])
	}
	r.seen[id], r.heads[id] = counter, head
	listed := r.list(id, counter, head)
	r.ahead = true
	r.collecting.due = r.collecting.due || head.Ends()
	if listed && id != r.id {
		r.gained[id] = counter
	} else {
		delete(r.gained, id) // the base came with it, or before
	}
}

// contextDigest is a fingerprint of a context, but for the replica whose entry changed last: who
// writes much changes that often, and the digest is asked for now and then.
type contextDigest struct {
	sum  antientropy.Fingerprint
	late crdt.ReplicaID // whose entry is not in the sum; zero if all are
}

// leave takes the entry of a replica out, before it changes.
func (d *contextDigest) leave(id crdt.ReplicaID, counter uint64, head delta.Hash) {
	if d.late = id; counter > 0 {
		d.sum = d.sum.Sub(antientropy.ContextEntry(id, counter, head))
	}
}

// catchUp takes all in that is in the context.
func (d *contextDigest) catchUp(seen crdt.VersionVector, heads delta.Heads) antientropy.Fingerprint {
	if id := d.late; id != 0 {
		d.sum, d.late = d.sum.Add(antientropy.ContextEntry(id, seen[id], heads[id])), 0
	}
	return d.sum
}
