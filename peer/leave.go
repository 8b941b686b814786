package peer

import (
	"sync"
	"time"

	"github.com/peerd/peerd/crdt"
)

// leaveTime is how long a peer that is closed waits until its neighbours have heard of the end of its id. One that has
// not hears of it when this store is opened again, and keeps what deleted counters left until then.
const leaveTime = 500 * time.Millisecond

// leaveEvery is how often it looks.
const leaveEvery = 5 * time.Millisecond

// takeLeave has all spaces take leave.
func (p *Peer) takeLeave() {
	var all sync.WaitGroup
	for _, s := range p.held() {
		all.Go(s.takeLeave)
	}
	all.Wait()
}

// takeLeave ends the replica's id while there are still links. A write that is accepted later takes another id, which
// ends as well when the loop does.
func (s *space) takeLeave() {
	var last crdt.Dot
	if s.call(func(l *loop) { last = l.leave() }) != nil || last.Counter == 0 {
		return
	}
	poll, limit := time.NewTicker(leaveEvery), time.NewTimer(leaveTime)
	defer poll.Stop()
	defer limit.Stop()
	for {
		heard := false
		if s.call(func(l *loop) { heard = l.heard(last) }) != nil || heard {
			return
		}
		select {
		case <-poll.C:
		case <-limit.C:
			return
		}
	}
}

// leave ends the id and returns its last dot; zero if it has none.
func (l *loop) leave() (last crdt.Dot) {
	id := l.node.ID()
	if l.broken = l.end(); l.broken != nil {
		return last
	}
	l.node.Release()
	seen, _ := l.node.Context()
	return crdt.Dot{Replica: id, Counter: seen[id]}
}

// heard reports whether all neighbours have said that they have a dot, but those that are told nothing.
func (l *loop) heard(d crdt.Dot) bool {
	for id := range l.links {
		if !l.node.Quarantined(id) && !l.node.Said(id).Has(d) {
			return false
		}
	}
	return true
}
