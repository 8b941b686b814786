package peer

import (
	"sync"
	"time"
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
	if s.call(func(l *loop) { l.engine.EndID() }) != nil {
		return
	}
	poll, limit := time.NewTicker(leaveEvery), time.NewTimer(leaveTime)
	defer poll.Stop()
	defer limit.Stop()
	for {
		left := false
		if s.call(func(l *loop) { left = l.engine.HasLeft() }) != nil || left {
			return
		}
		select {
		case <-poll.C:
		case <-limit.C:
			return
		}
	}
}
