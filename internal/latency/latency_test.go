package latency

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestADurationIsCountedInTheBucketThatHoldsIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	durations := []time.Duration{0, -time.Second, 1, shortest, shortest + 1, 2 * shortest,
		2*shortest + 1, Bound(buckets - 1), Bound(buckets-1) + 1, 1 << 62}
	for range 1000 {
		durations = append(durations, time.Duration(rng.Int64N(1<<rng.IntN(40)+1)))
	}
	for _, d := range durations {
		var h Histogram
		h.Observe(d, 3)
		c := h.Counts()
		for i, n := range c.Buckets {
			above := i == 0 || d > Bound(i-1)
			below := i == buckets || d <= Bound(i)
			if (n == 3) != (above && below) {
				t.Errorf("%v: %d in bucket %d", d, n, i)
			}
		}
		if c.Total != 3 || d > 0 && d < time.Hour && c.Sum != 3*d {
			t.Errorf("%v: %d of %v in all", d, c.Total, c.Sum)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for b.Loop() {
		h.Observe(123*time.Microsecond, 16)
	}
}
