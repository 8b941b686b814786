package peer

import (
	"fmt"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// Status describes a peer at one moment. What it says of data is about the space "default", and zero if that is not
// held; Spaces has all. Its JSON is the daemon's /v1/status.
type Status struct {
	Name string `json:"name"`
	SpaceStatus
	PeerID string `json:"peer_id"`
	// Ready says that all spaces are, and Reason which of them is not, and why.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Spaces are those that this host holds, by name.
	Spaces []SpaceStatus `json:"spaces"`

	ClusterKey   string   `json:"cluster_key"`   // id of the key in use; it is no secret
	AcceptedKeys []string `json:"accepted_keys"` // ids of the others that are accepted

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
	// ClockWrong says that most members' clocks are off, seen from here: then it is this host's that
	// is.
	ClockWrong bool `json:"clock_wrong"`
}

// SpaceStatus describes a space of a peer at one moment.
type SpaceStatus struct {
	Space   string `json:"space"`
	Replica string `json:"replica"` // the id under which this start writes, or will
	// VersionVector maps the id of each replica to how many of its mutations are here, but for those that are left
	// out because they write no more.
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

	Neighbours    int    `json:"neighbours"`     // members with which the space is exchanged now
	Commits       uint64 `json:"commits"`        // commit groups, since the peer was opened
	Deltas        uint64 `json:"deltas"`         // transactions that wrote, here and elsewhere, since then
	BytesSent     uint64 `json:"bytes_sent"`     // to other peers, in frames
	BytesReceived uint64 `json:"bytes_received"` // from other peers, in frames
	Repairs       uint64 `json:"repairs"`        // of this peer by comparing cells, since then
	Mismatches    uint64 `json:"mismatches"`     // digests with the same context and another root
	Forks         []Fork `json:"forks"`          // replicas whose mutations were issued twice
}

// Fork is a replica whose writes exist in two versions. Nothing is exchanged with the peers that
// have the other one.
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
	RTTms  float64   `json:"rtt_ms"`
	// ClockOffsetMs is how far its clock is ahead of the one here, in milliseconds, and ClockErrorMs
	// by how much that may be wrong, either way; 0 and 0 before it is measured.
	ClockOffsetMs float64 `json:"clock_offset_ms"`
	ClockErrorMs  float64 `json:"clock_error_ms"`
	Linked        bool    `json:"linked"` // whether a stream is open
	// Problem says why there can be no stream: the member speaks another version of the protocol.
	// Empty else.
	Problem string `json:"problem,omitempty"`
	// TheyLack and WeLack count mutations that the member has not and we have, and the other way
	// round, in all spaces that both hold, as far as is known; without a link 0.
	TheyLack uint64 `json:"they_lack"`
	WeLack   uint64 `json:"we_lack"`
}

// Status returns a description of the peer.
func (p *Peer) Status() (Status, error) {
	s := Status{Name: p.cfg.Name, Members: []Member{}, AcceptedKeys: []string{}, ClockSkewed: []string{},
		Spaces: []SpaceStatus{}, Ready: true}
	s.VersionVector, s.Forks = map[string]uint64{}, []Fork{}
	lacks := map[string]lack{}
	for _, held := range p.held() {
		told, err := ask(held, (*loop).tell)
		if err != nil {
			if held.ended.Load() != nil {
				continue // it was dropped meanwhile
			}
			return Status{}, err
		}
		one := told.describe(held)
		s.Spaces = append(s.Spaces, one)
		s.add(one, told, lacks)
	}
	s.StoreBytes = p.store.Size()
	s.FreeBytes, s.MinFreeBytes = p.disk.free.Load(), p.disk.needed.Load()
	if p.net != nil {
		s.BytesSent += p.net.own.sent.total()
		s.BytesReceived += p.net.own.received.total()
		p.net.describe(&s, lacks)
	}
	return s, nil
}

// lack counts mutations of all spaces.
type lack struct{ theirs, ours uint64 }

