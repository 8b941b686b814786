package peer

import (
	"cmp"
	"hash/fnv"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
)

// gater lets in the peers whose signed metadata was seen on the cluster's encrypted gossip, and
// of those only the ones that Config.Allow names, if it names any. It implements libp2p's
// ConnectionGater. Every stream then asks for a proof of the secret as well.
type gater struct {
	log  *slog.Logger
	only map[libpeer.ID]bool // Config.Allow; nil lets in every member

	removed atomic.Pointer[map[string]string] // names of removed members, by ids: see removal.go

	mu        sync.Mutex
	allowed   map[libpeer.ID]bool
	guests    map[libpeer.ID]time.Time // when they came; nil unless an invitation is open: see invite.go
	strangers map[libpeer.ID]time.Time // when they were refused first
	warned    time.Time
}

// newGater returns a gater that lets nobody in yet. only are valid ids.
func newGater(log *slog.Logger, only []string) *gater {
	g := &gater{log: log, strangers: map[libpeer.ID]time.Time{}}
	for _, text := range only {
		if g.only == nil {
			g.only = map[libpeer.ID]bool{}
		}
		if id, err := libpeer.Decode(text); err == nil {
			g.only[id] = true
		}
	}
	return g
}

// permitsText is permits for an id as text; what is none is not let in.
func (g *gater) permitsText(text string) bool {
	id, err := libpeer.Decode(text)
	return err == nil && g.permits(id)
}

// permits reports whether Config.Allow lets a peer in, member or not, and it was not removed.
func (g *gater) permits(id libpeer.ID) bool {
	return (g.only == nil || g.only[id]) && !g.isRemoved(id.String())
}

// allow replaces the set of peers that are let in.
func (g *gater) allow(ids map[libpeer.ID]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowed = ids
	for id, in := range ids {
		if in {
			delete(g.strangers, id)
		}
	}
}

func (g *gater) admits(id libpeer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowed[id]
}

const (
	// warnEvery bounds how often a stranger is logged.
	warnEvery = time.Minute
	// acquaintance is how long a host may be a stranger that only is not known here yet: gossip
	// about a new member may reach it before it reaches us.
	acquaintance = 5 * time.Second
	// maxStrangers bounds the strangers that are remembered.
	maxStrangers = 256
)

// refuse logs a stranger who goes on trying, once a minute at most.
func (g *gater) refuse(why string, id libpeer.ID, addr string) {
	g.mu.Lock()
	first, known := g.strangers[id]
	if !known {
		if len(g.strangers) >= maxStrangers {
			clear(g.strangers)
		}
		first = time.Now()
		g.strangers[id] = first
	}
	quiet := time.Since(g.warned) < warnEvery || time.Since(first) < acquaintance
	if !quiet {
		g.warned = time.Now()
	}
	g.mu.Unlock()
	if !quiet {
		g.log.Warn(why, "peer_id", id.String(), "addr", addr)
	}
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(id libpeer.ID) bool { return g.admits(id) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(libpeer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(libnet.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(dir libnet.Direction, id libpeer.ID,
	addrs libnet.ConnMultiaddrs) bool {
	if g.admits(id) {
		return true
	}
	if dir == libnet.DirInbound {
		if g.asGuest(id) {
			return true
		}
		why := "refused a connection: the host is not a member of this cluster " +
			"(it needs the cluster's key), or is not known here yet"
		switch {
		case g.isRemoved(id.String()):
			why = "refused a connection: the host was removed from the cluster"
		case !g.permits(id):
			why = "refused a connection: the host is not on this one's list of allowed peers"
		}
		g.refuse(why, id, addrs.RemoteMultiaddr().String())
	}
	return false
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(libnet.Conn) (bool, control.DisconnectReason) { return true, 0 }

// rank is where two members stand in each other's order of whom to link with: the lesser comes
// first.
func rank(a, b string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, min(a, b)+"\x00"+max(a, b))
	return h.Sum64()
}

// outranked returns which of its links a peer that has no room gives up for one with newcomer: of
// those that it has not chosen itself the last in its order, as that one is the least likely to
// have chosen this peer. It is "" if newcomer, unless chosen, comes after all of them.
func outranked(self, newcomer string, linked iter.Seq[string], chosen map[string]bool) (last string) {
	var limit uint64
	if !chosen[newcomer] {
		limit = rank(self, newcomer)
	}
	for id := range linked {
		if r := rank(self, id); r > limit && !chosen[id] {
			last, limit = id, r
		}
	}
	return last
}

// maxChosen is how many links a peer opens at most, whatever its spaces need.
const maxChosen = 2 * MaxLinks

// chosen returns those members that there should be a link to.
func (n *network) chosen(all []members.Member) []members.Member {
	return chosen(n.id.String(), n.p.spaceIDs(), n.speaking(n.permitted(all), time.Now()), n.board.lacks)
}

// chosen returns the members that a peer keeps a stream to: for each of the spaces that it holds
// all that hold it too, or in a large cluster those that a hash of both ids puts first, which
// spreads links evenly and stays the same while members do. A host does not pass on what it does
// not hold, so each space needs links of its own; who says to hold all lacks some, which is known
// of those that are linked.
func chosen(self string, spaces []gossip.SpaceID, all []members.Member,
	lacks func(gossip.NeighbourID, gossip.SpaceID) bool) (out []members.Member) {
	alive := slices.DeleteFunc(slices.Clone(all), func(m members.Member) bool { return !m.Alive })
	if len(alive) > MaxLinks {
		ranks := make(map[string]uint64, len(alive))
		for _, m := range alive {
			ranks[m.ID] = rank(self, m.ID)
		}
		slices.SortFunc(alive, func(a, b members.Member) int {
			return cmp.Or(cmp.Compare(ranks[a.ID], ranks[b.ID]), cmp.Compare(a.ID, b.ID))
		})
	}
	holders := make([][]members.Member, len(spaces))
	for i, space := range spaces {
		for _, m := range alive {
			if len(holders[i]) < MaxLinks && m.Holds(space.Short()) && !lacks(gossip.NeighbourID(m.ID), space) {
				holders[i] = append(holders[i], m)
			}
		}
	}
	taken := map[string]bool{}
	for place := range MaxLinks {
		for _, of := range holders {
			if place < len(of) && !taken[of[place].ID] && len(out) < maxChosen {
				taken[of[place].ID] = true
				out = append(out, of[place])
			}
		}
	}
	return out
}
