package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	spacestore "github.com/peerd/peerd/store/space"
)

func mustSpace(t *testing.T, p *Peer, name string) *Space {
	t.Helper()
	s, err := p.Space(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func setIn(t *testing.T, p *Peer, space, key, value string) {
	t.Helper()
	err := mustSpace(t, p, space).Update(context.Background(), func(tx *Tx) error {
		return tx.String(key).Set([]byte(value))
	})
	if err != nil {
		t.Fatalf("space %s: %v", space, err)
	}
}

// getIn returns a value of a space, empty if it has none, and what reading it failed with.
func getIn(p *Peer, space, key string) (value string, err error) {
	s, err := p.Space(space)
	if err != nil {
		return "", err
	}
	err = s.View(context.Background(), func(tx *Tx) error {
		v, _ := tx.String(key).Get()
		value = string(v)
		return nil
	})
	return value, err
}

func waitIn(t *testing.T, p *Peer, space, key, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s of space %s is %q", key, space, want), func() bool {
		got, err := getIn(p, space, key)
		return err == nil && got == want
	})
}

func namesOfSpaces(p *Peer) (names []string) {
	for _, s := range p.held() {
		names = append(names, s.name)
	}
	return names
}

func TestASpaceIsMadeByItsFirstWriteAndTakenUpByAllWhoSubscribe(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	cfg := c.config(t.TempDir())
	cfg.Spaces = []string{"orders"}
	only := c.start(cfg)

	if got, err := getIn(a, "orders", "k"); got != "" || err != nil {
		t.Errorf("a space that nobody wrote to reads as %q (%v)", got, err)
	}
	if a.space("orders") != nil {
		t.Error("reading a space made it")
	}
	setIn(t, a, "orders", "k", "1")
	setIn(t, a, "stock", "k", "2")
	setIn(t, a, DefaultSpace, "k", "3")
	waitIn(t, b, "orders", "k", "1")
	waitIn(t, b, "stock", "k", "2")
	waitIn(t, b, DefaultSpace, "k", "3")
	waitIn(t, only, "orders", "k", "1")
	setIn(t, only, "orders", "back", "4")
	waitIn(t, a, "orders", "back", "4")

	if _, err := only.Space("stock"); !errors.Is(err, ErrNotHeld) || !strings.Contains(err.Error(), "Config.Spaces") {
		t.Errorf("a space that is left out: %v", err)
	}
	if err := only.View(context.Background(), func(*Tx) error { return nil }); !errors.Is(err, ErrNotHeld) {
		t.Errorf("the default space, which is left out: %v", err)
	}
	if got := namesOfSpaces(only); !slices.Equal(got, []string{"orders", "peerd"}) {
		t.Errorf("holds %v", got)
	}
	for _, bad := range []string{"", "UPPER", "a/b", "-a", strings.Repeat("a", 65)} {
		if _, err := a.Space(bad); !errors.Is(err, ErrSpaceName) {
			t.Errorf("the name %q: %v", bad, err)
		}
	}
	if err := mustSpace(t, a, "peerd").Update(context.Background(), func(*Tx) error { return nil }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a write to peerd's own space: %v", err)
	}
}

