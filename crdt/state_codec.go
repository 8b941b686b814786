package crdt

import (
	"fmt"
	"math"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// stateVersion is the version of an encoded State. Another one is refused.
const stateVersion = 2

// stateSeal is what stands for the key under which a record is sealed.
const stateSeal = "peerd state"

const (
	stateFields = 4 // delta, vector, exceptions, cells
	cellFields  = 2 // address, entries
	entryFields = 3 // replica, counter, payload
)

// MarshalBinary returns the canonical, versioned and checksummed bytes of the state or delta.
// Equal whole states have equal bytes. It never fails.
func (s *State) MarshalBinary() ([]byte, error) {
	return wire.Seal(stateVersion, []byte(stateSeal), wire.Encode(s.write)), nil
}

// AppendBinary appends what MarshalBinary returns. It never fails.
func (s *State) AppendBinary(b []byte) ([]byte, error) {
	return append(b, wire.Seal(stateVersion, []byte(stateSeal), wire.Encode(s.write))...), nil
}

func (s *State) write(w *wire.Writer) {
	w.Array(stateFields)
	w.Bool(s.delta)
	s.context.write(w)
	w.Array(s.cells.Len())
	s.cells.Scan(func(a dotted.Address, c dotted.Cell) bool {
		w.Array(cellFields)
		w.String(string(a))
		writeCell(w, c)
		return true
	})
}

func writeCell(w *wire.Writer, c dotted.Cell) {
	w.Array(entryFields * len(c))
	for _, e := range c {
		w.Uint(uint64(e.Dot.Replica))
		w.Uint(e.Dot.Counter)
		w.Bytes(e.Payload)
	}
}

// UnmarshalBinary replaces the state with the one that MarshalBinary wrote. After an error, for
// bytes that were damaged or are of another version, s is as it was. data is not kept. Memory is
// bounded by a small multiple of len(data).
func (s *State) UnmarshalBinary(data []byte) error {
	read := &State{}
	if err := unseal(stateSeal, stateVersion, data, read.read); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	*s = *read
	return nil
}

// unseal reads a copy of what was sealed with a version.
func unseal(seal string, version byte, data []byte, read func(*wire.Reader)) error {
	got, body, err := wire.Unseal([]byte(seal), data)
	if err != nil {
		return err
	}
	if err := wire.CheckFormat(uint64(got), uint64(version), "have its maker write it again"); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	return wire.Decode(append([]byte(nil), body...), read)
}

func (s *State) read(r *wire.Reader) {
	extra := r.Fields(stateFields)
	s.delta = r.Bool()
	s.context = readContext(r)
	last := dotted.Address("")
	for left := r.Array(math.MaxInt32); left > 0 && r.Err() == nil; left-- {
		more := r.Fields(cellFields)
		a := dotted.Address(r.String(MaxAddress))
		c := s.readCell(r)
		r.Skip(more)
		if r.Err() != nil {
			return
		}
		if err := a.CheckCell(); err != nil {
			r.Fail("%v", err)
			return
		}
		if a <= last || len(c) == 0 && !s.delta {
			r.Fail("cells out of order, or one without entries")
			return
		}
		last = a
		s.set(a, c)
	}
	r.Skip(extra)
}

// write writes the two fields that readContext reads.
func (c *Context) write(w *wire.Writer) {
	dotted.WriteVector(w, c.vector)
	dotted.WriteDots(w, c.Exceptions())
}

// readContext reads a vector and exceptions, of which none may be in the vector or next in line.
func readContext(r *wire.Reader) Context {
	c := ContextOf(dotted.ReadVector(r))
	exceptions := dotted.ReadDots(r)
	last := Dot{}
	for _, d := range exceptions {
		redundant := d.Counter <= c.Next(d.Replica)
		if redundant || d.Compare(last) <= 0 || d.Replica == 0 || d.Counter > dotted.MaxCounter {
			r.Fail("exceptions of a context out of order")
			return Context{}
		}
		c.Add(d)
		last = d
	}
	return c
}

// readCell reads the entries of a cell, whose dots must be in the context.
func (s *State) readCell(r *wire.Reader) dotted.Cell {
	n := r.Array(math.MaxInt32)
	if n%entryFields != 0 {
		r.Fail("a cell with a part of an entry")
		return nil
	}
	n /= entryFields
	c := make(dotted.Cell, 0, min(n, 1024))
	last := Dot{}
	for ; n > 0 && r.Err() == nil; n-- {
		d := Dot{Replica: ReplicaID(r.Uint()), Counter: r.Uint()}
		e := dotted.Entry{Dot: d, Payload: r.Bytes(dotted.MaxPayload)}
		if e.Dot.Compare(last) <= 0 || len(e.Payload) == 0 || !s.context.Has(e.Dot) {
			r.Fail("entry %v out of order, without payload, or not in the context", e.Dot)
			return nil
		}
		c, last = append(c, e), e.Dot
	}
	return c
}
