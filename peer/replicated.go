package peer

import (
	"context"
	"time"

	"github.com/peerd/peerd/crdt"
)

// replicatedSoon is when it is looked again who has what was written, then ever later, but no later
// than replicatedEvery.
const (
	replicatedSoon  = 2 * time.Millisecond
	replicatedEvery = 100 * time.Millisecond
)

// Replicated waits until n other peers hold what this peer had written to the space when it was
// called so that it survives a loss of power there, and returns how many do. It returns that with
// ctx's error, too, if ctx ends first. Only peers to which this one has a link of its own can say
// so, four times MaxLinks at most: with an n beyond them it waits until ctx ends. They sync for
// whoever waits, whatever their Config.Durability promises their own callers; but those with None
// only when they do anyway, within about a minute of a write. While the space is rebuilt, and what
// was written here is not known again, none counts. Other errors are ErrNotHeld and ErrClosed; of a
// space that is not there yet it returns 0 and no error.
func (s *Space) Replicated(ctx context.Context, n int) (have int, err error) {
	held, err := s.here()
	if held == nil || err != nil {
		return 0, err // nothing was written
	}
	var written crdt.Dot
	known := false
	pause := replicatedSoon
	poll := time.NewTimer(pause)
	defer poll.Stop()
	for {
		now, err := ask(ctx, held, func(l *loop) int {
			if !known {
				if written, known = l.engine.Newest(); !known {
					return 0
				}
			}
			written = l.engine.Secure(written) // again, for links that were opened since
			return l.replicas(written)
		})
		if err != nil {
			return have, err
		}
		if have = now; have >= n {
			return have, nil
		}
		select {
		case <-poll.C:
			pause = min(2*pause, replicatedEvery)
			poll.Reset(pause)
		case <-ctx.Done():
			return have, ctx.Err()
		case <-held.stopped:
			return have, held.gone()
		}
	}
}

// replicas counts the neighbours where a dot, and all before it of its replica, survives a loss of
// power; without one, all that have said anything.
func (l *loop) replicas(d crdt.Dot) (n int) {
	for id, lane := range l.links {
		holds := l.engine.Said(id) != nil
		if d.Counter > 0 {
			secured := l.engine.Secured(id)
			holds = secured.Replica == d.Replica && secured.Counter >= d.Counter
		}
		if holds && !isClosed(lane.parted) && !l.engine.Quarantined(id) {
			n++
		}
	}
	return n
}
