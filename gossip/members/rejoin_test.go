package members

import (
	"fmt"
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
		if got := fmt.Sprint(r.choose(wanted, len(wanted))); got != want {
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
		likely := rapid.IntRange(0, 200).Draw(t, "likely hosts")
		timeout := rapid.IntRange(1, 5).Draw(t, "rounds until a host has failed")
		r := newRounds()
		begun := map[string]int{}                                // times
		fails := map[int][]string{}                              // by round
		bound := 3 * timeout * (2*len(wanted)/joinsPerRound + 2) // half of the places may be for the likely
		for r.number = 1; r.number <= bound; r.number++ {
			for _, host := range fails[r.number] {
				delete(r.busy, host)
			}
			for _, host := range r.choose(wanted, likely) {
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

// However many members of the past are remembered, those that were there a minute ago are looked
// for often.
func TestHostsLastSeenDoNotWaitForThoseOfThePast(t *testing.T) {
	wanted := []string{"a:7946", "b:7946", "c:7946"} // configured as names: alive or not, they take places
	likely := len(wanted) + lastSeen
	for n := range 2000 {
		wanted = append(wanted, fmt.Sprint(n)) // last seen first
	}
	r := newRounds()
	last := map[string]int{}
	var failing []string // for two rounds
	for r.number = 1; r.number <= 300; r.number++ {
		begun := r.choose(wanted, likely)
		for _, host := range begun {
			last[host] = r.number
		}
		for _, host := range wanted[:likely] {
			if pause := r.number - last[host]; pause > 6 {
				t.Fatalf("in round %d %s has waited for %d", r.number, host, pause)
			}
		}
		for _, host := range failing {
			delete(r.busy, host)
		}
		failing = begun
	}
	if len(last) < 300*joinsPerRound/2 {
		t.Errorf("of %d hosts %d were begun with", len(wanted), len(last))
	}
}

func TestHostsNoLongerWantedLeaveNothingBehind(t *testing.T) {
	r := newRounds()
	r.number = 1
	r.choose([]string{"a", "b"}, 2)
	r.number = 2
	r.choose([]string{"b"}, 2)
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
