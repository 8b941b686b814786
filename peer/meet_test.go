package peer

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/gossip/members"
)

// TestAPeerLinksForAWhileToOneThatItIsToMeet has more members than a peer keeps links to.
func TestAPeerLinksForAWhileToOneThatItIsToMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{id: "self", meets: map[gossip.NeighbourID]time.Time{}}
		var all []members.Member
		for i := range 3 * MaxLinks {
			all = append(all, members.Member{ID: fmt.Sprint("peer ", i), Alive: true})
		}
		first := n.wanted(all)
		if len(first) != MaxLinks {
			t.Fatalf("%d links are wanted", len(first))
		}
		isWanted := func(id string) bool {
			return slices.ContainsFunc(n.wanted(all), func(m members.Member) bool { return m.ID == id })
		}
		other := all[slices.IndexFunc(all, func(m members.Member) bool { return !isWanted(m.ID) })].ID
		n.meet(gossip.NeighbourID(other))
		if got := n.wanted(all); len(got) != MaxLinks+1 || got[MaxLinks].ID != other {
			t.Error("the peer to meet is not linked to")
		}
		for i := range 10 * MaxLinks {
			n.meet(gossip.NeighbourID(fmt.Sprint("stranger ", i)))
		}
		if len(n.meets) > MaxLinks {
			t.Errorf("%d peers are to be met", len(n.meets))
		}
		<-time.After(meetFor)
		if got := n.wanted(all); len(got) != MaxLinks {
			t.Errorf("%d links are wanted later", len(got))
		}
		n.meet("somebody else")
		n.meet(gossip.NeighbourID(n.id.String()))
		if len(n.meets) != 1 {
			t.Errorf("%d meetings are remembered, want one: others have passed, and none is with itself", len(n.meets))
		}
	})
}
