package resp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
)

// someNames are names in order, and counts how often they are looked at.
type someNames struct {
	sorted []string
	looks  int
}

func orderedNames(names []string) *someNames {
	slices.Sort(names)
	return &someNames{sorted: names}
}

func (s *someNames) All() iter.Seq[string] {
	s.looks++
	return slices.Values(s.sorted)
}

func (s *someNames) AllAfter(name string) iter.Seq[string] {
	s.looks++
	i, found := slices.BinarySearch(s.sorted, name)
	if found {
		i++
	}
	return slices.Values(s.sorted[i:])
}

func (s *someNames) Next(name string) (next string, ok bool) {
	for next = range s.AllAfter(name) {
		return next, true
	}
	return "", false
}

// partsOf looks at names in parts of most of those that are left, as a transaction does that may write. It counts the looks at
// what was removed.
type partsOf struct {
	someNames
	removed func(name string) bool
	passed  int
}

func (p *partsOf) AllAfter(name string) iter.Seq[string] {
	const most = fewLeft / 2
	return func(yield func(string) bool) {
		var part []string
		for name := range p.someNames.AllAfter(name) {
			if p.removed(name) {
				p.passed++
				continue
			}
			if part = append(part, name); len(part) < most {
				continue
			}
			for _, name := range part {
				if !yield(name) {
					return
				}
			}
			part = part[:0]
		}
		for _, name := range part {
			if !yield(name) {
				return
			}
		}
	}
}

func (p *partsOf) Next(name string) (next string, ok bool) {
	for name := range p.someNames.AllAfter(name) {
		if !p.removed(name) {
			return name, true
		}
		p.passed++
	}
	return "", false
}

// TestWhatFollowsIsTakenRoundTheEnd, all of it, and what was removed behind it is not looked at.
func TestWhatFollowsIsTakenRoundTheEnd(t *testing.T) {
	const all, from, to = 20_000, 3000, 17_000 // between these all were removed
	var names, left []string
	for i := range all {
		names = append(names, fmt.Sprintf("%06d", i))
	}
	p := &partsOf{someNames: *orderedNames(names)}
	p.removed = func(name string) bool { return name >= names[from] && name < names[to] }
	left = append(slices.Clone(names[to:]), names[:from]...)
	for _, size := range []int{100, 2900, 3000, 5900, 6000, 10_000} {
		some := onward(len(left), leastWindow, size, names[to-1], p)
		if want := left[:min(size, len(left))]; !slices.Equal(some, want) {
			t.Errorf("of %d that follow %d are found, want %d", size, len(some), len(want))
		}
		if p.passed > 0 {
			t.Errorf("for %d that follow %d removed ones are passed", size, p.passed)
		}
	}
	p.removed = func(string) bool { return true }
	if some := onward(5, leastWindow, 5, names[to], p); len(some) > 0 {
		t.Errorf("of none %d are found", len(some))
	}
}

func hashOf(i int) string {
	h := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
	return string(h[:])
}

// TestAWindowIsFoundAnywhere among names as applications choose them: each tenth of them has a
// share of the draws.
func TestAWindowIsFoundAnywhere(t *testing.T) {
	const n, draws = 20_000, 4000
	for kind, name := range map[string]func(i int) string{
		"numbers":        func(i int) string { return fmt.Sprint(i) },
		"padded numbers": func(i int) string { return fmt.Sprintf("%08d", i) },
		"a prefix":       func(i int) string { return fmt.Sprintf("application:user:%d:session", i) },
		"hashes":         func(i int) string { return hex.EncodeToString([]byte(hashOf(i))) },
		"bytes":          hashOf,
		"an empty one": func(i int) string {
			if i == 0 {
				return ""
			}
			return fmt.Sprintf("key:%08d", i)
		},
		"some in others": func(i int) string {
			return hex.EncodeToString([]byte(hashOf(i)))[:i%6]
		},
	} {
		var names []string
		for i := range n {
			names = append(names, name(i))
		}
		slices.Sort(names)
		names = slices.Compact(names)
		ordered := orderedNames(names)
		var tenths [10]int
		for range draws {
			some := window(len(names), leastWindow, leastWindow, ordered)
			distinct := slices.Compact(slices.Sorted(slices.Values(some)))
			if len(some) != leastWindow || len(distinct) != leastWindow {
				t.Fatalf("%s: a window of %d names", kind, len(some))
			}
			for _, name := range some {
				i, _ := slices.BinarySearch(names, name)
				tenths[10*i/len(names)]++
			}
		}
		for i, count := range tenths {
			if share := float64(count) / (draws * leastWindow); share < 0.01 || share > 0.4 {
				t.Errorf("%s: the tenth %d has a share of %.3f", kind, i, share)
			}
		}
		if each := ordered.looks / draws; each > 60 {
			t.Errorf("%s: %d looks for a window", kind, each)
		}
	}
}

func TestASmallWindowIsAllThereIs(t *testing.T) {
	for _, n := range []int{0, 1, 2, leastWindow - 1, leastWindow} {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint(i))
		}
		ordered := orderedNames(names)
		if got := window(n, leastWindow, leastWindow, ordered); !slices.Equal(got, names) {
			t.Errorf("of %d names %d", n, len(got))
		}
	}
}

// TestALargeWindowIsFromSeveralPlaces and has each name once.
func TestALargeWindowIsFromSeveralPlaces(t *testing.T) {
	const n, size = 20_000, 2048
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%08d", i))
	}
	ordered := orderedNames(names)
	some := slices.Sorted(slices.Values(window(n, leastWindow, size, ordered)))
	if len(slices.Compact(some)) != size {
		t.Errorf("%d names", len(slices.Compact(some)))
	}
	runs := 0
	for i, name := range some {
		at, _ := slices.BinarySearch(names, name)
		if i == 0 || names[at-1] != some[i-1] {
			runs++
		}
	}
	if runs < mostPieces/2 { // some may meet
		t.Errorf("they are from %d places", runs)
	}
}

// TestAWindowOfLongNamesIsBounded by their bytes.
func TestAWindowOfLongNamesIsBounded(t *testing.T) {
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("%05d", i)+strings.Repeat("x", 10_000))
	}
	ordered := orderedNames(names)
	if got := len(window(len(names), leastWindow, 2048, ordered)); got != leastWindow {
		t.Errorf("%d names", got)
	}
	if _, ok := collected(ordered.All()); ok {
		t.Error("all were collected")
	}
}
