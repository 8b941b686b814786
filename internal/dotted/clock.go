package dotted

import (
	"fmt"
	"math"
	"time"
)

// Time is a hybrid logical timestamp (Kulkarni et al.: Logical Physical Clocks, 2014): 48 bits of
// milliseconds since 1970, then 16 bits that order events within one millisecond. Zero is before
// everything. It only ever decides between concurrent entries.
type Time uint64

const logicalBits = 16

// TimeAt returns the first timestamp of t's millisecond; before 1970 it returns zero, and after the
// year 10889 that of the last one there is.
func TimeAt(t time.Time) Time {
	const last = 1<<(64-logicalBits) - 1
	return Time(min(max(Milli(t), 0), last)) << logicalBits
}

// Milli returns a time in milliseconds since 1970, the nearest there is if it is too far away.
func Milli(t time.Time) int64 {
	switch s := t.Unix(); {
	case s < math.MinInt64/1000:
		return math.MinInt64
	case s >= math.MaxInt64/1000:
		return math.MaxInt64
	}
	return t.UnixMilli()
}

// Wall returns the physical part.
func (t Time) Wall() time.Time { return time.UnixMilli(int64(t >> logicalBits)) }

// String returns the physical part in RFC 3339 and the logical part.
func (t Time) String() string {
	return fmt.Sprintf("%s+%d", t.Wall().UTC().Format("2006-01-02T15:04:05.000Z07:00"), t&(1<<logicalBits-1))
}

// Clock is a hybrid logical clock. It never reads the wall clock itself. The zero Clock is ready.
type Clock struct {
	last Time
}

// Now returns a timestamp greater than every one returned or observed before.
func (c *Clock) Now(wall time.Time) Time {
	c.last = max(c.last+1, TimeAt(wall))
	return c.last
}

// Observe takes a remote timestamp into account, so that later local ones are greater. One that is
// ahead of the wall clock by more than maxSkew is not adopted, and Observe returns false.
func (c *Clock) Observe(remote Time, wall time.Time, maxSkew time.Duration) bool {
	if remote > TimeAt(wall.Add(maxSkew)) {
		return false
	}
	c.last = max(c.last, remote)
	return true
}

// Last returns the greatest timestamp so far, which a store keeps across restarts.
func (c *Clock) Last() Time { return c.last }
