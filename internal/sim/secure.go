package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
)

// In some worlds clients wait, now and then, until what they wrote survives a loss of power at other hosts: see
// gossip.Mesh.Secure. Whoever was told so of a host may rely on it: that host must have it after every restart, whatever
// its durability promises to its own clients.

// drawWaits draws whether clients wait, apart.
func (p *plan) drawWaits(rng *rand.Rand) {
	if rng.IntN(3) == 0 && !p.forks {
		p.waits = rng
		p.faults = append(p.faults, PowerFailure)
	}
}

// waits has the client whose transaction was answered wait.
func (u *update) waits() {
	if waits := u.h.w.plan.waits; waits != nil && waits.IntN(2) == 0 {
		u.h.engine.Secure(crdt.Dot{Replica: u.t.first.Replica, Counter: u.t.last})
		u.h.wake()
	}
}

// noteSecured takes note of what a frame may have said that its sender holds. That may have lost power since.
func (l *lane) noteSecured() {
	h, from := l.host, l.end.peer
	d := h.engine.Secured(from.host.id)
	if d == l.secured || d.Counter == 0 {
		return
	}
	l.secured = d
	other := from.host.hosting(h.w.id)
	if other == nil || other != l.other || other.gone || from.disk != other.disk || other.aside != nil {
		return // it has left or given the space up, got another disk, or discards what it had
	}
	h.say("is told that %s holds %v", other.name, d)
	if h.w.totals.Secured++; !other.held.Has(d) {
		h.w.fail("%s was told that %s holds %v, which has %v", h.name, other.name, d, other.held)
	}
	other.vouched.Raise(d.Replica, d.Counter)
}

// secureAll checks that each host is told by all others that they hold what it wrote, if they sync at all.
func (w *realm) secureAll() {
	if w.plan.waits == nil || w.plan.durability == never {
		return
	}
	wrote := map[*host]crdt.Dot{}
	for _, h := range w.members() {
		seen, _ := h.engine.Context()
		id := h.engine.ID()
		wrote[h] = crdt.Dot{Replica: id, Counter: seen[id]}
	}
	for range 10 { // again, for links that are opened meanwhile
		for _, h := range w.members() {
			h.engine.Secure(wrote[h])
			h.wake()
		}
		w.pass(time.Second / 2)
	}
	for _, h := range w.members() {
		for _, id := range sortedIDs(h.links) {
			d := h.engine.Secured(id)
			if other := h.linked(id); other == nil || !slices.Contains(w.members(), other) || h.engine.Quarantined(id) ||
				d.Replica != wrote[h].Replica {
				continue // it was never asked, or is not there
			}
			if d.Counter < wrote[h].Counter {
				w.fail("%s asked %s for %v, and was told %v", h.name, id, wrote[h], d)
			}
		}
	}
}
