package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	spacestore "github.com/peerd/peerd/store/space"
)

// DefaultSpace is the name of the space that the methods of Peer which read and write are about.
const DefaultSpace = "default"

// MaxSpaceName is how long the name of a space may be, in bytes.
const MaxSpaceName = 64

// ErrSpaceName is wrapped by errors about the name of a space.
var ErrSpaceName = errors.New("the name of a space has 1 to 64 of a-z, 0-9, dot, hyphen and underscore, and begins " +
	"with a letter or a digit")

// MaxSpaces is how many spaces a host may hold, and the directory list.
const MaxSpaces = gossip.MaxSpaces

var (
	// ErrNotHeld is wrapped by errors about a space that this host does not hold, and is not to.
	// Nothing changed.
	ErrNotHeld = errors.New("this host does not hold the space")
	// ErrLeaving is wrapped by the error of a write to a space while DropSpace looks whether it may go.
	// Nothing changed. A few seconds later either the write is accepted again, or it makes the space anew.
	ErrLeaving = errors.New("this host looks whether it may drop the space")
	// ErrTooManySpaces is returned for a write to one space too many. Nothing changed.
	ErrTooManySpaces = fmt.Errorf("the cluster has had %d spaces, and takes no more: write to one of those", MaxSpaces)
)

// CheckSpaceName returns an error that wraps ErrSpaceName unless name can be that of a space.
func CheckSpaceName(name string) error {
	ok := name != "" && len(name) <= MaxSpaceName
	for i := 0; i < len(name) && ok; i++ {
		c := name[i]
		alone := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = alone || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%w: not %.80q", ErrSpaceName, name)
}

// Space is a handle of a space: a named set of keys that is replicated apart from those of other
// spaces, by the hosts that take part in it. A transaction is of one space. A space that nobody has
// written to reads as empty and costs nothing; the first transaction that writes to it makes it,
// and tells the other hosts of it. Handles may be used by many goroutines, and kept also when the
// space is dropped.
type Space struct {
	p    *Peer
	name string
}

// Space returns the handle of a space. The error wraps ErrSpaceName for what is no name, and
// ErrNotHeld if Config.Spaces keeps this host from holding the space.
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
func notHeld(name string) error {
	return fmt.Errorf("%w %q: name it in --spaces (Config.Spaces)", ErrNotHeld, name)
}

// dropped is the error about a space that DropSpace took away.
func dropped(name string) error {
	return fmt.Errorf("%w %q: it was dropped here, and a write takes it up again", ErrNotHeld, name)
}

// Name returns the space's name.
func (s *Space) Name() string { return s.name }

func (s *Space) id() gossip.SpaceID { return gossip.SpaceOf(s.name) }

// here returns the space if it is there, and nil if nobody has written to it, as far as is known
// here.
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
		return nil, dropped(s.name)
	}
	return nil, nil
}

// View runs fn on a snapshot of everything that is visible: all writes that this peer
// acknowledged, and what it received, in causal order, transactions whole. fn's error is
// returned, or that of a read that failed (see Tx). Views wait for nobody. Many may run at once,
// each for as long as it likes; but what is deleted meanwhile takes room on the disk until they
// end, and Close waits for them. Writes in it return ErrReadOnly. A View is for what takes long;
// many small reads cost less by Read, which takes single values from memory.
//
// Without running fn it returns ErrNotHeld, also for a space that was dropped, ErrRebuilding,
// ErrClosed, and ctx's error if that has ended before.
func (s *Space) View(ctx context.Context, fn func(tx *Tx) error) error {
	_, err := s.read(ctx, false, fn)
	return err
}

// ViewToken is View, and returns the token of the moment that fn reads.
func (s *Space) ViewToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	at, err := s.read(ctx, true, fn)
	if err != nil {
		return "", err
	}
	return newToken(s.id(), at.seen.Vector())
}

// read runs fn on a view, and returns its moment if that is wanted.
func (s *Space) read(ctx context.Context, wanted bool, fn func(tx *Tx) error) (at moment, err error) {
	if err := ctx.Err(); err != nil {
		return at, err
	}
	held, err := s.here()
	if err != nil {
		return at, err
	}
	if held == nil {
		v := s.nothing()
		defer v.Close()
		return at, readBy(v, fn)
	}
	var v *view
	if wanted {
		v, at, err = held.viewMoment()
	} else {
		v, at, err = held.view(nil)
	}
	if err != nil {
		return at, err
	}
	defer v.Close()
	v.Gathering()
	err = readBy(v, fn)
	held.suspectRead(err)
	held.loop.remember(v)
	return at, err
}

