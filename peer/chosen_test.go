package peer

import (
	"fmt"
	"testing"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
)

// TestLinksJoinTheHoldersOfEachSpace: a space of few hosts of a large cluster has links of its own.
func TestLinksJoinTheHoldersOfEachSpace(t *testing.T) {
	rare, common := gossip.SpaceOf("rare"), gossip.SpaceOf(directorySpace)
	var all []members.Member
	for i := range 200 {
		m := members.Member{ID: fmt.Sprint("m", i), Alive: i != 7, Spaces: []uint32{common.Short()}}
		if i%50 == 7 {
			m.Spaces = append(m.Spaces, rare.Short())
		}
		all = append(all, m)
	}
	lacks := func(gossip.NeighbourID, gossip.SpaceID) bool { return false }
	linked := map[string]bool{}
	for _, m := range chosen("self", []gossip.SpaceID{common, rare}, all, lacks) {
		linked[m.ID] = true
	}
	for id, want := range map[string]bool{"m7": false, "m57": true, "m107": true, "m157": true} {
		if linked[id] != want {
			t.Errorf("linked with %s, which holds the space: %v, want %v", id, linked[id], want)
		}
	}
	if n := len(linked); n < MaxLinks || n > MaxLinks+3 {
		t.Errorf("%d links", n)
	}
	if n := len(chosen("self", []gossip.SpaceID{common}, all, lacks)); n != MaxLinks {
		t.Errorf("%d links for one space that all hold, want %d", n, MaxLinks)
	}
	if n := len(chosen("self", []gossip.SpaceID{gossip.SpaceOf("alone")}, all, lacks)); n != 0 {
		t.Errorf("%d links for a space that nobody else holds", n)
	}
}

// TestWhoHasDroppedASpaceTakesNoLinkFromThoseThatHoldIt though members of more spaces than they list say to hold all.
func TestWhoHasDroppedASpaceTakesNoLinkFromThoseThatHoldIt(t *testing.T) {
	var all []members.Member
	for i := range 40 {
		all = append(all, members.Member{ID: fmt.Sprint("m", i), Alive: true})
	}
	lacks := func(id gossip.NeighbourID, _ gossip.SpaceID) bool { return id != "m3" && id != "m30" }
	linked := chosen("self", []gossip.SpaceID{gossip.SpaceOf("kept by few")}, all, lacks)
	if len(linked) != 2 {
		t.Errorf("linked with %d, of which 2 hold the space", len(linked))
	}
}
