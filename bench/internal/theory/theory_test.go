package theory

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
)

func TestVectorsAreOrderedAsCausesAre(t *testing.T) {
	const replicas, steps = 5, 400
	chance := rand.New(rand.NewPCG(1, 1))
	type event struct {
		seen    crdt.VersionVector
		history map[crdt.Dot]bool
	}
	now := make([]event, replicas)
	for i := range now {
		now[i] = event{crdt.VersionVector{}, map[crdt.Dot]bool{}}
	}
	var all []event
	var dots []crdt.Dot
	for range steps {
		i, j := chance.IntN(replicas), chance.IntN(replicas)
		if i != j && chance.IntN(2) == 0 { // j hears of all that i knows
			now[j].seen.Merge(now[i].seen)
			for d := range now[i].history {
				now[j].history[d] = true
			}
			continue
		}
		id := crdt.ReplicaID(i + 1)
		now[i].seen[id]++
		dot := crdt.Dot{Replica: id, Counter: now[i].seen[id]}
		now[i].history[dot] = true
		e := event{now[i].seen.Clone(), map[crdt.Dot]bool{}}
		for d := range now[i].history {
			e.history[d] = true
		}
		all, dots = append(all, e), append(dots, dot)
	}
	for i := range all {
		for j := range all {
			want := all[j].history[dots[i]]
			if got := all[j].seen.Contains(all[i].seen); got != want {
				t.Fatalf("%v before %v is %v by vectors, %v by history", dots[i], dots[j], got, want)
			}
			if got := all[j].seen.Has(dots[i]); got != want {
				t.Fatalf("%v before %v is %v by its dot, %v by history", dots[i], dots[j], got, want)
			}
		}
	}
}

// What predictions may be wrong by: of rounds and probabilities that much, of the others that part.
func TestPredictionsAreWhatIsMeasured(t *testing.T) {
	within := map[string]float64{"epidemic-rounds": 0.5, "epidemic-missed": 0.3, "epidemic-any": 0.1,
		"quorum": 0.35, "concurrent": 0.3, "stability": 2}
	for _, c := range Charts() {
		limit, ok := within[c.Name]
		if !ok || len(c.Lines) < 6 {
			t.Errorf("chart %s has %d lines, and no limit", c.Name, len(c.Lines))
		}
		relative := c.LogY
		for i := 0; i < len(c.Lines); i += 2 {
			measured, predicted := c.Lines[i], c.Lines[i+1]
			for j, x := range measured.X {
				want := predicted.Y[slices.Index(predicted.X, x)]
				off := math.Abs(measured.Y[j] - want)
				if relative {
					off /= want
				}
				if c.Name == "epidemic-missed" && want*crowd*rumours < 100 {
					continue // too few to count
				}
				if off > limit {
					t.Errorf("%s, %s at %v: %v measured, %v predicted", c.Name, measured.System, x, measured.Y[j], want)
				}
			}
		}
	}
}

func TestAMajorityOfThreeIsOutWhenTwoAreDown(t *testing.T) {
	if got := (Cluster{3, 2, 0.1}).Out(); math.Abs(got-0.028) > 1e-12 {
		t.Errorf("a majority of 3 is out for %v of the time, 3·0.1²·0.9 + 0.1³ is 0.028", got)
	}
}
