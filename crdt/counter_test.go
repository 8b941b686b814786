package crdt

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
)

var countedCell = dotted.KeyAddress("hits").Type(TypeString)

// drawCount draws an increment, a decrement, or one of the ways to reset a counter.
func drawCount(choose chooser) action {
	switch q := choose.Intn(10); {
	case q < 7:
		n := int64(choose.Intn(9) - 3)
		return action{
			trace: fmt.Sprintf("add %d", n),
			do: func(tx dotted.Tx) error {
				_, err := fieldsOf(tx).Counter("hits").Add(n)
				return err
			},
			cell: countedCell, adds: n, count: true,
		}
	case q == 7:
		return resetting("reset", func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("hits").Clear()) })
	case q == 8:
		return resetting("delete", func(tx dotted.Tx) error {
			_, err := fieldsOf(tx).Remove("hits")
			return err
		})
	default:
		return resetting("clear by context", func(tx dotted.Tx) error {
			return fieldsOf(tx).named("hits").clearAll()
		})
	}
}

func resetting(trace string, do func(tx dotted.Tx) error) action {
	return action{trace: trace, do: do, clears: countedCell}
}

func countOf(s *State) int64 { return s.View().Counter("hits").Get() }

func (h *history) checkCount(i int) string {
	want := h.readings(i)[countedCell].Total
	if got := countOf(h.states[i]); got != want {
		return fmt.Sprintf("r%d counts %d, must be %d", i, got, want)
	}
	return ""
}

// countTrial checks every read of a causal history, and the last ones of any other.
func countTrial(h *history, steps int) string {
	for range steps {
		i, err := h.step(drawCount)
		if err != nil {
			return err.Error()
		}
		if why := h.checkCount(i); h.causal && why != "" {
			return why
		}
	}
	h.syncAll()
	for i := range h.states {
		if why := h.checkCount(i); why != "" {
			return "after the last sync " + why
		}
	}
	return ""
}

func TestCounterResetRemovesExactlyWhatItSaw(t *testing.T) {
	runHistories(t, 5_000, countTrial, true)
}

func TestCounterConvergesOnTheOracleWhenDeltasAreLostAndReordered(t *testing.T) {
	runHistories(t, 2_500, countTrial, false)
}

// withoutBaselines is a transaction in which resets remove shares and leave nothing behind.
type withoutBaselines struct{ dotted.Tx }

func (w withoutBaselines) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	if kindBaseline.marks(dotted.Entry{Payload: payload}) {
		return Dot{}, w.Remove(a, removes)
	}
	return w.Tx.Put(a, payload, removes)
}

// withoutBase is one in which a share forgets the baselines that it takes in.
type withoutBase struct{ dotted.Tx }

func (w withoutBase) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	if e := (dotted.Entry{Payload: payload}); kindShare.marks(e) {
		s, _ := parseShare(e)
		s.base = amounts{}
		payload = s.payload()
	}
	return w.Tx.Put(a, payload, removes)
}

// Both halves of the scheme are needed: see how often the histories of the test above break.
func TestCounterBreaksWithoutBaselines(t *testing.T) {
	for _, variant := range []struct {
		name  string
		wrap  func(dotted.Tx) dotted.Tx
		least int // failures in 2,000 histories
	}{
		{"resets that leave no baseline", func(tx dotted.Tx) dotted.Tx { return withoutBaselines{tx} }, 100},
		{"shares that take no baseline in", func(tx dotted.Tx) dotted.Tx { return withoutBase{tx} }, 100},
	} {
		failed, shortest := countFailures(2_000, countTrial, true, variant.wrap)
		t.Logf("%s: %d of 2000 broke, as this one:\n%s", variant.name, failed, shortest.report)
		if failed < variant.least && *replaySeed < 0 {
			t.Errorf("%s: only %d of 2000 broke: does the oracle look?", variant.name, failed)
		}
	}
}

// TestWhatIsAddedCountsOnceWhileADeltaIsMissing: the next one has all that is in those before it.
func TestWhatIsAddedCountsOnceWhileADeltaIsMissing(t *testing.T) {
	a, b := NewState(), NewState()
	for i := range 3 {
		delta := mustUpdate(t, a, 1, func(tx dotted.Tx) error {
			_, err := fieldsOf(tx).Counter("hits").Add(1)
			return errors.Join(err, second(fieldsOf(tx).SortedSet("z").Add("x", 1)))
		})
		if i != 1 {
			b.Merge(delta)
		}
	}
	if count, score := countOf(b), scoreOf(b); count != 3 || score != 3 {
		t.Errorf("it counts %d, the score is %v, want 3 and 3", count, score)
	}
	mustUpdate(t, b, 2, func(tx dotted.Tx) error {
		count, err := fieldsOf(tx).Counter("hits").Add(1)
		score, err2 := fieldsOf(tx).SortedSet("z").Add("x", 1)
		if count != 4 || score != 4 {
			t.Errorf("one more is %d, and %v, want 4 and 4", count, score)
		}
		return errors.Join(err, err2)
	})
	if b.Merge(a); countOf(b) != 4 || scoreOf(b) != 4 {
		t.Errorf("with all deltas it counts %d, the score is %v, want 4 and 4", countOf(b), scoreOf(b))
	}
}

func TestCounterRefusesWhatTakesItsValueBeyond64Bits(t *testing.T) {
	s := NewState()
	add := func(n int64) (value int64, err error) {
		_, err = s.update(1, epochStart, func(tx dotted.Tx) error {
			value, err = fieldsOf(tx).Counter("hits").Add(n)
			return err
		})
		return value, err
	}
	for _, step := range []struct {
		add, want int64
		err       error
	}{
		{math.MaxInt64 - 1, math.MaxInt64 - 1, nil},
		{1, math.MaxInt64, nil},
		{1, math.MaxInt64, ErrOverflow},
		{math.MinInt64, -1, nil},
		{math.MinInt64, -1, ErrOverflow},
		{-math.MaxInt64, math.MinInt64, nil},
		{-1, math.MinInt64, ErrOverflow},
		{0, math.MinInt64, nil},
	} {
		got, err := add(step.add)
		if !errors.Is(err, step.err) || err == nil && got != step.want || countOf(s) != step.want {
			t.Fatalf("add %d: %d, %v; then %d: want %d, %v",
				step.add, got, err, countOf(s), step.want, step.err)
		}
	}
}

func TestCounterShowsTheNearestBoundWhenConcurrentIncrementsPassIt(t *testing.T) {
	a, b := NewState(), NewState()
	add := func(s *State, r ReplicaID, n int64) {
		mustUpdate(t, s, r, func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("hits").Add(n)) })
	}
	add(a, 1, math.MaxInt64)
	add(b, 2, math.MaxInt64)
	a.Merge(b)
	if got := countOf(a); got != math.MaxInt64 {
		t.Fatalf("2·(2⁶³−1) reads %d", got)
	}
	add(a, 1, -5)
	if got := countOf(a); got != math.MaxInt64 {
		t.Fatalf("five less reads %d", got)
	}
	add(a, 1, -math.MaxInt64)
	if got, want := countOf(a), int64(math.MaxInt64-5); got != want {
		t.Fatalf("back in range it reads %d, want %d", got, want)
	}
}

// mustUpdate is an update that may not fail.
func mustUpdate(t testing.TB, s *State, r ReplicaID, fn func(tx dotted.Tx) error) *State {
	t.Helper()
	delta, err := s.update(r, epochStart, fn)
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

// second drops the result that a test has no use for.
func second[T any](_ T, err error) error { return err }
