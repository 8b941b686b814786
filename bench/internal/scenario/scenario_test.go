package scenario

import (
	"math"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/report"
)

// Whoever is first in a round, and whoever gives nothing in one, what is compared is of one round.
func TestWhatIsMeasuredInTurnIsOfItsRound(t *testing.T) {
	b := &bench{Scenario: &report.Scenario{}, rounds: 3, show: func(float64, string) {}}
	names := []string{"peerd", "redis"}
	for _, name := range names {
		b.System(name, "", "", "")
	}
	err := b.inTurn(0, 1, "", len(names), func(round, s int) error {
		if round > 0 || s == 0 {
			b.Less("took", "ms", names[s], math.Pow(10, float64(round))*float64(1+s))
		}
		return nil
	})
	b.Less("took", "ms", "floor", 0.5)
	b.Finish()
	if of := b.Rows[0].Of; err != nil || of[1].Ratio.Low != 0.5 || of[1].Ratio.High != 0.5 || of[0].Rounds[1] != 10 || len(of[2].Rounds) != 1 {
		t.Errorf("%+v, %+v, %+v, %v", of[0], of[1], of[2], err)
	}
}

// The gate waits for it. What starting and installing take is not in the plan.
func TestAQuickRunIsPlannedToEndWithinTenMinutes(t *testing.T) {
	var sum time.Duration
	for _, s := range All {
		sum += s.Expected(true)
	}
	if sum > 9*time.Minute {
		t.Errorf("all is planned to take %v", sum)
	}
}
