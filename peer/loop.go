package peer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
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

// maxDrain is how many jobs one group takes before its links are served.
const maxDrain = 1024

// maxClears is how many clears may wait to be swept before writes wait for the sweep.
const maxClears = 64

// job is one thing for the commit loop to do: exactly one field is set.
type job struct {
	update *update
	frame  *frame
	call   func(l *loop)
}

// frame is a message from a neighbour.
type frame struct {
	link *link
	data []byte
	done chan error // buffered
}

// loop is the commit loop: the one goroutine that owns the replica. It collects what waits into a commit
// group, commits it, and only then answers, wakes watchers and serves the links.
type loop struct {
	p      *Peer
	node   *replica.Node
	rng    *rand.Rand
	wake   chan struct{} // a link has room
	synced chan error    // of capacity 1: how the sync under way ended
	links  map[gossip.NeighbourID]*link

	push    *time.Timer // own deltas that are held back are sent
	pushing bool        // when it fires

	group   *replica.Group
	running *update   // whose function runs now
	updates []*update // in the group, to be answered
	frames  []*frame
	dirty   bool // something was committed and not synced
	syncing bool // a sync is under way

	opened    time.Time
	sweeping  sweeping
	repairing bool      // a repair was started and has not ended
	flipping  bool      // a repair is being taken over
	alarmed   int       // forks that were logged
	estranged time.Time // when strangers were named last
	helped    time.Time // when a damaged replica last had somebody to help it, or needed nobody
	helpless  time.Time // when it was last said that nobody can
	broken    error     // what ends the loop after this step
}

func newLoop(p *Peer, node *replica.Node) *loop {
	if p.cfg.PushDelay > 0 {
		node.Hold()
	}
	return &loop{
		p: p, node: node,
		rng:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		wake:     make(chan struct{}, 1),
		synced:   make(chan error, 1),
		links:    map[gossip.NeighbourID]*link{},
		push:     time.NewTimer(time.Hour),
		sweeping: sweeping{rest: time.NewTimer(time.Hour)},
		opened:   time.Now(),
	}
}

// errFailed is what callers get after the loop failed.
func errFailed(err error) error { return fmt.Errorf("%w: %w", ErrClosed, err) }

// run is the loop. Its steps have a goroutine of their own, and get another one if a function of a user's
// transaction ends that.
func (l *loop) run() {
	defer close(l.p.stopped)
	tick := time.NewTicker(tickEvery)
	digest := time.NewTicker(digestEvery)
	syncing := time.NewTicker(syncEvery)
	defer tick.Stop()
	defer digest.Stop()
	defer syncing.Stop()
	defer l.push.Stop()
	defer l.sweeping.rest.Stop()
	l.noticeSpace(l.p.space.left() != roomy)
	for !apart(func() { l.steps(tick.C, digest.C, syncing.C) }) {
		if l.running == nil {
			l.fail(errExitedElsewhere)
			return
		}
	}
}

// steps does one step after the other until the peer is closed or fails.
func (l *loop) steps(tick, digest, syncing <-chan time.Time) {
	err := l.resume()
	for err == nil {
		select {
		case j := <-l.p.jobs:
			err = l.work(j)
		case <-l.wake:
		case err = <-l.synced:
			l.syncing = false
		case <-tick:
			err = l.tick()
		case <-digest:
			l.watchSpace()
			err = l.sendDigest()
		case <-syncing:
			l.sync()
		case <-l.push.C:
			l.pushing = false
			l.node.Release()
		case <-l.p.stop:
			l.finish()
			return
		case <-l.sweeping.rest.C:
		case <-l.idle():
		}
		if err == nil {
			err = l.after()
		}
	}
	l.fail(err)
}

// tick is what is due several times a second.
func (l *loop) tick() error {
	left := l.p.space.left()
	l.node.Tick(l.repairing || l.node.Repairing() || l.node.Damaged() != nil || left != roomy)
	if left == full {
		return nil
	}
	_, err := l.node.Maintain(l.p.now())
	return err
}

// ready is a channel that can always be read.
var ready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// idle can be read if the loop has work that waits for nobody.
func (l *loop) idle() <-chan struct{} {
	if l.maySweep() {
		return ready
	}
	return nil
}

// work does a job and those that wait behind it, in as few groups as they fit into.
func (l *loop) work(j job) error {
	for range maxDrain {
		if err := l.do(j); err != nil {
			return err
		}
		select {
		case j = <-l.p.jobs:
		default:
			return l.commit()
		}
	}
	return l.commit()
}

func (l *loop) do(j job) error {
	if j.call != nil {
		if err := l.commit(); err != nil {
			return err
		}
		j.call(l)
		return l.broken
	}
	if l.group != nil && l.group.Full() {
		if err := l.commit(); err != nil {
			return err
		}
	}
	if l.group == nil {
		l.begin()
	}
	if j.update != nil {
		return l.update(j.update)
	}
	return l.receive(j.frame)
}

// begin begins a commit group.
func (l *loop) begin() {
	now := time.Now()
	l.watchFree(now)
	l.group = l.node.Begin(now.Add(l.p.cfg.clockOffset))
}

