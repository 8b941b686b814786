package crdt

import (
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// ErrNotInteger is returned by Add for a string that is no decimal 64-bit integer. Nothing
// changed.
var ErrNotInteger = errors.New("value is not an integer or out of range")

// String is a register and a counter under one name, with the meaning of a Redis string: Set
// replaces it, Add increments the integer that it spells. Adding never rewrites what was set, but
// puts shares beside it: so increments that replicas make at the same time all count, and those
// that are concurrent with a Set count on top of it.
type String struct {
	ref
}

// String returns the string under name.
func (f Fields) String(name string) String { return String{f.named(name, TypeString)} }

// Get returns the latest text (see Register.Get), with the increments added if it is an integer,
// or if there are increments alone their sum. A text that is no integer is shown as it is, and the
// increments, made while it was another, wait beside it. Sums beyond 64 bits show the nearest
// bound. The value must not be changed.
func (s String) Get() (value []byte, ok bool) {
	c, _ := s.cell()
	return s.read(c)
}

// read returns how the string at n reads, whose own cell is c. What was counted on a text that is
// no integer is not looked up.
func (n ref) read(c dotted.Cell) (value []byte, ok bool) {
	text, written := latestWrite(c)
	if _, ok := startingAt(text, written); !ok {
		return text, true
	}
	counted, _ := n.count()
	return show(counted, text, written)
}

// show returns how a text reads with what was counted on it, and whether there is anything.
// written is false if there is no text.
func show(counted dotted.Count, text []byte, written bool) ([]byte, bool) {
	start, ok := startingAt(text, written)
	if !ok || counted.Shares == 0 {
		return text, written
	}
	counted.Sum = counted.Sum.Plus(dotted.Int128Of(start))
	return strconv.AppendInt(nil, counted.Value(), 10), true
}

// startingAt returns what increments of a text begin with: the integer it spells, or zero without
// one.
func startingAt(text []byte, written bool) (start int64, ok bool) {
	if !written {
		return 0, true
	}
	return parseInteger(text)
}

// All passes how the string reads with each of the concurrent texts, in the order of their dots.
// The values must not be changed.
func (s String) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c, _ := s.cell()
		counted, _ := s.count()
		written := false
		for _, e := range c {
			if !isWrite(e) {
				continue
			}
			written = true
			_, text := splitWrite(e)
			if text, _ = show(counted, text, true); !yield(text) {
				return
			}
		}
		if value, ok := show(counted, nil, false); ok && !written {
			yield(value)
		}
	}
}

// Set replaces everything that it sees, texts and increments. It returns ErrTooLong for more than
// MaxValue bytes. The value is copied.
func (s String) Set(value []byte) error { return s.set(value, dotted.Never) }

// SetUntil is Set of a key, or a field of a map that is a key's, that expires at a time, to the millisecond.
func (s String) SetUntil(value []byte, at time.Time) error {
	if s.err == nil && s.depth > maxTimed {
		return errDeepExpiry
	}
	return s.set(value, milliOf(at))
}

func (s String) set(value []byte, until int64) error {
	c, err := s.cell()
	if err != nil {
		return err
	}
	if err := checkValue(value); err != nil {
		return err
	}
	timed, err := s.replaces(until)
	if err != nil {
		return err
	}
	if err = s.replace(c, writePayload(s.tx.Time(), value)); err == nil {
		_, err = s.uncount() // afterwards, or a map of this field alone had nothing for a moment, and lost its expiry
	}
	if timed {
		err = s.replaced(until, err)
	}
	return err
}

// Add adds n and returns the new value; an absent string counts as 0. It returns ErrNotInteger if
// the latest text is no integer, and ErrOverflow if n takes the value as seen here out of 64 bits.
func (s String) Add(n int64) (int64, error) {
	counted, err := s.count()
	if err != nil {
		return 0, err
	}
	var c dotted.Cell
	if !counted.Unwritten {
		if c, err = s.cell(); err != nil {
			return 0, err
		}
	}
	start, ok := startingAt(latestWrite(c))
	if !ok {
		return 0, ErrNotInteger
	}
	return s.add(counted, start, n)
}

// Clear removes everything that it sees, texts and increments, and reports whether there was
// anything. What is concurrent survives it.
func (s String) Clear() (existed bool, err error) {
	c, err := s.cell()
	if err != nil {
		return false, err
	}
	counted, err := s.uncount()
	if err != nil || !c.Visible() {
		return counted, err
	}
	return true, s.replace(c, nil)
}

func (s String) copyTo(to Fields, name string) error {
	value, ok := s.Get()
	if !ok {
		return errNewerType // entries that only a newer version can read
	}
	if _, written := Register(s).Get(); !written {
		_, err := to.Counter(name).Add(Counter(s).Get())
		return err
	}
	return to.String(name).Set(value)
}

func (s String) appendJSON(b []byte) []byte {
	value, ok := s.Get()
	switch _, written := Register(s).Get(); {
	case !ok:
		return append(b, "null"...) // entries that only a newer version can read
	case written:
		return appendText(b, string(value))
	}
	return append(b, value...) // a sum
}
