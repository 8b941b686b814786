package resp

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// An ordered set says how many names it has, but not which one is at a place of the order. So where
// a random name is wanted of so many that they are not to be gone through, one is looked for by
// random bytes, one after the other, as down a tree. Each name can be found; those that share their
// first bytes with few others are found more often than the rest; hashes, UUIDs and numbers of one
// length are found alike often.

// behind follows, in the order, nearly all that begins with what it is appended to.
const behind = "\xff\xff\xff\xff\xff\xff\xff\xff"

// choices are the names of which some are chosen, in order.
type choices interface {
	All() iter.Seq[string]
	AllAfter(name string) iter.Seq[string]
	// Next returns the first name of those that AllAfter passes, and false if there is none.
	Next(name string) (next string, ok bool)
}

// window returns size of n names, or all if there are no more: from several random ones on, if it
// is large, those that follow each. Of long names it returns fewer, but not fewer than least.
func window(n, least, size int, names choices) (some []string) {
	if n <= size {
		return slices.Collect(names.All())
	}
	in, ok := newForest(n, names)
	if !ok {
		return nil
	}
	chosen, bytes := map[string]bool{}, 0
	take := func(name string) {
		if !chosen[name] {
			chosen[name], some = true, append(some, name)
			bytes += len(name)
		}
	}
	enough := func(most int) bool { return len(some) >= most || bytes > mostDrawnBytes && len(some) >= least }
	// follow takes names from one on, round the end, until there are so many.
	follow := func(start string, most int) {
		take(start)
		for name := range names.AllAfter(start) {
			if enough(most) {
				return
			}
			take(name)
		}
		for name := range names.All() {
			if enough(most) || name == start {
				return
			}
			take(name)
		}
	}
	pieces := min(max(size/pieceSize, 1), mostPieces)
	for i := range pieces {
		if most := (i + 1) * size / pieces; !enough(most) {
			follow(in.random(), most)
		}
	}
	return some
}

// onward returns size of n names, those that follow on one, round the end, or all if there are no
// more. Of long names it returns fewer, but not fewer than least. It passes nothing behind the last
// of all: there may be very many that were removed.
func onward(n, least, size int, from string, names choices) (some []string) {
	bytes, last, round := 0, from, false
	// take reports whether there are more to be taken.
	take := func(name string) bool {
		if round && name > from {
			return false
		}
		some, last = append(some, name), name
		bytes += len(name)
		return len(some) < min(n, size) && (bytes <= mostDrawnBytes || len(some) < least)
	}
	for more := true; more; {
		ended := true
		if n-len(some) > fewLeft {
			for name := range names.AllAfter(last) {
				if more = take(name); !more || n-len(some) <= fewLeft {
					ended = false
					break
				}
			}
		} else if name, ok := names.Next(last); ok {
			more, ended = take(name), false
		}
		if ended {
			more, round, last = !round, true, ""
		}
	}
	return some
}

// fewLeft is how many names AllAfter may look beyond the one that it passes, and more.
const fewLeft = 512

// A window is of so many pieces at most, each of so many names at least.
const mostPieces, pieceSize = 16, 64

// forest is what is known of n names before one of them is looked for.
type forest struct {
	n      int
	names  choices
	first  string
	shared string // what all begin with
	forks  []byte // that follow
}

func newForest(n int, names choices) (f forest, ok bool) {
	f.n, f.names = n, names
	for f.first = range names.All() {
		if f.first == "" { // of which nothing is to be learned, and that is found round the end
			if f.first, ok = names.Next(""); !ok {
				break
			}
		}
		f.shared = sharedPrefix(f.first, names)
		f.forks = forks(f.first, f.shared, names)
		return f, true
	}
	return f, false
}

// random returns one of the names.
func (f *forest) random() string {
	name, shared := f.first, f.shared
	for left := 2 * f.n; left > 0; left /= max(2, len(f.forks)) {
		// It is the first that begins with shared: go on to another byte behind that.
		for range 3 { // beyond the last name there is nothing
			b := byte(rand.IntN(256)) // now and then any, so that none is out of reach
			if rand.IntN(8) > 0 {
				b = f.forks[rand.IntN(len(f.forks))]
			}
			found, ok := f.names.Next(before(shared, b))
			if ok && strings.HasPrefix(found, shared) && found > shared {
				name = found
				break
			}
		}
		if len(name) == len(shared) {
			break
		}
		shared = name[:len(shared)+1]
	}
	return name
}

// before returns a name that is less than all that have a byte behind a prefix, and greater than
// nearly all that have a lesser one.
func before(prefix string, b byte) string {
	if b == 0 {
		return prefix
	}
	return prefix + string([]byte{b - 1}) + behind
}

// sharedPrefix returns what all names begin with, of which the given one is the first.
func sharedPrefix(first string, names choices) string {
	least, most := 0, min(len(first), 1<<10) // the first so many bytes are shared
	for least < most {
		n := (least + most + 1) / 2
		if _, beyond := names.Next(first[:n] + behind); beyond {
			most = n - 1
		} else {
			least = n
		}
	}
	return first[:least]
}

// mostForks is how many bytes are looked for at the first place where names differ. Where there are
// more, any byte is as likely as another.
const mostForks = 40

// forks returns the bytes that names have at the first place where they differ, and all digits if
// one is among them: behind it names mostly have the same ones.
func forks(first, shared string, names choices) []byte {
	var found [256]bool
	n := 0
	for name, ok := first, true; ok && strings.HasPrefix(name, shared); n++ {
		if n == mostForks {
			break
		}
		beyond := name // shared itself
		if len(name) > len(shared) {
			b := name[len(shared)]
			found[b] = true
			beyond = shared + string([]byte{b}) + behind
		}
		name, ok = names.Next(beyond)
	}
	digits := false
	for b := '0'; b <= '9'; b++ {
		digits = digits || found[b]
	}
	var list []byte
	for b := range 256 {
		if found[b] || n == mostForks || digits && '0' <= b && b <= '9' {
			list = append(list, byte(b))
		}
	}
	return append(list, '0')[:max(1, len(list))]
}
