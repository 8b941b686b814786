package members

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

// patience bounds every wait of these tests. On an idle machine they take a hundredth of it.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// idOf stands in for libp2p's derivation.
func idOf(key ed25519.PublicKey) (string, error) {
	if len(key) != ed25519.PublicKeySize {
		return "", errors.New("not an ed25519 key")
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8]), nil
}

// privateKey returns the n-th of the tests' host keys.
func privateKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('A'+n)), ed25519.SeedSize)))
}

// config returns the configuration of the n-th host of one cluster.
func config(n byte) Config {
	private := privateKey(n)
	id, err := idOf(private.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return Config{
		ID:         id,
		IDOf:       idOf,
		PrivateKey: private,
		Label:      fmt.Sprintf("host %d", n),
		P2P:        []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", 4000+int(n))},
		Versions:   Versions{Min: 1, Max: 2},
		Bind:       "127.0.0.1:0",
		Key:        [32]byte{'k', 'e', 'y'},
		Preset:     Fast,
	}
}

// open opens a member and closes it at the end of the test.
func open(t *testing.T, cfg Config) *Members {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// eventually waits until the condition holds, and fails the test after patience.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(5 * time.Millisecond); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: still not: %s", patience, what)
		}
	}
}

// alive returns the labels of the members that m sees alive.
func alive(m *Members) string {
	var labels []string
	for _, other := range m.List() {
		if other.Alive {
			labels = append(labels, other.Label)
		}
	}
	return strings.Join(labels, ", ")
}

func seesAlive(m *Members, id string) bool {
	other, ok := m.Get(id)
	return ok && other.Alive
}

// memory is a log that can be searched.
type memory struct {
	mu    sync.Mutex
	lines []string
}

func (l *memory) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

func (l *memory) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *memory) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// network is which gossip addresses cannot reach which others.
type network struct {
	mu  sync.Mutex
	cut bool
}

func (n *network) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *network) blocked(string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut
}

func TestThreeMembersDiscoverEachOther(t *testing.T) {
	a := open(t, config(0))
	joining := config(1)
	joining.Join = []string{a.Addr()}
	b := open(t, joining)
	joining = config(2)
	joining.Join = []string{b.Addr()} // a is learned of through b
	c := open(t, joining)

	all := []*Members{a, b, c}
	for i, m := range all {
		eventually(t, "each sees the two others", func() bool {
			return strings.Count(alive(m), "host") == 2
		})
		var want []Member
		for j, other := range all {
			if j == i {
				continue
			}
			cfg := config(byte(j))
			want = append(want, Member{
				ID: cfg.ID, Label: cfg.Label, P2P: cfg.P2P, Versions: cfg.Versions, Addr: other.Addr(),
				PublicKey: cfg.PrivateKey.Public().(ed25519.PublicKey), Alive: true,
			})
		}
		byID := cmpopts.SortSlices(func(a, b Member) bool { return a.ID < b.ID })
		clock := cmpopts.IgnoreFields(Member{}, "Since", "RTT",
			"ClockOffset", "ClockError", "Compared", "Shown")
		if diff := cmp.Diff(want, m.List(), byID, clock); diff != "" {
			t.Errorf("member %d lists (-want +got):\n%s", i, diff)
		}
		select {
		case <-m.Changed():
		case <-time.After(patience):
			t.Errorf("member %d was not told of changes", i)
		}
	}
	eventually(t, "round trips are measured", func() bool {
		return a.List()[0].RTT > 0 && a.List()[1].RTT > 0
	})
}

// TestAnUpdateThatMemberlistDropsIsToldAnew: it drops one without a word if it defends the host's
// old update meanwhile, as after a restart; here it does because the host's own key is refused
// once.
func TestAnUpdateThatMemberlistDropsIsToldAnew(t *testing.T) {
	a := open(t, config(0))
	var refuse atomic.Bool
	with := config(1)
	with.Join = []string{a.Addr()}
	with.IDOf = func(key ed25519.PublicKey) (string, error) {
		if bytes.Equal(key, with.PrivateKey.Public().(ed25519.PublicKey)) && refuse.CompareAndSwap(true, false) {
			return "", errors.New("refused once")
		}
		return idOf(key)
	}
	b := open(t, with)
	eventually(t, "each sees the other", func() bool { return alive(a) != "" && alive(b) != "" })
	refuse.Store(true)
	if err := b.SetSpaces([]uint32{7}); err != nil {
		t.Fatal(err)
	}
	if refuse.Load() {
		t.Fatal("nothing was refused")
	}
	eventually(t, "the other knows what it holds", func() bool {
		m, _ := a.Get(with.ID)
		return slices.Equal(m.Spaces, []uint32{7})
	})
}

