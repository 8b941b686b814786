package peer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
)

// job is one thing beside updates for the commit loop to do: exactly one field is set.
type job struct {
	frame *frame
	call  func(l *loop)
}

// frame is a message from a neighbour.
type frame struct {
	link *lane
	data []byte
	done chan error // buffered
}

// loop is the commit loop of a space: the one goroutine that owns its engine. It tells the engine what happened, has it
// take a step, and does what that says: it decides nothing.
type loop struct {
	p      *Peer
	s      *space
	engine *engine.Engine
	wake   chan struct{} // a link has room
	synced chan synced   // of capacity 1: how the sync under way ended
	links  map[gossip.NeighbourID]*lane
	frames map[*engine.Frame]*frame // that the engine has
	pulls  map[*engine.Pull]*turn   // repairs under way

	clock    func() time.Time
	alarm    *time.Timer // fires when the engine is to be looked at next
	opened   time.Time
	room     room      // of which the engine was told
	look     time.Time // when all of the disk is to be looked at next
	stopping bool      // as was this
	refused  bool      // reads and writes are, as the engine says
	broken   error     // what ends the loop after this step
}

func newLoop(s *space, r *engine.Replica) *loop {
	now := time.Now()
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	return &loop{
		p: s.p, s: s, engine: engine.NewEngine(r, rng, now), clock: time.Now,
		wake:   make(chan struct{}, 1),
		synced: make(chan synced, 1),
		links:  map[gossip.NeighbourID]*lane{},
		frames: map[*engine.Frame]*frame{},
		pulls:  map[*engine.Pull]*turn{},
		alarm:  time.NewTimer(time.Hour),
		opened: now,
	}
}

// errFailed is what callers get after the loop failed.
func errFailed(err error) error { return fmt.Errorf("%w: %w", ErrClosed, err) }

// run is the loop. Its steps have a goroutine of their own, and get another one if a function of a user's
// transaction ends that.
func (l *loop) run() {
	defer close(l.s.stopped)
	defer l.alarm.Stop()
	l.noticeRoom(false)
	for !apart(l.steps) {
		if !l.engine.Interrupted() {
			l.fail(errExitedElsewhere)
			return
		}
	}
}