// TestASpaceThatNobodyWroteToIsNotMade tries all that is no write, in one that nobody has and in
// one that Config.Spaces names.
func TestASpaceThatNobodyWroteToIsNotMade(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Spaces = []string{"named", "none"}
	p, other := c.start(cfg), c.add()
	failed := errors.New("failed")
	set := func(tx *Tx) error { return tx.String("k").Set([]byte("v")) }
	attempts := map[string]func(tx *Tx) error{
		"reads":            func(tx *Tx) error { tx.String("k").Get(); return nil },
		"deletes nothing":  func(tx *Tx) error { _, err := tx.Remove("k"); return err },
		"clears nothing":   func(tx *Tx) error { _, err := tx.Clear(); return err },
		"writes and fails": func(tx *Tx) error { return errors.Join(set(tx), failed) },
		"is too large": func(tx *Tx) error {
			return tx.String("k").Set(make([]byte, MaxValue+1))
		},
	}
	for _, name := range []string{"named", "none"} {
		for what, fn := range attempts {
			ran := 0
			err := mustSpace(t, p, name).Update(t.Context(), func(tx *Tx) error { ran++; return fn(tx) })
			if ran != 1 || (err != nil) != (what == "writes and fails" || what == "is too large") {
				t.Errorf("%s: a transaction that %s ran %d times and ended with %v", name, what, ran, err)
			}
		}
	}
	if token, err := mustSpace(t, p, "none").UpdateToken(t.Context(), attempts["reads"]); token != "" || err != nil {
		t.Errorf("the token of nothing is %q (%v)", token, err)
	}
	func() {
		defer func() {
			if thrown := recover(); thrown != "thrown" {
				t.Errorf("a transaction that panics: %v", thrown)
			}
		}()
		_ = mustSpace(t, other, "none").Update(t.Context(), func(tx *Tx) error { _ = set(tx); panic("thrown") })
	}()
	exit := func(tx *Tx) error { _ = set(tx); runtime.Goexit(); return nil }
	exits(t, "a transaction", func() { _ = mustSpace(t, other, "none").Update(t.Context(), exit) })
	if got := namesOfSpaces(other); !slices.Equal(got, []string{DefaultSpace, "peerd"}) {
		t.Errorf("the other host holds %v", got)
	}
	if names, err := p.directory(t.Context()); len(names) > 0 || err != nil {
		t.Errorf("the directory lists %v (%v)", names, err)
	}
	setIn(t, p, "named", "k", "1")
	waitIn(t, other, "named", "k", "1")
}

