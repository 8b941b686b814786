package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Number writes a value with about three digits that say something.
func Number(x float64) string {
	switch abs := math.Abs(x); {
	case abs >= 1e15: // no quantity, but the end of a spread of two rounds that had little in common
		return fmt.Sprintf("%.2g", x)
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
	digits := strconv.FormatInt(n, 10)
	sign := len(digits) - len(strings.TrimPrefix(digits, "-"))
	for at := len(digits) - 3; at > sign; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
