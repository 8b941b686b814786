package crdt

import (
	"encoding/binary"
	"fmt"
)

// maxPosition is how many bytes the position of an element may have. One has some twenty, and as
// many more for each level, of which only insertions deep inside a list need more than one: see
// between.
const maxPosition = 4 << 10

// A position is the name of an element's cell: the order of their bytes is that of the list. It is
// a path of levels, with a side between each two, and middle behind the last:
//
//	level middle                  an element
//	level left level middle       one that stands before it, in its shelter
//	level right level middle      one behind it
//
// So all that shelters at an element is next to it, whatever others insert there. That is the tree
// of Fugue (Weidner, Kleppmann: The Art of the Fugue, 2023) as strings. Where it has a child for
// each element of a run, here all elements of a run are siblings: a level names who writes it
// (which is drawn at each start), and counts on.
const (
	sideLeft  = 0x40
	middle    = 0x80
	sideRight = 0xc0
)

// behindAll is greater than any position: see appendOrdered.
const behindAll = "\xff"

// level is one of a position. Siblings are in the order of these fields.
type level struct {
	n     int64 // of a run, that begins behind others, one more than theirs; less if it begins before them
	id    ReplicaID
	side  byte   // the way in which the run grows
	at    uint64 // which mutation of its author is the first of the insertion; falling if the run grows to the left
	index int64  // within that insertion, from 0 on; from 0 down if it grows to the left
}

// append writes a level so that the order of bytes is that of levels.
func (l level) append(b []byte) []byte {
	b = appendOrdered(b, l.n)
	b = binary.BigEndian.AppendUint64(b, uint64(l.id))
	b = append(b, l.side)
	if l.side == sideLeft {
		b = binary.BigEndian.AppendUint64(b, ^l.at)
	} else {
		b = binary.BigEndian.AppendUint64(b, l.at)
	}
	return appendOrdered(b, l.index)
}

// oneByte is how far from zero numbers take one byte.
const oneByte = 48

// appendOrdered writes a number so that the order of bytes is that of numbers, small ones in one
// byte.
func appendOrdered(b []byte, n int64) []byte {
	switch {
	case n >= oneByte:
		return appendLong(b, middle+oneByte, +1, uint64(n))
	case n < -oneByte:
		return appendLong(b, middle-oneByte-1, -1, uint64(n))
	}
	return append(b, byte(middle+n))
}

