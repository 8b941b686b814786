package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
)

// Being ready is to have what can be known to be lacking. A space that began with data has to have
// what the members had that it met first, when they greeted it: that is bounded by
// Config.ReadyWait, as old data is better than none. One that began empty has nothing to give in
// the meantime: it waits until it had all of what its neighbours have, and in a peer that has no
// data at all for a link to each member that is alive.

// DefaultReadyWait is Config.ReadyWait unless that says something else.
const DefaultReadyWait = 10 * time.Second

// meetGrace is how long a member that has become alive may take to greet a space that has met
// others already.
const meetGrace = 2 * time.Second

var (
	errCatchingUp = errors.New("catching up with the other peers")
	errLooking    = errors.New("looking for the other peers")
)

// Ready returns nil if the peer has caught up with those it knows, holds all spaces that it is
// to, and takes writes, and otherwise why not. A peer that knows nobody is ready. For more of a
// space that had data when it was opened it waits until Config.ReadyWait at the latest, and a
// Problem then says what it did not wait for.
func (p *Peer) Ready() error {
	if err := p.removed(); err != nil {
		return err
	}
	why, err := p.unopened()
	if err := errors.Join(err, why); err != nil {
		return err
	}
	for _, s := range p.held() {
		why, err := askSoon(s, (*loop).readiness)
		if err != nil && s.ended.Load() != nil {
			continue // it was dropped meanwhile
		}
		if err := errors.Join(err, why); err != nil {
			return err
		}
	}
	return nil
}

// unopened returns why this host may lack spaces that it is to hold: the directory is not ready,
// or not all is open that is listed there. Who looks at the open spaces after that misses none.
func (p *Peer) unopened() (why, err error) {
	s := p.space(directorySpace)
	if why, err = askSoon(s, (*loop).readiness); why != nil || err != nil {
		return why, err
	}
	at := s.feed.momentID()
	if known := p.opened.Load(); known != nil && *known == at {
		return nil, nil
	}
	names, why := p.directory(context.Background())
	if why != nil {
		return why, nil
	}
	if i := slices.IndexFunc(names, p.isToOpen); i >= 0 {
		return fmt.Errorf("space %s: %w", names[i], errCatchingUp), nil
	}
	p.opened.Store(&at)
	return nil, nil
}

// isToOpen reports whether a space that is listed will be opened here.
func (p *Peer) isToOpen(name string) bool {
	return p.cfg.subscribes(name) && p.space(name) == nil && !slices.Contains(*p.refused.Load(), name) &&
		!p.table.Dropped(name)
}

// catching is how far a space that began with data is with what others had.
type catching struct {
	over bool                                      // it has that, or began without data
	met  map[gossip.NeighbourID]crdt.VersionVector // what neighbours had when they greeted it
}

func newCatching(hadData bool) catching {
	return catching{over: !hadData, met: map[gossip.NeighbourID]crdt.VersionVector{}}
}

// meet takes down what neighbours have that greet.
func (l *loop) meet() {
	if l.catching.over {
		return
	}
	for id := range l.links {
		_, met := l.catching.met[id]
		if said := l.engine.Said(id); said != nil && !met {
			l.catching.met[id] = said.Clone()
		}
	}
}

// readiness returns why the space is not ready; nil if it is.
func (l *loop) readiness() error {
	if err := cmp.Or(l.s.refusal(), l.p.disk.refusal()); err != nil {
		return err
	}
	why := l.awaits()
	if why == nil {
		l.wasReady.Store(true)
	}
	return why
}

// awaits returns what the space waits for before it is ready; nil if that is nothing.
func (l *loop) awaits() error {
	switch {
	case l.engine.CaughtUp():
		if why := l.behind(); why != nil && time.Since(l.opened) < l.p.cfg.ReadyWait {
			return why
		}
		return nil
	case l.engine.SomeoneIsAhead():
		return errCatchingUp
	case l.wasReady.Load() && !l.p.isNewcomer(): // it does not lose that by hosts that come later
	case l.lacksLinks(), l.expectsSomeone():
		return errLooking
	}
	return nil
}

// behind returns why a space that began with data has not caught up; nil, from then on, once it
// has what those had that it met first.
func (l *loop) behind() error {
	c := &l.catching
	if c.over {
		return nil
	}
	for id, had := range c.met {
		if l.engine.Quarantined(id) || l.p.net.gater.isRemoved(string(id)) {
			continue
		}
		now := l.engine.Said(id) // less than it had, if that was lost; nil without a link
		if l.engine.Lacks(had) && (now == nil || l.engine.Lacks(now)) {
			return errCatchingUp
		}
	}
	if l.mayMeet() {
		return errLooking
	}
	*c = catching{over: true}
	return nil
}

// late returns what the space that is ready did not wait for, as Config.ReadyWait was over; nil if
// it waited for all.
func (l *loop) late() error {
	if time.Since(l.opened) < l.p.cfg.ReadyWait || !l.engine.CaughtUp() {
		return nil
	}
	return l.behind()
}

// mayMeet reports whether a member that has not greeted a space that began with data may soon.
func (l *loop) mayMeet() bool {
	n := l.p.net
	if n == nil {
		return false
	}
	if len(l.catching.met) > 0 {
		_, unmet := l.wanted()
		return slices.ContainsFunc(unmet, func(m members.Member) bool { return time.Since(m.Since) < meetGrace })
	}
	all := n.members.List()
	holds := func(m members.Member) bool { return l.mayHold(m) }
	return slices.ContainsFunc(n.speaking(n.permitted(all), time.Now()), holds) || len(all) == 0 && len(n.members.Joining()) > 0
}

// mayHold reports whether a member may hold the space: one that holds all spaces may not know of
// it, and has said so.
func (l *loop) mayHold(m members.Member) bool {
	return m.Holds(l.s.id.Short()) && !l.p.net.board.lacks(gossip.NeighbourID(m.ID), l.s.id)
}

// wanted returns how many members are alive that there should be a link to for this space, and
// those of them that have not greeted it.
func (l *loop) wanted() (all int, unmet []members.Member) {
	n := l.p.net
	if n == nil {
		return 0, nil
	}
	for _, m := range n.chosen(n.members.List()) {
		if !l.mayHold(m) {
			continue
		}
		all++
		if _, greeted := l.engine.Known(gossip.NeighbourID(m.ID)); !greeted {
			unmet = append(unmet, m)
		}
	}
	return all, unmet
}

// isNewcomer reports whether no space had data when it was opened, nor has got some since it was
// ready. That of the cluster's own facts does not count.
func (p *Peer) isNewcomer() bool {
	return !slices.ContainsFunc(p.held(), func(s *space) bool {
		return s.name != directorySpace && (s.loop.hadData || s.loop.wasReady.Load() && s.written())
	})
}

// lacksLinks reports whether an empty peer has no link to a member that is alive. In a cluster in
// which not all have links to all, one that has greeted is enough.
func (l *loop) lacksLinks() bool {
	all, unmet := l.wanted()
	return l.p.isNewcomer() && len(unmet) > 0 && (all < MaxLinks || len(unmet) == all)
}

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
	for _, m := range others { // which may have been there long before the space was
		known := min(time.Since(m.Since), time.Since(l.opened))
		if m.Alive && l.mayHold(m) && known < l.p.cfg.ReadyWait {
			return true
		}
	}
	if len(others) == 0 && len(n.members.Joining()) == 0 {
		return false
	}
	return !n.members.Tried() && time.Since(l.opened) < l.p.cfg.ReadyWait
}
