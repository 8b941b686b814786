package resp

import (
	"bytes"
	"math/big"
	"strings"
)

const (
	errNoFloat     = replyError("ERR value is not a valid float")
	errHashNoFloat = replyError("ERR hash value is not a float")
	errNotFinite   = replyError("ERR increment would produce NaN or Infinity")
)

// Sums of decimal fractions are computed and written as Redis does on amd64: with the 64 bits of
// mantissa of the 80-bit format, and 17 digits behind the point.
const (
	floatMantissa = 64
	floatExponent = 1 << 14
	leastExponent = -16445 // a smaller number is none of that format, and would take long to write
	floatDigits   = 17
	longestFloat  = 5 << 10 // bytes of its text
)

// addFloat returns the sum of a number, 0 if there is none, and another as text. The error for a
// number that is none is notFloat.
func addFloat(number []byte, exists bool, increment []byte, notFloat error) ([]byte, error) {
	sum := new(big.Float).SetPrec(floatMantissa)
	if exists {
		var err error
		if sum, err = parseFloat(number); err != nil {
			return nil, notFloat
		}
	}
	n, err := parseFloat(increment)
	if err != nil {
		return nil, errNoFloat
	}
	if n.IsInf() || sum.IsInf() {
		return nil, errNotFinite
	}
	if sum.Add(sum, n); sum.MantExp(nil) > floatExponent {
		return nil, errNotFinite
	}
	text := sum.Append(nil, 'f', floatDigits)
	text = bytes.TrimRight(bytes.TrimRight(text, "0"), ".")
	if string(text) == "-0" || len(text) == 0 {
		text = []byte("0")
	}
	return text, nil
}

// parseFloat reads what C's strtold takes: decimal or hexadecimal, or infinity.
func parseFloat(text []byte) (*big.Float, error) {
	s, base := string(text), 10
	digits := strings.ToLower(strings.TrimLeft(s, "+-"))
	hexadecimal := strings.HasPrefix(digits, "0x")
	switch {
	case len(s) > longestFloat, strings.Contains(s, "_"), strings.Contains(digits, "p") && !hexadecimal:
		return nil, errNoFloat
	case digits == "infinity":
		s = s[:len(s)-len("inity")]
	case hexadecimal:
		base = 0
	}
	f, _, err := big.ParseFloat(s, base, floatMantissa, big.ToNearestEven)
	if err != nil {
		return nil, errNoFloat
	}
	if e := f.MantExp(nil); !f.IsInf() && (e > floatExponent || e < leastExponent) {
		return nil, errNoFloat
	}
	return f, nil
}
