package crdt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// texts returns the elements of a list.
func texts(l List) (all []string) {
	for value := range l.All() {
		all = append(all, string(value))
	}
	return all
}

// change updates a list at a replica.
func change(t interface{ Fatal(...any) }, s *State, id ReplicaID, now time.Time, fn func(l List) error) {
	if _, err := s.Update(id, now, func(f Fields) error { return fn(f.List("l")) }); err != nil {
		t.Fatal(err)
	}
}

func TestAListIsASliceToOneReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := NewState(), epochStart
		var want []string
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "ms")) * time.Millisecond)
			id := ReplicaID(rapid.IntRange(1, 3).Draw(t, "replica"))
			change(t, s, id, now, func(l List) error { return drawListChange(t, l, &want, n) })
			l := s.View().List("l")
			if got := texts(l); !slices.Equal(got, want) || l.Len() != len(want) {
				t.Fatalf("got %q, of length %d\nwant %q", got, l.Len(), want)
			}
		}
		l := s.View().List("l")
		for i := range want {
			if got, ok := l.Get(i); !ok || string(got) != want[i] {
				t.Fatalf("element %d is %q, want %q", i, got, want[i])
			}
		}
		if _, ok := l.Get(len(want)); ok {
			t.Fatal("there is an element behind the last")
		}
		var back []string
		for i, value := range l.From(len(want)-1, true) {
			if back = append(back, string(value)); string(value) != want[i] {
				t.Fatalf("going back, element %d is %q", i, value)
			}
		}
		if len(back) != len(want) {
			t.Fatalf("going back finds %d of %d", len(back), len(want))
		}
	})
}

// TestALongListIsReadFromAnywhere in its order, though elements came between others and went, and
// some are set by two at once.
func TestALongListIsReadFromAnywhere(t *testing.T) {
	const seed, many = 3, 3*lookedUp + 7
	rng := rand.New(rand.NewPCG(seed, seed))
	s, now := NewState(), epochStart
	var want []string
	for n := 0; len(want) < many; n++ {
		now = now.Add(time.Millisecond)
		change(t, s, ReplicaID(1+n%3), now, func(l List) (err error) {
			at := rng.IntN(len(want) + 1)
			for k := range 50 {
				want = slices.Insert(want, at+k, fmt.Sprint(n, ".", k))
				err = errors.Join(err, l.Insert(at+k, []byte(want[at+k])))
			}
			from := rng.IntN(len(want) - 5)
			want = slices.Delete(want, from, from+5)
			return errors.Join(err, second(l.Remove(from, from+5)))
		})
	}
	l := s.View().List("l")
	if got := texts(l); !slices.Equal(got, want) {
		t.Errorf("seed %d: the elements are in another order", seed)
	}
	for _, from := range []int{1, lookedUp - 1, many - lookedUp - 1, many - lookedUp, many / 2} {
		for _, count := range []int{1, lookedUp, lookedUp + 1, lookedUp + 2, len(want)} {
			at := from
			for i, value := range l.From(from, false) {
				if i != at || string(value) != want[i] {
					t.Fatalf("seed %d: element %d from %d on is %q as %d, want %q", seed, at, from, value, i, want[at])
				}
				if at++; at == from+count {
					break
				}
			}
			if want := min(from+count, len(want)); at != want {
				t.Errorf("seed %d: %d elements from %d on end at %d, want %d", seed, count, from, at, want)
			}
		}
	}
}