// appendLong writes a number in as few bytes as it needs, behind one that says how many.
func appendLong(b []byte, first, step int, n uint64) []byte {
	size, sign := 1, uint64(int64(step)>>1) // all ones below zero
	for size < 8 && n>>(8*size) != sign>>(8*size) {
		size++
	}
	b = append(b, byte(first+step*(size-1)))
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

// cutOrdered reads what appendOrdered wrote.
func cutOrdered(s string) (n int64, rest string, ok bool) {
	if s == "" {
		return 0, "", false
	}
	first := int(s[0])
	size, filler := 0, uint64(0)
	switch {
	case first >= middle+oneByte:
		size = first - (middle + oneByte) + 1
	case first < middle-oneByte:
		size, filler = middle-oneByte-1-first+1, ^uint64(0)
	default:
		return int64(first - middle), s[1:], true
	}
	if size > 8 || len(s) < 1+size {
		return 0, "", false
	}
	value := filler
	for _, c := range []byte(s[1 : 1+size]) {
		value = value<<8 | uint64(c)
	}
	return int64(value), s[1+size:], true
}

// cutLevel reads a level.
func cutLevel(s string) (l level, rest string, ok bool) {
	if l.n, s, ok = cutOrdered(s); !ok || len(s) < 17 {
		return l, "", false
	}
	fixed := []byte(s[:17])
	l.id, l.side = ReplicaID(binary.BigEndian.Uint64(fixed)), fixed[8]
	at := binary.BigEndian.Uint64(fixed[9:])
	switch l.side {
	case sideLeft:
		at = ^at
	case sideRight:
	default:
		return l, "", false
	}
	l.at = at
	l.index, rest, ok = cutOrdered(s[17:])
	return l, rest, ok
}

// spot is a position, read: its last level, and what is before that.
type spot struct {
	name  string
	first level
	last  level
	above string // the levels before the last, each with a side
	ok    bool   // it could be read; if not, it is a name and no more
}

func readSpot(name string) spot {
	s := spot{name: name}
	rest := name
	for first := true; ; first = false {
		at := len(name) - len(rest)
		l, after, ok := cutLevel(rest)
		if !ok || after == "" {
			return s
		}
		if first {
			s.first = l
		}
		if s.last, s.above = l, name[:at]; len(after) == 1 && after[0] == middle {
			s.ok = true
			return s
		}
		if after[0] != sideLeft && after[0] != sideRight {
			return s
		}
		rest = after[1:]
	}
}

// at returns the position of a level below others.
func at(above string, l level) string { return string(append(l.append([]byte(above)), middle)) }

// sheltered returns one in the shelter of an element, on one side of it.
func (s spot) sheltered(side byte, l level) string {
	above := s.name
	if s.ok {
		above = s.name[:len(s.name)-1] // without middle
	}
	return at(above+string([]byte{side}), l)
}

// author is who makes positions, in one insertion: at is the counter of its first dot.
type author struct {
	id ReplicaID
	at uint64
}

// starting returns the first level of a run.
func (a author) starting(n int64, side byte) level { return level{n, a.id, side, a.at, 0} }

// continuing returns the next level of a run. ok is false if it is not the author's, or grows to
// the other side.
func (a author) continuing(l level, side byte) (next level, ok bool) {
	switch {
	case l.id != a.id || l.side != side:
		return l, false
	case a.at > l.at:
		return level{l.n, l.id, side, a.at, 0}, true
	case side == sideLeft:
		l.index--
	default:
		l.index++
	}
	return l, true
}

// between returns a position between two, or before or behind all if one of them is "". Nobody else
// makes it, and the author only once.
//
// At the ends of a list it has one level: that of the run of the author, if it stands there, or of
// one that begins beyond all others, with a number by one greater or less; or some more, where its
// run grows to the other side than it began: see sheltering. So it stays short for as long as
// elements are pushed there, by however many. Inside it goes on with a run beside it, or begins one: in the shelter of
// the neighbour that the author has made, so that its run stays together; else beside a neighbour
// on its level, if there is room, or in its shelter.
func (a author) between(before, behind string) (string, error) {
	name := a.choose(before, behind)
	switch {
	case len(name) > maxPosition:
		return "", fmt.Errorf("%w: a position of %d bytes in a list, in which too much was inserted at one place (limit %d): "+
			"write it anew", ErrTooLong, len(name), maxPosition)
	case name <= before || behind != "" && name >= behind: // names that no version has made
		return "", fmt.Errorf("%w: there is no position between two elements of a list: write it anew", ErrTooLong)
	}
	return name, nil
}

func (a author) choose(before, behind string) string {
	p, q := readSpot(before), readSpot(behind)
	switch {
	case before == "" && behind == "":
		return at("", a.starting(0, sideRight))
	case behind == "" && p.ok:
		return a.beyond(p)
	case before == "" && q.ok:
		return a.ahead(q)
	case behind == "":
		return p.sheltered(sideRight, a.starting(0, sideRight))
	case before == "":
		return q.sheltered(sideLeft, a.starting(0, sideLeft))
	}
	for _, name := range a.candidates(p, q) {
		if before < name && name < behind {
			return name
		}
	}
	return ""
}

// sheltering is up to how many bytes a position has beyond which its author goes on at an end of the
// list: who puts elements to both ends in turn, and removes them, would have ever longer ones.
const sheltering = 256

// beyond returns a position behind the last.
func (a author) beyond(p spot) string {
	if l, ok := a.continuing(p.first, sideRight); ok {
		return at("", l)
	}
	if l, ok := a.continuing(p.last, sideRight); ok {
		return at(p.above, l)
	}
	if p.last.id == a.id && len(p.name) < sheltering { // what was behind it is removed
		return p.sheltered(sideRight, a.starting(0, sideRight))
	}
	return at("", a.starting(p.first.n+1, sideRight))
}

// ahead returns a position before the first.
func (a author) ahead(q spot) string {
	if l, ok := a.continuing(q.first, sideLeft); ok {
		return at("", l)
	}
	if l, ok := a.continuing(q.last, sideLeft); ok {
		return at(q.above, l)
	}
	if q.last.id == a.id { // with which the list began
		return q.sheltered(sideLeft, a.starting(0, sideLeft))
	}
	return at("", a.starting(q.first.n-1, sideLeft))
}

// candidates returns positions that may be between two, the best first. One of the last two is.
func (a author) candidates(p, q spot) (names []string) {
	onRight, onLeft := p.sheltered(sideRight, a.starting(0, sideRight)), q.sheltered(sideLeft, a.starting(0, sideLeft))
	if p.ok {
		if l, ok := a.continuing(p.last, sideRight); ok {
			names = append(names, at(p.above, l))
		}
	}
	if q.ok {
		if l, ok := a.continuing(q.last, sideLeft); ok {
			names = append(names, at(q.above, l))
		}
	}
	if q.ok && q.last.id == a.id {
		names = append(names, onLeft)
	}
	if p.ok && p.last.id == a.id {
		names = append(names, onRight)
	}
	if p.ok {
		names = append(names, at(p.above, a.starting(p.last.n+1, sideRight)))
	}
	if q.ok {
		names = append(names, at(q.above, a.starting(q.last.n-1, sideLeft)))
	}
	return append(names, onRight, onLeft)
}
