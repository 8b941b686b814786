package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/internal/secret"
)

func mustInvite(t *testing.T, p *Peer) Invitation {
	t.Helper()
	inv, err := p.Invite()
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// guestConfig is that of a host that knows nothing of the cluster.
func (c *cluster) guestConfig() Config {
	cfg := c.config(filepath.Join(c.t.TempDir(), "data"))
	cfg.ClusterKey, cfg.Join = "", nil
	return cfg
}

func TestAnInvitedHostJoinsWithTheTokenAlone(t *testing.T) {
	c := newCluster(t)
	log := &memory{}
	first := c.config(t.TempDir())
	first.Logger = log.logger()
	a := c.start(first)
	count(t, a, 1)
	inv := mustInvite(t, a)
	cfg, err := Join(t.Context(), c.guestConfig(), inv.Token)
	if err != nil {
		t.Fatal(err)
	}
	b := c.start(cfg)
	given := "a host was given the cluster's key by an invitation\" peer_id=" + b.Keys().PeerID
	eventually(t, "the log names the host that has joined", func() bool { return log.says(given) })
	c.converge(a, b)
	wantCount(t, b, 1)
	// It is good for one host, and what belongs to a cluster stays there.
	if _, err := Join(t.Context(), c.guestConfig(), inv.Token); !errors.Is(err, ErrInvitation) {
		t.Errorf("used twice: %v", err)
	}
	again := mustInvite(t, a)
	if _, err := Join(t.Context(), cfg, again.Token); err == nil || !strings.Contains(err.Error(), "peerd run goes on") {
		t.Errorf("into a directory that belongs to a cluster: %v", err)
	}
	if _, err = Join(t.Context(), c.guestConfig(), again.Token); err != nil {
		t.Errorf("the invitation that a host with a key tried is gone: %v", err)
	}
	eventually(t, "strangers are let in no more", func() bool { return !a.net.gater.asGuest("anybody") })
}

// TestAHostWhoseFirstStartFailsAfterItJoinedIsNotAlone has its token used, and forgets whom it
// joined.
func TestAHostWhoseFirstStartFailsAfterItJoinedIsNotAlone(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	count(t, a, 1)
	cfg := c.guestConfig()
	joined, err := Join(t.Context(), cfg, mustInvite(t, a).Token)
	if err != nil {
		t.Fatal(err)
	}
	joined.P2P = a.net.places.p2p.String() // a port that is taken
	if b, err := Open(t.Context(), joined); err == nil {
		t.Fatal(b.Close())
	}
	at := a.net.members.Addr()
	cfg.Cut.Block(at)
	b := c.start(cfg)
	eventually(t, "it says whom it does not reach", func() bool {
		problems := mustStatus(t, b).Problems
		return len(problems) == 1 && problems[0].ID == "no-host-reached" && strings.Contains(problems[0].What, at)
	})
	cfg.Cut.Block()
	c.converge(a, b)
	wantCount(t, b, 1)
	if found := mustStatus(t, b).Problems; len(found) > 0 {
		t.Errorf("%+v", found)
	}
}

// TestAHostWhoseTokenIsUsedInVainBeginsNoCluster has the answer lost, and then another token
// brought.
func TestAHostWhoseTokenIsUsedInVainBeginsNoCluster(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	inv := mustInvite(t, a)
	right, err := decodeTicket(inv.Token)
	if err != nil {
		t.Fatal(err)
	}
	a.net.host.SetStreamHandler(joinStream, func(s libnet.Stream) {
		_, _ = readFrame(s, invitationIDSize)
		_ = writeFrame(s, nil)
		_ = proveAsAcceptor(deadlined(s), right.key(), a.net.id, s.Conn().RemotePeer())
		_ = s.Reset()
	})
	cfg := c.guestConfig()
	if _, err := Join(t.Context(), cfg, inv.Token); !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), "ask for another") {
		t.Fatalf("an answer that is lost: %v", err)
	}
	b, err := Open(t.Context(), cfg)
	if err == nil {
		err = b.Close()
	}
	if !errors.Is(err, ErrNoClusterKey) || !strings.Contains(err.Error(), "peerd invite") {
		t.Fatalf("without the key: %v", err)
	}
	a.net.host.SetStreamHandler(joinStream, a.net.acceptGuest)
	joined, err := Join(t.Context(), cfg, mustInvite(t, a).Token)
	if err != nil {
		t.Fatal(err)
	}
	c.converge(a, c.start(joined))
}

// TestATokenIsNotUsedWhereItsAnswerCannotBeStored names a directory that cannot be made.
func TestATokenIsNotUsedWhereItsAnswerCannotBeStored(t *testing.T) {
	c := newCluster(t)
	inv := mustInvite(t, c.add())
	cfg := c.guestConfig()
	if err := os.Symlink("nowhere/at/all", cfg.Dir); err != nil {
		t.Skip(err)
	}
	if _, err := Join(t.Context(), cfg, inv.Token); err == nil || errors.Is(err, ErrInvitation) {
		t.Fatalf("a directory that cannot be made: %v", err)
	}
	if _, err := Join(t.Context(), c.guestConfig(), inv.Token); err != nil {
		t.Errorf("the token is used up: %v", err)
	}
}

