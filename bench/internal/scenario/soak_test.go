package scenario

import (
	"math/rand/v2"
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

// Who is started again has forgotten what grew.
func TestWhatGrowsInThePeerThatIsNeverKilledShows(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 3))
	for range 1000 {
		if soakVictim(chance, 3, true) == 0 {
			t.Fatal("it is killed")
		}
	}
	s := &soaking{b: &bench{Scenario: &report.Scenario{}}, lasts: time.Minute}
	s.b.System("last quarter", "", "", "")
	s.b.System("first quarter", "", "", "")
	for i := range soakLooks {
		grows := float64(10 + i)
		s.looks = append(s.looks, soaked{all: holding{heap: 100}, kept: holding{heap: grows}})
	}
	s.record()
	s.b.Finish()
	for _, r := range s.b.Rows {
		if r.What == "heap" && (r.Of[1].Ratio.Low > 1) != (r.Unit == "MB of "+soakKept) {
			t.Errorf("%s, %s: × %+v", r.What, r.Unit, r.Of[1].Ratio)
		}
	}
	if len(s.b.Rows) != 11 {
		t.Errorf("there are %d rows", len(s.b.Rows))
	}
}
