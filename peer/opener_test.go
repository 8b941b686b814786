package peer

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// endings is a log that keeps why links were closed.
type endings struct {
	slog.Handler
	mu   sync.Mutex
	said []string
}

func (e *endings) Enabled(context.Context, slog.Level) bool { return true }

func (e *endings) WithAttrs([]slog.Attr) slog.Handler { return e }

func (e *endings) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "link closed" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" {
			e.said = append(e.said, a.Value.String())
		}
		return true
	})
	return nil
}

func (e *endings) reasons() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.said...)
}

// linkedPair returns two peers that are linked, the one with the smaller id first, and what their logs say of the ends
// of links.
func linkedPair(t *testing.T) (lesser, greater *Peer, said [2]*endings) {
	t.Helper()
	c := newCluster(t)
	said = [2]*endings{{}, {}}
	var pair []*Peer
	for i := range said {
		cfg := c.config(t.TempDir())
		cfg.Logger = slog.New(said[i])
		pair = append(pair, c.start(cfg))
	}
	eventually(t, "they are linked", func() bool { return links(pair[0]) == 1 && links(pair[1]) == 1 })
	if pair[0].net.id > pair[1].net.id {
		return pair[1], pair[0], [2]*endings{said[1], said[0]}
	}
	return pair[0], pair[1], said
}

// linkTo returns the link of a peer to another.
func linkTo(p, other *Peer) *link {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	return p.net.streams[other.net.id]
}

// TestOneOfTwoPeersOpensTheLink breaks the link again and again: each time one new one is opened, and none closed.
func TestOneOfTwoPeersOpensTheLink(t *testing.T) {
	a, b, said := linkedPair(t)
	const times = 10
	for i := range times {
		broken := linkTo(a, b)
		if i%2 == 0 {
			broken = linkTo(b, a)
		}
		_ = broken.stream.Reset()
		eventually(t, "they are linked again", func() bool {
			x, y := linkTo(a, b), linkTo(b, a)
			return x != nil && y != nil && x != broken && y != broken && links(a) == 1 && links(b) == 1
		})
		if x, y := linkTo(a, b), linkTo(b, a); !x.dialed || y.dialed {
			t.Errorf("the peer with the smaller id has not opened the link")
		}
	}
	for i, log := range said {
		eventually(t, "it has said why all ended", func() bool { return len(log.reasons()) >= times })
		if got := log.reasons(); len(got) != times {
			t.Errorf("peer %d closed %d links of which %d were broken: %q", i, len(got), times, got)
		}
	}
}

// TestOfTwoLinksOpenedAtOnceBothKeepOne has both open one in the place of the one that there is.
func TestOfTwoLinksOpenedAtOnceBothKeepOne(t *testing.T) {
	a, b, said := linkedPair(t)
	for range 10 {
		old := [2]*link{linkTo(a, b), linkTo(b, a)}
		for i, p := range []*Peer{a, b} {
			other := []*Peer{b, a}[i]
			p.net.spawn(func() { p.net.dialSync(other.net.id, nil, p.net.keys.ring().Keys(), old[i]) })
		}
		eventually(t, "they have a new link, that of the smaller id", func() bool {
			x, y := linkTo(a, b), linkTo(b, a)
			return x != nil && y != nil && x != old[0] && y != old[1] && x.dialed && !y.dialed && links(a) == 1 && links(b) == 1
		})
	}
	for i, log := range said {
		for _, reason := range log.reasons() {
			if !strings.Contains(reason, "replaced") && !strings.Contains(reason, "reset") {
				t.Errorf("peer %d closed a link: %s", i, reason)
			}
		}
	}
}

// TestTheOtherPeerOpensTheLinkIfThatOneCannot has the one with the smaller id, which is to open it, unable to.
func TestTheOtherPeerOpensTheLinkIfThatOneCannot(t *testing.T) {
	a, b, _ := linkedPair(t)
	n, id := b.net, a.net.id
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	delete(n.opener, id)
	if n.opens(id, now) || !n.opens(id, now.Add(-dialPatience)) {
		t.Error("it does not wait for the other, or for ever")
	}
	n.opener[id] = true
	if !n.opens(id, now) {
		t.Error("it has opened the last one, and waits")
	}
	m := a.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opener[n.id] = false; m.opens(n.id, now) || !m.opens(n.id, now.Add(-dialPatience)) {
		t.Error("who could not open the last one does not leave that to the other, or for ever")
	}
}
