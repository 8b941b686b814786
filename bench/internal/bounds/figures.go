package bounds

import (
	"fmt"
	"math"
	"slices"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// figure is one measured value.
type figure struct {
	what  string
	value float64
	// rounds is the value with its spread, in place of value, where it is of several rounds.
	rounds measure.Interval
	unit   string // written behind the value
	bound  bound
	note   string // what it was made from
	sized  bool   // it depends on how much there is
}

// bound is what a figure must be at least, and what it is meant to become. The zero bound is none.
type bound struct {
	least, goal float64 // goal is 0 if there is none beyond least
	most        bool    // the smaller the better: least and goal are not to be exceeded
}

// atLeast and atMost make bounds.
func atLeast(least, goal float64) bound { return bound{least: least, goal: goal} }
func atMost(least, goal float64) bound  { return bound{least: least, goal: goal, most: true} }

const heading = "| row | figure | measured | at least | goal | met | from |\n" +
	"|---|---|---|---|---|---|---|\n"

// measured is the figure's value.
func (f figure) measured() float64 {
	if f.rounds != (measure.Interval{}) {
		return f.rounds.Value
	}
	return f.value
}

// verdict says whether the figure keeps its bound, in parentheses if it cannot be judged by small
// sizes.
func (f figure) verdict(quick bool) string {
	verdict := f.bound.verdict(f.measured())
	if f.sized && quick && verdict != "" {
		verdict = "(" + verdict + ")"
	}
	return verdict
}

// line returns the figure as a line of the table. With small sizes a verdict on what depends on
// them is in parentheses. What has no interval says that it is of one run.
func (f figure) line(row string, quick bool) string {
	measured := report.Number(f.measured()) + f.unit
	switch {
	case f.rounds == (measure.Interval{}):
		measured += " (one run)"
	case f.rounds.Low < f.rounds.High:
		measured += fmt.Sprintf(" (%s–%s)", report.Number(f.rounds.Low), report.Number(f.rounds.High))
	}
	limit := func(x float64) string {
		switch {
		case x == 0:
			return ""
		case f.bound.most:
			return "≤ " + report.Number(x) + f.unit
		}
		return report.Number(x) + f.unit
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", row, f.what, measured,
		limit(f.bound.least), limit(f.bound.goal), f.verdict(quick), f.note)
}

// verdict says whether a value keeps the bound.
func (b bound) verdict(value float64) string {
	keeps := func(limit float64) bool {
		if math.IsNaN(value) {
			return false
		}
		return limit != 0 && (value >= limit && !b.most || value <= limit && b.most)
	}
	switch {
	case b == bound{}:
		return ""
	case keeps(b.goal):
		return "goal"
	case keeps(b.least):
		return "yes"
	}
	return "MISSED"
}

// evenness returns how much was done in the slowest second, as a part of what was done in the
// median one. The last second is left out, since it is not whole, and so is the first. Where no
// more are left than one, it has nothing to be compared with.
func evenness(seconds []int64) (float64, error) {
	if len(seconds) < 4 {
		return 0, fmt.Errorf("over within %d s: there are no two whole seconds to compare", len(seconds))
	}
	var whole []float64
	for _, n := range seconds[1 : len(seconds)-1] {
		whole = append(whole, float64(n))
	}
	return slices.Min(whole) / measure.Median(whole), nil
}
