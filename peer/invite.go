package peer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/internal/wire"
)

// An invitation lets one host fetch the cluster's key. Its token has the id of the host that
// invites, so that no other can be taken for it, its addresses, and a secret that both sides
// prove to know, as they prove the cluster's key on other streams. While an invitation is open,
// and then alone, strangers may connect: for some seconds, a few at a time, and every other
// stream still asks them for the cluster's key. See docs/decisions/0034.

// Limits of invitations.
const (
	// MaxInvitationAge is how long an invitation is good for.
	MaxInvitationAge = 15 * time.Minute
	// MaxInvitations is how many are open at a host at most.
	MaxInvitations = 16

	invitationTries = 5                // attempts to use one; then it ends
	guestsAtOnce    = 16               // strangers that are connected
	guestTime       = 10 * time.Second // for which one may be
	guestBurst      = 10               // attempts with any invitation at once; then
	guestPause      = time.Second      // one each so often
	joinTimeout     = 20 * time.Second // for who uses one, in all

	invitationIDSize     = 8
	invitationSecretSize = 16
	maxRing              = 4 << 10
)

// joinStream is the protocol on which a token is used:
//
//	guest → the invitation's id
//	host  → what keeps it from being used; nothing if it can be
//	both  → proofs of the secret, as on other streams; then
//	host  → the cluster's keys
const joinStream protocol.ID = "/peerd/join/2"

var (
	// ErrInvitation is wrapped by the errors of Join about a token that is none, or cannot be used
	// any more.
	ErrInvitation = errors.New("the invitation cannot be used")
	// ErrTooManyInvitations is returned by Invite beyond MaxInvitations.
	ErrTooManyInvitations = errors.New("as many invitations are open here as can be: use one, or wait until one is over")
)

// Invitation lets one host join. Its JSON is what peerd invite is answered.
type Invitation struct {
	Token   string    `json:"token"` // for Join; whoever has it first is a member
	Expires time.Time `json:"expires"`
	Addr    string    `json:"addr"` // of this host, which the other one must reach
}

// Invite opens an invitation at this peer, for one host and MaxInvitationAge: see Join. The error is
// ErrTooManyInvitations if MaxInvitations are open, or ErrClosed; an Offline peer invites nobody.
func (p *Peer) Invite() (Invitation, error) {
	n := p.net
	if n == nil {
		return Invitation{}, errors.New("this peer is offline: it has no cluster")
	}
	if n.ctx.Err() != nil {
		return Invitation{}, ErrClosed
	}
	now := time.Now()
	t := ticket{host: n.id, gossip: n.members.Addr(), data: n.addrs(nil)}
	_, _ = rand.Read(t.id[:]) // never fails
	_, _ = rand.Read(t.secret[:])
	if err := n.openInvitation(t, now); err != nil {
		return Invitation{}, err
	}
	return Invitation{Token: t.encode(), Expires: now.Add(MaxInvitationAge).UTC().Truncate(time.Second), Addr: t.gossip}, nil
}

// ticket is what a token holds.
type ticket struct {
	host   libpeer.ID
	gossip string         // its address for membership
	data   []ma.Multiaddr // its addresses for streams
	id     [invitationIDSize]byte
	secret [invitationSecretSize]byte
}

// key returns the key that both sides prove to have.
func (t *ticket) key() secret.Key {
	sum := sha256.Sum256(append([]byte("peerd invitation "), t.secret[:]...))
	key, _ := secret.FromBytes(sum[:]) // as good as never the zero key, which is refused
	return key
}

const (
	ticketFormat = 2
	maxTicket    = 2 << 10 // bytes of a token
)

func (t *ticket) encode() string {
	data := wire.Encode(func(w *wire.Writer) {
		w.Array(6)
		w.Uint(ticketFormat)
		w.Bytes([]byte(t.host))
		w.String(t.gossip)
		w.Array(len(t.data))
		for _, a := range t.data {
			w.Bytes(a.Bytes())
		}
		w.Bytes(t.id[:])
		w.Bytes(t.secret[:])
	})
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(data)))
}

var errTicket = fmt.Errorf("%w: that is no token of peerd invite, or a part of it: copy the whole line", ErrInvitation)

