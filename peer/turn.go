package peer

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/engine"
)

// Who steps. A space's engine, and all else that is its loop's, belongs to whoever holds the
// space's turn, for a step. A caller that brings an update and finds the turn free, and nobody
// else's update waiting, takes the step itself: there is no other goroutine that would have to be
// woken, nor would wake it. Else the update waits in a queue, and the loop's goroutine takes all
// that wait into one group. It has the turn for what callers do not bring, too, and for what they
// leave.
//
// A caller runs no functions but its own: they may end the goroutine. Apart from that its step is a
// whole one, which looks at the clock and at links, takes frames that wait, and begins the syncs
// that are due. And callers take the turn only if it is free, while the loop waits for it: so the
// loop has it after a millisecond and a step at most (see sync.Mutex).
//
// Nobody is forgotten: who queued something looks afterwards whether the turn is free, and who gave
// the turn back looks at the queue afterwards.

// ownSteps is how many steps a caller takes for an update of its own: the first may be full of
// frames.
const ownSteps = 2

// crowd tells whether callers are to queue though the turn is free. Of many who write, each finds
// it free whenever it runs, if processors are few, and pays alone for a group: a record of the log,
// its hashes, a snapshot. So now and then one queues, and the loop lets the others run before it
// looks who has come. While several have, all queue.
type crowd struct {
	callers atomic.Uint32
	is      atomic.Bool
}

const (
	crowdEvery = 64 // callers, of which one queues
	crowdLeast = 4  // are a crowd
)

// queues reports whether a caller is to queue.
func (c *crowd) queues() bool {
	if c.callers.Add(1)%crowdEvery == 0 {
		c.is.Store(true)
	}
	return c.is.Load()
}

// came takes note of how many had queued when the loop looked.
func (c *crowd) came(callers int) {
	if callers > 0 && callers < crowdLeast {
		c.is.Store(false)
	}
}

// take takes the turn for a caller, if it is free and nothing waits that is for the loop to do.
func (l *loop) take() bool {
	if len(l.s.updates) > 0 || !l.turn.TryLock() {
		return false
	}
	if l.isTheLoops() {
		l.leave(false)
		return false
	}
	return true
}

// isTheLoops reports whether the next step is for the loop's goroutine alone: also the first that may write to a
// space, which waits for the directory to list that.
func (l *loop) isTheLoops() bool {
	ending := l.over || l.stopping || l.broken != nil
	return ending || !l.s.listed.Load() || l.half != nil || l.engine.Interrupted() || l.engine.Updates() > 0
}

// leave gives the turn back, and wakes the loop if there is more to do.
func (l *loop) leave(more bool) {
	l.giveBack()
	if more || len(l.s.updates) > 0 {
		signal(l.wake)
	}
}

// giveBack gives the turn back, and then calls those who wanted to be called with their answers.
func (l *loop) giveBack() {
	u := l.answered
	l.answered, l.newest = nil, nil
	l.turn.Unlock()
	if u != nil {
		tellAll(u)
	}
}

// tellAll calls those who submitted an update and the next ones, whatever one of them does to the
// goroutine.
func tellAll(u *update) {
	defer func() {
		if u != nil {
			tellAll(u)
		}
	}()
	for u != nil {
		first := u
		u = u.next
		first.tell()
	}
}

// bring has an update run on its caller's goroutine, if the turn is free, and else does nothing. If
// it was brought and is not answered, the loop goes on with it.
func (l *loop) bring(u *update) (brought, answered bool) {
	if !l.take() {
		return false, false
	}
	return true, l.stepFor(u)
}

// queued has the loop look at the queue, unless somebody who has the turn will.
func (l *loop) queued() {
	if l.turn.TryLock() {
		l.leave(false)
	}
}

// stepFor takes steps until an update is answered, and gives the turn back. The goroutine is a
// user's: one of the update's functions may end it, and something that calls it may recover from a
// panic.
func (l *loop) stepFor(u *update) (answered bool) {
	whole, more := false, false
	defer func() {
		if !whole {
			l.interrupted(recover())
		}
		l.own = nil
		l.leave(more || !whole)
	}()
	l.own = u
	l.engine.Submit(u)
	for steps := ownSteps; steps > 0 && l.own != nil && l.half == nil && l.broken == nil; steps-- {
		l.lookAtLinks()
		more = l.quickRound()
	}
	answered = l.own == nil
	whole = true
	return answered
}

