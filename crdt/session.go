package crdt

import (
	"iter"

	"github.com/peerd/peerd/internal/dotted"
)

// session is a transaction as handles use it: after a read that failed it does nothing more. So the
// reading methods of handles need no errors, and nothing is written that was decided on half of
// what is there.
type session struct {
	dotted.Tx
	err error
}

func (s *session) Cell(a dotted.Address) (dotted.Cell, error) {
	if s.err != nil {
		return nil, s.err
	}
	var c dotted.Cell
	c, s.err = s.Tx.Cell(a)
	return c, s.err
}

func (s *session) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	if s.err != nil {
		return s.err
	}
	err := s.Tx.Scan(prefix, after, func(a dotted.Address, c dotted.Cell) bool {
		return fn(a, c) && s.err == nil // a read in fn may have failed
	})
	if s.err == nil {
		s.err = err
	}
	return s.err
}

func (s *session) Summary(key string) (dotted.Summary, error) {
	if s.err != nil {
		return dotted.Summary{}, s.err
	}
	var sum dotted.Summary
	sum, s.err = s.Tx.Summary(key)
	return sum, s.err
}

func (s *session) Count(a dotted.Address) (dotted.Count, error) {
	if s.err != nil {
		return dotted.Count{}, s.err
	}
	var c dotted.Count
	c, s.err = s.Tx.Count(a)
	return c, s.err
}

func (s *session) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	if s.err != nil {
		return Dot{}, s.err
	}
	return s.Tx.Put(a, payload, removes)
}

func (s *session) Remove(a dotted.Address, dots []Dot) error {
	if s.err != nil {
		return s.err
	}
	return s.Tx.Remove(a, dots)
}

func (s *session) Clear(prefix dotted.Address) error {
	if s.err != nil {
		return s.err
	}
	return s.Tx.Clear(prefix)
}

// Part sizes of loops in transactions that write.
const (
	firstPart = 16
	lastPart  = 256
)

// inParts passes what walk does from an address on. If the transaction writes, parts of it are read
// before the loop's body sees them, as what the body writes would be in the way of a scan.
func inParts[T any](n node, after dotted.Address, walk func(after dotted.Address, fn func(T) bool),
	beyond func(T) dotted.Address) iter.Seq[T] {
	return func(yield func(T) bool) {
		if n.err == nil && n.tx.Replica() == 0 {
			walk(after, yield)
			return
		}
		from := after
		for size := firstPart; ; size = min(4*size, lastPart) {
			part := make([]T, 0, size)
			walk(from, func(x T) bool {
				part = append(part, x)
				return len(part) < size
			})
			for _, x := range part {
				if !yield(x) {
					return
				}
			}
			if len(part) < size {
				return
			}
			from = beyond(part[size-1])
		}
	}
}
