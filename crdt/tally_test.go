package crdt

import (
	"math"
	"math/big"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

func (a uint128) big() *big.Int {
	n := new(big.Int).Lsh(new(big.Int).SetUint64(a.hi), 64)
	return n.Or(n, new(big.Int).SetUint64(a.lo))
}

func drawUint128(t *rapid.T) uint128 { return uint128{rapid.Uint64().Draw(t, "hi"), drawLow(t)} }

func drawLow(t *rapid.T) uint64 {
	top := rapid.Uint64Range(math.MaxUint64-3, math.MaxUint64)
	return rapid.OneOf(rapid.Uint64(), top).Draw(t, "lo")
}

func TestArithmeticOf128BitsIsExactAndSaturates(t *testing.T) {
	top := uint128{math.MaxUint64, math.MaxUint64}.big()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawUint128(t), drawUint128(t)
		sum := new(big.Int).Add(a.big(), b.big())
		if sum.Cmp(top) > 0 {
			sum = top
		}
		if a.add(b).big().Cmp(sum) != 0 {
			t.Fatalf("%v + %v = %v, want %v", a, b, a.add(b), sum)
		}
		diff := new(big.Int).Sub(a.big(), b.big())
		if diff.Sign() < 0 {
			diff.SetInt64(0)
		}
		if a.sub(b).big().Cmp(diff) != 0 {
			t.Fatalf("%v − %v = %v, want %v", a, b, a.sub(b), diff)
		}
		if a.less(b) != (a.big().Cmp(b.big()) < 0) {
			t.Fatalf("%v < %v: %v", a, b, a.less(b))
		}
	})
}

func TestNetAmountIsExactWithin64BitsAndElseTheNearestBound(t *testing.T) {
	steps := rapid.SliceOf(rapid.OneOf(
		rapid.Int64(),
		rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, -1, 0, 1}),
	))
	rapid.Check(t, func(t *rapid.T) {
		var a amounts
		want := new(big.Int)
		for _, n := range steps.Draw(t, "steps") {
			a = a.plus(n)
			want.Add(want, big.NewInt(n))
		}
		got, exact := a.net().Int64()
		switch {
		case exact != want.IsInt64():
			t.Fatalf("%v is exact: %v", want, exact)
		case exact && got != want.Int64():
			t.Fatalf("%d, want %v", got, want)
		case !exact && (got == math.MaxInt64) != (want.Sign() > 0):
			t.Fatalf("%v gives the bound %d", want, got)
		}
	})
}

// TestSumsOfAnyAmountsDependOnNothingButThem adds and takes away what anybody could claim to have counted.
func TestSumsOfAnyAmountsDependOnNothingButThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var kept, afresh dotted.Int128
		want := new(big.Int)
		for range rapid.IntRange(1, 20).Draw(t, "amounts") {
			a := drawAmounts(t).net()
			kept = kept.Plus(a)
			if rapid.Bool().Draw(t, "goes") {
				kept = kept.Minus(a)
				continue
			}
			afresh = a.Plus(afresh)
			want.Add(want, new(big.Int).Add(new(big.Int).Lsh(big.NewInt(a.Hi), 64), new(big.Int).SetUint64(a.Lo)))
		}
		got, exact := kept.Int64()
		switch {
		case kept != afresh:
			t.Fatalf("kept %v, afresh %v", kept, afresh)
		case exact != want.IsInt64() || exact && got != want.Int64():
			t.Fatalf("%v reads %d, exactly: %v", want, got, exact)
		case !exact && (got == math.MaxInt64) != (want.Sign() > 0):
			t.Fatalf("%v reads %d", want, got)
		}
	})
}

func drawAmounts(t *rapid.T) amounts { return amounts{drawUint128(t), drawUint128(t)} }

func TestSharesAndBaselinesSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Dot{Replica: ReplicaID(drawLow(t)), Counter: rapid.Uint64Min(1).Draw(t, "counter")}
		s := share{d, rapid.Uint64().Draw(t, "epoch"), drawAmounts(t), drawAmounts(t),
			rapid.Int64().Draw(t, "last")}
		b := baseline{d, rapid.Uint64().Draw(t, "epoch"), drawAmounts(t)}
		cell := dotted.Cell{{Dot: d, Payload: s.payload()}, {Dot: d, Payload: b.payload()}}
		if s.epoch == 0 {
			s.epoch = d.Counter
		}
		unexported := cmp.AllowUnexported(tally{}, share{}, baseline{}, amounts{}, uint128{})
		want := tally{d.Replica, []share{s}, []baseline{b}}
		if diff := cmp.Diff(want, tallyOf(d.Replica, cell), unexported); diff != "" {
			t.Fatal(diff)
		}
		if cell[0].Has(dotted.PayloadHidden) || !cell[0].Has(dotted.PayloadTally) ||
			!cell[1].Has(dotted.PayloadHidden) || !cell[1].Has(dotted.PayloadTally) {
			t.Fatal("the flags of the kinds are wrong")
		}
	})
}

func TestIntegersAreReadAsStrictlyAsRedisReadsThem(t *testing.T) {
	for _, text := range []string{
		"0", "7", "-7", "10", "9223372036854775807", "-9223372036854775808", // integers
		"", "-", "-0", "007", "+7", " 7", "7 ", "7x", "0x7", "1e3", "7.0", "٧",
		"9223372036854775808", "-9223372036854775809", "99999999999999999999",
		"18446744073709551616",
	} {
		want, err := strconv.ParseInt(text, 10, 64)
		isInteger := err == nil && strconv.FormatInt(want, 10) == text
		got, ok := parseInteger([]byte(text))
		if ok != isInteger || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
}

func FuzzParseInteger(f *testing.F) {
	f.Add([]byte("-9223372036854775808"))
	f.Fuzz(func(t *testing.T, text []byte) {
		want, err := strconv.ParseInt(string(text), 10, 64)
		isInteger := err == nil && strconv.FormatInt(want, 10) == string(text)
		if got, ok := parseInteger(text); ok != isInteger || ok && got != want {
			t.Fatalf("%q: %d, %v", text, got, ok)
		}
	})
}
