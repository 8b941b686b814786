package crdt

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/big"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// scoredCell is the cell of the only element of the tests that draw histories.
var scoredCell = dotted.KeyAddress("z").Type(TypeSortedSet).Name("x")

// drawScored draws an addition, a score that is set, or one of the ways to remove the element.
func drawScored(choose chooser) action {
	set := func(tx dotted.Tx) SortedSet { return fieldsOf(tx).SortedSet("z") }
	remove := func(trace string, do func(tx dotted.Tx) error) action {
		return action{trace: trace, do: do, clears: scoredCell}
	}
	switch q := choose.Intn(12); {
	case q < 7:
		n := int64(choose.Intn(9) - 3)
		return action{
			trace: fmt.Sprintf("add %v", float64(n)/4),
			do:    func(tx dotted.Tx) error { return second(set(tx).Add("x", float64(n)/4)) },
			cell:  scoredCell, adds: n, count: true,
		}
	case q < 9:
		score := float64(choose.Intn(9)-4) / 4
		return action{
			trace: fmt.Sprintf("set %v", score),
			do:    func(tx dotted.Tx) error { return second(set(tx).Set("x", score)) },
			cell:  scoredCell, text: fmt.Sprint(score), write: true, clears: scoredCell,
		}
	case q == 9:
		return remove("remove", func(tx dotted.Tx) error { return second(set(tx).Remove("x")) })
	case q == 10:
		return remove("delete", func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("z")) })
	default:
		return remove("clear by context", func(tx dotted.Tx) error { return fieldsOf(tx).named("z").clearAll() })
	}
}

func (h *history) checkScore(i int) string {
	want, there := h.readings(i)[scoredCell]
	got, ok := h.states[i].View().SortedSet("z").Score("x")
	if ok != there || got != want.score() {
		return fmt.Sprintf("r%d reads %v (%v), must be %v (%v)", i, got, ok, want.score(), there)
	}
	return ""
}

func scoreTrial(h *history, steps int) string {
	for range steps {
		i, err := h.step(drawScored)
		if err != nil {
			return err.Error()
		}
		if why := h.checkScore(i); h.causal && why != "" {
			return why
		}
	}
	h.syncAll()
	for i := range h.states {
		if why := h.checkScore(i); why != "" {
			return "after the last sync " + why
		}
	}
	return ""
}

func TestARemovalTakesFromAScoreExactlyWhatItSaw(t *testing.T) {
	runHistories(t, 5_000, scoreTrial, true)
}

func TestScoresConvergeOnTheOracleWhenDeltasAreLostAndReordered(t *testing.T) {
	runHistories(t, 2_500, scoreTrial, false)
}

func TestCollectingBaselinesLeavesScoresAsTheyAre(t *testing.T) {
	on := counted{drawScored, (*history).checkScore, action{trace: "removes all", clears: scoredCell,
		do: func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("z")) }}}
	runHistories(t, 5_000, on.startsTrial, true)
}

// brokenScores is a transaction that leaves out a part of what shares need.
type brokenScores struct {
	dotted.Tx
	noBaselines, forgets bool
}

func (b brokenScores) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	e := dotted.Entry{Dot: Dot{Replica: b.Replica(), Counter: 1}, Payload: payload}
	switch {
	case b.noBaselines && kindTakenAway.marks(e):
		return Dot{}, b.Remove(a, removes)
	case b.forgets && kindAdded.marks(e):
		s, _ := parseScoreShare(e)
		s.base, s.baseAt = dyadic{}, 0
		payload = s.payload()
	}
	return b.Tx.Put(a, payload, removes)
}

// Each part of the scheme is needed: see how often the histories of the tests above break.
func TestScoresBreakWithoutBaselines(t *testing.T) {
	for name, broken := range map[string]brokenScores{
		"removals that leave no baseline": {noBaselines: true},
		"shares that take no baseline in": {forgets: true},
	} {
		failed, shortest := countFailures(2_000, scoreTrial, true, func(tx dotted.Tx) dotted.Tx {
			b := broken
			b.Tx = tx
			return b
		})
		t.Logf("%s: %d of 2000 broke, as this one:\n%s", name, failed, shortest.report)
		if failed < 15 && *replaySeed < 0 {
			t.Errorf("%s: only %d of 2000 broke: does the oracle look?", name, failed)
		}
	}
}

// add adds to x of z and returns the score.
func addScore(t testing.TB, s *State, r ReplicaID, by float64) (score float64) {
	t.Helper()
	mustUpdate(t, s, r, func(tx dotted.Tx) (err error) {
		score, err = fieldsOf(tx).SortedSet("z").Add("x", by)
		return err
	})
	return score
}

