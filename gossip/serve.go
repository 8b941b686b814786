package gossip

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// maxRecords bounds how much of the log is read for one frame.
const maxRecords = 4096

// Seeking reports whether Next returned no frame only because it has to read on in the log.
func (m *Mesh) Seeking(id NeighbourID) bool {
	n := m.neighbours[id]
	return n != nil && n.seeking
}

// nextDeltas returns a frame of deltas that the neighbour lacks. If there is none in what it may read of the log at
// once, it goes on there the next time.
func (m *Mesh) nextDeltas(n *neighbour) ([]byte, error) {
	p := &m.packer
	defer p.Reset()
	count := 0
	from := n.cursor
	next, covered, err := m.core.LogRead(from, maxRecords, func(d *delta.Delta) bool {
		if !n.lacks(d) {
			return true
		}
		if n.sending != nil {
			return false
		}
		data := d.Encode()
		if count > 0 && (len(p.Bytes())+len(data) > frameSize || p.Cost()+d.PackedCost() > frameCost) ||
			count == maxFrameDeltas {
			return false
		}
		if len(data) > partSize {
			n.split(d)
		} else {
			p.Add(d)
			count++
		}
		n.known.Raise(d.Replica, d.Last())
		n.told.Raise(d.Replica, d.Last())
		return true
	})
	if err != nil {
		return nil, err
	}
	n.cursor, n.lost = next, !covered // what was read before is taken for sent, and is
	if n.sending != nil {
		return n.nextPart(), nil
	}
	if count == 0 {
		n.seeking = next != from && covered
		return nil, nil
	}
	var news crdt.VersionVector
	_, heads := m.core.Context()
	if n.quiet >= tellAfter {
		news = m.news(n, frameSize-len(p.Bytes()))
	}
	data := encodeDeltas(p.Bytes(), news, heads)
	n.onTheWay += uint64(len(data) - 1) // its kind is not part of the body
	return data, nil
}

// nextHave returns what we have and the neighbour was not told.
func (m *Mesh) nextHave(n *neighbour) []byte {
	n.have = false
	if news := m.news(n, MaxFrame); len(news) > 0 {
		_, heads := m.core.Context()
		return encodeHave(news, heads)
	}
	return nil
}

// news returns what we have and the neighbour was not told, which it now is; none if it may take more
// than size bytes.
func (m *Mesh) news(n *neighbour, size int) crdt.VersionVector {
	seen, _ := m.core.Context()
	news := crdt.VersionVector{}
	for id, count := range seen {
		if count > n.told[id] && !(m.holds && id == m.id) {
			news[id] = count
		}
	}
	if len(news)*maxEntry > size {
		return nil
	}
	n.told.Merge(news)
	n.quiet = 0
	return news
}

// maxEntry is how many bytes a replica takes in a context, at most.
const maxEntry = 27
