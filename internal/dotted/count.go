package dotted

import (
	"math"
	"math/bits"
)

// Count is what was counted on one string, by all its shares together.
type Count struct {
	Sum    Int128 // of what its shares count
	Shares int    // how many of the cells of its shares exist for readers
}

// Value returns the sum; beyond 64 bits the nearest bound.
func (c Count) Value() int64 {
	n, _ := c.Sum.Int64()
	return n
}

// Int128 is a signed number of 128 bits, in two's complement. Adding wraps around, so that sums that were kept by
// adding and taking away are those of what is there, in whatever order that came and went.
type Int128 struct {
	Hi int64
	Lo uint64
}

// Int128Of returns n.
func Int128Of(n int64) Int128 { return Int128{n >> 63, uint64(n)} }

// Plus returns a + b.
func (a Int128) Plus(b Int128) Int128 {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	return Int128{a.Hi + b.Hi + int64(carry), lo}
}

// Minus returns a − b.
func (a Int128) Minus(b Int128) Int128 {
	lo, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	return Int128{a.Hi - b.Hi - int64(borrow), lo}
}

// Int64 returns the number, and false if that is beyond 64 bits and the nearest bound is returned instead.
func (a Int128) Int64() (n int64, exact bool) {
	switch {
	case a == Int128Of(int64(a.Lo)):
		return int64(a.Lo), true
	case a.Hi < 0:
		return math.MinInt64, false
	}
	return math.MaxInt64, false
}
