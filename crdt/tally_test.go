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

func bigOf(a dotted.Int128) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(a.Hi), 64)
	return n.Add(n, new(big.Int).SetUint64(a.Lo))
}

// drawAmount draws one of which some can be summed.
func drawAmount(t *rapid.T) dotted.Int128 {
	return dotted.Int128{Hi: rapid.Int64Range(0, 1<<56).Draw(t, "hi"), Lo: drawLow(t)}
}

func drawLow(t *rapid.T) uint64 {
	top := rapid.Uint64Range(math.MaxUint64-3, math.MaxUint64)
	return rapid.OneOf(rapid.Uint64(), top).Draw(t, "lo")
}

func TestWhatIsLeftOfAmountsIsNeverLessThanNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawAmounts(t), drawAmounts(t)
		rest, most := a.sub(b), a.max(b)
		for i, n := range [][4]dotted.Int128{{a.pos, b.pos, rest.pos, most.pos}, {a.neg, b.neg, rest.neg, most.neg}} {
			wantRest, wantMost := new(big.Int).Sub(bigOf(n[0]), bigOf(n[1])), bigOf(n[0])
			if wantRest.Sign() < 0 {
				wantRest.SetInt64(0)
				wantMost = bigOf(n[1])
			}
			if bigOf(n[2]).Cmp(wantRest) != 0 || bigOf(n[3]).Cmp(wantMost) != 0 {
				t.Fatalf("%d of %v and %v: %v, %v", i, a, b, rest, most)
			}
		}
	})
}

func TestAnAmountBeyond126BitsCountsNothing(t *testing.T) {
	d := Dot{Replica: 1, Counter: 1}
	for _, high := range []int64{1<<62 - 1, 1 << 62, -1} {
		s := share{dot: d, cum: amounts{pos: dotted.Int128{Hi: high, Lo: 5}}}
		n := len(tallyOf(1, dotted.Cell{{Dot: d, Payload: s.payload()}}).shares)
		if want := high == 1<<62-1; want != (n == 1) {
			t.Errorf("with %d above 64 bits there are %d shares", high, n)
		}
	}
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
			want.Add(want, bigOf(a))
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

func drawAmounts(t *rapid.T) amounts { return amounts{drawAmount(t), drawAmount(t)} }

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
		unexported := cmp.AllowUnexported(tally{}, share{}, baseline{}, amounts{})
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
