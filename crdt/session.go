package crdt

import "iter"

// session is a transaction as handles use it: after a read that failed it does nothing more. So the
// reading methods of handles need no errors, and nothing is written that was decided on half of
// what is there.
type session struct {
	Tx
	err error
}

func (s *session) Cell(a Address) (Cell, error) {
	if s.err != nil {
		return nil, s.err
	}
	var c Cell
	c, s.err = s.Tx.Cell(a)
	return c, s.err
}

func (s *session) Scan(prefix, after Address, fn func(Address, Cell) bool) error {
	if s.err != nil {
		return s.err
	}
	err := s.Tx.Scan(prefix, after, func(a Address, c Cell) bool {
		return fn(a, c) && s.err == nil // a read in fn may have failed
	})
	if s.err == nil {
		s.err = err
	}
	return s.err
}

func (s *session) Summary(key string) (Summary, error) {
	if s.err != nil {
		return Summary{}, s.err
	}
	var sum Summary
	sum, s.err = s.Tx.Summary(key)
	return sum, s.err
}

func (s *session) Put(a Address, payload []byte, removes []Dot) (Dot, error) {
	if s.err != nil {
		return Dot{}, s.err
	}
	return s.Tx.Put(a, payload, removes)
}

func (s *session) Remove(a Address, dots []Dot) error {
	if s.err != nil {
		return s.err
	}
	return s.Tx.Remove(a, dots)
}

func (s *session) Clear(prefix Address) error {
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
func inParts[T any](n node, after Address, walk func(after Address, fn func(T) bool),
	beyond func(T) Address) iter.Seq[T] {
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
