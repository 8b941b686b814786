package peer

import (
	"context"
	"errors"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// A token can name writes that every host lost: one that answers before it syncs was cut off from its power, and had
// not sent them yet. Nobody can know of a host that is not linked, so such writes are given up only once all linked
// peers have answered that they lack them, and whoever wrote them has ended.

// ErrLost is wrapped by Wait if a token names writes that no linked peer has, and that nobody will send any more.
var ErrLost = errors.New("every linked peer lacks writes that the token names, and who wrote them has ended: " +
	"they are lost, go on without the token")

// lostEvery is how often a wait looks whether it is in vain, and lostAfter how often in a row it must be: neighbours tell
// what they have within two seconds.
const (
	lostEvery = time.Second
	lostAfter = 3
)

// isLost asks the commit loop whether nobody will send a dot any more.
func (s *space) isLost(ctx context.Context, d crdt.Dot) bool {
	answer := make(chan bool, 1) // so that the loop never waits for who went away
	select {
	case s.jobs <- job{call: func(l *loop) { answer <- l.isLost(d) }}:
	case <-ctx.Done():
		return false
	case <-s.stopped:
		return false
	}
	select {
	case lost := <-answer:
		return lost
	case <-ctx.Done():
	case <-s.stopped:
	}
	return false
}

func (l *loop) isLost(d crdt.Dot) bool {
	seen, _ := l.engine.Context()
	if seen.Has(d) || !l.engine.Replica.Whole() || l.engine.Pulling() || d.Replica == l.engine.ID() || l.engine.Writes(d.Replica) {
		return false
	}
	for id := range l.links {
		if said := l.engine.Said(id); said == nil || said.Has(d) || l.engine.Quarantined(id) {
			return false
		}
	}
	if l.engine.Ended(d.Replica) {
		return true
	}
	// An id lives for one start. So it has ended if it is an earlier one of this host, or of one of the members:
	// each link says as what its host writes now.
	lacking, all := l.asksAll()
	return all && (len(l.links)+lacking > 0 || l.engine.Wrote(d.Replica))
}

// asksAll reports whether each known member that may hold the space is linked: over the space, or it has said that it
// does not hold it, as lacking members have.
func (l *loop) asksAll() (lacking int, all bool) {
	if l.p.net == nil {
		return 0, true
	}
	for _, m := range l.p.net.members.List() {
		id := gossip.NeighbourID(m.ID)
		switch {
		case !m.Holds(l.s.id.Short()) || l.links[id] != nil:
		case l.p.net.board.lacks(id, l.s.id):
			lacking++
		default:
			return lacking, false
		}
	}
	return lacking, true
}
