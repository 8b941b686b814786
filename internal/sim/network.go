package sim

import (
	"slices"
	"time"

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

// end is one end of a stream between two hosts.
type end struct {
	host     *host
	peer     *end
	epoch    int // of the host's process
	broken   *bool
	attached bool // the host's mesh knows the link

	queue   []packet // on the way to the other end
	moving  bool     // an arrival of the first of them is planned
	waiting int      // frames that arrived and were not handled
}

// packet is a frame on its way.
type packet struct {
	data  []byte
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
func (w *world) passes(from, to *host) bool {
	return w.blocked[[2]*host{from, to}] == 0 && !from.absent && !to.absent
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
func (w *world) carry(from, to *host, arrive, failed func()) {
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

// keepLinks dials the hosts to which this one wants a link and has none: those that come after it,
// in a ring, so that the links join all hosts.
func (h *host) keepLinks() {
	members := h.w.members()
	self := slices.Index(members, h)
	wanted := h.w.plan.links
	for i := 1; i < len(members); i++ {
		to := members[(self+i)%len(members)]
		switch {
		case h.links[to.id] != nil:
			wanted--
		case wanted > 0 && !h.dialing[to.id]:
			h.dial(to)
		}
	}
}

// dial opens a stream to another host.
func (h *host) dial(to *host) {
	h.dialing[to.id] = true
	epoch := h.epoch
	failed := func() {
		if h.epoch == epoch && h.up() {
			delete(h.dialing, to.id)
		}
	}
	h.w.carry(h, to, func() {
		if !to.up() || to.gone || h.epoch != epoch {
			h.w.after(h.w.delay(), failed)
			return
		}
		broken := new(bool)
		near := &end{host: h, epoch: epoch, broken: broken}
		far := &end{host: to, epoch: to.epoch, broken: broken, peer: near}
		near.peer = far
		far.attach()
		h.w.carry(to, h, func() { failed(); near.attach() }, func() { failed(); near.breaks() })
	}, failed)
}

// attach makes the stream its host's link to the other, in place of one that there may be.
func (e *end) attach() {
	h := e.host
	if h.epoch != e.epoch || !h.up() {
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
		h.engine.Connect(other, h.w.plan.inFlight)
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
			delete(h.links, other)
			h.engine.Disconnect(other)
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

// hasRoom tells the host how many more frames the stream takes.
func (e *end) hasRoom() {
	h := e.host
	if h.epoch != e.epoch || !h.up() || h.links[e.peer.host.id] != e || *e.broken {
		return
	}
	h.engine.Takes(e.peer.host.id, max(h.w.plan.inFlight-len(e.queue), 0))
	h.wake()
}

// send puts a frame on its way.
func (e *end) send(data []byte) {
	w := e.host.w
	e.queue = append(e.queue, packet{data, w.now, w.now + w.delay()})
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
	case !to.attached || to.waiting > 0:
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
	to.waiting++
	e.hasRoom()
	f := &engine.Frame{From: e.host.id, Data: p.data}
	to.host.frames[f] = to
	if to.host.links[e.host.id] == to {
		to.host.engine.Receive(f)
		to.host.wake()
	} else {
		to.host.handled(f) // the link was replaced
	}
}

// disorder takes some frame on the way, and may leave it there to arrive again.
func (e *end) disorder() packet {
	w := e.host.w
	i := 0
	if len(e.queue) > 1 && w.chance(8) {
		w.totals.Faults[Reordering]++
		i = w.rng.IntN(len(e.queue))
	}
	p := e.queue[i]
	if w.chance(12) {
		w.totals.Faults[Duplication]++
		return p
	}
	e.queue = append(append([]packet(nil), e.queue[:i]...), e.queue[i+1:]...)
	return p
}

// handled lets the next frame arrive: a stream's reader hands on one at a time.
func (e *end) handled() {
	e.waiting--
	e.peer.move()
}

// linked returns the host at the other end of a link.
func (h *host) linked(id gossip.NeighbourID) *host {
	if e := h.links[id]; e != nil {
		return e.peer.host
	}
	return nil
}
