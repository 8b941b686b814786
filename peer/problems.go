package peer

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/words"
)

// Problem is something that is wrong, and that somebody should see to.
type Problem struct {
	ID    string    `json:"id"` // of the kind: it stays the same from version to version
	Since time.Time `json:"since"`
	What  string    `json:"what"`
	Do    string    `json:"do"`
}

// problemKind is what may be wrong. A new kind is an entry here, and its finding in find.
type problemKind struct{ id, means, do string }

var problemKinds = [...]problemKind{
	{"no-host-reached", "None of the hosts to join is reached, or, where none is named, none of the members: this host is alone.",
		"See that peerd runs there, that the ports 7946 and 7947 are open both ways for TCP and UDP, and that --join names it. " +
			"Members that will not come back are removed with peerd member remove."},
	{"joined-nobody", "This host was started with hosts to join, has met none of them, and was started again without: it is alone.",
		"Start it with --join again. If it is to be alone, stop it, remove members.json from its directory and start it."},
	{"removed", "The others take this host for removed from the cluster.",
		"Take it back with peerd member add at one of them, or stop it."},
	{"other-key", "A host to join, or one that wants to join here, has another cluster key.",
		"If it is of this cluster, give both the same cluster.key; else take the address out of --join there or here."},
	{"key-left-out", "A member that was here before uses another cluster key.",
		"One of the two was left out of a key rotation: copy cluster.key from a member that has the one in use, and start that " +
			"host again."},
	{"no-link", "A member is alive, and has had no data link with this host for 10 seconds.",
		"Open port 7947 both ways for TCP and UDP. Until then its writes come by way of others, or not at all."},
	{"lagging", "A member has not got for a minute what this host has, or this host what a member has.",
		"Wait if THEY LACK or WE LACK becomes less. Else look at the disk, the processor and the log of the host that lags, and at " +
			"the network between the two."},
	{"other-version", "A member speaks another version of the protocol.", "Upgrade the older one."},
	{"same-id", "Two hosts run with one host key, so that they have one peer id.",
		"Stop one of them, remove its host.key and start it again."},
	{"same-address", "Two members advertise one address.", "Give one of them another with --gossip, --p2p or --advertise."},
	{"address-gone", "The address that others are told of this host is no longer one of its own.",
		"Start peerd again, or name the right one with --advertise."},
	{"not-caught-up", "This host is ready without what the others had when it started: --ready-wait was over.",
		"Wait, or see why the others are slow or not reached. What is read here may be old."},
	{"clock-off", "This host's clock, or a member's, is off.", "Set it, and have it kept by NTP."},
	{"disk-low", "The disk is nearly full: writes are refused.", "Make room, or lower --min-free."},
	{"damaged", "Data here is damaged, and reads and writes of it are refused until it is rebuilt from the others.",
		"See that the others are reached. To give up what only this host has, stop it, keep what peerd salvage prints, move " +
			"its store directory away and start it."},
	{"forked", "Writes of a replica exist in two versions, and nothing is exchanged with the hosts that have the other one.",
		"End one side: stop its hosts, keep what peerd salvage prints, move the store directory away and start them."},
}

// linkPatience is for how long a member that is alive may be without a link.
const linkPatience = 10 * time.Second

// finding is a problem of a kind with one subject.
type finding struct{ id, subject, what string }

// facts are what problems are found in.
type facts struct {
	status    *Status
	now       time.Time
	lonely    []string // hosts to join, or else members, of which none is reached
	unmet     []string // hosts that an earlier start was to join and did not meet, if nobody is known
	sightings []members.Sighting
	unlinked  []unlinked
	gone      string // the own address, if it is none of this host's
	late      []late
	lagging   []lagging
}

// unlinked is a member that should be linked and is not.
type unlinked struct {
	name, id string
	since    time.Time
	err      error // of the last dial
}

// late is a space that is ready without what others had when it was opened.
type late struct {
	space string
	why   error
}

// maxNamed is how many of what is wrong are named.
const maxNamed = 4

