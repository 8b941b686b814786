package report

import "testing"

func TestNumbersAreShort(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.0341: "0.034", 0.5: "0.50", 2: "2", 12.34: "12.3", 123.4: "123", 1234.4: "1,234",
		999_999.6: "1,000,000", 10_000_000: "10,000,000", -1500: "-1,500",
	} {
		if got := Number(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}
