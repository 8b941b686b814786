package sim

import (
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
)

// The network carries packets, which it loses, delays, swaps and doubles. Hosts talk over streams,
// which retransmit, put in order and check what arrives, as TCP with TLS and QUIC do: so what a
// packet suffers shows as delay, or as a stream that breaks, and each end learns of that in its
// own time. In an unordered world there is nothing in between, and frames arrive twice and
// swapped.

// Times of the network.
const (
	retransmit = 200 * time.Millisecond // before the first retransmission; doubled at each
	giveUp     = 8 * time.Second        // without progress a stream breaks
	deafFor    = 10 * time.Second       // at most, until an end that cannot be told notices that it broke
)

// end is one end of a stream between two machines.
type end struct {
	host     *machine
	peer     *end
	epoch    int // of the machine's process
	disk     *disk
	broken   *bool
	attached bool // the machine's meshes know the link

	queue  []packet // on the way to the other end
	moving bool     // an arrival of the first of them is planned
	lanes  map[gossip.SpaceID]*lane
}

// lane is what one space has of a link, from when both ends' meshes meet until they part.
type lane struct {
	end   *end
	host  *host
	inbox [][]byte // frames that arrived, and that the engine was not given yet
	taken bool     // it has one

	other   *host    // at the other end, when they met
	secured crdt.Dot // what that was last known to hold
}

// packet is a frame on its way.
type packet struct {
	data  []byte
	space gossip.SpaceID // whose it is; of the machine's own channel it is zero
	sent  time.Duration
	ready time.Duration // when it may arrive
}

// delay draws how long a message is on its way.
func (w *world) delay() time.Duration {
	d := w.plan.latency + 50*time.Microsecond
	if w.plan.jitter > 0 {
		d += time.Duration(w.rng.Int64N(int64(w.plan.jitter)))
	}
	if w.rng.IntN(200) == 0 && !w.calm {
		w.totals.Faults[Delay]++
		d += time.Duration(w.rng.IntN(2000)) * time.Millisecond
	}
	return d
}

// passes reports whether a message gets from one host to another now.
func (w *world) passes(from, to *machine) bool {
	return w.blocked[[2]*machine{from, to}] == 0 && !from.absent && !to.absent
}

// loses draws whether a packet is lost.
func (w *world) loses() bool {
	if w.calm || w.plan.lossy == 0 || w.rng.Float64() >= w.plan.lossy {
		return false
	}
	w.totals.Faults[Loss]++
	return true
}

// carry takes a message from one host to another: arrive is called when it is there, failed if it
// does not get there in time.
func (w *world) carry(from, to *machine, arrive, failed func()) {
	sent, pause := w.now, retransmit
	var try func()
	try = func() {
		switch {
		case w.passes(from, to) && !w.loses():
			w.totals.Messages++
			arrive()
		case w.now-sent > giveUp:
			failed()
		default:
			w.after(pause, try)
			pause *= 2
		}
	}
	w.after(w.delay(), try)
}

// keepLinks dials the machines to which this one wants a link and has none: those that come after it, in a ring of the
// holders of each of its spaces, so that the links join all holders of a space.
func (m *machine) keepLinks() {
	for _, h := range m.hosts {
		members := h.w.members()
		self := slices.Index(members, h)
		wanted := m.w.plan.links
		for i := 1; i < len(members); i++ {
			to := members[(self+i)%len(members)].machine
			switch {
			case m.links[to.id] != nil:
				wanted--
			case wanted > 0 && !m.dialing[to.id]:
				m.dial(to)
			}
		}
	}
}

// dial opens a stream to another host.
func (h *machine) dial(to *machine) {
	h.dialing[to.id] = true
	epoch := h.epoch
	failed := func() {
		if h.epoch == epoch && h.running {
			delete(h.dialing, to.id)
		}
	}
	h.w.carry(h, to, func() {
		if !to.running || to.gone || h.epoch != epoch {
			h.w.after(h.w.delay(), failed)
			return
		}
		broken := new(bool)
		near := &end{host: h, epoch: epoch, disk: h.disk, broken: broken}
		far := &end{host: to, epoch: to.epoch, disk: to.disk, broken: broken, peer: near}
		near.peer = far
		far.attach()
		h.w.carry(to, h, func() { failed(); near.attach() }, func() { failed(); near.breaks() })
	}, failed)
}

