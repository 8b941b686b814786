package peer

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/engine"
)

// loop is what carries out a space's engine: it tells the engine what happened, has it take a step,
// and does what that says. It decides nothing. All of it belongs to whoever holds the turn (see
// turn.go): its own goroutine, which waits for what is due and for what others ask, or a caller
// that brings a transaction.
type loop struct {
	p      *Peer
	s      *space
	wake   chan struct{} // a link has room, or somebody left something to do
	synced chan synced   // of capacity 1: how the sync under way ended
	beside chan error    // of capacity 1: how what was written beside the loop did
	alarm  *time.Timer   // fires when the engine is to be looked at next
	opened time.Time
	clock  func() time.Time

	hadData  bool        // when it was opened
	wasReady atomic.Bool // since then

	crowd crowd

	turn   sync.Mutex // held by who uses what follows
	engine *engine.Engine
	links  map[gossip.NeighbourID]*lane
	// frames are those that the engine has, and where it is told what became of them.
	frames map[*engine.Frame]chan error
	pulls  map[*engine.Pull]*pulling // repairs under way

	began    time.Time     // the step
	apart    bool          // something is being written beside it
	served   bool          // it has answered clients
	half     *engine.Ready // of a step that is not finished; nil if there is none
	due      time.Time     // when the alarm fires
	room     room          // of which the engine was told
	stopping bool          // as was this
	look     time.Time     // when all of the disk is to be looked at next
	refused  bool          // reads and writes are, as the engine says
	broken   error         // what ends the loop after this step
	over     bool          // it has ended
	catching catching

	own              *update // of the caller who holds the turn, until that is answered
	answered, newest *update // whose callers are called once the turn is given back, in order
}

func newLoop(s *space, opened time.Time) *loop {
	return &loop{
		p: s.p, s: s, engine: s.core, clock: time.Now,
		wake:   make(chan struct{}, 1),
		synced: make(chan synced, 1),
		beside: make(chan error, 1),
		links:  map[gossip.NeighbourID]*lane{},
		frames: map[*engine.Frame]chan error{},
		pulls:  map[*engine.Pull]*pulling{},
		alarm:  time.NewTimer(time.Hour),
		opened: opened, hadData: s.core.CaughtUp(), catching: newCatching(s.core.CaughtUp()),
	}
}

// errFailed is what callers get after the loop failed.
func errFailed(err error) error { return fmt.Errorf("%w: %w", ErrClosed, err) }

// run is the loop's goroutine. Its steps have one of their own, and get another one if a function
// of a user's transaction ends that.
func (l *loop) run() {
	defer l.s.forsake()
	defer close(l.s.stopped)
	defer l.alarm.Stop()
	l.turn.Lock()
	l.noticeRoom(false)
	_ = l.readiness() // who began alone is ready, whoever comes later
	l.turn.Unlock()
	for !apart(l.steps) && !l.endedElsewhere() {
	}
}

// endedElsewhere fails the loop if it was no transaction's function that ended the goroutine of the
// steps.
func (l *loop) endedElsewhere() bool {
	l.turn.Lock()
	defer l.giveBack()
	if !l.over && l.engine.Interrupted() {
		return false
	}
	if !l.over {
		l.fail(errExitedElsewhere)
	}
	return true
}

// steps takes one step after the other until the space is closed or fails.
func (l *loop) steps() {
	var job func(*loop)
	for {
		again, hungry, served, over := l.haveTurn(job)
		switch {
		case over:
			return
		case again || hungry && len(l.s.updates) > 0: // it may be that nobody saw them who had the turn
			job = nil
			if !served && len(l.s.updates) == 0 { // who will ask for something has the processor first: see gentle
				runtime.Gosched()
			}
		default:
			if job = l.wait(); job == nil && l.crowd.is.Load() {
				runtime.Gosched() // those who write too queue first
			}
		}
	}
}

