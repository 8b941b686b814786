package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/peerd/peerd/internal/wire"
)

// SpaceID names a space on the wire. The zero one is the host's own channel.
type SpaceID [SpaceIDSize]byte

// SpaceIDSize is the size of a SpaceID in bytes. It stands before each frame of a stream.
const SpaceIDSize = 8

// MaxSpaces is how many spaces a host may hold.
const MaxSpaces = 4096

// SpaceOf returns the id of a space by its name: the same everywhere, so that nobody has to number them.
func SpaceOf(name string) (id SpaceID) {
	sum := sha256.Sum256([]byte("peerd space " + name))
	copy(id[:], sum[:])
	return id
}

// Compare orders ids.
func (id SpaceID) Compare(o SpaceID) int { return bytes.Compare(id[:], o[:]) }

// Short is the beginning of the id, of which a member's metadata has room for many.
func (id SpaceID) Short() uint32 { return binary.BigEndian.Uint32(id[:]) }

// Switch joins the spaces of a host with those of its neighbours: a space's mesh has a neighbour while both hold
// the space. One stream a neighbour carries the frames of all.
//
// Each side lists what it holds, and since which of its lists without a break. A space is joined once the other side
// lists it and has heard of the list since which it is held here. So the meshes of both ends meet as new ones: what
// one of them said to an earlier one, that may still be on the way, arrives before the answer that joins them, and is
// passed over. For that a stream must keep its order, and its owner must, when a Change parts or joins a space, throw
// away what waits of that space before he sends what Next returns.
//
// One goroutine at a time may use a Switch. It does no I/O.
type Switch struct {
	number  uint64             // of the list of what is held here: raised whenever that changes
	held    map[SpaceID]uint64 // since which list
	links   map[NeighbourID]*crossing
	changes []Change
}

// crossing is what a Switch knows of one link.
type crossing struct {
	theirs map[SpaceID]uint64 // what the neighbour holds, and since which of its lists
	heard  uint64             // number of its last list
	told   uint64             // number of that which it knows to have been heard
	sent   uint64             // number of our list that it was sent last
	acked  uint64             // and of the one that it has heard
	joined map[SpaceID]uint64 // spaces that are joined, and since which of its lists
}

// Change tells that a space's mesh is to have a neighbour from now on, or no more. One that is joined twice was parted
// in between.
type Change struct {
	Link   NeighbourID
	Space  SpaceID
	Joined bool
}

// NewSwitch returns a Switch of a host that holds nothing and has no links.
func NewSwitch() *Switch {
	return &Switch{number: 1, held: map[SpaceID]uint64{}, links: map[NeighbourID]*crossing{}}
}

// Hold notes that the host holds a space from now on. No more than MaxSpaces may be held at once.
func (s *Switch) Hold(id SpaceID) {
	if _, here := s.held[id]; here {
		return
	}
	s.number++
	s.held[id] = s.number
	s.settleAll()
}

// Release notes that the host does not hold a space any more.
func (s *Switch) Release(id SpaceID) {
	if _, here := s.held[id]; !here {
		return
	}
	s.number++
	delete(s.held, id)
	s.settleAll()
}

// Connect opens a link, in place of one that there may be.
func (s *Switch) Connect(id NeighbourID) {
	s.Disconnect(id)
	s.links[id] = &crossing{theirs: map[SpaceID]uint64{}, joined: map[SpaceID]uint64{}}
}

// Disconnect forgets a link.
func (s *Switch) Disconnect(id NeighbourID) {
	c := s.links[id]
	if c == nil {
		return
	}
	delete(s.links, id)
	for _, space := range slices.SortedFunc(maps.Keys(c.joined), SpaceID.Compare) {
		s.changes = append(s.changes, Change{id, space, false})
	}
}

// Changes returns what changed since the last call, in order.
func (s *Switch) Changes() []Change {
	out := s.changes
	s.changes = nil
	return out
}

// Lacks reports whether a neighbour has said what it holds, and a space was not among it.
func (s *Switch) Lacks(id NeighbourID, space SpaceID) bool {
	c := s.links[id]
	if c == nil || c.heard == 0 {
		return false
	}
	_, there := c.theirs[space]
	return !there
}

// Next returns the next frame of the host's own channel for a neighbour, with its envelope; nil if there is none now. It
// goes before what the spaces have.
func (s *Switch) Next(id NeighbourID) []byte {
	c := s.links[id]
	switch {
	case c == nil:
		return nil
	case c.sent < s.number:
		c.sent, c.told = s.number, c.heard
		return Envelope(SpaceID{}, encodeSpaces(spacesList{s.number, c.heard, s.held}))
	case c.told < c.heard:
		c.told = c.heard
		return Envelope(SpaceID{}, encodeNumber(kindHeard, c.heard))
	}
	return nil
}