// quickRound is a caller's round. What is to be written beside records, and what the log does not take
// at once, is left to the loop. It reports whether the loop is to go on.
func (l *loop) quickRound() (more bool) {
	rd, err := l.step()
	if err == nil {
		rd.Writes, err = engine.AppendAtOnce(rd.Writes, l.s.journal)
	}
	if err == nil && len(rd.Writes) == 0 {
		err = l.finish()
	}
	if err != nil {
		l.broken = err
		return true
	}
	if l.half == nil && !rd.Again && rd.At.Before(l.due) {
		l.setAlarm(rd.At)
	}
	return l.half != nil || rd.Again
}

// interrupted is called when a step did not return on a caller's goroutine: because of a panic, or
// because something that it called ends the goroutine. If that was a transaction's function the
// loop goes on.
func (l *loop) interrupted(thrown any) {
	if thrown != nil {
		crashed(thrown)
	}
	if !l.engine.Interrupted() {
		l.broken = errExitedElsewhere
	}
}

// crashed ends the process after a panic of the engine or the store, as in the loop: nothing may go
// on, also if the caller's goroutine recovers from panics.
func crashed(thrown any) {
	stack := debug.Stack()
	go func() { panic(fmt.Sprintf("%v\n\n%s", thrown, stack)) }()
	select {}
}

// answer gives an update its answer. The turn is held.
func (l *loop) answer(u *update) {
	switch {
	case u == l.own:
		l.own = nil // it is on this goroutine
	case u.called == nil:
		u.done <- struct{}{}
	case l.answered == nil:
		l.answered, l.newest = u, u
	default:
		l.newest.next = u
		l.newest = u
	}
}

// Read is Space.Read.
func (s *space) Read(fns []func(*Tx) error) []error {
	u := s.p.newUpdate(s, fns)
	u.called = unheard
	next := 0
	for s.loop.read(u, &next) && next < len(fns) {
	}
	if next < len(fns) {
		s.readAside(u, next)
	}
	for _, err := range u.errs {
		if engine.IsDamage(err) {
			s.suspectLater(err)
			break
		}
	}
	return u.free()
}

// unheard is called of reads, whose functions keep no transaction.
func unheard([]error) {}

// read runs the next functions of a read, in the turn, and reports whether it did: if somebody else has that, or a step is
// half done, it does nothing.
func (l *loop) read(u *update, next *int) bool {
	if !l.turn.TryLock() {
		return false
	}
	defer func() {
		if thrown := recover(); thrown != nil { // not of a function: see update.call
			crashed(thrown)
		}
		l.leave(false)
	}()
	if l.over || l.stopping || l.broken != nil || l.half != nil {
		return false
	}
	from := *next
	wall, clock := l.p.takenFor(time.Now())
	l.engine.SetClock(clock)
	*next = l.engine.Read(u, from, wall)
	return *next > from
}

// remember has the engine keep what a view gathered, unless somebody else has the turn.
func (l *loop) remember(v *view) {
	if v.Gathered() && l.turn.TryLock() {
		if !l.over && l.broken == nil {
			l.engine.Remember(v.View)
		}
		l.leave(false)
	}
}

// readAside runs functions of a read on a view, from one on.
func (s *space) readAside(u *update, from int) {
	v, _, err := s.view(nil)
	if err != nil {
		for i := from; i < len(u.fns); i++ {
			u.Ran(i, err)
		}
		return
	}
	defer v.Close()
	u.readOn(v, from)
}

// Submit is Space.Submit.
func (s *space) Submit(fns []func(*Tx) error, done func(errs []error)) {
	u := s.p.newUpdate(s, fns)
	u.called = done
	if s.stopping() {
		u.failAll(s.gone())
		u.tell()
		return
	}
	if brought, answered := s.loop.bring(u); brought {
		if answered {
			u.tell()
		}
		return
	}
	select {
	case s.updates <- u:
		s.wasQueued()
	default:
		s.queueLater(u)
	}
}

// wasQueued looks after an update that was queued and whose caller does not wait for it.
func (s *space) wasQueued() {
	s.loop.queued()
	if isClosed(s.stopped) {
		s.forsake()
	}
}

// queueLater has an update wait until there is room in the queue.
func (s *space) queueLater(u *update) {
	wait := func() {
		select {
		case s.updates <- u:
			s.wasQueued()
		case <-s.stopped:
			u.failAll(s.gone())
			u.tell()
		}
	}
	if !s.p.beside(wait) {
		u.failAll(s.gone())
		u.tell()
	}
}

// forsake answers what is queued once the loop has ended.
func (s *space) forsake() {
	for {
		select {
		case u := <-s.updates:
			u.failAll(s.gone())
			if u.called != nil {
				u.tell()
			} else {
				u.done <- struct{}{}
			}
		default:
			return
		}
	}
}
