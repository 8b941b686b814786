package peer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/latency"
)

// Status describes a peer at one moment. What it says of data is about the space "default", and
// zero if that is not held; Spaces has all. Its JSON is the daemon's /v1/status.
type Status struct {
	Name string `json:"name"`
	SpaceStatus
	PeerID  string `json:"peer_id"`
	Version string `json:"version"` // of the program: see Config.Version
	// Ready says that all spaces are, and Reason which of them is not, and why.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Removed says that the other hosts have removed this one: see RemoveMember.
	Removed bool `json:"removed"`
	// Spaces are those that this host holds, by name, and Opening says why they may not be all yet that it is to hold.
	Spaces  []SpaceStatus `json:"spaces"`
	Opening string        `json:"opening,omitempty"`

	ClusterKey   string   `json:"cluster_key"`   // id of the key in use; it is no secret
	AcceptedKeys []string `json:"accepted_keys"` // ids of the others that are accepted

	// Problems is what is wrong, and should be seen to; empty if nothing is known to be.
	Problems []Problem `json:"problems"`

	GossipAddr string   `json:"gossip_addr"`
	P2PAddrs   []string `json:"p2p_addrs"`
	Members    []Member `json:"members"`

	LogBytes   int64 `json:"log_bytes"`   // of deltas on the disk: see Config.LogBytes
	StoreBytes int64 `json:"store_bytes"` // of all files of the store
	// Commits, Deltas, BytesSent, BytesReceived, Repairs and Mismatches add up those of all spaces.
	Commits       uint64 `json:"commits"`
	Deltas        uint64 `json:"deltas"`
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	Repairs       uint64 `json:"repairs"`
	Mismatches    uint64 `json:"mismatches"`

	// FreeBytes is how much of the disk is free, and MinFreeBytes below how much of that writes are
	// refused; both 0 for a peer in memory.
	FreeBytes    uint64 `json:"free_bytes"`
	MinFreeBytes uint64 `json:"min_free_bytes"`

	// ClockSkewed names the members whose clocks are off by more than Config.MaxSkew, as seen from
	// here.
	ClockSkewed []string `json:"clock_skewed"`
	// ClockWrong says that most members' clocks are off, seen from here: then it is this host's
	// that is.
	ClockWrong bool `json:"clock_wrong"`
}

