package scenario

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Of 1,000 records with a constant of 0.99 the first is asked for 1/ζ of the time, the second half
// as often or a little more.
func TestRecordsAreChosenAsZipfSays(t *testing.T) {
	const n, draws = 1000, 200_000
	z := newZipf(n)
	counts := make([]int, n)
	chance := rand.New(rand.NewPCG(1, 2))
	for range draws {
		counts[z.next(chance)]++
	}
	for i, want := range map[int]float64{0: 1 / z.zetan, 1: math.Pow(2, -z.theta) / z.zetan} {
		if got := float64(counts[i]) / draws; math.Abs(got-want) > want/20 {
			t.Errorf("record %d is chosen %.4f of the time, want %.4f", i, got, want)
		}
	}
	if tail := counts[n-1]; tail > draws/500 {
		t.Errorf("the last record is chosen %d times", tail)
	}
}

func TestEachWorkloadIsWhole(t *testing.T) {
	for _, m := range mixes {
		if sum := m.read + m.update + m.insert + m.scan + m.readMod; math.Abs(sum-1) > 1e-9 {
			t.Errorf("the parts of %s are %v together", m.name, sum)
		}
	}
}

func TestRecordsHaveKeysOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for i := range 100_000 {
		key := recordKey(i)
		if seen[key] {
			t.Fatalf("record %d has the key of another: %s", i, key)
		}
		seen[key] = true
	}
}
