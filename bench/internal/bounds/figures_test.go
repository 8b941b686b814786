package bounds

import (
	"math"
	"strings"
	"testing"

	"github.com/peerd/peerd/bench/internal/measure"
)

func TestTheSlowestSecondIsAWholeOne(t *testing.T) {
	for _, c := range []struct {
		seconds []int64
		want    float64
	}{
		{[]int64{1, 100, 50, 100, 100, 2}, 0.5},
		{[]int64{1, 100, 100, 0, 100, 2}, 0},
		{[]int64{1, 100, 100, 1}, 1},
	} {
		if got, err := evenness(c.seconds); err != nil || got != c.want {
			t.Errorf("of %v the slowest second is %v of the median, want %v: %v", c.seconds, got, c.want, err)
		}
	}
	for _, seconds := range [][]int64{nil, {5}, {5, 5}, {5, 5, 5}} {
		if got, err := evenness(seconds); err == nil {
			t.Errorf("%v are even to %v: there are no two whole seconds among them", seconds, got)
		}
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
	want := "| memory | held | 1,234 MB (one run) | ≤ 300 MB | ≤ 200 MB | MISSED | a note |"
	if got := f.line("memory", false); got != want {
		t.Errorf("the line is\n%s, want\n%s", got, want)
	}
	f.rounds = measure.Interval{Value: 1234.4, Low: 1100, High: 1300}
	if got := f.line("memory", false); got != strings.Replace(want, "(one run)",
		"(1,100–1,300)", 1) {
		t.Errorf("of several rounds the line is\n%s", got)
	}
	f.value, f.rounds = f.rounds.Value, measure.Interval{}
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
