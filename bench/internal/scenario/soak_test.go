package scenario

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/report"
)

// soakOf is a bench that a soak of three rounds has recorded.
func soakOf(look func(round, i int) soaked) *bench {
	b := &bench{Scenario: &report.Scenario{}, rounds: 3}
	b.System("last quarter", "", "", "")
	b.System("first quarter", "", "", "")
	var rounds [][]soaked
	for r := range b.rounds {
		var looks []soaked
		for i := range soakLooks {
			looks = append(looks, look(r, i))
		}
		rounds = append(rounds, looks)
	}
	b.soaked(time.Minute, rounds)
	b.Finish()
	return b
}

func TestASoakComparesTheLastQuarterOfEachRoundWithItsFirst(t *testing.T) {
	b := soakOf(func(round, i int) soaked {
		rate := float64(10 * (round + 1)) // rounds differ, which is no spread of what they compare
		if i >= soakLooks/2 {
			rate /= 2
		}
		return soaked{rate: rate}
	})
	if of := b.Rows[0].Of; len(of[0].Rounds) != 3 || of[1].Ratio == nil || of[1].Ratio.Low != 0.5 || of[1].Ratio.High != 0.5 {
		t.Errorf("%+v beside %+v", of[0], of[1])
	}
}

// Who is started again has forgotten what grew.
func TestWhatGrowsInThePeerThatIsNeverKilledShows(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 3))
	for range 1000 {
		if soakVictim(chance, 3, true) == 0 {
			t.Fatal("it is killed")
		}
	}
	b := soakOf(func(_, i int) soaked {
		return soaked{all: holding{heap: 100}, kept: holding{heap: float64(10 + i)}}
	})
	for _, r := range b.Rows {
		if r.What == "heap" && (r.Of[1].Ratio.Low > 1) != (r.Unit == "MB of "+soakKept) {
			t.Errorf("%s, %s: × %+v", r.What, r.Unit, r.Of[1].Ratio)
		}
	}
	if len(b.Rows) != 11 {
		t.Errorf("there are %d rows", len(b.Rows))
	}
}
