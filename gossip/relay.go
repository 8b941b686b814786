package gossip

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/peerd/peerd/internal/wire"
)

// Limits of what is published. None of it is stored, so what goes beyond one is dropped and
// counted.
const (
	// MaxMessage is how many bytes a message has at most, of its channel and its payload together.
	MaxMessage = 1 << 20
	// maxRelayed is how many bytes of messages wait for a link, each charged relayCost besides its
	// own. What comes when there are as many is dropped for this link.
	maxRelayed = 4 << 20
	relayCost  = 64
	// maxRelayFrame is about how much goes into one frame of messages, in bytes, and
	// maxRelayMessages how many of them. A larger message goes alone.
	maxRelayFrame    = 64 << 10
	maxRelayMessages = 4096
	// maxPublishers is of how many publishers it is remembered what they said last. The one that
	// was silent longest is forgotten first: of it, what is still on the way may be heard twice.
	maxPublishers = 4096
	// maxHad is how many hosts a message names that have it.
	maxHad = 128
	// hadSize is how many bytes name a host there.
	hadSize = 8
)

// ErrMessage is returned for a message of more than MaxMessage bytes. It was sent to nobody.
var ErrMessage = errors.New("the message is too large")

// Message is what was published on a channel.
type Message struct {
	Channel string
	Payload []byte
	// Sharded says that it is for a sharded channel. Those are apart from the others: two of one
	// name are two.
	Sharded bool
}

func (m Message) size() int { return len(m.Channel) + len(m.Payload) }

// Relay brings messages that are published at one host to all others, over the links that there
// are, each at most once, and those of one publisher in the order in which it published. A message
// that is new to a host goes on to those of its neighbours that its publisher has not handed it to:
// it names those, so where all are linked with all it is sent to each host once. What finds no
// room, or whose link breaks, is lost.
//
// A publisher numbers its messages, and hosts take none whose number is not beyond the last one
// that they took. Links keep their order, and while they stay as they are all messages of a
// publisher take the same ways: so what is lost by that had no room on another way. That is why
// hosts on the way add no names.
//
// One goroutine at a time may use a Relay. It does no I/O.
type Relay struct {
	own    [hadSize]byte
	origin uint64 // of what is published here
	number uint64 // of the last message of that
	heard  map[uint64]*publisher
	clock  uint64 // counts the messages that were taken
	links  map[NeighbourID]*relayed

	// Forwarded counts the messages that were queued for links, and Dropped those for which there
	// was no room.
	Forwarded, Dropped uint64
}

// publisher is what is known of one start of a host.
type publisher struct {
	number uint64 // of its last message here
	at     uint64 // when that came: see Relay.clock
}

// relayed is what waits for a link.
type relayed struct {
	name  [hadSize]byte
	queue [][]byte // fields of messages
	bytes int
}

// NewRelay returns a Relay of a host. origin is drawn at random at each start.
func NewRelay(id NeighbourID, origin uint64) *Relay {
	return &Relay{own: hadName(id), origin: origin, heard: map[uint64]*publisher{}, links: map[NeighbourID]*relayed{}}
}

func hadName(id NeighbourID) (name [hadSize]byte) {
	sum := sha256.Sum256([]byte("peerd relay " + id))
	copy(name[:], sum[:])
	return name
}

// Connect opens a link, in place of one that there may be: what waited for that is lost.
func (r *Relay) Connect(id NeighbourID) { r.links[id] = &relayed{name: hadName(id)} }

// Disconnect forgets a link, with what waits for it.
func (r *Relay) Disconnect(id NeighbourID) { delete(r.links, id) }

// Publish sends a message to all neighbours. The error is ErrMessage.
func (r *Relay) Publish(m Message) error {
	if m.size() > MaxMessage {
		return fmt.Errorf("%w: its channel and its payload have %d bytes, the limit is %d", ErrMessage, m.size(), MaxMessage)
	}
	r.number++
	p := posted{r.origin, r.number, m, r.own[:]}
	to := r.without(p, "")
	for _, l := range to {
		p.had = append(p.had, l.name[:]...)
	}
	r.queue(p, to)
	return nil
}

// posted is a message on its way.
type posted struct {
	origin, number uint64
	Message
	had []byte // names of the publisher's host, and of those that it handed it to
}

