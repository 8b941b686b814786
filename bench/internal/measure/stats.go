package measure

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a value with the spread of its repetitions: in 95 of 100 experiments like this one
// what is between Low and High has the true value in it.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Holds reports whether a value is within the spread.
func (i Interval) Holds(x float64) bool { return i.Low <= x && x <= i.High }

// resamples is how many samples a bootstrap draws: the bounds of two runs of it differ by about a
// hundredth of the interval's width.
const resamples = 4000

// Spread returns the median of what was measured, with its bootstrap interval (Efron 1979: the
// percentiles of the medians of samples drawn with replacement). With three repetitions that is
// from the least to the greatest. It is the same each time for the same values.
func Spread(values []float64) Interval {
	m := Interval{Value: Median(values)}
	if len(values) == 0 {
		m.Low, m.High = m.Value, m.Value
		return m
	}
	chance := rand.New(rand.NewPCG(1, uint64(len(values))))
	medians := make([]float64, resamples)
	sample := make([]float64, len(values))
	for i := range medians {
		for j := range sample {
			sample[j] = values[chance.IntN(len(values))]
		}
		medians[i] = Median(sample)
	}
	slices.Sort(medians)
	m.Low, m.High = medians[resamples*25/1000], medians[resamples*975/1000-1]
	return m
}

// Ratio returns the median of the quotients of what was measured in the same round, with its
// interval: what slows a round down slows both sides, and the quotient does not see it. Rounds in
// which nothing was measured below are left out.
func Ratio(above, below []float64) Interval { return Spread(quotients(above, below)) }

// Quotient is Ratio without the interval.
func Quotient(above, below []float64) float64 { return Median(quotients(above, below)) }

func quotients(above, below []float64) (all []float64) {
	for i := range min(len(above), len(below)) {
		if below[i] > 0 {
			all = append(all, above[i]/below[i])
		}
	}
	return all
}

// Median returns the value in the middle, of an even number the mean of the two, and NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// InTurn calls measure for each of some systems in each round. Who is first changes from round to
// round, lest one always has the machine in the same state.
func InTurn(rounds, systems int, measure func(round, system int) error) error {
	for round := range rounds {
		for i := range systems {
			if err := measure(round, (round+i)%systems); err != nil {
				return err
			}
		}
	}
	return nil
}
