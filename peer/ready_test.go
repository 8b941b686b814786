package peer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestAPeerIsReadyAfterARestartWithWhatTheOthersHad has a peer away while another writes.
func TestAPeerIsReadyAfterARestartWithWhatTheOthersHad(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	cfg := c.config(t.TempDir())
	cfg.ReadyWait = time.Hour
	b := c.start(cfg)
	count(t, a, 1)
	c.converge(a, b)
	mustClose(t, b)
	for i := range 300 {
		mustUpdate(t, a, func(tx *Tx) error { return tx.String(fmt.Sprint(i)).Set(make([]byte, 10_000)) })
	}
	had := mustStatus(t, a).Mutations
	b = c.start(cfg)
	eventually(t, "it is ready", func() bool { return b.Ready() == nil })
	if s := mustStatus(t, b); s.Mutations < had {
		t.Errorf("it is ready with %d mutations of %d", s.Mutations, had)
	}
	if ids := problemIDs(t, b); len(ids) > 0 {
		t.Errorf("it names %q", ids)
	}
}

// TestAPeerWhoseMembersAreGoneIsReadyAfterReadyWait starts a peer with data alone: it says what it
// did not wait for until it has it.
func TestAPeerWhoseMembersAreGoneIsReadyAfterReadyWait(t *testing.T) {
	c := newCluster(t)
	aConfig := c.config(t.TempDir())
	a := c.start(aConfig)
	cfg := c.config(t.TempDir())
	b := c.start(cfg)
	count(t, a, 1)
	c.converge(a, b)
	aConfig.Gossip, aConfig.P2P = a.cfg.Gossip, a.cfg.P2P
	mustClose(t, b)
	mustClose(t, a)
	cfg.ReadyWait = 500 * time.Millisecond
	opened := time.Now()
	b = c.start(cfg)
	if err := b.Ready(); !errors.Is(err, errLooking) && time.Since(opened) < cfg.ReadyWait {
		t.Errorf("at once: %v", err)
	}
	eventually(t, "it is ready", func() bool { return b.Ready() == nil })
	wantProblem(t, b, "not-caught-up")
	aConfig.Join = []string{b.net.members.Addr()}
	a = c.start(aConfig)
	c.converge(a, b)
	eventually(t, "it is caught up", func() bool { return !slices.Contains(problemIDs(t, b), "not-caught-up") })
}

// TestAnEmptyPeerIsNotReadyWithoutALinkToAMemberThatIsAlive has one whose ports for data are shut.
// The member, which has data, is ready all the same.
func TestAnEmptyPeerIsNotReadyWithoutALinkToAMemberThatIsAlive(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	count(t, a, 7)
	cfg := c.config(t.TempDir())
	cfg.ReadyWait = 100 * time.Millisecond
	b, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.net.host.Network().Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	c.adopt(b, cfg)
	for _, p := range []*Peer{a, b} {
		eventually(t, "they know each other", func() bool { s := mustStatus(t, p); return len(s.Members) == 1 && s.Members[0].Alive })
	}
	for _, s := range b.held() {
		eventually(t, "its time is over", func() bool { return time.Since(s.loop.opened) > cfg.ReadyWait })
	}
	if err := b.Ready(); !errors.Is(err, errLooking) {
		t.Errorf("the empty one: %v", err)
	}
	count(t, b, 1) // its own write says nothing of the others'
	if err := b.Ready(); !errors.Is(err, errLooking) {
		t.Errorf("with a write of its own: %v", err)
	}
	if err := a.Ready(); err != nil {
		t.Errorf("the one with data: %v", err)
	}
}

// TestAPeerIsReadyOnceItHasOpenedAllSpaces has one that begins empty catch up with all that it has opened before it
// opens more.
func TestAPeerIsReadyOnceItHasOpenedAllSpaces(t *testing.T) {
	const spaces = 20
	c := newCluster(t)
	cfg := c.config("")
	cfg.Memory = true
	a := c.start(cfg)
	for i := range spaces {
		setIn(t, a, fmt.Sprint("s", i), "k", "v")
	}
	cfg = c.config("")
	cfg.Memory, cfg.ReadyWait = true, time.Hour
	b, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.making.Lock() // no space is opened
	goOn := sync.OnceFunc(b.making.Unlock)
	b.start()
	c.adopt(b, cfg)
	t.Cleanup(goOn)
	eventually(t, "it has the directory", func() bool {
		names, err := b.directory(t.Context())
		return err == nil && len(names) == spaces
	})
	eventually(t, "what is open is ready", func() bool {
		return !slices.ContainsFunc(b.held(), func(s *space) bool {
			why, err := askSoon(s, (*loop).readiness)
			return errors.Join(err, why) != nil
		})
	})
	if err := b.Ready(); !errors.Is(err, errCatchingUp) {
		t.Errorf("with no space of %d opened: %v", spaces, err)
	}
	if s := mustStatus(t, b); s.Ready || s.Opening == "" || s.Reason != s.Opening {
		t.Errorf("its status says ready: %v, %q, %q", s.Ready, s.Reason, s.Opening)
	}
	goOn()
	eventually(t, "it is ready", func() bool { return b.Ready() == nil })
	for i := range spaces {
		if got, err := getIn(b, fmt.Sprint("s", i), "k"); got != "v" || err != nil {
			t.Errorf("it is ready, and space s%d has %q (%v)", i, got, err)
		}
	}
	if s := mustStatus(t, b); !s.Ready || s.Opening != "" {
		t.Errorf("its status says ready: %v, %q, %q", s.Ready, s.Reason, s.Opening)
	}
}

// TestASpaceThatCannotBeOpenedKeepsNoPeerFromBeingReady lists one more than can be held.
func TestASpaceThatCannotBeOpenedKeepsNoPeerFromBeingReady(t *testing.T) {
	p := unstarted(t, Interval)
	had := p.spaces.Load()
	defer p.spaces.Store(had)
	full := maps.Clone(*had)
	for i := range MaxSpaces {
		full[fmt.Sprint("s", i)] = own(p)
	}
	p.spaces.Store(&full)
	if err := p.announce(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if why, err := p.unopened(); !errors.Is(why, errCatchingUp) || err != nil {
		t.Errorf("before that was tried: %v (%v)", why, err)
	}
	if err := p.takeUp(t.Context()); !errors.Is(err, ErrTooManySpaces) {
		t.Errorf("it was taken up: %v", err)
	}
	if why, err := p.unopened(); why != nil || err != nil {
		t.Errorf("after it failed: %v (%v)", why, err)
	}
}

// TestASpaceThatIsTakenUpLaterIsReadyWithWhatTheOthersHave, however long they have been there.
func TestASpaceThatIsTakenUpLaterIsReadyWithWhatTheOthersHave(t *testing.T) {
	simulate(t, 2, Config{}, func(c *simulatedCluster) {
		<-time.After(2 * DefaultReadyWait)
		setIn(c.t, c.peers[0], "late", "k", "v")
		b := c.peers[1]
		c.within(time.Minute, "it is ready with the space", func() bool {
			return b.space("late") != nil && b.Ready() == nil
		})
		if got, err := getIn(b, "late", "k"); got != "v" || err != nil {
			c.t.Errorf("it has %q (%v)", got, err)
		}
	})
}
