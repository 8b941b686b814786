package peer

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/internal/delta"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
)

// Intervals of the commit loop.
const (
	tickEvery   = 100 * time.Millisecond // neighbours are told what is new here, and asked for what is missing
	digestEvery = time.Second            // a random neighbour gets a digest
	syncEvery   = time.Second            // Durability Interval
)

// maxClears is how many clears may wait to be swept before writes wait for the sweep. Each costs some 300 bytes of
// memory, and readers next to nothing.
const maxClears = 1 << 16

// job is one thing beside updates for the commit loop to do: exactly one field is set.
type job struct {
	frame *frame
	call  func(l *loop)
}

// frame is a message from a neighbour.
type frame struct {
	link  *lane
	data  []byte
	begun bool       // a part of it was received
	done  chan error // buffered
}

// loop is the commit loop of a space: the one goroutine that owns its replica. It goes round: what is due by the clock, a step of
// jobs, a step of the sweep, a step of serving links. The core bounds each step by a count of work, so that
// none of those waits for long however much clients and neighbours ask. In a step of jobs it collects what waits into a
// commit group, commits it, and only then answers and wakes watchers.
type loop struct {
	p      *Peer
	s      *space
	node   *replica.Node
	rng    *rand.Rand
	wake   chan struct{} // a link has room
	synced chan synced   // of capacity 1: how the sync under way ended
	links  map[gossip.NeighbourID]*lane

	clock func() time.Time
	due   deadlines
	alarm *time.Timer // fires at the first of them

	// What waits for its turn.
	arrived  []*frame // one of each link at most; the first may be received in part
	hand     *update  // taken, and run in part
	clients  bool     // have the first turn in the next step
	cutting  bool     // there is more of a checkpoint, or more of the log to be cut
	unserved bool     // links have room, and the last step of serving them was spent
	lastFed  gossip.NeighbourID

	group   *replica.Group
	running *update   // whose function runs now
	updates []*update // in the group, to be answered
	frames  []*frame
	dirty   bool // something was committed and not synced
	syncing bool // a sync is under way

	room      room // for which the node was told to go on or to pause
	opened    time.Time
	sweeping  sweeping
	repairing bool      // a repair was started and has not ended
	alarmed   time.Time // when forks were named last
	helped    time.Time // when a damaged replica last had somebody to help it, or needed nobody
	helpless  time.Time // when it was last said that nobody can
	broken    error     // what ends the loop after this step
}

func newLoop(s *space, node *replica.Node) *loop {
	p := s.p
	if p.cfg.PushDelay > 0 {
		node.Hold()
	}
	now := time.Now()
	return &loop{
		p: p, s: s, node: node, clock: time.Now,
		due:      deadlines{tick: now.Add(tickEvery), digest: now.Add(digestEvery), sync: now.Add(syncEvery)},
		rng:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		wake:     make(chan struct{}, 1),
		synced:   make(chan synced, 1),
		links:    map[gossip.NeighbourID]*lane{},
		alarm:    time.NewTimer(time.Hour),
		sweeping: sweeping{rest: time.NewTimer(time.Hour)},
		opened:   now,
	}
}

// errFailed is what callers get after the loop failed.
func errFailed(err error) error { return fmt.Errorf("%w: %w", ErrClosed, err) }

// accept takes a job: a call is made, a frame waits for its turn. No group is open.
func (l *loop) accept(j job) error {
	if j.frame != nil {
		l.arrived = append(l.arrived, j.frame)
		return nil
	}
	j.call(l)
	return l.broken
}