// steps takes one step after the other until the space is closed or fails.
func (l *loop) steps() {
	for {
		if l.s.stopping() && l.p.broken.Load() { // as after a crash: the disk that failed another space is this one's
			l.abandon(ErrClosed)
			return
		}
		rd, err := l.round()
		switch {
		case err == nil && rd.Closed:
			if l.p.disk.room() == full {
				l.s.log.Warn("closing on a full disk: the next start reads the log again")
			}
			return
		case err == nil && !rd.Again:
			err = l.wait(rd.At)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// round has the engine take a step, and does what it says.
func (l *loop) round() (*engine.Ready, error) {
	if !l.engine.Interrupted() { // else a group is open
		if err := l.accept(); err != nil {
			return nil, err
		}
	}
	now := l.clock()
	if now.Before(l.look) {
		l.watchFree(now)
	} else {
		l.look = now.Add(lookEvery)
		l.watchDisk()
	}
	if err := l.engine.Step(now, l.p.now()); err != nil {
		return nil, err
	}
	rd := l.engine.Ready()
	if rd.Refusing != nil && !l.refused {
		l.refused = true
		l.s.refuse(rd.Refusing)
	}
	began := time.Now()
	if err := engine.CarryOut(rd.Writes, l.s.store, l.s.journal); err != nil {
		return nil, err
	}
	l.engine.Advance()
	if len(rd.Committed) > 0 {
		l.s.counters.commitTimes.Observe(time.Since(began), 1)
	}
	if rd.Refusing == nil && l.refused {
		l.refused = false
		l.s.accept()
	}
	l.act(rd)
	return rd, l.broken
}

// lookEvery is how often what the store needs of the disk is looked at; what is free, more often.
const lookEvery = time.Second

// maxJobs is how many jobs are done before the engine has its turn, however many come.
const maxJobs = 256

// accept tells the engine what happened: all that waits, of updates as many as it takes.
func (l *loop) accept() error {
	for jobs := maxJobs; jobs > 0; jobs-- {
		select {
		case j := <-l.s.jobs:
			l.do(j)
		case s := <-l.synced:
			if s.err != nil {
				return s.err
			}
			l.engine.SyncEnded(s.of)
		default:
			jobs = 0
		}
		if l.broken != nil {
			return l.broken
		}
	}
	for updates := l.engine.Hungry(); updates; {
		select {
		case u := <-l.s.updates:
			l.engine.Submit(u)
			updates = l.engine.Hungry()
		default:
			updates = false
		}
	}
	for id, lane := range l.links {
		l.engine.Takes(id, cap(lane.out)-len(lane.out))
	}
	if l.s.stopping() && !l.stopping && len(l.s.updates) == 0 {
		l.stopping = true
		l.engine.Stop()
	}
	return nil
}

// do takes a job: a call is made, a frame waits for its turn.
func (l *loop) do(j job) {
	f := j.frame
	switch {
	case f == nil:
		j.call(l)
	case l.links[f.link.id] != f.link:
		f.done <- errLinkReplaced
	default:
		in := &engine.Frame{From: f.link.id, Data: f.data}
		l.frames[in] = f
		l.engine.Receive(in)
	}
}

// wait waits until there is something to do, or the time has come.
func (l *loop) wait(until time.Time) (err error) {
	l.alarm.Reset(until.Sub(l.clock()))
	stop := l.s.stop
	if l.stopping {
		stop = nil
	}
	select {
	case j := <-l.s.jobs:
		l.do(j)
	case u := <-l.s.updates:
		l.engine.Submit(u)
	case s := <-l.synced:
		if err = s.err; err == nil {
			l.engine.SyncEnded(s.of)
		}
	case <-l.wake:
	case <-l.alarm.C:
	case <-stop:
	}
	return err
}

// act does what a Ready says once its writes are carried out.
func (l *loop) act(rd *engine.Ready) {
	for _, n := range rd.Notices {
		l.notice(n)
	}
	if n := len(rd.Committed); n > 0 {
		l.s.counters.commits.Add(1)
		l.s.counters.deltas.Add(uint64(n))
		l.s.feed.committed(l.engine.LogEnd()-1, rd.Committed, l.newBases(rd.NewBases))
	}
	if rd.Jumped {
		l.jump()
	}
	for _, u := range rd.Answers {
		close(u.(*update).done)
	}
	clear(rd.Answers)
	rd.Answers = rd.Answers[:0]
	for _, in := range rd.Handled {
		l.frames[in].done <- handled(in.Err)
		delete(l.frames, in)
	}
	for _, f := range rd.Frames {
		l.links[f.To].send(f.Data)
	}
	if rd.Sync != nil {
		l.sync(*rd.Sync)
	}
	for _, p := range rd.Pulls {
		l.goOn(p)
	}
	if rd.Verify != nil {
		l.verify(rd.Verify)
	}
}

func handled(err error) error {
	if errors.Is(err, engine.ErrReplaced) {
		return errLinkReplaced
	}
	return err
}

// jump tells watches that the content is no longer what the log says they have been told.
func (l *loop) jump() {
	l.s.feed.jump(l.engine.Vector(), l.engine.Bases(), l.engine.LogEnd(), l.engine.Turns())
}

// refusal returns why nothing may be written now.
func (l *loop) refusal() error {
	if why := l.s.refusing.Load(); why != nil {
		return *why
	}
	return nil
}

// synced is a sync that has ended.
type synced struct {
	of  engine.Syncing
	err error
}

// sync has what was committed made durable, beside the loop: on a busy disk that can take seconds.
func (l *loop) sync(of engine.Syncing) {
	l.s.background.Add(1)
	go func() {
		defer l.s.background.Done()
		began := time.Now()
		err := of.Run(l.s.store, l.s.journal)
		l.s.counters.syncTimes.Observe(time.Since(began), 1)
		l.synced <- synced{of, err}
	}()
}

// verify reads all cells of a moment beside the loop.
func (l *loop) verify(pinned *engine.Pinned) {
	l.s.background.Add(1)
	go func() {
		defer l.s.background.Done()
		err := pinned.Verify(l.s.stopping)
		pinned.Close()
		_ = l.s.call(func(l *loop) { l.engine.Verified(err) })
	}()
}

// fail ends the loop after an error of the store: nothing more is committed or acknowledged.
func (l *loop) fail(err error) {
	l.s.log.Error("the peer stops: its store failed", "error", err)
	l.p.fail(err)
	l.abandon(errFailed(err))
}

// abandon ends the loop without what is left to be done.
func (l *loop) abandon(why error) {
	l.s.refuse(why)
	for _, u := range l.engine.Abandon() {
		u := u.(*update)
		u.failAll(why)
		close(u.done)
	}
	for _, f := range l.frames {
		f.done <- why
	}
}
