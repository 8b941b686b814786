package measure

import (
	"math"
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

// student is how many standard errors to either side hold the mean in 95 of 100 experiments, by the
// number of repetitions less one (Student 1908).
var student = []float64{0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262}

// Spread returns the median of what was measured, with Student's interval of the mean, of the
// logarithms if all is more than nothing, as noise multiplies. No resampling of three values can be
// sure of more than that the median is between the least and the greatest in 3 of 4 experiments.
// With one repetition there is no interval.
func Spread(values []float64) Interval {
	m := Interval{Value: Median(values)}
	m.Low, m.High = m.Value, m.Value
	n := len(values)
	if n < 2 {
		return m
	}
	byFactor := slices.Min(values) > 0
	sum, squares := 0.0, 0.0 // of distances from the median, which identical values have none of
	for _, v := range values {
		d := v - m.Value
		if byFactor {
			d = math.Log(v / m.Value)
		}
		sum, squares = sum+d, squares+d*d
	}
	variance := max(0, squares-sum*sum/float64(n)) / float64(n-1)
	within := 1.96 + 2.5/float64(n-1)
	if n-1 < len(student) {
		within = student[n-1]
	}
	within *= math.Sqrt(variance / float64(n))
	low, high := min(0, sum/float64(n)-within), max(0, sum/float64(n)+within) // the median is in it
	if byFactor {
		m.Low, m.High = m.Value*math.Exp(low), m.Value*math.Exp(high)
		return m
	}
	m.Low, m.High = m.Value+low, m.Value+high
	if slices.Min(values) >= 0 {
		m.Low = max(0, m.Low)
	}
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