// update runs transactions in the group, or in as many as they fill.
func (l *loop) update(u *update) error {
	if !u.begin() {
		return nil
	}
	return l.proceed(u)
}

// proceed runs the functions of an update that have not run yet.
func (l *loop) proceed(u *update) error {
	for u.next < len(u.fns) {
		if l.group.Full() {
			if err := l.commit(); err != nil {
				l.updates = append(l.updates, u)
				return err
			}
			l.begin()
		}
		i := u.next
		u.next++
		err := l.refusal()
		if err == nil {
			err = l.transact(u, u.fns[i])
		}
		u.fail(i, err)
		l.p.counters.transacted(err)
		if errors.Is(err, store.ErrCorrupt) {
			l.verify(replica.ProofEvery)
		}
	}
	l.updates = append(l.updates, u)
	return nil
}

// refusal returns why nothing may be written now.
func (l *loop) refusal() error {
	if why := l.p.refusing.Load(); why != nil {
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
		if refusal := l.p.space.refusal(); refusal != nil {
			return transactReading(tx, refusal, fn)
		}
		return fn(newTx(tx))
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
	l.p.counters.transacted(ErrExited)
	if err := l.proceed(u); err != nil {
		return err
	}
	return l.commit()
}

// receive takes a frame into the group. Only errors of the store end the loop.
func (l *loop) receive(f *frame) error {
	if l.links[f.link.id] != f.link {
		f.done <- errLinkReplaced
		return nil
	}
	err := l.node.Receive(l.group, f.link.id, f.data)
	if errors.Is(err, gossip.ErrFrame) {
		f.done <- err
		return nil
	}
	l.frames = append(l.frames, f)
	return err
}

// commit commits the group, if there is one, and answers those in it.
func (l *loop) commit() error {
	g := l.group
	if g == nil {
		return nil
	}
	l.group = nil
	empty := g.Empty()
	if !empty {
		if err := l.p.mark.remove(); err != nil {
			g.Discard()
			return err
		}
	}
	began := time.Now()
	done, err := g.Commit(l.p.cfg.Durability == Always)
	if err != nil {
		return err
	}
	if !empty {
		l.dirty = true
		l.p.counters.commitTimes.Observe(time.Since(began), 1)
		l.p.counters.commits.Add(1)
		l.p.counters.deltas.Add(uint64(len(done.Deltas)))
	}
	l.p.publish(l.node.Published())
	if !empty {
		l.schedule(done.Deltas)
		l.p.feed.committed(l.node.LogEnd()-1, done.Deltas)
	}
	l.answer(nil)
	return nil
}

// schedule has own deltas sent at the end of the time for which they are held back.
func (l *loop) schedule(deltas []*crdt.Delta) {
	own := func(d *crdt.Delta) bool { return d.Replica == l.node.ID() }
	if delay := l.p.cfg.PushDelay; delay > 0 && !l.pushing && slices.ContainsFunc(deltas, own) {
		l.pushing = true
		l.push.Reset(delay)
	}
}

// jump tells watches that the content is no longer what the log says they have been told.
func (l *loop) jump() {
	seen, _ := l.node.Context()
	l.p.feed.jump(seen, l.node.LogEnd())
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
	case gossip.Meet:
		if l.p.net != nil {
			l.p.net.meet(e.From)
		}
	}
}

// serve fills the links that have room.
func (l *loop) serve() error {
	for id, link := range l.links {
		for len(link.out) < cap(link.out) {
			data, err := l.node.Next(id)
			if err != nil {
				return err
			}
			if data == nil {
				break
			}
			link.out <- data
		}
	}
	return nil
}

// sync has what was committed made durable, beside the loop: on a busy disk that can take seconds.
func (l *loop) sync() {
	if !l.dirty || l.syncing || l.p.cfg.Durability != Interval {
		return
	}
	l.dirty, l.syncing = false, true
	l.p.background.Add(1)
	go func() {
		defer l.p.background.Done()
		began := time.Now()
		err := l.p.store.Sync()
		l.p.counters.syncTimes.Observe(time.Since(began), 1)
		l.synced <- err
	}()
}

// finish does what was accepted, and closes cleanly.
func (l *loop) finish() {
	var err error
	for more := true; more && err == nil; {
		select {
		case j := <-l.p.jobs:
			err = l.work(j)
		default:
			more = false
		}
	}
	if l.syncing {
		err = errors.Join(err, <-l.synced)
	}
	if err == nil && l.p.space.left() == full {
		l.p.log.Warn("closing on a full disk: the next start reads the log again and takes a new replica id")
		return
	}
	if err == nil {
		err = l.node.Save(l.p.now())
	}
	if err == nil {
		err = l.p.store.Sync()
	}
	if err == nil && l.node.Damaged() == nil {
		err = l.p.mark.write(l.node.Token())
	}
	if err != nil {
		l.fail(err)
	}
}

// fail ends the loop after an error of the store: nothing more is committed or acknowledged.
func (l *loop) fail(err error) {
	l.p.log.Error("the peer stops: its store failed", "error", err)
	l.p.failed = err
	failed := errFailed(err)
	l.p.refuse(failed)
	if l.group != nil {
		l.group.Discard()
		l.group = nil
	}
	l.answer(failed)
}
