package peer

import (
	"testing"
	"time"
	"unsafe"
)

// stepped returns a time as it would be had the wall clock been set back by some seconds since: the reading of the clock
// that is never set stays.
func stepped(t time.Time, seconds int) time.Time {
	const nanoseconds = 30 // bits below the seconds: see time.Time
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = uint64(int64(*wall) + int64(seconds)<<nanoseconds)
	return t
}

func TestAStepOfTheClockNeitherSilencesALinkNorKeepsADeadOne(t *testing.T) {
	for _, step := range []int{-7200, 7200} {
		l := &link{began: time.Now()}
		l.listened()
		l.began = stepped(l.began, step)
		if apart := time.Since(l.began.Round(0)).Round(time.Hour); apart != -time.Duration(step)*time.Second {
			t.Fatalf("the clock was set by %v", apart)
		}
		if s := l.silence(); s < 0 || s > time.Minute {
			t.Errorf("a link that was heard just now is silent for %v after a step", s)
		}
		l.began = l.began.Add(-time.Hour)
		if s := l.silence(); s < time.Hour || s > time.Hour+time.Minute {
			t.Errorf("a link that was heard an hour ago is silent for %v after a step", s)
		}
		if l.listened(); l.silence() > time.Minute {
			t.Errorf("a link that was heard again is silent for %v", l.silence())
		}
	}
}
