package engine

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// Engine is a replica with its neighbours, as a state machine: calls tell it what happened, Step
// does some of what there is to do, and Ready says what its host must do about it. All order,
// budgets and decisions are in here.
type Engine struct {
	*replica
	*gossip.Mesh
	alarmed time.Time // when forks were named last
	offered Offered

	rng       *rand.Rand
	now, wall time.Time // of this step
	due       deadlines
	digests   digests
	ready     Ready // that is being filled
	handed    Ready // that the host has
	room      Room
	refusal   error                      // why transactions may not write, in their callers' words
	takes     map[gossip.NeighbourID]int // frames that each link takes now
	lastFed   gossip.NeighbourID

	// What waits for its turn.
	updates  []Update
	arrived  []*Frame   // one of each link at most; the first may be received in part
	clients  bool       // have the first turn in the next step
	cutting  bool       // there is more of a checkpoint, or more of the log to be cut
	wrote    bool       // the step has done a part of a checkpoint
	unserved bool       // links have room, and the last step of serving them was spent
	settling []settling // what waits until nothing is to be swept

	group   *group
	next    int    // the first function of updates[0] that has not run
	running Update // whose function runs now
	dirty   bool   // something was committed and not synced
	syncing bool   // a sync is under way
	awaited bool   // a neighbour waits for one: see vouch
	rests   bool   // nothing can come of the next ticks: see resting
	sweeps  sweeps
	pull    *Pull // a repair that was started and has not ended
	// checking is the moment whose cells are being read, beside the engine; nil if none is.
	checking *Pinned
	recheck  time.Time // the next is not begun before, as the last could not read everything
	ending   ending
	newest   crdt.Dot // the last that was written since it was opened, whatever its id was then
}

// deadlines are when the engine's timers are due.
type deadlines struct {
	tick, digest, sync time.Time
	push               time.Time // own deltas that are held back are sent; zero if there are none
}

// Intervals of its timers.
const (
	tickEvery   = 100 * time.Millisecond // neighbours are told what is new here, and asked for what is missing
	digestEvery = time.Second            // a random neighbour gets a digest, while something changes here
	syncEvery   = time.Second            // what is not synced by then is
)

// maxClears is how many clears may wait to be swept before writes wait for the sweep. Each costs
// some 300 bytes of memory, and readers next to nothing.
const maxClears = 1 << 16

// LinkFrames is how many frames of a space may wait in a link for its stream, as hosts tell an
// engine. What comes after them is made when they are gone.
const LinkFrames = 2

// maxUpdates is how many updates are enough to wait for their turn.
const maxUpdates = 1024

// Room is how much may be written to the disk.
type Room int

const (
	Roomy  Room = iota // anything
	Scarce             // no more than what finishes what was begun: writes are refused, and deltas not taken
	Full               // nothing
)

// Update is transactions that wait for their turn. They run one after the other, in as many groups
// as they fill; those of others may come between.
type Update interface {
	// Begin reports whether they are to be run: whoever asked may have given up. Once it has, it
	// does not change.
	Begin() bool
	// Len returns how many there are.
	Len() int
	// Run runs the i-th. If it returns an error nothing of it takes effect.
	Run(i int, tx *Tx) error
	// Ran is told what became of it.
	Ran(i int, err error)
}

// Frame is a message that arrived from a neighbour. Ready hands it back when it has been taken.
type Frame struct {
	From gossip.NeighbourID
	Data []byte
	Err  error // the link it came over must be closed

	begun bool // a part of it was received
}

// ErrReplaced is the error of a frame whose link was closed, or replaced by a newer one, before it
// was taken.
var ErrReplaced = errors.New("the link was replaced by a newer one")

// ErrExited is what Update.Ran is told of a transaction that ended its goroutine. Nothing changed.
var ErrExited = errors.New("the transaction's function ended its goroutine, which is not its own " +
	"(runtime.Goexit, or FailNow in a test): it took no effect")

