package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// relaySample is a frame of two messages that came from elsewhere or were published here.
func relaySample() []byte {
	r := NewRelay("a", 7)
	r.Connect("b")
	_ = r.Publish(Message{Channel: "news", Payload: []byte("hello")})
	p := posted{9, 300, Message{"jobs", []byte("x"), true}, bytes.Repeat([]byte{1}, hadSize)}
	r.queue(p, r.without(p, ""))
	return r.Next("b")
}

// It is what a host that knows no Relay is handed.
func TestAFrameOfMessagesIsNothingToASwitch(t *testing.T) {
	s := NewSwitch()
	s.Connect("a")
	if _, data, err := s.Receive("a", relaySample()); data != nil || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

// relays are hosts with links between some of them.
type relays struct {
	hosts []*Relay
	wires map[[2]int][][]byte // frames on the way, in order
	got   [][]string          // by each host
	cross int                 // messages that were handed from a host to another
}

func relayID(i int) NeighbourID { return NeighbourID(fmt.Sprint("host", i)) }

func newRelays(n int) *relays {
	w := &relays{wires: map[[2]int][][]byte{}, got: make([][]string, n)}
	for i := range n {
		w.hosts = append(w.hosts, NewRelay(relayID(i), uint64(i+1)))
	}
	return w
}

func (w *relays) link(a, b int) {
	w.hosts[a].Connect(relayID(b))
	w.hosts[b].Connect(relayID(a))
	w.wires[[2]int{a, b}], w.wires[[2]int{b, a}] = [][]byte{}, [][]byte{}
}

func (w *relays) cut(a, b int) {
	w.hosts[a].Disconnect(relayID(b))
	w.hosts[b].Disconnect(relayID(a))
	delete(w.wires, [2]int{a, b})
	delete(w.wires, [2]int{b, a})
}

func (w *relays) links() (all [][2]int) {
	for at := range w.wires {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	return all
}

// step has one link send or deliver a frame. It returns false if it had none.
func (w *relays) step(t *testing.T, at [2]int, send bool) bool {
	t.Helper()
	if send {
		data := w.hosts[at[0]].Next(relayID(at[1]))
		if data == nil {
			return false
		}
		w.wires[at] = append(w.wires[at], data)
		return true
	}
	if len(w.wires[at]) == 0 {
		return false
	}
	data := w.wires[at][0]
	w.wires[at] = w.wires[at][1:]
	if !IsMessages(data) {
		t.Fatalf("no frame of messages: %x", data)
	}
	all, err := decodeMessages(data[SpaceIDSize+1:])
	if err != nil {
		t.Fatal(err)
	}
	w.cross += len(all)
	fresh, err := w.hosts[at[1]].Receive(relayID(at[0]), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fresh {
		w.got[at[1]] = append(w.got[at[1]], m.Channel+" "+string(m.Payload))
	}
	return true
}

func (w *relays) settle(t *testing.T) {
	t.Helper()
	for more := true; more; {
		more = false
		for _, at := range w.links() {
			for w.step(t, at, true) || w.step(t, at, false) {
				more = true
			}
		}
	}
}

func (w *relays) publish(t *testing.T, i int, channel, payload string) {
	t.Helper()
	if err := w.hosts[i].Publish(Message{Channel: channel, Payload: []byte(payload)}); err != nil {
		t.Fatal(err)
	}
}

func TestAMessageReachesAllOnceAlsoTwoHopsAway(t *testing.T) {
	w := newRelays(4) // 0-1, 1-2, 2-3, 3-1
	w.link(0, 1)
	w.link(1, 2)
	w.link(2, 3)
	w.link(3, 1)
	w.publish(t, 0, "news", "a")
	w.publish(t, 2, "news", "b")
	w.settle(t)
	for i, want := range []string{"[news b]", "[news a news b]", "[news a]", "[news a news b]"} {
		slices.Sort(w.got[i])
		if got := fmt.Sprint(w.got[i]); got != want {
			t.Errorf("host %d has %s, want %s", i, got, want)
		}
	}
}

func TestWhereAllAreLinkedAMessageCrossesEachLinkOfItsPublisherOnce(t *testing.T) {
	w := newRelays(8)
	for a := range 8 {
		for b := range a {
			w.link(a, b)
		}
	}
	w.publish(t, 3, "news", "a")
	w.settle(t)
	if w.cross != 7 {
		t.Errorf("it was sent %d times to the 7 others", w.cross)
	}
}

// TestMessagesOfAPublisherComeOnceAndInOrder over links that come and go, at their own speeds; and all come while none
// does.
func TestMessagesOfAPublisherComeOnceAndInOrder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		const hosts = 6
		w := newRelays(hosts)
		steady := seed%2 == 0
		for a := 1; a < hosts; a++ {
			w.link(a, rng.IntN(a))
		}
		for range 3 {
			if a, b := rng.IntN(hosts), rng.IntN(hosts); a != b {
				w.link(a, b)
			}
		}
		counts := make([]int, hosts)
		for range 400 {
			links := w.links()
			a, b := rng.IntN(hosts), rng.IntN(hosts)
			switch n := rng.IntN(20); {
			case n < 3:
				counts[a]++
				w.publish(t, a, fmt.Sprint(a), fmt.Sprintf("%04d", counts[a]))
			case n == 3 && !steady && a != b:
				w.link(a, b)
			case n == 4 && !steady && len(links) > 0:
				at := links[rng.IntN(len(links))]
				w.cut(at[0], at[1])
			case len(links) > 0:
				w.step(t, links[rng.IntN(len(links))], rng.IntN(2) == 0)
			}
		}
		w.settle(t)
		for i, got := range w.got {
			last := map[string]string{}
			n := 0
			for _, m := range got {
				from, number, _ := strings.Cut(m, " ")
				if number <= last[from] {
					t.Fatalf("seed %d: host %d has %s of host %s behind %s", seed, i, number, from, last[from])
				}
				last[from] = number
				n++
			}
			for a, sent := range counts {
				if a != i {
					n -= sent
				}
			}
			if steady && n != 0 {
				t.Fatalf("seed %d: host %d has %d messages more than were sent", seed, i, n)
			}
		}
	}
}

func TestWhatWaitsForALinkIsBoundedAndGoesWithIt(t *testing.T) {
	w := newRelays(3)
	w.link(0, 1)
	w.link(0, 2)
	large := strings.Repeat("x", MaxMessage-1)
	for range 6 {
		w.publish(t, 0, "c", large)
	}
	if r := w.hosts[0]; r.Dropped != 6 || r.Forwarded != 6 {
		t.Errorf("%d forwarded, %d dropped", r.Forwarded, r.Dropped)
	}
	w.link(0, 1) // again
	w.settle(t)
	if len(w.got[1]) != 0 || len(w.got[2]) != 3 {
		t.Errorf("%d came over the new link, %d over the old", len(w.got[1]), len(w.got[2]))
	}
	w.publish(t, 0, "c", "x")
	w.settle(t)
	if len(w.got[1]) != 1 || len(w.got[2]) != 4 {
		t.Errorf("%d and %d came with room", len(w.got[1]), len(w.got[2]))
	}
	if err := w.hosts[0].Publish(Message{Channel: "cc", Payload: []byte(large)}); !errors.Is(err, ErrMessage) {
		t.Error("too large:", err)
	}
}

func TestManySmallMessagesShareAFrame(t *testing.T) {
	w := newRelays(2)
	w.link(0, 1)
	for i := range 10_000 {
		w.publish(t, 0, "c", fmt.Sprint(i))
	}
	frames := 0
	for w.step(t, [2]int{0, 1}, true) {
		if frames++; len(w.wires[[2]int{0, 1}][frames-1]) > maxRelayFrame+100 {
			t.Fatal("a large frame")
		}
	}
	w.settle(t)
	if len(w.got[1]) != 10_000 || frames > 100 {
		t.Errorf("%d messages in %d frames", len(w.got[1]), frames)
	}
}

func TestThePublisherThatWasSilentLongestIsForgotten(t *testing.T) {
	r := NewRelay("a", 1)
	for origin := range uint64(maxPublishers + 1) {
		r.take(origin+2, 1)
	}
	if len(r.heard) != maxPublishers || r.heard[2] != nil || r.heard[3] == nil {
		t.Errorf("%d publishers are remembered", len(r.heard))
	}
}

func FuzzReceiveMessages(f *testing.F) {
	f.Add(relaySample())
	f.Fuzz(func(t *testing.T, frame []byte) {
		if !IsMessages(frame) {
			return
		}
		r := NewRelay("b", 1)
		r.Connect("c")
		fresh, err := r.Receive("d", frame)
		if err != nil && (fresh != nil || !errors.Is(err, ErrFrame)) {
			t.Error(fresh, err)
		}
		for _, m := range fresh {
			if m.size() > MaxMessage {
				t.Error("a message of", m.size())
			}
		}
	})
}
