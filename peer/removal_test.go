package peer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/secret"
)

// knows reports whether p knows and is linked to exactly these.
func knows(t *testing.T, p *Peer, others ...*Peer) bool {
	t.Helper()
	listed := mustStatus(t, p).Members
	for _, o := range others {
		found := false
		for _, m := range listed {
			found = found || m.PeerID == o.net.id.String() && m.Linked
		}
		if !found {
			return false
		}
	}
	return len(listed) == len(others)
}

// TestARemovedMemberIsNoMemberUntilItIsAdded removes a host that is down, and one that is up.
func TestARemovedMemberIsNoMemberUntilItIsAdded(t *testing.T) {
	for _, up := range []bool{false, true} {
		name := map[bool]string{false: "it is down", true: "it is up"}[up]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			a, b := c.add(), c.add()
			var log memory
			cfg := c.config(t.TempDir())
			cfg.Logger = log.logger()
			gone := c.start(cfg)
			c.meet(c.peers...)
			count(t, gone, 1)
			c.converge(c.peers...)
			id := gone.net.id.String()
			if !up {
				mustClose(t, gone)
			}
			if m, err := a.RemoveMember(t.Context(), "…"+id[len(id)-8:]); err != nil || m.PeerID != id || m.Name != "peer2" {
				t.Fatalf("removed %+v: %v", m, err)
			}
			eventually(t, "nobody knows it any more", func() bool { return knows(t, a, b) && knows(t, b, a) })
			if change := changeKey(t, b, nil, (*Peer).RetireKeys); !change.Done || len(change.Hosts) != 2 {
				t.Errorf("a change of keys waits for it: %+v", change)
			}

			// The others remember it over a restart, and refuse it, and tell it so.
			mustClose(t, b)
			b = c.start(b.cfg)
			eventually(t, "the others meet", func() bool { return knows(t, a, b) && knows(t, b, a) })
			if !up {
				cfg.Join = []string{a.net.members.Addr(), b.net.members.Addr()}
				gone = c.start(cfg)
			}
			count(t, a, 1)
			eventually(t, "it is told that it was removed", func() bool {
				s := mustStatus(t, gone)
				return s.Removed && !s.Ready && strings.Contains(s.Reason, "peerd member add") && log.says("removed from the cluster")
			})
			wantProblem(t, gone, "removed")
			if err := gone.Ready(); !errors.Is(err, ErrRemoved) {
				t.Errorf("it is ready: %v", err)
			}
			eventually(t, "no connection is left", func() bool {
				return len(gone.net.host.Network().Peers()) == 0 || !mustStatus(t, gone).Members[0].Linked
			})
			wantCount(t, gone, 1)
			if !knows(t, a, b) {
				t.Errorf("%+v", mustStatus(t, a).Members)
			}

			if m, err := b.AddMember(t.Context(), "peer2"); err != nil || m.PeerID != id {
				t.Fatalf("added %+v: %v", m, err)
			}
			eventually(t, "it is a member again", func() bool {
				return knows(t, a, b, gone) && knows(t, gone, a, b) && gone.Ready() == nil
			})
			c.converge(a, b, gone)
			wantCount(t, gone, 2)
		})
	}
}

// TestARunningMemberHearsAtOnceThatItIsRemovedOrAdded does so at the pace of a real network, where
// member lists are exchanged every half minute.
func TestARunningMemberHearsAtOnceThatItIsRemovedOrAdded(t *testing.T) {
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	id := b.net.id.String()
	hears := func(removed bool) {
		t.Helper()
		began := time.Now()
		eventually(t, "it hears of it", func() bool { return b.net.members.Removed() == removed })
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("removed is %v: it heard that after %v", removed, took)
		}
	}
	for range 3 { // else it may be told by chance
		if _, err := a.RemoveMember(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		hears(true)
		if _, err := a.AddMember(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		hears(false)
	}
	eventually(t, "both are members", func() bool { return knows(t, a, b) && knows(t, b, a) && b.Ready() == nil })
}

func TestWhoIsMeantByAPartOfAnID(t *testing.T) {
	c := newCluster(t)
	a, b, d := c.add(), c.add(), c.add()
	c.meet(a, b, d)
	id := b.net.id.String()
	for text, want := range map[string]error{
		id: nil, id[len(id)-6:]: nil, "…" + id[len(id)-8:]: nil, "peer1": nil, b.net.members.Addr(): nil,
		id[len(id)-5:]: ErrUnknownMember, "12D3KooW": ErrSeveralMembers, "nobody": ErrUnknownMember,
		"": ErrUnknownMember, "…": ErrUnknownMember,
	} {
		found, err := a.net.find(context.Background(), text)
		if !errors.Is(err, want) || want == nil && found.PeerID != id {
			t.Errorf("%q is %+v, %v; want %v", text, found, err, want)
		}
	}
	if _, err := a.RemoveMember(t.Context(), "peer0"); !errors.Is(err, ErrRemoveSelf) {
		t.Errorf("a host that removes itself: %v", err)
	}
	if _, err := a.RemoveMember(t.Context(), "nobody"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("a host that nobody knows: %v", err)
	}
	change := changeKey(t, a, []string{id[len(id)-6:]}, (*Peer).RotateKey)
	if !change.Done || states(change)["peer1"] != KeyLeftOut {
		t.Errorf("left out by the end of its id: %+v", change)
	}
}

// TestAMemberThatIsAwayForLongIsForgotten has a second be long.
func TestAMemberThatIsAwayForLongIsForgotten(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.ForgetAfter = time.Second
	a := c.start(cfg)
	b, gone := c.add(), c.add()
	c.meet(a, b, gone)
	mustClose(t, gone)
	eventually(t, "it is forgotten", func() bool { return knows(t, a, b) })
	if len(mustStatus(t, b).Members) != 2 {
		t.Error("it is forgotten where members are remembered for a month, too")
	}
}

// TestTextsOfOtherHostsSteerNoTerminal has another host write a name, and answer, with what a terminal obeys.
func TestTextsOfOtherHostsSteerNoTerminal(t *testing.T) {
	const bad = "\x1b[2J\u009bred\u202e"
	p := newCluster(t).add()
	id, err := peerIDOf(secret.NewHostKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	errs := p.space(directorySpace).UpdateAll(t.Context(), []func(*Tx) error{func(tx *Tx) error {
		_, err := tx.Set(removedKey).Add(id + " " + bad)
		return err
	}})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	all, err := p.RemovedMembers(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "?[2J?red?" {
		t.Errorf("the name of a removed member is shown as %+v, %v", all, err)
	}
	if a, err := decodeKeyAnswer(keyAnswer{problem: bad}.encode()); err != nil || a.problem != "?[2J?red?" {
		t.Errorf("what keeps another from a change of keys is %q, %v", a.problem, err)
	}
}