// haveTurn waits for the turn, and takes a step. If there is a job it is done before. One that is not hungry has enough
// to do, or waits for what wakes the loop. One that served has answered clients, or is to.
func (l *loop) haveTurn(job func(*loop)) (again, hungry, served, over bool) {
	l.turn.Lock()
	defer l.giveBack()
	if l.s.stopping() && l.p.broken.Load() {
		// As after a crash: the disk that failed another space is this one's.
		l.abandon(ErrClosed)
		return false, false, false, true
	}
	rd, err := l.round(job)
	switch {
	case err != nil:
		l.fail(err)
		return false, false, false, true
	case rd.Closed:
		if l.p.disk.room() == full {
			l.s.log.Warn("closing on a full disk: the next start reads the log again")
		}
		l.over = true
	case !rd.Again:
		l.setAlarm(rd.At)
	}
	return rd.Again, l.engine.Hungry(), l.served || l.engine.Updates() > 0, rd.Closed
}

// setAlarm has the loop look at the engine at a time.
func (l *loop) setAlarm(at time.Time) {
	if at.Sub(l.clock()) > time.Second {
		at = beat.Next(at, time.Second) // with what else the host then does
	}
	l.due = at
	l.alarm.Reset(at.Sub(l.clock()))
}

// round ends what a caller left, does a job and others that wait, has the engine take a step, and
// does what it says.
func (l *loop) round(job func(*loop)) (*engine.Ready, error) {
	switch {
	case l.broken != nil:
		return nil, l.broken
	case l.half != nil:
		if err := l.finish(); err != nil {
			return nil, err
		}
	case l.engine.Interrupted(): // a group is open
		if _, err := l.stepOnce(); err != nil {
			return nil, err
		}
	}
	if job != nil {
		job(l)
	}
	if err := l.hear(); err != nil {
		return nil, err
	}
	l.accept()
	if l.s.stopping() && !l.stopping && len(l.s.updates) == 0 {
		l.stopping = true
		l.engine.Stop()
	}
	return l.stepOnce()
}

// stepOnce has the engine take a step, and does what it says.
func (l *loop) stepOnce() (*engine.Ready, error) {
	rd, err := l.step()
	if err == nil {
		err = l.finish()
	}
	return rd, err
}

// step has the engine take a step. What it says is to be done by finish before anything else.
func (l *loop) step() (*engine.Ready, error) {
	now := l.clock()
	if now.Before(l.look) {
		l.watchFree(now)
	} else {
		l.look = now.Add(lookEvery)
		l.watchDisk()
		if n := l.p.net; n != nil {
			l.engine.GiveUp(func(id gossip.NeighbourID) bool { return n.gater.isRemoved(string(id)) })
		}
	}
	wall, clock := l.p.takenFor(now)
	l.engine.SetClock(clock)
	if err := l.engine.Step(now, wall); err != nil {
		return nil, err
	}
	l.began, l.half = now, l.engine.Ready()
	if why := l.half.Refusing; why != nil && !l.refused {
		l.refused = true
		l.s.refuse(why)
	}
	return l.half, nil
}

// finish does what the last step said.
func (l *loop) finish() error {
	rd := l.half
	if rd.Waits {
		if l.written(<-l.beside); l.broken != nil {
			return l.broken
		}
	}
	if err := engine.CarryOut(rd.Writes, l.s.store, l.s.journal); err != nil {
		return err
	}
	l.half = nil
	l.engine.Advance()
	l.p.logGrew(max(1, engine.Behind(l.p.limits.Load().logBytes)))
	if len(rd.Committed) > 0 {
		l.s.counters.commitTimes.Observe(l.clock().Sub(l.began), 1)
	}
	if rd.Refusing == nil && l.refused {
		l.refused = false
		l.s.refuse(nil)
	}
	l.act(rd)
	l.meet()
	return l.broken
}

// lookEvery is how often what the store needs of the disk is looked at; what is free, more often.
const lookEvery = time.Second

// maxJobs is how many jobs are done before the engine has its turn, however many come.
const maxJobs = 256

// hear does the jobs that wait, and tells the engine of a sync that has ended.
func (l *loop) hear() error {
	for jobs := maxJobs; jobs > 0 && l.broken == nil; jobs-- {
		select {
		case job := <-l.s.jobs:
			job(l)
		case s := <-l.synced:
			s.tell(l)
		case err := <-l.beside:
			l.written(err)
		default:
			return nil
		}
	}
	return l.broken
}

