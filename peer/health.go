package peer

import (
	"cmp"
	"errors"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// Ready returns nil if the peer has caught up with those it knows and takes writes, and otherwise why not.
// A peer that knows nobody is ready.
func (p *Peer) Ready() error {
	for _, s := range p.held() {
		why, err := ask(s, (*loop).readiness)
		if err != nil && s.ended.Load() != nil {
			continue // it was dropped meanwhile
		}
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
	case l.engine.CaughtUp():
		return nil
	case l.engine.SomeoneIsAhead():
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
		if _, greeted := l.engine.Known(id); greeted {
			return false
		}
	}
	others := n.members.List()
	for _, m := range others {
		if m.Alive && m.Holds(l.s.id.Short()) && time.Since(m.Since) < linkGrace {
			return true
		}
	}
	if len(others) == 0 && len(l.p.cfg.Join) == 0 {
		return false
	}
	return !n.members.Tried() && time.Since(l.opened) < joinGrace
}

// suspectRead has the cells checked after a read found a record that is not what was written.
func (s *space) suspectRead(err error) {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, antientropy.ErrDamaged) {
		_ = s.call(func(l *loop) { l.engine.Suspect(err) })
	}
}

// givingUp is what people can do where nobody can help.
const givingUp = "; to give up what only this host has, stop it, keep what peerd salvage prints, move its store " +
	"directory away and start it again"

// notice tells people what the engine found.
func (l *loop) notice(n engine.Notice) {
	log := l.s.log
	switch n.Kind {
	case engine.CannotCollect:
		log.Warn("cannot collect what deleted counters left; it is tried again", "error", n.Err)
	case engine.Mismatch:
		l.s.counters.mismatches.Add(1)
	case engine.Checking:
		log.Error("this peer and another have seen the same writes and hold different data: "+
			"checking the data here", "peer_id", string(n.From))
	case engine.Sound:
		log.Error("the data here is as it was written: if another peer's differs, that peer is damaged")
	case engine.CannotCheck:
		log.Error("could not check the data here", "error", n.Err)
	case engine.Damaged:
		log.Error("the data here is damaged: discarding it and rebuilding from the other peers; "+
			"reads and writes are refused until that is done", "error", n.Err)
	case engine.Rebuilt:
		l.s.feed.signal()
		l.s.counters.rebuilds.Add(1)
		log.Info("the data here is rebuilt")
	case engine.Helpless:
		log.Error("the data here is damaged, and no peer that is linked has all but what the log here has: "+
			"waiting for one"+givingUp, "error", n.Err)
	case engine.Incomplete:
		log.Warn("rebuilding the data here takes writes that no peer that is linked has: waiting for one that " +
			"does" + givingUp)
	case engine.Repaired:
		l.s.counters.repairs.Add(1)
	case engine.Forked:
		l.nameForks(n.Forks)
	}
}

// nameForks says which writes exist in two versions.
func (l *loop) nameForks(forks []gossip.Fork) {
	for _, f := range forks {
		l.s.log.Error("writes of a replica exist in two versions: a running machine was put back from an image of its "+
			"memory, or such an image runs beside it; nothing is exchanged with the peers that have the other version, "+
			"until one side is ended: for each of its hosts stop it, keep what peerd salvage prints, move its store "+
			"directory away and start it", "replica", f.Replica.String(), "parts_after", f.Parts, "peer_ids", f.There,
			"here_too", f.Here)
	}
}