func decodeTicket(token string) (t ticket, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token[:min(len(token), maxTicket)])
	if err != nil || len(raw) < 4 {
		return t, errTicket
	}
	data := raw[:len(raw)-4]
	if binary.BigEndian.Uint32(raw[len(data):]) != crc32.ChecksumIEEE(data) {
		return t, errTicket
	}
	err = wire.Decode(data, func(r *wire.Reader) {
		n := r.Array(16)
		if r.Uint() != ticketFormat || n < 6 {
			r.Fail("a token of another format")
			return
		}
		t.host = libpeer.ID(r.String(maxPeerID))
		t.gossip = r.String(maxPeerID)
		for range r.Array(16) {
			if a, err := ma.NewMultiaddrBytes(r.Bytes(maxPeerID)); err == nil {
				t.data = append(t.data, a)
			}
		}
		copy(t.id[:], r.Bytes(invitationIDSize))
		copy(t.secret[:], r.Bytes(invitationSecretSize))
		r.Skip(n - 6)
	})
	if err != nil || t.host.Validate() != nil || len(t.data) == 0 {
		return t, errTicket
	}
	return t, nil
}

// inviter returns the host that invites, as a member. Its key is in its id.
func (t *ticket) inviter() (members.Member, error) {
	key, err := t.host.ExtractPublicKey()
	if err != nil {
		return members.Member{}, errTicket
	}
	public, err := key.Raw()
	m := members.Member{ID: t.host.String(), Label: "?", PublicKey: public, Addr: t.gossip}
	for _, a := range t.data {
		m.P2P = append(m.P2P, a.String())
	}
	return m, err
}

// guests are the invitations that are open here, and who uses them.
type guests struct {
	mu       sync.Mutex
	invited  map[[invitationIDSize]byte]*invitation
	served   bool // strangers are let in
	serving  map[libpeer.ID]bool
	attempts int // of the last moments; one less each guestPause
	counted  time.Time
}

type invitation struct {
	ticket  ticket
	expires time.Time
	tries   int
}

func (n *network) openInvitation(t ticket, now time.Time) error {
	g := &n.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(now)
	if len(g.invited) >= MaxInvitations {
		return ErrTooManyInvitations
	}
	if g.invited == nil {
		g.invited = map[[invitationIDSize]byte]*invitation{}
	}
	g.invited[t.id] = &invitation{ticket: t, expires: now.Add(MaxInvitationAge)}
	if !g.served {
		g.served = true
		n.host.SetStreamHandler(joinStream, n.acceptGuest)
		n.gater.beginGuests()
	}
	return nil
}

// expire ends invitations that are over. g.mu is held.
func (g *guests) expire(now time.Time) {
	for id, inv := range g.invited {
		if !now.Before(inv.expires) {
			delete(g.invited, id)
		}
	}
}

// try begins an attempt to use the invitation with that id. problem is why it may not be: it is
// told to the guest.
func (g *guests) try(id [invitationIDSize]byte, now time.Time) (inv *invitation, problem string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	past := now.Sub(g.counted) / guestPause
	g.counted = g.counted.Add(past * guestPause)
	if g.attempts -= int(past); g.attempts <= 0 {
		g.attempts, g.counted = 0, now
	}
	if g.attempts >= guestBurst {
		return nil, "too many attempts to join: wait for some seconds"
	}
	g.attempts++
	g.expire(now)
	inv = g.invited[id]
	if inv == nil {
		return nil, "it was used, is older than 15 minutes, or was tried too often: ask for another with peerd invite"
	}
	if inv.tries++; inv.tries > invitationTries {
		delete(g.invited, id)
		return nil, fmt.Sprintf("it was tried %d times in vain, and is over: ask for another with peerd invite", invitationTries)
	}
	return inv, ""
}

// use ends an invitation. It returns false if somebody else has.
func (g *guests) use(inv *invitation) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := inv.ticket.id
	there := g.invited[id] == inv
	delete(g.invited, id)
	return there
}

// serve notes that a guest uses an invitation, until done. It returns false if it does so already.
func (g *guests) serve(id libpeer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving[id] {
		return false
	}
	if g.serving == nil {
		g.serving = map[libpeer.ID]bool{}
	}
	g.serving[id] = true
	return true
}

func (g *guests) done(id libpeer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.serving, id)
}

// invites reports whether any invitation is. Once none is, nobody is served any more.
func (n *network) invites(now time.Time) bool {
	g := &n.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(now)
	if len(g.invited) == 0 && g.served {
		g.served = false
		n.host.RemoveStreamHandler(joinStream)
		n.gater.endGuests()
	}
	return g.served
}

