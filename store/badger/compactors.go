package badger

import (
	"slices"
	"sync/atomic"
	"time"
	_ "unsafe" // for linkname

	dgraph "github.com/dgraph-io/badger/v4"
)

// Badger's compactors look for something to do twenty times a second each, for ever: more than all else that an idle
// daemon does. So they are stopped while nobody writes and nothing is due, as Badger itself does when it drops keys, and
// started again by the next commit. Badger has no exported way to do only that.

//go:linkname startCompactions github.com/dgraph-io/badger/v4.(*DB).startCompactions
func startCompactions(*dgraph.DB)

//go:linkname stopCompactions github.com/dgraph-io/badger/v4.(*DB).stopCompactions
func stopCompactions(*dgraph.DB)

// restAfter is for how long nobody must have written before the compactors rest.
const restAfter = 10 * time.Second

// compactors has those of a store rest. The goroutine that it starts alone starts and stops them.
type compactors struct {
	db      *dgraph.DB
	rested  func()        // called when they have begun to
	written atomic.Bool   // since it was looked last
	resting atomic.Bool   // they are stopped, or about to be
	wake    chan struct{} // of capacity 1: written was set while they rested
	closing chan struct{}
	ended   chan struct{}
}

// watchCompactors has the compactors of a store, which run, rest from now on when nobody has written for so long,
// and calls rested each time.
func watchCompactors(db *dgraph.DB, after time.Duration, rested func()) *compactors {
	c := &compactors{db: db, rested: rested, wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	go c.run(after)
	return c
}

// committed notes that something was written. It never waits.
func (c *compactors) committed() {
	c.written.Store(true)
	if c.resting.Load() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *compactors) run(after time.Duration) {
	defer close(c.ended)
	look := time.NewTimer(after)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			c.rest()
		case <-c.wake:
			if c.resting.Swap(false) {
				startCompactions(c.db)
			}
		case <-c.closing:
			return
		}
		if !c.resting.Load() {
			look.Reset(after)
		}
	}
}

// rest stops the compactors if nothing was written since the last look, and nothing is due. Whoever writes meanwhile
// either is seen here, or sees that they rest.
func (c *compactors) rest() {
	due := func(l dgraph.LevelInfo) bool { return l.Score >= 1 }
	if c.written.Swap(false) || slices.ContainsFunc(c.db.Levels(), due) {
		return
	}
	c.resting.Store(true)
	if c.written.Load() {
		c.resting.Store(false)
		return
	}
	stopCompactions(c.db)
	c.rested()
}

// end leaves the compactors as they are. It may be called once; wait waits until nothing is done to them any more, which
// may take as long as a merge that is under way.
func (c *compactors) end() { close(c.closing) }

func (c *compactors) wait() { <-c.ended }
