package peer

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
)

// lane is what one space has of a link, from when the link's two ends meet over the space until they part. The
// space's loop fills out and is handed what arrived, one frame after the other; a goroutine does the latter, so that
// a space whose loop is busy holds up no other.
type lane struct {
	s      *space
	link   *link
	id     gossip.NeighbourID
	number uint64        // of two lanes of a space and a neighbour the later one has the greater
	out    chan []byte   // filled by the loop
	ready  chan struct{} // the link's
	parted chan struct{} // closed when the ends part

	mu      sync.Mutex
	queue   [][]byte // that arrived
	bytes   int      // of them, and of the one that is being handled, as frameCost counts
	over    bool     // nobody takes them any more
	arrived chan struct{}
}

var laneNumbers atomic.Uint64

func newLane(s *space, l *link) *lane {
	return &lane{s: s, link: l, id: l.id, number: laneNumbers.Add(1), out: make(chan []byte, engine.LinkFrames),
		ready:  l.ready,
		parted: make(chan struct{}), arrived: make(chan struct{}, 1)}
}

// send puts a frame into the lane, which has room.
func (a *lane) send(data []byte) {
	a.out <- data
	signal(a.ready)
}

// put takes a frame that arrived. It returns errFlooded if too much has.
func (a *lane) put(data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil
	}
	a.queue = append(a.queue, data)
	a.count(frameCost(data))
	if a.bytes > maxLaneBytes {
		return errFlooded
	}
	signal(a.arrived)
	return nil
}

// take returns the next frame that arrived, or nil if the ends have parted.
func (a *lane) take() []byte {
	for {
		a.mu.Lock()
		if len(a.queue) > 0 {
			data := a.queue[0]
			a.queue[0] = nil
			a.queue = a.queue[1:]
			a.mu.Unlock()
			return data
		}
		a.mu.Unlock()
		select {
		case <-a.arrived:
		case <-a.parted:
			return nil
		}
	}
}

// handled notes that a frame which was taken needs no memory any more.
func (a *lane) handled(data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(-frameCost(data))
}

// end throws away what arrived, and what will.
func (a *lane) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(-a.bytes)
	a.queue, a.over = nil, true
}

// count notes that so many bytes more wait. a.mu is held.
func (a *lane) count(n int) {
	a.bytes += n
	a.link.waiting.Add(int64(n))
	if n < 0 {
		signal(a.link.drained)
	}
}

// run makes the lane the one of its space to the neighbour, and hands over what arrives until the ends part.
func (a *lane) run() {
	if a.s.call(func(l *loop) { l.connect(a) }) == nil {
		if err := a.handOver(); err != nil {
			a.link.n.p.log.Debug("a link is cut", "peer_id", string(a.id), "space", a.s.name, "error", err)
			a.link.cut(err)
		}
	}
	a.end()
	_ = a.s.call(func(l *loop) { l.disconnect(a) })
}

func (a *lane) handOver() error {
	done := make(chan error, 1)
	for {
		data := a.take()
		if data == nil {
			return nil
		}
		select {
		case a.s.jobs <- func(l *loop) { l.receive(a, data, done) }:
		case <-a.parted:
			return nil
		case <-a.s.stopped:
			return nil
		}
		select {
		case err := <-done:
			if errors.Is(err, errLinkReplaced) {
				return nil
			}
			if err != nil {
				return err
			}
		case <-a.s.stopped:
			return nil
		}
		a.handled(data)
	}
}

// connect makes a lane the one to its neighbour, unless a newer one is.
func (l *loop) connect(a *lane) {
	if old := l.links[a.id]; old != nil && old.number > a.number {
		return
	}
	l.links[a.id] = a
	l.engine.Connect(a.id, cap(a.out))
}

// disconnect forgets a lane, unless a newer one has taken its place.
func (l *loop) disconnect(a *lane) {
	if l.links[a.id] == a {
		delete(l.links, a.id)
		l.engine.Disconnect(a.id)
	}
}

