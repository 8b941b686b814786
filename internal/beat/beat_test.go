package beat

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsDoneNowAndThenIsDoneAtTheSameMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		Begin()
		at := map[time.Time]bool{}
		for _, every := range []time.Duration{500 * time.Millisecond, time.Second, 5 * time.Second} {
			for range 12 {
				last := time.Now()
				if passed := (<-After(every)).Sub(last); passed <= 0 || passed > every {
					t.Fatalf("a moment of %v came after %v", every, passed)
				}
				at[time.Now()] = true
			}
		}
		for when := range at {
			if next := Next(when, 500*time.Millisecond); next != when {
				t.Errorf("%v is no moment of half a second: %v is", when, next)
			}
		}
	})
}

func TestTheNextMomentOfATimeIsNeverBeforeIt(t *testing.T) {
	for _, when := range []time.Time{time.Unix(-10, 1), time.Unix(0, 0), time.Unix(1e9, 999)} {
		next := Next(when, time.Second)
		if wait := next.Sub(when); wait < 0 || wait >= time.Second {
			t.Errorf("the moment after %v is %v later", when, wait)
		}
		if again := Next(next, time.Second); !again.Equal(next) {
			t.Errorf("%v is a moment, and the next is %v", next, again)
		}
	}
}