// accept tells the engine of the updates that wait, of as many as it takes, and of links.
func (l *loop) accept() {
	came := 0
	defer func() { l.crowd.came(came) }()
	for updates := len(l.s.updates) > 0 && l.engine.Hungry(); updates; {
		select {
		case u := <-l.s.updates:
			l.engine.Submit(u)
			updates = l.engine.Hungry()
			came++
		default:
			updates = false
		}
	}
	l.lookAtLinks()
}

// lookAtLinks tells the engine how many frames links take.
func (l *loop) lookAtLinks() {
	for id, lane := range l.links {
		l.engine.Takes(id, cap(lane.out)-len(lane.out))
	}
}

// receive has a frame that arrived over a lane wait for its turn. done, which has room, gets what
// became of it.
func (l *loop) receive(from *lane, data []byte, done chan error) {
	if l.links[from.id] != from {
		done <- errLinkReplaced
		return
	}
	in := &engine.Frame{From: from.id, Data: data}
	l.frames[in] = done
	l.engine.Receive(in)
}

// wait waits, without the turn, until there is something to do or the time has come. It returns a
// job that is to be done with the turn, or nil.
func (l *loop) wait() func(*loop) {
	stop := l.s.stop
	if l.stopping { // which nobody else sets
		stop = nil
	}
	select {
	case job := <-l.s.jobs:
		return job
	case s := <-l.synced:
		return s.tell
	case <-l.wake:
	case <-l.alarm.C:
	case <-stop:
	}
	return nil
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
	l.served = len(rd.Answers) > 0
	for _, u := range rd.Answers {
		l.answer(u.(*update))
	}
	clear(rd.Answers)
	rd.Answers = rd.Answers[:0]
	for _, in := range rd.Handled {
		l.frames[in] <- handled(in.Err)
		delete(l.frames, in)
	}
	for _, f := range rd.Frames {
		l.links[f.To].send(f.Data)
	}
	if rd.Sync != nil {
		l.sync(*rd.Sync)
	}
	if rd.Beside != nil {
		l.writeBeside(rd.Beside)
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

// synced is a sync that has ended.
type synced struct {
	of  engine.Syncing
	err error
}

// tell tells the engine, with the turn.
func (s synced) tell(l *loop) {
	if s.err != nil {
		l.broken = s.err
		return
	}
	l.engine.SyncEnded(s.of)
}

// sync has what was committed made durable, beside the loop: on a busy disk that can take seconds.
func (l *loop) sync(of engine.Syncing) {
	l.s.background.Go(func() {
		began := time.Now()
		err := of.Run(l.s.store, l.s.journal)
		l.s.counters.syncTimes.Observe(time.Since(began), 1)
		l.synced <- synced{of, err}
	})
}

// writeBeside has a part of a checkpoint written, which others' commits do not wait for.
func (l *loop) writeBeside(b *engine.Beside) {
	l.apart = true
	l.s.background.Go(func() {
		l.beside <- b.Run(l.s.store)
		signal(l.wake)
	})
}

// written tells the engine that it is, with the turn.
func (l *loop) written(err error) {
	l.apart = false
	if err != nil {
		l.broken = err
		return
	}
	l.engine.BesideEnded()
}

// verify reads all cells of a moment beside the loop.
func (l *loop) verify(pinned *engine.Pinned) {
	l.s.background.Go(func() {
		err := pinned.Verify(l.s.slowly(pinned))
		pinned.Close()
		if err == nil && l.s.stopping() {
			return // it may have ended early
		}
		_ = l.s.call(func(l *loop) { l.engine.Verified(err) })
	})
}

// fail ends the loop after an error of the store: nothing more is committed or acknowledged.
func (l *loop) fail(err error) {
	l.s.log.Error("the peer stops: its store failed", "error", err)
	if l.apart {
		<-l.beside // which may take back an older doubt
	}
	if err := engine.Doubt(l.s.store, err); err != nil {
		l.s.log.Error("could not note that the data here is to be checked", "error", err)
	}
	l.p.fail(err)
	l.abandon(errFailed(err))
}

// abandon ends the loop without what is left to be done.
func (l *loop) abandon(why error) {
	l.over = true
	l.s.refuse(why)
	for _, u := range l.engine.Abandon() {
		u := u.(*update)
		u.failAll(why)
		l.answer(u)
	}
	for _, done := range l.frames {
		done <- why
	}
}
