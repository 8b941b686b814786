package engine

import (
	"testing"
	"time"
)

// TestAClockThatIsFarOffIsFollowedByNobody though the two others differ by somewhat more than they may.
func TestAClockThatIsFarOffIsFollowedByNobody(t *testing.T) {
	const little = 600 * time.Millisecond
	for _, test := range []struct {
		all  []Measured
		want Clock
	}{
		// As the right one sees it, the one a little behind, and the wrong one.
		{clocks(-little, time.Hour), Clock{}},
		{clocks(little, time.Hour+little), Clock{Ahead: little}},
		{clocks(-time.Hour, -time.Hour-little), Clock{Ahead: -time.Hour}},
		{clocks(time.Hour, time.Hour), Clock{Ahead: time.Hour}},
		// Of two nobody knows which is right.
		{clocks(time.Hour), Clock{}},
		{clocks(-time.Hour), Clock{Slack: time.Hour}},
		{clocks(time.Millisecond), Clock{}},
	} {
		if c := JudgeClock(test.all, MaxSkew, Clock{}); c != test.want {
			t.Errorf("%v: it takes its clock for %+v, want %+v", test.all, c, test.want)
		}
	}
}

// TestWhatMostToldOfAClockIsSoUntilTheLastOneTellsOtherwise has one of two that know better go away, and then the clock set.
func TestWhatMostToldOfAClockIsSoUntilTheLastOneTellsOtherwise(t *testing.T) {
	was := Clock{Ahead: time.Hour}
	for _, test := range []struct {
		all  []Measured
		want Clock
	}{
		{clocks(time.Hour + 300*time.Millisecond), was},
		{clocks(0), Clock{}},
		{clocks(-time.Hour), Clock{Slack: time.Hour}},
	} {
		if c := JudgeClock(test.all, MaxSkew, was); c != test.want {
			t.Errorf("%v: it takes its clock for %+v, want %+v", test.all, c, test.want)
		}
	}
}

// TestADoubtedClockIsNeverAheadWhetherItWasSetOrNot while the host was down: nothing expires early.
func TestADoubtedClockIsNeverAheadWhetherItWasSetOrNot(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, 0, time.Hour} {
		for _, found := range []Clock{JudgeClock(clocks(-off, -off), MaxSkew, Clock{}), {Slack: max(0, off)}} {
			for _, now := range []time.Duration{off, 0} {
				doubt := found.Doubted()
				if ahead := now + doubt.judges(); ahead > 0 {
					t.Errorf("a clock that was off by %v, found to be %+v, and is off by %v is taken for %+v: %v ahead",
						off, found, now, doubt, ahead)
				}
			}
		}
	}
}

// clocks are some that are ahead by so much, measured to a millisecond.
func clocks(ahead ...time.Duration) (all []Measured) {
	for _, a := range ahead {
		all = append(all, Measured{Ahead: a, Error: time.Millisecond})
	}
	return all
}
