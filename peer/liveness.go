package peer

import (
	"context"
	"slices"
	"time"

	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/internal/secret"
)

// A link is watched by itself, whatever the failure detector of membership says: that one errs
// when gossip passes one way only, as to a host behind NAT. Each end sends something every
// beatEvery, or half as late again, an empty frame if there is nothing else, so an end that has
// heard nothing for silentAfter knows that what it sends may not arrive either. It then dials anew,
// over the other transport first: a QUIC connection whose packets are dropped ends by itself only
// after half a minute, while TCP may be open. Only once such a dial has succeeded is the old connection
// closed, and the link moves. A link that is silent is also closed once the failure detector
// agrees; one that carries frames never is.
const (
	beatEvery   = time.Second
	silentAfter = 3 * time.Second

	// secondDialPatience is how much longer the peer with the greater id leaves the second dial to
	// the other.
	secondDialPatience = 2 * time.Second
	// probeTimeout is for each address of a second dial.
	probeTimeout = 3 * time.Second
)

// beat returns how often a link is to say something, and how long it may say nothing.
func (n *network) beat() (every, silent time.Duration) {
	if n.p.cfg.FastGossip {
		return beatEvery / 2, silentAfter / 2
	}
	return beatEvery, silentAfter
}

// Read notes that something was heard.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.stream.Read(b)
	if n > 0 {
		l.listened()
	}
	return n, err
}

// listened notes that the link was heard, or not listened to, until now.
func (l *link) listened() { l.heard.Store(int64(time.Since(l.began))) }

// silence returns for how long nothing was heard while this end listened: by the clock that is never set.
func (l *link) silence() time.Duration {
	if l.deaf.Load() {
		return 0
	}
	return time.Since(l.began) - time.Duration(l.heard.Load())
}

// silent reports whether a peer is linked and its link silent.
func (n *network) silent(id libpeer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, silent := n.beat()
	l := n.streams[id]
	return l != nil && l.silence() > silent
}

// toMove reports whether a link is to be moved by this end. n.mu is held.
func (n *network) toMove(l *link) bool {
	_, patience := n.beat()
	if n.id > l.peer {
		patience += secondDialPatience
	}
	return l.silence() > patience
}

// move replaces a silent link by one over a connection that works, if there is one.
func (n *network) move(l *link, addrs []string, keys []secret.Key) {
	works := n.probe(l, addrs)
	n.mu.Lock()
	if works == nil || n.streams[l.peer] != l || !n.toMove(l) {
		l.moving = false
		n.mu.Unlock()
		return
	}
	n.dialing[l.peer] = true
	n.mu.Unlock()
	n.p.log.Warn("a link is silent and moves to another connection", "peer_id", l.peer.String(),
		"from", l.stream.Conn().RemoteMultiaddr().String(), "to", works.String())
	_ = n.host.Network().ClosePeer(l.peer)
	n.dialSync(l.peer, addrs, keys, l)
}

// probe connects to a linked peer once more, the transport first that the link does not use, and
// returns an address at which that worked, or nil. libp2p by itself dials nobody that it has a
// connection to.
func (n *network) probe(l *link, addrs []string) (works ma.Multiaddr) {
	dialer, ok := n.host.Network().(interface {
		TransportForDialing(ma.Multiaddr) transport.Transport
	})
	if !ok {
		return nil
	}
	_, err := l.stream.Conn().RemoteMultiaddr().ValueForProtocol(ma.P_TCP)
	overTCP := err == nil
	var first, later []ma.Multiaddr
	for _, s := range addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		if _, err := a.ValueForProtocol(ma.P_TCP); (err == nil) != overTCP {
			first = append(first, a)
		} else {
			later = append(later, a)
		}
	}
	for _, a := range slices.Concat(first, later) {
		if n.connects(dialer.TransportForDialing(a), a, l.peer) {
			return a
		}
	}
	return nil
}

func (n *network) connects(t transport.Transport, a ma.Multiaddr, id libpeer.ID) bool {
	if t == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(n.ctx, probeTimeout)
	defer cancel()
	conn, err := t.Dial(ctx, a, id)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
