package engine

import (
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/store"
)

// Tests of a part of the engine call that part, and carry out at once what it wants written.

// carry carries out what waits to be written, and the task that is under way to its end.
func (r *replica) carry() error {
	return r.settle(r.st.(store.Store), r.logs.(store.Log))
}

func newEngine(r *replica) *Engine {
	return withNeighbours(r, rand.New(rand.NewPCG(1, 1)), time.UnixMilli(1e12))
}

// Committed is what a commit did.
type Committed struct {
	Deltas []*delta.Delta
}

// Commit commits the group, with a sync if that is wanted.
func (g *group) Commit(sync bool) (done Committed, err error) {
	r := g.r
	if err := r.carry(); err != nil {
		return done, err
	}
	done.Deltas = g.commit()
	if sync && len(done.Deltas) > 0 {
		r.write(Write{SyncLog: true})
	}
	return done, r.carry()
}

// stage is how a repair stages what differs.
func (r *replica) stage(b *store.Batch) error {
	if b == nil {
		return nil
	}
	return r.st.(store.Store).Commit(b, false)
}

// Save writes a checkpoint that survives a power failure.
func (r *replica) Save(now time.Time) error {
	r.begin(r.save(now))
	return r.carry()
}

// Sweep takes a step of the sweep.
func (r *replica) Sweep() (more bool, err error) {
	if more, err = r.sweepSome(); err != nil {
		return more, err
	}
	return more, r.carry()
}

// Maintain takes a step of a checkpoint, or of cutting the log.
func (r *replica) Maintain(now time.Time) (more bool, err error) {
	if more, err = r.maintain(now); err != nil {
		return more, err
	}
	return more, r.carry()
}

// checkAll reads all cells, as is done after opening.
func (e *Engine) checkAll() error {
	e.checkOpened()
	if p := e.ready.Verify; p != nil {
		e.ready.Verify = nil
		e.Verified(p.Verify(func() bool { return false }))
		p.Close()
	}
	return e.carry()
}

// Discard begins a rebuild.
func (e *Engine) Discard() error {
	e.discard()
	return e.carry()
}
