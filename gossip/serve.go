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
	p := &m.packing
	count := 0
	from := n.cursor
	next, covered, err := m.core.LogRead(from, maxRecords, func(d *delta.Delta) bool {
		if !n.lacks(d) {
			return true
		}
		if n.sending != nil {
			return false
		}
		switch size := len(d.Encode()); {
		case p.has(count, d):
			count++
		case count > 0 && (p.size(count)+size > frameSize || p.Cost()+d.PackedCost() > frameCost) ||
			count == maxFrameDeltas:
			return false
		case size > partSize:
			n.split(d)
		default:
			p.add(count, d)
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
	size := p.size(count)
	if n.quiet >= tellAfter {
		news = m.news(n, frameSize-size)
	}
	data := encodeDeltas(p.Bytes(), news, heads)
	p.keep()
	n.onTheWay += uint64(len(data) - 1) // its kind is not part of the body
	return data, nil
}

// keptCost bounds what the deltas cost whose packing is kept for the next link.
const keptCost = 32 << 10

// packing is that of the deltas of the last frame, for the links that are to get the same next: most do.
type packing struct {
	delta.Packer
	deltas []*delta.Delta // what is in it
}

// has reports whether d is the n-th delta.
func (p *packing) has(n int, d *delta.Delta) bool { return n < len(p.deltas) && p.deltas[n] == d }

// add packs d as the n-th delta, and forgets what was packed behind.
func (p *packing) add(n int, d *delta.Delta) {
	p.cut(n)
	p.Add(d)
	p.deltas = append(p.deltas, d)
}

// size returns how many bytes the first n deltas take, and forgets the others.
func (p *packing) size(n int) int {
	p.cut(n)
	return len(p.Bytes())
}

// keep forgets what is too much to be kept.
func (p *packing) keep() {
	if p.Cost() > keptCost {
		p.cut(0)
	}
}

func (p *packing) cut(n int) {
	if n == len(p.deltas) {
		return
	}
	clear(p.deltas[n:])
	p.deltas = p.deltas[:n]
	p.Reset()
	for _, d := range p.deltas {
		p.Add(d)
	}
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
