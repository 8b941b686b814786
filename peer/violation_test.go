package peer

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWhoDoesNotKeepToTheProtocolIsLeftInPeace has a peer send again and again what is no frame.
func TestWhoDoesNotKeepToTheProtocolIsLeftInPeace(t *testing.T) {
	for _, of := range []string{"the one that opens links", "the other"} {
		t.Run(of, func(t *testing.T) {
			a, b, said := linkedPair(t)
			if of == "the other" {
				a, b, said = b, a, [2]*endings{said[1], said[0]}
			}
			for range 2 {
				eventually(t, "they are linked", func() bool { return links(a) == 1 && links(b) == 1 })
				bad := linkTo(a, b)
				if err := writeFrame(bad.stream, []byte("bad")); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the link is cut", func() bool { return linkTo(a, b) != bad })
			}
			for _, p := range []*Peer{a, b} {
				eventually(t, "it says that there is no link", func() bool { return slices.Contains(problemIDs(t, p), "other-version") })
			}
			for i, want := range []string{"does not understand what this peer sends", "sends what this peer does not understand"} {
				s, err := []*Peer{a, b}[i].Status()
				if err != nil || !strings.Contains(s.Problems[0].What, want) {
					t.Errorf("the problem is %q, %v", s.Problems[0].What, err)
				}
				eventually(t, "it has said why both ended", func() bool { return len(said[i].reasons()) >= 2 })
				if got := said[i].reasons(); len(got) != 2 || !strings.Contains(got[1], want) {
					t.Errorf("the ends of links: %q", got)
				}
			}
			for _, p := range []*Peer{a, b} {
				p.net.mu.Lock()
				for id, v := range p.net.violations {
					v.at = v.at.Add(-time.Hour)
					p.net.violations[id] = v
				}
				p.net.mu.Unlock()
			}
			eventually(t, "it is tried again", func() bool { return links(a) == 1 && links(b) == 1 })
		})
	}
}
