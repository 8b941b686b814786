package dotted

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestReplicaIDsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ReplicaID(rapid.Uint64().Draw(t, "id"))
		if got, err := ParseReplicaID(id.String()); got != id || err != nil {
			t.Fatalf("%v: %v, %v", id, got, err)
		}
	})
	for _, bad := range []string{
		"", "1", "00000000000000000", "000000000000000g", "+00000000000001a",
	} {
		if id, err := ParseReplicaID(bad); err == nil {
			t.Errorf("%q is read as %v", bad, id)
		}
	}
}

func drawVector(t *rapid.T) VersionVector {
	v := VersionVector{}
	for range rapid.IntRange(0, 4).Draw(t, "replicas") {
		r := ReplicaID(rapid.IntRange(1, 4).Draw(t, "replica"))
		v.Raise(r, rapid.Uint64Range(0, 5).Draw(t, "n"))
	}
	return v
}

func TestVersionVectorsAreSetsOfDots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t), drawVector(t)
		union := a.Clone()
		union.Merge(b)
		missing, contains := uint64(0), true
		for r := ReplicaID(0); r < 6; r++ {
			for n := uint64(0); n < 7; n++ {
				d := Dot{r, n}
				if union.Has(d) != (a.Has(d) || b.Has(d)) {
					t.Fatalf("the union of %v and %v is wrong about %v", a, b, d)
				}
				if b.Has(d) && !a.Has(d) {
					missing, contains = missing+1, false
				}
			}
		}
		if a.Missing(b) != missing || a.Contains(b) != contains {
			t.Fatalf("%v lacks %d of %v, contains it: %v", a, a.Missing(b), b, a.Contains(b))
		}
		if a.Equal(b) != (a.Contains(b) && b.Contains(a)) {
			t.Fatalf("%v equals %v: %v", a, b, a.Equal(b))
		}
		if !slices.IsSorted(union.Replicas()) || len(union.Replicas()) != len(union) {
			t.Fatalf("replicas %v", union.Replicas())
		}
	})
}

// epochStart is when the clocks of these tests begin.
var epochStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// TestTimestampsGrowWithTimesThatAreTooFarAway: those are taken for the first or the last.
func TestTimestampsGrowWithTimesThatAreTooFarAway(t *testing.T) {
	times := []time.Time{time.Unix(math.MinInt64, 0), time.Unix(-1, 0), time.Unix(1, 0), epochStart,
		time.Date(10889, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10890, 1, 1, 0, 0, 0, 0, time.UTC),
		time.UnixMilli(math.MaxInt64), time.Unix(math.MaxInt64/1000+1, 0), time.Unix(math.MaxInt64, 0)}
	for i, at := range times[1:] {
		if before := times[i]; TimeAt(at) < TimeAt(before) || Milli(at) < Milli(before) {
			t.Errorf("%v has %v and %d, before it %v has %v and %d",
				at, TimeAt(at), Milli(at), before, TimeAt(before), Milli(before))
		}
	}
}

func TestClockRunsForwardWhateverTheWallClockDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Clock
		wall := epochStart
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			step := rapid.IntRange(-2000, 2000).Draw(t, "step")
			wall = wall.Add(time.Duration(step) * time.Millisecond)
			before := c.Last()
			if rapid.Bool().Draw(t, "observe") {
				const skew = 500 * time.Millisecond
				ahead := time.Duration(rapid.IntRange(-900, 900).Draw(t, "ahead")) * time.Millisecond
				remote := TimeAt(wall.Add(ahead))
				adopted := c.Observe(remote, wall, skew)
				if adopted != (ahead <= skew) || !adopted && c.Last() != before || c.Last() < before {
					t.Fatalf("observed %v at %v: %v, then %v", remote, wall, adopted, c.Last())
				}
				continue
			}
			if now := c.Now(wall); now <= before || now < TimeAt(wall) {
				t.Fatalf("%v after %v at %v", now, before, wall)
			}
		}
	})
}

func TestTimeKeepsTheMillisecond(t *testing.T) {
	at := TimeAt(epochStart.Add(1234567 * time.Nanosecond))
	if want := epochStart.Add(time.Millisecond); !at.Wall().Equal(want) {
		t.Errorf("%v, want %v", at.Wall(), want)
	}
	if got, want := (at + 3).String(), "2026-11-01T12:00:00.001Z+3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := TimeAt(time.Unix(-5, 0)); got != 0 {
		t.Errorf("before 1970: %v", got)
	}
}
