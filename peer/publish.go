package peer

import (
	crand "crypto/rand"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/peerd/peerd/gossip"
)

// MaxMessage is how many bytes a Message has at most, of its channel and its payload together.
const MaxMessage = gossip.MaxMessage

// ErrMessage is returned by Publish for a message of more than MaxMessage bytes. It was sent to nobody.
var ErrMessage = gossip.ErrMessage

// Message is what was published on a channel. Its memory is shared: it is not to be changed.
type Message struct {
	Channel string
	Payload []byte
	// Sharded says that it is for a sharded channel. Those are apart from the others: two of one
	// name are two.
	Sharded bool
}

// Messages is what became of published messages, since the peer was opened.
type Messages struct {
	Published uint64 // here
	Received  uint64 // from other peers, each once
	Forwarded uint64 // given to links, own ones and others' alike
	Dropped   uint64 // not given to a link, because too many bytes waited for it
}

// exchange brings messages from those who publish them to those who listen: here at once, elsewhere over the links.
type exchange struct {
	mu     sync.Mutex
	relay  *gossip.Relay
	ready  map[gossip.NeighbourID]chan struct{} // of links
	ears   []*ear
	counts Messages
}

// ear is somebody who listens.
type ear struct{ hear func(Message) }

func newExchange(id string) *exchange {
	var origin [8]byte
	_, _ = crand.Read(origin[:]) // never fails
	return &exchange{relay: gossip.NewRelay(gossip.NeighbourID(id), binary.BigEndian.Uint64(origin[:])),
		ready: map[gossip.NeighbourID]chan struct{}{}}
}

// Publish sends a message to all that listen, here and at the peers that can be reached now, over others too: to each
// at most once, and from one publisher in order. Nothing of it is stored, so who cannot be reached, or cannot be sent
// more, never has it. It does not wait: what it returns says nothing of who heard. All peers hold the space "peerd", so
// those are reached too that hold no other in common.
func (p *Peer) Publish(m Message) error {
	if p.isStopping() {
		return ErrClosed
	}
	x := p.exchange
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.relay.Publish(gossip.Message(m)); err != nil {
		return err
	}
	x.counts.Published++
	x.tell(m)
	return nil
}

// Listen has hear called with each message that is published from now on, here or at another peer, of any channel, one
// at a time; until stop is called. While it runs no other message goes on, so it must not block, nor call Publish,
// Listen or stop.
func (p *Peer) Listen(hear func(m Message)) (stop func()) {
	x := p.exchange
	x.mu.Lock()
	defer x.mu.Unlock()
	e := &ear{hear}
	x.ears = append(x.ears, e)
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.ears = slices.DeleteFunc(x.ears, func(other *ear) bool { return other == e })
	}
}

// tell hands a message to who listens here, and has links send what waits for them. x.mu is held.
func (x *exchange) tell(m Message) {
	for _, e := range x.ears {
		e.hear(m)
	}
	for _, ready := range x.ready {
		signal(ready)
	}
}

// connect makes a link the one to its neighbour.
func (x *exchange) connect(l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.relay.Connect(l.id)
	x.ready[l.id] = l.ready
}

func (x *exchange) disconnect(l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.relay.Disconnect(l.id)
	delete(x.ready, l.id)
}

// next returns the next frame of messages for a link, nil if there is none.
func (x *exchange) next(id gossip.NeighbourID) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.relay.Next(id)
}

// receive takes a frame of messages.
func (x *exchange) receive(from gossip.NeighbourID, frame []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	fresh, err := x.relay.Receive(from, frame)
	for _, m := range fresh {
		x.counts.Received++
		x.tell(Message(m))
	}
	return err
}

func (x *exchange) figures() Messages {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := x.counts
	out.Forwarded, out.Dropped = x.relay.Forwarded, x.relay.Dropped
	return out
}
