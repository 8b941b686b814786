package peer

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/secret"
)

// newKeyFile makes a cluster key somewhere.
func newKeyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "some.key")
	if _, err := secret.Create(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAHostStaysInItsClusterWithoutBeingToldItsKeyAgain starts it with the key's file, and then
// without.
func TestAHostStaysInItsClusterWithoutBeingToldItsKeyAgain(t *testing.T) {
	c := newCluster(t)
	a, dir := c.add(), t.TempDir()
	b := c.start(c.config(dir))
	count(t, a, 1)
	c.converge(a, b)
	mustClose(t, b)
	again := c.config(dir)
	again.ClusterKey, again.Join = "", nil
	b = c.start(again)
	count(t, a, 1)
	c.converge(a, b)
	wantCount(t, b, 2)
	if b.Keys().Created || b.Keys().ClusterKey != filepath.Join(dir, clusterKeyFile) {
		t.Errorf("opened with %+v", b.Keys())
	}
	// Nor does it need the file that it was started with, though it is still named.
	mustClose(t, b)
	again.ClusterKey = filepath.Join(t.TempDir(), "gone.key")
	b = c.start(again)
	c.converge(a, b)
}

func TestNoKeyIsMadeWhereAClusterWas(t *testing.T) {
	ctx := context.Background()
	key := newKeyFile(t)
	began := func(t *testing.T) string {
		dir := t.TempDir()
		p, err := Open(ctx, Config{Dir: dir, ClusterKey: key, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		count(t, p, 1)
		mustClose(t, p)
		if err := os.Remove(filepath.Join(dir, clusterKeyFile)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, dir := range map[string]func(t *testing.T) string{
		"it has data": began,
		"it has data and nothing else": func(t *testing.T) string {
			dir := began(t)
			for _, file := range []string{hostKeyFile, knownFile} {
				if err := os.Remove(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
			}
			return dir
		},
		"it knows members": func(t *testing.T) string {
			dir := t.TempDir()
			text := []byte(`{"version": 2, "members": [{"id": "x"}]}`)
			if err := os.WriteFile(filepath.Join(dir, knownFile), text, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := dir(t)
			cfg := Config{Dir: dir, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"}
			before := names(t, dir)
			if p, err := Open(ctx, cfg); !errors.Is(err, ErrNoClusterKey) {
				t.Errorf("opened: %v", err)
				if err == nil {
					p.Close()
				}
			}
			if _, err := Init(cfg); !errors.Is(err, ErrNoClusterKey) {
				t.Errorf("made keys: %v", err)
			}
			if after := names(t, dir); after != before {
				t.Errorf("the directory has %s, had %s", after, before)
			}
			cfg.ClusterKey = key // the way out
			p, err := Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			mustClose(t, p)
		})
	}
}

// TestAKeyFileThatIsNotThereIsRefused also without a network, which would be when the key is used.
func TestAKeyFileThatIsNotThereIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, cfg := range []Config{{Dir: dir, Offline: true}, {Memory: true, Offline: true}, {Dir: dir}, {Memory: true}} {
		cfg.ClusterKey, cfg.Gossip, cfg.P2P = dir+".key", "127.0.0.1:0", "127.0.0.1:0"
		if p, err := Open(t.Context(), cfg); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("in memory %v, offline %v: %v", cfg.Memory, cfg.Offline, err)
			if err == nil {
				mustClose(t, p)
			}
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a directory was made: %v", err)
		}
	}
}

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestTheKeyOfAnotherClusterIsRefusedAndAnOlderCopyIsNot(t *testing.T) {
	dir, key := t.TempDir(), newKeyFile(t)
	open := func(file string) (string, error) {
		p, err := Open(context.Background(), Config{Dir: dir, ClusterKey: file, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
		if err != nil {
			return "", err
		}
		defer mustClose(t, p)
		return mustStatus(t, p).ClusterKey, nil
	}
	first, err := open(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(newKeyFile(t)); !errors.Is(err, ErrOtherClusterKey) ||
		!strings.Contains(err.Error(), "leave --cluster-key out (Config.ClusterKey)") {
		t.Errorf("with another cluster's key: %v", err)
	}
	p, err := Open(context.Background(), Config{Dir: dir, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	changeKey(t, p, nil, (*Peer).RotateKey)
	changeKey(t, p, nil, (*Peer).RetireKeys)
	mustClose(t, p)
	renewed, err := open(key) // whoever starts it names the file that it named at first
	if err != nil || renewed == first {
		t.Errorf("after a rotation it uses %s (%v), did %s", renewed, err, first)
	}
}

// TestAStartThatFailsLeavesNothingBehind has the address for data taken.
func TestAStartThatFailsLeavesNothingBehind(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	base := t.TempDir()
	cfg := Config{Dir: filepath.Join(base, "new", "data"), Gossip: "127.0.0.1:0", P2P: taken.LocalAddr().String()}
	ways := map[string]Config{"a cluster is begun": cfg}
	joins := cfg
	joins.Join = []string{"127.0.0.1:1"}
	ways["there is no key"] = joins
	named := cfg
	named.ClusterKey = newKeyFile(t)
	ways["a key is named"] = named
	named.ClusterKey = filepath.Join(base, "none.key")
	ways["a key is named that is not there"] = named
	for name, cfg := range ways {
		if p, err := Open(context.Background(), cfg); err == nil {
			p.Close()
			t.Fatalf("%s: it was opened", name)
		}
		if left := names(t, base); left != "" {
			t.Errorf("%s: left %s", name, left)
		}
	}
	// What was there stays.
	cfg.Dir = t.TempDir()
	p := reopen(t, cfg.Dir)
	count(t, p, 1)
	mustClose(t, p)
	before := names(t, cfg.Dir)
	if _, err := Open(context.Background(), cfg); err == nil {
		t.Fatal("it was opened")
	}
	if after := names(t, cfg.Dir); after != before {
		t.Errorf("the directory has %s, had %s", after, before)
	}
	wantCount(t, reopenLater(t, cfg.Dir), 1)
}

// reopenLater is reopen for the rest of a test.
func reopenLater(t *testing.T, dir string) *Peer {
	p := reopen(t, dir)
	t.Cleanup(func() { mustClose(t, p) })
	return p
}