func TestHostsToJoinCanBeReplaced(t *testing.T) {
	a, b := open(t, config(0)), open(t, config(1))
	if err := b.SetJoin([]string{"127.0.0.1:none", a.Addr()}); err == nil {
		t.Error("a host that is none is accepted")
	}
	if alive(b) != "" {
		t.Errorf("after an error there are members: %s", alive(b))
	}
	if err := b.SetJoin([]string{a.Addr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new host is joined", func() bool { return alive(b) != "" })
}

func TestWrongKeyGetsNothingAndTheLogSaysWhyOnce(t *testing.T) {
	var hostLog, strangerLog memory
	cfg := config(0)
	cfg.Log = hostLog.logger()
	host := open(t, cfg)

	cfg = config(1)
	cfg.Key = [32]byte{'o', 't', 'h', 'e', 'r'}
	cfg.Join = []string{host.Addr()}
	cfg.Log = strangerLog.logger()
	stranger := open(t, cfg)

	const tried = "a host with another cluster key tried"
	eventually(t, "the host warns", func() bool { return hostLog.count(tried) > 0 })
	const refused = "a host to join has another cluster key"
	eventually(t, "the stranger warns", func() bool { return strangerLog.count(refused) > 0 })
	// Some more attempts, made here rather than waited for.
	for range 5 {
		if _, err := stranger.list.Join([]string{host.Addr()}); err == nil {
			t.Fatal("a stranger has joined")
		}
	}
	if n := hostLog.count(tried); n != 1 {
		t.Errorf("warned %d times, want once a minute", n)
	}
	want := []Sighting{{Kind: OtherKeyThere, Addr: host.Addr(), Asked: host.Addr()}}
	if diff := cmp.Diff(want, stranger.Sightings(), cmpopts.IgnoreFields(Sighting{}, "Since", "Last")); diff != "" {
		t.Errorf("what the stranger saw (-want +got):\n%s", diff)
	}
	if len(host.List()) != 0 || len(stranger.List()) != 0 {
		t.Errorf("host lists %v, stranger %v", host.List(), stranger.List())
	}
}

// impostor joins with the cluster's key, under a name and with metadata of its choice.
func impostor(t *testing.T, name string, meta []byte, join string) *memberlist.Memberlist {
	t.Helper()
	c := memberlist.DefaultLocalConfig()
	c.Name, c.BindAddr, c.BindPort = name, "127.0.0.1", 0
	key := config(0).Key
	c.SecretKey = key[:]
	c.LogOutput = &memory{}
	told := &delegate{table: newTable(nil)}
	told.metadata.Store(&meta)
	c.Delegate = told
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Shutdown() })
	if _, err := list.Join([]string{join}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestForgedMetadataIsRejected(t *testing.T) {
	var hostLog memory
	cfg := config(0)
	cfg.Log = hostLog.logger()
	host := open(t, cfg)
	victim, thief := config(1), config(2)

	own := metadata{label: "thief", key: thief.PrivateKey.Public().(ed25519.PublicKey)}
	stolen := metadata{label: "thief", key: victim.PrivateKey.Public().(ed25519.PublicKey)}
	elsewhere, _ := stolen.sign(victim.PrivateKey, victim.ID, "127.0.0.1:1")
	ownKey, _ := own.sign(thief.PrivateKey, victim.ID, "127.0.0.1:1")
	victimsKey, _ := stolen.sign(thief.PrivateKey, victim.ID, "127.0.0.1:1")
	for what, meta := range map[string][]byte{
		"nothing":                             nil,
		"its own key":                         ownKey,
		"the victim's key, its own signature": victimsKey,
		"what the victim signed elsewhere":    elsewhere,
	} {
		list := impostor(t, victim.ID, meta, host.Addr())
		if known := host.List(); len(known) != 0 {
			t.Errorf("with %s, the impostor is listed: %v", what, known)
		}
		_ = list.Shutdown()
	}
	if n := hostLog.count("refused a member whose metadata is not its own"); n != 1 {
		t.Errorf("warned %d times, want once a minute", n)
	}
	cfg = victim
	cfg.Join = []string{host.Addr()}
	open(t, cfg)
	eventually(t, "the name's true owner is listed", func() bool { return seesAlive(host, victim.ID) })
}

func TestPartitionLongerThanMemberlistRemembersHeals(t *testing.T) {
	var net network
	cfg := config(0)
	cfg.Blocked = net.blocked
	a := open(t, cfg)
	cfg = config(1)
	cfg.Blocked = net.blocked
	cfg.Join = []string{a.Addr()}
	b := open(t, cfg)
	both := func() bool { return alive(a) != "" && alive(b) != "" }
	eventually(t, "both see each other", both)

	net.setCut(true)
	neither := func() bool { return alive(a) == "" && alive(b) == "" }
	eventually(t, "each takes the other for dead", neither)
	eventually(t, "memberlist has forgotten the other", func() bool {
		return forgotten(a) && forgotten(b)
	})
	if len(a.List()) != 1 || len(b.List()) != 1 {
		t.Fatalf("dead members are no longer listed: %v, %v", a.List(), b.List())
	}
	net.setCut(false)
	eventually(t, "both see each other again", both)
}

// forgotten reports whether m's one other member is dead for so long that memberlist no longer asks
// after it: without rejoin the two would never meet again.
func forgotten(m *Members) bool {
	c := memberlist.DefaultLANConfig()
	Fast.tune(c)
	return time.Since(m.List()[0].Since) > 2*c.GossipToTheDeadTime
}

func TestRestartWithTheKnownFileAloneRejoins(t *testing.T) {
	cfg := config(0)
	a := open(t, cfg)
	cfg = config(1)
	cfg.Join = []string{a.Addr()}
	cfg.KnownFile = filepath.Join(t.TempDir(), "known.json")
	b := open(t, cfg)
	eventually(t, "both see each other", func() bool { return alive(a) != "" && alive(b) != "" })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b is listed as gone", func() bool { return len(a.List()) == 1 && alive(a) == "" })

	cfg.Join = nil
	b = open(t, cfg) // at another port
	known := b.List()
	if len(known) != 1 || known[0].ID != config(0).ID || known[0].Label != "host 0" {
		t.Fatalf("knows %v after the restart", known)
	}
	eventually(t, "both see each other again", func() bool { return alive(a) != "" && alive(b) != "" })
}

func TestCrashedMemberStaysListedAndComesBackAtAnotherAddress(t *testing.T) {
	a := open(t, config(0))
	cfg := config(1)
	cfg.Join = []string{a.Addr()}
	b := open(t, cfg)
	eventually(t, "b is seen", func() bool { return seesAlive(a, cfg.ID) })

	crash(b)
	before := b.Addr()
	b = open(t, cfg) // while a still believes in the old address
	eventually(t, "b is seen at its new address", func() bool {
		got := a.List()[0]
		return got.Alive && got.Addr == b.Addr() && got.Addr != before
	})
	crash(b)
	eventually(t, "b is listed as gone", func() bool { return !a.List()[0].Alive })
	got := a.List()[0]
	if got.ID != cfg.ID || got.Label != cfg.Label || got.RTT != 0 || got.Since.IsZero() {
		t.Errorf("the dead member is listed as %+v", got)
	}
}

func TestAMemberThatMovesIsKnownAtItsNewAddress(t *testing.T) {
	cfg := config(0)
	cfg.Bind, cfg.Advertise = "0.0.0.0:0", "127.0.0.1:0"
	a := open(t, cfg)
	cfg = config(1)
	cfg.Bind = "0.0.0.0:0"
	cfg.Advertise = "127.0.0.1:0"
	cfg.Join = []string{a.Addr()}
	b := open(t, cfg)
	eventually(t, "both see each other", func() bool { return alive(a) != "" && alive(b) != "" })
	for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
		eventually(t, "it has tried all", b.Tried)
		if err := b.Move(ip+":0", []string{"/ip4/" + ip + "/tcp/1"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has tried all, and reached the other", func() bool { return b.Tried() && seesAlive(b, a.cfg.ID) })
		if !strings.HasPrefix(b.Addr(), ip+":") {
			t.Errorf("tells others %s, want %s", b.Addr(), ip)
		}
		eventually(t, "it is seen at its new address, and sees the other", func() bool {
			got := a.List()[0]
			return got.Alive && got.Addr == b.Addr() && got.P2P[0] == "/ip4/"+ip+"/tcp/1" && alive(b) != ""
		})
	}
}

// crash ends a member without a goodbye.
func crash(m *Members) {
	m.closing.Do(func() {
		m.stop()
		_ = m.list.Shutdown()
		m.running.Wait()
		m.journal.silent.Store(true)
	})
}

func TestPortInUseIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := config(0)
	cfg.Bind = taken.Addr().String()
	_, err = Open(cfg)
	want := "membership: gossip address " + cfg.Bind +
		" is in use: stop the process that listens there, or choose another port"
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	cfg.Bind = "192.0.2.1:7946"
	_, err = Open(cfg)
	if err == nil || !strings.Contains(err.Error(), "is not an address of this host") {
		t.Errorf("a foreign address: %v", err)
	}
}

func TestHostsThatDoNotAnswerDelayNobody(t *testing.T) {
	a := open(t, config(0))
	cfg := config(1)
	for range 2 * joinSlots {
		silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, then says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		cfg.Join = append(cfg.Join, silent.Addr().String())
	}
	cfg.Join = append(cfg.Join, a.Addr())
	b := open(t, cfg)
	eventually(t, "the one host that answers is found", func() bool { return alive(b) == "host 0" })
	if err := b.Close(); err != nil { // with joins under way
		t.Error(err)
	}
}

func TestCloseTwiceIsSafeAndEndsTheNotifications(t *testing.T) {
	m := open(t, config(0))
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case _, ok := <-m.Changed():
			if !ok {
				return
			}
		case <-ctx.Done():
			t.Fatal("the channel was not closed")
		}
	}
}
