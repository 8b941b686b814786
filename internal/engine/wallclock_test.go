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

// TestAClockThatIsSetIsInDoubt until it is measured, or nobody has for a while: nothing expires
// early, by what it showed nor by what it shows, nor is said to.
func TestAClockThatIsSetIsInDoubt(t *testing.T) {
	began := time.UnixMilli(1_790_000_000_000)
	for _, was := range []Clock{{}, {Ahead: time.Hour}, {Ahead: -time.Hour}, {Slack: time.Hour}} {
		for _, by := range []time.Duration{0, MaxSkew / 2, 10 * time.Minute, -10 * time.Minute} {
			at := func(after time.Duration) Reading {
				return Reading{Now: time.Unix(0, 0).Add(after), Wall: began.Add(after + by)}
			}
			found := FoundNow(was, Reading{Now: time.Unix(0, 0), Wall: began})
			clock, found := found.At(at(time.Second), MaxSkew)
			if by.Abs() <= MaxSkew {
				if clock != was || found.Moved() {
					t.Errorf("%+v, set ahead by %v, is taken for %+v", was, by, clock)
				}
				continue
			}
			for _, right := range []time.Duration{was.Ahead, was.Ahead - by} { // ahead of the clock
				if early := clock.judges() - right; early > 0 {
					t.Errorf("%+v, set ahead by %v: %+v has keys expire %v early", was, by, clock, early)
				}
				if clock.Ahead < right {
					t.Errorf("%+v, set ahead by %v: by %+v is said what has passed", was, by, clock)
				}
			}
			if again, _ := found.At(at(believedAfter), MaxSkew); again != clock {
				t.Errorf("%+v, set ahead by %v, is %+v and then %+v", was, by, clock, again)
			}
			back, now := found.At(Reading{time.Unix(60, 0), began.Add(time.Minute)}, MaxSkew)
			if back != was || now.Moved() {
				t.Errorf("%+v, set ahead by %v and back, is %+v", was, by, back)
			}
			alone, now := found.At(at(time.Second+believedAfter), MaxSkew)
			if alone != was.Doubted() || now.Moved() {
				t.Errorf("%+v, set ahead by %v long ago, is taken for %+v", was, by, alone)
			}
		}
	}
}

// TestWhoseClockWasSetHearsTheFirstItMeasures, which may tell what it showed, or what it shows.
func TestWhoseClockWasSetHearsTheFirstItMeasures(t *testing.T) {
	for _, test := range []struct{ by, told, early, said time.Duration }{
		{10 * time.Minute, 0, 0, 0}, // its host slept
		{-10 * time.Minute, 0, 0, 0},
		{10 * time.Minute, -10 * time.Minute, -10 * time.Minute, 0},
		{-10 * time.Minute, 10 * time.Minute, 0, 10 * time.Minute},
	} {
		at := Reading{Now: time.Unix(1, 0), Wall: time.Unix(1, 0).Add(test.by)}
		found := FoundNow(Clock{}, Reading{time.Unix(0, 0), time.Unix(0, 0)})
		found = found.Judge(clocks(test.told), at, MaxSkew)
		if c, _ := found.At(at, MaxSkew); c.judges() != test.early || c.Ahead != test.said {
			t.Errorf("set ahead by %v, and then behind the other by %v: %+v", test.by, test.told, c)
		}
	}
}

// TestADoubtDoesNotGrowWithEachSleep: what one other tells says which clocks may be right.
func TestADoubtDoesNotGrowWithEachSleep(t *testing.T) {
	at := func(after, by time.Duration) Reading {
		return Reading{time.Unix(0, 0).Add(after), time.Unix(0, 0).Add(after + by)}
	}
	const by, slept = -10 * time.Minute, 8 * time.Hour
	found := FoundNow(Clock{}, at(0, 0)).Judge(clocks(-by), at(time.Second, by), MaxSkew)
	before, _ := found.At(at(time.Second, by), MaxSkew)
	found = found.Judge(clocks(-by), at(time.Minute, by+slept), MaxSkew)
	if c, _ := found.At(at(time.Minute, by+slept), MaxSkew); c != before || c != (Clock{-by, -by}) {
		t.Errorf("a clock of which was found %+v is taken for %+v after %v of sleep", before, c, slept)
	}
}

// TestAClockThatIsSetAgainIsInDoubtForAsLongAgain where nobody measures it.
func TestAClockThatIsSetAgainIsInDoubtForAsLongAgain(t *testing.T) {
	at := func(after, by time.Duration) Reading {
		return Reading{time.Unix(0, 0).Add(after), time.Unix(0, 0).Add(after + by)}
	}
	_, found := FoundNow(Clock{}, at(0, 0)).At(at(time.Second, time.Hour), MaxSkew)
	const day = 24 * time.Hour
	_, found = found.At(at(believedAfter, day), MaxSkew)
	if c, _ := found.At(at(2*believedAfter-time.Second, day), MaxSkew); c.judges() != -day {
		t.Errorf("within %v it is taken for %+v", believedAfter, c)
	}
	if c, _ := found.At(at(2*believedAfter, day), MaxSkew); c != (Clock{}) {
		t.Errorf("after %v it is taken for %+v", believedAfter, c)
	}
}

// clocks are some that are ahead by so much, measured to a millisecond.
func clocks(ahead ...time.Duration) (all []Measured) {
	for _, a := range ahead {
		all = append(all, Measured{Ahead: a, Error: time.Millisecond})
	}
	return all
}