// attach makes the stream its host's link to the other, in place of one that there may be.
func (e *end) attach() {
	h := e.host
	if h.epoch != e.epoch || !h.running {
		e.breaks()
		return
	}
	h.later(0, func() error {
		if *e.broken {
			return nil
		}
		other := e.peer.host.id
		if old := h.links[other]; old != nil {
			old.breaks()
		}
		h.links[other] = e
		e.attached = true
		e.lanes = map[gossip.SpaceID]*lane{}
		if h.sw == nil {
			h.join(e, h.hosts[0])
		} else {
			h.sw.Connect(other)
			h.settle()
		}
		e.peer.move()
		return nil
	})
}

// detach ends the link, unless another has taken its place.
func (e *end) detach() {
	h := e.host
	if h.epoch != e.epoch {
		return
	}
	h.later(0, func() error {
		if other := e.peer.host.id; h.links[other] == e {
			if h.sw == nil {
				h.hosts[0].engine.Disconnect(other)
			} else {
				h.sw.Disconnect(other)
				h.settle()
			}
			delete(h.links, other)
		}
		return nil
	})
}

// breaks breaks the stream. Its own end notices now, the other one when it is told, or by itself.
func (e *end) breaks() {
	if *e.broken {
		return
	}
	*e.broken = true
	e.host.say("loses its link to %s", e.peer.host.id)
	e.detach()
	w := e.host.w
	if w.passes(e.host, e.peer.host) {
		w.after(w.delay(), e.peer.detach)
	} else {
		w.after(time.Duration(w.rng.Int64N(int64(deafFor))), e.peer.detach)
	}
}

// join has a space's mesh meet the one at the other end of a link.
func (m *machine) join(e *end, h *host) {
	e.lanes[h.w.id] = &lane{end: e, host: h, other: e.peer.host.hosting(h.w.id)}
	h.engine.Connect(e.peer.host.id, m.w.plan.inFlight)
}

// settle carries out what the switch says: it joins and parts spaces, and sends what is the machine's own.
func (m *machine) settle() {
	for _, c := range m.sw.Changes() {
		e, h := m.links[c.Link], m.hosting(c.Space)
		switch {
		case c.Joined:
			m.join(e, h)
		case h != nil && h.up():
			h.engine.Disconnect(c.Link)
			delete(e.lanes, c.Space)
		default:
			delete(e.lanes, c.Space)
		}
		if h != nil && h.up() {
			h.wake()
		}
	}
	for _, id := range sortedIDs(m.links) {
		for own := m.sw.Next(id); own != nil; own = m.sw.Next(id) {
			m.links[id].put(packet{data: own})
		}
	}
}

// hasRoom tells a space's engine how many more frames the stream takes.
func (e *end) hasRoom(space gossip.SpaceID) {
	h := e.host
	if h.epoch != e.epoch || !h.running || h.links[e.peer.host.id] != e || *e.broken || e.lanes[space] == nil {
		return
	}
	waiting := 0
	for _, p := range e.queue {
		if p.space == space {
			waiting++
		}
	}
	own := e.lanes[space].host
	own.engine.Takes(e.peer.host.id, max(h.w.plan.inFlight-waiting, 0))
	own.wake()
}

// send puts a space's frame on its way.
func (e *end) send(space gossip.SpaceID, data []byte) {
	if e.host.sw != nil {
		data = gossip.Envelope(space, data)
	}
	e.put(packet{data: data, space: space})
}

func (e *end) put(p packet) {
	w := e.host.w
	p.sent, p.ready = w.now, w.now+w.delay()
	e.queue = append(e.queue, p)
	e.move()
}

// move plans the arrival of the first frame on the way.
func (e *end) move() {
	if e.moving || len(e.queue) == 0 {
		return
	}
	e.moving = true
	e.host.w.at(e.queue[0].ready, func() { e.moving = false; e.arrive(retransmit) })
}