// few names some of them, and says how many more there are.
func few(ones []string) string {
	if more := len(ones) - maxNamed; more > 0 {
		ones = append(slices.Clone(ones[:maxNamed]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(ones, ", ")
}

func lateOnes(all []late) string {
	var ones []string
	for _, of := range all {
		ones = append(ones, fmt.Sprintf("space %s is %v", of.space, of.why))
	}
	return few(ones)
}

// find returns all that is wrong.
func (f *facts) find() (all []finding) {
	add := func(id, subject, what string, args ...any) {
		all = append(all, finding{id, subject, fmt.Sprintf(what, args...)})
	}
	s := f.status
	if len(f.lonely) > 0 {
		add("no-host-reached", "", "this host is alone: none is reached of %s", few(f.lonely))
	}
	if len(f.unmet) > 0 {
		add("joined-nobody", "", "this host is alone: an earlier start was to join %s and met nobody, and this one is to join none",
			few(f.unmet))
	}
	if s.Removed {
		add("removed", "", "the others take this host for removed from the cluster")
	}
	f.findStrangers(add)
	for _, u := range f.unlinked {
		switch {
		case s.Removed: // then no port is closed: nobody lets it in
		case f.now.Sub(u.since) < linkPatience:
		case errors.As(u.err, new(violationError)), errors.Is(u.err, errNotUnderstood):
			add("other-version", u.id, "%s is alive and has no data link with this host: %s", u.name, words.Of(u.err))
		default:
			add("no-link", u.id, "%s is alive and has no data link with this host: %s", u.name,
				cmp.Or(words.Of(u.err), "it was not reached, and does not reach this host"))
		}
	}
	addrs := map[string]string{s.GossipAddr: s.Name}
	for _, m := range s.Members {
		for _, l := range f.lagging {
			if l.id == m.PeerID && m.Linked {
				add("lagging", l.subject(), "%s", l.what(m.Name))
			}
		}
		if m.Problem != "" {
			add("other-version", m.PeerID, "%s %s", m.Name, m.Problem)
		}
		if other, taken := addrs[m.Addr]; taken && m.Alive {
			add("same-address", m.Addr, "%s and %s both advertise %s", other, m.Name, m.Addr)
		}
		if m.Alive {
			addrs[m.Addr] = m.Name
		}
	}
	if f.gone != "" {
		add("address-gone", f.gone, "others are told that this host is at %s, which is none of its addresses now", f.gone)
	}
	if len(f.late) > 0 {
		add("not-caught-up", "", "this host is ready without what the others had when it started: %s", lateOnes(f.late))
	}
	switch {
	case s.ClockWrong:
		add("clock-off", "", "this host's clock is off: most members' clocks differ from it")
	case len(s.ClockSkewed) > 0:
		add("clock-off", "", "the clocks differ from this host's: %s", strings.Join(s.ClockSkewed, ", "))
	}
	return f.findInData(all)
}

// findStrangers adds what is wrong with hosts that are no members, or claim to be one.
func (f *facts) findStrangers(add func(id, subject, what string, args ...any)) {
	said := map[string]bool{} // addresses of which it is said, and the hosts of those
	for _, seen := range slices.SortedStableFunc(slices.Values(f.sightings), byPort) {
		was := f.wasAt(seen.Addr)
		switch {
		case seen.Kind == members.SameID:
			add("same-id", seen.ID, "a host at %s runs with the peer id %s, which another has", seen.Addr, seen.ID)
			continue
		case said[seen.Addr]:
			continue
		case was != nil:
			add("key-left-out", seen.Addr, "%s at %s, a member that is gone, uses another cluster key", was.Name, was.Addr)
		case seen.Kind == members.OtherKeyThere && seen.Asked != seen.Addr:
			add("other-key", seen.Addr, "%s, a host to join, has another cluster key (at %s)", seen.Asked, seen.Addr)
		case seen.Kind == members.OtherKeyThere:
			add("other-key", seen.Addr, "%s, a host to join, has another cluster key", seen.Addr)
		default:
			add("other-key", seen.Addr, "a host at %s wants to join and has another cluster key", seen.Addr)
		}
		host, _, _ := net.SplitHostPort(seen.Addr)
		said[seen.Addr], said[host] = true, true
	}
}

// byPort orders sightings whose port is known before others, which may be of the same hosts.
func byPort(a, b members.Sighting) int {
	lacks := func(s members.Sighting) int {
		if _, err := netip.ParseAddrPort(s.Addr); err != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(lacks(a), lacks(b)), strings.Compare(string(b.Kind), string(a.Kind)))
}

// findInData adds what is wrong with the data here.
func (f *facts) findInData(all []finding) []finding {
	s := f.status
	if s.MinFreeBytes > 0 && s.FreeBytes < s.MinFreeBytes {
		all = append(all, finding{"disk-low", "", fmt.Sprintf("%d MiB are free and %d MiB must be: writes are refused",
			s.FreeBytes>>20, s.MinFreeBytes>>20)})
	}
	for _, of := range s.Spaces {
		if of.Damaged {
			what := fmt.Sprintf("data of space %s is damaged: %s", of.Space, of.Reason)
			if of.HeldLogBytes > 0 {
				what += fmt.Sprintf("; until then %.1f MiB of the log cannot be cut", float64(of.HeldLogBytes)/(1<<20))
			}
			all = append(all, finding{"damaged", of.Space, what})
		}
		for _, fork := range of.Forks {
			what := fmt.Sprintf("writes of replica %s in space %s exist in two versions after write %d", fork.Replica, of.Space,
				fork.Common)
			if len(fork.There) > 0 {
				what += "; nothing of the space is exchanged with " + f.named(fork.There)
			}
			if len(fork.Here) > 0 {
				what += "; the version that is here is also at " + f.named(fork.Here)
			}
			all = append(all, finding{"forked", of.Space + fork.Replica, what})
		}
	}
	return all
}

// named returns peers by their names, as far as they are members, and the end of their ids.
func (f *facts) named(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = "…" + id[max(0, len(id)-8):]
		for _, m := range f.status.Members {
			if m.PeerID == id {
				names[i] = fmt.Sprintf("%s (%s)", m.Name, names[i])
			}
		}
	}
	return strings.Join(names, ", ")
}

// wasAt returns the member that was at a gossip address last, if it is gone; nil if there is none.
// Of an IP address alone nothing is known: several hosts may share it.
func (f *facts) wasAt(addr string) (last *Member) {
	for i := range f.status.Members {
		switch m := &f.status.Members[i]; {
		case m.Addr != addr:
		case m.Alive:
			return nil
		case last == nil || m.Since.After(last.Since):
			last = m
		}
	}
	return last
}

// problems remembers since when what is wrong is so.
type problems struct {
	mu    sync.Mutex
	known map[finding]*known // by id and subject
	marks map[lagKey][]lagMark
	gone  string // facts.gone, when last looked
	asked time.Time
}

type known struct{ since time.Time }

// problemEvery is how often problems are looked for to be logged, and problemAgain how often one
// that lasts is logged.
const (
	problemEvery = 5 * time.Second
	problemAgain = time.Minute
)

// list returns what was found as problems, in the order of problemKinds.
func (p *problems) list(found []finding, now time.Time) []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[finding]*known, len(found))
	out := []Problem{}
	for _, f := range found {
		key := finding{id: f.id, subject: f.subject}
		k := p.known[key]
		if k == nil {
			k = &known{since: now}
		}
		next[key] = k
		out = append(out, Problem{ID: f.id, Since: k.since, What: f.what, Do: kindOf(f.id).do})
	}
	p.known = next
	order := func(id string) int {
		return slices.IndexFunc(problemKinds[:], func(k problemKind) bool { return k.id == id })
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return order(a.ID) - order(b.ID) })
	return out
}

