package members

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func newRounds() rounds {
	return rounds{tried: map[string]int{}, busy: map[string]bool{}}
}

func TestConfiguredHostsComeFirstThenAllInTurn(t *testing.T) {
	r := newRounds()
	wanted := []string{"a", "b"}
	for n := range joinsPerRound {
		wanted = append(wanted, fmt.Sprint(n))
	}
	for round, want := range []string{"[a b 0 1 2 3 4 5]", "[6 7 a b 0 1 2 3]", "[4 5 a b 0 1 2 3]"} {
		r.number = round + 1
		if got := fmt.Sprint(r.choose(slices.Clone(wanted))); got != want {
			t.Errorf("round %d begins with %s, want %s", round+1, got, want)
		}
		clear(r.busy)
	}
}

// However many hosts never answer, every wanted host is begun with again and again.
func TestNoHostIsStarved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wanted []string
		for n := range rapid.IntRange(1, 200).Draw(t, "hosts") {
			wanted = append(wanted, fmt.Sprint(n))
		}
		timeout := rapid.IntRange(1, 5).Draw(t, "rounds until a host has failed")
		r := newRounds()
		begun := map[string]int{}   // times
		fails := map[int][]string{} // by round
		bound := 3 * timeout * (len(wanted)/joinsPerRound + 2)
		for r.number = 1; r.number <= bound; r.number++ {
			for _, host := range fails[r.number] {
				delete(r.busy, host)
			}
			for _, host := range r.choose(slices.Clone(wanted)) {
				begun[host]++
				fails[r.number+timeout] = append(fails[r.number+timeout], host)
			}
			if len(r.busy) > joinSlots {
				t.Fatalf("%d hosts at once", len(r.busy))
			}
		}
		for _, host := range wanted {
			if begun[host] < 2 {
				t.Fatalf("host %s was begun with %d times in %d rounds", host, begun[host], bound)
			}
		}
	})
}

func TestHostsNoLongerWantedLeaveNothingBehind(t *testing.T) {
	r := newRounds()
	r.number = 1
	r.choose([]string{"a", "b"})
	r.number = 2
	r.choose([]string{"b"})
	if len(r.tried) != 1 {
		t.Errorf("remembers %v", r.tried)
	}
}

func TestPausesAreJittered(t *testing.T) {
	shortest, longest := jittered(1000), jittered(1000)
	for range 1000 {
		d := jittered(1000)
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < 800 || shortest > 900 || longest > 1200 || longest < 1100 {
		t.Errorf("pauses of %d to %d, want 800 to 1200", shortest, longest)
	}
}