// drawListChange changes a list and what it is to be.
func drawListChange(t *rapid.T, l List, want *[]string, n int) error {
	i := rapid.IntRange(0, len(*want)).Draw(t, "index")
	switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
	case what < 6:
		var values [][]byte
		for k := range rapid.IntRange(1, 3).Draw(t, "count") {
			values = append(values, fmt.Appendf(nil, "%d.%d", n, k))
			*want = slices.Insert(*want, i+k, string(values[k]))
		}
		return l.Insert(i, values...)
	case what < 8:
		to := rapid.IntRange(i, min(i+3, len(*want))).Draw(t, "to")
		removed, err := l.Remove(i, to)
		if removed != to-i {
			t.Fatalf("removed %d of %d", removed, to-i)
		}
		*want = slices.Delete(*want, i, to)
		return err
	}
	existed, err := l.Set(i, fmt.Append(nil, "set ", n))
	if existed != (i < len(*want)) {
		t.Fatalf("element %d of %d existed: %v", i, len(*want), existed)
	}
	if existed {
		(*want)[i] = fmt.Sprint("set ", n)
	}
	return err
}

// TestConcurrentRunsAreNotInterleaved has replicas insert runs into one list at once, forward or
// backward.
func TestConcurrentRunsAreNotInterleaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, now := NewState(), epochStart
		length := 0
		for n := range rapid.IntRange(0, 8).Draw(t, "base") { // in an order that makes all shapes of positions
			id := ReplicaID(rapid.IntRange(1, 5).Draw(t, "by"))
			i := rapid.IntRange(0, length).Draw(t, "at")
			now = now.Add(time.Millisecond)
			change(t, base, id, now, func(l List) error { return l.Insert(i, fmt.Append(nil, "b", n)) })
			length++
		}
		was := texts(base.View().List("l"))
		all, runs, gaps := NewState(), [][]string{}, []int{}
		for r := range 4 {
			s, gap := base.Clone(), rapid.IntRange(0, length).Draw(t, "gap")
			run := insertRun(t, s, ReplicaID(r+1), now, gap)
			runs, gaps = append(runs, run), append(gaps, gap)
			all.Merge(s)
		}
		got := texts(all.View().List("l"))
		var kept []string
		for _, value := range got {
			if value[0] == 'b' {
				kept = append(kept, value)
			}
		}
		if !slices.Equal(kept, was) || len(got) != len(was)+len(slices.Concat(runs...)) {
			t.Fatalf("of %q became %q", was, got)
		}
		for r, run := range runs {
			i := slices.Index(got, run[0])
			if !slices.Equal(got[i:min(i+len(run), len(got))], run) {
				t.Fatalf("replica %d inserted %q, and others between it: %q", r+1, run, got)
			}
			if inBase := slices.DeleteFunc(slices.Clone(got[:i]), func(v string) bool { return v[0] != 'b' }); len(inBase) != gaps[r] {
				t.Fatalf("replica %d inserted %q behind %d of %q, which became %q", r+1, run, gaps[r], was, got)
			}
		}
	})
}

// insertRun has a replica insert elements one by one, each next to the one before it, and returns
// them in their order.
func insertRun(t *rapid.T, s *State, id ReplicaID, now time.Time, gap int) (run []string) {
	backward, both := rapid.Bool().Draw(t, "backward"), rapid.Bool().Draw(t, "both")
	for n := range rapid.IntRange(1, 5).Draw(t, "run") {
		value := fmt.Sprint("r", id, ".", n)
		now = now.Add(time.Millisecond)
		back := backward || both && n%2 == 1
		at := gap
		if !back {
			at += len(run)
		}
		change(t, s, id, now, func(l List) error { return l.Insert(at, []byte(value)) })
		if back {
			run = slices.Insert(run, 0, value)
		} else {
			run = append(run, value)
		}
	}
	return run
}

