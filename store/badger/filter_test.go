package badger

import (
	"math/rand/v2"
	"testing"
)

// grown returns a filter of so many hashes of a seed, that grew from a first layer of so many bytes.
func grown(seed uint64, keys, first int) *filter {
	f := &filter{}
	random := rand.New(rand.NewPCG(seed, 0))
	for range keys {
		hash := random.Uint64()
		if f.has(hash) {
			continue
		}
		if f.full() {
			f.grow(max(first, 2*f.bytes))
		}
		f.add(hash)
	}
	return f
}

func TestAFilterClaimsWhatItHasAndLittleElse(t *testing.T) {
	const keys = 300_000
	for _, test := range []struct{ first, layers, claims int }{
		{keys * bitsPerKey / 8, 1, keys / 60},
		{keys * bitsPerKey / 8 / 26, 4, keys / 20},
	} {
		f := grown(1, keys, test.first)
		if n := len(*f.layers.Load()); n != test.layers {
			t.Errorf("%d layers, want %d", n, test.layers)
		}
		random := rand.New(rand.NewPCG(1, 0))
		for range keys {
			if hash := random.Uint64(); !f.has(hash) {
				t.Fatalf("it denies %x", hash)
			}
		}
		claimed := 0
		for range keys {
			if f.has(random.Uint64()) {
				claimed++
			}
		}
		if t.Logf("%d layers claim %d of %d", test.layers, claimed, keys); claimed > test.claims {
			t.Errorf("%d layers claim %d of %d that they do not have", test.layers, claimed, keys)
		}
	}
}

func TestAnEmptyFilterHasNothing(t *testing.T) {
	var f filter
	if f.has(0) || f.has(1) {
		t.Error("an empty filter claims something")
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, keys := range []int{100_000, 10_000_000} {
		f := grown(1, keys, usualLimits.first)
		random := rand.New(rand.NewPCG(2, 0))
		b.Run("has", func(b *testing.B) {
			for b.Loop() {
				f.has(random.Uint64())
			}
		})
	}
}
