package peer

import (
	"context"
	"time"

	"github.com/peerd/peerd/crdt"
)

// replicatedSoon is when it is looked again who has what was written, then ever later, but no later
// than replicatedEvery. inquireAgain is how often others are asked for it that do not say it by
// themselves.
const (
	replicatedSoon  = 2 * time.Millisecond
	replicatedEvery = 100 * time.Millisecond
	inquireAgain    = 200 * time.Millisecond
)

// Replicated waits until n other peers say that they have stored what this peer had written to the
// space when it was called, each as its own Config.Durability says, and returns how many have. It
// returns that with ctx's error, too, if ctx ends first. Only peers to which this one has a link of
// its own can say so, MaxLinks at most.
func (s *Space) Replicated(ctx context.Context, n int) (have int, err error) {
	held, err := s.here()
	if held == nil || err != nil {
		return 0, err // nothing was written
	}
	written, err := ask(ctx, held, func(l *loop) crdt.Dot {
		id := l.engine.ID()
		return crdt.Dot{Replica: id, Counter: l.engine.Vector()[id]}
	})
	if err != nil {
		return 0, err
	}
	pause := replicatedSoon
	poll := time.NewTimer(pause)
	defer poll.Stop()
	for asked := time.Now(); ; {
		inquire := time.Since(asked) >= inquireAgain
		if inquire {
			asked = time.Now()
		}
		now, err := ask(ctx, held, func(l *loop) int {
			if inquire {
				l.engine.Inquire()
			}
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

// replicas counts the neighbours that say they have a dot, and all before it of its replica;
// without one, all that have said anything.
func (l *loop) replicas(d crdt.Dot) (n int) {
	for id, lane := range l.links {
		said := l.engine.Said(id)
		if said != nil && (d.Counter == 0 || said.Has(d)) && !isClosed(lane.parted) && !l.engine.Quarantined(id) {
			n++
		}
	}
	return n
}
