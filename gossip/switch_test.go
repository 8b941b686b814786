package gossip

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

var switchSeeds = flag.Int("switchseeds", 300, "histories of switches to try")

// switched is a host of a test, with a stream to each other one.
type switched struct {
	*Switch
	id       NeighbourID
	held     map[SpaceID]bool
	out      map[NeighbourID][][]byte // on the way, in order
	queues   map[NeighbourID]map[SpaceID][][]byte
	sessions map[NeighbourID]map[SpaceID]*session
}

// session is from when a space is joined with a neighbour until it is parted.
type session struct {
	name string
	peer string // the other end's, by its first frame
}

func newSwitched(id NeighbourID) *switched {
	return &switched{Switch: NewSwitch(), id: id, held: map[SpaceID]bool{}, out: map[NeighbourID][][]byte{},
		queues:   map[NeighbourID]map[SpaceID][][]byte{},
		sessions: map[NeighbourID]map[SpaceID]*session{}}
}

func (h *switched) link(to NeighbourID) {
	h.out[to], h.queues[to], h.sessions[to] = nil, map[SpaceID][][]byte{}, map[SpaceID]*session{}
	h.Connect(to)
}

// act carries out changes as a host does.
func (h *switched) act(rng *rand.Rand) {
	for _, c := range h.Changes() {
		delete(h.queues[c.Link], c.Space)
		delete(h.sessions[c.Link], c.Space)
		if c.Joined {
			s := &session{name: fmt.Sprintf("%s%d", h.id, rng.Uint32())}
			h.sessions[c.Link][c.Space] = s
			h.queues[c.Link][c.Space] = [][]byte{[]byte("hello " + s.name)}
		}
	}
}

// send puts a frame on the stream: the host's own first.
func (h *switched) send(to NeighbourID, rng *rand.Rand) {
	if own := h.Next(to); own != nil {
		h.out[to] = append(h.out[to], own)
		return
	}
	queues := h.queues[to]
	ids := slices.SortedFunc(maps.Keys(queues), SpaceID.Compare)
	if len(ids) == 0 {
		return
	}
	id := ids[rng.IntN(len(ids))]
	if len(queues[id]) == 0 {
		queues[id] = append(queues[id], []byte("data "+h.sessions[to][id].name))
	}
	h.out[to] = append(h.out[to], Envelope(id, queues[id][0]))
	queues[id] = queues[id][1:]
}

// receive takes the next frame of a stream. Each end of a session must hear the other's from its first frame on, and
// nothing of another one.
func (h *switched) receive(from *switched, rng *rand.Rand) error {
	frames := from.out[h.id]
	if len(frames) == 0 {
		return nil
	}
	from.out[h.id] = frames[1:]
	id, data, err := h.Receive(from.id, frames[0])
	h.act(rng)
	if err != nil || data == nil {
		return err
	}
	s := h.sessions[from.id][id]
	word, name, _ := bytes.Cut(data, []byte(" "))
	switch {
	case s == nil:
		return fmt.Errorf("%s was handed %q of a space that is not joined", h.id, data)
	case s.peer == "" && string(word) == "hello":
		s.peer = string(name)
	case s.peer != string(name):
		return fmt.Errorf("%s got %q in a session with %q", h.id, data, s.peer)
	}
	return nil
}

func runSwitches(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	hosts := []*switched{newSwitched("a"), newSwitched("b"), newSwitched("c")}
	spaces := []SpaceID{SpaceOf("default"), SpaceOf("x"), SpaceOf("y")}
	pair := func() (a, b *switched) {
		i := rng.IntN(len(hosts))
		return hosts[i], hosts[(i+1+rng.IntN(len(hosts)-1))%len(hosts)]
	}
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				a.link(b.id)
			}
		}
	}
	for range 1500 {
		a, b := pair()
		switch id := spaces[rng.IntN(len(spaces))]; rng.IntN(20) {
		case 0:
			if a.held[id] = !a.held[id]; a.held[id] {
				a.Hold(id)
			} else {
				a.Release(id)
			}
			a.act(rng)
		case 1:
			if rng.IntN(20) == 0 { // the stream breaks, and a new one is opened
				a.link(b.id)
				b.link(a.id)
				a.act(rng)
				b.act(rng)
			}
		case 2, 3, 4, 5, 6, 7, 8, 9, 10:
			a.send(b.id, rng)
		default:
			if err := a.receive(b, rng); err != nil {
				return err
			}
		}
	}
	return settleSwitches(hosts, spaces, rng)
}