// ids returns the kinds of problems that were there when they were listed last, each once.
func (p *problems) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[string]bool{}
	for f := range p.known {
		there[f.id] = true
	}
	ids := []string{}
	for id := range ProblemIDs() {
		if there[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func kindOf(id string) problemKind {
	return problemKinds[slices.IndexFunc(problemKinds[:], func(k problemKind) bool { return k.id == id })]
}

// ProblemIDs passes the ids of all kinds of problems, as Problem.ID has them.
func ProblemIDs() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, k := range problemKinds {
			if !yield(k.id) {
				return
			}
		}
	}
}

// watchProblems logs each problem when it begins, and once a minute while it lasts.
func (p *Peer) watchProblems() {
	logged := map[string]time.Time{}
	for {
		select {
		case <-beat.After(problemEvery):
		case <-p.stop:
			return
		}
		s, err := p.Status()
		if err != nil {
			continue // it is closing
		}
		last := map[string]time.Time{}
		for _, problem := range s.Problems {
			key := problem.ID + problem.Since.String()
			last[key] = logged[key]
			if now := time.Now(); now.Sub(last[key]) >= problemAgain {
				last[key] = now
				p.log.Warn("problem: "+problem.What, "id", problem.ID, "since", problem.Since.Format(time.RFC3339), "do", problem.Do)
			}
		}
		logged = last
	}
}

