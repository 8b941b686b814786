package peer

import (
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
)

// Of two peers one opens the link: who opened the last one, or else the one with the smaller id. The
// other does so if that does not help for dialPatience, as the first may not reach it. Whoever has
// dialed a connection opens the link on it. Where both have opened one all the same, at one moment,
// both keep that of the smaller id.

const (
	// dialPatience is how long a peer waits for the other one to open the link.
	dialPatience = 5 * time.Second
	// linkSettles is for how long a link may be one of two that were opened at one moment. One that
	// comes later is in the place of one that does not work.
	linkSettles = 2 * time.Second
)

// opens reports whether this peer is to open the link to another, which has had none since then.
// n.mu is held.
func (n *network) opens(id libpeer.ID, since time.Time) bool {
	first, known := n.opener[id]
	if !known {
		first = n.id < id
	}
	return first || time.Since(since) >= dialPatience
}

// leaves reports whether the other peer has dialed the only connection a moment ago, and will open
// the link on it.
func (n *network) leaves(id libpeer.ID) bool {
	young := false
	for _, c := range n.host.Network().ConnsToPeer(id) {
		if c.Stat().Direction == libnet.DirOutbound {
			return false
		}
		young = young || time.Since(c.Stat().Opened) < dialPatience
	}
	return young
}

// taken reports whether there is another link to a peer than the one that is to be replaced.
func (n *network) taken(id libpeer.ID, replaces *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.streams[id]
	return l != nil && l != replaces
}

// byLesser reports whether the peer with the smaller id has opened the link.
func (l *link) byLesser() bool { return l.dialed == (l.n.id < l.peer) }

// yields reports whether of two links to one peer the later one goes. Both peers say the same of
// two that were opened at one moment, whichever came first to each.
func (l *link) yields(old *link) bool {
	return old != nil && old.byLesser() && !l.byLesser() && l.began.Sub(old.began) < linkSettles
}
