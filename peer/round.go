package peer

import "time"

// deadlines are when the loop's timers are due.
type deadlines struct {
	tick, digest, sync time.Time
	push               time.Time // own deltas that are held back are sent; zero if there are none
}

// next returns the first.
func (d *deadlines) next() time.Time {
	first := d.tick
	for _, t := range []time.Time{d.digest, d.sync, d.push} {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// run is the loop. Its steps have a goroutine of their own, and get another one if a function of a user's
// transaction ends that.
func (l *loop) run() {
	defer close(l.s.stopped)
	defer l.alarm.Stop()
	defer l.sweeping.rest.Stop()
	l.noticeRoom(false)
	for !apart(l.steps) {
		if l.running == nil {
			l.fail(errExitedElsewhere)
			return
		}
	}
}

// steps does one round after the other until the peer is closed or fails.
func (l *loop) steps() {
	err := l.resume()
	for err == nil && !l.s.stopping() {
		if err = l.round(); err == nil {
			err = l.wait()
		}
	}
	if err != nil {
		l.fail(err)
		return
	}
	l.finish()
}

// parts are the parts of a round, in order.
func (l *loop) parts() [3]func() error { return [...]func() error{l.keepTime, l.step, l.after} }

// round does some of everything that is to be done: in each of its parts no more than the core lets a step do.
func (l *loop) round() error {
	for _, part := range l.parts() {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until there is something to do.
func (l *loop) wait() (err error) {
	if l.hand != nil || len(l.arrived) > 0 || l.cutting || l.unserved || l.maySweep() || l.mayCollect() {
		return nil
	}
	l.alarm.Reset(l.due.next().Sub(l.clock()))
	select {
	case j := <-l.s.jobs:
		err = l.accept(j)
	case l.hand = <-l.s.updates:
	case s := <-l.synced:
		err = l.endSync(s)
	case <-l.wake:
	case <-l.alarm.C:
	case <-l.sweeping.rest.C:
	case <-l.s.stop:
	}
	return err
}

// keepTime does what is due by the clock. Nothing that waits in a queue can keep it from its turn, as it could if one
// select chose among all.
func (l *loop) keepTime() error {
	now, d := l.clock(), &l.due
	reached := func(t *time.Time, every time.Duration) bool {
		if t.IsZero() || now.Before(*t) {
			return false
		}
		*t = now.Add(every)
		return true
	}
	select {
	case s := <-l.synced:
		if err := l.endSync(s); err != nil {
			return err
		}
	default:
	}
	if reached(&d.sync, syncEvery) {
		l.sync()
	}
	if reached(&d.push, 0) {
		d.push = time.Time{}
		l.node.Release()
	}
	if reached(&d.digest, digestEvery) {
		l.watchDisk()
		if err := l.sendDigest(); err != nil {
			return err
		}
	}
	if reached(&d.tick, tickEvery) {
		l.tick()
	}
	return l.cut()
}

// tick is what is due several times a second.
func (l *loop) tick() {
	room := l.p.disk.room()
	l.node.Tick(l.repairing || l.node.Repairing() || l.node.Damaged() != nil || room != roomy)
	l.cutting = room != full
}

// cut takes a step of a checkpoint or of cutting the log, if that is to be done.
func (l *loop) cut() (err error) {
	if l.cutting {
		l.node.BeginStep()
		l.cutting, err = l.node.Maintain(l.p.now())
	}
	if err == nil && l.node.NeedsSync() {
		l.sync()
	}
	return err
}
