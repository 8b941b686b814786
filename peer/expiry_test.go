package peer

import (
	"context"
	"fmt"
	"runtime"
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

// TestAnIdlePeerRemovesWhatExpires has a store be opened that another start wrote, and nobody
// writes to.
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

// TestClientsHaveTheProcessorBetweenSteps has one processor, many keys that have expired, and a
// client that writes: the loop takes few steps until it has the processor again.
func TestClientsHaveTheProcessorBetweenSteps(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p, err := Open(context.Background(), Config{Dir: t.TempDir(), Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, p)
	const keys, writes = 100_000, 50
	for i := 0; i < keys; i += 1000 {
		setUntil(t, p, i, i+1000, func(int) time.Time { return time.Now().Add(-time.Minute) })
	}
	status := func() Status {
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := status()
	for range writes {
		runtime.Gosched()
		mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
	}
	after := status()
	if n := after.Commits - before.Commits; n > 5*writes {
		t.Errorf("%d groups were committed until %d writes were", n, writes)
	} else if after.Keys < 2 {
		t.Error("all that expired is removed: the loop had a rest")
	}
}

// setUntil sets numbered keys, with their times.
func setUntil(t testing.TB, p *Peer, from, to int, until func(n int) time.Time) {
	t.Helper()
	mustUpdate(t, p, func(tx *Tx) error {
		for n := from; n < to; n++ {
			if err := tx.String(fmt.Sprint("k", n)).SetUntil([]byte("v"), until(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkExpiring has a million keys expire in one second (-short: 100,000), and writes and
// reads meanwhile: how long does one of these take at most, until all keys are removed? And how
// long then, for as long a time, while nothing expires?
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
			setUntil(b, p, i, i+1000, func(n int) time.Time { return at.Add(time.Duration(n) * time.Second / time.Duration(keys)) })
		}
		slowest(b, p, func() bool { return !time.Now().Before(at) })
		b.StartTimer()
		write, read := slowest(b, p, func() bool { s, err := p.Status(); return err != nil || s.Keys == 1 })
		b.StopTimer()
		b.ReportMetric(milliseconds(write), "ms-slowest-write")
		b.ReportMetric(milliseconds(read), "ms-slowest-read")
		end := time.Now().Add(time.Since(at))
		write, read = slowest(b, p, func() bool { return !time.Now().Before(end) })
		b.ReportMetric(milliseconds(write), "ms-slowest-write-idle")
		b.ReportMetric(milliseconds(read), "ms-slowest-read-idle")
		mustClose(b, p)
	}
}

// slowest writes to one key until done, and reads it beside that, and returns how long a write
// took at most, and a read. Both rest in between: one that never does keeps the other from the
// processors.
func slowest(b *testing.B, p *Peer, done func() bool) (write, read time.Duration) {
	each := func(act func(), done func() bool) (slowest time.Duration) {
		rests := time.NewTicker(time.Millisecond)
		defer rests.Stop()
		for n := 1; n%100 != 0 || !done(); n++ {
			<-rests.C
			began := time.Now()
			act()
			slowest = max(slowest, time.Since(began))
		}
		return slowest
	}
	stop, reads := make(chan struct{}), make(chan time.Duration)
	go func() {
		get := func(tx *Tx) error { tx.Counter("n").Get(); return nil }
		reads <- each(func() { p.Read([]func(*Tx) error{get}) }, func() bool { return isClosed(stop) })
	}()
	add := func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err }
	write = each(func() { mustUpdate(b, p, add) }, done)
	close(stop)
	return write, <-reads
}
