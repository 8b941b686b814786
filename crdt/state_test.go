package crdt

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// describe renders a state for a failure.
func describe(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "vector %v, exceptions %v, delta %v\n",
		s.context.vector, s.context.Exceptions(), s.delta)
	s.cells.Scan(func(a dotted.Address, c dotted.Cell) bool {
		fmt.Fprintf(&b, "  %q", a)
		for _, e := range c {
			fmt.Fprintf(&b, " %d:%d=%q", uint64(e.Dot.Replica), e.Dot.Counter, e.Payload)
		}
		b.WriteByte('\n')
		return true
	})
	return b.String()
}

func TestUpdateThatFailsOrPanicsChangesNothing(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Add("a")) })
	before := s.Clone()
	failure := errors.New("failure")
	mess := func(tx dotted.Tx) error {
		for i := range 20 {
			if err := second(fieldsOf(tx).Counter("c" + strconv.Itoa(i)).Add(1)); err != nil {
				return err
			}
		}
		return second(fieldsOf(tx).Remove("s"))
	}
	_, err := s.update(1, epochStart, func(tx dotted.Tx) error { return errors.Join(mess(tx), failure) })
	if !errors.Is(err, failure) || !s.Equal(before) {
		t.Errorf("after error %v:\n%s", err, describe(s))
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = s.update(1, epochStart, func(tx dotted.Tx) error {
			_ = mess(tx)
			panic("on purpose")
		})
	}()
	if !s.Equal(before) || s.summary("c1").Exists() || s.summary("s").Count(TypeSet) != 1 {
		t.Errorf("after a panic:\n%s", describe(s))
	}
}

func TestViewRefusesToWrite(t *testing.T) {
	f := NewState().View()
	err := errors.Join(
		f.Flag("f").Set(true),
		f.tx.Clear(dotted.KeyAddress("f")),
		f.tx.Remove(dotted.KeyAddress("f").Type(TypeFlag), []Dot{{Replica: 1, Counter: 1}}),
	)
	if got := strings.Count(fmt.Sprint(err), ErrReadOnly.Error()); got != 3 {
		t.Errorf("%d of 3 writes refused: %v", got, err)
	}
}

func TestUpdateRefusesAReplicaWhoseDotsAreMissing(t *testing.T) {
	s := NewState()
	enable := func(tx dotted.Tx) error { return fieldsOf(tx).Flag("f").Set(true) }
	mustUpdate(t, s, 1, enable)
	restored := merged(mustUpdate(t, s, 1, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("g").Set(true) }),
		mustUpdate(t, s, 1, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("h").Set(true) }))
	if _, err := restored.update(1, epochStart, enable); !errors.Is(err, ErrMissingDots) {
		t.Errorf("with dots 2 and 3, but not 1: %v", err)
	}
	mustUpdate(t, restored, 2, enable)
	restored.Merge(s)
	mustUpdate(t, restored, 1, enable)
}

func TestCloneChangesIndependently(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Add("a")) })
	c := s.Clone()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Add("b")) })
	mustUpdate(t, c, 2, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Remove("a")) })
	if got := s.summary("s").Count(TypeSet); got != 2 {
		t.Errorf("the original has %d elements, want 2", got)
	}
	if got := c.summary("s").Count(TypeSet); got != 0 {
		t.Errorf("the clone has %d elements, want 0", got)
	}
}

func TestDeletingABigSetLooksAtNoneOfItsElements(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		for i := range 1000 {
			if err := second(fieldsOf(tx).Set("s").Add(strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return nil
	})
	for name, remove := range map[string]func(tx dotted.Tx) error{
		"Delete": func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("s")) },
		"Clear":  func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Clear()) },
	} {
		var seen *countingTx
		mustUpdate(t, s.Clone(), 1, func(tx dotted.Tx) error {
			seen = &countingTx{Tx: tx}
			return remove(seen)
		})
		if seen.scanned != 0 || seen.clears != 1 || seen.puts+seen.removes != 0 {
			t.Errorf("%s: %+v, want one clear and no scan", name, *seen)
		}
	}
}