// without returns the links to hosts that do not have a message, and have room for it. It came from
// one, if any.
func (r *Relay) without(p posted, from NeighbourID) (to []*relayed) {
	for _, id := range slices.Sorted(maps.Keys(r.links)) {
		switch l := r.links[id]; {
		case id == from || p.isWith(l.name):
		case l.bytes+p.size()+relayCost > maxRelayed:
			r.Dropped++
		default:
			to = append(to, l)
		}
	}
	return to
}

// queue has a message sent over links.
func (r *Relay) queue(p posted, to []*relayed) {
	if len(to) == 0 {
		return
	}
	fields := p.encode()
	for _, l := range to {
		r.Forwarded++
		l.queue = append(l.queue, fields)
		l.bytes += len(fields) + relayCost
	}
}

// isWith reports whether a host has the message.
func (p *posted) isWith(name [hadSize]byte) bool {
	for had := range slices.Chunk(p.had, hadSize) {
		if [hadSize]byte(had) == name {
			return true
		}
	}
	return false
}

// Next returns the next frame of messages for a neighbour, with its envelope; nil if there is none.
func (r *Relay) Next(id NeighbourID) []byte {
	l := r.links[id]
	if l == nil || len(l.queue) == 0 {
		return nil
	}
	n, size := 0, 0
	for n < min(len(l.queue), maxRelayMessages) && (n == 0 || size+len(l.queue[n]) <= maxRelayFrame) {
		size += len(l.queue[n])
		n++
	}
	out := Envelope(SpaceID{}, frame(kindMessages, 1, func(w *wire.Writer) {
		w.Array(messageFields * n)
		for _, fields := range l.queue[:n] {
			w.Raw(fields)
		}
	}))
	clear(l.queue[:n])
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	l.bytes -= size + n*relayCost
	return out
}

// IsMessages reports whether a frame that arrived, with its envelope, is for Receive of a Relay
// rather than of a Switch.
func IsMessages(frame []byte) bool {
	return len(frame) > SpaceIDSize && SpaceID(frame) == SpaceID{} && kind(frame[SpaceIDSize]) == kindMessages
}

// Receive takes a frame of messages from a neighbour, with its envelope, and returns those that are
// new here, in order. They own their memory. An error wraps ErrFrame: the link should be closed,
// and nothing was taken.
func (r *Relay) Receive(from NeighbourID, frame []byte) (fresh []Message, err error) {
	all, err := decodeMessages(frame[SpaceIDSize+1:])
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if !r.take(p.origin, p.number) {
			continue
		}
		r.queue(p, r.without(p, from))
		fresh = append(fresh, p.Message)
	}
	return fresh, nil
}

// take reports whether a message is new, and remembers it.
func (r *Relay) take(origin, number uint64) bool {
	if origin == r.origin {
		return false
	}
	from := r.heard[origin]
	if from == nil {
		if len(r.heard) >= maxPublishers {
			r.forget()
		}
		from = &publisher{}
		r.heard[origin] = from
	}
	if number <= from.number {
		return false
	}
	r.clock++
	from.number, from.at = number, r.clock
	return true
}

// forget forgets the publisher that was silent longest.
func (r *Relay) forget() {
	var oldest uint64
	at := r.clock + 1
	for origin, from := range r.heard {
		if from.at < at {
			oldest, at = origin, from.at
		}
	}
	delete(r.heard, oldest)
}

// messageFields is how many values a message has in a frame of them.
const messageFields = 6

func (p *posted) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Uint(p.origin)
		w.Uint(p.number)
		w.Bool(p.Sharded)
		w.String(p.Channel)
		w.Bytes(p.Payload)
		w.Bytes(p.had)
	})
}

func decodeMessages(body []byte) (all []posted, err error) {
	err = decode(body, 1, func(r *wire.Reader) {
		n := r.Array(messageFields*maxRelayMessages) / messageFields
		for i := 0; i < n && r.Err() == nil; i++ {
			var p posted
			p.origin, p.number, p.Sharded = r.Uint(), r.Uint(), r.Bool()
			p.Channel = r.String(MaxMessage)
			p.Payload = slices.Clone(r.Bytes(MaxMessage - len(p.Channel)))
			p.had = r.Bytes(maxHad * hadSize)
			if len(p.had)%hadSize != 0 {
				r.Fail("names of hosts in %d bytes", len(p.had))
			}
			if r.Err() == nil {
				all = append(all, p)
			}
		}
	})
	return all, err
}