func TestPositionsStayShort(t *testing.T) {
	now := uint64(0)
	as := func(n int) author {
		now++
		return author{ReplicaID(math.MaxUint64 / uint64(n%3+2)), now}
	}
	for name, next := range map[string]func(n int, last string) (string, error){
		"pushed behind the last by several": func(n int, last string) (string, error) { return as(n).between(last, "") },
		"pushed before the first":           func(n int, last string) (string, error) { return as(n).between("", last) },
		"pushed by one":                     func(_ int, last string) (string, error) { return as(1).between(last, "") },
		"put before the first by one":       func(_ int, last string) (string, error) { return as(1).between("", last) },
	} {
		last := ""
		for n := range 200_000 {
			position, err := next(n, last)
			if err != nil {
				t.Fatal(err)
			}
			if last = position; len(last) > 50 {
				t.Fatalf("%s: position %d has %d bytes: %q", name, n, len(last), last)
			}
		}
	}
	low, high := at("", author{7, 1}.starting(0, sideRight)), at("", author{8, 1}.starting(1, sideRight))
	for name, next := range map[string]func(n int, p, q, last string) (string, error){
		"forward in the middle":            func(_ int, _, q, last string) (string, error) { return as(1).between(last, q) },
		"backward in the middle":           func(_ int, p, _, last string) (string, error) { return as(1).between(p, last) },
		"forward in the middle by several": func(n int, _, q, last string) (string, error) { return as(n).between(last, q) },
		"backward in the middle by several": func(n int, p, _, last string) (string, error) {
			return as(n).between(p, last)
		},
	} {
		last, err := as(1).between(low, high)
		for n := 0; n < 20_000 && err == nil; n++ {
			if last, err = next(n, low, high, last); len(last) > 80 {
				t.Fatalf("%s: position %d has %d bytes: %q", name, n, len(last), last)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestAPositionIsBounded(t *testing.T) {
	low, high := at("", author{7, 1}.starting(0, sideRight)), at("", author{8, 1}.starting(1, sideRight))
	chance := rand.New(rand.NewPCG(1, 2))
	for n := range 100_000 {
		next, err := author{ReplicaID(chance.Uint64()), uint64(n)}.between(low, high)
		if err != nil {
			if !errors.Is(err, ErrTooLong) || n < 100 {
				t.Errorf("after %d insertions at one place: %v", n, err)
			}
			return
		}
		if chance.IntN(2) == 0 {
			low = next
		} else {
			high = next
		}
	}
	t.Error("positions have no limit")
}

func TestLevelsAreInTheOrderOfTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) level {
			n := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-300, 300))
			return level{n.Draw(t, name), ReplicaID(rapid.Uint64().Draw(t, "id")),
				rapid.SampledFrom([]byte{sideLeft, sideRight}).Draw(t, "side"),
				rapid.Uint64().Draw(t, "mutation"), n.Draw(t, "index")}
		}
		a, b := draw("a"), draw("b")
		if rapid.Bool().Draw(t, "near") {
			b.id, b.side = a.id, a.side
		}
		if (a.n < b.n) != (string(a.append(nil)) < string(b.append(nil))) && a.n != b.n {
			t.Fatalf("%v and %v are not in the order of their bytes", a, b)
		}
		if got, rest, ok := cutLevel(string(a.append(nil)) + "x"); !ok || rest != "x" || got != a {
			t.Fatalf("%v reads %v", a, got)
		}
		name := rapid.StringN(0, 40, 60).Draw(t, "any")
		if got, err := (author{1, 1}).between(name, ""); err == nil && got <= name {
			t.Fatalf("behind %q comes %q", name, got)
		}
	})
}

