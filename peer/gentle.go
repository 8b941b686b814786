package peer

import (
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/dotted"
)

// gentle is a moment from which another peer is served beside this one's own work: who reads it rests after a while for
// as long as it worked. A goroutine that does not rest keeps a processor for 10 ms, if it can, before others that wait
// for the network have it: where there are one or two, clients would feel that.
type gentle struct {
	antientropy.Snapshot
	clock func() time.Time
	rest  func(time.Duration)
	began time.Time // to work
	cells int       // read since it looked at the clock
}

const (
	gentleWork  = 500 * time.Microsecond // after which it rests
	gentleRest  = 10 * time.Millisecond  // at most: longer work was waiting, for the disk or a processor
	gentleCells = 32                     // between two looks at the clock
)

// serve answers a request.
func (g *gentle) serve(q antientropy.Request) (antientropy.Response, error) {
	g.began = g.clock()
	return antientropy.Serve(g, q)
}

// Cells implements antientropy.Snapshot.
func (g *gentle) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return g.Snapshot.Cells(after, g.gently(fn))
}

// Leaf implements antientropy.Snapshot.
func (g *gentle) Leaf(leaf int, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return g.Snapshot.Leaf(leaf, after, g.gently(fn))
}

func (g *gentle) gently(fn func(dotted.Address, dotted.Cell) bool) func(dotted.Address, dotted.Cell) bool {
	return func(a dotted.Address, c dotted.Cell) bool {
		if g.cells++; g.cells >= gentleCells {
			g.cells = 0
			if worked := g.clock().Sub(g.began); worked >= gentleWork {
				g.rest(min(worked, gentleRest))
				g.began = g.clock()
			}
		}
		return fn(a, c)
	}
}
