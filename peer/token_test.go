package peer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store/badger"
)

func TestATokensTextIsTheSameForEver(t *testing.T) {
	token, err := newToken(gossip.SpaceOf(DefaultSpace), crdt.VersionVector{0xaa: 7, 0x0123456789abcdef: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	const want = "ApLECNW4J0MjEXdmlMyqB88BI0VniavN788AAAEAAAAAADtRsHs"
	if token != want {
		t.Errorf("the token is %q, was %q", token, want)
	}
	seen, err := Token(want).vector(gossip.SpaceOf(DefaultSpace))
	if err != nil || !seen.Equal(crdt.VersionVector{0xaa: 7, 0x0123456789abcdef: 1 << 40}) {
		t.Errorf("it reads %v (%v)", seen, err)
	}
}

func TestATokenOfAnotherFormatIsNamed(t *testing.T) {
	newer := base64.RawURLEncoding.EncodeToString(wire.Seal(tokenVersion+1, []byte(tokenSeal), []byte{0x90}))
	for token, why := range map[Token]string{
		"AZTMqgfPASNFZ4mrze_PAAABAAAAAACoGZEo": "format 1, from before peerd 0.1.0, and this program reads format 2: take",
		Token(newer):                           "format 3, and this program reads format 2: use the newer peerd",
	} {
		if err := token.Check(); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", token, err, why)
		}
	}
}

func TestATokenThatWasChangedIsRefused(t *testing.T) {
	p := alone(t, Config{})
	token := enable(t, p, "k")
	for i := range len(token) {
		for _, c := range []byte{'A', '.', token[i] ^ 1} {
			changed := Token(fmt.Sprint(token[:i], string(c), token[i+1:]))
			if changed == token {
				continue
			}
			if err := changed.Check(); !errors.Is(err, ErrToken) {
				t.Errorf("%s for %s: %v", changed, token, err)
			}
		}
	}
	for _, cut := range []Token{token[:len(token)-1], token[1:], token + "A", "0", " "} {
		if _, err := p.WatchSince("", cut); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", cut, err)
		}
	}
}

func TestMoreReplicasThanATokenNamesAreAnError(t *testing.T) {
	many := crdt.VersionVector{}
	for i := range MaxMembers { // with as long numbers as there are
		many[crdt.ReplicaID(1<<63+uint64(i))] = dotted.MaxCounter
	}
	token, err := newToken(gossip.SpaceOf(DefaultSpace), many)
	if err != nil {
		t.Fatalf("as many replicas as there may be members: %v", err)
	}
	if seen, err := token.vector(gossip.SpaceOf(DefaultSpace)); err != nil || !seen.Equal(many) {
		t.Errorf("it reads %d replicas (%v)", len(seen), err)
	}
	for i := range MaxMembers {
		many[crdt.ReplicaID(1<<62+uint64(i))] = 1
	}
	if _, err := newToken(gossip.SpaceOf(DefaultSpace), many); !errors.Is(err, ErrTooManyReplicas) {
		t.Errorf("twice as many: %v", err)
	}
}