// board is a host's Switch with the links that it joins.
type board struct {
	n *network

	mu    sync.Mutex
	sw    *gossip.Switch
	links map[gossip.NeighbourID]*link
}

func newBoard(n *network) *board {
	return &board{n: n, sw: gossip.NewSwitch(), links: map[gossip.NeighbourID]*link{}}
}

// hold has a space joined with the neighbours that hold it. Its loop runs.
func (b *board) hold(s *space) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sw.Hold(s.id)
	b.settle()
}

// release parts a space from all neighbours.
func (b *board) release(s *space) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sw.Release(s.id)
	b.settle()
}

// lacks reports whether a neighbour is linked and has said that it does not hold a space.
func (b *board) lacks(id gossip.NeighbourID, space gossip.SpaceID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sw.Lacks(id, space)
}

// connect makes a link the one to its neighbour, unless another has taken its place by now.
func (b *board) connect(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.n.isLink(l) {
		return
	}
	b.sw.Disconnect(l.id)
	b.settle()
	b.links[l.id] = l
	b.sw.Connect(l.id)
	b.n.p.exchange.connect(l)
	b.settle()
}

// disconnect forgets a link, unless a newer one has taken its place.
func (b *board) disconnect(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[l.id] != l {
		return
	}
	b.sw.Disconnect(l.id)
	b.settle()
	delete(b.links, l.id)
	b.n.p.exchange.disconnect(l)
}

// settle parts and joins what the switch says, and has links send what it has for them. b.mu is held.
func (b *board) settle() {
	for _, c := range b.sw.Changes() {
		l := b.links[c.Link]
		if !c.Joined {
			gone := l.lanes[c.Space]
			close(gone.parted)
			delete(l.lanes, c.Space)
			continue
		}
		a := newLane(b.n.p.spaceOf(c.Space), l)
		l.lanes[c.Space] = a
		l.ring = append(l.ring, a)
		b.n.spawn(a.run)
	}
	for _, l := range b.links {
		if len(l.ring) > len(l.lanes) { // some have parted
			l.ring = slices.DeleteFunc(l.ring, func(a *lane) bool { return l.lanes[a.s.id] != a })
		}
		signal(l.ready)
	}
}

// receive takes a frame from a link.
func (b *board) receive(l *link, frame []byte) error {
	if gossip.IsMessages(frame) {
		b.n.own.received.add(gossip.Messages, len(frame)+frameHeader)
		return b.n.p.exchange.receive(l.id, frame)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[l.id] != l {
		return errLinkReplaced
	}
	id, data, err := b.sw.Receive(l.id, frame)
	a := l.lanes[id]
	switch {
	case err != nil:
		return err
	case data != nil:
		a.s.counters.received.add(gossip.LayerOf(data), len(frame)+frameHeader)
		return a.put(data)
	case id == gossip.SpaceID{}:
		b.n.own.received.add(gossip.Vectors, len(frame)+frameHeader)
		b.settle()
	}
	return nil
}

// next returns the next frame for a link: of the host's own channel, or else of a space, whose lane it returns too;
// nothing if there is none. Spaces have their turns one after the other, and what was published has one as they do.
func (b *board) next(l *link) (data []byte, from *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[l.id] != l {
		return nil, nil
	}
	if data := b.sw.Next(l.id); data != nil {
		return data, nil
	}
	for i := range len(l.ring) + 1 {
		turn := (l.turn + i) % (len(l.ring) + 1)
		if turn == len(l.ring) {
			if data := b.n.p.exchange.next(l.id); data != nil {
				l.turn = turn + 1
				return data, nil
			}
			continue
		}
		select {
		case data := <-l.ring[turn].out:
			l.turn = turn + 1
			return data, l.ring[turn]
		default:
		}
	}
	return nil, nil
}