// acceptSome takes jobs up to the first call.
func (l *loop) acceptSome() error {
	for {
		select {
		case j := <-l.s.jobs:
			if err := l.accept(j); err != nil || j.call != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// step does what neighbours sent and clients ask, in turn, until the step is spent or nothing is left, as one group.
func (l *loop) step() error {
	if err := l.acceptSome(); err != nil {
		return err
	}
	if l.crowded() {
		return nil
	}
	l.node.BeginStep()
	l.collect()
	for idle := 0; idle < 2 && !l.full(); {
		l.clients = !l.clients
		turn := l.receive
		if l.clients {
			turn = l.update
		}
		did, err := turn()
		if err != nil {
			return err
		}
		if idle++; did {
			idle = 0
		}
	}
	return l.commit()
}

// mayCollect reports whether counters' baselines can be collected now.
func (l *loop) mayCollect() bool {
	return l.node.Collects() && l.p.disk.room() == roomy && l.refusal() == nil
}

// collect does some of that in the step's group.
func (l *loop) collect() {
	if !l.mayCollect() {
		return
	}
	l.begin()
	if err := l.node.Collect(l.group); errors.Is(err, store.ErrCorrupt) {
		l.verify(replica.ProofEvery)
	} else if err != nil {
		l.s.log.Warn("cannot collect what deleted counters left; it is tried again", "error", err)
	}
}

// end ends the replica's id, if that can be written. What the replica owes is collected before.
func (l *loop) end() error {
	for l.node.Owes() && l.mayCollect() {
		l.node.BeginStep()
		l.collect()
		if err := l.commit(); err != nil {
			return err
		}
	}
	if l.p.disk.room() != roomy || l.refusal() != nil {
		return nil
	}
	l.begin()
	if err := l.group.End(); err != nil {
		return err
	}
	return l.commit()
}

// full reports whether the step is spent.
func (l *loop) full() bool { return l.node.Spent() || l.group != nil && l.group.Full() }

// crowded reports whether so many clears wait to be swept that no more may come before.
func (l *loop) crowded() bool { return l.node.Clears() > maxClears && l.maySweep() }

// begin begins a commit group, unless one is open.
func (l *loop) begin() {
	if l.group != nil {
		return
	}
	now := time.Now()
	l.watchFree(now)
	l.group = l.node.Begin(now.Add(l.p.cfg.clockOffset))
}

// update runs transactions of the first update that waits, in the group, until it is full: the others are run in the
// next step. It reports whether there was one.
func (l *loop) update() (did bool, err error) {
	if l.hand == nil {
		select {
		case l.hand = <-l.s.updates:
		default:
			return false, nil
		}
	}
	u := l.hand
	if !u.begin() {
		l.hand = nil
		return true, nil
	}
	for l.begin(); u.next < len(u.fns); {
		if l.full() {
			return true, nil
		}
		i := u.next
		u.next++
		err := l.refusal()
		if err == nil {
			err = l.transact(u, u.fns[i])
		}
		u.fail(i, err)
		l.s.counters.transacted(err)
		if errors.Is(err, store.ErrCorrupt) {
			l.verify(replica.ProofEvery)
		}
	}
	l.updates = append(l.updates, u)
	l.hand = nil
	return true, nil
}

// refusal returns why nothing may be written now.
func (l *loop) refusal() error {
	if why := l.s.refusing.Load(); why != nil {
		return *why
	}
	return nil
}

// errPanic ends a transaction whose function panicked.
var errPanic = errors.New("the transaction's function panicked")

func (l *loop) transact(u *update, fn func(*Tx) error) error {
	l.running = u
	err := l.group.Update(func(tx *replica.Tx) (err error) {
		defer func() {
			if thrown := recover(); thrown != nil {
				u.thrown, err = thrown, errPanic
			}
		}()
		if refusal := l.p.disk.refusal(); refusal != nil {
			return transactReading(tx, refusal, fn)
		}
		return newTx(tx).run(fn)
	})
	l.running = nil // not if fn ended this goroutine: see resume
	return err
}

// resume goes on where a transaction's function ended the goroutine of the steps before.
func (l *loop) resume() error {
	u := l.running
	if u == nil {
		return nil
	}
	l.running = nil
	u.fail(u.next-1, ErrExited)
	l.s.counters.transacted(ErrExited)
	return l.commit() // what was in the group with it; the others of its update have the next
}

// receive takes the first frame that waits into the group, as far as there is room. It reports whether there was one.
// Only errors of the store end the loop.
func (l *loop) receive() (did bool, err error) {
	if len(l.arrived) == 0 {
		return false, nil
	}
	f := l.arrived[0]
	id := f.link.id
	switch {
	case l.links[id] != f.link:
		l.frameDone()
		f.done <- errLinkReplaced
		return true, nil
	case f.begun:
		l.begin()
		err = l.node.Resume(l.group, id)
	default:
		l.begin()
		f.begun = true
		err = l.node.Receive(l.group, id, f.data)
	}
	if errors.Is(err, gossip.ErrFrame) {
		l.frameDone()
		f.done <- err
		return true, nil
	}
	if err == nil && l.node.Unfinished(id) {
		return true, nil // the group is full
	}
	l.frames = append(l.frames, f)
	l.frameDone()
	return true, err
}

// frameDone ends the first frame that waited.
func (l *loop) frameDone() {
	l.arrived[0].begun = false
	l.arrived[0] = nil
	l.arrived = l.arrived[1:]
}

// commit commits the group, if there is one, and answers those in it.
func (l *loop) commit() error {
	g := l.group
	if g == nil {
		return nil
	}
	l.group = nil
	empty := g.Empty()
	began := time.Now()
	done, err := g.Commit(l.p.cfg.Durability == Always)
	if err != nil {
		return err
	}
	if !empty {
		l.dirty = true
		l.s.counters.commitTimes.Observe(time.Since(began), 1)
		l.s.counters.commits.Add(1)
		l.s.counters.deltas.Add(uint64(len(done.Deltas)))
	}
	if !empty {
		l.schedule(done.Deltas)
		l.s.feed.committed(l.node.LogEnd()-1, done.Deltas, l.newBases(done.Deltas))
	}
	l.answer(nil)
	return nil
}

// schedule has own deltas sent at the end of the time for which they are held back.
func (l *loop) schedule(deltas []*delta.Delta) {
	own := func(d *delta.Delta) bool { return d.Replica == l.node.ID() }
	if delay := l.p.cfg.PushDelay; delay > 0 && l.due.push.IsZero() && slices.ContainsFunc(deltas, own) {
		l.due.push = l.clock().Add(delay)
	}
}

// jump tells watches that the content is no longer what the log says they have been told.
func (l *loop) jump() {
	l.s.feed.jump(l.node.Vector(), l.node.Bases(), l.node.LogEnd(), l.node.Turns())
}

func (l *loop) answer(err error) {
	for _, u := range l.updates {
		if err != nil {
			u.failAll(err)
		}
		close(u.done)
	}
	for _, f := range l.frames {
		f.done <- err
	}
	clear(l.updates)
	clear(l.frames)
	l.updates, l.frames = l.updates[:0], l.frames[:0]
}

// after does what follows from a step: it sweeps a little, acts on what the mesh found, and serves links.
func (l *loop) after() error {
	if err := l.sweepSome(); err != nil {
		return err
	}
	for _, e := range l.node.Events() {
		l.act(e)
	}
	if err := l.lookAfterData(); err != nil {
		return err
	}
	if l.broken != nil {
		return l.broken
	}
	return l.serve()
}

func (l *loop) act(e gossip.Event) {
	switch e.Kind {
	case gossip.Behind:
		l.startRepair(e.From)
	case gossip.Damaged:
		l.suspectDamage(e.From)
	case gossip.Forked:
		l.noticeFork(e.From)
	}
}

// serve fills the links that have room, until the step is spent: the next one then begins with the link after the last
// that was served.
func (l *loop) serve() error {
	l.node.BeginStep()
	ids := slices.Sorted(maps.Keys(l.links))
	first, _ := slices.BinarySearch(ids, l.lastFed+"\x00")
	l.unserved = false
	for i := range ids {
		id := ids[(first+i)%len(ids)]
		link := l.links[id]
		for len(link.out) < cap(link.out) {
			if l.unserved = l.node.Spent(); l.unserved {
				return nil
			}
			data, err := l.node.Next(id)
			if err != nil {
				return err
			}
			l.lastFed = id
			if data != nil {
				link.send(data)
			} else if !l.node.Seeking(id) {
				break
			}
		}
	}
	return nil
}

// finish does what was accepted, and closes cleanly.
func (l *loop) finish() {
	var err error
	for err == nil && (l.hand != nil || len(l.arrived)+len(l.s.jobs)+len(l.s.updates) > 0) {
		if err = l.step(); err == nil && l.crowded() {
			err = l.sweepSome()
		}
	}
	if l.syncing {
		err = errors.Join(err, l.endSync(<-l.synced))
	}
	if err == nil && l.p.disk.room() == full {
		l.s.log.Warn("closing on a full disk: the next start reads the log again")
		return
	}
	if err == nil {
		err = l.end()
	}
	if err == nil {
		err = l.node.Save(l.p.now())
	}
	if err != nil {
		l.fail(err)
	}
}

// fail ends the loop after an error of the store: nothing more is committed or acknowledged.
func (l *loop) fail(err error) {
	l.s.log.Error("the peer stops: its store failed", "error", err)
	failed := errFailed(err)
	l.s.refuse(failed)
	l.p.fail(err)
	if l.group != nil {
		l.group.Discard()
		l.group = nil
	}
	if l.hand != nil {
		l.updates = append(l.updates, l.hand)
	}
	l.answer(failed)
}