func TestDeletingFewCellsNamesTheirDots(t *testing.T) {
	s := NewState()
	fill := func(tx dotted.Tx) error {
		for i := range fewCells {
			f := fieldsOf(tx).Map("m").Map(strconv.Itoa(i % 4))
			if err := second(f.Counter(strconv.Itoa(i)).Add(1)); err != nil {
				return err
			}
		}
		return nil
	}
	mustUpdate(t, s, 1, fill)
	var seen *countingTx
	remove := func(tx dotted.Tx) error {
		seen = &countingTx{Tx: tx}
		return second(fieldsOf(seen).Map("m").Clear())
	}
	mustUpdate(t, s.Clone(), 1, remove)
	if seen.clears != 0 || seen.removes != fewCells || seen.puts != 0 {
		t.Errorf("own counters: %+v, want %d removals", *seen, fewCells)
	}
	mustUpdate(t, s.Clone(), 2, remove)
	if seen.clears != 0 || seen.removes != 0 || seen.puts != fewCells {
		t.Errorf("others' counters: %+v, want %d baselines", *seen, fewCells)
	}
	mustUpdate(t, s, 2, func(tx dotted.Tx) error { return fieldsOf(tx).Map("m").Flag("f").Set(true) })
	mustUpdate(t, s, 2, remove)
	if seen.clears != 1 || seen.removes != 0 || seen.puts != fewCells {
		t.Errorf("one more: %+v, want one clear and %d baselines", *seen, fewCells)
	}
	if s.summary("m").Exists() || s.summary("m").Tallies != fewCells {
		t.Errorf("left over: %v", s.summary("m"))
	}
}

// benchmarkState returns a state of one map with the given number of fields.
func benchmarkState(b *testing.B, fields int) *State {
	s := NewState()
	mustUpdate(b, s, 1, func(tx dotted.Tx) error {
		for i := range fields {
			if err := fieldsOf(tx).Map("m").String(strconv.Itoa(i)).Set([]byte("value")); err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

func BenchmarkMergeOfAOneEntryDelta(b *testing.B) {
	for _, fields := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("fields=%d", fields), func(b *testing.B) {
			s := benchmarkState(b, fields)
			to := s.Clone()
			deltas := make([]*State, 1000)
			for i := range deltas {
				deltas[i] = mustUpdate(b, s, 1, func(tx dotted.Tx) error {
					return fieldsOf(tx).Map("m").String(strconv.Itoa(i)).Set([]byte("newer"))
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%len(deltas) == 0 {
					b.StopTimer()
					fresh := to.Clone()
					s = fresh
					b.StartTimer()
				}
				s.Merge(deltas[i%len(deltas)])
			}
		})
	}
}

func BenchmarkUpdateOfAField(b *testing.B) {
	s := benchmarkState(b, 1000)
	b.ReportAllocs()
	for i := range b.N {
		mustUpdate(b, s, 1, func(tx dotted.Tx) error {
			return fieldsOf(tx).Map("m").String(strconv.Itoa(i % 1000)).Set([]byte("newer"))
		})
	}
}

func BenchmarkIncrement(b *testing.B) {
	s := NewState()
	b.ReportAllocs()
	for range b.N {
		mustUpdate(b, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).String("hits").Add(1)) })
	}
}

func BenchmarkMergeOfAWholeState(b *testing.B) {
	s := benchmarkState(b, 1000)
	o := s.Clone()
	b.ReportAllocs()
	for range b.N {
		s.Merge(o)
	}
}

// What a function kept of an update must not write under the dots of the next one.
func TestKeysTakeNoWritesOnceTheirUpdateIsOver(t *testing.T) {
	s := NewState()
	var kept Fields
	for _, failed := range []error{nil, errors.New("no")} {
		if _, err := s.Update(1, epochStart, func(keys Fields) error { kept = keys; return failed }); err != failed {
			t.Fatal(err)
		}
		if err := kept.Flag("late").Set(true); !errors.Is(err, ErrReadOnly) || s.View().Has("late") {
			t.Errorf("a write after an update that returned %v: %v", failed, err)
		}
	}
}

func TestAnUpdateWithinAnotherIsRefused(t *testing.T) {
	s := NewState()
	enable := func(keys Fields) error { return keys.Flag("inner").Set(true) }
	delta, err := s.Update(1, epochStart, func(keys Fields) error {
		if _, err := s.Update(1, epochStart, enable); err == nil {
			t.Error("an update within another one is taken")
		}
		return keys.Flag("outer").Set(true)
	})
	if err != nil || delta.View().Len() != 1 || s.View().Has("inner") {
		t.Errorf("%d names were written, %v", delta.View().Len(), err)
	}
	if _, err := s.Update(1, epochStart, enable); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// An update that fails takes back cells, and not what a merge has told the context.
func TestAStateTakesNothingElseWithinAnUpdate(t *testing.T) {
	s, o := NewState(), NewState()
	set := func(keys Fields) error { return keys.Flag("there").Set(true) }
	delta, err := o.Update(2, epochStart, set)
	if err != nil {
		t.Fatal(err)
	}
	bytes, _ := delta.MarshalBinary()
	merge := func(to, from *State) (panicked bool) {
		defer func() { panicked = recover() != nil }()
		to.Merge(from)
		return false
	}
	failure := errors.New("failure")
	_, err = s.Update(1, epochStart, func(keys Fields) error {
		if err := set(keys); err != nil {
			return err
		}
		if !merge(s, delta) || !merge(o, s) || s.UnmarshalBinary(bytes) == nil {
			t.Error("the state is merged or replaced within an update")
		}
		return failure
	})
	if err != failure || !s.Equal(NewState()) {
		t.Errorf("after %v:\n%s", err, describe(s))
	}
	if s.Merge(delta); !s.Equal(o) {
		t.Errorf("the merge afterwards:\n%s", describe(s))
	}
}

func TestTheZeroFieldsIsEmptyAndReadOnly(t *testing.T) {
	var f Fields
	for range f.All() {
		t.Error("it has a name")
	}
	if f.Has("x") || f.Len() != 0 || f.Types("x") != 0 || f.Map("m").CountStrings() != 0 || f.Err() != nil {
		t.Error("something is found in it")
	}
	_, cleared := f.Clear()
	_, added := f.Set("s").Add("x")
	_, counted := f.Counter("c").Add(1)
	for _, err := range []error{cleared, added, counted, f.String("x").Set(nil), f.Flag("f").Set(true)} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("a write returns %v", err)
		}
	}
}

