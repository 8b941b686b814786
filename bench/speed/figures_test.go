package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheMedianIsInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("median has put %v in another order", before)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

// A machine that is slow for a round is so for both: the quotient of the medians would be 1 here.
func TestQuotientsAreOfTheSameRound(t *testing.T) {
	ours, theirs := []float64{10, 40, 50}, []float64{20, 80, 40}
	if got := quotient(ours, theirs); got != 0.5 {
		t.Errorf("quotient is %v, want 0.5", got)
	}
	if got := quotient([]float64{1, 6}, []float64{0, 2}); got != 3 {
		t.Errorf("with a round in which nothing was measured it is %v, want 3", got)
	}
	if got := quotient(nil, nil); !math.IsNaN(got) {
		t.Errorf("the quotient of nothing is %v", got)
	}
}

func TestTheSlowestSecondIsAWholeOne(t *testing.T) {
	for _, c := range []struct {
		seconds []int64
		want    float64
	}{
		{[]int64{1, 100, 50, 100, 100, 2}, 0.5},
		{[]int64{1, 100, 100, 0, 100, 2}, 0},
		{[]int64{1, 100, 1}, 1},
	} {
		if got := evenness(c.seconds); got != c.want {
			t.Errorf("of %v the slowest second is %v of the median, want %v", c.seconds, got, c.want)
		}
	}
	if got := evenness([]int64{5, 5}); !math.IsNaN(got) {
		t.Errorf("a load of less than a whole second is even to %v", got)
	}
}

func TestAHistogramKnowsItsQuantilesToAThirtySecond(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	var h, other histogram
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(math.Exp(rng.Float64() * 25)) // from 1 ns to 72 s
		all = append(all, d)
		if i%2 == 0 {
			h.observe(d)
		} else {
			other.observe(d)
		}
	}
	h.add(&other)
	slices.Sort(all)
	for _, q := range []float64{0.0001, 0.01, 0.5, 0.99, 0.999, 1} {
		exact := all[int(math.Ceil(q*float64(len(all))))-1]
		if got := h.quantile(q); got < exact || got-exact > exact/32+1 {
			t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
		}
	}
	if got := new(histogram).quantile(0.99); got != 0 {
		t.Errorf("a quantile of nothing is %v", got)
	}
	h = histogram{}
	h.observe(-time.Second) // clocks are set
	h.observe(math.MaxInt64)
	if got := h.quantile(1); got != math.MaxInt64 {
		t.Errorf("the longest duration is counted as %v", got)
	}
}

func TestAFigureSaysWhetherItKeepsItsBound(t *testing.T) {
	for _, c := range []struct {
		value float64
		bound bound
		want  string
	}{
		{1.2, atLeast(0.8, 1), "goal"},
		{0.8, atLeast(0.8, 1), "yes"},
		{0.79, atLeast(0.8, 1), "MISSED"},
		{3, atMost(5, 3), "goal"},
		{4, atMost(5, 3), "yes"},
		{5.1, atMost(5, 3), "MISSED"},
		{0, atMost(20, 3), "goal"},
		{60, atMost(64, 0), "yes"},
		{65, atMost(64, 0), "MISSED"},
		{math.NaN(), atMost(64, 0), "MISSED"},
		{math.NaN(), atLeast(1, 2), "MISSED"},
		{7, bound{}, ""},
	} {
		if got := c.bound.verdict(c.value); got != c.want {
			t.Errorf("%v with %+v: %q, want %q", c.value, c.bound, got, c.want)
		}
	}
	f := figure{
		what: "held", value: 1234.4, unit: " MB", bound: atMost(300, 200), note: "a note", sized: true,
	}
	want := "| memory | held | 1,234 MB | ≤ 300 MB | ≤ 200 MB | MISSED | a note |"
	if got := f.line("memory", false); got != want {
		t.Errorf("the line is\n%s, want\n%s", got, want)
	}
	small := strings.Replace(want, "MISSED", "(MISSED)", 1)
	if got := f.line("memory", true); got != small {
		t.Errorf("with small sizes the line is\n%s, want\n%s", got, small)
	}
	for line := range strings.Lines(heading) {
		if strings.Count(line, "|") != strings.Count(want, "|") {
			t.Errorf("a line of the heading has other columns: %s", line)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.034: "0.03", 0.5: "0.50", 2: "2", 12.34: "12.3", 123.4: "123", 1234.4: "1,234",
		999_999.6: "1,000,000", 10_000_000: "10,000,000", -1500: "-1,500",
	} {
		if got := number(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}