// nothing is what a space has that nobody has written to.
var nothing = sync.OnceValue(func() *engine.Engine {
	e, err := engine.Open(mem.New(), mem.NewLog(), engine.Config{NewID: newReplicaID}, nil, time.Time{})
	if err != nil {
		panic(err) // there is nothing that could fail
	}
	return e
})

// Update runs fn as one transaction and returns when it is as durable as configured. Its writes
// become visible together, here and on every other peer. If fn returns an error, which is returned,
// a read of it fails (see Tx), or the transaction goes beyond a limit, nothing of it takes effect.
//
// fn runs on the caller's goroutine or on another, and all writes of the space wait for it: it must
// not wait for anything, least of all for the peer. If it panics, nothing of it takes effect, and
// Update panics with the same value; if it ends its goroutine, that is so too, and Update ends its
// caller's. If ctx ends before fn began, fn does not run; once it has begun, Update waits for its
// end.
//
// Other errors are ErrTooLarge, ErrNoSpace, ErrRebuilding, ErrNotHeld, ErrLeaving,
// ErrTooManySpaces and, for the space "peerd", ErrReadOnly, after all of which nothing has
// changed, and ErrClosed, after which that is unknown.
func (s *Space) Update(ctx context.Context, fn func(tx *Tx) error) error {
	u := s.p.newUpdate(nil, nil)
	u.one[0] = fn
	u.fns = u.one[:]
	if errs := s.update(ctx, u); errs != nil {
		return errs[0]
	}
	return nil
}

// UpdateAll runs several transactions one after the other, each seeing those before it. They
// share commit groups, but many of them need several, and transactions of others may come
// between. It returns when all are as durable as configured. One that fails does not keep the
// others from taking effect: if any failed, the result has an error or nil for each, in their
// order, and else is nil. Many small transactions cost much less so than one by one. If one of
// them panics or ends its goroutine the others take effect, and UpdateAll does the same: of
// their errors nobody is told.
func (s *Space) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	return s.update(ctx, s.p.newUpdate(nil, fns))
}

func (s *Space) update(ctx context.Context, u *update) []error {
	if err := s.isOwn(); err != nil {
		return repeat(err, len(u.fns))
	}
	held := s.p.space(s.name)
	if held == nil {
		var errs []error
		if held, errs = s.p.begin(ctx, s.name, u); held == nil {
			return errs
		}
	}
	u.s = held
	return held.update(ctx, u)
}

// isOwn returns an error if the space is peerd's own.
func (s *Space) isOwn() error {
	if s.name != directorySpace {
		return nil
	}
	return worded{fmt.Sprintf("the space %q is peerd's own, and takes no writes of others", s.name), ErrReadOnly}
}

// Submit runs transactions as UpdateAll does, and waits for nobody else's step, nor for an
// fsync. done is called once, with what UpdateAll would return. That may be before Submit
// returns, as the transactions run on the caller's goroutine if nobody else's do; or later, on
// another. Before it, fns must not be changed. done is called within calls of Submit and Update,
// by whoever makes them, so it must not wait for anything, nor panic, nor end its goroutine; it
// may call Submit, which may call its done in turn: who goes on so for long does it on a
// goroutine now and then, or the stack grows.
//
// This is how a front-end writes: with one call for all commands that have arrived. Transactions
// of it that write nothing see all that was written before them, and are answered with those
// that do; such as stand alone are for Read, and what takes long for a View.
//
// To the functions applies what Update says, but for three things. One that panics fails with a
// *PanicError. One that ends its goroutine, which may be the caller's, fails with ErrExited. And a
// transaction must not be kept, nor a handle that it gave: what is kept belongs to a later one.
func (s *Space) Submit(fns []func(tx *Tx) error, done func(errs []error)) {
	if err := s.isOwn(); err != nil {
		done(repeat(err, len(fns)))
		return
	}
	if held := s.p.space(s.name); held != nil {
		held.Submit(fns, done)
		return
	}
	if !s.p.beside(func() { s.submitFirst(fns, done) }) {
		done(repeat(ErrClosed, len(fns)))
	}
}

// submitFirst is Submit for a space that is not there.
func (s *Space) submitFirst(fns []func(tx *Tx) error, done func(errs []error)) {
	u := s.p.newUpdate(nil, fns)
	u.called = done
	held, errs := s.p.begin(context.Background(), s.name, u)
	if held == nil {
		done(errs)
		return
	}
	u.free()
	held.Submit(fns, done)
}

// Read runs transactions that write nothing, on the caller's goroutine, and returns an error or
// nil for each as UpdateAll does. It waits for nobody: neither for another's step nor for an
// fsync, also if what others write is being made durable. Single values that were read or
// written of late they find in memory, unless somebody else's step is under way: then they read
// what a View does. Each sees all that was answered before the call, but not all need see the
// same moment.
//
// To the functions applies what Submit says. Writes in them return ErrReadOnly.
func (s *Space) Read(fns []func(tx *Tx) error) []error {
	held, err := s.here()
	switch {
	case err != nil:
		return repeat(err, len(fns))
	case held != nil:
		return held.Read(fns)
	}
	u := s.p.newUpdate(&space{p: s.p, name: s.name}, fns)
	v := s.nothing()
	defer v.Close()
	u.readOn(v, 0)
	return u.free()
}

