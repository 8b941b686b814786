package peer

import (
	"cmp"
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
)

// Ready returns nil if the peer has caught up with those it knows and takes writes, and otherwise why not.
// A peer that knows nobody is ready.
func (p *Peer) Ready() error {
	for _, s := range p.held() {
		why, err := ask(s, (*loop).readiness)
		if err := errors.Join(err, why); err != nil {
			return err
		}
	}
	return nil
}

var (
	errCatchingUp = errors.New("catching up with the other peers")
	errLooking    = errors.New("looking for the other peers")
)

func (l *loop) readiness() error {
	if err := cmp.Or(l.refusal(), l.p.disk.refusal()); err != nil {
		return err
	}
	switch {
	case l.node.CaughtUp():
		return nil
	case l.node.SomeoneIsAhead():
		return errCatchingUp
	case l.expectsSomeone():
		return errLooking
	}
	return nil
}

// How long an empty peer that was told of others, and is reached by none, waits before it takes itself for
// the first.
const (
	joinGrace = 2 * time.Second  // from its start, unless all joins have ended before
	linkGrace = 10 * time.Second // from when a member that is alive became so
)

// expectsSomeone reports whether a neighbour may still turn up that has data.
func (l *loop) expectsSomeone() bool {
	n := l.p.net
	if n == nil {
		return false
	}
	for id := range l.links {
		if _, greeted := l.node.Known(id); greeted {
			return false
		}
	}
	others := n.members.List()
	for _, m := range others {
		if m.Alive && time.Since(m.Since) < linkGrace {
			return true
		}
	}
	if len(others) == 0 && len(l.p.cfg.Join) == 0 {
		return false
	}
	return !n.members.Tried() && time.Since(l.opened) < joinGrace
}

// suspectDamage checks this replica's own cells, after a neighbour with the same context was found to
// have others.
func (l *loop) suspectDamage(from gossip.NeighbourID) {
	l.s.counters.mismatches.Add(1)
	if l.verify(replica.VerifyEvery) {
		l.s.log.Error("this peer and another have seen the same writes and hold different data: "+
			"checking the data here", "peer_id", string(from))
	}
}

// suspectRead checks the cells after a read found a record that is not what was written.
func (s *space) suspectRead(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		_ = s.call(func(l *loop) { l.verify(replica.ProofEvery) })
	}
}

// verify reads all cells beside the loop, and rebuilds the replica if they are not what the tree says, but not if
// they were found right less than a time ago. It reports whether it began to.
func (l *loop) verify(every time.Duration) bool {
	if !l.settled() {
		return false
	}
	pinned := l.node.Suspect(time.Now(), every)
	if pinned == nil {
		return false
	}
	l.s.background.Add(1)
	go func() {
		defer l.s.background.Done()
		err := pinned.Verify(l.s.stopping)
		pinned.Close()
		_ = l.s.call(func(l *loop) { l.judge(err) })
	}()
	return true
}

// judge acts on the outcome of a check.
func (l *loop) judge(err error) {
	damaged := l.node.Judge(time.Now(), err)
	switch {
	case damaged:
		l.s.refuse(ErrRebuilding)
		l.s.log.Error("the data here is damaged: discarding it and rebuilding from the other peers; "+
			"reads and writes are refused until that is done", "error", err)
	case l.node.Rebuilding():
	case err == nil:
		l.s.log.Error("the data here is as it was written: if another peer's differs, that peer is damaged")
	default:
		l.s.log.Error("could not check the data here", "error", err)
	}
}

// lookAfterData does what a step may have made possible: begin or end a rebuild.
func (l *loop) lookAfterData() error {
	l.nameForks()
	if l.p.disk.room() == roomy && l.node.DiscardDue() {
		if err := l.beginRebuild(); err != nil {
			return err
		}
	}
	if err := l.catchUp(); err != nil {
		return err
	}
	l.noticeHelplessness()
	return nil
}

// helpGrace is how long neighbours have to say how they are, before it is said that none can help.
const helpGrace = 5 * time.Second

// noticeHelplessness says, now and then, that nobody can help a replica that is damaged or rebuilding.
func (l *loop) noticeHelplessness() {
	damage := l.node.Damaged()
	if damage == nil && !l.node.Waits() || len(l.links) == 0 {
		l.helped = time.Now()
	}
	if time.Since(l.helped) < helpGrace || time.Since(l.helpless) < warnEvery {
		return
	}
	l.helpless = time.Now()
	const givingUp = "; to give up what only this host has, stop it, keep what peerd salvage prints, move its store " +
		"directory away and start it again"
	if damage == nil {
		l.s.log.Warn("rebuilding the data here takes writes that no peer that is linked has: waiting for one that " +
			"does" + givingUp)
		return
	}
	l.s.log.Error("the data here is damaged, and no peer that is linked has all but what the log here has: "+
		"waiting for one"+givingUp, "error", damage)
}

// noticeFork acts on a fork that was found with a peer: nothing is exchanged with it from now on. What of this replica's
// own writes the other side has is stored at once, for Salvage.
func (l *loop) noticeFork(with gossip.NeighbourID) {
	l.alarmed = time.Time{}
	if l.p.disk.room() == full {
		return
	}
	if err := l.node.Save(l.p.now()); err != nil {
		l.broken = err
	}
}

// nameForks says, at once and now and then, which writes exist in two versions.
func (l *loop) nameForks() {
	if time.Since(l.alarmed) < warnEvery {
		return
	}
	for _, f := range l.node.Forks() {
		l.alarmed = time.Now()
		l.s.log.Error("writes of a replica exist in two versions: a running machine was put back from an image of its "+
			"memory, or such an image runs beside it; nothing is exchanged with the peers that have the other version, "+
			"until one side is ended: for each of its hosts stop it, keep what peerd salvage prints, move its store "+
			"directory away and start it", "replica", f.Replica.String(), "parts_after", f.Parts, "peer_ids", f.There,
			"here_too", f.Here)
	}
}

// beginRebuild discards what is here. The peers' data and this replica's own log make it whole again.
func (l *loop) beginRebuild() error {
	l.s.refuse(ErrRebuilding)
	return l.node.Discard()
}

// catchUp notes whether all is here that the neighbours have, and ends a rebuild then: what only this
// replica's own former log had is applied. If that depends on what no neighbour has, it is tried again
// whenever more has come.
func (l *loop) catchUp() error {
	if l.repairing {
		return nil
	}
	rebuilt, err := l.node.CatchUp(l.p.now(), l.p.disk.room() == roomy)
	if err != nil || !rebuilt {
		return err
	}
	l.jump()
	l.s.refusing.Store(nil)
	l.s.feed.signal()
	l.s.counters.rebuilds.Add(1)
	l.s.log.Info("the data here is rebuilt")
	return nil
}