// TestElementsInAConflict shows what becomes of one element that two replicas change at once.
func TestElementsInAConflict(t *testing.T) {
	for name, test := range map[string]struct {
		here, there func(l List) error
		want        []string
	}{
		"both take the first":     {removing(0, 1), removing(0, 1), []string{"b", "c"}},
		"one sets what one takes": {removing(1, 2), setting(1, "B"), []string{"a", "B", "c"}},
		"both set it":             {setting(1, "early"), setting(1, "late"), []string{"a", "late", "c"}},
		"one clears, one pushes": {func(l List) error { return second(l.Clear()) },
			func(l List) error { return l.Insert(3, []byte("d")) }, []string{"d"}},
		"one takes what one inserts at": {removing(1, 2), func(l List) error { return l.Insert(1, []byte("x")) },
			[]string{"a", "x", "c"}},
	} {
		base := NewState()
		change(t, base, 1, epochStart, func(l List) error { return l.Insert(0, []byte("a"), []byte("b"), []byte("c")) })
		here, there := base.Clone(), base.Clone()
		change(t, here, 2, epochStart.Add(time.Second), test.here)
		change(t, there, 3, epochStart.Add(2*time.Second), test.there)
		here.Merge(there)
		there.Merge(here)
		for _, s := range []*State{here, there} {
			if got := texts(s.View().List("l")); !slices.Equal(got, test.want) {
				t.Errorf("%s: got %q, want %q", name, got, test.want)
			}
		}
	}
}

func removing(from, to int) func(List) error {
	return func(l List) error { return second(l.Remove(from, to)) }
}

func setting(i int, value string) func(List) error {
	return func(l List) error { return second(l.Set(i, []byte(value))) }
}

func TestAnInsertionOfTooMuchInsertsNothing(t *testing.T) {
	low := at("", author{7, 1}.starting(0, sideRight))
	for len(low) < maxPosition {
		n := int64(0) // of 20 bytes, and of 28 as long as that is needed for a sum that is the limit
		if (maxPosition-len(low))%20 != 0 {
			n = 1 << 62
		}
		low = readSpot(low).sheltered(sideRight, author{8, 1}.starting(n, sideRight))
	}
	high := at("", author{9, 1}.starting(1, sideRight))
	s := NewState()
	change(t, s, 10, epochStart, func(l List) error {
		for _, name := range []string{low, high} {
			if err := l.named(name).put(writePayload(1, []byte("old")), nil); err != nil {
				return err
			}
		}
		return nil
	})
	change(t, s, 11, epochStart, func(l List) error {
		if err := l.Insert(1, slices.Repeat([][]byte{[]byte("new")}, 60)...); !errors.Is(err, ErrTooLong) || l.Len() != 2 {
			t.Errorf("60 were inserted beside a position of %d bytes: %v, and there are %d", len(low), err, l.Len())
		}
		if err := l.Insert(1, slices.Repeat([][]byte{[]byte("new")}, 20)...); err != nil || l.Len() != 22 {
			t.Errorf("20 were: %v, and there are %d", err, l.Len())
		}
		return nil
	})
}

func TestAValueOfAListIsBounded(t *testing.T) {
	long := []byte(strings.Repeat("x", MaxValue+1))
	s := NewState()
	change(t, s, 1, epochStart, func(l List) error {
		if err := l.Insert(0, []byte("a"), long); !errors.Is(err, ErrTooLong) {
			t.Errorf("inserted: %v", err)
		}
		if err := l.Insert(0, []byte("a")); err != nil {
			return err
		}
		if _, err := l.Set(0, long); !errors.Is(err, ErrTooLong) {
			t.Errorf("set: %v", err)
		}
		return nil
	})
	if got := texts(s.View().List("l")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
}

// TestARunStaysTogetherWhereTheRestIsRemoved: what is put behind the last is next to it, though
// that was put there as the first.
func TestARunStaysTogetherWhereTheRestIsRemoved(t *testing.T) {
	for _, ids := range [][2]ReplicaID{{2, 3}, {3, 2}} {
		here := NewState()
		change(t, here, 1, epochStart, func(l List) error { return l.Insert(0, []byte("old")) })
		there := here.Clone()
		change(t, here, ids[0], epochStart, func(l List) error { return l.Insert(0, []byte("a")) })
		change(t, here, ids[0], epochStart, removing(1, 2))
		change(t, here, ids[0], epochStart, func(l List) error { return l.Insert(1, []byte("b")) })
		change(t, there, ids[1], epochStart, removing(0, 1))
		change(t, there, ids[1], epochStart, func(l List) error { return l.Insert(0, []byte("x")) })
		here.Merge(there)
		if got := texts(here.View().List("l")); !slices.Equal(got, []string{"a", "b", "x"}) {
			t.Errorf("a and b were put next to each other, and became %q", got)
		}
	}
}

// TestPositionsStayShortAtBothEnds of a list of one or two elements, to whichever they are put,
// by one or several.
func TestPositionsStayShortAtBothEnds(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 4))
	for authors := range 3 {
		other := readSpot(at("", author{9, 1}.starting(0, sideRight)))
		kept, now := []string{other.sheltered(sideRight, author{1, 1}.starting(0, sideRight))}, 1
		for n := range 50_000 {
			now++
			by, back := author{ReplicaID(1 + chance.IntN(authors+1)), uint64(now)}, chance.IntN(2) == 0
			if authors == 0 {
				back = n%2 == 0
			}
			var next string
			var err error
			if back {
				next, err = by.between("", kept[0])
				kept = []string{next, kept[0]}
			} else {
				next, err = by.between(kept[len(kept)-1], "")
				kept = []string{kept[len(kept)-1], next}
			}
			if err != nil || len(next) > 2*sheltering {
				t.Fatalf("position %d of %d authors has %d bytes: %v", n, authors+1, len(next), err)
			}
			if chance.IntN(4) > 0 || authors == 0 { // only the new one stays
				kept = []string{next}
			}
		}
	}
}