func scoreOf(s *State) float64 {
	score, _ := s.View().SortedSet("z").Score("x")
	return score
}

func TestWhoAddsAloneReadsWhatFloatingPointSays(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	s, other := NewState(), NewState()
	sum := 0.0
	for i := range 2000 {
		by := (rng.Float64() - 0.5) * math.Pow(10, float64(rng.Intn(40)-20))
		if sum += by; addScore(t, s, ReplicaID(1+i/500), by) != sum || scoreOf(s) != sum {
			t.Fatalf("after %v is added: %v, want %v", by, scoreOf(s), sum)
		}
	}
	if other.Merge(s); scoreOf(other) != sum {
		t.Errorf("another reads %v, want %v", scoreOf(other), sum)
	}
}

// TestAScoreToWhichManyHaveAddedIsReadInOnePass: ten thousands who each went through the cell again would take minutes.
func TestAScoreToWhichManyHaveAddedIsReadInOnePass(t *testing.T) {
	const many = 300
	s := NewState()
	sum := 0.0
	for r := range ReplicaID(many) {
		sum = addScore(t, s, 1+r, 0.1)
	}
	read := scoresIn(s.cell(scoredCell))
	read.cell = nil // was gone through already
	exact := read.exact(0, read.added())
	if got := read.sum(); got != sum || len(read.shares) != many || got == exact {
		t.Errorf("%d have added %v, of which %v is read, exactly %v", len(read.shares), sum, got, exact)
	}
}

// contended returns the cell of an element whose score so many have set, and as many have added to,
// all of whom began again after a removal.
func contended(many int) (c dotted.Cell) {
	for r := range ReplicaID(many) {
		one := dyadicOf(1)
		for i, payload := range [][]byte{
			setPayload(dotted.TimeAt(epochStart), float64(r)),
			scoreShare{cum: one}.payload(),
			scoreBaseline{owner: r + 1, epoch: 1, at: 1, seen: one}.payload(),
		} {
			c = append(c, dotted.Entry{Dot: Dot{Replica: r + 1, Counter: uint64(i + 2)}, Payload: payload})
		}
	}
	return c
}

// TestScoresThatManyHaveSetAndAddedToAreReadInOnePass counts what is made on the way.
func TestScoresThatManyHaveSetAndAddedToAreReadInOnePass(t *testing.T) {
	const many = 100
	read := scoresIn(contended(many))
	passed := 0
	all := func() {
		for score := range read.all {
			if passed++; score != float64((passed-1)%many+many) {
				t.Fatalf("%v is read", score)
			}
		}
	}
	if made := testing.AllocsPerRun(1, all); passed != 2*many || made > 20*many {
		t.Errorf("%d scores are read, and %v numbers made", passed, made)
	}
}

// BenchmarkCollectOfAScore looks for baselines that nothing needs: what one costs does not grow
// with their number.
func BenchmarkCollectOfAScore(b *testing.B) {
	for _, many := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			read := scoresIn(contended(many))
			tx := hasty{&stateTx{state: NewState()}, func(ReplicaID) bool { return true }}
			for b.Loop() {
				if n := len(read.spent(tx)); n != many {
					b.Fatalf("%d of %d are found", n, many)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/baseline")
		})
	}
}

// What meets is summed up exactly: it depends neither on the order nor on how often sums were
// rounded on the way.
func TestAdditionsThatMeetAreSummedUpExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		exact := new(big.Float).SetPrec(3000)
		var states []*State
		for r := range rapid.IntRange(2, 4).Draw(t, "replicas") {
			s := NewState()
			for range rapid.IntRange(1, 4).Draw(t, "additions") {
				by := rapid.Float64Range(-1e300, 1e300).Draw(t, "by")
				exact.Add(exact, big.NewFloat(by))
				if _, err := s.update(ReplicaID(r+1), epochStart, func(tx dotted.Tx) error {
					return second(fieldsOf(tx).SortedSet("z").Add("x", by))
				}); err != nil {
					t.Fatal(err)
				}
			}
			states = append(states, s)
		}
		want, _ := exact.Float64()
		backward := slices.Clone(states)
		slices.Reverse(backward)
		for _, order := range [][]*State{states, backward} {
			if got := scoreOf(merged(order...)); got != want {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	})
}