// noteLinks takes down which members should be linked, and which of them are not. keepLinks calls
// it.
func (n *network) noteLinks(wanted []members.Member, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, silent := n.beat()
	lacking := make(map[libpeer.ID]*unlinked, len(wanted))
	n.wanted = make(map[string]bool, len(wanted))
	for _, m := range wanted {
		n.wanted[m.ID] = true
		id, err := libpeer.Decode(m.ID)
		if l := n.streams[id]; err != nil || l != nil && l.silence() <= silent {
			continue
		}
		u := n.lacking[id]
		if u == nil {
			u = &unlinked{name: m.Label, id: m.ID, since: now}
		}
		if why := n.inPeace(id); why != nil {
			u.err = why
		}
		lacking[id] = u
	}
	n.lacking = lacking
	maps.DeleteFunc(n.opener, func(id libpeer.ID, _ bool) bool { return n.streams[id] == nil && lacking[id] == nil })
}

// noteDial takes down why a member is not linked. That it is not dialled for a while, as that
// failed before, says less than what is known.
func (n *network) noteDial(id libpeer.ID, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.lacking[id]
	if u != nil && n.ctx.Err() == nil && (u.err == nil || !errors.Is(err, swarm.ErrDialBackoff)) {
		u.err = err
	}
}

// facts returns what there is to find problems in. s is described as far as the network goes.
func (p *Peer) facts(s *Status, told []report, gaps []gap) *facts {
	f := &facts{status: s, now: time.Now()}
	f.lagging = p.problems.lags(gaps, p.lagPatience(), f.now)
	for _, of := range told {
		if of.late != nil {
			f.late = append(f.late, late{of.Space, of.late})
		}
	}
	n := p.net
	if n == nil {
		return f
	}
	if n.members.Tried() && !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Alive || m.Linked }) {
		f.lonely = n.sought(s.Members)
	}
	f.unmet = n.members.Unmet()
	f.sightings = n.members.Sightings()
	f.gone = p.problems.addressGone(n.members.Addr(), p.cfg.Advertise != "" || p.cfg.simulated != nil, f.now)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, u := range n.lacking {
		f.unlinked = append(f.unlinked, *u)
	}
	slices.SortFunc(f.unlinked, func(a, b unlinked) int { return strings.Compare(a.id, b.id) })
	return f
}

// sought returns the hosts to join, or else where the members are, which are looked for as well.
func (n *network) sought(all []Member) []string {
	hosts := n.members.Joining()
	if len(hosts) == 0 {
		for _, m := range all {
			hosts = append(hosts, m.Addr)
		}
	}
	return hosts
}

// ownEvery is how often the host's addresses are asked for.
const ownEvery = 5 * time.Second

// addressGone returns the own address if it is none of this host's. One that the configuration
// names may be another's, who passes on what comes.
func (p *problems) addressGone(own string, named bool, now time.Time) string {
	at, err := netip.ParseAddrPort(own)
	if err != nil || named {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.asked) < ownEvery {
		return p.gone
	}
	p.asked, p.gone = now, ""
	here, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range here {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == at.Addr().WithZone("") {
			return ""
		}
	}
	if !at.Addr().IsLoopback() {
		p.gone = own
	}
	return p.gone
}