// Open opens the replica that a tree and a log hold, without neighbours; empty ones are a new one.
// It reads no cells but those that the newest part of the log names; all of them are looked at
// afterwards (see Ready.Verify), or at once if there is a doubt about what is stored of their sums.
// The engine owns neither, and they must be used by no one else. If what it finds cannot be what
// was written, Damaged says so: the engine discards it once it may. The error wraps wire.ErrFormat
// if another version of the program wrote it: nothing was changed then. Chance is only drawn from
// in a Step.
func Open(tree store.Store, log store.Log, cfg Config, rng *rand.Rand, now time.Time) (*Engine, error) {
	r, err := open(tree, log, cfg)
	if err != nil {
		return nil, err
	}
	return withNeighbours(r, rng, now), nil
}

func withNeighbours(r *replica, rng *rand.Rand, now time.Time) *Engine {
	e := &Engine{
		replica: r, Mesh: gossip.NewMesh(r), rng: rng, now: now,
		due:   deadlines{tick: now.Add(tickEvery), digest: now.Add(digestEvery), sync: now.Add(syncEvery)},
		takes: map[gossip.NeighbourID]int{}, digests: digests{pause: digestEvery},
	}
	r.health.Begin(len(r.seen) > 0, now)
	if r.cfg.PushDelay > 0 {
		e.Mesh.Hold()
	}
	return e
}

// Submit has an update wait for its turn.
func (e *Engine) Submit(u Update) { e.updates = append(e.updates, u) }

// Read runs transactions of an update, from the i-th on, at once and beside steps: as many as a
// step may, and returns which comes next. They write nothing, and find in memory what was read or
// written of late. It runs none while what happened is not what views show, or a group is open:
// then views do. It may be called where Step may. wall is the time, for what has expired.
func (e *Engine) Read(u Update, i int, wall time.Time) (next int) {
	if e.group != nil || e.Busy() || !e.shown() {
		return i
	}
	e.beginStep()
	g := e.newGroup(wall)
	defer g.discard()
	for g.refusal, g.reads = crdt.ErrReadOnly, true; i < u.Len() && !e.isSpent(); i++ {
		u.Ran(i, g.update(func(tx *Tx) error { return u.Run(i, tx) }))
	}
	return i
}

// Hungry reports whether more updates had better be submitted before the next step. Others wait
// with whoever brings them.
func (e *Engine) Hungry() bool { return len(e.updates) < maxUpdates }

// Updates returns how many updates wait for their turn, or have begun and are not answered.
func (e *Engine) Updates() int { return len(e.updates) }

// Interrupted reports whether a transaction's function ended the goroutine of the last step: see
// Step.
func (e *Engine) Interrupted() bool { return e.running != nil }

// Abandon returns all updates that have not been answered, and never will be, after an error.
func (e *Engine) Abandon() []Update {
	if e.group != nil {
		e.group.discard()
	}
	return slices.Concat(e.handed.Answers, e.ready.Answers, e.updates)
}

// Connect opens a link, in place of one that there may be, which takes so many frames now.
func (e *Engine) Connect(id gossip.NeighbourID, frames int) {
	e.forgetFrames(id)
	e.takes[id] = frames
	e.digests = digests{pause: digestEvery} // to be told again
	e.Mesh.Connect(id)
}

// Disconnect forgets a link.
func (e *Engine) Disconnect(id gossip.NeighbourID) {
	e.forgetFrames(id)
	delete(e.takes, id)
	e.Mesh.Disconnect(id)
}

// forgetFrames hands back what arrived over a link that is no more.
func (e *Engine) forgetFrames(id gossip.NeighbourID) {
	kept := e.arrived[:0]
	for _, f := range e.arrived {
		if f.From == id {
			f.Err = ErrReplaced
			e.ready.Handled = append(e.ready.Handled, f)
		} else {
			kept = append(kept, f)
		}
	}
	clear(e.arrived[len(kept):])
	e.arrived = kept
}

