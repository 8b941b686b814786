package peer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
)

// byHand is a peer whose loop does a round when the test says so, by a clock that the test sets.
type byHand struct {
	*Peer
	loop *loop
	t    *testing.T
	now  time.Time
	link *lane // to the other

	syncs int       // that were begun
	next  time.Time // when the loop wants to be called again
}

func newByHand(t *testing.T, durability Durability) *byHand {
	spent := func(part string, work, limit int) {
		if work > limit {
			t.Fatalf("%s did %d units of work in one step (limit %d)", part, work, limit)
		}
	}
	p, err := open(context.Background(), Config{Memory: true, Offline: true, Durability: durability, spent: spent})
	if err != nil {
		t.Fatal(err)
	}
	h := &byHand{Peer: p, loop: own(p).loop, t: t, now: own(p).loop.opened}
	own(p).loop.clock = func() time.Time { return h.now }
	t.Cleanup(func() {
		p.start()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// round has the loop do a round.
func (h *byHand) round() {
	h.t.Helper()
	rd, err := h.loop.round(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if rd.Sync != nil {
		h.syncs++
	}
	h.next = rd.At
}

// hand gives the frames that a peer has for the other to it.
func (h *byHand) hand(to *byHand) (deltas int) {
	for len(h.link.out) > 0 && len(to.loop.s.jobs) == 0 {
		data := <-h.link.out
		if gossip.LayerOf(data) == gossip.Push {
			deltas++
		}
		to.loop.s.jobs <- func(l *loop) { l.receive(to.link, data, make(chan error, 1)) }
	}
	return deltas
}

// linkByHand links two peers, and returns once they have said hello.
func linkByHand(a, b *byHand) {
	a.link = &lane{id: "b", out: make(chan []byte, engine.LinkFrames)}
	b.link = &lane{id: "a", out: make(chan []byte, engine.LinkFrames)}
	a.loop.connect(a.link)
	b.loop.connect(b.link)
	for range 4 {
		a.round()
		a.hand(b)
		b.round()
		b.hand(a)
	}
}

// pipelines has clients send as many transactions at once, each of which writes the number of those before it in its
// pipeline to a key of its own and to one of all.
func (h *byHand) pipelines(clients, length int) (all []*update) {
	for c := range clients {
		fns := make([]func(*Tx) error, length)
		for i := range fns {
			fns[i] = func(tx *Tx) error {
				if err := tx.String("last").Set(fmt.Appendf(nil, "%d of %d", i, c)); err != nil {
					return err
				}
				n, err := tx.Counter(fmt.Sprint("client", c)).Add(1)
				if err == nil && n != int64(i)+1 {
					err = fmt.Errorf("transaction %d of client %d is the %dth", i, c, n)
				}
				return err
			}
		}
		u := h.newUpdate(own(h.Peer), fns)
		h.loop.s.updates <- u
		all = append(all, u)
	}
	return all
}

func answered(u *update) bool { return len(u.done) > 0 }

func TestPipelinesHoldUpNeitherFsyncsNorFramesNorTheClockNorCalls(t *testing.T) {
	a, b := newByHand(t, Interval), newByHand(t, Interval)
	linkByHand(a, b)
	pipelines := a.pipelines(16, 1000)
	called := false
	a.round() // the first of the 16,000 are committed
	a.loop.s.jobs <- func(*loop) { called = true }
	a.now = a.now.Add(time.Second)
	a.round()
	switch {
	case a.syncs == 0:
		t.Error("no fsync has begun a round after it was due")
	case len(a.link.out) == 0:
		t.Error("the neighbour has got no frame two rounds after the first commit")
	case !a.next.After(a.now):
		t.Error("the clock was not looked at")
	case !called:
		t.Error("a call waits behind the pipelines")
	case answered(pipelines[0]):
		t.Error("a pipeline of 1,000 was run in two steps")
	}
	frames, rounds := a.hand(b), 2
	for ; !answered(pipelines[len(pipelines)-1]); rounds++ {
		a.now = a.now.Add(5 * time.Millisecond)
		a.round()
		frames += a.hand(b)
		b.round()
		b.hand(a)
	}
	for c, u := range pipelines {
		<-u.done // whose memory is used again
		for i, err := range u.result() {
			if err != nil {
				t.Fatalf("transaction %d of client %d: %v", i, c, err)
			}
		}
	}
	if frames < rounds/4 {
		t.Errorf("the neighbour got %d frames of deltas in %d rounds", frames, rounds)
	}
}

// stepAlone is stepOnce once nothing is written beside the loop.
func (l *loop) stepAlone() (*engine.Ready, error) {
	if l.apart {
		l.written(<-l.beside)
	}
	return l.stepOnce()
}
