package members

import (
	"math"
	"time"

	"github.com/peerd/peerd/internal/wire"
)

// Clocks are compared by the probes of the failure detector. An answer to a probe carries the time
// at which it was sent; it was on the way for at most the round trip, so half of that on either
// side bounds the error (as in NTP, RFC 5905, of which this is one exchange). Each of two members
// probes the other, so both see the difference, with opposite signs.

// maxClockFields bounds the fields of a message that newer versions may have added to.
const maxClockFields = 16

// encodeClock returns what an answer to a probe carries.
func encodeClock(now time.Time) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(1)
		w.Uint(uint64(max(0, now.UnixNano())))
	})
}

// decodeClock returns the time that an answer to a probe carries, and false if there is none.
func decodeClock(payload []byte) (time.Time, bool) {
	var nanoseconds uint64
	err := wire.Decode(payload, func(r *wire.Reader) {
		n := r.Array(maxClockFields)
		if n < 1 {
			r.Fail("no fields")
		}
		nanoseconds = r.Uint()
		r.Skip(n - 1)
	})
	if err != nil || nanoseconds > math.MaxInt64 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(nanoseconds)), true
}

// offsetOf returns how far the clock that showed theirs is ahead of ours, which showed now when the
// answer came. The round trip is at least a nanosecond, so that an error of 0 means unmeasured.
func offsetOf(theirs, now time.Time, rtt time.Duration) (offset, bound time.Duration) {
	half := max(rtt/2, 1)
	return theirs.Sub(now.Add(-half)), half
}

// compared notes the offset of a member's clock.
func (t *table) compared(id string, offset, bound time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil && r.Alive {
		r.ClockOffset, r.ClockError = offset, bound
	}
}