// Takes says how many frames a link takes now.
func (e *Engine) Takes(id gossip.NeighbourID, frames int) {
	if e.linked(id) {
		e.takes[id] = frames
	}
}

func (e *Engine) linked(id gossip.NeighbourID) bool {
	_, linked := e.takes[id]
	return linked
}

// Receive has a frame of a linked neighbour wait for its turn. The neighbour's next one must come
// after Ready handed it back.
func (e *Engine) Receive(f *Frame) {
	if !e.linked(f.From) {
		f.Err = ErrReplaced
		e.ready.Handled = append(e.ready.Handled, f)
		return
	}
	e.arrived = append(e.arrived, f)
}

// SetRoom says how much may be written to the disk, and, unless it is roomy, what writers are told.
func (e *Engine) SetRoom(room Room, refusal error) {
	if e.room, e.refusal = room, refusal; room == Roomy {
		e.refusal = nil
	}
	e.cutting = e.cutting && room != Full
	e.Mesh.Pause(room != Roomy)
}

// stalled reports whether a task is under way that has no room to go on.
func (e *Engine) stalled() bool { return e.room == Full && e.Busy() }

// SyncEnded says that a sync of a Ready has ended well.
func (e *Engine) SyncEnded(s Syncing) {
	e.syncing = false
	if s.Tree && s.checkpoints > e.durables { // else what it is about was discarded, or is known
		e.survives(s.saved, s.checkpoints)
	}
	e.cutting = e.room != Full
	e.vouch()
}

// LogGrew says that the log grew, which others write to as well: the next step looks whether a
// checkpoint is due. An engine that rests does not notice by itself, and what it needs of the log
// is cut for nobody. See Behind.
func (e *Engine) LogGrew() { e.cutting = e.room != Full }

// State returns the digest for the mesh.
func (r *replica) State() (d gossip.Digest, settled bool) {
	context, root, settled := r.Digest()
	return gossip.Digest{Context: context.Lo, Root: root.Lo}, settled
}

// Whole reports whether a neighbour has what its context says.
func (e *Engine) Whole(id gossip.NeighbourID) bool { return e.Mesh.Whole(id) }

// ending is how far an engine is that is to end.
type ending struct {
	id     bool // the replica's id is to be ended, or was
	stop   bool // everything is
	saving bool // the last checkpoint is being written, or is
	closed bool

	last crdt.Dot // of the id that was ended
}

// EndID has the replica's id ended once what waits is done: its neighbours then know that nothing
// more comes from it. A transaction that is submitted later takes another id.
func (e *Engine) EndID() { e.ending.id = true }

// HasLeft reports whether the id is ended and all neighbours have said that they know, but those
// that are told nothing; or there is nothing to be known.
func (e *Engine) HasLeft() bool {
	if e.ending.id {
		return false
	}
	for id := range e.takes {
		if e.ending.last.Counter > 0 && !e.Quarantined(id) && !e.Said(id).Has(e.ending.last) {
			return false
		}
	}
	return true
}

// Stop has the engine end once what waits is done: with the end of the id and a checkpoint, as far
// as there is room on the disk. A Ready says when it has.
func (e *Engine) Stop() { e.ending.stop, e.ending.id = true, true }

// Checkpoint begins a task: a checkpoint of all that is here, which survives a power failure.
func (e *Engine) Checkpoint() { e.replica.begin(e.save(e.wall)) }

// Step does some of what there is to do, in each of its parts no more than a step may. now only
// ever goes on; wall is what the host's clock shows. An error is final: the engine must be closed.
// What it wants done is in Ready, and must be carried out and taken back by Advance before anything
// else is called.
//
// If a function of a transaction ends its goroutine Step must be called again, by another.
func (e *Engine) Step(now, wall time.Time) error {
	e.now, e.wall = now, wall
	if e.running != nil {
		e.exited()
	} else {
		e.keepTime()
		if err := e.upkeep(); err != nil {
			return err
		}
		if err := e.takeTurns(); err != nil {
			return err
		}
	}
	if err := e.after(); err != nil {
		return err
	}
	err := e.serve()
	e.rests = err == nil && e.resting()
	e.hurryDigest()
	return err
}

