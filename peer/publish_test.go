package peer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// heard is what somebody heard of a peer.
type heard struct {
	mu  sync.Mutex
	all []string
}

func listen(t testing.TB, p *Peer) *heard {
	h := &heard{}
	t.Cleanup(p.Listen(func(m Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = append(h.all, fmt.Sprintf("%s %.40s %v", m.Channel, m.Payload, m.Sharded))
	}))
	return h
}

func (h *heard) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func publish(t testing.TB, p *Peer, channel, payload string) {
	t.Helper()
	if err := p.Publish(Message{Channel: channel, Payload: []byte(payload)}); err != nil {
		t.Fatal(err)
	}
}

// chain returns three peers of which the first and the last are not linked with each other.
func chain(t *testing.T) *cluster {
	c := newCluster(t)
	for range 3 {
		c.add()
	}
	ends := func(i, other int) { c.cuts[i].Block(c.peers[other].net.members.Addr()) }
	ends(0, 2)
	ends(2, 0)
	eventually(t, "the chain", func() bool {
		return !c.peers[0].net.linked(c.peers[2].net.id) && !c.peers[2].net.linked(c.peers[0].net.id) &&
			len(c.peers[0].net.streamsNow()) == 1 && len(c.peers[1].net.streamsNow()) == 2 && len(c.peers[2].net.streamsNow()) == 1
	})
	return c
}

func (n *network) streamsNow() (all []*link) {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	for _, l := range n.board.links {
		all = append(all, l)
	}
	return all
}

func TestAMessageReachesPeersTwoHopsAwayOnceAndInOrder(t *testing.T) {
	c := chain(t)
	ears := []*heard{listen(t, c.peers[0]), listen(t, c.peers[1]), listen(t, c.peers[2])}
	var want []string
	for i := range 200 {
		publish(t, c.peers[0], "news", fmt.Sprint(i))
		want = append(want, fmt.Sprint("news ", i, " false"))
	}
	large := strings.Repeat("x", MaxMessage-len("news"))
	publish(t, c.peers[0], "news", large)
	want = append(want, "news "+large[:40]+" false")
	for i, h := range ears {
		eventually(t, fmt.Sprintf("peer %d has all", i), func() bool { return len(h.list()) >= len(want) })
		if got := h.list(); !slices.Equal(got, want) {
			t.Errorf("peer %d heard %q", i, got)
		}
	}
	if err := c.peers[0].Publish(Message{Channel: "newsx", Payload: []byte(large)}); !errors.Is(err, ErrMessage) {
		t.Error("too large:", err)
	}
	if m := c.peers[1].exchange.figures(); m.Received != 201 || m.Forwarded != 201 || m.Dropped != 0 {
		t.Errorf("in the middle: %+v", m)
	}
}

func TestAMessageThatAPeerMissedDoesNotComeLater(t *testing.T) {
	c := newCluster(t)
	c.add()
	c.add()
	a, b := c.peers[0], c.peers[1]
	linked := func() bool { return len(a.net.streamsNow()) == 1 && len(b.net.streamsNow()) == 1 }
	eventually(t, "a link", linked)
	h := listen(t, b)
	publish(t, a, "c", "before")
	eventually(t, "the first", func() bool { return len(h.list()) == 1 })
	c.split(0)
	eventually(t, "no link", func() bool { return len(a.net.streamsNow()) == 0 && len(b.net.streamsNow()) == 0 })
	publish(t, a, "c", "meanwhile")
	c.heal()
	eventually(t, "a link", linked)
	publish(t, a, "c", "after")
	eventually(t, "the last", func() bool { return len(h.list()) >= 2 })
	if got := fmt.Sprint(h.list()); got != "[c before false c after false]" {
		t.Errorf("heard %s", got)
	}
}

func TestNobodyIsToldWhoListensNoMore(t *testing.T) {
	c := newCluster(t)
	p := c.add()
	n := 0
	stop := p.Listen(func(Message) { n++ })
	publish(t, p, "c", "x")
	stop()
	publish(t, p, "c", "x")
	if n != 1 {
		t.Errorf("heard %d", n)
	}
}
