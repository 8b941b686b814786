package crdt

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

func TestAHyperLogLogCountsWithinItsError(t *testing.T) {
	var r Registers
	for n := 1; n <= 300_000; n++ {
		r.Add(fmt.Sprint("element ", n))
		switch n {
		case 1, 10, 100, 1000, 10_000, 100_000, 300_000:
			if err := math.Abs(float64(r.Count()-int64(n))) / float64(n); err > 0.025 {
				t.Errorf("%d elements are counted as %d", n, r.Count())
			}
		}
	}
	if n := new(Registers).Count(); n != 0 {
		t.Errorf("nothing is counted as %d", n)
	}
}

// The hash of MurmurHash64A with Redis's seed, and so registers and counts, are what Redis 7.0 has: see
// testdata/redis/hyperloglog of api/resp for longer ones.
// TestRegistersThatNothingLeadsToCountAsMany: they come from elsewhere.
func TestRegistersThatNothingLeadsToCountAsMany(t *testing.T) {
	for _, n := range []byte{51, 63} {
		var r Registers
		for i := range r {
			r[i] = n
		}
		if r[0] = 50; r.Count() != math.MaxInt64 || r.Possible() != (n == 51) {
			t.Errorf("registers of %d count %d, and are possible: %v", n, r.Count(), r.Possible())
		}
	}
}

func TestElementsCountInTheRegistersOfRedis(t *testing.T) {
	for elem, want := range map[string]struct {
		register int
		value    byte
	}{"": {5938, 2}, "a": {12711, 2}, "hello world": {9399, 4}} {
		if i, n := registerOf(elem); i != want.register || n != want.value {
			t.Errorf("%q counts %d in register %d", elem, n, i)
		}
	}
}

func TestRunsAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want run
		for range rapid.IntRange(0, 300).Draw(t, "registers") {
			want[rapid.IntRange(0, runSize-1).Draw(t, "i")] = byte(rapid.IntRange(0, maxRegister).Draw(t, "n"))
		}
		got := runIn(dotted.Cell{{Payload: want.payload()}})
		if got != want {
			t.Fatalf("reads %v, wrote %v", got, want)
		}
	})
}

func TestWhatReplicasAddToAHyperLogLogIsUnited(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := []*State{NewState(), NewState(), NewState()}
		var want Registers
		for n := range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, 2).Draw(t, "replica")
			if rapid.IntRange(0, 2).Draw(t, "merge") == 0 {
				states[i].Merge(states[rapid.IntRange(0, 2).Draw(t, "other")])
				continue
			}
			elem := fmt.Sprint(rapid.IntRange(0, 4000).Draw(t, "element"))
			want.Add(elem)
			if _, err := states[i].Update(ReplicaID(i+1), epochStart, func(f Fields) error {
				changed, err := f.HyperLogLog("k").Add(elem)
				again, _ := f.HyperLogLog("k").Add(elem)
				if again {
					return fmt.Errorf("step %d: %q was added, %v, and changed something again", n, elem, changed)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		all := merged(states...)
		if got, _ := all.View().HyperLogLog("k").Get(); *got != want {
			t.Fatalf("counts %d, want %d", got.Count(), want.Count())
		}
	})
}

func TestARemovalOfAHyperLogLogLeavesWhatItHadNotSeen(t *testing.T) {
	add := func(elem string) func(f Fields) error {
		return func(f Fields) error { return second(f.HyperLogLog("k").Add(elem)) }
	}
	f := diverge(t, add("e1"), add("e2"), func(f Fields) error { return second(f.Remove("k")) })
	if n := f.HyperLogLog("k").Count(); n != 1 {
		t.Errorf("counts %d", n)
	}
}

func TestAnEmptyHyperLogLogIsThere(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).HyperLogLog("k").Merge(new(Registers))) })
	if _, ok := s.View().HyperLogLog("k").Get(); !ok || !s.View().Has("k") {
		t.Error("it is not there")
	}
}
