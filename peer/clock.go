package peer

import (
	"time"

	"github.com/peerd/peerd/gossip/members"
)

// A clock that is off breaks nothing: time only decides between writes of which neither saw the other. But
// the host whose clock is ahead wins those, so people are told which one it is, on both sides: each member
// measures the others' clocks against its own.

// now is this peer's clock.
func (p *Peer) now() time.Time { return time.Now().Add(p.cfg.clockOffset) }

// clocks is what was said of members' clocks so far.
type clocks struct {
	named map[string]bool // by peer id: said to be off
	wrong bool            // said that it is this host's own
}

// isSkewed reports whether a member's clock is off by more than limit, however wrong the measurement.
func isSkewed(m members.Member, limit time.Duration) bool {
	return m.ClockOffset.Abs()-m.ClockError > limit
}

// skewed returns the members whose clocks are off.
func skewed(all []members.Member, limit time.Duration) (off []members.Member) {
	for _, m := range all {
		if isSkewed(m, limit) {
			off = append(off, m)
		}
	}
	return off
}

// clockWrong reports whether this host's own clock must be the one that is off: seen from here, those of
// most members are, of at least two.
func clockWrong(all []members.Member, limit time.Duration) bool {
	measured := 0
	for _, m := range all {
		if m.ClockError > 0 {
			measured++
		}
	}
	return measured >= 2 && 2*len(skewed(all, limit)) > measured
}

func namesOf(all []members.Member) []string {
	names := make([]string, 0, len(all))
	for _, m := range all {
		names = append(names, m.Label)
	}
	return names
}

// skewLimit is by how much a clock may be off.
func (p *Peer) skewLimit() time.Duration { return time.Duration(p.maxSkew.Load()) }

// watchClocks logs whose clock is off, and whose is right again: once each.
func (n *network) watchClocks() {
	all, limit := n.members.List(), n.p.skewLimit()
	named := map[string]bool{}
	for _, m := range all {
		was, off := n.clocks.named[m.ID], isSkewed(m, limit)
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
	wrong := clockWrong(all, limit)
	if wrong && !n.clocks.wrong {
		n.p.log.Error("this host's clock is off: most members' clocks differ from it; set it, and have it "+
			"kept by NTP", "members", namesOf(skewed(all, limit)), "limit_ms", limit.Milliseconds())
	}
	n.clocks = clocks{named: named, wrong: wrong}
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
