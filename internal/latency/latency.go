// Package latency counts how long things took, for monitoring.
//
// A Histogram has 21 buckets, of 16 µs, 32 µs and so on to 16.8 s, and one beyond: twice as wide
// each, so that any share of what was observed, as the slowest hundredth, is known to a factor of
// two, over the whole range in which a command's time can be. Observing costs two atomic additions,
// and no more for many that took equally long: that is what a pipeline of commands does.
//
// Caveat: a Counts is not taken at one moment. An observation under way may be in its bucket and not
// yet in the sum.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	shortest = 16 * time.Microsecond // of the first bucket; each is twice as wide as the one before
	buckets  = 21
)

// Histogram counts durations. The zero Histogram is empty. It may be used by many goroutines at once.
type Histogram struct {
	counts [buckets + 1]atomic.Uint64
	sum    atomic.Uint64 // nanoseconds
}

// Observe counts n durations of d.
func (h *Histogram) Observe(d time.Duration, n int) {
	d = max(d, 0)
	i := 0
	if d > 0 {
		i = bits.Len64(uint64((d - 1) / shortest))
	}
	h.counts[min(i, buckets)].Add(uint64(n))
	h.sum.Add(uint64(d) * uint64(n))
}

// Counts returns what was observed so far.
func (h *Histogram) Counts() Counts {
	var c Counts
	for i := range h.counts {
		c.Buckets[i] = h.counts[i].Load()
		c.Total += c.Buckets[i]
	}
	c.Sum = time.Duration(h.sum.Load())
	return c
}

// Counts is what a Histogram observed.
type Counts struct {
	Buckets [buckets + 1]uint64 // Buckets[i] took at most Bound(i), and longer than Bound(i-1)
	Total   uint64
	Sum     time.Duration
}

// Bound returns the longest duration of bucket i. The last bucket has none: 0.
func Bound(i int) time.Duration {
	if i >= buckets {
		return 0
	}
	return shortest << i
}
