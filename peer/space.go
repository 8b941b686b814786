package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	spacestore "github.com/peerd/peerd/store/space"
)

// space is a space that this host holds: a replica of it, the commit loop that owns that, and what waits for the
// loop. What belongs to the host, as network, disk and keys, is its Peer's. It is opened once, and ends with
// the host or when it is dropped; if it is made again after that, that is another one.
type space struct {
	p       *Peer
	name    string
	id      gossip.SpaceID
	number  spacestore.Number // on the disk
	log     *slog.Logger
	store   store.Store // the records of this space alone, as is its log
	journal store.Log
	core    *engine.Replica // which the loop owns: others open views of it

	// Views.
	opening   sync.RWMutex   // held for a moment while a view is opened, and while refusing changes
	views     sync.WaitGroup // open ones, and a backup under way
	backingUp atomic.Bool
	refusing  atomic.Pointer[error] // why nothing may be read or written; nil if it may
	leaving   atomic.Pointer[error] // likewise, while the space is dropped

	updates chan *update
	jobs    chan job      // what does not wait behind updates
	stop    chan struct{} // closed to end the commit loop
	ending  sync.Once
	stopped chan struct{} // closed when it has ended

	loop       *loop
	background sync.WaitGroup // goroutines started by the loop
	feed       feed
	counters   counters

	shared uint64                // commits when memory was shared last; owned by who shares it, as is what follows
	busy   bool                  // there were more since the time before
	listed atomic.Bool           // the directory has it
	ended  atomic.Pointer[error] // why it is not there any more, where that is not for the end of the peer
}

// openSpace opens the replica that a tree and a log hold, and the loop that will own it, and starts nothing. p.making is
// held, or the peer is not open yet.
func (p *Peer) openSpace(name string, tree store.Store, journal store.Log) (*space, error) {
	s := &space{
		p: p, name: name, id: gossip.SpaceOf(name), log: p.log.With("space", name), store: tree, journal: journal,
		updates: make(chan *update, MaxQueue),
		jobs:    make(chan job, MaxQueue),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	cfg := p.cfg
	r, err := engine.Open(tree, journal, engine.Config{
		NewID:       p.drawID,
		MaxLogBytes: p.limits.logBytes,
		MaxLogAge:   p.limits.logAge,
		MaxSkew:     p.limits.skew,
		PushDelay:   cfg.PushDelay,
		Spent:       cfg.spent,
		Sync:        cfg.Durability == Always, SyncEverySecond: cfg.Durability == Interval,
	})
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", cfg.Dir, err)
	}
	s.core = r
	s.loop = newLoop(s, r)
	s.loop.jump()
	if damage := r.Damaged(); damage != nil {
		if cfg.Offline {
			r.Close()
			return nil, fmt.Errorf("data directory %s: %w: open it with a network, to rebuild it from other "+
				"peers, or move it away", cfg.Dir, damage)
		}
		s.log.Error("the data here is damaged: it will be rebuilt from the first peer that is found, "+
			"and is refused until then", "error", damage)
	}
	if r.Rebuilding() || r.Damaged() != nil {
		s.loop.refused = true
		s.refuse(ErrRebuilding)
	}
	return s, nil
}

// end has the commit loop end, when it has finished what was accepted.
func (s *space) end() { s.ending.Do(func() { close(s.stop) }) }

// close releases what is held in memory, once the loop has ended. why is what who still asks is told.
func (s *space) close(why error) {
	s.background.Wait()
	s.refuse(why) // views are opened no more, and those that are open end
	s.views.Wait()
	s.core.Close()
}

// gone returns the error of who asks something of a space that has ended.
func (s *space) gone() error {
	if why := s.ended.Load(); why != nil {
		return *why
	}
	return ErrClosed
}

// refuse has reads and writes refused from now on. Views that are open stay.
func (s *space) refuse(why error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.refusing.Store(&why)
}

// refusal returns why nothing may be read or written now.
func (s *space) refusal() error {
	for _, why := range [...]*error{s.refusing.Load(), s.leaving.Load()} {
		if why != nil {
			return *why
		}
	}
	return nil
}

// view opens a view of what is committed. What before returns, unless it is nil, is of the view's moment or older.
func (s *space) view(before func() moment) (v *engine.View, at moment, err error) {
	s.opening.RLock()
	defer s.opening.RUnlock()
	if err := s.refusal(); err != nil {
		return nil, at, err
	}
	if s.stopping() {
		return nil, at, s.gone()
	}
	if before != nil {
		at = before()
	}
	s.views.Add(1)
	return s.core.View(), at, nil
}

// View is Space.View.
func (s *space) View(ctx context.Context, fn func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v, _, err := s.view(nil)
	if err != nil {
		return err
	}
	defer s.views.Done()
	defer v.Close()
	err = newTx(v).run(fn)
	s.suspectRead(err)
	return err
}

// Update is Space.Update.
func (s *space) Update(ctx context.Context, fn func(tx *Tx) error) error {
	fns := [1]func(*Tx) error{fn}
	if errs := s.UpdateAll(ctx, fns[:]); errs != nil {
		return errs[0]
	}
	return nil
}

// UpdateAll is Space.UpdateAll.
func (s *space) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	if err := ctx.Err(); err != nil {
		return repeat(err, len(fns))
	}
	u := newUpdate(s, fns)
	select {
	case s.updates <- u:
	case <-s.stop:
		return repeat(s.gone(), len(fns))
	case <-ctx.Done():
		return repeat(ctx.Err(), len(fns))
	}
	select {
	case <-u.done:
	case <-s.stopped:
		select {
		case <-u.done:
		default:
			return repeat(s.gone(), len(fns))
		}
	case <-ctx.Done():
		if u.cancel() {
			return repeat(ctx.Err(), len(fns))
		}
		select {
		case <-u.done:
		case <-s.stopped:
			return repeat(s.gone(), len(fns))
		}
	}
	return u.result()
}

// stopping reports whether the space is being closed.
func (s *space) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// call runs fn on the commit loop, between two groups, and waits for it. It returns ErrClosed if
// the loop ended before.
func (s *space) call(fn func(l *loop)) error {
	done := make(chan struct{})
	select {
	case s.jobs <- job{call: func(l *loop) { fn(l); close(done) }}:
	case <-s.stopped:
		return s.gone()
	}
	select {
	case <-done:
		return nil
	case <-s.stopped:
		select {
		case <-done:
			return nil
		default:
			return s.gone()
		}
	}
}

// busyAfter is how long Ready, Status and Metrics wait for the commit loop, which waits for the disk. Clients of HTTP are
// cut off after 10 s.
const busyAfter = 4 * time.Second

var errBusy = errors.New("the peer is busy: its disk is slow")

// ask returns what fn tells of the loop, or errBusy.
func ask[T any](s *space, fn func(l *loop) T) (told T, err error) {
	limit := time.NewTimer(busyAfter)
	defer limit.Stop()
	answer := make(chan T, 1) // so that the loop never waits for who went away
	select {
	case s.jobs <- job{call: func(l *loop) { answer <- fn(l) }}:
	case <-s.stopped:
		return told, s.gone()
	case <-limit.C:
		return told, errBusy
	}
	select {
	case told = <-answer:
		return told, nil
	case <-limit.C:
		return told, errBusy
	case <-s.stopped:
	}
	select {
	case told = <-answer:
		return told, nil
	default:
		return told, s.gone()
	}
}
