package members

import (
	"testing"
	"time"
)

// TestARemovedMemberIsRefusedAndTold removes one of three that has stopped, and lets it come back.
func TestARemovedMemberIsRefusedAndTold(t *testing.T) {
	var log memory
	cfg := config(0)
	cfg.Log = log.logger()
	a := open(t, cfg)
	join := func(n byte) *Members {
		cfg := config(n)
		cfg.Join = []string{a.Addr()}
		return open(t, cfg)
	}
	b, gone := join(1), join(2)
	id := gone.cfg.ID
	eventually(t, "they meet", func() bool { return len(alive(a)) == len(alive(b)) && seesAlive(b, id) && seesAlive(a, id) })
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Members{a, b} {
		m.SetRemoved([]string{id})
		if _, ok := m.Get(id); ok || len(m.List()) != 1 {
			t.Errorf("listed: %v", m.List())
		}
	}
	gone = join(2)
	eventually(t, "it is told", gone.Removed)
	eventually(t, "it is refused", func() bool { return log.count("refused a host that was removed") == 1 })
	if len(a.List()) != 1 {
		t.Errorf("listed: %v", a.List())
	}
	for _, host := range a.wanted(true) {
		if host == gone.Addr() {
			t.Error("it is looked for")
		}
	}
	for _, m := range []*Members{a, b} {
		m.SetRemoved(nil)
	}
	eventually(t, "it is a member again", func() bool { return seesAlive(a, id) && seesAlive(b, id) && !gone.Removed() })
}

func TestMembersNotSeenForLongAreForgottenByWhoReachesOthers(t *testing.T) {
	table := newTable([]record{
		{Member: Member{ID: "long away"}, seen: noon.Add(-time.Hour)},
		{Member: Member{ID: "away"}, seen: noon},
	})
	table.forget(noon.Add(-time.Minute))
	if n := len(table.list()); n != 2 {
		t.Errorf("a host that reaches nobody knows %d, want both", n)
	}
	m, name := sample(0)
	table.alive(name, testAddr, m, nil, noon.Add(-2*time.Hour)) // and is alive since
	tokens(table.dirty)
	table.forget(noon.Add(-time.Minute))
	if _, ok := table.get("long away"); ok || len(table.list()) != 2 || tokens(table.dirty) != 1 {
		t.Errorf("known: %v", table.list())
	}
}

// TestAListOfRemovedMembersIsReadWhateverItHolds has another host send nonsense, and lists that a
// newer one sends.
func TestAListOfRemovedMembersIsReadWhateverItHolds(t *testing.T) {
	d := &delegate{self: "me", table: newTable(nil)}
	told := &delegate{self: "other", table: newTable(nil)}
	told.table.setRemoved([]string{"you", "me"})
	for _, c := range []struct {
		list []byte
		want bool
	}{{nil, false}, {[]byte("nonsense"), false}, {told.LocalState(true), true}, {[]byte{0xc1}, true}, {d.LocalState(true), false}} {
		if d.MergeRemoteState(c.list, true); d.table.here.Load() != c.want {
			t.Errorf("after %x removed is %v", c.list, d.table.here.Load())
		}
	}
}
