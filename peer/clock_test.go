package peer

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/engine"
)

// memory is a log that a test reads.
type memory struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) says(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Contains(m.text.String(), text)
}

func (m *memory) logger() *slog.Logger { return slog.New(slog.NewTextHandler(m, nil)) }

// offBy has a peer's clock be off by a time.
func offBy(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func TestAPeerWhoseClockIsOffIsNamedOnBothSidesAndNotHeldUp(t *testing.T) {
	c := newCluster(t)
	var logs [3]memory
	for i := range logs {
		cfg := c.config(t.TempDir())
		cfg.Logger = logs[i].logger()
		if i == 2 {
			cfg.clockOffset = offBy(time.Hour)
		}
		c.start(cfg)
	}
	for i, p := range c.peers {
		want := []string{"peer2"}
		if i == 2 {
			want = []string{"peer0", "peer1"}
		}
		eventually(t, "the clock is named in the status and the log", func() bool {
			s, err := p.Status()
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(s.ClockSkewed)
			return slices.Equal(s.ClockSkewed, want) && s.ClockWrong == (i == 2) &&
				logs[i].says("the clocks of this host and of a member differ") &&
				logs[i].says("this host's clock is off") == (i == 2)
		})
		wantProblem(t, p, "clock-off")
	}
	for range 2 { // what the peer ahead wrote is overwritten by one that saw it
		for _, p := range c.peers {
			mustUpdate(t, p, func(tx *Tx) error { return tx.String("last").Set([]byte(p.cfg.Name)) })
			c.converge(c.peers...)
			err := c.peers[0].View(context.Background(), func(tx *Tx) error {
				if got, _ := tx.String("last").Get(); string(got) != p.cfg.Name {
					t.Errorf("after %s wrote: %q, %v", p.cfg.Name, got, tx.Err())
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
	mustUpdate(t, c.peers[0], func(tx *Tx) error {
		if now := tx.base.Time().Wall(); now.After(time.Now().Add(time.Minute)) {
			t.Errorf("the time of the peer ahead was adopted: %v", now)
		}
		return nil
	})
}

func TestMostMembersTellWhoseClockIsOff(t *testing.T) {
	at := func(offset, bound time.Duration) members.Member {
		return members.Member{ClockOffset: offset, ClockError: bound}
	}
	right, off := at(time.Millisecond, time.Millisecond), at(-time.Second, time.Millisecond)
	for _, test := range []struct {
		all    []members.Member
		skewed int
		wrong  bool
	}{
		{nil, 0, false},
		{[]members.Member{off}, 1, false}, // either of the two
		{[]members.Member{off, right}, 1, false},
		{[]members.Member{off, off}, 2, true},
		{[]members.Member{off, off, right}, 2, true},
		{[]members.Member{off, right, right}, 1, false},
		{[]members.Member{off, at(0, 0), at(0, 0)}, 1, false},               // two are not measured
		{[]members.Member{at(600*time.Millisecond, time.Second)}, 0, false}, // or a slow answer
	} {
		got, wrong := len(skewed(test.all, DefaultMaxSkew)), engine.ClockWrong(measuredOf(test.all), DefaultMaxSkew)
		if got != test.skewed || wrong != test.wrong {
			t.Errorf("%+v: %d skewed, wrong %v", test, got, wrong)
		}
	}
}

// TestAPeerWhoseClockIsWrongExpiresNothingEarly has a peer that is an hour ahead, which two others show it.
func TestAPeerWhoseClockIsWrongExpiresNothingEarly(t *testing.T) {
	c := newCluster(t)
	for i := range 3 {
		cfg := c.config(t.TempDir())
		if i == 2 {
			cfg.clockOffset = offBy(time.Hour)
		}
		c.start(cfg)
	}
	a, ahead := c.peers[0], c.peers[2]
	eventually(t, "it knows", func() bool {
		s, err := ahead.Status()
		return err == nil && s.ClockWrong && ahead.clock.Load().Clock.Ahead != 0
	})
	mustUpdate(t, a, func(tx *Tx) error {
		return tx.String("k").SetUntil([]byte("v"), time.Now().Add(time.Minute))
	})
	c.converge(c.peers...)
	if !hasKey(t, ahead, "k") {
		t.Error("it does not show what has not expired")
	}
	mustUpdate(t, ahead, func(tx *Tx) error {
		if off := time.Until(tx.Now()).Abs(); off > time.Minute {
			t.Errorf("it takes a time for now that is off by %v", off)
		}
		_, err := tx.String("n").Add(1)
		return err
	})
	if hasKey(t, ahead, "k") != hasKey(t, a, "k") {
		t.Error("the two do not agree")
	}
}

// TestNothingIsLostOnceAClockIsSet has the clock of one of three peers be set: until it knows
// better it hides nothing, and nothing that it says is over elsewhere.
func TestNothingIsLostOnceAClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			c := newCluster(t)
			var off atomic.Int64
			for i := range 3 {
				cfg := c.config(t.TempDir())
				if i == 2 {
					cfg.clockOffset = func() time.Duration { return time.Duration(off.Load()) }
				}
				c.start(cfg)
			}
			a, set := c.peers[0], c.peers[2]
			eventually(t, "the clocks are measured", func() bool {
				return len(measuredOf(set.net.measuredBy(set.reading(time.Now())))) == 2
			})
			mustUpdate(t, a, func(tx *Tx) error {
				return tx.String("k").SetUntil([]byte("v"), tx.Now().Add(time.Minute))
			})
			c.converge(c.peers...)
			off.Store(int64(by))
			mustUpdate(t, set, func(tx *Tx) error {
				return tx.String("new").SetUntil([]byte("v"), tx.Now().Add(time.Minute))
			})
			eventually(t, "it knows", func() bool {
				for _, key := range []string{"k", "new"} {
					if !hasKey(t, set, key) {
						t.Fatalf("%s has gone", key)
					}
				}
				_, clock := set.takenFor(time.Now())
				return (clock.Ahead+by).Abs() < time.Minute && clock.Slack == 0
			})
			c.converge(c.peers...)
			if !hasKey(t, a, "k") || !hasKey(t, a, "new") {
				t.Error("the others lost something")
			}
		})
	}
}

// TestAPeerThatKnewItsClockToBeWrongExpiresNothingEarlyOnceRestarted has a peer that is an hour
// ahead, and knows it, be started again where it reaches nobody.
func TestAPeerThatKnewItsClockToBeWrongExpiresNothingEarlyOnceRestarted(t *testing.T) {
	c := newCluster(t)
	var cfg Config
	for i := range 3 {
		if cfg = c.config(t.TempDir()); i == 2 {
			cfg.clockOffset = offBy(time.Hour)
		}
		c.start(cfg)
	}
	a, ahead := c.peers[0], c.peers[2]
	eventually(t, "it knows", func() bool {
		kept, err := readClock(ahead.clockPath())
		return err == nil && kept.Ahead != 0
	})
	ends := time.Now().Add(10 * time.Minute)
	mustUpdate(t, a, func(tx *Tx) error {
		if _, err := tx.Counter("n").Add(1); err != nil {
			return err
		}
		_, err := tx.Expiry("n").Set(ends)
		return err
	})
	c.converge(c.peers...)
	c.split(2)
	crash(t, ahead)
	ahead = c.start(cfg)
	if !hasKey(t, ahead, "n") {
		t.Error("it does not show what has not expired")
	}
	mustUpdate(t, ahead, func(tx *Tx) error {
		if _, err := tx.Counter("n").Add(1); err != nil || tx.Past(ends) {
			t.Errorf("what ends in ten minutes has ended: %v, %v", tx.Past(ends), err)
		}
		return nil
	})
	wantCount(t, ahead, 2)
	c.heal()
	c.converge(c.peers[0], c.peers[1], ahead)
	wantCount(t, a, 2)
	eventually(t, "it knows again", func() bool {
		_, now := ahead.takenFor(time.Now())
		return (now.Ahead+time.Hour).Abs() < time.Minute && now.Slack == 0
	})
}

// TestWhatEndsTooFarAwayToBeSaidHasNotEnded in any year.
func TestWhatEndsTooFarAwayToBeSaidHasNotEnded(t *testing.T) {
	p, err := Open(t.Context(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, p)
	mustUpdate(t, p, func(tx *Tx) error {
		for at, past := range map[int64]bool{
			math.MinInt64: true, 0: true, 1 << 48: false, math.MaxInt64/1000 + 1: false, math.MaxInt64: false,
		} {
			if tx.Past(time.Unix(at, 0)) != past {
				t.Errorf("what ends %d s after 1970 has ended: %v", at, !past)
			}
		}
		return nil
	})
}

// TestAClockThatWasOffIsInDoubtOnceItsPeerIsOpenedAgain: it may have been set, or not.
func TestAClockThatWasOffIsInDoubtOnceItsPeerIsOpenedAgain(t *testing.T) {
	const little = 10 * time.Millisecond
	for _, off := range []time.Duration{-time.Hour, time.Hour} { // the right time is so much ahead
		cfg := Config{Dir: t.TempDir(), Offline: true, Durability: None}
		p, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		finds := func(c engine.Clock) {
			p.foundClock(engine.FoundNow(c, p.reading(time.Now())), DefaultMaxSkew)
		}
		finds(engine.Clock{Ahead: off})
		finds(engine.Clock{Ahead: off + little})
		if kept, err := readClock(p.clockPath()); err != nil || kept.Ahead != off {
			t.Errorf("kept is %+v (%v), want what differs by more than little", kept, err)
		}
		mustClose(t, p)
		if p, err = Open(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		mustUpdate(t, p, func(tx *Tx) error {
			for _, right := range []time.Time{time.Now(), time.Now().Add(off)} {
				if tx.Past(right.Add(time.Minute)) || tx.Now().Before(right.Add(-time.Minute)) {
					t.Errorf("off by %v: by the clock or by what was kept, something expires early", off)
				}
			}
			return nil
		})
		finds(engine.Clock{})
		mustClose(t, p)
		if kept, err := readClock(p.clockPath()); err != nil || kept != (engine.Clock{}) {
			t.Errorf("a clock that is right is kept as %+v (%v)", kept, err)
		}
	}
}

// TestWhatWasKeptOfAClockAndCannotBeReadIsReplaced, once the clock is measured: but not a newer version's.
func TestWhatWasKeptOfAClockAndCannotBeReadIsReplaced(t *testing.T) {
	for text, stays := range map[string]bool{"{": false, `{"version": 2}`: true} {
		cfg := Config{Dir: t.TempDir(), Offline: true, Durability: None}
		path := filepath.Join(cfg.Dir, clockFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		p.foundClock(engine.FoundNow(engine.Clock{}, p.reading(time.Now())), DefaultMaxSkew)
		mustClose(t, p)
		if _, err := os.Stat(path); stays != (err == nil) {
			t.Errorf("a file with %s: %v, want it to stay: %v", text, err, stays)
		}
	}
}
