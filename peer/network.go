package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/secret"
)

// knownFile is the name, in the data directory, of the file of known members.
const knownFile = "members.json"

// knownFile returns the path of the file of known members, or nothing.
func (n *network) knownFile() string {
	if n.p.cfg.Memory {
		return ""
	}
	return filepath.Join(n.p.cfg.Dir, knownFile)
}

// network is a peer's connections to others: the libp2p host, membership, and the goroutines on
// them.
type network struct {
	p       *Peer
	host    host.Host
	id      libpeer.ID
	keys    *keyring
	members *members.Members
	gater   *gater

	places     addresses
	told       netip.Addr // what others are told, as addresses.own returned it; after start owned by followAddress
	advertised atomic.Pointer[[]ma.Multiaddr]

	ctx    context.Context // ends with the network; only for goroutines started here
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	dialing   map[libpeer.ID]bool
	streams   map[libpeer.ID]*link
	protocols []protocol.ID       // of streams that are accepted
	strangers map[string]stranger // members that speak another version, by id
	wanted    map[string]bool     // members that this peer chose to be linked with, by id
	lacking   map[libpeer.ID]*unlinked

	opener     map[libpeer.ID]bool // whether this peer opened the last link, of members alone: see opener.go
	violations map[libpeer.ID]violation

	sources engine.Sources
	guests  guests

	board *board
	own   struct{ sent, received traffic } // of the host's own channel

	clocks      clocks    // owned by keepLinks, as is what follows
	removedSaid time.Time // when it was logged last that this host was removed
	report      atomic.Pointer[members.Report]
}

// openNetwork opens the host and membership. Nothing is accepted before start.
func openNetwork(ctx context.Context, p *Peer) (*network, error) {
	own, cluster, err := p.loadKeys()
	if err != nil {
		return nil, err
	}
	n := &network{
		p: p, keys: newKeyring(p.keys.ClusterKey, cluster), gater: newGater(p.log, p.cfg.Allow),
		dialing: map[libpeer.ID]bool{}, streams: map[libpeer.ID]*link{},
		strangers: map[string]stranger{}, opener: map[libpeer.ID]bool{}, violations: map[libpeer.ID]violation{},
	}
	n.board = newBoard(n)
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if n.id, err = libpeer.Decode(p.keys.PeerID); err != nil {
		return nil, err
	}
	p.exchange = newExchange(p.keys.PeerID)
	if n.places, err = addressesOf(ctx, &p.cfg); err != nil {
		return nil, err
	}
	var sure bool
	n.told, sure = n.places.own(ctx, n.reach(), netip.Addr{})
	if name := n.places.advertise; name != "" && !sure {
		p.log.Warn("the name to advertise is not known here: others are told another address until it is",
			"name", name, "address", n.told)
	}
	if err := n.listen(own); err != nil {
		return nil, err
	}
	if err := n.join(own); err != nil {
		return nil, errors.Join(err, n.host.Close())
	}
	return n, nil
}

// listen opens the libp2p host.
func (n *network) listen(own secret.HostKey) error {
	key, err := crypto.UnmarshalEd25519PrivateKey(own.Private())
	if err != nil {
		return err
	}
	resources, err := resourceManager()
	if err != nil {
		return err
	}
	n.host, err = openHost(key, hostConfig{
		gater: n.gater, resources: resources, addrs: n.addrs, simulated: n.p.cfg.simulated,
	})
	if err != nil {
		return err
	}
	if err := n.listenForData(); err != nil {
		return errors.Join(err, n.host.Close())
	}
	return nil
}

// portTries is how many numbers are tried if any port will do: one that is free for TCP may be
// taken for UDP.
const portTries = 10

// listenForData opens the ports for data. All take the number of the first, which is free to
// choose if it is 0.
func (n *network) listenForData() error {
	chosen := n.places.p2p
	for tries := 1; ; tries++ {
		err := n.listenOnAll()
		if err == nil || chosen.Port() != 0 || tries == portTries {
			return err
		}
		under := n.host.Network()
		under.(interface{ ListenClose(...ma.Multiaddr) }).ListenClose(under.ListenAddresses()...)
		n.places.p2p = chosen
	}
}

