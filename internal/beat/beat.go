// Package beat has what is done now and then in a process be done at the same moments. For a process that is idle it is
// waking up that costs, and not what it then does: ten timers of a second wake it once a second in place of ten times.
//
// The moments of one process are not those of another: hosts of a cluster that were all to send at once would be in each
// other's way.
package beat

import (
	"sync/atomic"
	"time"
)

// first is the moment from which all others are counted.
var first atomic.Pointer[time.Time]

func init() { Begin() }

// Begin has the moments counted from now: for tickers of others, which begin now.
func Begin() {
	now := time.Now()
	first.Store(&now)
}

// Next returns the first moment of every that is not before t.
func Next(t time.Time, every time.Duration) time.Time {
	past := t.Sub(*first.Load()) % every
	if past <= 0 { // before the first, or the moment itself
		return t.Add(-past)
	}
	return t.Add(every - past)
}

// After returns a channel that gets the time at the next moment of every.
func After(every time.Duration) <-chan time.Time {
	now := time.Now()
	return time.After(Next(now.Add(1), every).Sub(now))
}