// TestConcurrentValuesOfAnElementAreAllPassed until one who has seen them sets another.
func TestConcurrentValuesOfAnElementAreAllPassed(t *testing.T) {
	a, b := NewState(), NewState()
	set := func(s *State, id ReplicaID, at time.Duration, value string) {
		change(t, s, id, epochStart.Add(at), func(l List) error {
			return second(l.Set(1, []byte(value)))
		})
	}
	want := func(want ...string) {
		t.Helper()
		var got []string
		l := a.View().List("l")
		for value := range l.Values(1) {
			got = append(got, string(value))
		}
		if latest, _ := l.Get(1); !slices.Equal(got, want) || string(latest) != want[len(want)-1] {
			t.Errorf("the values are %q, the latest %q, want %q", got, latest, want)
		}
	}
	change(t, a, 1, epochStart, func(l List) error {
		return l.Insert(0, []byte("x"), []byte("y"), []byte("z"))
	})
	want("y")
	b.Merge(a)
	set(a, 1, time.Second, "of a")
	set(b, 2, 2*time.Second, "of b")
	a.Merge(b)
	want("of a", "of b")
	set(a, 1, 3*time.Second, "both")
	want("both")
	for _, i := range []int{-1, 3} {
		for value := range a.View().List("l").Values(i) {
			t.Errorf("element %d is %q", i, value)
		}
	}
}

// Two insertions of one replica have places of their own, whatever the time: what is inserted
// where something was removed is not taken for what others have set there.
func TestAnInsertionInPlaceOfWhatWasRemovedIsAnother(t *testing.T) {
	a := NewState()
	in := func(s *State, r ReplicaID, now time.Time, fn func(l List) error) {
		t.Helper()
		if _, err := s.Update(r, now, func(keys Fields) error { return fn(keys.List("l")) }); err != nil {
			t.Fatal(err)
		}
	}
	in(a, 1, epochStart, func(l List) error { return l.Insert(0, []byte("x")) })
	b := a.Clone()
	in(a, 1, epochStart, func(l List) error {
		if _, err := l.Remove(0, 1); err != nil {
			return err
		}
		return l.Insert(0, []byte("y"))
	})
	in(b, 2, epochStart.Add(time.Second), func(l List) error { return second(l.Set(0, []byte("X"))) })
	a.Merge(b)
	if n := a.View().List("l").Len(); n != 2 {
		t.Errorf("there are %d elements of an insertion and one that was set", n)
	}
}