// partFromStrangers closes connections of who has no right to one: of guests, once no invitation
// is open or they have been there for long, and of members that were removed or forgotten. It
// looks at the connections themselves: one that was let in at the last moment shows here later.
func (n *network) partFromStrangers(now time.Time) {
	open := n.invites(now)
	there := map[libpeer.ID]bool{}
	for _, conn := range n.host.Network().Conns() {
		id := conn.RemotePeer()
		there[id] = true
		if n.gater.admits(id) || n.guests.isServed(id) || open && n.gater.permits(id) && now.Sub(conn.Stat().Opened) < guestTime {
			continue
		}
		n.spawn(func() { _ = conn.Close() }) // which waits for who does not read
	}
	n.gater.forgetGuests(there, now)
}

func (g *guests) isServed(id libpeer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.serving[id]
}

// acceptGuest takes a stream of a host that was invited, or says so.
func (n *network) acceptGuest(s libnet.Stream) {
	n.spawnFor(s, func() {
		id, addr := s.Conn().RemotePeer(), s.Conn().RemoteMultiaddr().String()
		if !n.guests.serve(id) {
			_ = s.Reset() // one attempt after the other
			return
		}
		defer n.guests.done(id)
		if err := n.serveGuest(deadlined(s)); err != nil {
			n.p.log.Warn("an attempt to join by an invitation failed", "peer_id", id.String(), "addr", addr, "error", err)
		} else {
			n.p.log.Info("a host was given the cluster's key by an invitation", "peer_id", id.String(), "addr", addr)
		}
		_ = s.Reset()
		if !n.gater.admits(id) {
			_ = s.Conn().Close()
		}
	})
}

func (n *network) serveGuest(s libnet.Stream) error {
	asked, err := readFrame(s, invitationIDSize)
	if err != nil {
		return err
	}
	var id [invitationIDSize]byte
	copy(id[:], asked)
	inv, problem := n.guests.try(id, time.Now())
	if err := writeFrame(s, []byte(problem)); err != nil {
		return err
	}
	if inv == nil {
		awaitEnd(s)
		return errors.New(problem)
	}
	if err := proveAsAcceptor(s, inv.ticket.key(), n.id, s.Conn().RemotePeer()); err != nil {
		return fmt.Errorf("the invitation's secret was not proven: %w", err)
	}
	if !n.guests.use(inv) {
		return errors.New("it was used by another host at the same moment")
	}
	if err := writeFrame(s, n.keys.ring().Expose()); err != nil {
		return err
	}
	awaitEnd(s)
	return nil
}

// awaitEnd returns when the other side has ended the stream, as it does when it has read the answer:
// a reset now, or the end of the connection, would overtake that.
func awaitEnd(s libnet.Stream) { _, _ = readFrame(s, 0) }

// Join fetches the cluster's key by a token of Invite at another peer, keeps it in cfg.Dir, beside
// the host's own and with that peer as a known member, for which later starts look, and returns cfg
// with it among those to join: to be given to Open, and kept for Reload. It connects to the peer
// that gave the token and to no other, and neither sends the token nor its secret. The directory
// must not belong to a cluster yet. The error wraps ErrInvitation if another token is needed;
// nothing has changed then, but that the directory may know of that peer. It does where the token
// was used and the answer lost, so that Open begins no other cluster there.
func Join(ctx context.Context, cfg Config, token string) (_ Config, err error) {
	t, err := decodeTicket(token)
	if err != nil {
		return cfg, err
	}
	inviter, err := t.inviter()
	if err != nil {
		return cfg, err
	}
	switch _, err := os.Lstat(filepath.Join(cfg.Dir, clusterKeyFile)); {
	case cfg.Memory, cfg.Dir == "":
		return cfg, errors.New("dir: name a directory for the data: the cluster's key is kept there")
	case cfg.ClusterKey != "":
		return cfg, errors.New("an invitation brings the cluster's key: leave --cluster-key out (Config.ClusterKey)")
	case err == nil:
		return cfg, fmt.Errorf("%s has a cluster's key already, and the invitation is not used: peerd run goes on in that "+
			"cluster; to join another one, name a new directory", cfg.Dir)
	}
	hostKey := filepath.Join(cfg.Dir, hostKeyFile)
	own, err := secret.LoadHostKey(hostKey)
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		own, err = secret.NewHostKey(), nil
	}
	if err != nil {
		return cfg, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	made, used := lookBefore(cfg), false
	made.store = false
	defer func() {
		if err != nil && !used {
			made.remove()
		}
	}()
	if err := rememberInviter(cfg, inviter, &made); err != nil {
		return cfg, err
	}
	ring, used, err := t.fetch(ctx, own)
	if err != nil {
		return cfg, err
	}
	if first { // by its id the other host's log names who was given the cluster's key
		err = own.Create(hostKey)
	}
	if err == nil {
		err = ring.Create(filepath.Join(cfg.Dir, clusterKeyFile))
	}
	if err != nil {
		return cfg, fmt.Errorf("the invitation is used, and the cluster's key cannot be stored: see to that, and ask for another "+
			"with peerd invite: %w", err)
	}
	cfg.Join = append([]string{t.gossip}, cfg.Join...)
	return cfg, nil
}

