package peer

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/internal/words"
)

// foreign is a member that serves the streams of one version, and counts what happens to them.
type foreign struct {
	id               libpeer.ID
	connects, opened atomic.Int32
}

// startForeign lets a member join that says in its metadata that it speaks said, and serves
// streams of version serves.
func startForeign(t *testing.T, c *cluster, said, serves uint64) *foreign {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	host, err := openHost(key, hostConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	if err := host.Network().Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
		t.Fatal(err)
	}
	f := &foreign{id: host.ID()}
	host.Network().Notify(&libnet.NotifyBundle{
		ConnectedF: func(libnet.Network, libnet.Conn) { f.connects.Add(1) },
	})
	ring, err := secret.Load(c.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{syncStream, pullStream, keyStream} {
		id := protocol.ID(fmt.Sprintf("/peerd/%s/%s/%d", ring.InUse().ClusterID(), kind, serves))
		host.SetStreamHandler(id, func(s libnet.Stream) {
			f.opened.Add(1)
			_ = s.Reset()
		})
	}
	inUse, _ := gossipKeys(ring)
	m, err := members.Open(members.Config{
		ID: host.ID().String(), IDOf: peerIDOf, PrivateKey: private, Label: "foreign",
		P2P: []string{host.Addrs()[0].String()}, Versions: members.Versions{Min: said, Max: said},
		Bind: "127.0.0.1:0", Key: inUse, Join: []string{c.peers[0].net.members.Addr()}, Preset: members.Fast,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return f
}

// TestAMemberThatSpeaksAnotherVersionIsNamedOnceAndLeftInPeace lets members join that are too old
// and too new, of which some say so in their metadata, and some show it only by the streams that
// they serve.
func TestAMemberThatSpeaksAnotherVersionIsNamedOnceAndLeftInPeace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		said, serves uint64
		problem      string
	}{
		{"older", 1, 1, "speaks version 1 of the protocol, and this peer version 2: upgrade it"},
		{"newer", 3, 3, "speaks version 3 of the protocol, and this peer version 2: upgrade this one"},
		{"older by its streams", 2, 1, "speaks version 1 of the protocol, and this peer version 2: upgrade it"},
		{"newer by its streams", 2, 3, "speaks version 3 of the protocol, and this peer version 2: upgrade this one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			var log memory
			cfg := c.config(t.TempDir())
			cfg.Logger = log.logger()
			p := c.start(cfg)
			friend := c.add()
			f := startForeign(t, c, test.said, test.serves)
			eventually(t, "the member is named in the status", func() bool {
				return problemOf(t, p, f.id) == test.problem && log.says(test.problem)
			})
			wantProblem(t, p, "other-version")
			for range 100 { // each of which would open a stream
				p.net.relink()
			}
			for _, m := range p.net.speaking(p.net.members.List(), time.Now()) {
				if m.ID == f.id.String() {
					t.Error("a stream to it would be opened")
				}
			}
			mustUpdate(t, p, func(tx *Tx) error { return tx.String("k").Set([]byte("v")) })
			eventually(t, "the others go on", func() bool {
				return mustStatus(t, friend).Keys == 1 && mustStatus(t, p).Ready
			})
			change := changeKey(t, p, nil, (*Peer).RotateKey)
			if got := states(change)["foreign"]; got != test.problem || change.Done {
				t.Errorf("a change of keys says %q of it, want %q", got, test.problem)
			}
			if n := log.count("no data is exchanged with a member"); n != 1 || log.says("damage") {
				t.Errorf("%d warnings, want one: %s", n, log.all())
			}
			// Once by each of the two, if only its streams tell.
			if n := f.connects.Load(); f.opened.Load() != 0 || n > 2 || test.said != 2 && n != 0 {
				t.Errorf("it was called %d times, and %d streams were opened", n, f.opened.Load())
			}
			if s := mustStatus(t, p); s.Mismatches != 0 || s.Repairs != 0 {
				t.Errorf("%d mismatches, %d repairs", s.Mismatches, s.Repairs)
			}
		})
	}
}

