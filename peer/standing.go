package peer

import (
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/beat"
)

// What is looked at every few seconds, for ever, wakes no space that has nothing to do: who looks
// takes the turn of one that is free, and reads no more than it is about.

// look returns what fn reads of a space, unless somebody has its turn, or it is no moment to look.
func look[T any](s *space, fn func(l *loop) T) (told T, looked bool) {
	l := s.loop
	if !l.turn.TryLock() {
		return told, false
	}
	defer l.leave(false)
	if l.over || l.stopping || l.broken != nil || l.half != nil || l.engine.Interrupted() {
		return told, false
	}
	return fn(l), true
}

// Mutations returns how many are here, of all spaces.
func (p *Peer) Mutations() (n uint64, err error) {
	for _, s := range p.held() {
		here, err := askSoon(s, func(l *loop) uint64 {
			seen, _ := l.engine.Context()
			return crdt.VersionVector{}.Missing(seen)
		})
		if err != nil && s.ended.Load() == nil { // else it was dropped meanwhile
			return 0, err
		}
		n += here
	}
	return n, nil
}

// reportEvery is how often this host looks at how it is, to tell the others, who hear it with the
// next of their probes. sizeEvery is how often it looks at all files of the store for that.
const (
	reportEvery = 2 * time.Second
	sizeEvery   = 10 * time.Second
)

// keepReport keeps up to date what the others are told.
func (n *network) keepReport() {
	var size int64
	for began := time.Now(); ; {
		if now := time.Now(); size == 0 || now.Sub(began) >= sizeEvery {
			size, began = n.p.store.Size(), now
		}
		r := members.Report{
			Version: n.p.cfg.Version, StoreBytes: uint64(max(size, 0)), FreeBytes: n.p.disk.free.Load(), Ready: true,
			Problems: n.p.problems.ids(),
		}
		if why := n.p.Ready(); why != nil {
			r.Ready, r.Reason = false, why.Error()
		}
		if s := n.p.space(DefaultSpace); s != nil {
			id, _ := askSoon(s, func(l *loop) crdt.ReplicaID { return l.engine.ID() })
			r.Replica = id.String()
		}
		n.report.Store(&r)
		select {
		case <-n.ctx.Done():
			return
		case <-beat.After(reportEvery):
		}
	}
}

// follow does what spaces that rest do not do by themselves: each looks whether it holds the log
// back, if that has grown at all; and it is noticed how much of the disk is free.
func (p *Peer) follow() {
	if p.disk.lookFree(time.Now()) {
		p.tellRoom()
		for _, s := range p.held() {
			signal(s.loop.wake)
		}
	}
	p.logGrew(1)
}

// logGrew has all spaces look whether they hold the log back, if it has grown by so many bytes
// since they were last asked to. Who writes asks by bytes, and not the clock: much can be written
// in a second, and all of it stays that one space holds.
func (p *Peer) logGrew(by int64) {
	last, end := p.followed.Load(), int64(p.journal.Next())
	if end-last < by || !p.followed.CompareAndSwap(last, end) {
		return
	}
	for _, s := range p.held() {
		select {
		case s.jobs <- func(l *loop) { l.engine.LogGrew() }:
		default: // it does not rest, and looks by itself
		}
	}
}
