package peer

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"
)

// TestWhoIsBehindForLongLags has a member have what there was so many seconds ago, of ten writes a
// second, looked at every five.
func TestWhoIsBehindForLongLags(t *testing.T) {
	for _, test := range []struct {
		what   string
		behind func(second int) int
		want   []int // seconds at which it begins to lag, and no longer does, in turn
	}{
		{"a second", func(int) int { return 1 }, nil},
		{"a little less than a minute", func(int) int { return 50 }, nil},
		{"ever more", func(s int) int { return s / 2 }, []int{120}},
		{"steadily", func(s int) int { return min(s, 200) }, []int{60}},
		{"until it has caught up", func(s int) int {
			if s >= 300 {
				return 0
			}
			return min(s, 120)
		}, []int{60, 300}},
	} {
		for _, here := range []bool{false, true} {
			var p problems
			var got []int
			lagged := false
			for s := 0; s <= 1000; s += 5 {
				all := uint64(10 * s)
				g := gap{space: "default", id: "b", all: side{here: all}, theirs: min(all, uint64(10*test.behind(s)))}
				if here {
					g.all, g.theirs, g.ours = side{there: all}, 0, g.theirs
				}
				found := p.lags([]gap{g}, lagAfter, noon.Add(time.Duration(s)*time.Second))
				if lags := len(found) > 0; lags != lagged {
					got, lagged = append(got, s), lags
				}
				if lagged && (found[0].here != here || found[0].lack != g.theirs+g.ours || found[0].old < lagAfter) {
					t.Errorf("behind %s: at %d s it is said that %+v", test.what, s, found)
				}
			}
			near := len(got) == len(test.want)
			for i := range got {
				near = near && got[i] >= test.want[i] && got[i] <= test.want[i]+20
			}
			if !near {
				t.Errorf("behind %s: changes at %v, want %v", test.what, got, test.want)
			}
		}
	}
}

// TestANeighbourThatLagsIsNamed has one read slowly, and both ends say so until it has caught up.
func TestANeighbourThatLagsIsNamed(t *testing.T) {
	c := newCluster(t)
	writer := c.add()
	cfg := c.config(t.TempDir())
	slow, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cured := make(chan struct{})
	slow.net.host = slowHost{slow.net.host, cured}
	slow.start()
	c.adopt(slow, cfg)
	c.meet(writer, slow)
	value := make([]byte, 256<<10)
	for range 16 { // what lies on the way is not lacked
		_, _ = rand.Read(value)
		mustUpdate(t, writer, func(tx *Tx) error { return tx.String("k").Set(value) })
	}
	wantProblem(t, writer, "lagging")
	wantProblem(t, slow, "lagging")
	for p, want := range map[*Peer]string{writer: "peer1 lacks ", slow: "this host lacks "} {
		for _, found := range mustStatus(t, p).Problems {
			if found.ID == "lagging" && !strings.HasPrefix(found.What, want) {
				t.Errorf("%s says: %s", p.cfg.Name, found.What)
			}
		}
	}
	close(cured)
	c.converge(writer, slow)
	for _, p := range c.peers {
		eventually(t, "nothing lags", func() bool { return len(problemIDs(t, p)) == 0 })
	}
}