func (n *network) listenOnAll() error {
	for i := 0; ; i++ {
		all, quic := n.places.listening()
		if n.p.cfg.simulated == nil {
			all = append(all, quic...)
		} else {
			all = quic
		}
		if i == len(all) {
			return nil
		}
		if err := n.host.Network().Listen(all[i]); err != nil {
			return fmt.Errorf("cannot listen on %s for data (--p2p): %w", n.p.cfg.P2P, err)
		}
		n.places.p2p = netip.AddrPortFrom(n.places.p2p.Addr(), n.port())
	}
}

// port returns the port for data that was taken first.
func (n *network) port() uint16 {
	for _, a := range n.host.Network().ListenAddresses() {
		for _, protocol := range []int{ma.P_TCP, ma.P_UDP} {
			if text, err := a.ValueForProtocol(protocol); err == nil {
				port, _ := strconv.ParseUint(text, 10, 16) // libp2p has parsed it
				return uint16(port)
			}
		}
	}
	return 0
}

// advertise has others told the host's own address, and returns it for membership and for data.
func (n *network) advertise(own netip.Addr) (gossip string, p2p []string) {
	at, data := n.places.tell(own)
	n.advertised.Store(&data)
	for _, a := range data {
		p2p = append(p2p, a.String())
	}
	if own.IsLoopback() && n.places.changes() {
		n.p.log.Warn("this host has no network address yet: others cannot reach it until it has one")
	}
	return at.String(), p2p
}

// reach returns the hosts that this one is to reach: those to join, then those known.
func (n *network) reach() []string {
	if n.members == nil {
		return append(slices.Clone(n.p.cfg.Join), members.KnownAddrs(n.knownFile(), peerIDOf)...)
	}
	out := n.members.Joining()
	for _, alive := range []bool{true, false} {
		for _, m := range n.members.List() {
			if m.Alive == alive {
				out = append(out, m.Addr)
			}
		}
	}
	return out
}

// addrs tells libp2p what others are told; nothing before that is known.
func (n *network) addrs([]ma.Multiaddr) []ma.Multiaddr {
	if a := n.advertised.Load(); a != nil {
		return *a
	}
	return nil
}

const (
	// connRate is how many connections a second are opened to, and accepted from, an address,
	// which many hosts may be behind, after connBurst of them. Each that is alive and not linked
	// is dialled once a second over both transports, and dials this one. libp2p's own limit, one
	// in 5 seconds, is used up by that, so that none gets through once the way is free.
	connRate  = 64
	connBurst = 512
	// maxShaking is how many connections wait for their handshakes, for which libp2p gives 15 s:
	// a stranger who opens all that one address may, and says nothing, leaves as many to others.
	maxShaking = 2 * (connBurst + 15*connRate)
	// leastConns is how many connections over TCP there may be however few files the process may
	// open: else a quarter of those, and half of that while their handshakes are not over. The
	// store ends if it cannot open a file, and needs some of them.
	leastConns = 64
)

// resourceManager bounds what libp2p takes. Hosts behind one address are not limited among each
// other: who is let in is decided by the gater.
func resourceManager() (libnet.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	limits.SystemBaseLimit.Conns = 4 * MaxMembers
	limits.SystemBaseLimit.ConnsInbound = 2 * MaxMembers
	limits.SystemBaseLimit.ConnsOutbound = 2 * MaxMembers
	limits.TransientBaseLimit.ConnsInbound = maxShaking
	limits.TransientBaseLimit.Conns = 2 * maxShaking
	limits.SystemBaseLimit.FD, limits.SystemLimitIncrease.FDFraction = leastConns, 1./2 // of half of all files
	limits.TransientBaseLimit.FD, limits.TransientLimitIncrease.FDFraction = leastConns/2, 1./4
	perHost := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: MaxMembers}}
	perHost6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: MaxMembers}}
	limit := rate.Limit{RPS: connRate, Burst: connBurst}
	rates := &rate.Limiter{SubnetRateLimiter: rate.SubnetLimiter{
		IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
		IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: limit}},
		GracePeriod:      time.Minute,
	}}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()),
		rcmgr.WithMetricsDisabled(), rcmgr.WithLimitPerSubnet(perHost, perHost6),
		rcmgr.WithConnRateLimiters(rates))
}

