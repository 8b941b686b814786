package crdt

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/peerd/peerd/internal/dotted"
)

// ErrNotANumber is returned for a score that is not a number, and for an addition whose sum would
// be none, as that of two infinities. Nothing changed.
var ErrNotANumber = errors.New("score is not a number")

// SortedSet is a set of byte strings, each with a score, in the order of their scores, and of equal
// ones of their bytes. Each element has a cell of its own. Set replaces what it sees of an element,
// of concurrent ones the latest stays. Add adds to what is there: additions of several replicas all
// count, those that are concurrent with a Set on top of it, and those that are concurrent with a
// Remove are what is left, without what that saw.
//
// A score is the exact sum of what was set and what was added, rounded once, so that it does not
// depend on who met whom first; but to who adds alone it is what floating-point numbers make of it,
// each addition being rounded. Infinity can only be set: an addition that reaches it is a Set.
type SortedSet struct {
	ref
}

// SortedSet returns the sorted set under name.
func (f Fields) SortedSet(name string) SortedSet { return SortedSet{f.named(name, TypeSortedSet)} }

// Score returns the score of elem. ok is false if it is not in the set. O(log cells).
func (s SortedSet) Score(elem string) (score float64, ok bool) {
	c, _ := s.named(elem).cell()
	if !c.Visible() {
		return 0, false
	}
	return scoreIn(c), true
}

// Scores passes what the score of elem is with each of those that were set at once, in the order of
// their dots: Score is the one with the latest. O(log cells).
func (s SortedSet) Scores(elem string) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		if c, _ := s.named(elem).cell(); c.Visible() {
			scoresIn(c).all(yield)
		}
	}
}

// Len returns the number of elements. O(1) for a key, O(elements) for a field of a map.
func (s SortedSet) Len() int {
	if n, ok, _ := s.visible(); ok {
		return n
	}
	n := 0
	s.walk("", func(scored) bool { n++; return true })
	return n
}

// Before returns how many elements come before one of that score and name, which need not be there:
// those of lesser scores, and of the same one those of lesser names. O(log cells).
func (s SortedSet) Before(score float64, elem string) int { return s.rank(orderKey(score, elem)) }

// rank returns how many elements come before a key in their order.
func (s SortedSet) rank(key string) int {
	n, _ := read(s.ref, func() (int, error) { return s.tx.Rank(s.at, key) })
	return n
}

// All passes the elements with their scores, in order. If the loop's body gives an element another score it is not
// passed again further on; others that it moves are passed where they then are. ByName passes each once.
func (s SortedSet) All() iter.Seq2[string, float64] { return s.From(0) }

// From passes those from the one on that has so many before it. O(log cells) for the first.
func (s SortedSet) From(rank int) iter.Seq2[string, float64] { return s.ranked(rank, false) }

// Back passes those from that one on back to the first.
func (s SortedSet) Back(rank int) iter.Seq2[string, float64] { return s.ranked(rank, true) }

func (s SortedSet) ranked(from int, back bool) iter.Seq2[string, float64] {
	walk := func(last dotted.Address, fn func(key string) bool) {
		at := from
		switch {
		case last != "" && back:
			at = s.rank(string(last)) - 1
		case last != "":
			at = s.rank(string(last) + "\x00")
		}
		if s.broken() != nil || s.expired() || s.tx.err != nil {
			return
		}
		err := s.tx.Ranked(s.at, at, back, func(key string) bool {
			return fn(key) && s.tx.err == nil // a read in fn may have failed
		})
		if s.tx.err == nil {
			s.tx.err = err
		}
	}
	keys := inParts(s.ref, "", walk, func(key string) dotted.Address { return dotted.Address(key) })
	return func(yield func(string, float64) bool) {
		var wrote map[string]bool // elements for which the body wrote something: such a loop ends
		for key := range keys {
			score, elem := cutOrderKey(key)
			if wrote[elem] {
				continue
			}
			next := s.tx.Next()
			if !yield(elem, score) {
				return
			}
			if s.tx.Next() != next {
				if wrote == nil {
					wrote = map[string]bool{}
				}
				wrote[elem] = true
			}
		}
	}
}

// ByName passes the elements in the order of their bytes alone, and long ones in that of
// Fields.All.
func (s SortedSet) ByName() iter.Seq2[string, float64] { return s.elements("") }

// ByNameAfter passes those greater than the given one, which need not be there.
func (s SortedSet) ByNameAfter(elem string) iter.Seq2[string, float64] {
	return s.elements(s.at.Name(elem))
}

