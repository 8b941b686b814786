package sim

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Streams are added to in some worlds. The oracle knows an entry by its id, and that there is a stream by one fact more,
// which each addition writes: who removed what it had seen of a key leaves those that it had not.

// drawStreams draws whether there are streams, apart.
func (p *plan) drawStreams(rng *rand.Rand) {
	if rng.IntN(5) == 0 && p.mix.timed == nil {
		p.mix.streams = rng
	}
}

// drawEntry returns an addition to a stream, as two mutations: of the entry, and of that there is a stream. An id is
// greater than all that were drawn before; where a greater one has arrived already, the transaction gives up.
func (m *mix) drawEntry() []mutation {
	key := m.keys[m.streams.IntN(len(m.keys))]
	m.entries += 1 + m.streams.IntN(300)
	id := crdt.StreamID{Ms: uint64(m.entries)}
	at := dotted.KeyAddress(key).Type(crdt.TypeStream)
	cell := at.Name(entryName(m.entries))
	add := func(f crdt.Fields) error {
		err := f.Stream(key).AddAs(id, "field", "value")
		if errors.Is(err, crdt.ErrStreamID) {
			return errGaveUp
		}
		return err
	}
	return []mutation{
		{what: fmt.Sprintf("add %q %v", key, id), cell: cell, write: true, do: add},
		{what: fmt.Sprintf("so there is the stream %q", key), cell: at.Name(""), write: true,
			do: func(crdt.Fields) error { return nil }},
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
	out.add(fact{at: at.Name("")})
	var back []crdt.StreamID
	for e := range s.Backward(crdt.StreamID{}, crdt.MaxStreamID) {
		back = append(back, e.ID)
	}
	n := 0
	for e := range s.Range(crdt.StreamID{}, crdt.MaxStreamID) {
		n++
		if n > len(back) || back[len(back)-n] != e.ID {
			return fmt.Errorf("stream %q: %v is not there from behind", at, e.ID)
		}
		out.add(fact{at: at.Name(entryName(int(e.ID.Ms)))})
	}
	if s.Len() != n || len(back) != n {
		return fmt.Errorf("stream %q: length %d, %d entries, %d from behind", at, s.Len(), n, len(back))
	}
	return nil
}
