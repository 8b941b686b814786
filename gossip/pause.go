package gossip

import "github.com/peerd/peerd/internal/delta"

// Pause stops taking deltas, or takes them again: for a replica that has no room. Those that arrive
// meanwhile are dropped and not acknowledged, so a neighbour stops sending when a window of them is on
// the way; all else goes on. Afterwards neighbours are asked for what was dropped, before they are told
// that it arrived. Whoever pauses ticks as for a replica that is being repaired.
func (m *Mesh) Pause(paused bool) {
	if m.paused && !paused {
		for _, n := range m.neighbours {
			n.hello, n.graft = true, true
		}
	}
	m.paused = paused
}

// drop notes that a neighbour has deltas that were not taken.
func (n *neighbour) drop(deltas []*delta.Delta) {
	for _, d := range deltas {
		n.known.Raise(d.Replica, d.Last())
	}
}
