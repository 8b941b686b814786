package members

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	joinSlots     = 16 // hosts being joined at once; unreachable ones hold a slot until they time out
	joinsPerRound = 8  // hosts that a round begins to join
	lastSeen      = 16 // absent members, of those last seen, that half of all places and slots are for
	eagerRounds   = 3  // first rounds, which are eager: hosts are joined even if they are alive
	addrsPerName  = 3  // addresses of one name that are joined: any one tells of all others
	eagerJoins    = 3  // members alive that are joined in an eager round, beside the configured
	growth        = 1.5
	jitter        = 0.2 // of a pause, either way
)

// rejoin looks for hosts that are not alive, for ever: those configured and those known. memberlist
// asks after a dead member for GossipToTheDeadTime and never again, so this alone heals a longer
// partition. It also joins again shortly after the start: of many hosts that join one at the same
// time, some do not learn of some others until then.
//
// Hosts are tried in turn, the one tried longest ago first, and each in a goroutine of its own: one
// that does not answer delays no other. Half of the places are for those that are the likeliest to
// answer: a partition is to heal soon though a thousand containers of the past are remembered.
func (m *Members) rejoin(ctx context.Context) {
	r := rounds{tried: map[string]int{}, busy: map[string]bool{}}
	finished := make(chan string, joinSlots)
	for pause := m.timing.rejoinMin; ; {
		r.number++
		moves := m.moves.Load()
		eager := m.disputed.Swap(false) || r.number <= eagerRounds
		for _, host := range r.choose(m.wanted(eager), len(*m.join.Load())+lastSeen) {
			m.running.Go(func() {
				m.joinHost(ctx, host, eager)
				finished <- host
			})
		}
		if r.number >= eagerRounds {
			pause = min(time.Duration(float64(pause)*growth), m.timing.rejoinMax)
		}
		if !r.wait(ctx, jittered(pause), finished, m.joinIt) {
			return
		}
		if len(r.busy) == 0 {
			m.tried.Store(moves + 1)
		}
	}
}

// rounds is the state of rejoin. One goroutine owns it.
type rounds struct {
	number int
	tried  map[string]int  // the round in which a host was last tried
	busy   map[string]bool // hosts being joined, at most joinSlots
}

// choose returns which of the wanted hosts to begin with now, and notes that they are busy: up to
// half of them of the first likely ones.
func (r *rounds) choose(wanted []string, likely int) []string {
	tried := make(map[string]int, len(wanted))
	for _, host := range wanted {
		tried[host] = r.tried[host]
	}
	r.tried = tried // so that hosts no longer wanted do not stay in memory
	first, held := wanted[:min(likely, len(wanted))], 0
	for _, host := range first {
		if r.busy[host] {
			held++
		}
	}
	chosen := r.begin(first, min(joinsPerRound/2, joinSlots/2-held))
	return append(chosen, r.begin(wanted, joinsPerRound-len(chosen))...)
}

// begin returns up to so many of the hosts, and notes that they are busy. Those tried longest ago
// come first; among those never tried, the order of hosts counts.
func (r *rounds) begin(hosts []string, places int) (chosen []string) {
	hosts = slices.SortedStableFunc(slices.Values(hosts), func(a, b string) int { return r.tried[a] - r.tried[b] })
	for _, host := range hosts {
		if len(chosen) >= places || len(r.busy) == joinSlots {
			break
		}
		if !r.busy[host] {
			r.busy[host], r.tried[host] = true, r.number
			chosen = append(chosen, host)
		}
	}
	return chosen
}

// wait returns after pause or at a token, or false when ctx is done. It takes finished hosts
// meanwhile.
func (r *rounds) wait(ctx context.Context, pause time.Duration, finished <-chan string,
	token <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case host := <-finished:
			delete(r.busy, host)
		case <-timer.C:
			return true
		case <-token:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*rand.Float64()))
}

// wanted returns the hosts to join, without doubles: the configured ones, and the gossip
// addresses of known members that are not alive, most recently seen first. With eager it also
// returns a few members that are alive.
func (m *Members) wanted(eager bool) []string {
	removed := m.table.removedAt()
	out := slices.DeleteFunc(slices.Clone(*m.join.Load()), func(host string) bool { return removed[host] })
	alive := m.occupied()
	var present []string
	for _, r := range m.table.records(time.Now()) {
		if removed[r.Addr] {
			continue
		}
		if r.Alive {
			present = append(present, r.Addr)
		} else if !alive[r.Addr] {
			out = append(out, r.Addr)
		}
	}
	if eager {
		out = append(out, present[:min(len(present), eagerJoins)]...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(host string) bool {
		double := seen[host] || !eager && alive[host]
		seen[host] = true
		return double
	})
}

// occupied returns the gossip addresses at which this host or a member that is alive answers.
func (m *Members) occupied() map[string]bool {
	alive := map[string]bool{m.Addr(): true}
	for _, member := range m.table.list() {
		if member.Alive {
			alive[member.Addr] = true
		}
	}
	return alive
}

// joinHost exchanges member lists with a host. It takes at most the time to resolve a name and, for
// each of addrsPerName addresses, twice memberlist's TCPTimeout.
func (m *Members) joinHost(ctx context.Context, host string, eager bool) {
	addrs, err := m.resolve(ctx, host)
	if err != nil {
		m.joinFailed(ctx, host, err)
		return
	}
	others := slices.DeleteFunc(addrs, m.isOwn)
	if len(others) == 0 {
		m.selves.Store(host, true)
	} else {
		m.selves.Delete(host)
	}
	alive, removed := m.occupied(), m.table.removedAt()
	addrs = slices.DeleteFunc(others, func(addr string) bool { return removed[addr] || !eager && alive[addr] })
	if len(addrs) == 0 {
		return
	}
	joined, failed := false, []error(nil)
	for _, addr := range addrs[:min(len(addrs), addrsPerName)] {
		switch _, err := m.current().Join([]string{addr}); {
		case err == nil:
			joined = true
		case ctx.Err() != nil:
			return
		default:
			failed = append(failed, err)
			if foreign(err.Error()) {
				m.journal.seen.note(Sighting{Kind: OtherKeyThere, Addr: addr, Asked: host})
			}
		}
	}
	if !joined {
		m.joinFailed(ctx, host, errors.Join(failed...))
	}
}

// isOwn reports whether this host itself answers at a gossip address: systems look up their own
// name as one of loopback.
func (m *Members) isOwn(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || addr == m.Addr() {
		return err == nil
	}
	m.mu.Lock()
	bound := m.transport.bound
	m.mu.Unlock()
	return bound.Addr().IsUnspecified() && bound.Port() == at.Port() && at.Addr().IsLoopback()
}

// resolve returns the addresses of a host to join as "ip:port", in random order.
func (m *Members) resolve(ctx context.Context, host string) ([]string, error) {
	name, port, err := SplitHost(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.timing.resolve)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port).String()
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs, nil
}

func (m *Members) joinFailed(ctx context.Context, host string, err error) {
	switch {
	case ctx.Err() != nil: // closing
	case foreign(err.Error()):
		m.journal.warn("a host to join has another cluster key: "+
			"give both the same cluster key file", "addr", host)
	case slices.Contains(*m.join.Load(), host) && len(m.occupied()) == 1:
		m.journal.warn("no host to join answers yet: trying on", "addr", host, "error", err)
	default:
		m.journal.debug("cannot join a host: trying on", "addr", host, "error", err)
	}
}
