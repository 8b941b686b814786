package peer

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestWhatCanChangeWhileAPeerRunsIsReloaded(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	cfg := c.config(t.TempDir())
	cfg.Join = nil // it has the key, and knows nobody
	b := c.start(cfg)
	add := func(n int) {
		for i := range n {
			mustUpdate(t, b, func(tx *Tx) error {
				_, err := tx.Set("s").Add(fmt.Sprintf("%d %0100d", i, i))
				return err
			})
		}
	}
	add(100)
	if s, _ := b.Status(); s.LogBytes < 10_000 || s.MinFreeBytes == 1<<62 {
		t.Fatalf("the log has %d bytes and %d must stay free", s.LogBytes, s.MinFreeBytes)
	}

	wrong := cfg
	wrong.Join, wrong.MinFree = []string{"nowhere:at all"}, 1<<62
	var problem *ConfigError
	if err := b.Reload(wrong); !errors.As(err, &problem) || problem.Field != "join" {
		t.Errorf("a host that is none is taken: %v", err)
	}
	mustUpdate(t, b, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })

	cfg.Join = []string{a.net.members.Addr()}
	cfg.LogBytes, cfg.MaxSkew = 1000, time.Minute
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c.converge(a, b)
	add(3)
	setIn(t, b, "later", "k", "v")
	for range 40 {
		setIn(t, b, "later", "k", strings.Repeat("v", 1000))
	}
	eventually(t, "the log of a space that was opened after is cut", func() bool {
		s, err := mustSpace(t, b, "later").here()
		bytes, asked := ask(t.Context(), s, func(l *loop) int64 { return l.engine.LogBytes() })
		return err == nil && asked == nil && bytes < 20_000
	})
	eventually(t, "the log is cut", func() bool { s, _ := b.Status(); return s.LogBytes < 10_000 })
	if b.skewLimit() != time.Minute {
		t.Errorf("the limit of clocks is %v", b.skewLimit())
	}

	cfg.MinFree = 1 << 62
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	err := b.Update(t.Context(), func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("with more to stay free than there is a write returned %v", err)
	}
	cfg.MinFree = 1
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	add(1)
}

// TestAnEmptyPeerWaitsForNobodyThatAReloadTookOut has a host to join that takes connections, and says nothing.
func TestAnEmptyPeerWaitsForNobodyThatAReloadTookOut(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Join = []string{silent.Addr().String()}
	p := c.start(cfg)
	cfg.Join = nil
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(); errors.Is(err, errLooking) {
		t.Error(err)
	}
}
