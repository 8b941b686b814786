package scenario

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The recurrence is compared with rumours that are told at random.
func TestTheEpidemicIsThatOfManyRumours(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		n, fanout int
		loss      float64
	}{{10, 3, 0}, {30, 3, 0.3}, {300, 3, 0.1}, {1000, 2, 0}} {
		var rounds []int
		for range 200 {
			knows := make([]bool, c.n)
			knows[0] = true
			took := 0
			for ; slices.Contains(knows, false); took++ {
				before := slices.Clone(knows)
				for i := range before {
					for told := 0; before[i] && told < c.fanout; told++ {
						if to := chance.IntN(c.n); to != i && chance.Float64() >= c.loss {
							knows[to] = true
						}
					}
				}
			}
			rounds = append(rounds, took)
		}
		slices.Sort(rounds)
		got := epidemic(c.n, c.fanout, c.loss)
		if median := rounds[len(rounds)/2]; got < median-1 || got > median+1 {
			t.Errorf("%+v: %d rounds are predicted, half of all rumours take %d", c, got, median)
		}
	}
}