// exited goes on where a transaction's function ended the goroutine of the step before.
func (e *Engine) exited() {
	u := e.running
	e.running = nil
	u.Ran(e.next-1, ErrExited)
	e.commit() // what was in the group with it; the others of its update have the next
}

// keepTime does what is due by the clock.
func (e *Engine) keepTime() {
	d := &e.due
	reached := func(t *time.Time, every time.Duration) bool {
		if t.IsZero() || e.now.Before(*t) {
			return false
		}
		*t = e.now.Add(every)
		return true
	}
	if reached(&d.sync, syncEvery) && e.dirty && e.cfg.SyncEverySecond || e.awaited {
		e.sync()
	}
	if reached(&d.push, 0) {
		d.push = time.Time{}
		e.Mesh.Release()
	}
	if !e.now.Before(d.digest) {
		e.sendDigest()
		e.paceDigests()
	}
	passed := e.ticksPassed()
	if reached(&d.tick, tickEvery) {
		for range passed {
			e.Tick(e.pull != nil || e.Repairing() || e.Busy() || e.damage != nil || e.room != Roomy)
		}
		e.cutting = e.room != Full
	}
}

// sync has a sync begun of all that was written before.
func (e *Engine) sync() {
	if e.syncing {
		return
	}
	s := e.beginSync()
	if e.room == Full {
		s.Tree = false // of the log, which is written already
	}
	e.dirty, e.syncing = false, true
	e.ready.Sync = &s
}

// upkeep does a part of what the log and the tree need: of a task or a checkpoint that all else
// waits for, or else of what goes on beside it.
func (e *Engine) upkeep() (err error) {
	e.beginStep()
	last := e.wrote
	e.wrote = false
	switch {
	case e.stalled(): // until there is room
	case e.beside != nil: // the tree gets that first
	case e.Busy():
		err = e.goOn()
	case e.behindHand():
		err = e.pace(e.wall)
	case e.cutting && !(last && e.mayCollect()): // the two take turns: a step with both would be twice as long
		waiting := len(e.writes)
		e.cutting, err = e.maintain(e.wall)
		e.setBeside(waiting)
		e.wrote = e.saving != nil
	}
	e.spent("upkeep")
	if err == nil && e.room != Full && !e.Busy() && e.needsSync() { // tasks sync as they go
		e.sync()
	}
	return err
}

// behindHand reports whether what waits for a checkpoint must be written before anything else: not
// to a full disk.
func (e *Engine) behindHand() bool { return e.room != Full && e.late() }

// takeTurns does what neighbours sent and clients ask, in turn, until the step is spent or nothing
// is left, as one group.
func (e *Engine) takeTurns() error {
	if e.stalled() { // no delta is taken then, and neighbours get what they say that they lack
		e.refuse()
	} else if e.Busy() || e.behindHand() || e.crowded() {
		return nil
	}
	e.beginStep()
	e.collect()
	for idle := 0; idle < 2 && !e.full(); {
		e.clients = !e.clients
		turn := e.receive
		if e.clients {
			turn = e.update
		}
		did, err := turn()
		if err != nil {
			return err
		}
		if idle++; did {
			idle = 0
		}
	}
	e.end()
	e.spent("jobs")
	e.commit()
	return nil
}

// begin begins a commit group, unless one is open.
func (e *Engine) beginGroup() {
	if e.group == nil {
		e.group = e.newGroup(e.wall)
		e.group.refusal = e.refusal
		e.group.looking.may = true
	}
}