// rememberInviter makes the host that invites a known member of the directory, before it is asked:
// where that cannot be stored the token is not used, and where the token is used, and the answer
// lost, no cluster is begun.
func rememberInviter(cfg Config, inviter members.Member, made *traces) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	known := filepath.Join(cfg.Dir, knownFile)
	if _, err := os.Lstat(known); errors.Is(err, fs.ErrNotExist) {
		made.files = append(made.files, known)
	}
	return members.Remember(known, peerIDOf, inviter)
}

// fetch uses the token. used says that the other side has, also after an error.
func (t *ticket) fetch(ctx context.Context, own secret.HostKey) (ring secret.Ring, used bool, err error) {
	h, err := guestHost(own)
	if err != nil {
		return ring, false, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.Connect(ctx, libpeer.AddrInfo{ID: t.host, Addrs: t.data}); err != nil {
		return ring, false, t.unreachable(err)
	}
	s, err := h.NewStream(ctx, t.host, joinStream)
	if err != nil {
		return ring, false, t.unreachable(err)
	}
	defer func() { _ = s.Reset() }()
	_ = s.SetDeadline(time.Now().Add(proofTimeout))
	if err := writeFrame(s, t.id[:]); err != nil {
		return ring, false, t.unreachable(err)
	}
	problem, err := readFrame(s, maxKeyProblem)
	if err != nil {
		return ring, false, t.unreachable(err)
	}
	if len(problem) > 0 {
		return ring, false, fmt.Errorf("%w: %s", ErrInvitation, members.Printable(string(problem)))
	}
	if err := proveAsDialer(s, t.key(), h.ID(), t.host); errors.Is(err, errNoProof) {
		return ring, false, fmt.Errorf("%w: the host that invites does not know its secret: copy the whole line", ErrInvitation)
	} else if err != nil {
		return ring, false, t.unreachable(err)
	}
	text, err := readFrame(s, maxRing)
	if err != nil {
		return ring, true, fmt.Errorf("%w: the host that invites ended the connection before it gave the cluster's key: see its "+
			"log, and ask for another with peerd invite", ErrInvitation)
	}
	ring, err = secret.RingFromBytes(text)
	return ring, true, err
}

// unreachable words what kept a guest from asking: libp2p's own text is about its parts.
func (t *ticket) unreachable(err error) error {
	var other sec.ErrPeerIDMismatch
	if errors.As(err, &other) {
		return fmt.Errorf("%w: at %s another host answers than the one that invites", ErrInvitation, t.at())
	}
	return fmt.Errorf("%w: the host that invites does not answer or lets nobody in at %s: is that address reached from here, "+
		"and the invitation open (for one host, and 15 minutes)? peerd invite there gives another", ErrInvitation, t.at())
}

// at returns where the host that invites takes streams, for a person.
func (t *ticket) at() string {
	ip, _ := t.data[0].ValueForProtocol(ma.P_IP4)
	ip6, _ := t.data[0].ValueForProtocol(ma.P_IP6)
	port, _ := t.data[0].ValueForProtocol(ma.P_TCP)
	return net.JoinHostPort(cmp.Or(ip, ip6), port)
}

// guestHost returns a libp2p host that dials and does not listen.
func guestHost(own secret.HostKey) (host.Host, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(own.Private())
	if err != nil {
		return nil, err
	}
	return openHost(key, hostConfig{})
}

// beginGuests lets strangers in, until endGuests.
func (g *gater) beginGuests() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guests = map[libpeer.ID]time.Time{}
}

// endGuests ends that.
func (g *gater) endGuests() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guests = nil
}

// forgetGuests makes room for others in the place of those who are not there any more.
func (g *gater) forgetGuests(there map[libpeer.ID]bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.guests, func(id libpeer.ID, came time.Time) bool {
		return g.allowed[id] || !there[id] && now.Sub(came) > guestTime
	})
}

// asGuest reports whether a stranger is let in as a guest.
func (g *gater) asGuest(id libpeer.ID) bool {
	if !g.permits(id) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, there := g.guests[id]
	if g.guests == nil || !there && len(g.guests) >= guestsAtOnce {
		return false
	}
	if !there {
		g.guests[id] = time.Now()
	}
	return true
}