// add takes a space into account. lacks has those of neighbours, by peer id.
func (s *Status) add(one SpaceStatus, told told, lacks map[string]lack) {
	sums := [...]uint64{s.Commits + one.Commits, s.Deltas + one.Deltas, s.BytesSent + one.BytesSent,
		s.BytesReceived + one.BytesReceived, s.Repairs + one.Repairs, s.Mismatches + one.Mismatches}
	if one.Space == DefaultSpace {
		s.SpaceStatus = one
	}
	s.Commits, s.Deltas, s.BytesSent = sums[0], sums[1], sums[2]
	s.BytesReceived, s.Repairs, s.Mismatches = sums[3], sums[4], sums[5]
	s.LogBytes = max(s.LogBytes, told.logBytes)
	if s.Ready && !one.Ready {
		s.Ready, s.Reason = false, fmt.Sprintf("space %s: %s", one.Space, one.Reason)
	}
	for id, theirs := range told.known {
		l := lacks[id]
		l.theirs += theirs.Missing(told.seen)
		l.ours += told.seen.Missing(theirs)
		lacks[id] = l
	}
}

// told is what the commit loop tells for a Status.
type told struct {
	status   SpaceStatus
	logBytes int64
	seen     crdt.VersionVector
	listed   crdt.VersionVector            // its short form
	known    map[string]crdt.VersionVector // of neighbours, by peer id
}

func (l *loop) tell() told {
	seen, _ := l.engine.Context()
	context, root, settled := l.engine.Digest()
	keys, cells := l.engine.Counts()
	s := SpaceStatus{Space: l.s.name, VersionVector: map[string]uint64{}, Forks: forksOf(l.engine.Forks()),
		Replica: l.engine.ID().String(), ContextHash: context.String(), Root: root.String(), Settled: settled,
		Keys: keys, Cells: cells, Neighbours: len(l.links)}
	if why := l.readiness(); why != nil {
		s.Reason = why.Error()
	}
	known := map[string]crdt.VersionVector{}
	for id := range l.links {
		if v, greeted := l.engine.Known(id); greeted {
			known[string(id)] = v.Clone()
		}
	}
	return told{s, l.engine.LogBytes(), seen.Clone(), l.engine.Vector().Clone(), known}
}

// describe completes what the loop told.
func (t told) describe(held *space) SpaceStatus {
	s := t.status
	s.Ready = s.Reason == ""
	for id, n := range t.listed {
		s.VersionVector[id.String()] = n
	}
	s.Replicas, s.Mutations = len(t.seen), crdt.VersionVector{}.Missing(t.seen)
	c := &held.counters
	s.Commits, s.Deltas = c.commits.Load(), c.deltas.Load()
	s.BytesSent, s.BytesReceived = c.sent.total(), c.received.total()
	s.Repairs, s.Mismatches = c.repairs.Load(), c.mismatches.Load()
	return s
}

// Status describes the space. One that nobody has written to has no more than a name, and is ready.
func (s *Space) Status() (SpaceStatus, error) {
	held, err := s.here()
	if err != nil || held == nil {
		return SpaceStatus{Space: s.name, VersionVector: map[string]uint64{}, Forks: []Fork{}, Settled: true, Ready: true}, err
	}
	told, err := ask(held, (*loop).tell)
	if err != nil {
		return SpaceStatus{}, err
	}
	return told.describe(held), nil
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
	all := n.members.List()
	s.ClockSkewed, s.ClockWrong = namesOf(skewed(all, n.p.skewLimit())), clockWrong(all, n.p.skewLimit())
	for _, m := range all {
		out := Member{
			Name: m.Label, PeerID: m.ID, Addr: m.Addr, Alive: m.Alive, Since: m.Since,
			RTTms: milliseconds(m.RTT), ClockOffsetMs: milliseconds(m.ClockOffset),
			ClockErrorMs: milliseconds(m.ClockError), Problem: n.problemOf(m, time.Now()),
		}
		if id, err := libpeer.Decode(m.ID); err == nil {
			out.Linked = n.linked(id)
		}
		out.TheyLack, out.WeLack = lacks[m.ID].theirs, lacks[m.ID].ours
		s.Members = append(s.Members, out)
	}
}
