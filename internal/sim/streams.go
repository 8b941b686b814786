package sim

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Streams are added to in some worlds. The oracle knows an entry by its id, which no other has, and what was the greatest
// id by one fact more, which each addition writes: who removed what it had seen of a key leaves those that it had not.

// drawStreams draws whether there are streams, apart.
func (p *plan) drawStreams(rng *rand.Rand) {
	if rng.IntN(5) == 0 && p.mix.timed == nil {
		p.mix.streams = rng
	}
}

// streamed returns the key of a stream.
func (m *mix) streamed() string { return m.keys[m.streams.IntN(min(len(m.keys), 3))] }

// drawStreamed returns what is done to a stream.
func (m *mix) drawStreamed() []mutation {
	if m.streams.IntN(5) < 2 {
		return m.drawEntry()
	}
	return []mutation{m.drawGrouped()}
}

// drawEntry returns an addition to a stream, as two mutations: of the entry, and of the greatest id that the stream had.
// Nearly always that is greater than all that were drawn before. Where a greater one has arrived already, nothing is
// added.
func (m *mix) drawEntry() []mutation {
	key := m.streamed()
	m.entries += 2 + m.streams.IntN(300)
	ms := m.entries
	if m.streams.IntN(4) == 0 {
		ms = m.entries - 1 - m.streams.IntN(m.entries-1)
		if slices.Contains(m.added, ms) {
			ms = m.entries
		}
	}
	m.added = append(m.added, ms)
	id := crdt.StreamID{Ms: uint64(ms)}
	at := dotted.KeyAddress(key).Type(crdt.TypeStream)
	var err error
	add := func(f crdt.Fields) error {
		if err = f.Stream(key).AddAs(id, "field", "value"); errors.Is(err, crdt.ErrStreamID) {
			err = errNothing
		}
		return err
	}
	return []mutation{
		{what: fmt.Sprintf("add %q %v", key, id), cell: at.Name(entryName(ms)), write: true, entry: ms, do: add},
		{what: fmt.Sprintf("so the stream %q had %v", key, id), cell: at.Name(""), write: true, tail: ms,
			do: func(crdt.Fields) error { return err }},
	}
}

// entryName returns the name of the cell of an entry, whose sequence number is 0: each number with one more than the
// count of its bytes in front.
func entryName(ms int) string {
	size := (bits.Len(uint(ms)) + 7) / 8
	name := []byte{byte(size + 1)}
	for ; size > 0; size-- {
		name = append(name, byte(ms>>(8*(size-1))))
	}
	return string(append(name, 1))
}

// readStream reads a stream forth and back.
func readStream(s crdt.Stream, at dotted.Address, out *reading) error {
	var back []crdt.StreamID
	for e := range s.Backward(crdt.StreamID{}, crdt.MaxStreamID) {
		back = append(back, e.ID)
	}
	n := 0
	var ids []int
	for e := range s.Range(crdt.StreamID{}, crdt.MaxStreamID) {
		n++
		if n > len(back) || back[len(back)-n] != e.ID {
			return fmt.Errorf("stream %q: %v is not there from behind", at, e.ID)
		}
		ids = append(ids, int(e.ID.Ms))
		out.add(fact{at: at.Name(entryName(ids[n-1]))})
	}
	if s.Len() != n || len(back) != n {
		return fmt.Errorf("stream %q: length %d, %d entries, %d from behind", at, s.Len(), n, len(back))
	}
	return readGroups(s, at, ids, out)
}
