package peer

import (
	"context"
	"fmt"
	"io"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// Space is a handle of a space: a named set of keys that is replicated apart from those of other spaces, by the hosts
// that take part in it. A transaction is of one space. A space that nobody has written to reads as empty and costs
// nothing; its first write makes it, and tells the other hosts of it. Handles may be used by many goroutines, and kept
// also when the space is dropped.
type Space struct {
	p    *Peer
	name string
}

// Space returns the handle of a space. The error wraps ErrSpaceName for what is no name, and ErrNotHeld if
// Config.Spaces keeps this host from holding the space.
func (p *Peer) Space(name string) (*Space, error) {
	if err := CheckSpaceName(name); err != nil {
		return nil, err
	}
	if p.space(name) == nil && !p.cfg.subscribes(name) {
		return nil, notHeld(name)
	}
	return &Space{p, name}, nil
}

// notHeld is the error about a space that Config.Spaces leaves out.
func notHeld(name string) error { return fmt.Errorf("%w %q: name it in --spaces", ErrNotHeld, name) }

// Name returns the space's name.
func (s *Space) Name() string { return s.name }

// here returns the space if it is there, and nil if nobody has written to it, as far as is known here.
func (s *Space) here() (*space, error) {
	held := s.p.space(s.name)
	switch {
	case held != nil:
		return held, nil
	case s.p.isStopping():
		return nil, ErrClosed
	case !s.p.cfg.subscribes(s.name):
		return nil, notHeld(s.name)
	case s.p.table.Dropped(s.name):
		return nil, fmt.Errorf("%w %q: it was dropped here, and a write takes it up again", ErrNotHeld, s.name)
	}
	return nil, nil
}

// writable returns the space, which is made if it is not there, and sees to it that the directory has it.
func (s *Space) writable(ctx context.Context) (*space, error) {
	held := s.p.space(s.name)
	switch {
	case s.name == directorySpace:
		return nil, fmt.Errorf("the space %q is peerd's own: %w", s.name, ErrReadOnly)
	case held != nil:
		err := s.p.list(ctx, held)
		if err != nil && ctx.Err() == nil && held.written() { // takeUp lists it
			err = nil
		}
		return held, err
	case s.p.isStopping():
		return nil, ErrClosed
	case !s.p.cfg.subscribes(s.name):
		return nil, notHeld(s.name)
	}
	if err := s.p.announce(ctx, s.name); err != nil {
		return nil, err
	}
	held, err := s.p.take(s.name)
	if err == nil {
		held.listed.Store(true)
	}
	return held, err
}

// View runs fn on a snapshot of everything that is visible: all writes that this peer acknowledged,
// and what it received, in causal order, transactions whole. fn's error is returned, or that of a
// read that failed (see Tx). Views wait for nobody. Many may
// run at once, each for as long as it likes; but what is
// deleted meanwhile takes space on the disk until they end. Writes in it return ErrReadOnly.
func (s *Space) View(ctx context.Context, fn func(tx *Tx) error) error {
	held, err := s.here()
	switch {
	case err != nil:
		return err
	case held != nil:
		return held.View(ctx, fn)
	}
	return viewNothing(ctx, fn)
}

// Update runs fn as one transaction and returns when it is as durable as configured. Its writes
// become visible together, here and on every other peer. If fn returns an error, which is returned,
// a read of it fails (see Tx), or the transaction goes beyond a limit, nothing of it takes effect.
//
// fn runs on the space's commit loop: it must not wait for anything, least of all for the peer. If
// it panics, nothing of it takes effect, and Update panics with the same value; if it ends its
// goroutine, the error is ErrExited. If ctx ends before fn began, fn does not run; once it has
// begun, Update waits for its end.
//
// Other errors are ErrTooLarge, ErrNoSpace, ErrRebuilding, ErrNotHeld and ErrTooManySpaces, after all of which
// nothing has changed, and ErrClosed, after which that is unknown.
func (s *Space) Update(ctx context.Context, fn func(tx *Tx) error) error {
	held, err := s.writable(ctx)
	if err != nil {
		return err
	}
	return held.Update(ctx, fn)
}

// UpdateAll runs several transactions one after the other, each seeing those before it. They share
// commit groups, but many of them need several, and transactions of others may come between. It
// returns when all are as durable as configured. One that fails does not keep the others from
// taking effect: if any failed, the result has an error or nil for each, in their order, and else
// is nil. Many small transactions cost much less so than one by one.
func (s *Space) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	held, err := s.writable(ctx)
	if err != nil {
		return repeat(err, len(fns))
	}
	return held.UpdateAll(ctx, fns)
}

// ViewToken is View, and returns the token of the moment that fn reads.
func (s *Space) ViewToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	held, err := s.here()
	switch {
	case err != nil:
		return "", err
	case held != nil:
		return held.ViewToken(ctx, fn)
	}
	return "", viewNothing(ctx, fn)
}

