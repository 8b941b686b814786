package report

import (
	"math"
	"testing"
)

func TestNumbersAreShort(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.0341: "0.034", 0.5: "0.50", 2: "2", 12.34: "12.3", 123.4: "123", 1234.4: "1,234",
		999_999.6: "1,000,000", 10_000_000: "10,000,000", -1500: "-1,500", -123_456: "-123,456",
		1e19: "1e+19", -1e19: "-1e+19", 1.234e57: "1.2e+57", math.Inf(1): "+Inf", math.Inf(-1): "-Inf", math.MinInt64: "-9.2e+18",
	} {
		if got := Number(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}

func TestCountsHaveCommas(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 999: "999", 1000: "1,000", -999: "-999", -1000: "-1,000", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := Count(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}