func TestARemovalThatIsConcurrentWithAnIncrementLeavesIt(t *testing.T) {
	a, b := NewState(), NewState()
	mustUpdate(t, a, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).SortedSet("z").Set("x", 0.1)) })
	b.Merge(a)
	mustUpdate(t, a, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).SortedSet("z").Remove("x")) })
	if got := addScore(t, b, 2, 2); got != 2.1 {
		t.Errorf("2 more than 0.1 is %v", got)
	}
	if a.Merge(b); scoreOf(a) != 2 {
		t.Errorf("without what was removed it is %v, want 2", scoreOf(a))
	}
}

func TestInfinityIsSetAndNoNumberIsRefused(t *testing.T) {
	s := NewState()
	if got := addScore(t, s, 1, math.Inf(1)); !math.IsInf(got, 1) {
		t.Errorf("an infinity added to nothing is %v", got)
	}
	if got := addScore(t, s, 1, -5); !math.IsInf(got, 1) {
		t.Errorf("five less is %v", got)
	}
	for _, do := range []func(z SortedSet) error{
		func(z SortedSet) error { return second(z.Add("x", math.Inf(-1))) },
		func(z SortedSet) error { return second(z.Add("y", math.NaN())) },
		func(z SortedSet) error { return second(z.Set("y", math.NaN())) },
	} {
		before := s.Clone()
		if _, err := s.update(1, epochStart, func(tx dotted.Tx) error { return do(fieldsOf(tx).SortedSet("z")) }); !errors.Is(err, ErrNotANumber) {
			t.Errorf("no number: %v", err)
		}
		if !s.Equal(before) {
			t.Error("what was refused has changed something")
		}
	}
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).SortedSet("z").Set("x", math.Copysign(0, -1))) })
	if got := scoreOf(s); got != 0 || math.Signbit(got) {
		t.Errorf("minus zero reads %v", got)
	}
}

func TestPlacesInTheOrderAreThoseOfScoresAndNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) (float64, string) {
			score := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, math.Inf(1), math.Inf(-1), math.MaxFloat64}))
			return score.Draw(t, what), rapid.StringN(0, 3, 3).Draw(t, what)
		}
		a, nameA := draw("a")
		b, nameB := draw("b")
		want := a < b || a == b && nameA < nameB
		if got := orderKey(a, nameA) < orderKey(b, nameB); got != want {
			t.Fatalf("%v %q before %v %q: %v", a, nameA, b, nameB, got)
		}
		if score, name := cutOrderKey(orderKey(a, nameA)); score != a || name != nameA {
			t.Fatalf("%v %q reads %v %q", a, nameA, score, name)
		}
	})
}

func TestALoopOverASortedSetMayWriteToIt(t *testing.T) {
	for _, back := range []bool{false, true} {
		s := NewState()
		seen := 0
		mustUpdate(t, s, 1, func(tx dotted.Tx) error {
			z := fieldsOf(tx).SortedSet("z")
			for i := range 1000 {
				if _, err := z.Set(fmt.Sprintf("%03d", i), float64(i/10)); err != nil {
					return err
				}
			}
			elems := z.All()
			if back {
				elems = z.Back(999)
			}
			for elem := range elems {
				seen++
				if _, err := z.Remove(elem); err != nil {
					return err
				}
			}
			return nil
		})
		if seen != 1000 || s.View().Has("z") {
			t.Errorf("back %v: %d were passed, and is there more: %v", back, seen, s.View().Has("z"))
		}
	}
}

// TestALoopOverASortedSetPassesOnceWhatItMovesOn in the direction in which it goes, which else it would do for ever.
func TestALoopOverASortedSetPassesOnceWhatItMovesOn(t *testing.T) {
	const many = lastPart + 50
	for by, elems := range map[float64]func(z SortedSet) iter.Seq2[string, float64]{
		1:  SortedSet.All,
		-1: func(z SortedSet) iter.Seq2[string, float64] { return z.Back(many - 1) },
	} {
		s := NewState()
		mustUpdate(t, s, 1, func(tx dotted.Tx) error {
			z := fieldsOf(tx).SortedSet("z")
			for i := range many {
				if _, err := z.Set(fmt.Sprintf("%03d", i), 0); err != nil {
					return err
				}
			}
			passed := 0
			for elem := range elems(z) {
				if passed++; passed > many {
					return fmt.Errorf("%v more for each: %q is passed again", by, elem)
				}
				if _, err := z.Add(elem, by); err != nil {
					return err
				}
			}
			return nil
		})
		for elem, score := range s.View().SortedSet("z").ByName() {
			if score != by {
				t.Errorf("%q has %v, want %v", elem, score, by)
			}
		}
	}
}