// arrive lets the first frame on the way arrive, if the network lets it.
func (e *end) arrive(pause time.Duration) {
	w, to := e.host.w, e.peer
	switch {
	case *e.broken || len(e.queue) == 0:
		return
	case to.host.epoch != to.epoch || e.host.epoch != e.epoch:
		to.breaks() // nobody is there any more
		return
	case !to.attached || to.full():
		return // goes on when the frame before it is handled
	case !w.passes(e.host, to.host) || w.loses():
		if w.now-e.queue[0].ready > giveUp {
			e.breaks()
			return
		}
		e.moving = true
		w.after(pause, func() { e.moving = false; e.arrive(2 * pause) })
		return
	case w.plan.lossy > 0 && !w.calm && w.chance(2000):
		w.totals.Faults[Corruption]++
		to.breaks() // it does not decrypt
		return
	}
	p := e.queue[0]
	to.host.say("gets %d bytes of kind %d from %s", len(p.data), p.data[0], e.host.id)
	if w.plan.unordered && !w.calm {
		p = e.disorder()
	} else {
		e.queue = e.queue[1:]
	}
	w.totals.Messages++
	to.take(p)
	e.move()
}

// full reports whether the end takes nothing now: without a switch it takes a frame when the one before was handled.
func (e *end) full() bool {
	if e.host.sw != nil {
		return false
	}
	l := e.lanes[e.host.hosts[0].w.id]
	return l != nil && l.taken
}

// take takes a frame that arrived.
func (e *end) take(p packet) {
	m, from := e.host, e.peer.host.id
	e.peer.hasRoom(p.space)
	own := p.space == gossip.SpaceID{}
	if !own && !m.knew[p.space] {
		m.w.fail("%s gets a frame of a space that it never held from %s", m.id, from)
	}
	if m.links[from] != e {
		return // the link was replaced
	}
	space, data, err := p.space, p.data, error(nil)
	if m.sw != nil {
		space, data, err = m.sw.Receive(from, p.data)
	}
	switch {
	case err != nil && m.w.plan.unordered:
		e.breaks()
	case err != nil:
		m.w.fail("%s got a bad frame from %s: %v", m.id, from, err)
	case own:
		m.settle()
	case data == nil: // it was on the way when the space was parted
	case e.lanes[space] == nil:
		m.w.fail("%s has a frame from %s for a space that is not joined", m.id, from)
	default:
		l := e.lanes[space]
		l.inbox = append(l.inbox, data)
		l.next()
	}
}

// next hands the engine a frame: one at a time.
func (l *lane) next() {
	from := l.end.peer.host.id
	if l.taken || len(l.inbox) == 0 || l.end.lanes[l.host.w.id] != l || l.end.host.links[from] != l.end {
		return // or the link was replaced
	}
	f := &engine.Frame{From: from, Data: l.inbox[0]}
	l.inbox, l.taken = l.inbox[1:], true
	l.host.frames[f] = l
	l.host.engine.Receive(f)
	l.host.wake()
}

// handled lets the next frame be taken.
func (l *lane) handled() {
	l.taken = false
	l.next()
	l.end.peer.move()
}

// disorder takes some frame on the way, and may leave it there to arrive again. No frame overtakes one of a machine's
// own channel, nor that another: a Switch wants an order between lists of spaces and what follows them.
func (e *end) disorder() packet {
	w := e.host.w
	i, free := 0, slices.IndexFunc(e.queue, func(p packet) bool { return p.space == gossip.SpaceID{} })
	if free < 0 {
		free = len(e.queue)
	}
	if free > 1 && w.chance(8) {
		w.totals.Faults[Reordering]++
		i = w.rng.IntN(free)
	}
	p := e.queue[i]
	if w.chance(12) {
		w.totals.Faults[Duplication]++
		return p
	}
	e.queue = append(append([]packet(nil), e.queue[:i]...), e.queue[i+1:]...)
	return p
}

// linked returns the host of the same space at the other end of a link.
func (h *host) linked(id gossip.NeighbourID) *host {
	if e := h.links[id]; e != nil {
		return e.peer.host.hosting(h.w.id)
	}
	return nil
}
