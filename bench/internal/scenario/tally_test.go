package scenario

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/peerd/peerd/bench/internal/report"
)

// at is a time of an imagined run, in ms.
func at(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func wrote(client, due, took int, done bool) partOp {
	return partOp{client: client, key: at(due).String(), at: at(due), took: time.Duration(took) * time.Millisecond, done: done}
}

// A cut from second 2 to second 6: what was due before and given up in it belongs to neither, nor does
// what was due in it and could be answered after it.
func TestAnOperationCountsWhereItBeganAndEnded(t *testing.T) {
	ops := []partOp{
		wrote(0, 0, 3, true), wrote(1, 900, 5, true), wrote(0, 1500, 1000, false), // the last one's deadline is in the cut
		wrote(0, 2000, 4, true), wrote(0, 3000, 8, true), wrote(1, 3000, 1000, false), wrote(1, 4000, 1000, false),
		wrote(1, 5500, 700, true), // after it was healed
		{client: 0, kind: localReading, at: at(3000), took: time.Millisecond, done: true, old: true},
		{client: 1, kind: localReading, at: at(3000), took: time.Millisecond, done: true},
		{client: 1, kind: localReading, at: at(4000), took: time.Second, old: true}, // failed: it showed nothing
	}
	before, both := count(ops, []int{0, 1}, writing, at(0), at(2000)), count(ops, []int{0, 1}, writing, at(2000), at(6000))
	if before.tried != 2 || before.done != 2 || both.tried != 4 || both.done != 2 || share(both.done, both.tried) != 50 {
		t.Errorf("before: %d of %d, in the cut: %d of %d", before.done, before.tried, both.done, both.tried)
	}
	first, second := count(ops, []int{0}, writing, at(2000), at(6000)), count(ops, []int{1}, writing, at(2000), at(6000))
	if first.tried != 2 || first.done != 2 || second.tried != 2 || second.done != 0 || second.latency.Count() != 0 {
		t.Errorf("the one side did %d of %d, the other %d of %d", first.done, first.tried, second.done, second.tried)
	}
	if p50, p99 := first.latency.Milliseconds(0.5), first.latency.Milliseconds(0.99); math.Round(p50) != 4 || math.Round(p99) != 8 {
		t.Errorf("they took %v and %v ms", p50, p99)
	}
	if reads := count(ops, []int{0, 1}, localReading, at(2000), at(6000)); reads.tried != 3 || reads.done != 2 || reads.old != 1 {
		t.Errorf("reads: %+v", reads)
	}
}

func TestAPhaseHasThePercentilesThatItHasOperationsFor(t *testing.T) {
	var ops []partOp
	for i := range 100 {
		ops = append(ops, wrote(0, 10*i, 5, true))
		if i < 99 {
			ops = append(ops, partOp{client: 0, kind: localReading, at: at(10 * i), took: time.Millisecond,
				done: true})
		}
	}
	b := &bench{Scenario: &report.Scenario{}}
	(&cutting{ops: ops}).recordPhase(b, "peerd", "cut: ", []int{0}, at(0), at(5000))
	var got []string
	for _, r := range b.Rows {
		got = append(got, r.What)
	}
	want := []string{"cut: " + writesDone, "cut: " + writesP50, "cut: " + writesP99, "cut: " +
		localDone, "cut: " + localP50,
		"cut: " + localOld}
	if !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func TestWhatIsMissingAnywhereIsLost(t *testing.T) {
	ops := []partOp{
		{kind: writing, key: "a", done: true}, {kind: writing, key: "b", done: true}, {kind: writing, key: "c", done: true},
		{kind: writing, key: "d"}, {kind: writing, key: "e"}, {kind: localReading, key: "f", done: true},
	}
	acknowledged, failed := written(ops)
	shown := []map[string]bool{named([]string{"a", "b", "d"}), named([]string{"a", "d"})}
	if n := missing(acknowledged, shown); n != 2 {
		t.Errorf("%d of b and c are lost", n)
	}
	if n := missing(failed, shown); n != 1 || !slices.Equal(failed, []string{"d", "e"}) {
		t.Errorf("%d of %v are missing", n, failed)
	}
	if n := missing(nil, shown) + missing(acknowledged, []map[string]bool{named(acknowledged)}); n != 0 {
		t.Errorf("%d are lost of what is there", n)
	}
}

func TestWhoWritesAgainIsKnownFromWhatWasDueThen(t *testing.T) {
	ops := []partOp{
		wrote(0, 1999, 500, true), // due before
		wrote(0, 2500, 1000, false), wrote(0, 3400, 50, true), wrote(0, 3300, 100, true), wrote(1, 2100, 1, true),
	}
	if d, ok := resumed(ops, 0, at(2000), at(6000)); !ok || d != 1400*time.Millisecond {
		t.Errorf("%v, %t", d, ok)
	}
	if d, ok := resumed(ops, 0, at(2000), at(3400)); ok {
		t.Errorf("%v after, which was later", d)
	}
}

// Of five members, each reached with probability 1/2, three or more reach each other around one that
// is there if two of the other four do: 11 of 16 cases.
func TestAvailabilityIsTheMeanOverWhoIsReached(t *testing.T) {
	quorum, alone := make([]float64, partMembers+1), make([]float64, partMembers+1)
	for n := 1; n <= partMembers; n++ {
		quorum[n], alone[n] = quorumShare(n), 100
	}
	if got := availability(quorum, 0.5); math.Abs(got-100*11.0/16) > 1e-9 {
		t.Errorf("a quorum: %v", got)
	}
	for _, p := range []float64{0, 0.3, 1} {
		if got := availability(alone, p); math.Abs(got-100) > 1e-9 {
			t.Errorf("who asks nobody: %v with %v", got, p)
		}
	}
	if none, all := availability(quorum, 0), availability(quorum, 1); none != 0 || all != 100 {
		t.Errorf("a quorum: %v of nobody, %v of all", none, all)
	}
}

// A system that is measured first need not have all rows.
func TestRowsAreInTheOrderOfThePhases(t *testing.T) {
	s, other := splits[0], splits[1]
	want := []string{s.before() + writesDone, s.before() + sureDone, s.inPart(3) + writesDone, s.inPart(2) + localOld, s.healed() + allShow,
		s.inAll() + writesLost, other.before() + writesDone}
	rows := []*report.Row{}
	for _, i := range []int{4, 0, 2, 3, 6, 5, 1} {
		rows = append(rows, &report.Row{What: want[i]})
	}
	sortRows(rows)
	for i, r := range rows {
		if r.What != want[i] {
			t.Errorf("row %d is %q, not %q", i, r.What, want[i])
		}
	}
}