func TestScoreSharesAndBaselinesSurviveEncoding(t *testing.T) {
	number := func(t *rapid.T) dyadic {
		return dyadicOf(rapid.Float64Range(-1e9, 1e9).Draw(t, "n")).plus(dyadicOf(rapid.Float64Range(-1e300, 1e300).Draw(t, "more")))
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Dot{Replica: ReplicaID(drawLow(t)), Counter: rapid.Uint64Min(1).Draw(t, "counter")}
		share := scoreShare{d, rapid.Uint64Min(1).Draw(t, "epoch"), number(t), number(t), rapid.Uint64().Draw(t, "at"),
			rapid.Float64().Draw(t, "last"), rapid.Float64().Draw(t, "shown"), rapid.Uint64().Draw(t, "saw")}
		b := scoreBaseline{d, ReplicaID(drawLow(t)), rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "at"), number(t)}
		cell := dotted.Cell{{Dot: d, Payload: share.payload()}, {Dot: d, Payload: b.payload()}}
		want := scores{cell: cell, shares: []scoreShare{share}, baselines: []scoreBaseline{b}, total: 2 * mix(d)}
		unexported := cmp.AllowUnexported(scores{}, scoreShare{}, scoreBaseline{}, dyadic{})
		equal := cmp.Comparer(func(a, b *big.Int) bool { return a == b || a != nil && b != nil && a.Cmp(b) == 0 })
		if diff := cmp.Diff(want, scoresIn(cell), unexported, equal); diff != "" {
			t.Fatal(diff)
		}
		if owner, ok := scoredCell.BaselineOwner(cell[1]); !ok || owner != b.owner {
			t.Fatalf("the baseline is for %v, %v", owner, ok)
		}
	})
}

// Whatever an entry holds, the score is some number, and there are baselines for what is removed.
func FuzzScores(f *testing.F) {
	d := Dot{Replica: 1, Counter: 1}
	f.Add(setPayload(1, 2.5))
	f.Add(scoreShare{epoch: 1, cum: dyadicOf(0.1), shown: 0.1}.payload())
	f.Add(scoreBaseline{owner: 2, epoch: 1, at: 1, seen: dyadicOf(-3)}.payload())
	f.Add(append([]byte{byte(kindAdded)}, wire.Encode(func(w *wire.Writer) { w.Array(1 << 20) })...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c := dotted.Cell{{Dot: d, Payload: payload}, {Dot: Dot{Replica: 2, Counter: 1}, Payload: setPayload(1, 3)}}
		if score := scoreIn(c); math.IsNaN(score) {
			t.Fatal("a score that is no number")
		}
		retire(&stateTx{state: NewState(), replica: 3}, scoredCell, c)
	})
}

// TestConcurrentScoresAreAllPassed with what was added to each, until one who saw them sets another.
func TestConcurrentScoresAreAllPassed(t *testing.T) {
	a, b := NewState(), NewState()
	change := func(s *State, r ReplicaID, at time.Duration, do func(z SortedSet) error) {
		_, err := s.Update(r, epochStart.Add(at), func(f Fields) error { return do(f.SortedSet("z")) })
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(s *State, r ReplicaID, at time.Duration, score float64) {
		change(s, r, at, func(z SortedSet) error { return second(z.Set("x", score)) })
	}
	add := func(s *State, r ReplicaID, by float64) {
		change(s, r, 0, func(z SortedSet) error { return second(z.Add("x", by)) })
	}
	want := func(when string, want ...float64) {
		t.Helper()
		z := a.View().SortedSet("z")
		if got := slices.Collect(z.Scores("x")); !slices.Equal(got, want) {
			t.Errorf("%s: the scores are %v, want %v", when, got, want)
		}
		if score, ok := z.Score("x"); ok != (len(want) > 0) || ok && !slices.Contains(want, score) {
			t.Errorf("%s: the score is %v (%v)", when, score, ok)
		}
	}
	want("before the first")
	add(a, 1, 0.5)
	want("only added to", 0.5)
	b.Merge(a)
	set(a, 1, time.Second, 10)
	set(b, 2, 2*time.Second, 20)
	add(b, 2, 0.1)
	add(b, 2, 0.2)
	a.Merge(b)
	want("set at once", 10.3, 20.3)
	for score := range a.View().SortedSet("z").Scores("x") {
		if score != 10.3 {
			t.Errorf("a loop that ends goes on with %v", score)
		}
		break
	}
	add(a, 1, 0.25)
	want("added to both", 10.55, 20.55)
	set(a, 1, 3*time.Second, 30)
	want("set by one who saw them", 30)
	change(a, 1, 0, func(z SortedSet) error { return second(z.Remove("x")) })
	want("removed")
}