func (s SortedSet) elements(after dotted.Address) iter.Seq2[string, float64] {
	parts := inParts(s.ref, after, s.walk, func(e scored) dotted.Address { return s.at.Name(e.elem) })
	return func(yield func(string, float64) bool) {
		for e := range parts {
			if !yield(e.elem, e.score) {
				return
			}
		}
	}
}

// scored is an element with its score.
type scored struct {
	elem  string
	score float64
}

func (s SortedSet) walk(after dotted.Address, fn func(scored) bool) {
	_ = s.scan(after, func(a dotted.Address, c dotted.Cell) bool {
		elem, rest, ok := a[len(s.at):].CutName()
		if !ok || rest != "" || !c.Visible() {
			return true
		}
		return fn(scored{elem, scoreIn(c)})
	})
}

// Set gives elem, of at most MaxName bytes, a score, and reports whether it was not there. It
// writes either way, so that it wins over a concurrent Remove. It returns ErrNotANumber for a score
// that is none. O(log cells).
func (s SortedSet) Set(elem string, score float64) (added bool, err error) {
	if math.IsNaN(score) {
		return false, ErrNotANumber
	}
	e := s.named(elem)
	c, err := e.cell()
	if err != nil {
		return false, err
	}
	return !c.Visible(), e.replace(c, setPayload(s.tx.Time(), withoutSign(score)))
}

// withoutSign returns 0 for -0, which would be another number in the same place of the order.
func withoutSign(score float64) float64 {
	if score == 0 {
		return 0
	}
	return score
}

// Add adds to the score of elem, which is 0 before if it is not there, and returns it. It returns
// ErrNotANumber if the sum, or what is added, is none. O(log cells).
func (s SortedSet) Add(elem string, by float64) (float64, error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil {
		return 0, err
	}
	now := scoresIn(c)
	score := withoutSign(now.sum() + by)
	switch {
	case math.IsNaN(score):
		return 0, ErrNotANumber
	case math.IsInf(score, 0):
		_, err = s.Set(elem, score)
		return score, err
	}
	share, removes := now.add(s.tx.Replica(), by, score)
	return score, e.put(share.payload(), removes)
}

// Remove takes elem out of the set and reports whether it was there; if not, it writes nothing. A
// concurrent Set survives it, and so does what is added meanwhile. O(log cells).
func (s SortedSet) Remove(elem string) (existed bool, err error) {
	e := s.named(elem)
	c, err := e.cell()
	if err != nil || !c.Visible() {
		return false, err
	}
	return true, e.replace(c, nil)
}

// Clear removes all elements and reports whether there were any, as Set.Clear does. Each element to
// which another replica has added costs one operation more.
func (s SortedSet) Clear() (existed bool, err error) { return s.clear() }

// scoreBytes is how many bytes of a key in the order are the score.
const scoreBytes = 8

// orderKey returns where an element stands: keys are in the order of scores, then of names.
func orderKey(score float64, elem string) string {
	bits := math.Float64bits(withoutSign(score))
	if bits>>63 == 1 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	key := binary.BigEndian.AppendUint64(make([]byte, 0, scoreBytes+len(elem)), bits)
	return string(append(key, elem...))
}

func cutOrderKey(key string) (score float64, elem string) {
	bits := binary.BigEndian.Uint64([]byte(key[:scoreBytes]))
	if bits>>63 == 1 {
		bits &^= 1 << 63
	} else {
		bits = ^bits
	}
	return math.Float64frombits(bits), key[scoreBytes:]
}

func (s SortedSet) copyTo(to Fields, name string) error {
	copied := to.SortedSet(name)
	for elem, score := range s.ByName() {
		if _, err := copied.Set(elem, score); err != nil {
			return err
		}
	}
	return nil
}

// appendJSON appends an object of scores, in their order. Infinity is a string, as JSON has no
// number for it.
func (s SortedSet) appendJSON(b []byte) []byte {
	b = append(b, '{')
	first := true
	for elem, score := range s.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, elem), ':')
		if math.IsInf(score, 0) {
			b = appendText(b, string(appendScore(nil, score)))
		} else {
			b = appendScore(b, score)
		}
	}
	return append(b, '}')
}

// appendScore appends the shortest text that reads as a score.
func appendScore(b []byte, score float64) []byte { return strconv.AppendFloat(b, score, 'g', -1, 64) }

// inSortedSet reports whether a cell is of an element of a sorted set.
func inSortedSet(a dotted.Address) bool { return strings.HasSuffix(a.Shape(), string(TypeSortedSet)) }
