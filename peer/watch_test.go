package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// alone opens a peer in memory, without a network.
func alone(t testing.TB, cfg Config) *Peer {
	t.Helper()
	cfg.Memory, cfg.Offline = true, true
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func enable(t testing.TB, p *Peer, keys ...string) Token {
	t.Helper()
	token, err := p.UpdateToken(context.Background(), func(tx *Tx) error {
		for _, key := range keys {
			if err := tx.Flag(key).Set(true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func next(t testing.TB, w *Watch) Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantKeys(t testing.TB, c Change, keys ...string) {
	t.Helper()
	if diff := cmp.Diff(keys, c.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func since(t testing.TB, p *Peer, prefix string, token Token) *Watch {
	t.Helper()
	w, err := p.WatchSince(prefix, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestAWatchTellsTheKeysUnderItsPrefixAndATransactionAtOnce(t *testing.T) {
	p := alone(t, Config{})
	enable(t, p, "a:0")
	w := p.Watch("a:")
	defer w.Close()
	enable(t, p, "a:2", "b:1", "a:1")
	c := next(t, w)
	wantKeys(t, c, "a:1", "a:2")
	if c.Reset || c.Token == "" {
		t.Errorf("the change is %+v, want a token and no reset", c)
	}
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Remove("a:1"); return err })
	wantKeys(t, next(t, w), "a:1")
}

func TestAWatchThatDoesNotReadHoldsNobodyUpAndIsToldEachKeyOnce(t *testing.T) {
	p := alone(t, Config{})
	w := p.Watch("")
	defer w.Close()
	for i := range 300 {
		enable(t, p, fmt.Sprint("k", i%3))
	}
	seen := map[string]int{}
	for len(seen) < 3 {
		for _, key := range next(t, w).Keys {
			seen[key]++
		}
	}
	for len(seen) > 0 && seen["k0"] < 6 { // it takes some records at a time, and then each key once
		c := next(t, w)
		for _, key := range c.Keys {
			seen[key]++
		}
		if now, _ := p.ViewToken(context.Background(), func(*Tx) error { return nil }); c.Token == now {
			return
		}
	}
	t.Errorf("300 changes of 3 keys were told one by one: %v", seen)
}

func TestAWatchGoesOnFromAToken(t *testing.T) {
	p := alone(t, Config{})
	first := enable(t, p, "a")
	enable(t, p, "b")
	third := enable(t, p, "c")
	wantKeys(t, next(t, since(t, p, "", first)), "b", "c")
	w := since(t, p, "", third)
	enable(t, p, "d")
	wantKeys(t, next(t, w), "d")
	wantKeys(t, next(t, since(t, p, "", "")), "a", "b", "c", "d")
}

func TestAWatchWhoseTokenTheLogDoesNotReachIsReset(t *testing.T) {
	p := alone(t, Config{LogBytes: 1000})
	old := enable(t, p, "gone", "kept")
	var keys []string
	for i := range 3 * MaxChangeKeys / 100 {
		var some []string
		for j := range 100 {
			some = append(some, fmt.Sprintf("k%03d:%02d", i, j))
		}
		enable(t, p, some...)
		keys = append(keys, some...)
	}
	mustUpdate(t, p, func(tx *Tx) error { _, err := tx.Remove("gone"); return err })
	keys = append(keys, "kept")
	eventually(t, "the log is cut", func() bool { s, _ := p.Status(); return s.LogBytes < 20_000 })
	w := since(t, p, "k", old)
	var told []string
	for i := 0; ; i++ {
		c := next(t, w)
		if c.Reset != (i == 0) {
			t.Fatalf("change %d has Reset %v", i, c.Reset)
		}
		told = append(told, c.Keys...)
		if c.Token != "" {
			break
		}
		if kept, err := w.Token(); err != nil || kept != old {
			t.Errorf("before the listing is complete the token is %q (%v), want the old one", kept, err)
		}
		if i == 0 { // a change while the listing is under way is told after it
			enable(t, p, "k000:00")
		}
	}
	if diff := cmp.Diff(keys, told); diff != "" {
		t.Errorf("keys after the reset (-want +got):\n%s", diff)
	}
	wantKeys(t, next(t, w), "k000:00")
}

// TestAListingLeavesOutWhatHasExpired and is not removed yet, of which it looks at no more at once
// than it tells.
func TestAListingLeavesOutWhatHasExpired(t *testing.T) {
	h := newByHand(t, None)
	u := h.newUpdate(own(h.Peer), []func(*Tx) error{func(tx *Tx) error {
		past := h.now.Add(-time.Minute)
		for i := range 3 * MaxChangeKeys {
			if err := tx.String(fmt.Sprintf("gone%05d", i)).SetUntil(nil, past); err != nil {
				return err
			}
		}
		return tx.String("stays").Set(nil)
	}})
	for h.loop.s.updates <- u; !answered(u); {
		h.round()
	}
	w := h.Watch("")
	defer w.Close()
	if err := w.join(own(h.Peer)); err != nil {
		t.Fatal(err)
	}
	w.restart()
	var keys []string
	steps := 0
	for ; w.listing; steps++ {
		c, _, err := w.list(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			keys = append(keys, c.Keys...)
		}
	}
	if !slices.Equal(keys, []string{"stays"}) || steps < 3 {
		t.Errorf("%d keys are listed in %d steps, want 1 in 3 at least", len(keys), steps)
	}
}

func TestAWatchThatFallsBehindTheLogIsReset(t *testing.T) {
	p := alone(t, Config{LogBytes: 1000})
	w := p.Watch("")
	defer w.Close()
	for i := range 40 {
		var keys []string
		for j := range 2000 {
			keys = append(keys, fmt.Sprintf("%s:%d:%d", strings.Repeat("x", 100), i, j))
		}
		enable(t, p, keys...)
	}
	eventually(t, "the log is cut", func() bool { s, _ := p.Status(); return s.LogBytes < 2_000_000 })
	if c := next(t, w); !c.Reset {
		t.Errorf("told %d keys and no reset, after more than the log holds", len(c.Keys))
	}
}

func TestARepairResetsWatches(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.LogBytes = 1000
	a := c.start(cfg)
	for i := range 20 {
		var keys []string
		for j := range 200 {
			keys = append(keys, fmt.Sprint("k", i, ":", j))
		}
		enable(t, a, keys...)
	}
	eventually(t, "the log is cut", func() bool { s, _ := a.Status(); return s.LogBytes < 10_000 })
	cfg = c.config(t.TempDir())
	b, err := open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := b.Watch("k")
	b.start()
	defer b.Close()
	defer w.Close()
	told, reset := map[string]bool{}, false
	for len(told) < 4000 {
		c := next(t, w)
		reset = reset || c.Reset
		for _, key := range c.Keys {
			told[key] = true
		}
	}
	if !reset {
		t.Error("a repair brought keys, and the watch was not reset")
	}
}

func TestAWatchEndsWithItsContextItsCloseAndThePeer(t *testing.T) {
	p := alone(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	w := p.Watch("")
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next of an ended context: %v", err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, err := w.Next(context.Background())
		if !errors.Is(err, ErrClosed) || err.Error() != "the watch is closed" {
			t.Errorf("Next of a closed watch: %v", err)
		}
	})
	w.Close()
	w.Close()
	waiting.Wait()
	orders := mustSpace(t, p, "orders").Watch("") // of a space that nobody has written to
	orders.Close()
	if _, err := orders.Next(context.Background()); !errors.Is(err, ErrClosed) || err.Error() != "the watch is closed" {
		t.Errorf("Next of a closed watch of a space that is not there: %v", err)
	}
	other := p.Watch("")
	defer other.Close()
	waiting.Go(func() {
		for _, err := range other.All(context.Background()) {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("All of a closed peer: %v", err)
			}
		}
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	waiting.Wait()
}

// history writes a new key in each transaction, so that each change is told apart.
type history struct {
	mu      sync.Mutex
	written map[string]bool
}

func (h *history) write(t testing.TB, p *Peer, key string) {
	enable(t, p, key)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written[key] = true
}

func (h *history) all(told map[string]int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(told) == len(h.written)
}

// A reader that disconnects at random, and goes on at whichever peer it finds, is told every change
// exactly once, while both peers are written to.
func TestAResumedWatchTellsEachChangeExactlyOnce(t *testing.T) {
	c := newCluster(t)
	peers := []*Peer{c.add(), c.add()}
	rapid.Check(t, func(rt *rapid.T) {
		run := rapid.StringMatching(`[a-z]{12}`).Draw(rt, "run") + ":"
		token, err := peers[0].ViewToken(context.Background(), func(*Tx) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		writes := rapid.IntRange(1, 60).Draw(rt, "writes")
		reads := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 40).Draw(rt, "changes read before a disconnect")
		h := &history{written: map[string]bool{}}
		var writing sync.WaitGroup
		for i, p := range peers {
			writing.Go(func() {
				for n := range writes {
					h.write(t, p, fmt.Sprintf("%s%d:%d", run, i, n))
				}
			})
		}
		done := make(chan struct{})
		go func() { writing.Wait(); close(done) }()
		told := map[string]int{}
		for i := 0; ; i++ {
			read := 4
			if i < len(reads) {
				read = reads[i]
			}
			w := since(t, peers[i%2], run, token)
			for range read {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
				c, err := w.Next(ctx)
				cancel()
				if err != nil {
					break
				}
				if c.Reset || c.Token == "" {
					rt.Fatalf("a change %+v although the log was not cut", c)
				}
				token = c.Token
				for _, key := range c.Keys {
					told[key]++
				}
			}
			w.Close()
			select {
			case <-done:
				if h.all(told) {
					for key, n := range told {
						if n != 1 {
							rt.Errorf("%s was told %d times", key, n)
						}
					}
					return
				}
			default:
			}
			if i > 2000 {
				rt.Fatalf("told %d of %d changes", len(told), 2*writes)
			}
		}
	})
}

// With a log that is cut again and again a reader that does what a Change says holds what the peer holds.
func TestAReaderThatObeysResetsHoldsWhatThePeerHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, err := Open(context.Background(), Config{Memory: true, Offline: true, LogBytes: 2000})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		held := map[string]bool{}
		var fresh map[string]bool // while a reset's listing is not complete
		var token Token
		read := func(n int) {
			w, err := p.WatchSince("k", token)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			fresh = nil
			for range n {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
				c, err := w.Next(ctx)
				cancel()
				if err != nil {
					return
				}
				if c.Reset {
					fresh = map[string]bool{}
				}
				into := held
				if fresh != nil {
					into = fresh
				}
				refresh(t, p, c.Keys, into)
				if c.Token != "" {
					held, token, fresh = into, c.Token, nil
				}
			}
		}
		steps := rapid.SliceOfN(rapid.IntRange(0, 30), 1, 40).Draw(rt, "keys written, and changes read")
		for i, n := range steps {
			for j := range n {
				key := fmt.Sprint("k", (i*7+j*11)%50)
				mustUpdate(t, p, func(tx *Tx) error {
					if (i+j)%3 == 0 {
						_, err := tx.Remove(key)
						return err
					}
					return tx.String(key).Set([]byte(strings.Repeat("v", 300)))
				})
			}
			if i%4 == 0 { // the loop cuts the log at its next tick: not all runs see that
				_ = own(p).call(func(l *loop) {
					for l.engine.Checkpoint(); l.engine.Busy() && err == nil; {
						_, err = l.stepAlone()
					}
				})
			}
			read(n % 4)
		}
		want := map[string]bool{}
		err = p.View(context.Background(), func(tx *Tx) error {
			for key := range tx.Keys("k", "") {
				want[key] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		diff := "not read"
		for began := time.Now(); diff != "" && time.Since(began) < 20*time.Second; { // a busy machine may be late
			read(10)
			diff = cmp.Diff(want, held)
		}
		if diff != "" {
			rt.Errorf("the reader's keys differ (-want +got):\n%s", diff)
		}
	})
}

// refresh looks up keys.
func refresh(t testing.TB, p *Peer, keys []string, held map[string]bool) {
	err := p.View(context.Background(), func(tx *Tx) error {
		for _, key := range keys {
			if delete(held, key); tx.Has(key) {
				held[key] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
