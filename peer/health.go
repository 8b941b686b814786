package peer

import (
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/engine"
)

// suspectRead has the cells checked after a read found a record that is not what was written.
func (s *space) suspectRead(err error) {
	if engine.IsDamage(err) {
		_ = s.call(func(l *loop) { l.engine.Suspect(err) })
	}
}

// suspectLater is suspectRead for who must not wait. What is not heard is found by the next read.
func (s *space) suspectLater(err error) {
	select {
	case s.jobs <- func(l *loop) { l.engine.Suspect(err) }:
	default:
	}
}

// How the look at all cells after opening is spread: it takes a fourth of one processor.
const (
	checkSlice = 256 // records between two rests
	checkRest  = 3   // times as long as that took
)

// slowly returns what a check of all cells is told by whether it is to end early. It has it rest
// in between, unless somebody waits for the outcome.
func (s *space) slowly(check *engine.Pinned) (stop func() bool) {
	began, records := time.Now(), 0
	return func() bool {
		if records++; records%checkSlice != 0 {
			return false
		}
		if !check.Hurried() {
			s.rest(checkRest * time.Since(began))
		}
		began = time.Now()
		return s.stopping()
	}
}

// rest waits for a time, unless the space is closed.
func (s *space) rest(d time.Duration) {
	rest := time.NewTimer(d)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-s.stop:
	}
}

// givingUp is what people can do where nobody can help.
const givingUp = "; to give up what only this host has, stop it, keep what peerd salvage prints, move its store " +
	"directory away and start it again"

// holdsLog returns how many bytes of the log cannot be cut before the space, which is damaged, is
// rebuilt.
func (s *space) holdsLog() int64 {
	if s.refusing.Load() == nil {
		return 0
	}
	return s.p.committer.Kept(s.number)
}

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
	case engine.Checked:
		log.Info("all data here was read, and is as it was written")
	case engine.CannotCheck:
		log.Error("could not check the data here: it is tried again in a minute", "error", n.Err)
	case engine.Damaged:
		log.Error("the data here is damaged: discarding it and rebuilding from the other peers; "+
			"reads and writes are refused until that is done", "error", n.Err)
	case engine.Rebuilt:
		l.s.feed.bell.ring()
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

// A clock that is off breaks nothing: time only decides between writes of which neither saw the
// other. But the host whose clock is ahead wins those, so people are told which one it is, on
// both sides: each member measures the others' clocks against its own.

// now is this peer's clock.
func (p *Peer) now() time.Time { return p.reading(time.Now()).Wall }

// reading returns what it shows at a moment.
func (p *Peer) reading(now time.Time) engine.Reading {
	wall := now
	if off := p.cfg.clockOffset; off != nil {
		wall = wall.Add(off())
	}
	return engine.Reading{Now: now, Wall: wall}
}

// takenFor returns what it shows at a moment, and what it is taken for then.
func (p *Peer) takenFor(now time.Time) (wall time.Time, c engine.Clock) {
	r, found := p.reading(now), p.clock.Load()
	c, next := found.At(r, p.skewLimit())
	if next != found && p.clock.CompareAndSwap(found, next) && next.Moved() {
		p.log.Warn("this host's clock was set, or it slept: "+
			"until it is measured again keys expire rather later", "limit_ms", p.skewLimit().Milliseconds())
	}
	return r.Wall, c
}

// clocks is what was said of members' clocks so far.
type clocks struct {
	named map[string]bool // by peer id: said to be off
	wrong bool            // said that it is this host's own
}

// measured is a member's clock beside this host's.
func measured(m members.Member) engine.Measured {
	return engine.Measured{Ahead: m.ClockOffset, Error: m.ClockError}
}

// measuredOf returns the clocks of those members whose clocks are measured.
func measuredOf(all []members.Member) (clocks []engine.Measured) {
	for _, m := range all {
		if m.ClockError > 0 {
			clocks = append(clocks, measured(m))
		}
	}
	return clocks
}

// skewed returns the members whose clocks are off.
func skewed(all []members.Member, limit time.Duration) (off []members.Member) {
	for _, m := range all {
		if measured(m).Off(limit) {
			off = append(off, m)
		}
	}
	return off
}

func namesOf(all []members.Member) []string {
	names := make([]string, 0, len(all))
	for _, m := range all {
		names = append(names, m.Label)
	}
	return names
}

// skewLimit is by how much a clock may be off.
func (p *Peer) skewLimit() time.Duration { return p.limits.Load().skew }

// measuredBy returns all members. A clock that was measured before this host's was set counts as
// not measured.
func (n *network) measuredBy(now engine.Reading) []members.Member {
	all := n.members.List()
	for i := range all {
		m := &all[i]
		then := engine.Reading{Now: m.Compared, Wall: m.Shown}
		if m.ClockError > 0 && now.IsSet(then, n.p.skewLimit()) {
			m.ClockOffset, m.ClockError = 0, 0
		}
	}
	return all
}

// watchClocks logs whose clock is off, and whose is right again: once each.
func (n *network) watchClocks() {
	now, limit := n.p.reading(time.Now()), n.p.skewLimit()
	all := n.measuredBy(now)
	named := map[string]bool{}
	for _, m := range all {
		was, off := n.clocks.named[m.ID], measured(m).Off(limit)
		if m.ClockError == 0 {
			off = was // it is not measured while it is gone
		}
		if off {
			named[m.ID] = true
		}
		if off != was {
			n.tellClock(m, off)
		}
	}
	wrong := engine.ClockWrong(measuredOf(all), limit)
	if wrong && !n.clocks.wrong {
		n.p.log.Error("this host's clock is off: most members' clocks differ from it; set it, and have it "+
			"kept by NTP", "members", namesOf(skewed(all, limit)), "limit_ms", limit.Milliseconds())
	}
	n.clocks = clocks{named: named, wrong: wrong}
	if found := measuredOf(all); len(found) > 0 {
		n.p.foundClock(n.p.clock.Load().Judge(found, now, limit), limit)
	}
}

func (n *network) tellClock(m members.Member, off bool) {
	log := n.p.log.With("name", m.Label, "peer_id", m.ID, "ahead_ms", m.ClockOffset.Milliseconds(),
		"limit_ms", n.p.skewLimit().Milliseconds())
	if off {
		log.Warn("the clocks of this host and of a member differ: its time is not adopted, its writes are")
		return
	}
	log.Info("the clocks of this host and of a member agree again")
}

// milliseconds is a duration for people and their tools.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