// Envelope returns a frame of a space as a stream carries it.
func Envelope(space SpaceID, frame []byte) []byte {
	return append(append(make([]byte, 0, SpaceIDSize+len(frame)), space[:]...), frame...)
}

// Receive takes a frame from a neighbour's stream. It returns the frame's space and what is for its mesh: nil if there
// is nothing, as in frames of the host's own channel, and in those of a space that is not joined. An error wraps
// ErrFrame: the link should be closed.
func (s *Switch) Receive(id NeighbourID, frame []byte) (space SpaceID, data []byte, err error) {
	c := s.links[id]
	if c == nil {
		return space, nil, nil
	}
	if len(frame) <= SpaceIDSize {
		return space, nil, fmt.Errorf("%w: %d bytes", ErrFrame, len(frame))
	}
	space, data = SpaceID(frame), frame[SpaceIDSize:]
	if space == (SpaceID{}) {
		return space, nil, s.receiveOwn(id, c, data)
	}
	if _, joined := c.joined[space]; !joined {
		return space, nil, nil
	}
	return space, data, nil
}

// receiveOwn takes a frame of the host's own channel.
func (s *Switch) receiveOwn(id NeighbourID, c *crossing, data []byte) error {
	var l spacesList
	var err error
	switch kind(data[0]) {
	case kindSpaces:
		l, err = decodeSpaces(data[1:])
	case kindHeard:
		l.heard, err = decodeNumber(data[1:])
	}
	switch {
	case err != nil:
		return err
	case l.heard > c.sent:
		return fmt.Errorf("%w: list %d of spaces was not sent", ErrFrame, l.heard)
	}
	c.acked = max(c.acked, l.heard)
	if l.number > c.heard { // else a newer one overtook it
		c.heard, c.theirs = l.number, l.since
	}
	s.settle(id, c)
	return nil
}

func (s *Switch) settleAll() {
	for _, id := range slices.Sorted(maps.Keys(s.links)) {
		s.settle(id, s.links[id])
	}
}

// settle parts and joins what is to be.
func (s *Switch) settle(id NeighbourID, c *crossing) {
	for _, space := range slices.SortedFunc(maps.Keys(c.joined), SpaceID.Compare) {
		if since, meet := s.meet(c, space); !meet || since != c.joined[space] {
			delete(c.joined, space)
			s.changes = append(s.changes, Change{id, space, false})
		}
	}
	for _, space := range slices.SortedFunc(maps.Keys(c.theirs), SpaceID.Compare) {
		if _, joined := c.joined[space]; joined {
			continue
		}
		if since, meet := s.meet(c, space); meet {
			c.joined[space] = since
			s.changes = append(s.changes, Change{id, space, true})
		}
	}
}

// meet reports whether a space is to be joined with a neighbour, and since which of the neighbour's lists.
func (s *Switch) meet(c *crossing, space SpaceID) (since uint64, meet bool) {
	ours, here := s.held[space]
	theirs, there := c.theirs[space]
	return theirs, here && there && c.acked >= ours
}

// Kinds of frames of the host's own channel.
const (
	kindSpaces   kind = 1
	kindHeard    kind = 2
	kindMessages kind = 3 // see Relay
)

// spacesList lists what the sender holds, and since which of its lists. heard is the number of the receiver's list that
// the sender has heard last.
type spacesList struct {
	number, heard uint64
	since         map[SpaceID]uint64
}

func encodeSpaces(l spacesList) []byte {
	return frame(kindSpaces, 3, func(w *wire.Writer) {
		w.Uint(l.number)
		w.Uint(l.heard)
		w.Array(2 * len(l.since))
		for _, id := range slices.SortedFunc(maps.Keys(l.since), SpaceID.Compare) {
			w.Bytes(id[:])
			w.Uint(l.since[id])
		}
	})
}

func decodeSpaces(body []byte) (l spacesList, err error) {
	l.since = map[SpaceID]uint64{}
	err = decode(body, 3, func(r *wire.Reader) {
		l.number = r.Uint()
		l.heard = r.Uint()
		n := r.Array(2*MaxSpaces) / 2
		last := SpaceID{}
		for i := 0; i < n && r.Err() == nil; i++ {
			name, since := r.Bytes(SpaceIDSize), r.Uint()
			if len(name) != SpaceIDSize {
				r.Fail("a space's id of %d bytes", len(name))
				return
			}
			id := SpaceID(name)
			if id.Compare(last) <= 0 || since == 0 || since > l.number {
				r.Fail("space %x since list %d of %d, behind %x", id, since, l.number, last)
				return
			}
			l.since[id], last = since, id
		}
	})
	return l, err
}