// SpaceStatus describes a space of a peer at one moment.
type SpaceStatus struct {
	Space   string `json:"space"`
	Replica string `json:"replica"` // the id under which this start writes, or will
	// VersionVector maps the id of each replica to how many of its mutations are here, but for
	// those that are left out because they write no more.
	VersionVector map[string]uint64 `json:"version_vector"`
	// Replicas and Mutations count all that are here, those included that VersionVector leaves out.
	Replicas  int    `json:"replicas"`
	Mutations uint64 `json:"mutations"`
	// ContextHash and Root are fingerprints of the version vector and of the data. Peers with the
	// same ContextHash have the same Root, or one of them is damaged.
	ContextHash string `json:"context_hash"`
	Root        string `json:"root"`
	// Settled is false while removed data is still swept: Root then says nothing.
	Settled bool   `json:"settled"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
	Keys    int    `json:"keys"`
	Cells   int    `json:"cells"`
	// Unchecked is which part of the data was not read yet since the peer was opened, to see that it
	// is as it was written: from 1 down to 0. That goes on in the background.
	Unchecked float64 `json:"unchecked"`
	// Repairing is there while the space is repaired here from another peer, or filled.
	Repairing *Repairing `json:"repairing,omitempty"`
	// HeldLogBytes is how much of the log, which all spaces share, cannot be cut before the space
	// is rebuilt: 0 unless it is damaged.
	HeldLogBytes int64 `json:"held_log_bytes"`
	// Damaged says that data of the space is damaged, so that reads and writes are refused.
	Damaged bool `json:"damaged"`

	Neighbours    int    `json:"neighbours"`     // members with which the space is exchanged now
	Commits       uint64 `json:"commits"`        // commit groups, since the peer was opened
	Deltas        uint64 `json:"deltas"`         // transactions that wrote, here and elsewhere, since then
	BytesSent     uint64 `json:"bytes_sent"`     // to other peers, in frames
	BytesReceived uint64 `json:"bytes_received"` // from other peers, in frames
	Repairs       uint64 `json:"repairs"`        // of this peer by comparing cells, since then
	Mismatches    uint64 `json:"mismatches"`     // digests with the same context and another root
	Forks         []Fork `json:"forks"`          // replicas whose mutations were issued twice
}

// Fork is a replica whose writes exist in two versions. Nothing of its space is exchanged with the
// peers that have the other one.
type Fork struct {
	Replica string   `json:"replica"`
	Common  uint64   `json:"common"` // its last mutation that both versions have, as far as is known
	Here    []string `json:"here"`   // peer ids of linked peers that have the version that is here
	There   []string `json:"there"`  // peer ids of those that have the other one
}

// forksOf returns what the mesh knows of forks.
func forksOf(all []gossip.Fork) []Fork {
	out := []Fork{}
	for _, f := range all {
		fork := Fork{Replica: f.Replica.String(), Common: f.Parts, Here: []string{}, There: []string{}}
		for _, id := range f.Here {
			fork.Here = append(fork.Here, string(id))
		}
		for _, id := range f.There {
			fork.There = append(fork.There, string(id))
		}
		out = append(out, fork)
	}
	return out
}

// Member is another peer, as this one knows it.
type Member struct {
	Name   string    `json:"name"`
	PeerID string    `json:"peer_id"`
	Addr   string    `json:"addr"` // gossip
	Alive  bool      `json:"alive"`
	Since  time.Time `json:"since"` // when Alive last changed
	// RTTms is the round trip to it, nil if it is gone or that is not measured yet.
	RTTms *float64 `json:"rtt_ms"`
	// ClockOffsetMs is how far its clock is ahead of the one here, in milliseconds, and
	// ClockErrorMs by how much that may be wrong, either way; nil if they are not measured.
	ClockOffsetMs *float64 `json:"clock_offset_ms"`
	ClockErrorMs  *float64 `json:"clock_error_ms"`
	// Linked says whether a stream is open, and not silent for 3 s.
	Linked bool `json:"linked"`
	// Problem says why there can be no stream: the member speaks another version of the protocol.
	// Empty else.
	Problem string `json:"problem,omitempty"`
	// TheyLack and WeLack count mutations that the member has not and we have, and the other way
	// round, in all spaces that both hold; nil if that is not known, as without a link.
	TheyLack *uint64 `json:"they_lack"`
	WeLack   *uint64 `json:"we_lack"`
	// Told is what the member tells of itself; nil before it has, and once it is gone.
	Told *Told `json:"told"`
}

// Status returns a description of the peer.
func (p *Peer) Status() (Status, error) {
	unopened, err := p.unopened()
	if err != nil {
		return Status{}, err
	}
	told, err := p.reports(false)
	if err != nil {
		return Status{}, err
	}
	return p.status(told, unopened), nil
}

// reports returns what all spaces that are held tell, by name, with figures for Metrics if those
// are wanted.
func (p *Peer) reports(figures bool) (all []report, err error) {
	for _, held := range p.held() {
		told, err := held.report(figures)
		switch {
		case err == nil:
			all = append(all, told)
		case held.ended.Load() == nil: // else it was dropped meanwhile
			return nil, err
		}
	}
	return all, nil
}

// lack counts mutations of all spaces.
type lack struct{ theirs, ours uint64 }

// status returns a description from what unopened and then reports told.
func (p *Peer) status(told []report, unopened error) Status {
	s := Status{Name: p.cfg.Name, Version: p.cfg.Version, SpaceStatus: noStatus(""), Ready: true, Spaces: []SpaceStatus{}, Members: []Member{},
		AcceptedKeys: []string{}, ClockSkewed: []string{}}
	s.SpaceStatus.Settled, s.SpaceStatus.Ready = false, false
	lacks := map[string]lack{} // of neighbours, by peer id
	for _, of := range told {
		s.add(of.SpaceStatus)
		s.LogBytes = max(s.LogBytes, of.logBytes)
	}
	gaps := gaps(told)
	for _, g := range gaps {
		l := lacks[g.id]
		lacks[g.id] = lack{l.theirs + g.theirs, l.ours + g.ours}
	}
	if unopened != nil && !errors.Is(unopened, ErrNoSpace) { // which says nothing of what is open
		if s.Opening = unopened.Error(); s.Ready {
			s.Ready, s.Reason = false, s.Opening
		}
	}
	s.StoreBytes = p.store.Size()
	s.FreeBytes, s.MinFreeBytes = p.disk.free.Load(), p.disk.needed.Load()
	if p.net != nil {
		s.BytesSent += p.net.own.sent.total()
		s.BytesReceived += p.net.own.received.total()
		p.net.describe(&s, lacks)
		if why := p.removed(); why != nil {
			s.Removed, s.Ready, s.Reason = true, false, why.Error()
		}
	}
	s.Problems = p.problems.list(p.facts(&s, told, gaps).find(), time.Now())
	return s
}

// add takes a space into account.
func (s *Status) add(one SpaceStatus) {
	s.Spaces = append(s.Spaces, one)
	if one.Space == DefaultSpace {
		s.SpaceStatus = one
	}
	s.Commits += one.Commits
	s.Deltas += one.Deltas
	s.BytesSent += one.BytesSent
	s.BytesReceived += one.BytesReceived
	s.Repairs += one.Repairs
	s.Mismatches += one.Mismatches
	if s.Ready && !one.Ready {
		s.Ready, s.Reason = false, fmt.Sprintf("space %s: %s", one.Space, one.Reason)
	}
}

// report is what a space tells for a Status, and for Metrics.
type report struct {
	of *space
	SpaceStatus
	late     error // why it is not what the others had when it was opened, and ready all the same
	logBytes int64
	seen     crdt.VersionVector
	listed   crdt.VersionVector            // its short form
	known    map[string]crdt.VersionVector // of neighbours, by peer id

	figures  engine.Figures // for Metrics, as is what follows
	stable   uint64
	sweeping int
}

// report asks the loop, and adds what can be told beside it.
func (s *space) report(figures bool) (report, error) {
	r, err := askSoon(s, func(l *loop) report { return l.report(figures) })
	if err != nil {
		return r, err
	}
	r.Ready = r.Reason == ""
	for id, n := range r.listed {
		r.VersionVector[id.String()] = n
	}
	r.Replicas, r.Mutations = len(r.seen), crdt.VersionVector{}.Missing(r.seen)
	r.HeldLogBytes, r.Damaged = s.holdsLog(), s.refusing.Load() != nil
	c := &s.counters
	r.Commits, r.Deltas = c.commits.Load(), c.deltas.Load()
	r.BytesSent, r.BytesReceived = c.sent.total(), c.received.total()
	r.Repairs, r.Mismatches = c.repairs.Load(), c.mismatches.Load()
	return r, nil
}

func (l *loop) report(figures bool) report {
	e := l.engine
	seen, _ := e.Context()
	context, root, settled := e.Digest()
	r := report{
		of: l.s, SpaceStatus: noStatus(l.s.name), logBytes: e.LogBytes(), seen: seen.Clone(), listed: e.Vector().Clone(),
		known: map[string]crdt.VersionVector{},
	}
	if figures {
		r.figures, r.stable, r.sweeping = e.Figures(), e.Stable(), e.Clears()
	}
	for p, under := range l.pulls { // one at most
		r.Repairing = under.at(p)
	}
	r.Replica, r.ContextHash, r.Root, r.Settled = e.ID().String(), context.String(), root.String(), settled
	r.Keys, r.Cells = e.Counts()
	r.Unchecked = unchecked(e)
	r.Forks, r.Neighbours = forksOf(e.Forks()), len(l.links)
	if why := l.readiness(); why != nil {
		r.Reason = why.Error()
	} else {
		r.late = l.late()
	}
	for id := range l.links {
		if v, greeted := e.Known(id); greeted {
			r.known[string(id)] = v.Clone()
		}
	}
	return r
}

// unchecked returns which part of the data was not read yet since it was opened.
func unchecked(e *engine.Engine) float64 {
	switch read, all, waits := e.Verifying(); {
	case waits:
		return 1
	case all > 0:
		return 1 - float64(read)/float64(all)
	}
	return 0
}

// noStatus is that of a space that nobody has written to.
func noStatus(name string) SpaceStatus {
	return SpaceStatus{Space: name, VersionVector: map[string]uint64{}, Forks: []Fork{}, Settled: true, Ready: true}
}

// Status describes the space. One that nobody has written to has no more than a name, and is ready.
func (s *Space) Status() (SpaceStatus, error) {
	held, err := s.here()
	if err != nil || held == nil {
		return noStatus(s.name), err
	}
	told, err := held.report(false)
	return told.SpaceStatus, err
}

// Spaces describes the spaces that this host holds, by name.
func (p *Peer) Spaces() ([]SpaceStatus, error) {
	s, err := p.Status()
	return s.Spaces, err
}

// describe fills in what the network knows.
func (n *network) describe(s *Status, lacks map[string]lack) {
	s.PeerID, s.GossipAddr = n.id.String(), n.members.Addr()
	for i, key := range n.keys.ring().Keys() {
		if i == 0 {
			s.ClusterKey = key.ClusterID()
			continue
		}
		s.AcceptedKeys = append(s.AcceptedKeys, key.ClusterID())
	}
	for _, a := range n.addrs(nil) {
		s.P2PAddrs = append(s.P2PAddrs, a.String())
	}
	all := n.measuredBy(n.p.reading(time.Now()))
	s.ClockSkewed = namesOf(skewed(all, n.p.skewLimit()))
	s.ClockWrong = engine.ClockWrong(measuredOf(all), n.p.skewLimit())
	for _, m := range all {
		out := Member{
			Name: m.Label, PeerID: m.ID, Addr: m.Addr, Alive: m.Alive, Since: m.Since,
			Problem: n.problemOf(m, time.Now()),
		}
		if m.RTT > 0 {
			out.RTTms = new(milliseconds(m.RTT))
		}
		if m.ClockError > 0 {
			out.ClockOffsetMs, out.ClockErrorMs = new(milliseconds(m.ClockOffset)), new(milliseconds(m.ClockError))
		}
		if id, err := libpeer.Decode(m.ID); err == nil {
			out.Linked = n.linked(id) && !n.silent(id)
		}
		if l, known := lacks[m.ID]; known && out.Linked {
			out.TheyLack, out.WeLack = &l.theirs, &l.ours
		}
		out.Told = told(m.Report)
		s.Members = append(s.Members, out)
	}
}

// Metrics are a peer's figures for monitoring. What counts up does so since the peer was opened.
type Metrics struct {
	Status

	// Transactions are the Updates that succeeded, reading ones included, Failed those that did
	// not. Commits (see Status) are the groups that they, and other peers' deltas, were written in.
	Transactions, Failed uint64
	CommitTimes          Times // of commit groups and what ran in them; with durability Always, the fsync included
	SyncTimes            Times // of the fsyncs of durability Interval

	Traffic  []Traffic // bytes of frames, by layer
	Offered  Offered   // deltas that other peers sent
	Messages Messages

	Rebuilds       uint64 // of this peer, after damage
	EntriesAdded   uint64 // by repairs
	EntriesRemoved uint64
	RepairsServed  int // to other peers, now

	LogRecords uint64
	LogAge     time.Duration // of the oldest record; 0 if it cannot be read
	Stable     uint64        // mutations here that all linked peers are known to have; 0 without one
	Waiting    int           // deltas that overtook what they depend on
	Queue      int           // transactions and frames that wait for their turn
	Sweeping   int           // clears whose cells are still removed from the disk
	NotAdopted int           // times of other peers that were too far ahead
}

// Times is how long things took: Buckets[i] is how many took at most Bound(i), and longer than
// Bound(i-1).
type Times struct {
	Buckets [22]uint64
	Total   uint64 // how many there were
	Sum     time.Duration
}

// Bound returns the longest time of bucket i: 16 µs, 32 µs and so on to 16.8 s. The last bucket has
// none: 0.
func (Times) Bound(i int) time.Duration { return latency.Bound(i) }

// Offered counts the deltas that other peers sent, by what became of them.
type Offered struct {
	Applied uint64 // new here
	Copies  uint64 // here already
	Refused uint64 // dropped: a repair brings them, or they are of a fork
}

// Traffic is what one layer of replication cost.
type Traffic struct {
	Layer          string // "push", "vector", "digest", "message" or "repair"
	Sent, Received uint64 // bytes of frames
	FramesSent     uint64
	FramesReceived uint64
}

// repairLayer is beside the layers of gossip: comparing cells, over streams of its own.
const repairLayer = gossip.Layers

// traffic counts frames and their bytes by layer.
type traffic [gossip.Layers + 1]struct{ frames, bytes atomic.Uint64 }

func (t *traffic) add(layer gossip.Layer, bytes int) {
	t[layer].frames.Add(1)
	t[layer].bytes.Add(uint64(bytes))
}

func (t *traffic) total() (bytes uint64) {
	for i := range t {
		bytes += t[i].bytes.Load()
	}
	return bytes
}

// counters are a space's statistics.
type counters struct {
	commits, deltas        atomic.Uint64
	transactions, failed   atomic.Uint64
	commitTimes, syncTimes latency.Histogram
	sent, received         traffic
	mismatches, rebuilds   atomic.Uint64
	repairs                atomic.Uint64
	entriesIn, entriesOut  atomic.Uint64 // of repairs
}

// Metrics returns the peer's figures: of all its spaces together, but for what Status says of
// "default" alone. It costs what Status does, and a read of the log.
func (p *Peer) Metrics() (Metrics, error) {
	unopened, err := p.unopened()
	if err != nil {
		return Metrics{}, err
	}
	told, err := p.reports(true)
	if err != nil {
		return Metrics{}, err
	}
	m := Metrics{Status: p.status(told, unopened), Messages: p.exchange.figures()}
	for layer := range gossip.Layers {
		m.Traffic = append(m.Traffic, Traffic{Layer: gossip.Layer(layer).String()})
	}
	m.Traffic = append(m.Traffic, Traffic{Layer: "repair"})
	now := p.now()
	for _, of := range told {
		m.add(&of, now)
	}
	if p.net != nil {
		m.RepairsServed = p.net.sources.Served()
		m.addTraffic(&p.net.own.sent, &p.net.own.received)
	}
	return m, nil
}

// add adds the figures of a space.
func (m *Metrics) add(r *report, now time.Time) {
	c, f := &r.of.counters, &r.figures
	m.Transactions += c.transactions.Load()
	m.Failed += c.failed.Load()
	m.CommitTimes.add(Times(c.commitTimes.Counts()))
	m.SyncTimes.add(Times(c.syncTimes.Counts()))
	m.Rebuilds += c.rebuilds.Load()
	m.EntriesAdded += c.entriesIn.Load()
	m.EntriesRemoved += c.entriesOut.Load()
	m.Queue += len(r.of.jobs) + len(r.of.updates)
	m.LogRecords += f.LogRecords
	if !f.OldestLogged.IsZero() {
		m.LogAge = max(m.LogAge, now.Sub(f.OldestLogged))
	}
	m.Waiting += f.Waiting
	m.NotAdopted += f.NotAdopted
	m.Offered.Applied += f.Deltas.Applied
	m.Offered.Copies += f.Deltas.Copies
	m.Offered.Refused += f.Deltas.Refused
	m.Stable += r.stable
	m.Sweeping += r.sweeping
	m.addTraffic(&c.sent, &c.received)
}

func (m *Metrics) addTraffic(sent, received *traffic) {
	for i := range m.Traffic {
		t := &m.Traffic[i]
		t.Sent += sent[i].bytes.Load()
		t.Received += received[i].bytes.Load()
		t.FramesSent += sent[i].frames.Load()
		t.FramesReceived += received[i].frames.Load()
	}
}

func (t *Times) add(o Times) {
	for i, n := range o.Buckets {
		t.Buckets[i] += n
	}
	t.Total += o.Total
	t.Sum += o.Sum
}
