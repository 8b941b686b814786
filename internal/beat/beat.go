// Package beat has what is done now and then in a process be done at the same moments. For a process that is idle it is
// waking up that costs, and not what it then does: ten timers of a second wake it once a second in place of ten times.
//
// The moments of one process are not those of another: hosts of a cluster that were all to send at once would be in each
// other's way.
package beat

import (
	"math/rand/v2"
	"time"
)

// phase is by how much the process's moments are behind those of the clock.
var phase = time.Duration(rand.Int64N(int64(time.Hour)))

// Next returns the first moment of every that is not before t.
func Next(t time.Time, every time.Duration) time.Time {
	past := (time.Duration(t.UnixNano()) - phase) % every
	if past <= 0 { // before 1970, or the moment itself
		return t.Add(-past)
	}
	return t.Add(every - past)
}

// After returns a channel that gets the time at the next moment of every.
func After(every time.Duration) <-chan time.Time {
	now := time.Now()
	return time.After(Next(now.Add(1), every).Sub(now))
}
