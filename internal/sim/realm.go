package sim

import (
	"slices"
	"time"

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

// drop has a machine give up a space that others hold too, and delete what it has of it: once those
// have all of that, or at once, as when people force it. Then it may have written what no other
// has.
func (w *world) drop(m *machine) {
	h := m.hosts[w.rng.IntN(len(m.hosts))]
	switch {
	case !h.up() || h.leaving || !h.mayGo():
	case w.chance(2):
		h.say("is to be given up")
		h.leaving = true
		h.engine.EndID()
		h.engine.Leave(true)
		h.wake()
		h.handOver(w.now, -time.Hour)
	default:
		h.forced = true
		m.step(func() error { return m.giveUp(h) })
	}
}

// mayGo reports whether others hold the space, and the machine others.
func (h *host) mayGo() bool { return len(h.hosts) > 1 && len(h.w.members()) > 1 }

// handOver looks now and then whether the space may be given up, as package peer does: since when, and when others were
// asked last.
func (h *host) handOver(began, asked time.Duration) {
	h.machine.later(time.Duration(h.w.rng.IntN(200))*time.Millisecond, func() error {
		if !h.up() {
			return nil // it was forced meanwhile
		}
		left := h.engine.Handover(func(gossip.NeighbourID) bool { return false })
		switch {
		case left.Safe() && h.asked == 0 && h.mayGo():
			h.w.totals.Handed++
			h.checkHanded()
			return h.giveUp(h)
		case left.Stays(h.w.now-began) || h.w.calm:
			h.say("is not given up: %+v", left)
			h.engine.Leave(false)
			h.leaving = false
			return nil
		case left.Inquires(h.w.now - asked):
			h.engine.Inquire()
			asked = h.w.now
		}
		h.handOver(began, asked)
		return nil
	})
}

// checkHanded checks that others have all that the host gives up. Of a neighbour that has ended
// since it said what it has, that holds for what this host itself wrote, if writes are synced at
// all; of one that got another disk, is damaged, or had to give the space up, for nothing.
func (h *host) checkHanded() {
	ended := false
	for _, id := range sortedIDs(h.links) {
		e := h.links[id]
		l := e.lanes[h.w.id]
		if l == nil || l.other == nil {
			continue
		}
		o := l.other // which may have handed the space over since
		if o.gone || o.forced || e.peer.disk != o.disk || o.aside != nil {
			return
		}
		ended = ended || e.peer.epoch != o.epoch
	}
	if h.w.blind || ended && (h.w.plan.durability == never || h.w.rotten) {
		return
	}
	had, others := h.w.hist.dense(h.held), h.others()
	for _, t := range h.w.hist.all {
		if has(had, t) && !t.lost && (!ended || t.host == h) && !anyHas(others, t) {
			h.w.fail("%s gives up transaction %d, which nobody else has", h.name, t.id)
		}
	}
}

// giveUp deletes what the machine has of a space, whose work may have ended before.
func (m *machine) giveUp(h *host) error {
	if m.w.chance(2) {
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
	if _, err := m.table.Drop(h.w.name); err != nil {
		return err
	}
	if err := m.log.Forget(h.number); err != nil {
		return err
	}
	if h.beside != nil { // as in package peer, the records go once nothing more is written
		if err := h.beside.write(); err != nil {
			return err
		}
	}
	m.clear()
	return nil
}
