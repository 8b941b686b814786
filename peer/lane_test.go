package peer

import (
	"context"
	"errors"
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
