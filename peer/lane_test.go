package peer

import (
	"context"
	"errors"
	"strconv"
	"testing"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/gossip"
)

// newLanes returns lanes of a link that nobody reads.
func newLanes(ctx context.Context, n int) (l *link, lanes []*lane) {
	l = &link{n: &network{ctx: ctx}, ready: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
	for range n {
		lanes = append(lanes, newLane(nil, l))
	}
	return l, lanes
}

// TestALinkOfManyBusySpacesWaits for them, and is not cut, though none is above its own limit: until one has handled a
// frame, or parts, or the host is closed.
func TestALinkOfManyBusySpacesWaits(t *testing.T) {
	frame := make([]byte, gossip.MaxFrame)
	ends := map[string]func(a *lane, closeHost func()){
		"handled": func(a *lane, _ func()) { a.handled(a.take()) },
		"parted":  func(a *lane, _ func()) { a.end() },
		"closed":  func(_ *lane, closeHost func()) { closeHost() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l, lanes := newLanes(ctx, 20)
			var last *lane
			for _, last = range lanes {
				if l.waiting.Load() > maxLinkBytes {
					break
				}
				l.awaitRoom() // returns at once
				if err := last.put(frame); err != nil {
					t.Fatal(err)
				}
			}
			read := make(chan struct{})
			go func() {
				defer close(read)
				l.awaitRoom()
			}()
			select {
			case <-read:
				t.Fatalf("%d bytes wait, and the link is read", l.waiting.Load())
			default:
			}
			end(lanes[0], cancel)
			<-read
			if name != "closed" && l.waiting.Load() > maxLinkBytes {
				t.Errorf("%d bytes wait, and the link is read", l.waiting.Load())
			}
			for _, a := range lanes {
				a.end()
				if err := a.put(frame); err != nil {
					t.Error(err)
				}
			}
			if n := l.waiting.Load(); n != 0 {
				t.Errorf("%d bytes wait in lanes that have ended", n)
			}
		})
	}
}

// TestALaneThatIsFloodedIsCut also by frames of which each is next to nothing.
func TestALaneThatIsFloodedIsCut(t *testing.T) {
	for _, size := range []int{1, 1000, gossip.MaxFrame} {
		_, lanes := newLanes(t.Context(), 1)
		most := maxLaneBytes / (size + 40) // the memory of a small frame
		frame := make([]byte, size)
		n := 0
		for lanes[0].put(frame) == nil {
			if n++; n > most {
				t.Fatalf("%d frames of %d bytes wait", n, size)
			}
		}
		if err := lanes[0].put(frame); !errors.Is(err, errFlooded) {
			t.Errorf("frames of %d bytes: %v", size, err)
		}
	}
}

// TestALinkThatWasReplacedBeforeItWasConnectedIsNotConnected: its goroutine may come to it late.
func TestALinkThatWasReplacedBeforeItWasConnectedIsNotConnected(t *testing.T) {
	n := &network{p: &Peer{exchange: newExchange("self")}, streams: map[libpeer.ID]*link{}}
	n.board = newBoard(n)
	newLink := func() *link {
		return &link{n: n, id: "other", peer: "other", ready: make(chan struct{}, 1), lanes: map[gossip.SpaceID]*lane{}}
	}
	old, young := newLink(), newLink()
	n.streams["other"] = young
	n.board.connect(young)
	n.board.connect(old)
	n.board.disconnect(old)
	if n.board.links["other"] != young {
		t.Error("the link that works has no spaces")
	}
}

// BenchmarkPartingOfSpaces has a link go that was joined for many spaces: what one costs does not
// grow with their number.
func BenchmarkPartingOfSpaces(b *testing.B) {
	for _, many := range []int{64, 512, gossip.MaxSpaces} {
		b.Run(strconv.Itoa(many), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				board, l := joined(b, many)
				b.StartTimer()
				if board.disconnect(l); len(l.ring) > 0 || len(l.lanes) > 0 {
					b.Fatalf("%d of %d lanes are left", len(l.ring), many)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/space")
		})
	}
}

// joined returns a board with a link to a neighbour that holds as many spaces as it does itself.
func joined(b *testing.B, spaces int) (*board, *link) {
	b.Helper()
	n := &network{p: &Peer{exchange: newExchange("self")}}
	n.board = newBoard(n)
	l := &link{n: n, id: "other", ready: make(chan struct{}, 1), lanes: map[gossip.SpaceID]*lane{}}
	ours, theirs := n.board.sw, gossip.NewSwitch()
	ours.Connect("other")
	theirs.Connect("self")
	for i := range spaces {
		id := gossip.SpaceOf(strconv.Itoa(i))
		ours.Hold(id)
		theirs.Hold(id)
		a := newLane(&space{id: id}, l)
		l.lanes[id], l.ring = a, append(l.ring, a)
	}
	_, _, err1 := theirs.Receive("self", ours.Next("other"))
	_, _, err2 := ours.Receive("other", theirs.Next("self"))
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	if got := len(ours.Changes()); got != spaces {
		b.Fatalf("%d of %d spaces are joined", got, spaces)
	}
	n.board.links["other"] = l
	return n.board, l
}