// TestWhoServesNoStreamsAnyMoreIsNotSaidToSpeakAnotherVersion asks for a stream while the other
// side closes: its connections end after the streams that it accepts.
func TestWhoServesNoStreamsAnyMoreIsNotSaidToSpeakAnotherVersion(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	p, closing := c.add(), c.add()
	c.meet(p, closing)
	closing.net.serveStreams(secret.Ring{})
	_, _, err := p.net.openStream(t.Context(), closing.net.id, pullStream, p.net.keys.ring().Keys())
	if err == nil {
		t.Fatal("a stream was opened")
	}
	const want = "the other side does not serve that: it is stopping, or has another cluster key or version of the protocol"
	if got := words.Text(err.Error()); !strings.Contains(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAMemberThatWasUpgradedIsLookedAtAgain asks what is known of a member after each thing that
// happens to it.
func TestAMemberThatWasUpgradedIsLookedAtAgain(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := &network{strangers: map[string]stranger{}}
	m := members.Member{ID: "m", Alive: true, Since: noon, Versions: members.Versions{Min: 1, Max: 1}}
	expect := func(what string, at time.Time, version versionError, warns bool) {
		t.Helper()
		if v, warn := n.judgeVersion(m, at); v != version || warn != warns {
			t.Errorf("%s: version %d, warned %v; want %d, %v", what, v, warn, version, warns)
		}
	}
	expect("it is there", noon, 1, true)
	expect("a moment later", noon.Add(time.Minute), 1, false)
	expect("an hour later", noon.Add(versionWarnEvery), 1, true)
	m.Versions = members.Versions{Min: 1, Max: 2}
	expect("it was upgraded", noon.Add(versionWarnEvery), 0, false)
	m.Versions = members.Versions{Min: 1, Max: 1}
	expect("and back", noon.Add(versionWarnEvery), 1, true)
	m.Versions = members.Versions{Min: 2, Max: 2}
	n.strangers["m"] = stranger{version: 3, since: noon, until: noon.Add(versionPatience)}
	expect("its streams tell", noon, 3, true)
	expect("they are left in peace", noon.Add(versionPatience-1), 3, false)
	expect("and tried again", noon.Add(versionPatience), 0, false)
	m.Since = noon.Add(1)
	expect("it came back", noon, 0, false)
}

// problemOf returns what a peer's status says of a member.
func problemOf(t *testing.T, p *Peer, id libpeer.ID) string {
	t.Helper()
	for _, m := range mustStatus(t, p).Members {
		if m.PeerID == id.String() {
			if m.Linked {
				t.Errorf("%s is linked", m.Name)
			}
			return m.Problem
		}
	}
	return ""
}

func (m *memory) all() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

func (m *memory) count(text string) int { return strings.Count(m.all(), text) }

// TestAConnectionThatNothingRunsOverIsClosed connects with a member that is linked, and with one
// that cannot be.
func TestAConnectionThatNothingRunsOverIsClosed(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(c.config(t.TempDir())), c.start(c.config(t.TempDir()))
	f := startForeign(t, c, streamVersion+1, streamVersion+1)
	var at []string
	eventually(t, "all know each other", func() bool {
		for _, m := range a.net.members.List() {
			if m.ID == f.id.String() && m.Alive {
				at = m.P2P
			}
		}
		return at != nil && links(a) == 1 && links(b) == 1
	})
	connected := func(id libpeer.ID) bool { return a.net.host.Network().Connectedness(id) == libnet.Connected }
	eventually(t, "they are connected", func() bool { return a.net.connect(t.Context(), f.id, at) == nil })
	a.net.closeIdle(time.Now())
	if !connected(f.id) {
		t.Error("a connection that was opened a moment ago is closed")
	}
	eventually(t, "the one that nothing runs over is closed", func() bool {
		a.net.closeIdle(time.Now().Add(2 * idleAfter))
		return !connected(f.id)
	})
	if !connected(b.net.id) || links(a) != 1 {
		t.Error("that of a link is closed as well")
	}
}
