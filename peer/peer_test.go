package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/secret"
)

// cluster is a few peers of one cluster on loopback.
type cluster struct {
	t     testing.TB
	key   string
	peers []*Peer
	cuts  []*Cut
}

// own returns the space that a peer's own methods are about.
func own(p *Peer) *space { return p.space(DefaultSpace) }

func newCluster(t testing.TB) *cluster {
	t.Helper()
	key := filepath.Join(t.TempDir(), "cluster.key")
	if _, err := secret.Create(key); err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, key: key}
}

func testLog(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// config returns that of one more peer, which joins the first.
func (c *cluster) config(dir string) Config {
	cfg := Config{
		Dir: dir, Name: fmt.Sprintf("peer%d", len(c.peers)), ClusterKey: c.key,
		Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0", FastGossip: true, Cut: &Cut{}, Logger: testLog(c.t),
	}
	for _, p := range c.peers {
		cfg.Join = append(cfg.Join, p.net.members.Addr())
	}
	return cfg
}

func (c *cluster) start(cfg Config) *Peer {
	c.t.Helper()
	p, err := Open(context.Background(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.adopt(p, cfg)
	return p
}

// adopt makes an open peer one of the cluster.
func (c *cluster) adopt(p *Peer, cfg Config) {
	c.peers = append(c.peers, p)
	c.cuts = append(c.cuts, cfg.Cut)
	c.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			c.t.Errorf("close: %v", err)
		}
	})
}

func (c *cluster) add() *Peer { return c.start(c.config(c.t.TempDir())) }

// split cuts the peer off from all others, in both directions; heal undoes all cuts.
func (c *cluster) split(alone int) {
	for i, p := range c.peers {
		if i != alone {
			c.cuts[alone].Block(append(blocked(c.cuts[alone]), p.net.members.Addr())...)
			c.cuts[i].Block(c.peers[alone].net.members.Addr())
		}
	}
}

func blocked(c *Cut) (addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.blocked {
		addrs = append(addrs, a)
	}
	return addrs
}

func (c *cluster) heal() {
	for _, cut := range c.cuts {
		cut.Block()
	}
}

func mustUpdate(t testing.TB, p *Peer, fn func(tx *Tx) error) {
	t.Helper()
	if err := p.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	poll, deadline := time.NewTicker(5*time.Millisecond), time.After(30*time.Second)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func (c *cluster) converge(peers ...*Peer) {
	c.t.Helper()
	var all []Status
	eventually(c.t, "agreement", func() bool {
		all = all[:0]
		for _, p := range peers {
			s, err := p.Status()
			if err != nil {
				c.t.Fatal(err)
			}
			all = append(all, s)
		}
		for _, s := range all {
			if !s.Settled || s.ContextHash != all[0].ContextHash || s.Root != all[0].Root {
				return false
			}
		}
		return true
	})
}

func TestPeersConvergeAfterAPartition(t *testing.T) {
	c := newCluster(t)
	a, b, d := c.add(), c.add(), c.add()
	mustUpdate(t, a, func(tx *Tx) error { return tx.String("greeting").Set([]byte("hello")) })
	c.converge(a, b, d)
	c.split(2)
	eventually(t, "the cut", func() bool { s, _ := d.Status(); return !s.Members[0].Linked && !s.Members[1].Linked })
	for i, p := range c.peers {
		mustUpdate(t, p, func(tx *Tx) error {
			if _, err := tx.Counter("visits").Add(int64(i + 1)); err != nil {
				return err
			}
			_, err := tx.Set("tags").Add(fmt.Sprintf("tag%d", i))
			return err
		})
	}
	c.converge(a, b)
	if s, _ := d.Status(); s.Members == nil {
		t.Fatal("no members")
	}
	c.heal()
	c.converge(a, b, d)
	for _, p := range c.peers {
		err := p.View(context.Background(), func(tx *Tx) error {
			if n := tx.Counter("visits").Get(); n != 6 {
				return fmt.Errorf("visits is %d, want 6", n)
			}
			if size := tx.Set("tags").Len(); size != 3 {
				return fmt.Errorf("%d tags, want 3", size)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestALatecomerBootstraps(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.LogBytes = 1000
	a := c.start(cfg)
	for i := range 50 {
		mustUpdate(t, a, func(tx *Tx) error {
			for j := range 100 {
				if _, err := tx.Set("s").Add(fmt.Sprint(i, j)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	eventually(t, "the log is cut", func() bool { s, _ := a.Status(); return s.LogBytes < 10_000 })
	b := c.add()
	c.converge(a, b)
	if s, _ := b.Status(); s.Repairs == 0 || s.Keys != 1 || s.Cells != 5000 {
		t.Errorf("after %d repairs %d keys in %d cells, want 1 in 5000", s.Repairs, s.Keys, s.Cells)
	}
}

func TestAnEndedContextOpensNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "data")
	p, err := Open(ctx, Config{Dir: dir, Offline: true})
	if err == nil {
		_ = p.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Open returned %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
}

func TestAnAcknowledgedWriteIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Offline: true}
	for i := range 3 {
		p, err := Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
		err = p.View(context.Background(), func(tx *Tx) error {
			if n := tx.Counter("n").Get(); n != int64(i+1) {
				return fmt.Errorf("n is %d, want %d", n, i+1)
			}
			return nil
		})
		if err := errors.Join(err, p.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