// nothing returns a view of the space while it is not there. It must be closed.
func (s *Space) nothing() *engine.View {
	guards, _ := s.p.guards.Load(s.name)
	of, _ := guards.(*engine.Guards)
	return nothing().View().GuardedBy(of)
}

// UpdateToken is Update, and returns the token of the moment after the transaction: all that it saw
// and wrote. If the error is ErrTooManyReplicas, the transaction took effect.
func (s *Space) UpdateToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	var seen crdt.VersionVector
	err := s.Update(ctx, func(tx *Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		seen = tx.base.(*engine.Tx).Vector()
		return nil
	})
	if err != nil {
		return "", err
	}
	return newToken(s.id(), seen)
}

// Wait returns when this peer has seen everything that t names: at once if it has. When ctx ends
// before that it returns a *NotSeenError that wraps ctx's error; and one that wraps ErrLost, after
// some seconds, if nobody has what is missing and nobody can have it any more. A token of another
// space is ErrToken.
func (s *Space) Wait(ctx context.Context, t Token) error {
	want, err := t.vector(s.id())
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

// await waits until the space is there. It ends with ctx, with the peer, and with a watch that is closed.
func (s *Space) await(ctx context.Context, closed <-chan struct{}) (*space, error) {
	for {
		changed := s.p.changes.wait()
		if held, err := s.here(); held != nil || err != nil {
			return held, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-closed:
			return nil, errWatchClosed
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
// after that moment is told, and nothing else. It must be closed. The error is ErrToken, also for a
// token of another space.
func (s *Space) WatchSince(prefix string, since Token) (*Watch, error) {
	told, err := since.vector(s.id())
	if err != nil {
		return nil, err
	}
	// told is the whole of it until the watch is placed.
	return &Watch{of: s, prefix: prefix, closed: make(chan struct{}), told: delta.Whole(told)}, nil
}

// space is a space that this host holds: a replica of it, the loop that steps it, and what waits
// for the loop. What belongs to the host, as network, disk and keys, is its Peer's. It is opened
// once, and ends with the host or when it is dropped; if it is made again after that, that is
// another one.
type space struct {
	p       *Peer
	name    string
	id      gossip.SpaceID
	number  spacestore.Number // on the disk
	log     *slog.Logger
	store   store.Store // the records of this space alone, as is its log
	journal store.Log
	core    *engine.Engine // of who holds the turn: others open views of it

	// Views.
	opening   sync.RWMutex   // held for a moment while a view is opened, and while refusing changes
	views     sync.WaitGroup // open ones, and a backup under way
	backingUp atomic.Bool
	refusing  atomic.Pointer[error] // why nothing may be read or written; nil if it may
	leaving   atomic.Bool           // nothing may be written, while the space is dropped

	updates chan *update
	jobs    chan func(*loop) // what the loop does beside updates
	stop    chan struct{}    // closed to end the loop
	ending  sync.Once
	stopped chan struct{} // closed when it has ended

	loop       *loop
	background sync.WaitGroup // goroutines started by the loop
	feed       feed
	counters   counters

	share  share                 // of who shares memory
	held   time.Time             // when it was said that it holds the log; likewise
	listed atomic.Bool           // the directory has it
	ended  atomic.Pointer[error] // why it is not there any more, where that is not for the end of the peer
}

// openSpace opens the replica that a tree and a log hold, and the loop that will step it, and starts
// nothing. p.making is held, or the peer is not open yet.
func (p *Peer) openSpace(name string, tree store.Store, journal store.Log) (*space, error) {
	s := &space{
		p: p, name: name, id: gossip.SpaceOf(name), log: p.log.With("space", name), store: tree, journal: journal,
		updates: make(chan *update, MaxQueue),
		jobs:    make(chan func(*loop), MaxQueue),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	cfg, limits := p.cfg, p.limits.Load()
	rng, now := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), time.Now()
	e, err := engine.Open(tree, journal, engine.Config{
		NewID:       p.drawID,
		MaxLogBytes: limits.logBytes,
		MaxLogAge:   limits.logAge,
		MaxSkew:     limits.skew,
		PushDelay:   cfg.PushDelay,
		Spent:       cfg.spent,
		Alone:       cfg.Offline,
		Sync:        cfg.Durability == Always, SyncEverySecond: cfg.Durability == Interval,
		Volatile: cfg.Memory, Beside: true, Full: p.disk.room() == full,
		Guards: p.guardsOf(name),
	}, rng, now)
	if err != nil {
		return nil, err
	}
	s.listed.Store(name == DefaultSpace || name == directorySpace) // which nobody lists
	s.core = e
	s.loop = newLoop(s, now)
	s.loop.jump()
	if damage := e.Damaged(); damage != nil {
		if cfg.Offline {
			e.Close()
			return nil, fmt.Errorf("%w: open it with a network, to rebuild it from other peers, or move it away", damage)
		}
		s.log.Error("the data here is damaged: it will be rebuilt from the first peer that is found, "+
			"and is refused until then", "error", damage)
	}
	if e.Refusal() != nil {
		s.loop.refused = true
		s.refuse(ErrRebuilding)
	}
	return s, nil
}

// end has the loop end, when it has finished what was accepted.
func (s *space) end() { s.ending.Do(func() { close(s.stop) }) }

// close releases what is held in memory, once the loop has ended. why is what who still asks is
// told.
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

// refuse has reads and writes refused from now on, or takes that back if why is nil. Views that are
// open stay.
func (s *space) refuse(why error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if why == nil {
		s.refusing.Store(nil)
		return
	}
	s.refusing.Store(&why)
}

// refusal returns why nothing may be read or written now.
func (s *space) refusal() error {
	if why := s.refusing.Load(); why != nil {
		return *why
	}
	return nil
}

// view is an open view of a space.
type view struct {
	*engine.View
	s *space
}

func (v *view) Close() {
	v.View.Close()
	v.s.views.Done()
}

// view opens a view of what is committed. What before returns, unless it is nil, is of the view's
// moment or older.
func (s *space) view(before func() moment) (v *view, at moment, err error) {
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
	return &view{s.core.View().At(s.p.takenFor(time.Now())), s}, at, nil
}

// UpdateAll is Space.UpdateAll.
func (s *space) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	return s.update(ctx, s.p.newUpdate(s, fns))
}

// update has an update run, and waits for its answer.
func (s *space) update(ctx context.Context, u *update) []error {
	n := len(u.fns)
	if err := ctx.Err(); err != nil {
		return repeat(err, n)
	}
	if s.stopping() {
		return repeat(s.gone(), n)
	}
	brought, answered := false, false
	if !s.loop.crowd.queues() {
		brought, answered = s.loop.bring(u)
	}
	if answered {
		return u.result()
	}
	if !brought {
		select {
		case s.updates <- u:
		case <-s.stop:
			return repeat(s.gone(), n)
		case <-ctx.Done():
			return repeat(ctx.Err(), n)
		}
		s.loop.queued()
	}
	select {
	case <-u.done:
	case <-s.stopped:
		select {
		case <-u.done:
		default:
			return repeat(s.gone(), n)
		}
	case <-ctx.Done():
		if u.cancel() {
			return repeat(ctx.Err(), n)
		}
		select {
		case <-u.done:
		case <-s.stopped:
			return repeat(s.gone(), n)
		}
	}
	return u.result()
}

// stopping reports whether the space is being closed.
func (s *space) stopping() bool { return isClosed(s.stop) }

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// call runs fn on the loop's goroutine, between two steps, and waits for it. It returns ErrClosed if
// the loop ended before.
func (s *space) call(fn func(l *loop)) error {
	_, err := ask(context.Background(), s, func(l *loop) struct{} {
		fn(l)
		return struct{}{}
	})
	return err
}

// ask is call, and returns what fn does. It ends with ctx too.
func ask[T any](ctx context.Context, s *space, fn func(l *loop) T) (told T, err error) {
	answer := make(chan T, 1) // so that the loop never waits for who went away
	select {
	case s.jobs <- func(l *loop) { answer <- fn(l) }:
	case <-s.stopped:
		return told, s.gone()
	case <-ctx.Done():
		return told, ctx.Err()
	}
	select {
	case told = <-answer:
		return told, nil
	case <-ctx.Done():
		return told, ctx.Err()
	case <-s.stopped:
	}
	select {
	case told = <-answer:
		return told, nil
	default:
		return told, s.gone()
	}
}

// busyAfter is how long Ready, Status and Metrics wait for the loop, which waits for the disk.
// Clients of HTTP are cut off after 10 s.
const busyAfter = 4 * time.Second

var errBusy = errors.New("the peer is busy: its disk is slow")

// askSoon is ask for those who only look, and return errBusy rather than wait for long.
func askSoon[T any](s *space, fn func(l *loop) T) (T, error) {
	if told, looked := look(s, fn); looked {
		return told, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), busyAfter)
	defer cancel()
	told, err := ask(ctx, s, fn)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errBusy
	}
	return told, err
}
