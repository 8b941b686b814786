package order

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// world is a tree, what of it is stored, and the keys that it should have.
type world struct {
	Tree
	stored map[uint64]*Node
	reads  int
	keys   []string
}

func newWorld() *world {
	w := &world{stored: map[uint64]*Node{}}
	w.Read = func(number uint64) (*Node, error) {
		w.reads++
		n := w.stored[number]
		if n == nil {
			return nil, fmt.Errorf("the node %d is read, and is not stored", number)
		}
		return n, nil
	}
	return w
}

// store stores what changed, as copies that share nothing with the tree.
func (w *world) store() {
	w.Changed(func(number uint64, n *Node) {
		if n == nil {
			delete(w.stored, number)
			return
		}
		w.stored[number] = NewNode(strings.Clone(n.keys), slices.Clone(n.ends), slices.Clone(n.Kids))
	})
}

// fataler is what a test and rapid have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (w *world) insert(t fataler, key string) {
	t.Helper()
	i, has := slices.BinarySearch(w.keys, key)
	if added, err := w.Insert(key); err != nil || added == has {
		t.Fatalf("inserting %q: %v, %v; it was there: %v", key, added, err, has)
	}
	if !has {
		w.keys = slices.Insert(w.keys, i, key)
	}
}

func (w *world) remove(t fataler, key string) {
	t.Helper()
	i, has := slices.BinarySearch(w.keys, key)
	if removed, err := w.Remove(key); err != nil || removed != has {
		t.Fatalf("removing %q: %v, %v; it was there: %v", key, removed, err, has)
	}
	if has {
		w.keys = slices.Delete(w.keys, i, i+1)
	}
}

// check compares the tree with the keys, and how full its nodes are, unless there are long keys,
// with what is promised.
func (w *world) check(t fataler) {
	t.Helper()
	var keys []string
	numbers := map[uint64]bool{}
	err := w.Check(func(n uint64) error { numbers[n] = true; return nil }, func(k string) { keys = append(keys, k) })
	if err != nil || !slices.Equal(keys, w.keys) || w.Count != len(w.keys) {
		t.Fatalf("there are %d keys of %d: %v", len(keys), len(w.keys), err)
	}
	for number := range w.stored {
		if n, owned := w.own[number]; !numbers[number] && !(owned && n == nil) {
			t.Fatalf("the node %d is left, and nothing leads to it", number)
		}
	}
	all, long := 0, false
	for number := range numbers {
		n, _ := w.node(number)
		bytes, heaviest := len(n.Kids)*perKid, 0
		for i := range n.Len() {
			bytes += perKey + len(n.Key(i))
			heaviest = max(heaviest, perKey+len(n.Key(i)))
		}
		if n.Bytes() != bytes || bytes > maxBytes+3*heaviest {
			t.Fatalf("a node of %d keys takes %d bytes, and is said to take %d", n.Len(), bytes, n.Bytes())
		}
		if len(n.Kids) == 1 {
			t.Fatalf("a node has one kid")
		}
		if all += bytes; heaviest > perKey+100 {
			long = true
		}
	}
	if n := len(numbers); !long && n > 4 && all/n < maxBytes/5 {
		t.Fatalf("%d nodes take %d bytes on average", n, all/n)
	}
}

func (w *world) ask(t fataler, key string, from int, back bool) {
	t.Helper()
	want, _ := slices.BinarySearch(w.keys, key)
	if got, err := w.Rank(key); err != nil || got != want {
		t.Fatalf("%d are before %q of %d: %v, %v", want, key, len(w.keys), got, err)
	}
	var got, expected []string
	if from >= 0 && from < len(w.keys) {
		if expected = w.keys[from:]; back {
			expected = slices.Clone(w.keys[:from+1])
			slices.Reverse(expected)
		}
	}
	expected = expected[:min(len(expected), 200)]
	err := w.Walk(from, back, func(k string) bool {
		got = append(got, k)
		return len(got) < 200
	})
	if err != nil || !slices.Equal(got, expected) {
		t.Fatalf("from %d, back %v: %d keys, %v; want %d", from, back, len(got), err, len(expected))
	}
}

// keyOf returns a key, now and then a very long one, or one that differs late from others.
func keyOf(kind, n int) string {
	switch kind {
	case 0:
		return fmt.Sprintf("%06d", n)
	case 1:
		return strings.Repeat("long", 300+n%7) + fmt.Sprint(n)
	case 2:
		return string(rune('a'+n%20)) + strings.Repeat("x", n%3000)
	}
	return fmt.Sprintf("%d/%d", n%10, n)
}

func TestATreeHasTheKeysInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		most := rapid.SampledFrom([]int{5, 300, 3000}).Draw(t, "keys")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.IntRange(0, most).Draw(t, "n")
			run, by := rapid.IntRange(1, max(most/10, 1)).Draw(t, "run"), rapid.SampledFrom([]int{1, -1, 7}).Draw(t, "by")
			what := rapid.IntRange(0, 7).Draw(t, "step")
			back := rapid.Bool().Draw(t, "back")
			before, shape := slices.Clone(w.keys), w.Shape
			var undo []Undo
			if w.Note = nil; back {
				w.Note = func(u Undo) { undo = append(undo, u) }
			}
			for i := range run {
				switch key := keyOf(kind, max(n+i*by, 0)); {
				case what < 4:
					w.insert(t, key)
				case what < 7:
					w.remove(t, key)
				}
			}
			if rapid.Bool().Draw(t, "fails") && back {
				for _, u := range slices.Backward(undo) {
					w.Undo(u)
				}
				if w.keys = before; w.Shape != shape {
					t.Fatalf("after all was taken back the shape is %+v, and was %+v", w.Shape, shape)
				}
			}
			if what == 7 {
				w.store()
			}
			w.check(t)
			w.ask(t, keyOf(kind, n), n, back)
			w.ask(t, keyOf(kind, n), len(w.keys)/2, back)
		}
		for len(w.keys) > 0 {
			w.remove(t, w.keys[rand.IntN(len(w.keys))])
		}
		if w.store(); w.Shape != (Shape{}) || len(w.stored) > 0 {
			t.Fatalf("of an empty tree %+v is left, and %d nodes", w.Shape, len(w.stored))
		}
	})
}

// TestAFailedReadChangesNoKey has each read of a removal and an insertion fail in turn.
func TestAFailedReadChangesNoKey(t *testing.T) {
	w := newWorld()
	for i := range 3000 {
		w.insert(t, keyOf(0, i))
	}
	w.store()
	read := w.Read
	for i := 0; i < 3000; i++ {
		for fails := range 8 {
			left := fails
			w.Read = func(n uint64) (*Node, error) {
				if left--; left < 0 {
					return nil, errShape
				}
				return read(n)
			}
			removed, err := w.Remove(keyOf(0, i))
			if removed {
				w.keys = slices.DeleteFunc(w.keys, func(k string) bool { return k == keyOf(0, i) })
			}
			if w.Read = read; i%100 == 0 || err != nil && removed {
				if _, err := w.Rank("x"); err != nil || w.Count != len(w.keys) {
					t.Fatalf("%d keys, and should be %d: %v", w.Count, len(w.keys), err)
				}
				w.ask(t, keyOf(0, i), 0, false)
			}
			if err == nil {
				break
			}
		}
		if i%7 == 0 {
			w.store()
		}
	}
}

// TestWhatIsAskedReadsFewNodes counts them.
func TestWhatIsAskedReadsFewNodes(t *testing.T) {
	const keys = 200_000
	rng := rand.New(rand.NewPCG(1, 2))
	for name, next := range map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return keys - i },
		"at random":  func(int) int { return rng.IntN(math.MaxInt32) },
	} {
		w := newWorld()
		for i := range keys {
			if _, err := w.Insert(fmt.Sprintf("%010d", next(i))); err != nil {
				t.Fatal(err)
			}
		}
		w.store()
		perNode := float64(w.Count) / float64(len(w.stored))
		t.Logf("%s: %d nodes deep, %.0f keys a node", name, w.Height, perNode)
		if w.Height > 4 || perNode < 55 || name != "at random" && perNode < 80 {
			t.Errorf("%s: %d nodes deep, %.0f keys a node", name, w.Height, perNode)
		}
		w.reads = 0
		if _, err := w.Rank(fmt.Sprintf("%010d", 12345)); err != nil || w.reads != w.Height {
			t.Errorf("%s: a rank reads %d nodes: %v", name, w.reads, err)
		}
		w.reads = 0
		n := 0
		if err := w.Walk(keys/2, true, func(string) bool { n++; return n < 10_000 }); err != nil || w.reads > 10_000/25 {
			t.Errorf("%s: %d keys read %d nodes: %v", name, n, w.reads, err)
		}
	}
}