// full reports whether the step is spent.
func (e *Engine) full() bool { return e.isSpent() || e.group != nil && e.group.full() }

// crowded reports whether so many clears wait to be swept that no more may come before.
func (e *Engine) crowded() bool { return e.Clears() > e.cfg.MaxClears && e.maySweep() }

// mayCollect reports whether what has expired can be removed now, and counters' baselines
// collected. The end of an id waits for that, but not for a tick, which begins a checkpoint: then
// it is done however much waits.
func (e *Engine) mayCollect() bool {
	return e.Collects() && (e.ending.id || !e.laden()) && e.room == Roomy && e.Refusal() == nil
}

// collect does some of that in the step's group.
func (e *Engine) collect() {
	if e.wrote || !e.mayCollect() {
		return
	}
	e.beginGroup()
	if err := e.collectSome(e.group); errors.Is(err, store.ErrCorrupt) {
		e.verify(proofEvery, "")
	} else if err != nil {
		e.tell(Notice{Kind: CannotCollect, Err: err})
	}
}

// update runs transactions of the first update that waits, in the group, until it is full: the
// others are run in the next step. It reports whether there was one.
func (e *Engine) update() (did bool, err error) {
	if len(e.updates) == 0 {
		return false, nil
	}
	u := e.updates[0]
	if !u.Begin() {
		e.updateDone()
		return true, nil
	}
	for e.beginGroup(); e.next < u.Len(); {
		if e.full() {
			return true, nil
		}
		i := e.next
		e.next++
		err := e.Refusal()
		if err == nil {
			e.running = u
			err = e.group.update(func(tx *Tx) error { return u.Run(i, tx) })
			e.running = nil // not if it ended this goroutine: see exited
		}
		u.Ran(i, err)
		if errors.Is(err, store.ErrCorrupt) {
			e.verify(proofEvery, "")
		}
	}
	e.ready.Answers = append(e.ready.Answers, u)
	e.updateDone()
	return true, nil
}

// refuse answers all updates that wait, for a task that may be stalled for long.
func (e *Engine) refuse() {
	why := cmp.Or(e.Refusal(), e.refusal, ErrBusy)
	for len(e.updates) > 0 {
		if u := e.updates[0]; u.Begin() {
			for ; e.next < u.Len(); e.next++ {
				u.Ran(e.next, why)
			}
			e.ready.Answers = append(e.ready.Answers, u)
		}
		e.updateDone()
	}
}

// updateDone ends the first update that waited.
func (e *Engine) updateDone() {
	e.updates[0] = nil
	if e.next = 0; len(e.updates) == 1 {
		e.updates = e.updates[:0] // with its memory
	} else {
		e.updates = e.updates[1:]
	}
}

// receive takes the first frame that waits into the group, as far as there is room. It reports
// whether there was one. Only errors of the store end the engine.
func (e *Engine) receive() (did bool, err error) {
	if len(e.arrived) == 0 {
		return false, nil
	}
	f := e.arrived[0]
	e.beginGroup()
	if f.begun {
		err = e.Mesh.Resume(f.From, e.offer(e.group))
	} else {
		f.begun = true
		err = e.Mesh.Receive(f.From, f.Data, e.offer(e.group))
	}
	if err == nil && e.Unfinished(f.From) {
		return true, nil // the group is full
	}
	if errors.Is(err, gossip.ErrFrame) {
		f.Err, err = err, nil
	}
	e.ready.Handled = append(e.ready.Handled, f)
	e.arrived[0] = nil
	e.arrived = e.arrived[1:]
	return true, err
}

