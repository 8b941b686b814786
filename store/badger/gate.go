package badger

import (
	"sync"
	"sync/atomic"
)

// gate lets callers in until it is shut, and knows when the last of them has left. Unlike a lock
// it may be entered again by who is inside; that fails, and does not block, once somebody has shut
// it.
type gate struct {
	drained func() // called once, when the gate is shut and nobody is inside
	once    sync.Once
	state   atomic.Int64 // callers inside, and gateShut
}

const gateShut = 1 << 62

// enter returns false if the gate is shut. If not, leave has to follow.
func (g *gate) enter() bool {
	if g.state.Add(1) < gateShut {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateShut {
		g.once.Do(g.drained)
	}
}

// shut keeps new callers out and returns whether it was the first to do so. It does not wait.
func (g *gate) shut() bool {
	for {
		inside := g.state.Load()
		if inside >= gateShut {
			return false
		}
		// The one who shuts is inside while it does so, so that leaving is the only end.
		if g.state.CompareAndSwap(inside, inside+gateShut+1) {
			g.leave()
			return true
		}
	}
}