func TestAPeerWaitsForAWriteOfAnotherOrSaysThatItHasNotSeenIt(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t)
	a, b := c.add(), c.add()
	c.converge(a, b)
	token := enable(t, a, "k")
	if err := a.Wait(ctx, token); err != nil {
		t.Errorf("where it was written: %v", err)
	}
	if err := b.Wait(ctx, token); err != nil {
		t.Fatal(err)
	}
	err := b.View(ctx, func(tx *Tx) error {
		if on := tx.Flag("k").Get(); !on {
			t.Errorf("after the wait the write is not visible (%v)", tx.Err())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	c.split(1)
	eventually(t, "the cut", func() bool { s, _ := b.Status(); return !s.Members[0].Linked })
	token = enable(t, a, "l", "m")
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	var unseen *NotSeenError
	if err := b.Wait(short, token); !errors.As(err, &unseen) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("cut off: %v", err)
	}
	if s, _ := a.Status(); len(unseen.Missing) != 1 || unseen.Missing[s.Replica] != 2 {
		t.Errorf("missing %v, want 2 of %s", unseen.Missing, s.Replica)
	}
	if len(own(b).feed.wanted) != 0 {
		t.Error("who gave up is still waited for")
	}
	c.heal()
	if err := b.Wait(ctx, token); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

// A token of a read names what was read, whatever is committed beside it.
func TestTheTokenOfAViewNamesExactlyWhatItShows(t *testing.T) {
	ctx := context.Background()
	p := alone(t, Config{})
	stop := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		for {
			select {
			case <-stop:
				return
			default:
				_ = p.Update(ctx, func(tx *Tx) error { _, err := tx.Counter("n").Add(1); return err })
			}
		}
	}()
	for n := int64(0); n < 1000; {
		token, err := p.ViewToken(ctx, func(tx *Tx) error { n = tx.Counter("n").Get(); return nil })
		if err != nil {
			t.Fatal(err)
		}
		seen, err := token.vector(gossip.SpaceOf(DefaultSpace))
		if err != nil {
			t.Fatal(err)
		}
		var dots uint64
		for _, count := range seen {
			dots += count
		}
		if int64(dots) != n { // a write is one dot
			t.Fatalf("a view shows %d writes, and its token names %d", n, dots)
		}
	}
	close(stop)
	<-written
}

// TestATokenOfWritesThatEveryHostLostEndsInAnError once the host that wrote them is back without them, and not while it is
// away.
func TestATokenOfWritesThatEveryHostLostEndsInAnError(t *testing.T) {
	c := newCluster(t)
	a, b, other := c.add(), c.add(), c.add()
	enable(t, a, "k")
	c.converge(a, b, other)
	before := filepath.Join(t.TempDir(), "before")
	crash(t, a)
	copyAll(t, a.cfg.Dir, before)
	cfg := c.config(a.cfg.Dir)
	a = c.start(cfg)
	c.converge(a, b, other)
	c.split(3)
	eventually(t, "it is cut off", func() bool { return links(a) == 0 })
	lost := enable(t, a, "l")
	crash(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Wait(ctx, lost); errors.Is(err, ErrLost) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the host is away: %v", err)
	}
	c.heal()
	cfg = c.config(before) // as after a power failure
	cfg.Name = a.cfg.Name
	a = c.start(cfg)
	c.converge(a, b, other)
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var unseen *NotSeenError
	for _, p := range []*Peer{b, a} {
		if err := p.Wait(ctx, lost); !errors.Is(err, ErrLost) || !errors.As(err, &unseen) || len(unseen.Missing) != 1 {
			t.Errorf("once it is back: %v", err)
		}
		if len(own(p).feed.wanted) != 0 {
			t.Error("what is lost is still waited for")
		}
	}
}

// TestAMemberThatDoesNotHoldTheSpaceHasNothingOfIt that a token could wait for, once it says so.
func TestAMemberThatDoesNotHoldTheSpaceHasNothingOfIt(t *testing.T) {
	lost := enable(t, alone(t, Config{}), "k") // nobody in the cluster has it
	c := newCluster(t)
	a, b := c.add(), c.add()
	enable(t, a, "k")
	c.converge(a, b)
	if err := b.DropSpace(t.Context(), DefaultSpace, true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := a.Wait(ctx, lost); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
}

// TestTenThousandEndedIDsCostNothingInATokenNorInTheStatus and who reads such a token reads all of it.
func TestTenThousandEndedIDsCostNothingInATokenNorInTheStatus(t *testing.T) {
	const ended, most = 10_000, 1 << 10
	p := alone(t, Config{})
	enable(t, p, "k")
	var failed error
	err := own(p).call(func(l *loop) {
		failed = endMany(l, ended)
		for i := 0; i < 3000 && failed == nil; i++ {
			l.engine.Tick(false)
			_, failed = l.stepAlone()
		}
		l.jump()
	})
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	written := enable(t, p, "l")
	viewed, err := p.ViewToken(t.Context(), func(*Tx) error { return nil })
	if err != nil || viewed != written {
		t.Errorf("a view gives the token %s, the write %s (%v)", viewed, written, err)
	}
	w, err := p.WatchSince("", written)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	enable(t, p, "m")
	change, err := w.Next(t.Context())
	if err != nil || change.Reset || !slices.Equal(change.Keys, []string{"m"}) {
		t.Errorf("after the token came %v (%v)", change, err)
	}
	t.Logf("tokens of %d and %d bytes", len(written), len(change.Token))
	if len(written) > most || len(change.Token) > most {
		t.Error("that is too much")
	}
	if err := p.Wait(t.Context(), change.Token); err != nil {
		t.Error(err)
	}
	s, err := p.Status()
	if err != nil || s.Replicas != ended+1 || len(s.VersionVector) > 20 || s.Mutations != 2*ended+3+2 {
		t.Errorf("the status has %d mutations of %d replicas and lists %d (%v)", s.Mutations, s.Replicas,
			len(s.VersionVector), err)
	}
}

// endMany ends a peer's id so many times, and writes once under each of the ids that follow, at one moment.
func endMany(l *loop, n int) (err error) {
	clock, now := l.clock, l.clock()
	l.clock = func() time.Time { return now }
	defer func() { l.clock = clock }()
	for i := 0; i < n && err == nil; i++ {
		l.engine.EndID()
		for _, write := range []bool{false, true} {
			if write {
				l.engine.Submit(l.p.newUpdate(l.s, []func(*Tx) error{
					func(tx *Tx) error { return tx.Flag(fmt.Sprint("o", i)).Set(true) },
				}))
			}
			for again := true; again && err == nil; {
				var rd *engine.Ready
				if rd, err = l.stepAlone(); err == nil {
					again = rd.Again
				}
			}
		}
	}
	return err
}

func FuzzToken(f *testing.F) {
	f.Add("ApLECNW4J0MjEXdmlMyqB88BI0VniavN788AAAEAAAAAADtRsHs")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		seen, err := Token(text).vector(gossip.SpaceOf(DefaultSpace))
		if err != nil {
			return
		}
		again, err := newToken(gossip.SpaceOf(DefaultSpace), seen)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := again.vector(gossip.SpaceOf(DefaultSpace)); err != nil || !back.Equal(seen) {
			t.Errorf("%q reads %v, and written again %v (%v)", text, seen, back, err)
		}
	})
}

// TestATokenOfWhatOnlyReadsIsGivenOnAnAlmostFullDisk and a write is refused as any other.
func TestATokenOfWhatOnlyReadsIsGivenOnAnAlmostFullDisk(t *testing.T) {
	p := alone(t, Config{})
	want := enable(t, p, "k")
	err := own(p).call(func(l *loop) {
		l.noticeRoom(l.p.disk.judge(badger.Disk{Free: 1 << 20, Total: 1 << 40, Working: 1 << 10}))
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.UpdateToken(t.Context(), func(tx *Tx) error {
		if !tx.Flag("k").Get() {
			return errors.New("what was written is not there")
		}
		return nil
	})
	if err != nil || token != want {
		t.Errorf("reading gives the token %q (%v), want %q", token, err, want)
	}
	token, err = p.UpdateToken(t.Context(), func(tx *Tx) error { return tx.Flag("l").Set(true) })
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("writing gives the token %q (%v), want %v", token, err, ErrNoSpace)
	}
}