// join opens membership.
func (n *network) join(own secret.HostKey) error {
	cfg := n.p.cfg
	gossip, p2p := n.advertise(n.told)
	preset := members.LAN
	if cfg.FastGossip {
		preset = members.Fast
	}
	named, err := n.p.removals(n.ctx)
	if err != nil && !errors.Is(err, ErrRebuilding) { // then it is read when it is there again
		return err
	}
	n.gater.removed.Store(&named)
	removed := slices.Collect(maps.Keys(named))
	inUse, accepted := gossipKeys(n.keys.ring())
	with := members.Config{
		ID: n.p.keys.PeerID, IDOf: peerIDOf, PrivateKey: own.Private(), Label: cfg.Name,
		P2P: p2p, Versions: members.Versions{Min: streamVersion, Max: streamVersion},
		Spaces: n.p.advertisedSpaces(),
		Bind:   n.places.gossip.String(), Advertise: gossip, Key: inUse, Accepted: accepted,
		Join: cfg.Join, KnownFile: n.knownFile(), Preset: preset, Now: n.p.now, Log: n.p.log,
		Report:      n.report.Load,
		ForgetAfter: max(0, cfg.ForgetAfter), Removed: removed,
		Blocked: cfg.Cut.blocks,
	}
	if cfg.simulated != nil {
		cfg.simulated.members(&with)
	}
	n.members, err = members.Open(with)
	return err
}

// start lets others in and looks for them.
func (n *network) start() {
	for _, s := range n.p.held() {
		n.board.hold(s)
	}
	n.serveStreams(n.keys.ring())
	n.spawn(n.keepLinks)
	n.spawn(n.keepReport)
	if n.places.changes() {
		n.spawn(n.followAddress)
	}
	told := n.p.advertisedSpaces()
	n.spawn(func() { n.tellSpaces(told) })
}

