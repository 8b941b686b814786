package crdt

import (
	"math"
	"math/big"

	"github.com/peerd/peerd/internal/wire"
)

// dyadic is n · 2^exp, n being odd or zero: any sum of floating-point numbers, exactly. So it does not matter in which
// order they are added, or what is taken away again: only how a sum is shown is rounded, once. Zero is nil.
type dyadic struct {
	n   *big.Int // never changed
	exp int
}

// Limits of what is read: sums of 2⁶⁴ numbers are within them.
const (
	leastExponent   = -1074
	mostExponent    = 1024 + 64
	longestMantissa = (mostExponent - leastExponent + 7) / 8 // bytes
)

// dyadicOf returns a number that is neither infinite nor NaN.
func dyadicOf(f float64) dyadic {
	const mantissa = 53 // bits
	fraction, exp := math.Frexp(f)
	return dyadic{big.NewInt(int64(math.Ldexp(fraction, mantissa))), exp - mantissa}.trimmed()
}

// trimmed takes what d has of twos out of n, which is its own.
func (d dyadic) trimmed() dyadic {
	if d.n.Sign() == 0 {
		return dyadic{}
	}
	twos := d.n.TrailingZeroBits()
	d.n.Rsh(d.n, twos)
	d.exp += int(twos)
	return d
}

func (d dyadic) plus(o dyadic) dyadic {
	switch {
	case d.n == nil:
		return o
	case o.n == nil:
		return d
	case d.exp > o.exp:
		d, o = o, d
	}
	n := new(big.Int).Lsh(o.n, uint(o.exp-d.exp))
	return dyadic{n.Add(n, d.n), d.exp}.trimmed()
}

func (d dyadic) minus(o dyadic) dyadic {
	if o.n != nil {
		o.n = new(big.Int).Neg(o.n)
	}
	return d.plus(o)
}

// float returns the nearest number, of two the even one, and beyond all numbers infinity.
func (d dyadic) float() float64 {
	if d.n == nil {
		return 0
	}
	f := new(big.Float).SetInt(d.n)
	nearest, _ := f.SetMantExp(f, d.exp).Float64()
	return nearest
}

const dyadicFields = 3

func (d dyadic) write(w *wire.Writer) {
	w.Int(int64(d.exp))
	w.Bool(d.n != nil && d.n.Sign() < 0)
	if d.n == nil {
		w.Bytes(nil)
		return
	}
	w.Bytes(d.n.Bytes())
}

func readDyadic(r *wire.Reader) dyadic {
	exp, negative := r.Int(), r.Bool()
	digits := r.Bytes(longestMantissa)
	if exp < leastExponent || exp > mostExponent {
		r.Fail("an exponent of %d", exp)
		return dyadic{}
	}
	n := new(big.Int).SetBytes(digits)
	if negative {
		n.Neg(n)
	}
	return dyadic{n, int(exp)}.trimmed()
}
