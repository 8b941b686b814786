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

// subscribe has a machine hold a space that it does not hold.
func (w *world) subscribe(m *machine) {
	r := w.realms[w.rng.IntN(len(w.realms))]
	if m.hosting(r.id) != nil {
		return
	}
	h := m.add(r)
	m.say("is to hold %s", r.name)
	if !m.running {
		return // that begins with the process
	}
	m.step(func() error {
		if err := m.enter(h); err != nil {
			return err
		}
		if err := h.open(); err != nil {
			return err
		}
		h.begin()
		m.sw.Hold(r.id)
		m.settle()
		return nil
	})
}

// drop has a machine give up a space that others hold too, and delete what it has of it. It may have written what no
// other has, as when people force it.
func (w *world) drop(m *machine) {
	h := m.hosts[w.rng.IntN(len(m.hosts))]
	if !m.running || len(m.hosts) < 2 || len(h.w.members()) < 2 {
		return
	}
	m.step(func() error {
		if w.chance(2) {
			if err := h.close(); err != nil {
				return err
			}
		}
		h.say("is given up")
		m.hosts = slices.DeleteFunc(m.hosts, func(o *host) bool { return o == h })
		m.sw.Release(h.w.id)
		m.settle()
		h.stopped()
		h.leaves()
		m.log.Forget(h.number)
		m.left = m.disk.log.Size()
		if _, err := m.table.Drop(h.w.name); err != nil {
			return err
		}
		m.clear()
		return nil
	})
}
