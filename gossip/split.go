package gossip

import (
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
)

// A delta that is large travels in parts, in frames of their own: so acknowledgements and hellos get between them, and
// no more of it than a window is on the way. The receiver puts it together, and only then looks at it: nothing of a
// delta takes effect without the rest. There is one at a time on a link, and no other deltas until it has ended.

const (
	// partSize is how many bytes of a delta go into one frame. A delta of at most so many goes whole.
	partSize = 256 << 10
	// stalled is for how many ticks no part may arrive until what it is a part of is asked for again.
	stalled = 30
)

// sending is a delta that is being sent in parts.
type sending struct {
	replica     crdt.ReplicaID
	first, last uint64
	data        []byte
	at          int // what comes next
}

// partial is a delta that arrives in parts.
type partial struct {
	size    int
	got     int
	data    []byte
	dropped bool // what comes of it is not kept
	idle    int  // ticks since the last part
}

// A part is some bytes of an encoded delta: how many that has, and where these begin.
func encodePart(size, at int, data []byte) []byte {
	return frame(kindPart, 3, func(w *wire.Writer) {
		w.Uint(uint64(size))
		w.Uint(uint64(at))
		w.Bytes(data)
	})
}

func decodePart(body []byte) (size, at uint64, data []byte, err error) {
	err = decode(body, 3, func(r *wire.Reader) {
		size, at = r.Uint(), r.Uint()
		data = r.Bytes(MaxFrame)
	})
	return size, at, data, err
}

// split begins to send a delta in parts.
func (n *neighbour) split(d *delta.Delta) {
	n.sending = &sending{replica: d.Replica, first: d.First, last: d.Last(), data: d.Encode()}
}

// nextPart returns the next part of what is being sent.
func (n *neighbour) nextPart() []byte {
	s := n.sending
	end := min(s.at+partSize, len(s.data))
	data := encodePart(len(s.data), s.at, s.data[s.at:end])
	n.onTheWay += uint64(len(data) - 1) // its kind is not part of the body
	if s.at = end; end == len(s.data) {
		n.sending = nil
	}
	return data
}

// receivePart takes a part of a delta, and hands the delta to apply when it is whole. From a neighbour in quarantine
// nothing is kept.
func (m *Mesh) receivePart(from NeighbourID, n *neighbour, body []byte, apply Apply) error {
	size, at, data, err := decodePart(body)
	if err != nil {
		return err
	}
	n.owed += uint64(len(body))
	if at == 0 && n.partial == nil {
		if size > delta.MaxSize {
			return fmt.Errorf("%w: a delta of %d bytes (limit %d)", ErrFrame, size, delta.MaxSize)
		}
		n.partial = &partial{size: int(size)}
	}
	p := n.partial
	if p == nil || size != uint64(p.size) || at != uint64(p.got) || len(data) == 0 || len(data) > p.size-p.got {
		return fmt.Errorf("%w: %d bytes at %d of a delta of %d do not continue what came before", ErrFrame,
			len(data), at, size)
	}
	p.got, p.idle = p.got+len(data), 0
	if m.Quarantined(from) {
		p.drop()
	}
	if !p.dropped {
		// Memory is taken for what has come, four times as much at most, not for what was announced.
		if len(data) > cap(p.data)-len(p.data) {
			p.data = slices.Grow(p.data, min(max(len(data), 3*len(p.data)), p.size-len(p.data)))
		}
		p.data = append(p.data, data...)
	}
	if p.got < p.size {
		return nil
	}
	if n.partial = nil; p.dropped {
		return nil
	}
	for _, other := range m.neighbours {
		other.excused++
	}
	d, err := delta.Decode(p.data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	n.rest, n.news, n.newsHeads, n.applied = []*delta.Delta{d}, nil, nil, false
	return m.takeRest(from, n, apply)
}

// drop gives up what came.
func (p *partial) drop() { p.data, p.dropped = nil, true }

// assembling reports whether a delta is arriving in parts: what is missing may be what it has. Called with each tick.
func (m *Mesh) assembling() (busy bool) {
	for _, n := range m.neighbours {
		if p := n.partial; p != nil && !p.dropped {
			p.idle++
			busy = busy || p.idle <= stalled
		}
	}
	return busy
}