// TestGuessesEndAnInvitation tries secrets with the invitation's id, and ids.
func TestGuessesEndAnInvitation(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	inv := mustInvite(t, a)
	right, err := decodeTicket(inv.Token)
	if err != nil {
		t.Fatal(err)
	}
	try := func(change func(*ticket)) error {
		wrong := right
		change(&wrong)
		cfg := c.guestConfig()
		_, err := Join(t.Context(), cfg, wrong.encode())
		if _, statErr := os.Stat(cfg.Dir); !errors.Is(statErr, os.ErrNotExist) {
			t.Errorf("a join that failed left %s", names(t, cfg.Dir))
		}
		return err
	}
	if err := try(func(w *ticket) { w.id[0]++ }); !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), "ask for another") {
		t.Errorf("with another id: %v", err)
	}
	own := secret.NewHostKey()
	text, err := peerIDOf(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	other, err := libpeer.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := try(func(w *ticket) { w.host = other }); !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), "another host answers") {
		t.Errorf("at another host: %v", err)
	}
	for range invitationTries {
		if err := try(func(w *ticket) { w.secret[3]++ }); !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), "does not know its secret") {
			t.Errorf("with another secret: %v", err)
		}
	}
	if err := try(func(*ticket) {}); !errors.Is(err, ErrInvitation) {
		t.Errorf("the right secret after %d wrong ones: %v", invitationTries, err)
	}
	eventually(t, "the invitation is over", func() bool { return !a.net.gater.asGuest("anybody") })
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestInvitationsAreOverAfterATimeAndTriedSlowly(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	first := mustInvite(t, a)
	if left := time.Until(first.Expires); left > MaxInvitationAge || left < MaxInvitationAge-time.Minute {
		t.Errorf("good for %v", left)
	}
	right, err := decodeTicket(first.Token)
	if err != nil {
		t.Fatal(err)
	}
	for range MaxInvitations - 1 {
		mustInvite(t, a)
	}
	if _, err := a.Invite(); !errors.Is(err, ErrTooManyInvitations) {
		t.Errorf("one more than can be: %v", err)
	}
	var g guests
	g.invited = map[[invitationIDSize]byte]*invitation{right.id: {ticket: right, expires: noon.Add(MaxInvitationAge)}}
	if inv, _ := g.try(right.id, noon.Add(MaxInvitationAge-time.Second)); inv == nil || !g.use(inv) || g.use(inv) {
		t.Error("it cannot be used at the last moment, or twice")
	}
	g.invited[right.id] = &invitation{ticket: right, expires: noon.Add(MaxInvitationAge)}
	if inv, problem := g.try(right.id, noon.Add(MaxInvitationAge)); inv != nil || !strings.Contains(problem, "older than 15 minutes") {
		t.Errorf("after its time: %q", problem)
	}
	at, refused := noon.Add(time.Hour), 0
	for range 2 * guestBurst {
		if _, problem := g.try([invitationIDSize]byte{1}, at); strings.Contains(problem, "too many attempts") {
			refused++
		}
	}
	if refused != guestBurst {
		t.Errorf("of %d attempts at one moment %d are refused unseen, want %d", 2*guestBurst, refused, guestBurst)
	}
	if _, problem := g.try([invitationIDSize]byte{1}, at.Add(guestPause)); strings.Contains(problem, "too many attempts") {
		t.Error("one a pause is refused")
	}
}

// TestAnOpenInvitationOpensNothingElse has a stranger connect, and ask for data.
func TestAnOpenInvitationOpensNothingElse(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	stranger, err := guestHost(secret.NewHostKey())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	at := libpeer.AddrInfo{ID: a.net.id, Addrs: a.net.addrs(nil)}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := stranger.Connect(ctx, at); err == nil {
		if _, err := stranger.NewStream(ctx, a.net.id, joinStream); err == nil {
			t.Error("a stranger has a stream though nobody is invited")
		}
	}
	mustInvite(t, a)
	eventually(t, "a stranger may connect", func() bool {
		if stranger.Connect(ctx, at) != nil {
			return false
		}
		s, err := stranger.NewStream(ctx, a.net.id, joinStream) // what was refused may look connected for a moment
		if err != nil {
			return false
		}
		_ = s.Reset()
		return true
	})
	for _, kind := range []string{syncStream, pullStream, keyStream} {
		key := secret.New() // it knows the name of the protocol, and not the key
		s, err := stranger.NewStream(ctx, a.net.id, streamID(kind, a.net.keys.ring().InUse()))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := proveAsDialer(deadlined(s), key, stranger.ID(), a.net.id); err == nil {
			t.Errorf("a stranger opened a stream of kind %s", kind)
		}
	}
	a.net.partFromStrangers(time.Now().Add(guestTime))
	eventually(t, "a stranger who has been there for long has to go", func() bool { return !connected(stranger, a) })
}

