package main

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// figure is one measured value.
type figure struct {
	what  string
	value float64
	unit  string // written behind the value
	bound bound
	note  string // what it was made from
	sized bool   // it depends on how much there is
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

// line returns the figure as a line of the table. With small sizes a verdict on what depends on
// them is in parentheses.
func (f figure) line(row string, quick bool) string {
	verdict := f.bound.verdict(f.value)
	if f.sized && quick && verdict != "" {
		verdict = "(" + verdict + ")"
	}
	limit := func(x float64) string {
		switch {
		case x == 0:
			return ""
		case f.bound.most:
			return "≤ " + number(x) + f.unit
		}
		return number(x) + f.unit
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", row, f.what, number(f.value)+f.unit,
		limit(f.bound.least), limit(f.bound.goal), verdict, f.note)
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

// number writes a value with about three digits that say something.
func number(x float64) string {
	switch abs := math.Abs(x); {
	case abs >= 1000:
		return grouped(int64(math.Round(x)))
	case abs >= 100 || x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case abs >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func count(n int) string { return grouped(int64(n)) }

// grouped writes a number with a comma before each three digits.
func grouped(n int64) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// median returns the value in the middle, of an even number the mean of the two, and NaN of none.
func median(values []float64) float64 {
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

// quotient returns the median of the quotients of what was measured in the same round: what slows a
// round down slows both. Rounds in which nothing was measured below are left out.
func quotient(above, below []float64) float64 {
	var all []float64
	for i := range min(len(above), len(below)) {
		if below[i] > 0 {
			all = append(all, above[i]/below[i])
		}
	}
	return median(all)
}

// evenness returns how much was done in the slowest second, as a part of what was done in the
// median one. The last second is left out, since it is not whole, and so is the first.
func evenness(seconds []int64) float64 {
	if len(seconds) < 3 {
		return math.NaN()
	}
	var whole []float64
	for _, n := range seconds[1 : len(seconds)-1] {
		whole = append(whole, float64(n))
	}
	return slices.Min(whole) / median(whole)
}

// histogram counts durations in buckets that are at most a 32nd wide, from a nanosecond on.
type histogram struct {
	counts [2048]int64
	total  int64
}

const subBuckets = 32 // of each doubling

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < subBuckets {
		return int(n)
	}
	shift := bits.Len64(n) - bits.Len64(subBuckets)
	return shift*subBuckets + int(n>>shift)
}

// bucketEnd returns the longest duration of a bucket.
func bucketEnd(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	return time.Duration((i%subBuckets+subBuckets+1)<<shift - 1)
}

func (h *histogram) observe(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// quantile returns a duration that the part q of all do not exceed, 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.total)))
	var seen int64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= rank {
			return bucketEnd(i)
		}
	}
	return 0
}
