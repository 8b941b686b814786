package scenario

import (
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/report"
)

func TestASoakComparesEachLookOfItsLastQuarterWithOneOfItsFirst(t *testing.T) {
	s := &soaking{b: &bench{Scenario: &report.Scenario{}}, lasts: time.Minute}
	s.b.System("last quarter", "", "", "")
	s.b.System("first quarter", "", "", "")
	for i := range soakLooks {
		s.looks = append(s.looks, soaked{rate: float64(1 + i%6)})
		if i >= soakLooks/2 {
			s.looks[i].rate /= 2
		}
	}
	s.record()
	s.b.Finish()
	if of := s.b.Rows[0].Of; len(of[0].Rounds) != 6 || of[1].Ratio == nil || of[1].Ratio.Low != 0.5 || of[1].Ratio.High != 0.5 {
		t.Errorf("%+v beside %+v", of[0], of[1])
	}
}
