package crdt

import (
	"fmt"
	"testing"
	"time"
)

// listOf returns a state with a list of n elements, under a key or in a map.
func listOf(t testing.TB, n int, of func(Fields) List) *State {
	t.Helper()
	s := NewState()
	values := make([][]byte, n)
	for i := range values {
		values[i] = fmt.Append(nil, i)
	}
	if _, err := s.Update(1, time.UnixMilli(1), func(keys Fields) error { return of(keys).Insert(0, values...) }); err != nil {
		t.Fatal(err)
	}
	return s
}

func insertOne(t testing.TB, s *State, of func(Fields) List, i int) {
	if _, err := s.Update(1, time.UnixMilli(2), func(keys Fields) error { return of(keys).Insert(i, []byte("x")) }); err != nil {
		t.Fatal(err)
	}
}

var placesOfLists = map[string]func(Fields) List{
	"key":   func(keys Fields) List { return keys.List("l") },
	"field": func(keys Fields) List { return keys.Map("m").List("l") },
}

// TestAnInsertionDoesNotLookAtTheWholeList: what it allocates tells at how many names it looks.
func TestAnInsertionDoesNotLookAtTheWholeList(t *testing.T) {
	for name, of := range placesOfLists {
		const n = 20_000
		s, at := listOf(t, n, of), 0
		allocs := testing.AllocsPerRun(20, func() {
			at += n / 40
			insertOne(t, s, of, at)
			_, _ = of(s.View()).Get(at)
		})
		if allocs > 1000 {
			t.Errorf("an insertion into a list of %d elements under a %s allocates %v times", n, name, allocs)
		}
	}
}

func BenchmarkListInsertInState(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := listOf(b, n, placesOfLists["key"])
			i := 0
			for b.Loop() {
				insertOne(b, s, placesOfLists["key"], i*7919%n)
				i++
			}
		})
	}
}