// end ends the replica's id if that is wanted and nothing waits any more, and the engine behind it.
// What the replica owes is collected before.
func (e *Engine) end() {
	if !e.ending.id && !e.ending.stop || len(e.updates)+len(e.arrived) > 0 || e.crowded() {
		return
	}
	may := e.room == Roomy && e.Refusal() == nil
	if may && e.owes() {
		return
	}
	if e.ending.id && may {
		if id := e.replica.id; id != 0 {
			if e.group != nil && !e.group.empty() {
				return // the last delta is alone in its group
			}
			e.beginGroup()
			if err := e.group.end(); err != nil {
				e.tell(Notice{Kind: CannotCollect, Err: err})
			}
			e.ending.last = crdt.Dot{Replica: id, Counter: e.seen[id]}
			e.Mesh.Release()
		}
	}
	if e.ending.id = false; !e.ending.stop {
		return
	}
	switch {
	case e.room == Full:
		e.ending.closed = true
	case !e.ending.saving:
		e.ending.saving = true
		e.Checkpoint()
	default:
		e.ending.closed = true
	}
}

// commit commits the group, if there is one.
func (e *Engine) commit() {
	g := e.group
	if g == nil {
		return
	}
	e.group = nil
	deltas := g.commit()
	if len(deltas) == 0 {
		return
	}
	e.dirty = true
	if e.cfg.Sync {
		e.write(Write{SyncLog: true})
	}
	for _, d := range deltas {
		if d.Replica == g.own {
			e.newest = crdt.Dot{Replica: d.Replica, Counter: d.Last()}
			if e.cfg.PushDelay > 0 && e.due.push.IsZero() {
				e.due.push = e.now.Add(e.cfg.PushDelay)
			}
		}
		e.ready.NewBases = e.ready.NewBases || len(d.Tables()) > 0
	}
	e.ready.Committed = append(e.ready.Committed, deltas...)
}

// after does what follows from a step: it sweeps a little, and acts on what the mesh found.
func (e *Engine) after() error {
	e.beginStep()
	if !e.Busy() && !e.late() && e.maySweep() {
		if err := e.sweep(); err != nil {
			return err
		}
		e.spent("the sweep")
	}
	for _, event := range e.Events() {
		switch event.Kind {
		case gossip.Behind:
			e.startPull(event.From)
		case gossip.Damaged:
			e.tell(Notice{Kind: Mismatch, From: event.From})
			e.verify(verifyEvery, event.From)
		case gossip.Forked:
			e.alarmed = time.Time{}
			if e.room != Full { // what of own writes the other side has is stored at once, for Salvage
				e.Checkpoint()
			}
		}
	}
	e.settle()
	e.lookAfterData()
	return nil
}

// serve makes frames for links that have room, until the step is spent: the next one then begins
// with the link after the last that was served.
func (e *Engine) serve() error {
	if e.fills() && e.filling.closing {
		return nil // the context is that of cells which are not there until the next checkpoint is
	}
	e.beginStep()
	defer e.spent("serving links")
	ids := e.Neighbours()
	first := 0
	for first < len(ids) && ids[first] <= e.lastFed {
		first++
	}
	e.unserved = false
	for i := range ids {
		id := ids[(first+i)%len(ids)]
		for e.takes[id] > 0 {
			if e.unserved = e.isSpent(); e.unserved {
				return nil
			}
			data, err := e.Mesh.Next(id)
			if err != nil {
				return err
			}
			e.lastFed = id
			if data != nil {
				e.takes[id]--
				e.ready.Frames = append(e.ready.Frames, Outgoing{id, data})
			} else if !e.Seeking(id) {
				break
			}
		}
	}
	return nil
}

// spent tells a test what a part of a step did. That is never more than the budget, the largest
// transaction, and a search for forks.
func (e *Engine) spent(part string) {
	if e.cfg.Spent != nil {
		e.cfg.Spent(part, e.work-e.turn.began, e.cfg.StepWork+e.turn.largest+e.turn.searched)
	}
}

// A host takes the replica's work in steps, and looks at its timers, its links and whether it is to
// stop between two of them. A step ends when its budget is spent, or there is nothing left to do.
// It goes over its budget by what it did last, since a transaction is never split: so the largest
// one that is allowed is the worst step.

