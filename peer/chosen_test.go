package peer

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"testing"

	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

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

// TestWhoHasDroppedASpaceTakesNoLinkFromThoseThatHoldIt though members of more spaces than they
// list say to hold all.
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

// TestInAClusterThatGrowsEachMemberHasTheLinksThatItChooses adds members, and links as hosts do:
// none ends but in favour of another, at a member that has no room.
func TestInAClusterThatGrowsEachMemberHasTheLinksThatItChooses(t *testing.T) {
	const size, step = 320, 16
	spaces := []gossip.SpaceID{gossip.SpaceOf("all")}
	lacks := func(gossip.NeighbourID, gossip.SpaceID) bool { return false }
	linked, wanted := map[string]map[string]bool{}, map[string]map[string]bool{}
	room := func(at, newcomer string) (ended string, is bool) {
		if len(linked[at]) < maxNeighbours {
			return "", true
		}
		ended = outranked(at, newcomer, maps.Keys(linked[at]), wanted[at])
		return ended, ended != ""
	}
	end := func(a, b string) { delete(linked[a], b); delete(linked[b], a) }
	var all []members.Member
	for len(all) < size {
		for range step {
			id := sha256.Sum256([]byte{byte(len(all)), byte(len(all) >> 8)})
			m := members.Member{ID: fmt.Sprintf("%x", id[:8]), Alive: true}
			all, linked[m.ID] = append(all, m), map[string]bool{}
		}
		for _, m := range all {
			wanted[m.ID] = map[string]bool{}
			for _, other := range chosen(m.ID, spaces, all, lacks) {
				wanted[m.ID][other.ID] = other.ID != m.ID
			}
		}
		for _, m := range all {
			for _, other := range all {
				if !wanted[m.ID][other.ID] || linked[m.ID][other.ID] {
					continue
				}
				here, fits := room(m.ID, other.ID)
				there, takes := room(other.ID, m.ID)
				if !fits || !takes {
					t.Fatalf("of %d members %s cannot link with %s: room here %v, there %v", len(all), m.ID, other.ID, fits, takes)
				}
				end(m.ID, here)
				end(other.ID, there)
				linked[m.ID][other.ID], linked[other.ID][m.ID] = true, true
			}
		}
	}
	most := 0
	for _, m := range all {
		most = max(most, len(linked[m.ID]))
		for id, chose := range wanted[m.ID] {
			if chose && !linked[m.ID][id] {
				t.Errorf("%s has no link with %s, which it chose", m.ID, id)
			}
		}
	}
	if most != maxNeighbours {
		t.Errorf("the most links of a member are %d, want %d: nothing was tested, or there is no limit", most, maxNeighbours)
	}
}

// unwanted is the stream of a link that was chosen by neither end, but once.
type unwanted struct {
	libnet.Stream
	ended chan struct{}
}

func (s unwanted) ResetWithError(libnet.StreamErrorCode) error {
	close(s.ended)
	return nil
}

// TestAPeerWithoutRoomEndsTheLinkThatIsNeededLeast has one that is full of others' links meet one
// that it chooses.
func TestAPeerWithoutRoomEndsTheLinkThatIsNeededLeast(t *testing.T) {
	c := newCluster(t)
	full := c.start(c.config(t.TempDir()))
	var last *link
	full.net.mu.Lock()
	for i := range maxNeighbours {
		id := libpeer.ID(fmt.Sprint("unwanted ", i))
		s := unwanted{ended: make(chan struct{})}
		l := &link{n: full.net, peer: id, stream: s, key: full.net.keys.ring().InUse()}
		full.net.streams[id] = l
		if last == nil || rank(full.net.id.String(), id.String()) > rank(full.net.id.String(), last.peer.String()) {
			last = l
		}
	}
	full.net.mu.Unlock()
	other := c.start(c.config(t.TempDir()))
	eventually(t, "they are linked", func() bool { return links(full) == 1 && links(other) == 1 })
	select {
	case <-last.stream.(unwanted).ended:
	default:
		t.Error("the last in its order is linked still")
	}
	full.net.mu.Lock()
	defer full.net.mu.Unlock()
	if n := len(full.net.streams); n != maxNeighbours {
		t.Errorf("%d links, want %d", n, maxNeighbours)
	}
}
