package peer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	a := c.add()
	count(t, a, 1)
	inv := mustInvite(t, a)
	cfg, err := Join(t.Context(), c.guestConfig(), inv.Token)
	if err != nil {
		t.Fatal(err)
	}
	b := c.start(cfg)
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
	eventually(t, "a stranger may connect", func() bool { return stranger.Connect(ctx, at) == nil })
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
	if gone := a.net.gater.overstayed(time.Now().Add(guestTime)); len(gone) != 1 || gone[0] != stranger.ID() {
		t.Errorf("of the strangers %v have to go after %v", gone, guestTime)
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