// StepWork is the budget of a step, in units of about a microsecond on the machines that peerd is
// measured on (BenchmarkStep, `go -C bench run . bounds step`). Larger groups write a little more
// a second; smaller ones keep neighbours and fsyncs waiting for less long (BenchmarkPipelines in
// package peer).
const StepWork = 5000

// What things cost. An operation's share of the commit is part of its price: its writes, log record
// and fingerprints.
const (
	workTransaction = 4  // a transaction, or a delta that was looked at
	workOp          = 12 // an operation
	workCell        = 1  // a cell or summary that was looked at
	workMiss        = 8  // and had to be read from the store
	workRecord      = 4  // a record of the log that was read
	workCut         = 8  // or cut off
	workSaved       = 2  // a record that is put into a checkpoint, for others to write
	bytesPerWork    = 256
)

// step is what the step under way has done.
type step struct {
	began    int // replica.work at its beginning
	largest  int // the work of its largest transaction
	searched int // the work of searching the log for forks: see maxSearched
}

// spend counts work.
func (r *replica) spend(work int) { r.work += work }

func workOf(bytes int) int { return bytes / bytesPerWork }

func workOfOp(o *delta.Op) int {
	return workOp + len(o.Removes) + workOf(len(o.Address)+len(o.Payload))
}

// beginStep begins a step.
func (r *replica) beginStep() { r.turn = step{began: r.work} }

// isSpent reports whether the step's budget is spent.
func (r *replica) isSpent() bool { return r.spentSince(r.turn.began) }

func (r *replica) spentSince(began int) bool { return r.work-began >= r.cfg.StepWork }

// transacted notes a transaction, or something else that cannot be split, that began at a count of
// work.
func (r *replica) transacted(began int) { r.turn.largest = max(r.turn.largest, r.work-began) }

// Figures are counts for monitoring.
type Figures struct {
	LogRecords   uint64
	OldestLogged time.Time // when the oldest record of the log was written; zero if there is none
	Waiting      int       // deltas that overtook what they depend on
	NotAdopted   int       // times of other replicas that were too far ahead
	Deltas       Offered
}

// Offered counts the deltas that neighbours sent, by what became of them.
type Offered struct {
	Applied uint64 // new here
	Copies  uint64 // here already
	Refused uint64 // dropped: a repair brings them, or they are of a fork
}

// Figures returns the present counts.
func (e *Engine) Figures() Figures {
	f := Figures{Waiting: e.Waiting(), NotAdopted: e.skewed, Deltas: e.offered}
	_, f.OldestLogged, _ = e.log.Oldest()
	f.LogRecords = e.log.Last + 1 - e.log.First // a rotten one was taken out
	return f
}

// Stable returns how many of the mutations here all of the linked neighbours are known to have too.
// Without a neighbour there is none of which that is known.
func (e *Engine) Stable() (total uint64) {
	least, someone := e.seen.Clone(), false
	for _, id := range e.Neighbours() {
		known, greeted := e.Known(id)
		greeted = greeted && !e.Quarantined(id)
		someone = someone || greeted
		for r, count := range least {
			if greeted && known[r] < count {
				least[r] = known[r]
			}
		}
	}
	if !someone {
		return 0
	}
	for _, count := range least {
		total += count
	}
	return total
}

// offer applies a delta of a neighbour's to a group, and counts what becomes of it.
func (e *Engine) offer(g *group) func(*delta.Delta) (gossip.Outcome, error) {
	return func(d *delta.Delta) (gossip.Outcome, error) {
		if g.full() {
			return gossip.Later, nil
		}
		outcome, err := g.apply(d)
		switch {
		case err != nil:
		case outcome == gossip.Applied:
			e.offered.Applied++
		case outcome == gossip.Known:
			e.offered.Copies++
		case outcome == gossip.Refused, outcome == gossip.Astray:
			e.offered.Refused++
		}
		return outcome, err
	}
}
