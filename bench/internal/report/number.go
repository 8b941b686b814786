package report

import (
	"fmt"
	"math"
)

// Number writes a value with about three digits that say something.
func Number(x float64) string {
	switch abs := math.Abs(x); {
	case abs >= 1000:
		return grouped(int64(math.Round(x)))
	case abs >= 100 || x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case abs >= 10:
		return fmt.Sprintf("%.1f", x)
	case abs >= 0.1:
		return fmt.Sprintf("%.2f", x)
	default:
		return fmt.Sprintf("%.2g", x)
	}
}

// Count writes a number of things.
func Count(n int) string { return grouped(int64(n)) }

// grouped writes a number with a comma before each three digits.
func grouped(n int64) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
