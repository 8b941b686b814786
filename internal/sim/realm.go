package sim

import (
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// realm is a space of a world: what its hosts did, and must hold.
type realm struct {
	*world
	i    int
	name string
	id   gossip.SpaceID

	hist         *history
	incarnations int                       // replica ids drawn
	ids          map[crdt.ReplicaID]bool   // which they are
	ended        map[crdt.ReplicaID]uint64 // ids that ended, and their last dots
	contexts     [8]crdt.VersionVector     // that some host had once
}

// realmNames are those of the spaces of a world.
var realmNames = [...]string{"default", "second", "third"}

func newRealm(w *world, i int) *realm {
	return &realm{world: w, i: i, name: realmNames[i], id: gossip.SpaceOf(realmNames[i]), hist: newHistory(),
		ids: map[crdt.ReplicaID]bool{}, ended: map[crdt.ReplicaID]uint64{}}
}

// several reports whether the world has more than one space.
func (w *world) several() bool { return len(w.realms) > 1 }

// members returns the hosts of the space that have not left for good.
func (r *realm) members() []*host {
	var out []*host
	for _, m := range r.machines {
		if h := m.hosting(r.id); h != nil && !m.gone {
			out = append(out, h)
		}
	}
	return out
}

// newID draws a replica id.
func (r *realm) newID() crdt.ReplicaID {
	r.incarnations++
	id := crdt.ReplicaID(r.rng.Uint64() | 1)
	r.ids[id] = true
	return id
}

// checkOurs checks that what a host holds is of its space.
func (h *host) checkOurs(seen crdt.VersionVector) {
	for id := range seen {
		if !h.w.ids[id] {
			h.w.fail("%s has dots of %v, who writes to another space", h.name, id)
		}
	}
}

// drawSpaces returns the spaces that a machine is to hold: the first two machines hold all.
func (w *world) drawSpaces() (out []*realm) {
	if !w.several() || len(w.machines) < 2 {
		return w.realms
	}
	for len(out) == 0 {
		for _, r := range w.realms {
			if w.chance(2) {
				out = append(out, r)
			}
		}
	}
	return slices.Clip(out)
}
