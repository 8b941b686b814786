package gossip

import "github.com/peerd/peerd/internal/delta"

// Hold has own deltas wait, from now on, until Release: many small ones then travel in few frames. One
// that is passed on takes those that wait along, so that none waits twice: deltas wait for what they
// depend on, and what is late on one link makes others late on all of the links behind it.
func (m *Mesh) Hold() { m.holds = true }

// Release sends what waits now.
func (m *Mesh) Release() {
	for _, n := range m.neighbours {
		n.due = true
	}
}

// hurry has a delta go to those that it is passed on to.
func (m *Mesh) hurry(d *delta.Delta) {
	for _, n := range m.neighbours {
		n.due = n.due || n.lacks(d)
	}
}

// lacks reports whether a neighbour is to be sent a delta.
func (n *neighbour) lacks(d *delta.Delta) bool {
	return d.Last() > n.known[d.Replica] && !n.unwanted[d.Replica] && d.Replica != n.replica
}