// UpdateToken is Update, and returns the token of the moment after the transaction: all that it saw
// and wrote. If the error is ErrTooManyReplicas, the transaction took effect.
func (s *Space) UpdateToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	held, err := s.writable(ctx)
	if err != nil {
		return "", err
	}
	return held.UpdateToken(ctx, fn)
}

// Wait returns when this peer has seen everything that t names: at once if it has. When ctx ends
// before that it returns a *NotSeenError that wraps ctx's error; and one that wraps ErrLost, after some
// seconds, if nobody has what is missing and nobody can have it any more. A token of another space is ErrToken.
func (s *Space) Wait(ctx context.Context, t Token) error {
	want, err := t.vector(gossip.SpaceOf(s.name))
	if err != nil || len(want) == 0 {
		return err
	}
	held, err := s.await(ctx, nil)
	switch {
	case held != nil:
		return held.Wait(ctx, want)
	case ctx.Err() == nil:
		return err
	}
	missing := map[string]uint64{}
	for id, n := range want {
		missing[id.String()] = n
	}
	return &NotSeenError{Missing: missing, cause: err}
}

// await waits until the space is there. It ends with ctx, with the peer, and with ended, too.
func (s *Space) await(ctx context.Context, ended <-chan struct{}) (*space, error) {
	for {
		changed := s.p.changes.wait()
		if held, err := s.here(); held != nil || err != nil {
			return held, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ended:
			return nil, ErrClosed
		case <-s.p.stop:
			return nil, ErrClosed
		}
	}
}

// Watch begins to watch the keys that begin with prefix. It must be closed. What is committed after
// it returned is told. If this host does not hold the space, Next says so.
func (s *Space) Watch(prefix string) *Watch {
	w := &Watch{of: s, prefix: prefix, closed: make(chan struct{}), told: delta.Whole(crdt.VersionVector{})}
	if held, _ := s.here(); held != nil && w.join(held) == nil {
		at := held.feed.now()
		w.told, w.epoch, w.next, w.placed = at.seen, at.epoch, at.next, true
	}
	return w
}

// WatchSince begins to watch the keys that begin with prefix, from the moment that a token names:
// one of a Change, a ViewToken, an UpdateToken, of this or another peer of the cluster. What came
// after that moment is told, and nothing else. It must be closed. The error is ErrToken, also for a token of another
// space.
func (s *Space) WatchSince(prefix string, since Token) (*Watch, error) {
	told, err := since.vector(gossip.SpaceOf(s.name))
	if err != nil {
		return nil, err
	}
	// told is the whole of it until the watch is placed.
	return &Watch{of: s, prefix: prefix, closed: make(chan struct{}), told: delta.Whole(told)}, nil
}

// Backup writes a backup to w: everything that this peer holds of the space at one moment. Reads and writes go
// on meanwhile, but room that they free is given back only at the end. progress, unless it is nil,
// is called after each block of about 1 MiB. Keys of the host and the cluster are not part of it.
//
// It takes a few MiB of memory. It ends with an error, and then what was written is no backup, when
// ctx ends, when the peer is closed, and when w fails; ErrBackupRuns, ErrRebuilding and ErrNotHeld say that
// nothing was written.
func (s *Space) Backup(ctx context.Context, w io.Writer, progress func(BackupProgress)) (BackupInfo, error) {
	held, err := s.here()
	switch {
	case err != nil:
		return BackupInfo{}, err
	case held == nil:
		return BackupInfo{}, fmt.Errorf("%w %q: nobody has written to it", ErrNotHeld, s.name)
	}
	return held.Backup(ctx, w, progress)
}

// viewNothing is the View of a space that nobody has written to.
func viewNothing(ctx context.Context, fn func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return newTx(nothing{}).run(fn)
}

// nothing is a view without cells.
type nothing struct{}

var _ keyed = nothing{}

func (nothing) Cell(dotted.Address) (dotted.Cell, error) { return nil, nil }

func (nothing) Scan(_, _ dotted.Address, _ func(dotted.Address, dotted.Cell) bool) error { return nil }

func (nothing) Summary(string) (dotted.Summary, error) { return dotted.Summary{}, nil }

func (nothing) Count(dotted.Address) (dotted.Count, error) { return dotted.Count{}, nil }

func (nothing) Tallied(func(key string) bool) error { return nil }

func (nothing) Put(dotted.Address, []byte, []dotted.Dot) (dotted.Dot, error) {
	return dotted.Dot{}, ErrReadOnly
}

func (nothing) Remove(dotted.Address, []dotted.Dot) error { return ErrReadOnly }

func (nothing) Clear(dotted.Address) error { return ErrReadOnly }

func (nothing) Replica() dotted.ReplicaID { return 0 }

func (nothing) Ended(dotted.ReplicaID) bool { return false }

func (nothing) Time() dotted.Time { return 0 }

func (nothing) Keys(_, _ string, _ func(key string, s dotted.Summary) bool) error { return nil }

func (nothing) KeyCount() (int, error) { return 0, nil }