func TestAContextContainsAnotherIfItHasAllOfItsDots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSeen(t), drawSeen(t)
		both := a.Clone()
		both.Merge(b)
		if got, want := a.Contains(b), both.Equal(a); got != want {
			t.Fatalf("%v contains %v: %v, want %v", a, b, got, want)
		}
	})
}

// What was merged holds nothing of what it was decoded from but itself.
func TestAMergedEntryHoldsNoMoreThanItself(t *testing.T) {
	source, s := NewState(), NewState()
	set := func(key string, value []byte) {
		if _, err := source.Update(1, epochStart, func(keys Fields) error { return keys.String(key).Set(value) }); err != nil {
			t.Fatal(err)
		}
	}
	const size, times = 1 << 20, 64
	set("large", make([]byte, size))
	for i := range times {
		set(fmt.Sprint("small ", i), []byte("v"))
		data, err := source.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		read := NewState()
		if err := read.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		s.Merge(read)
	}
	if !s.Equal(source) {
		t.Fatal("the two differ")
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > times*size/2 {
		t.Errorf("%d bytes are held", m.HeapAlloc)
	}
	runtime.KeepAlive(s)
}

// Who writes much at once, under an id that has written elsewhere, is read as well.
func TestAContextOfMillionsOfExceptionsIsRead(t *testing.T) {
	c := &Context{}
	for n := uint64(2); n < 2<<20+4; n++ {
		c.add(Dot{Replica: 1, Counter: n})
	}
	data, err := c.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var read Context
	if err := read.UnmarshalBinary(data); err != nil || !read.Equal(c) {
		t.Errorf("it is another: %v", err)
	}
}
