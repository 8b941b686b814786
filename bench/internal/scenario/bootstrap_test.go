package scenario

import (
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/bench/internal/report"
)

// Each is compared with who has the same durability, and with nobody else.
func TestWhoJoinsIsComparedWithThoseOfTheSameDurability(t *testing.T) {
	b := &bench{Scenario: &report.Scenario{}}
	for _, name := range []string{"peerd", "redis", "etcd", syncedPeer} {
		b.System(name, "", "", "")
	}
	b.joinsLike()
	sides := map[string]*sides{}
	for round := range 3 {
		b.Round(round+1, 3)
		for i, name := range []string{"peerd", "redis", "etcd", syncedPeer} {
			b.joined(sides, round, name, "time", "s", float64(i+1))
		}
	}
	b.Finish()
	for _, r := range b.Rows {
		for i, o := range r.Of {
			if (o.Ratio != nil) != (r.What == "time" && o.System == "redis") {
				t.Errorf("%s: peerd's ratio to %s is %v", r.What, o.System, o.Ratio)
			}
			if strings.Contains(r.What, "divided") && (i > 0 ||
				r.What != "time, peerd, synced divided by etcd" ||
				o.System != syncedPeer || !slices.Equal(o.Rounds, report.Values{4.0 / 3, 4.0 / 3, 4.0 / 3})) {
				t.Errorf("%s of %s is %v", r.What, o.System, o.Rounds)
			}
		}
	}
	if len(b.Rows) != 2 {
		t.Errorf("there are %d rows", len(b.Rows))
	}
}