func connected(stranger host.Host, p *Peer) bool {
	return stranger.Network().Connectedness(p.net.id) == libnet.Connected
}

// visit connects a stranger to a peer at which an invitation is open.
func visit(t *testing.T, p *Peer) host.Host {
	t.Helper()
	stranger, err := guestHost(secret.NewHostKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	if err := stranger.Connect(t.Context(), libpeer.AddrInfo{ID: p.net.id, Addrs: p.net.addrs(nil)}); err != nil {
		t.Fatal(err)
	}
	return stranger
}

// TestAStrangerStaysNoLongerThanItsInvitation has guests fail while the invitation is open, and one that was let in at
// the last moment, of which nothing is noted.
func TestAStrangerStaysNoLongerThanItsInvitation(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	mustInvite(t, a)
	wrong := visit(t, a)
	s, err := wrong.NewStream(t.Context(), a.net.id, joinStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(s, make([]byte, invitationIDSize)); err != nil {
		t.Fatal(err)
	}
	if problem, err := readFrame(s, maxKeyProblem); err != nil || len(problem) == 0 {
		t.Errorf("an id that is none is answered with %q, %v", problem, err)
	}
	_ = s.Reset()
	began := time.Now()
	eventually(t, "who has failed has to go", func() bool { return !connected(wrong, a) })
	if took := time.Since(began); took > guestTime/2 {
		t.Errorf("it stayed for %v", took)
	}

	last := visit(t, a)
	a.net.guests.mu.Lock()
	clear(a.net.guests.invited)
	a.net.guests.mu.Unlock()
	a.net.gater.mu.Lock()
	clear(a.net.gater.guests)
	a.net.gater.mu.Unlock()
	eventually(t, "with the invitation all guests go", func() bool { return !connected(last, a) })
}

// TestTheKeyReachesAGuestThatReadsSlowly reads the answer when the invitation that it used is over.
func TestTheKeyReachesAGuestThatReadsSlowly(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	right, err := decodeTicket(mustInvite(t, a).Token)
	if err != nil {
		t.Fatal(err)
	}
	guest := visit(t, a)
	s, err := guest.NewStream(t.Context(), a.net.id, joinStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(s, right.id[:]); err != nil {
		t.Fatal(err)
	}
	if problem, err := readFrame(s, maxKeyProblem); err != nil || len(problem) > 0 {
		t.Fatalf("%s, %v", problem, err)
	}
	if err := proveAsDialer(s, right.key(), guest.ID(), a.net.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the invitation is over", func() bool { return !a.net.gater.asGuest("anybody") })
	a.net.partFromStrangers(time.Now())
	if ring, err := readFrame(s, maxRing); err != nil || string(ring) != string(a.net.keys.ring().Expose()) {
		t.Errorf("it reads %d bytes, %v", len(ring), err)
	}
	_ = s.Reset()
	eventually(t, "it has to go then", func() bool { return !connected(guest, a) })
}

func TestAFewGuestsAtOnceAreLetIn(t *testing.T) {
	g := newGater(slog.New(slog.DiscardHandler), nil)
	if g.asGuest("0") {
		t.Error("a stranger is let in though nobody is invited")
	}
	g.beginGuests()
	in := 0
	for i := range 10 * guestsAtOnce {
		if id := libpeer.ID(fmt.Sprint(i)); g.asGuest(id) {
			in++
		}
	}
	if in != guestsAtOnce || !g.asGuest("0") {
		t.Errorf("%d at once", in)
	}
	now := time.Now().Add(guestTime)
	g.forgetGuests(map[libpeer.ID]bool{"0": true}, now.Add(time.Second))
	if len(g.guests) != 1 || !g.asGuest("new") {
		t.Errorf("%d are left of which one is there", len(g.guests))
	}
}

func TestAWrongTokenIsTold(t *testing.T) {
	good := mustInvite(t, newCluster(t).add()).Token
	for _, token := range []string{"", "x", good[:len(good)-1], good[1:], strings.ToLower(good), good + good, "%%%"} {
		if _, err := Join(t.Context(), Config{Dir: t.TempDir()}, token); !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), "whole line") {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func FuzzTicket(f *testing.F) {
	f.Add("")
	f.Add("lgLZ")
	f.Fuzz(func(t *testing.T, token string) {
		ticket, err := decodeTicket(token)
		if err != nil {
			return
		}
		if again, err := decodeTicket(ticket.encode()); err != nil || again.id != ticket.id || again.host != ticket.host {
			t.Errorf("%q is not read again: %v", token, err)
		}
	})
}