// settleSwitches delivers all, and checks that each space is joined where both hold it.
func settleSwitches(hosts []*switched, spaces []SpaceID, rng *rand.Rand) error {
	for range 200 {
		for _, a := range hosts {
			for _, b := range hosts {
				if a == b {
					continue
				}
				a.send(b.id, rng)
				for len(a.out[b.id]) > 0 {
					if err := b.receive(a, rng); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, a := range hosts {
		for _, b := range hosts {
			for _, id := range spaces {
				s := a.sessions[b.id][id]
				switch {
				case a == b:
				case (s != nil) != (a.held[id] && b.held[id]):
					return fmt.Errorf("in the end %s and %s hold %x: %v, %v, joined: %v", a.id, b.id, id,
						a.held[id], b.held[id], s != nil)
				case s != nil && s.peer != b.sessions[a.id][id].name:
					return fmt.Errorf("in the end %s is in session with %q, not %q", a.id, s.peer, b.sessions[a.id][id].name)
				}
			}
		}
	}
	return nil
}

func TestSpacesAreJoinedWhereBothHoldThemAndMeshesMeetAsNewOnes(t *testing.T) {
	for seed := range uint64(*switchSeeds) {
		if err := runSwitches(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestListsThatArriveTwiceAndSwappedComeToTheSame hands over the frames of the hosts' own channel in any order.
func TestListsThatArriveTwiceAndSwappedComeToTheSame(t *testing.T) {
	for seed := range uint64(*switchSeeds) {
		rng := rand.New(rand.NewPCG(seed, 2))
		a, b := newSwitched("a"), newSwitched("b")
		a.link("b")
		b.link("a")
		x := SpaceOf("x")
		var toA, toB [][]byte
		for i := range 200 {
			for _, h := range []*switched{a, b} {
				if rng.IntN(4) == 0 && i < 100 {
					if h.held[x] = !h.held[x]; h.held[x] {
						h.Hold(x)
					} else {
						h.Release(x)
					}
				}
			}
			toB = append(toB, a.Next("b"))
			toA = append(toA, b.Next("a"))
			for _, way := range []struct {
				to     *switched
				from   NeighbourID
				frames *[][]byte
			}{{a, "b", &toA}, {b, "a", &toB}} {
				j := rng.IntN(len(*way.frames))
				f := (*way.frames)[j]
				if i >= 100 { // in the end all arrive
					j, f = 0, (*way.frames)[0]
				}
				if f != nil {
					if _, _, err := way.to.Receive(way.from, f); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
				if i >= 100 || rng.IntN(3) > 0 { // else it arrives again
					*way.frames = slices.Delete(*way.frames, j, j+1)
				}
			}
		}
		for range 1000 {
			toB = append(toB, a.Next("b"))
			toA = append(toA, b.Next("a"))
			for _, f := range toB {
				if f != nil {
					_, _, _ = b.Receive("a", f)
				}
			}
			for _, f := range toA {
				if f != nil {
					_, _, _ = a.Receive("b", f)
				}
			}
			if toA, toB = nil, nil; a.Next("b") == nil && b.Next("a") == nil {
				break
			}
		}
		want := a.held[x] && b.held[x]
		if got := [2]bool{len(a.links["b"].joined) > 0, len(b.links["a"].joined) > 0}; got != [2]bool{want, want} {
			t.Fatalf("seed %d: joined %v, want %v", seed, got, want)
		}
	}
}

func TestBadFramesOfTheHostsOwnChannelEndTheLinkAndJoinNothing(t *testing.T) {
	x, y := SpaceOf("x"), SpaceOf("y")
	list := func(l spacesList) []byte { return encodeSpaces(l) }
	many := map[SpaceID]uint64{}
	for i := range MaxSpaces + 1 {
		many[SpaceOf(fmt.Sprint(i))] = 1
	}
	for name, frame := range map[string][]byte{
		"an acknowledgement of what was not sent": encodeNumber(kindHeard, 3),
		"a list that acknowledges such":           list(spacesList{1, 3, nil}),
		"too many spaces":                         list(spacesList{1, 0, many}),
		"a space of number 0":                     list(spacesList{2, 0, map[SpaceID]uint64{x: 0}}),
		"a space of a list to come":               list(spacesList{2, 0, map[SpaceID]uint64{x: 3}}),
		"the host's own channel as a space":       list(spacesList{2, 0, map[SpaceID]uint64{{}: 1}}),
		"a list that is cut off":                  list(spacesList{2, 0, map[SpaceID]uint64{x: 1, y: 1}})[:12],
		"nothing":                                 nil,
	} {
		s := NewSwitch()
		s.Hold(x)
		s.Connect("n")
		s.Next("n")
		_, data, err := s.Receive("n", Envelope(SpaceID{}, frame))
		if !errors.Is(err, ErrFrame) || data != nil || len(s.Changes()) > 0 {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	s := NewSwitch()
	s.Connect("n")
	for _, frame := range [][]byte{Envelope(SpaceID{}, []byte{99, 1, 2}), Envelope(x, []byte("of a space not held"))} {
		if _, data, err := s.Receive("n", frame); err != nil || data != nil {
			t.Errorf("%q was not passed over: %q, %v", frame, data, err)
		}
	}
}

// FuzzSwitch feeds frames to a switch: it must neither panic nor stop to work.
func FuzzSwitch(f *testing.F) {
	f.Add(Envelope(SpaceID{}, encodeSpaces(spacesList{2, 1, map[SpaceID]uint64{SpaceOf("x"): 2}})))
	f.Add(Envelope(SpaceID{}, encodeNumber(kindHeard, 2)))
	f.Add(Envelope(SpaceOf("x"), []byte("data")))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewSwitch()
		s.Hold(SpaceOf("x"))
		s.Connect("n")
		s.Next("n")
		_, _, _ = s.Receive("n", data)
		s.Release(SpaceOf("x"))
		s.Changes()
		if s.Next("n") == nil {
			t.Error("the neighbour is not told of what changed")
		}
		s.Disconnect("n")
	})
}
