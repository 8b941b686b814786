package dotted

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// typeExpiry stands behind a name for the cell that says when what is stored under the name ends. It is
// none of the types that are defined: nobody stores a value there.
const typeExpiry Type = 'x'

// payloadExpiry begins the payload of an entry in such a cell.
const payloadExpiry = 0x06

// Never is the time of what does not end, though it has an expiry: one that somebody took away, so that
// others, who go on with the one before, do not bring that back.
const Never = math.MaxInt64

// Expiry returns the address of the cell that says when what is stored under the name that a ends with ends.
func (a Address) Expiry() Address { return a.Type(typeExpiry) }

// ExpiryShape returns the shape of the cell of an expiry, "" if it has no entries. A key's that says never has
// one of its own.
func (a Address) ExpiryShape(c Cell) string {
	if !c.Visible() {
		return ""
	}
	shape := a.Shape()
	if at, _, ok := c.Expires(); shape == endingShape && (!ok || at == Never) {
		return neverShape
	}
	return shape
}

const (
	endingShape = string(typeExpiry)
	neverShape  = string(typeExpiry) + string(typeExpiry)
)

// Ends reports whether the key has an expiry that is not never.
func (s Summary) Ends() bool { return s.Visible.Of(endingShape) > 0 }

// IsExpiry reports whether a is the address of such a cell. No other ends so: names end with a byte of their own.
func (a Address) IsExpiry() bool { return a != "" && Type(a[len(a)-1]) == typeExpiry }

// ExpiryPayload returns the payload of an entry that says when, in milliseconds since 1970, or Never.
func ExpiryPayload(at int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{payloadExpiry}, uint64(at))
}

// expires returns what an entry says.
func (e Entry) expires() (at int64, ok bool) {
	if len(e.Payload) < 9 || e.Payload[0] != payloadExpiry {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(e.Payload[1:])), true
}

// Expires returns when what is stored under the cell's name ends, in milliseconds since 1970, and who said so:
// of what was said at the same time the latest counts. ok is false if the cell, one of an expiry, says nothing.
func (c Cell) Expires() (at int64, by ReplicaID, ok bool) {
	for _, e := range c {
		if t, says := e.expires(); says && (!ok || t >= at) {
			at, by, ok = t, e.Dot.Replica, true
		}
	}
	return at, by, ok
}

// Shown remembers cells that readers saw of the keys that were written last, each behind many of
// its key that have expired: who asks whether anything is left of a key looks there first. What it
// says may be over.
type Shown struct {
	cells [16]Address
	next  int
}

// Of returns the cell that is remembered of a key, "" if none is.
func (s *Shown) Of(key Address) Address {
	if i := s.find(key); i >= 0 {
		return s.cells[i]
	}
	return ""
}

// Note remembers a cell of a key.
func (s *Shown) Note(key, cell Address) {
	i := s.find(key)
	if i < 0 {
		i, s.next = s.next, (s.next+1)%len(s.cells)
	}
	s.cells[i] = cell
}

func (s *Shown) find(key Address) int {
	return slices.IndexFunc(s.cells[:], func(a Address) bool {
		return strings.HasPrefix(string(a), string(key))
	})
}
