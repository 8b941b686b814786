package peer

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// hasKey reports what a peer's reads say of a key, all of them alike.
func hasKey(t *testing.T, p *Peer, key string) (has bool) {
	t.Helper()
	read := func(tx *Tx) error {
		has = tx.Has(key)
		listed := false
		for name := range tx.Keys("", "") {
			listed = listed || name == key
		}
		if _, there := tx.String(key).Get(); there != has || listed != has {
			t.Errorf("the key exists: %v, it is listed: %v, and read: %v", has, listed, there)
		}
		return nil
	}
	if err := p.View(context.Background(), read); err != nil {
		t.Fatal(err)
	}
	if errs := p.Read([]func(*Tx) error{read}); errs != nil {
		t.Fatal(errs)
	}
	return has
}

// TestAKeyExpiresOnAllPeers has one peer say when a key ends, and looks at two.
func TestAKeyExpiresOnAllPeers(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	count(t, b, 1)
	at := time.Now().Add(time.Second).Truncate(time.Millisecond) // which is what it is kept to
	mustUpdate(t, a, func(tx *Tx) error { return tx.String("session").SetUntil([]byte("x"), at) })
	mustUpdate(t, a, func(tx *Tx) error { return tx.String("stays").Set([]byte("y")) })
	c.converge(a, b)
	if seen := hasKey(t, b, "session"); !seen && time.Now().Before(at) {
		t.Error("it is not seen before it expires")
	}
	for _, p := range []*Peer{a, b} {
		eventually(t, "it is not seen any more", func() bool { return !hasKey(t, p, "session") })
		if time.Now().Before(at) {
			t.Error("it expired before its time")
		}
	}
	eventually(t, "it is removed on both", func() bool {
		for _, p := range []*Peer{a, b} {
			if s, err := p.Status(); err != nil || s.Cells != 2 {
				return false
			}
		}
		return true
	})
	c.converge(a, b)
}

// TestAnIdlePeerRemovesWhatExpires has a store be opened that another start wrote, and nobody writes to.
func TestAnIdlePeerRemovesWhatExpires(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Offline: true}
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, p, func(tx *Tx) error { return tx.String("k").SetUntil(nil, time.Now().Add(-time.Minute)) })
	crash(t, p)
	p, err = Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, p)
	if hasKey(t, p, "k") {
		t.Error("it is seen")
	}
	eventually(t, "it is removed", func() bool { s, err := p.Status(); return err == nil && s.Cells == 0 })
}

// BenchmarkExpiring has a million keys expire at once (-short: 100,000), and writes meanwhile: how long does a write
// take at most, and a read beside them, until all are removed?
func BenchmarkExpiring(b *testing.B) {
	keys := 1_000_000
	if testing.Short() {
		keys /= 10
	}
	for range b.N {
		b.StopTimer()
		p, err := Open(context.Background(), Config{Dir: b.TempDir(), Offline: true})
		if err != nil {
			b.Fatal(err)
		}
		at := time.Now().Add(time.Duration(keys) * 100 * time.Microsecond)
		for i := 0; i < keys; i += 1000 {
			mustUpdate(b, p, func(tx *Tx) error {
				for n := range 1000 {
					if err := tx.String(fmt.Sprint("k", i+n)).SetUntil([]byte("v"), at); err != nil {
						return err
					}
				}
				return nil
			})
		}
		count := func() {
			mustUpdate(b, p, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
		}
		for time.Now().Before(at) {
			count()
		}
		b.StartTimer()
		slowest, stop, read := time.Duration(0), make(chan struct{}), make(chan time.Duration)
		go func() { read <- slowestRead(p, stop) }()
		for s, _ := p.Status(); s.Keys > 1; s, _ = p.Status() {
			for range 100 {
				began := time.Now()
				count()
				slowest = max(slowest, time.Since(began))
			}
		}
		close(stop)
		b.ReportMetric(milliseconds(slowest), "ms-slowest")
		b.ReportMetric(milliseconds(<-read), "ms-slowest-read")
		b.StopTimer()
		mustClose(b, p)
	}
}

// slowestRead reads until it is told to stop, and returns how long one read took at most.
func slowestRead(p *Peer, stop <-chan struct{}) (slowest time.Duration) {
	for !isClosed(stop) {
		began := time.Now()
		p.Read([]func(*Tx) error{func(tx *Tx) error { tx.Counter("n").Get(); return nil }})
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}
