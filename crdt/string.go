package crdt

import (
	"errors"
	"iter"
	"strconv"

	"github.com/peerd/peerd/internal/dotted"
)

// ErrNotInteger is returned by Add for a string that is no decimal 64-bit integer. Nothing
// changed.
var ErrNotInteger = errors.New("value is not an integer or out of range")

// String is a register and a counter in one cell, with the meaning of a Redis string: Set replaces
// it, Add increments the integer that it spells. Adding never rewrites what was set, but puts
// shares beside it: so increments that replicas make at the same time all count, and those that
// are concurrent with a Set count on top of it.
type String struct {
	node
}

// String returns the string under name.
func (f Fields) String(name string) String { return String{f.named(name).typed(TypeValue)} }

// Get returns the latest text (see Register.Get), with the increments added if it is an integer,
// or if there are increments alone their sum. A text that is no integer is shown as it is, and the
// increments, made while it was another, wait beside it. Sums beyond 64 bits show the nearest
// bound. The value must not be changed.
func (s String) Get() (value []byte, ok bool) {
	c, _ := s.cell()
	return readString(c)
}

// readString returns how a cell reads as a string.
func readString(c dotted.Cell) (value []byte, ok bool) {
	value, ok = latestWrite(c)
	t := talliesOf(c)
	if len(t.shares) == 0 {
		return value, ok
	}
	return t.show(value, ok), true
}

// show returns how a text reads with the increments of t. written is false if there is no text.
func (t tallies) show(text []byte, written bool) []byte {
	start, ok := startingAt(text, written)
	if !ok || len(t.shares) == 0 {
		return text
	}
	n, _ := start.add(t.total()).value()
	return strconv.AppendInt(nil, n, 10)
}

// startingAt returns what increments of a text begin with: the integer it spells, or zero without
// one.
func startingAt(text []byte, written bool) (start amounts, ok bool) {
	if !written {
		return start, true
	}
	n, ok := parseInteger(text)
	return start.plus(n), ok
}

// All passes how the string reads with each of the concurrent texts, in the order of their dots.
// The values must not be changed.
func (s String) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c, _ := s.cell()
		t, written := talliesOf(c), false
		for _, e := range c {
			if !isWrite(e) {
				continue
			}
			written = true
			if _, text := splitWrite(e); !yield(t.show(text, true)) {
				return
			}
		}
		if !written && len(t.shares) > 0 {
			yield(t.show(nil, false))
		}
	}
}

// Set replaces everything that it sees, texts and increments. It returns ErrTooLong for more than
// MaxValue bytes. The value is copied.
func (s String) Set(value []byte) error {
	c, err := s.cell()
	if err != nil {
		return err
	}
	if err := checkValue(value); err != nil {
		return err
	}
	return s.replace(c, writePayload(s.tx.Time(), value))
}

// Add adds n and returns the new value; an absent string counts as 0. It returns ErrNotInteger if
// the latest text is no integer, and ErrOverflow if n takes the value as seen here out of 64 bits.
func (s String) Add(n int64) (int64, error) {
	c, err := s.cell()
	if err != nil {
		return 0, err
	}
	start, ok := startingAt(latestWrite(c))
	if !ok {
		return 0, ErrNotInteger
	}
	return s.add(talliesOf(c), start, n)
}

// Clear removes everything that it sees, texts and increments, and reports whether there was
// anything. What is concurrent survives it.
func (s String) Clear() (existed bool, err error) {
	c, err := s.cell()
	if err != nil || !c.Visible() {
		return false, err
	}
	return true, s.replace(c, nil)
}

func (s String) appendJSON(b []byte) []byte {
	value, ok := s.Get()
	switch _, written := (Register{s.node}).Get(); {
	case !ok:
		return append(b, "null"...) // entries that only a newer version can read
	case written:
		return appendText(b, string(value))
	}
	return append(b, value...) // a sum
}