// tellSpaces tells the other members what this host holds, whenever that is not what they were
// told.
func (n *network) tellSpaces(told []uint32) {
	for {
		changed := n.p.changes.wait()
		if now := n.p.advertisedSpaces(); !slices.Equal(now, told) {
			told = now
			if err := n.members.SetSpaces(now); err != nil {
				n.p.log.Error("cannot tell the other members which spaces are held here", "error", err)
			}
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}

// spawn runs fn in a goroutine that close waits for.
func (n *network) spawn(fn func()) { n.wg.Go(fn) }

// close ends all streams and goroutines.
func (n *network) close() {
	n.keys.changing.Lock() // what changes the keys ends before, or does not begin
	n.mu.Lock()
	n.cancel()
	n.mu.Unlock()
	n.keys.changing.Unlock()
	n.serveStreams(secret.Ring{})
	// Connections go before the host, which would wait for what is said on them: identification, to
	// one that is gone.
	if err := errors.Join(n.members.Close(), n.host.Network().Close(), n.host.Close()); err != nil {
		n.p.log.Warn("closing the network", "error", err)
	}
	n.wg.Wait()
}

// relinkEvery is how often missing links are looked for, if membership does not change.
const relinkEvery = time.Second

// keepLinks keeps a stream to each peer that there should be one to.
func (n *network) keepLinks() {
	every := relinkEvery
	if n.p.cfg.FastGossip {
		every /= 10
	}
	for {
		cut := n.p.cfg.Cut.wait()
		n.relink()
		n.partFromStrangers(time.Now())
		n.closeIdle(time.Now())
		n.sayRemoved()
		n.watchClocks()
		select {
		case <-n.ctx.Done():
			return
		case <-n.members.Changed():
		case <-n.keys.changed:
		case <-cut:
		case <-beat.After(every):
		}
	}
}

// relink opens what is missing, moves what is silent, and closes what is blocked, or silent and
// dead.
func (n *network) relink() {
	all := n.members.List()
	allowed := make(map[libpeer.ID]bool, len(all))
	for _, m := range all {
		id, err := libpeer.Decode(m.ID)
		if err != nil {
			continue
		}
		blocked := n.p.cfg.Cut.blocks(m.Addr) || !n.gater.permits(id)
		allowed[id] = !blocked
		if (blocked || !m.Alive && n.silent(id)) && n.host.Network().Connectedness(id) == libnet.Connected {
			// What waits in the connection to a member that does not answer would be sent again,
			// after the network is back, only when TCP's backoff lets it. Its farewell takes a
			// while.
			n.spawn(func() { _ = n.host.Network().ClosePeer(id) })
		}
	}
	n.gater.allow(allowed)
	wanted := n.chosen(all)
	n.noteLinks(wanted, time.Now())
	for _, m := range wanted {
		id, err := libpeer.Decode(m.ID)
		if err != nil || !allowed[id] {
			continue
		}
		keys, there, silent := n.keysToDial(id)
		switch {
		case silent:
			n.spawn(func() { n.move(there, m.P2P, keys) })
		case keys != nil:
			n.spawn(func() { n.dialSync(id, m.P2P, keys, there) })
		}
	}
}

// idleAfter is how old a connection is that is closed if nothing runs over it.
const idleAfter = time.Minute

// closeIdle closes connections that nothing runs over, nor is to: of a change of the key, or of a
// link that ended.
func (n *network) closeIdle(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.host.Network().Conns() {
		id := c.RemotePeer()
		used := n.streams[id] != nil || n.dialing[id] || n.wanted[id.String()] || len(c.GetStreams()) > 0
		if !used && now.Sub(c.Stat().Opened) > idleAfter {
			n.spawn(func() { _ = c.Close() })
		}
	}
}

// permitted returns the members that Config.Allow lets in.
func (n *network) permitted(all []members.Member) []members.Member {
	return slices.DeleteFunc(slices.Clone(all), func(m members.Member) bool { return !n.gater.permitsText(m.ID) })
}

// linked reports whether a stream to a peer is open.
func (n *network) linked(id libpeer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.streams[id] != nil
}

// isLink reports whether a link is the one to its peer.
func (n *network) isLink(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.streams[l.peer] == l
}

// keysToDial returns the keys to open a stream with, best first, and notes that it is opened; nil
// if none is missing that this peer is to open: see opener.go. A stream that was opened with a key
// that is no longer in use is replaced by one with the key that is, once, and stays until then: it
// is returned. So is one that is silent, to be moved.
func (n *network) keysToDial(id libpeer.ID) (keys []secret.Key, there *link, silent bool) {
	ring := n.keys.ring()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return nil, nil, false
	}
	if l := n.streams[id]; l != nil {
		if !l.moving && n.toMove(l) {
			l.moving = true
			return ring.Keys(), l, true
		}
		if l.key == ring.InUse() || l.renewed || l.moving || n.id > id {
			return nil, nil, false
		}
		l.renewed, n.dialing[id] = true, true
		return []secret.Key{ring.InUse()}, l, false
	}
	lacking := n.lacking[id]
	if n.dialing[id] || n.inPeace(id) != nil || lacking == nil || !n.opens(id, lacking.since) {
		return nil, nil, false
	}
	n.dialing[id] = true
	return ring.Keys(), nil, false
}

// neighbourID is what the core calls a peer.
func neighbourID(id libpeer.ID) gossip.NeighbourID { return gossip.NeighbourID(id.String()) }
