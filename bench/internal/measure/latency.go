package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies is how long operations took, in an HDR histogram: from a microsecond to ten minutes, to
// three digits. The zero value is ready. One goroutine may use it at a time.
type Latencies struct {
	histogram *hdrhistogram.Histogram
}

const (
	unit    = time.Microsecond
	longest = 10 * time.Minute
)

// Observe counts one operation.
func (l *Latencies) Observe(d time.Duration) {
	if l.histogram == nil {
		l.histogram = hdrhistogram.New(1, int64(longest/unit), 3)
	}
	d = min(max(d, unit), longest)
	_ = l.histogram.RecordValue(int64((d + unit/2) / unit)) // which is in range
}

// Add counts what another one has counted.
func (l *Latencies) Add(other *Latencies) {
	if other.histogram == nil {
		return
	}
	if l.histogram == nil {
		l.histogram = hdrhistogram.New(1, int64(longest/unit), 3)
	}
	l.histogram.Merge(other.histogram)
}

// Count returns how many operations were counted.
func (l *Latencies) Count() int64 {
	if l.histogram == nil {
		return 0
	}
	return l.histogram.TotalCount()
}

// Enough reports whether there are operations enough for a quantile: the p99.9 of fewer than a
// thousand is no quantile, but the slowest.
func (l *Latencies) Enough(q float64) bool {
	return l.Count() > 0 && float64(l.Count())*(1-q) >= 0.9999 // one, but for what a hundredth is not exactly
}

// Quantile returns a duration that the part q of all do not exceed, 0 if there are none.
func (l *Latencies) Quantile(q float64) time.Duration {
	if l.histogram == nil {
		return 0
	}
	return time.Duration(l.histogram.ValueAtQuantile(100*q)) * unit
}

// Milliseconds returns a quantile as a number.
func (l *Latencies) Milliseconds(q float64) float64 {
	return float64(l.Quantile(q)) / float64(time.Millisecond)
}
