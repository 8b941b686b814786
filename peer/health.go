package peer

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
)

// Ready returns nil if the peer has caught up with those it knows and takes writes, and otherwise why not.
// A peer that knows nobody is ready.
func (p *Peer) Ready() error {
	why, err := ask(p, (*loop).readiness)
	return errors.Join(err, why)
}

var (
	errCatchingUp = errors.New("catching up with the other peers")
	errLooking    = errors.New("looking for the other peers")
)

func (l *loop) readiness() error {
	if err := cmp.Or(l.refusal(), l.p.space.refusal()); err != nil {
		return err
	}
	switch {
	case l.caughtUp:
		return nil
	case l.someoneIsAhead():
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

// someoneIsAhead reports whether a neighbour has what this replica lacks.
func (l *loop) someoneIsAhead() bool {
	return slices.ContainsFunc(l.node.Neighbours(), func(id gossip.NeighbourID) bool {
		known, greeted := l.node.Known(id)
		return greeted && l.node.Lacks(known)
	})
}

// noticeCatchingUp notes that an empty or rebuilding replica has all that its neighbours have.
func (l *loop) noticeCatchingUp() error {
	if l.caughtUp && !l.node.Rebuilding() || l.repairing || l.node.Repairing() {
		return nil
	}
	if !l.node.CaughtUp() {
		return nil
	}
	l.caughtUp = true
	return l.endRebuild()
}

// suspectDamage checks this replica's own cells, after a neighbour with the same context was found to
// have others.
func (l *loop) suspectDamage(from gossip.NeighbourID) {
	l.p.counters.mismatches.Add(1)
	if l.verifying || l.node.Rebuilding() || l.node.Damaged() != nil {
		return
	}
	l.p.log.Error("this peer and another have seen the same writes and hold different data: "+
		"checking the data here", "peer_id", string(from))
	l.verify(verifyEvery)
}

// suspectRead checks the cells after a read found a record that is not what was written.
func (p *Peer) suspectRead(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		_ = p.call(func(l *loop) { l.verify(proofEvery) })
	}
}

// verify reads all cells beside the loop, and rebuilds the replica if they are not what the tree says, but not if
// they were found right less than a time ago.
func (l *loop) verify(every time.Duration) {
	if l.verifying || l.node.Rebuilding() || time.Since(l.verified) < every {
		return
	}
	pinned, err := l.node.Pin()
	if err != nil {
		return // a repair or a sweep is under way: what was noticed will be noticed again
	}
	l.verifying = true
	l.p.background.Add(1)
	go func() {
		defer l.p.background.Done()
		err := pinned.Verify(l.p.stopping)
		pinned.Close()
		_ = l.p.call(func(l *loop) {
			l.verifying = false
			l.judge(err)
		})
	}()
}

// How often all cells are read while they are found right: because of a suspicion, and because a record here
// was found broken.
const (
	verifyEvery = 10 * time.Minute
	proofEvery  = 15 * time.Second
)

// judge acts on the outcome of a check.
func (l *loop) judge(err error) {
	switch {
	case l.node.Rebuilding():
	case err == nil:
		l.verified = time.Now()
		l.p.log.Error("the data here is as it was written: if another peer's differs, that peer is damaged")
	case !errors.Is(err, store.ErrCorrupt):
		l.p.log.Error("could not check the data here", "error", err)
	default:
		l.p.log.Error("the data here is damaged: discarding it and rebuilding from the other peers; "+
			"reads and writes are refused until that is done", "error", err)
		l.node.SetDamaged(err)
		l.p.refuse(ErrRebuilding)
	}
}

// noticeDamage begins to rebuild a damaged replica, once there is somebody to rebuild it from.
func (l *loop) noticeDamage() {
	switch {
	case l.node.Damaged() == nil:
	case l.node.MayDiscard() && l.p.space.left() == roomy:
		l.beginRebuild()
	case len(l.links) > 0 && time.Since(l.helpless) > warnEvery:
		l.helpless = time.Now()
		l.p.log.Error("the data here is damaged, and no peer that is linked has all but what the log "+
			"here has: waiting for one; to give up what only this host has, stop it, move its store "+
			"directory away and start it again", "error", l.node.Damaged())
	}
}

// noticeForks logs replicas whose dots were issued twice, and heals a fork of this store's own.
func (l *loop) noticeForks() {
	forks := l.node.Forks()
	alarmed := l.alarmed
	l.alarmed = len(forks)
	if len(forks) > alarmed {
		l.p.log.Error("writes of a replica exist in two versions: some host's data directory was put "+
			"back from an image of its disk while it ran on elsewhere", "replicas", forks)
	}
	l.noticeStrangers()
	if left, _ := l.node.Leaves(); len(left) > 0 && l.p.space.left() == roomy && l.node.MayDiscard() {
		l.p.log.Error("this host has the version that is given up: fetching the other from the peers, "+
			"and writing again what was written here since", "replica", left[0].Replica.String(),
			"after", left[0].Common)
		l.beginRebuild()
	}
}

// noticeStrangers says, now and then, with whom no writes are exchanged because of a fork.
func (l *loop) noticeStrangers() {
	var strangers []string
	for _, id := range l.node.Neighbours() {
		if l.node.Strange(id) {
			strangers = append(strangers, string(id))
		}
	}
	if len(strangers) == 0 || time.Since(l.estranged) < warnEvery {
		return
	}
	l.estranged = time.Now()
	l.p.log.Error("no writes are exchanged with peers that have another version of a replica's writes, until "+
		"the host that was put back from an image has given its version up; if that host is gone for good, stop "+
		"the hosts of one side, move their store directories away and start them", "peer_ids", strangers)
}

// beginRebuild discards what is here. The peers' data and this replica's own log make it whole again.
func (l *loop) beginRebuild() {
	l.p.refuse(ErrRebuilding)
	if l.broken = l.p.mark.remove(); l.broken != nil {
		return
	}
	l.caughtUp, l.reapplied = false, nil
	l.broken = l.node.Discard()
	l.p.publish(l.node.Published())
}

// endRebuild applies what only this replica's own former log had. If that depends on what no neighbour has,
// it is tried again whenever more has come.
func (l *loop) endRebuild() error {
	seen, _ := l.node.Context()
	if !l.node.Rebuilding() || l.p.space.left() != roomy || l.reapplied != nil && l.reapplied.Equal(seen) {
		return nil
	}
	l.reapplied = seen.Clone()
	done, err := l.node.Reapply(l.p.now())
	l.p.publish(l.node.Published())
	switch {
	case err != nil:
		return err
	case !done:
		l.p.log.Warn("some writes that only this peer has depend on others that no peer here has: " +
			"waiting for one that does")
		return nil
	}
	l.jump()
	l.p.refusing.Store(nil)
	l.p.feed.signal()
	l.p.counters.rebuilds.Add(1)
	l.p.log.Info("the data here is rebuilt")
	return nil
}
