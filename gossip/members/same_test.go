package members

import (
	"testing"
	"time"
)

// sameID reports whether m has seen two hosts with an id.
func sameID(m *Members, id string) bool {
	for _, seen := range m.Sightings() {
		if seen.Kind == SameID && seen.ID == id {
			return true
		}
	}
	return false
}

func TestTwoHostsWithOneKeyAreSeenByAllWhoHearOfBoth(t *testing.T) {
	a := open(t, config(0))
	cfg := config(1)
	cfg.Join = []string{a.Addr()}
	open(t, cfg)
	eventually(t, "the first is seen", func() bool { return seesAlive(a, cfg.ID) })
	second := open(t, cfg) // from a copy of its directory
	eventually(t, "a third has seen both", func() bool { return sameID(a, cfg.ID) })
	eventually(t, "the second has seen the first", func() bool { return sameID(second, cfg.ID) })
}

// TestAHostThatIsRestartedUnderOtherAddressesIsNoSecondOne restarts a host twice while others hold
// it to be where it was.
func TestAHostThatIsRestartedUnderOtherAddressesIsNoSecondOne(t *testing.T) {
	var log memory
	a, c := open(t, config(0)), config(2)
	c.Join = []string{a.Addr()}
	third := open(t, c)
	cfg := config(1)
	cfg.Join, cfg.Log = []string{a.Addr()}, log.logger()
	var b *Members
	const conflict = "others know this host under another address"
	for i := 0; i < 3 || log.count(conflict) == 0 && i < 20; i++ { // others may have taken it for dead before
		b = open(t, cfg)
		addr := b.Addr()
		eventually(t, "it is seen where it is", func() bool {
			at, _ := a.Get(cfg.ID)
			there, _ := third.Get(cfg.ID)
			return at.Alive && at.Addr == addr && there.Alive && there.Addr == addr
		})
		for _, m := range []*Members{a, third, b} {
			if sameID(m, cfg.ID) {
				t.Errorf("%s took it for two", m.cfg.Label)
			}
		}
		crash(b)
	}
	if log.count(conflict) == 0 {
		t.Fatal("there was no conflict: the test shows nothing")
	}
}

// TestOneHostAtTwoAddressesIsOne has what is known of an inquiry's answers.
func TestOneHostAtTwoAddressesIsOne(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		what   string
		starts []uint64 // of the answers
		after  time.Duration
		want   bool
	}{
		{"one answers at both", []uint64{7, 7}, 0, false},
		{"one answers", []uint64{7}, 0, false},
		{"two answer", []uint64{7, 9}, 0, true},
		{"the second is late", []uint64{7, 9}, answerWithin + 1, false},
	} {
		m := &Members{journal: &journal{}, table: newTable(nil)}
		a := &asked{conflict: conflict{"id", "a", "b"}, began: now, number: 1}
		for i, start := range c.starts {
			m.hear(a, inquiry{number: 1, start: start}, now.Add(time.Duration(i)*c.after))
			m.hear(a, inquiry{number: 2, start: start + 1}, now) // of another question
		}
		if sameID(m, "id") != c.want {
			t.Errorf("%s: two hosts: %v", c.what, !c.want)
		}
	}
}

func FuzzInquiry(f *testing.F) {
	f.Add(inquiry{1, "id", "10.0.0.1:7946", 2}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := decodeInquiry(data)
		if err != nil {
			return
		}
		if again, err := decodeInquiry(q.encode()); err != nil || again != q {
			t.Errorf("%+v is read again as %+v, %v", q, again, err)
		}
	})
}
