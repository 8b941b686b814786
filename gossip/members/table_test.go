package members

import (
	"fmt"
	"testing"
	"time"
)

func tokens(c <-chan struct{}) int {
	select {
	case <-c:
		return 1
	default:
		return 0
	}
}

func TestOldestUnseenMembersAreForgottenFirst(t *testing.T) {
	var known []record
	for n := range MaxKnown {
		id := fmt.Sprint("gone ", n)
		known = append(known, record{Member: Member{ID: id}, seen: noon.Add(time.Duration(n))})
	}
	table := newTable(known)
	for n := range 3 {
		m, name := sample(byte(n))
		table.alive(name, testAddr, m, nil, noon)
	}
	if got := len(table.list()); got != MaxKnown {
		t.Fatalf("%d members are known, want %d", got, MaxKnown)
	}
	for n := range 5 {
		id := fmt.Sprint("gone ", n)
		if forgotten := table.known[id] == nil; forgotten != (n < 3) {
			t.Errorf("the %d. oldest is forgotten: %v", n+1, forgotten)
		}
	}
}

func TestManyChangesLeaveOneToken(t *testing.T) {
	table := newTable(nil)
	m, name := sample(0)
	for range 3 {
		table.alive(name, testAddr, m, nil, noon)
	}
	if tokens(table.changed) != 1 || tokens(table.changed) != 0 || tokens(table.dirty) != 1 {
		t.Error("not one token each")
	}
	table.measured(name, time.Second)
	if tokens(table.changed) != 0 {
		t.Error("a token for a round trip time")
	}
	table.gone(name, noon)
	table.gone(name, noon)
	if tokens(table.changed) != 1 || tokens(table.changed) != 0 {
		t.Error("not one token for a member gone")
	}
}

func TestSinceTellsWhenAliveChanged(t *testing.T) {
	table := newTable(nil)
	m, name := sample(0)
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	check := func(alive bool, since int) {
		t.Helper()
		got := table.list()[0]
		if got.Alive != alive || !got.Since.Equal(at(since)) {
			t.Errorf("alive %v since %s, want %v since %s", got.Alive, got.Since, alive, at(since))
		}
	}
	table.alive(name, testAddr, m, nil, at(1))
	table.alive(name, testAddr, m, nil, at(2))
	check(true, 1)
	table.gone(name, at(3))
	table.gone(name, at(4))
	check(false, 3)
	table.alive(name, testAddr, m, nil, at(5))
	check(true, 5)
}

func TestRoundTripTimeIsSmoothedAndForgottenWithTheMember(t *testing.T) {
	table := newTable(nil)
	m, name := sample(0)
	table.measured(name, time.Second) // unknown: no effect
	table.alive(name, testAddr, m, nil, noon)
	table.measured(name, 80*time.Millisecond)
	table.measured(name, 160*time.Millisecond)
	if got := table.list()[0].RTT; got != 90*time.Millisecond {
		t.Errorf("smoothed to %s, want 90ms", got)
	}
	table.gone(name, noon)
	table.measured(name, time.Second)
	if got := table.list()[0].RTT; got != 0 {
		t.Errorf("a member that is gone has a round trip time of %s", got)
	}
}

func TestOnlyTheVeryMetadataThatWasVerifiedIsTrustedAgain(t *testing.T) {
	table := newTable([]record{goneRecord(1)})
	m, name := sample(0)
	table.alive(name, testAddr, m, []byte("metadata"), noon)
	for _, c := range []struct {
		id, addr, metadata string
		want               bool
	}{
		{name, testAddr, "metadata", true},
		{name, testAddr, "other", false},
		{name, "127.0.0.1:1", "metadata", false},
		{"other", testAddr, "metadata", false},
		{goneRecord(1).ID, testAddr, "", false},
	} {
		if got := table.verified(c.id, c.addr, []byte(c.metadata)); got != c.want {
			t.Errorf("%v: verified %v", c, got)
		}
	}
}