// TestTheFirstWritesOfASpaceMayBeManyGroups has so many transactions make it that they are many records.
func TestTheFirstWritesOfASpaceMayBeManyGroups(t *testing.T) {
	const most = 3000
	p := alone(t, Config{})
	orders := mustSpace(t, p, "orders")
	fns := make([]func(*Tx) error, most)
	for i := range fns {
		fns[i] = func(tx *Tx) error { return tx.String(fmt.Sprint(i)).Set([]byte("v")) }
	}
	if errs := orders.UpdateAll(t.Context(), fns); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	err := orders.View(t.Context(), func(tx *Tx) error {
		if tx.Len() != most {
			t.Errorf("%d of %d writes are there", tx.Len(), most)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTheFirstWriteOfASpaceIsWhole has several transactions make it, reopens it, and looks for what
// they told.
func TestTheFirstWriteOfASpaceIsWhole(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Offline: true, Durability: Always}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	orders := mustSpace(t, p, "orders")
	failed := errors.New("failed")
	add := func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err }
	token := Token("")
	errs := orders.UpdateAll(t.Context(), []func(*Tx) error{
		add, func(tx *Tx) error { return errors.Join(add(tx), failed) }, add,
		func(tx *Tx) error {
			if got := tx.Counter("n").Get(); got != 2 {
				t.Errorf("it sees %d of 2 transactions", got)
			}
			return tx.String("large").Set(make([]byte, MaxValue))
		},
	})
	if len(errs) != 4 || !errors.Is(errs[1], failed) || errs[0] != nil || errs[2] != nil || errs[3] != nil {
		t.Fatalf("the transactions ended with %v", errs)
	}
	stock := mustSpace(t, p, "stock")
	if token, err = stock.UpdateToken(t.Context(), add); err != nil || token == "" {
		t.Fatalf("the token is %q (%v)", token, err)
	}
	for range 2 {
		if err := stock.Wait(t.Context(), token); err != nil {
			t.Error(err)
		}
		for _, s := range []struct {
			of   *Space
			want int64
		}{{orders, 2}, {stock, 1}} {
			err := s.of.View(t.Context(), func(tx *Tx) error {
				if got := tx.Counter("n").Get(); got != s.want {
					t.Errorf("%s counts %d, want %d", s.of.Name(), got, s.want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		mustClose(t, p)
		if p, err = Open(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		orders, stock = mustSpace(t, p, "orders"), mustSpace(t, p, "stock")
	}
	mustClose(t, p)
}

func TestSpacesAreThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		p, err := Open(context.Background(), Config{Dir: dir, Offline: true, Durability: None})
		if err != nil {
			t.Fatal(err)
		}
		for _, space := range []string{"default", "a", "b"} {
			want := ""
			if i > 0 {
				want = fmt.Sprint(space, i-1)
			}
			if got, err := getIn(p, space, "k"); got != want || err != nil {
				t.Errorf("opening %d: k of %s is %q (%v), want %q", i, space, got, err, want)
			}
			setIn(t, p, space, "k", fmt.Sprint(space, i))
		}
		mustClose(t, p)
	}
}

func TestADroppedSpaceIsGoneHereAndStaysElsewhere(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	setIn(t, a, "orders", "k", "1")
	waitIn(t, b, "orders", "k", "1")
	ctx := context.Background()
	if err := b.DropSpace(ctx, "orders", false); err != nil {
		t.Fatal(err)
	}
	if _, err := getIn(b, "orders", "k"); !errors.Is(err, ErrNotHeld) {
		t.Errorf("a read of a dropped space: %v", err)
	}
	setIn(t, a, "orders", "k", "2")
	if err := a.DropSpace(ctx, "orders", false); !errors.Is(err, ErrUnreplicated) {
		t.Errorf("the last copy was dropped: %v", err)
	}
	setIn(t, a, "orders", "k", "3") // nothing has changed

	dir := b.cfg.Dir
	mustClose(t, b)
	b = c.start(c.config(dir))
	waitIn(t, b, DefaultSpace, "none", "")
	if got := namesOfSpaces(b); slices.Contains(got, "orders") {
		t.Errorf("it came back by itself: %v", got)
	}
	setIn(t, b, "orders", "back", "4")
	waitIn(t, b, "orders", "k", "3")
	waitIn(t, a, "orders", "back", "4")

	if err := a.DropSpace(ctx, "peerd", true); !errors.Is(err, ErrReadOnly) ||
		!strings.HasSuffix(err.Error(), "cannot be dropped") {
		t.Errorf("to drop the directory: %v", err)
	}
	if err := a.DropSpace(ctx, "nothing", true); !errors.Is(err, ErrNotHeld) {
		t.Errorf("a space that is not there: %v", err)
	}
}

// TestTheOthersKnowWhatAHostHoldsNow has a host drop a space and take it up again. What members say
// decides who is linked for a space, who must be heard before a write is lost, and when a host is
// ready.
func TestTheOthersKnowWhatAHostHoldsNow(t *testing.T) {
	c := newCluster(t)
	a, b, d := c.add(), c.add(), c.add()
	said := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprint("the others know whether it holds the space: ", want), func() bool {
			for _, other := range []*Peer{a, d} {
				m, known := other.net.members.Get(b.net.id.String())
				if !known || m.Holds(gossip.SpaceOf("orders").Short()) != want || !m.Holds(gossip.SpaceOf("peerd").Short()) {
					return false
				}
			}
			return true
		})
	}
	setIn(t, a, "orders", "k", "1")
	waitIn(t, b, "orders", "k", "1")
	waitIn(t, d, "orders", "k", "1")
	said(true)
	if err := b.DropSpace(t.Context(), "orders", false); err != nil {
		t.Fatal(err)
	}
	said(false)
	dir := b.cfg.Dir
	mustClose(t, b)
	b = c.start(c.config(dir))
	setIn(t, b, "stock", "k", "2") // which it must be said to hold too
	waitIn(t, a, "stock", "k", "2")
	said(false)
	eventually(t, "the others know that it holds the new space", func() bool {
		m, _ := a.net.members.Get(b.net.id.String())
		return m.Spaces != nil && m.Holds(gossip.SpaceOf("stock").Short())
	})
	setIn(t, b, "orders", "k", "3")
	said(true)
	waitIn(t, a, "orders", "k", "3")
}

// TestTwoThatDropASpaceAtOnceDoNotRelyOnEachOther: each would find that the other has all of it.
func TestTwoThatDropASpaceAtOnceDoNotRelyOnEachOther(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	setIn(t, a, "orders", "k", "1")
	waitIn(t, b, "orders", "k", "1")
	for _, p := range c.peers { // both have begun
		p.space("orders").leaving.Store(true)
	}
	first := a.space("orders").handOver(t.Context(), false)
	second := b.space("orders").handOver(t.Context(), false)
	if first == nil && second == nil || second != nil && !errors.Is(second, ErrUnreplicated) {
		t.Errorf("both copies may go: %v, %v", first, second)
	}
}

// TestASpaceIsDroppedWhoseWritesAreThoseOfAnEarlierStart: they came to the other host from this
// one, under an id that it does not write under any more.
func TestASpaceIsDroppedWhoseWritesAreThoseOfAnEarlierStart(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	setIn(t, a, "orders", "k", "1")
	dir := a.cfg.Dir
	mustClose(t, a)
	a = c.start(c.config(dir))
	b := c.add()
	waitIn(t, b, "orders", "k", "1")
	if err := a.DropSpace(context.Background(), "orders", false); err != nil {
		t.Errorf("the other host has all of the space: %v", err)
	}
	waitIn(t, b, "orders", "k", "1")
}

// TestASpaceIsNotLeftToThoseWhoHaveItInMemoryAlone: they would lose it with their power.
func TestASpaceIsNotLeftToThoseWhoHaveItInMemoryAlone(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	cfg := c.config("")
	cfg.Memory = true
	b := c.start(cfg)
	setIn(t, b, "orders", "k", "1")
	waitIn(t, a, "orders", "k", "1")
	setIn(t, a, "orders", "l", "2")
	waitIn(t, b, "orders", "l", "2")
	if err := a.DropSpace(t.Context(), "orders", false); !errors.Is(err, ErrUnreplicated) {
		t.Errorf("the only copy on a disk was dropped: %v", err)
	}
	waitIn(t, c.add(), "orders", "l", "2")
	if err := a.DropSpace(t.Context(), "orders", false); err != nil {
		t.Errorf("another host has all of it on its disk: %v", err)
	}
	if err := b.DropSpace(t.Context(), "orders", false); err != nil {
		t.Errorf("what was in memory alone: %v", err)
	}
}

// TestASpaceThatStandsStillHoldsUpNoOther: they share a stream.
func TestASpaceThatStandsStillHoldsUpNoOther(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	setIn(t, a, "slow", "k", "0")
	setIn(t, a, "quick", "k", "0")
	waitIn(t, b, "slow", "k", "0")
	waitIn(t, b, "quick", "k", "0")
	begun, free := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- b.space("slow").call(func(*loop) { close(begun); <-free }) }()
	<-begun
	big := strings.Repeat("x", 32<<10)
	for i := range 64 { // more than what may be on the way
		setIn(t, a, "slow", fmt.Sprint(i), big)
	}
	for i := range 5 {
		setIn(t, a, "quick", "k", fmt.Sprint(i))
		waitIn(t, b, "quick", "k", fmt.Sprint(i))
	}
	close(free)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	waitIn(t, b, "slow", "63", big)
}

func TestTokensWatchesAndBackupsAreOfTheirSpace(t *testing.T) {
	p, err := Open(context.Background(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, p) })
	ctx := t.Context()
	orders, stock := mustSpace(t, p, "orders"), mustSpace(t, p, "stock")
	watch := orders.Watch("") // before there is such a space
	defer watch.Close()
	token, err := orders.UpdateToken(ctx, func(tx *Tx) error { return tx.String("k").Set([]byte("v")) })
	if err != nil {
		t.Fatal(err)
	}
	if change, err := watch.Next(ctx); err != nil || !slices.Equal(change.Keys, []string{"k"}) || change.Reset {
		t.Errorf("the watch told %+v (%v)", change, err)
	}
	if err := orders.Wait(ctx, token); err != nil {
		t.Error(err)
	}
	if err := stock.Wait(ctx, token); !errors.Is(err, ErrToken) {
		t.Errorf("a token of another space: %v", err)
	}
	if _, err := p.WatchSince("", token); !errors.Is(err, ErrToken) {
		t.Errorf("a watch since a token of another space: %v", err)
	}
	var file strings.Builder
	info, err := orders.Backup(ctx, &file, nil)
	if err != nil || len(info.Spaces) != 1 || info.Spaces[0].Space != "orders" {
		t.Fatalf("%+v, %v", info, err)
	}
	dir := t.TempDir()
	if _, err := Restore(ctx, strings.NewReader(file.String()), RestoreConfig{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	restored, err := Open(ctx, Config{Dir: dir, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { mustClose(t, restored) }()
	if got, err := getIn(restored, "orders", "k"); got != "v" || err != nil {
		t.Errorf("restored: %q (%v)", got, err)
	}
	eventually(t, "the directory lists it", func() bool {
		names, err := restored.directory(ctx)
		return err == nil && slices.Contains(names, "orders")
	})
}

// TestIdleSpacesCostLittle opens 64 more spaces and looks at the memory.
func TestIdleSpacesCostLittle(t *testing.T) {
	const spaces, allowed = 64, 20 << 20
	c := newCluster(t)
	a, b := c.add(), c.add()
	setIn(t, a, "first", "k", "v")
	waitIn(t, b, "first", "k", "v")
	before := memoryInUse()
	for i := range spaces {
		setIn(t, a, fmt.Sprint("s", i), "k", "v")
	}
	for i := range spaces {
		waitIn(t, b, fmt.Sprint("s", i), "k", "v")
	}
	used := (memoryInUse() - before) / 2
	t.Logf("%d spaces take %d KiB of memory in each of two peers; %d goroutines", spaces, used>>10,
		runtime.NumGoroutine())
	if used > allowed {
		t.Errorf("%d spaces take %d bytes of memory, limit %d", spaces, used, allowed)
	}
}

// TestOnlyWhatAHostSubscribesToCrossesTheNetwork has one space on three hosts, one on two and one
// on one.
func TestOnlyWhatAHostSubscribesToCrossesTheNetwork(t *testing.T) {
	c := newCluster(t)
	add := func(spaces ...string) *Peer {
		cfg := c.config(t.TempDir())
		cfg.Spaces = spaces
		return c.start(cfg)
	}
	x, y, z := add("a", "b", "c"), add("a", "b"), add("a")
	big := strings.Repeat("v", 64<<10)
	for _, space := range []string{"a", "b", "c"} {
		for i := range 16 {
			setIn(t, x, space, fmt.Sprint(i), big+space)
		}
	}
	setIn(t, x, "a", "last", "1")
	waitIn(t, z, "a", "last", "1")
	waitIn(t, y, "a", "last", "1")
	waitIn(t, y, "b", "15", big+"b")
	received := func(p *Peer) uint64 {
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		return s.BytesReceived
	}
	status, err := mustSpace(t, x, "c").Status()
	if err != nil || status.BytesSent != 0 || status.Neighbours != 0 {
		t.Errorf("of a space that no other holds %d bytes were sent to %d neighbours (%v)", status.BytesSent, status.Neighbours, err)
	}
	if n := received(z); n > 3<<20 { // what is in one space, from both others in the worst case
		t.Errorf("the host of one space received %d bytes", n)
	}

	dir := z.cfg.Dir
	mustClose(t, z)
	cfg := c.config(dir)
	cfg.Spaces = []string{"a", "c"}
	z = c.start(cfg)
	waitIn(t, z, "c", "15", big+"c")
	if _, err := getIn(z, "b", "k"); !errors.Is(err, ErrNotHeld) {
		t.Errorf("the space b: %v", err)
	}
}

// tryDrop has a host try to drop a space that no other has, until give is called, which returns what
// DropSpace does. Writes to the space are refused from now on.
func tryDrop(t *testing.T, p *Peer, name string) (give func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.DropSpace(ctx, name, false) }()
	eventually(t, "the drop has begun", func() bool { return p.space(name).leaving.Load() })
	return func() error { cancel(); return <-ended }
}

// TestASpaceIsReadAndWatchedWhileADropIsTried: it stays if others lack what it has.
func TestASpaceIsReadAndWatchedWhileADropIsTried(t *testing.T) {
	p := alone(t, Config{})
	setIn(t, p, "orders", "k", "1")
	orders := mustSpace(t, p, "orders")
	give := tryDrop(t, p, "orders")
	write := func(tx *Tx) error { return tx.String("k").Set([]byte("2")) }
	if err := orders.Update(t.Context(), write); !errors.Is(err, ErrLeaving) || errors.Is(err, ErrNotHeld) {
		t.Errorf("a write is answered with %v, want %v", err, ErrLeaving)
	}
	var read string
	look := func(tx *Tx) error {
		v, _ := tx.String("k").Get()
		read += string(v)
		return nil
	}
	err := errors.Join(orders.View(t.Context(), look), orders.Update(t.Context(), look),
		errors.Join(orders.Read([]func(*Tx) error{look})...))
	if err != nil || read != "111" {
		t.Errorf("read three times it has %q (%v), want 1", read, err)
	}
	w := orders.Watch("")
	defer w.Close()
	all, err := orders.WatchSince("", "")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if c, err := all.Next(t.Context()); err != nil || !slices.Equal(c.Keys, []string{"k"}) {
		t.Errorf("a watch of all tells %q (%v)", c.Keys, err)
	}
	if err := give(); !errors.Is(err, ErrUnreplicated) {
		t.Fatalf("the drop returned %v, want %v", err, ErrUnreplicated)
	}
	setIn(t, p, "orders", "l", "3")
	if c, err := w.Next(t.Context()); err != nil || !slices.Equal(c.Keys, []string{"l"}) {
		t.Errorf("a watch that began meanwhile tells %q (%v), want l", c.Keys, err)
	}
}

// TestADropRefusesWritesWhateverTheEngineDoes has the engine's own refusal begin and end while a
// space is dropped.
func TestADropRefusesWritesWhateverTheEngineDoes(t *testing.T) {
	c := newCluster(t)
	p := c.add()
	setIn(t, p, "orders", "k", "1")
	s := p.space("orders")
	s.leaving.Store(true)
	s.refuse(ErrRebuilding)
	s.refuse(nil)
	write := func(tx *Tx) error { return tx.String("k").Set([]byte("2")) }
	orders := mustSpace(t, p, "orders")
	if err := orders.Update(t.Context(), write); !errors.Is(err, ErrLeaving) {
		t.Errorf("a write to a space that is being dropped: %v", err)
	}
	s.leaving.Store(false)

	s.refuse(ErrRebuilding)
	if err := p.DropSpace(t.Context(), "orders", false); !errors.Is(err, ErrUnreplicated) {
		t.Errorf("a damaged space was dropped: %v", err)
	}
	if err := orders.Update(t.Context(), write); !errors.Is(err, ErrRebuilding) {
		t.Errorf("a write to a damaged space that was not dropped: %v", err)
	}
	s.refuse(nil)
	setIn(t, p, "orders", "k", "3")
}

// unsureStore applies what is to be durable and then fails, once it is told to, and takes nothing more.
type unsureStore struct {
	store.Store
	armed, failed atomic.Bool
}

func (s *unsureStore) Commit(b *store.Batch, sync bool) error {
	if s.failed.Load() {
		return errDisk
	}
	if err := s.Store.Commit(b, sync); err != nil || !sync || !s.armed.Load() {
		return err
	}
	s.failed.Store(true)
	return errDisk
}

// TestADropOfUnknownOutcomeEndsThePeer: the next start may find that the space was dropped, and
// deletes what was written to it since.
func TestADropOfUnknownOutcomeEndsThePeer(t *testing.T) {
	var disk *unsureStore
	cfg := Config{Dir: t.TempDir(), Offline: true}
	cfg.faulty = func(st store.Store, log store.Log) (store.Store, store.Log) {
		disk = &unsureStore{Store: st}
		return disk, log
	}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	setIn(t, p, "orders", "k", "1")
	disk.armed.Store(true)
	if err := p.DropSpace(t.Context(), "orders", true); !errors.Is(err, store.ErrFailed) || !errors.Is(err, ErrClosed) {
		t.Errorf("the drop returned %v, want %v: %v", err, ErrClosed, store.ErrFailed)
	}
	err = mustSpace(t, p, "orders").Update(t.Context(), func(tx *Tx) error { return tx.String("k").Set([]byte("2")) })
	if err == nil {
		t.Error("a write was acknowledged that the next start deletes")
	}
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		t.Error("the peer goes on")
	}
	if err := p.Close(); !errors.Is(err, store.ErrFailed) || !strings.Contains(err.Error(), "orders") {
		t.Errorf("the peer ended with %v", err)
	}
}

// TestAReaderOfADroppedSpaceMayMakeAnother has it do so after the drop began. Meanwhile it holds no log.
func TestAReaderOfADroppedSpaceMayMakeAnother(t *testing.T) {
	p, err := Open(context.Background(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	setIn(t, p, "orders", "k", "1")
	orders, other := mustSpace(t, p, "orders"), mustSpace(t, p, "other")
	dropped := p.space("orders")
	reads, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	go func() {
		ended <- orders.View(context.Background(), func(tx *Tx) error {
			close(reads)
			<-goOn
			if got, _ := tx.String("k").Get(); string(got) != "1" {
				return fmt.Errorf("the view reads %q after the drop", got)
			}
			return other.Update(context.Background(), func(tx *Tx) error { return tx.String("k").Set([]byte("2")) })
		})
	}()
	<-reads
	go func() { ended <- p.DropSpace(context.Background(), "orders", true) }()
	eventually(t, "the space is taken away", func() bool { return p.space("orders") == nil })
	<-dropped.stopped
	setIn(t, p, DefaultSpace, "k", "the log goes on")
	eventually(t, "the log is given up", func() bool { return p.committer.Kept(dropped.number) == 0 })
	close(goOn)
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the reader, or the drop, hangs")
		}
	}
	mustClose(t, p)
}

// TestADroppedSpaceLeavesNothingOfWhatIsWrittenMeanwhile has a part of a checkpoint outlive the loop of its space.
func TestADroppedSpaceLeavesNothingOfWhatIsWrittenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := alone(t, Config{})
		setIn(t, p, "orders", "k", "1")
		s, goOn := p.space("orders"), make(chan struct{})
		s.background.Go(func() {
			<-goOn
			late := &store.Batch{}
			late.Set([]byte("mcheckpoint"), []byte("late"))
			if err := s.store.Commit(late, false); err != nil {
				t.Error(err)
			}
		})
		if err := p.DropSpace(t.Context(), "orders", true); err != nil {
			t.Fatal(err)
		}
		p.reclaim()
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		view := spacestore.NewTree(p.store, s.number).Snapshot()
		defer view.Close()
		err := view.ScanKeys(nil, nil, func(key []byte) bool {
			t.Errorf("the store keeps %q of a space that was dropped", key)
			return true
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestASpaceThatHasDataTakesWritesWithoutTheDirectory refuses writes to the directory.
func TestASpaceThatHasDataTakesWritesWithoutTheDirectory(t *testing.T) {
	p, err := Open(context.Background(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	setIn(t, p, "orders", "k", "1")
	p.space("orders").listed.Store(false)
	p.space(directorySpace).refuse(ErrRebuilding)
	setIn(t, p, "orders", "k", "2")
	err = mustSpace(t, p, "stock").Update(t.Context(), func(tx *Tx) error { return tx.String("k").Set([]byte("2")) })
	if !errors.Is(err, ErrRebuilding) || p.space("stock") != nil {
		t.Errorf("a new space was made without the directory (%v)", err)
	}
	p.space(directorySpace).refuse(nil)
	mustClose(t, p)
}

// TestALogThatWasLostGoesOnBehindWhereItsSpacesBegin has a space that has written no checkpoint
// yet.
func TestALogThatWasLostGoesOnBehindWhereItsSpacesBegin(t *testing.T) {
	dir := t.TempDir()
	st, err := badger.Open(filepath.Join(dir, storeDir), badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	table, err := spacestore.OpenTable(st)
	if err != nil {
		t.Fatal(err)
	}
	const from = 1 << 20
	if _, err := table.Add("orders", from); err != nil {
		t.Fatal(err)
	}
	log, err := openLog(dir, st)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if next := log.Next(); next < from {
		t.Errorf("the log goes on at %d, before %d", next, from)
	}
}

// TestAStoreThatLostAllButItsLogIsDamaged removes what the tree has, as a manifest that is cut off
// makes it.
func TestAStoreThatLostAllButItsLogIsDamaged(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Offline: true}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	enable(t, p, "k")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(cfg.Dir, storeDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() {
			continue // the log
		}
		if err := os.Remove(filepath.Join(cfg.Dir, storeDir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what the first try made does not hide it
		if _, err := Open(t.Context(), cfg); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("it opens with the error %v", err)
		}
	}
}

// TestWhatCannotBeReadIsReadAgainAfterAWhile has a watch fail at once, as on a disk that fails.
func TestWhatCannotBeReadIsReadAgainAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := alone(t, Config{})
		w := p.Watch("k")
		defer w.Close()
		failing, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if !p.nextChange(failing, w, false, directoryRetry) {
			t.Error("the peer does not go on")
		}
		if waited := time.Since(began); waited != directoryRetry {
			t.Errorf("it is read again after %v, want %v", waited, directoryRetry)
		}
	})
}

// TestWhoIsNotUsedForLongLeavesItsCacheToOthers has three spaces, two of which take turns, by a write and by a read.
func TestWhoIsNotUsedForLongLeavesItsCacheToOthers(t *testing.T) {
	written, read, other := &space{name: "written"}, &space{name: "read"}, &space{name: "other"}
	all, now := []*space{written, read, other}, time.Now()
	expect := func(what string, writing, used int, rests ...*space) {
		t.Helper()
		if w, u := lookAtUse(all, now); w != writing || u != used {
			t.Errorf("%s: %d spaces are written to, want %d; %d are used, want %d", what, w, writing, u, used)
		}
		for _, s := range all {
			if s.share.rests != slices.Contains(rests, s) {
				t.Errorf("%s: that %s rests is %v", what, s.name, s.share.rests)
			}
		}
	}
	expect("nobody was ever used", 0, 3)
	other.counters.transactions.Add(1)
	expect("one is used", 0, 1, written, read)
	for turn := range 10 {
		if now = now.Add(restsAfter / 2); turn%2 == 0 {
			written.counters.commits.Add(1)
		} else {
			read.counters.transactions.Add(1)
		}
		lookAtUse(all, now)
		if turn > 0 && (written.share.rests || read.share.rests) {
			t.Errorf("after %d turns one of two rests", turn+1)
		}
	}
	expect("two took turns", 0, 2, other)
	now = now.Add(time.Hour)
	expect("nobody is used any more", 0, 2, other)
	other.counters.commits.Add(1)
	expect("another is used", 1, 1, written, read)
}

// TestSharesOfMemoryAreTheWhole adds up what spaces have, of any number of which any are busy.
func TestSharesOfMemoryAreTheWhole(t *testing.T) {
	const whole, least = 64 << 20, 1 << 20
	for spaces := 1; spaces <= 100; spaces++ {
		for busy := range spaces + 1 {
			rests, works := shareOf(whole, least, spaces, busy, false), int64(0)
			if busy > 0 {
				works = shareOf(whole, least, spaces, busy, true)
			}
			sum := int64(busy)*works + int64(spaces-busy)*rests
			most := int64(max(whole, least*spaces))
			if sum > most || sum < most-int64(2*spaces) {
				t.Fatalf("%d of %d spaces busy: they have %d bytes, of %d", busy, spaces, sum, most)
			}
		}
	}
}
