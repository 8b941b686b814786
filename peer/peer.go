package peer

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/replica"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/segment"
)

var (
	// ErrClosed is returned by a peer that was closed, or failed. Whether a transaction that was under
	// way then took effect is unknown.
	ErrClosed = errors.New("the peer is closed")
	// ErrRebuilding is returned while a damaged peer rebuilds itself from others, or waits for one
	// that it can rebuild itself from. Nothing changed.
	ErrRebuilding = errors.New("the data here is damaged and is rebuilt from other peers: try again later")
	// ErrReadOnly is returned by writes in a View.
	ErrReadOnly = crdt.ErrReadOnly
	// ErrTooLarge is returned for a transaction beyond MaxOps or MaxCost, and for the first one of a peer
	// where 65,536 replicas have written already. Nothing changed.
	ErrTooLarge = delta.ErrTooLarge
	// ErrNoClusterKey is returned by Open if it is to join others and has no secret.
	ErrNoClusterKey = errors.New("no cluster key: a host joins with the cluster's key in hand")
)

// Peer is one peer: a replica of the data on this host. Its methods may be called by many
// goroutines.
type Peer struct {
	cfg     Config
	log     *slog.Logger
	store   store.Store
	journal store.Log
	core    *replica.Replica // which the loop owns: others open views of it
	disk    *diskRoom

	maxSkew atomic.Int64 // Config.MaxSkew, in nanoseconds

	// Views.
	opening   sync.RWMutex   // held for a moment while a view is opened, and while refusing changes
	views     sync.WaitGroup // open ones, and a backup under way
	backingUp atomic.Bool
	refusing  atomic.Pointer[error] // why nothing may be read or written; nil if it may

	updates chan *update
	jobs    chan job      // what does not wait behind updates
	stop    chan struct{} // closed to end the commit loop
	stopped chan struct{} // closed when it has ended
	close   sync.Once
	failed  error // why the loop ended; read after stopped

	loop       *loop
	net        *network       // nil offline
	background sync.WaitGroup // goroutines started by the loop
	feed       feed
	counters   counters
}

// Open opens the peer in cfg.Dir and starts it. It reads all data once, to check it, so it takes
// the longer the more there is. Joins that do not answer do not delay it. ctx bounds the opening
// alone. After an error, which says what to do, nothing is left running: ConfigErrors for what is
// wrong in cfg, ErrNoClusterKey, and what the store says, as store.ErrLocked if another process has
// the directory.
func Open(ctx context.Context, cfg Config) (*Peer, error) {
	p, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p.start()
	return p, nil
}

// open opens everything and starts nothing.
func open(ctx context.Context, cfg Config) (*Peer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Peer{
		cfg:     cfg.withDefaults(),
		updates: make(chan *update, MaxQueue),
		jobs:    make(chan job, MaxQueue),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	p.log = p.cfg.Logger
	p.maxSkew.Store(int64(p.cfg.MaxSkew))
	if err := p.openStore(); err != nil {
		return nil, err
	}
	if err := p.openLoop(); err != nil {
		return nil, errors.Join(err, p.closeStore())
	}
	if !p.cfg.Offline {
		var err error
		if p.net, err = openNetwork(ctx, p); err != nil {
			return nil, errors.Join(err, p.closeStore())
		}
	}
	return p, nil
}

func (p *Peer) start() {
	go p.loop.run()
	if p.net != nil {
		p.net.start()
	}
}

// openStore opens the directory and the store in it.
func (p *Peer) openStore() error {
	if p.cfg.Memory {
		p.store, p.journal = mem.New(), mem.NewLog()
		p.disk, _ = newDiskRoom(nil, 0)
		return nil
	}
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := checkNotRestoring(p.cfg.Dir); err != nil {
		return fmt.Errorf("data directory %s: %w", p.cfg.Dir, err)
	}
	st, err := badger.Open(filepath.Join(p.cfg.Dir, storeDir), badger.Options{Logger: p.log})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", p.cfg.Dir, err)
	}
	if p.journal, err = openLog(p.cfg.Dir, st); err != nil {
		return errors.Join(err, st.Close())
	}
	p.store = st
	if p.cfg.faulty != nil {
		p.store, p.journal = p.cfg.faulty(st, p.journal)
	}
	if p.disk, err = newDiskRoom(st, uint64(p.cfg.MinFree)); err != nil {
		return errors.Join(fmt.Errorf("data directory %s: %w", p.cfg.Dir, err), p.closeStore())
	}
	return nil
}

// openLog opens the log of a directory, beside its store.
func openLog(dir string, st store.Store) (store.Log, error) {
	log, err := segment.Open(filepath.Join(dir, logDir), segment.Options{
		SegmentSize: logSegment, Synced: replica.Durable(st),
	})
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return log, nil
}

// logSegment is the size of the files of the log, in bytes: it is cut by whole ones.
const logSegment = 16 << 20

// closeStore closes what holds the data.
func (p *Peer) closeStore() error {
	if p.core != nil {
		p.core.Close()
	}
	return errors.Join(p.journal.Close(), p.store.Close())
}

// openLoop opens the replica and the loop that will own it.
func (p *Peer) openLoop() error {
	r, err := replica.Open(p.store, p.journal, replica.Config{
		NewID:       p.drawID,
		MaxLogBytes: p.cfg.LogBytes,
		MaxLogAge:   p.cfg.LogAge,
		MaxSkew:     p.cfg.MaxSkew,
	})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", p.cfg.Dir, err)
	}
	p.core = r
	p.loop = newLoop(p, replica.NewNode(r))
	p.loop.jump()
	if damage := r.Damaged(); damage != nil {
		if p.cfg.Offline {
			return fmt.Errorf("data directory %s: %w: open it with a network, to rebuild it from other "+
				"peers, or move it away", p.cfg.Dir, damage)
		}
		p.log.Error("the data here is damaged: it will be rebuilt from the first peer that is found, "+
			"and is refused until then", "error", damage)
	}
	if r.Rebuilding() || r.Damaged() != nil {
		p.refuse(ErrRebuilding)
	}
	return nil
}

// drawID draws a replica id for this start.
func (p *Peer) drawID() crdt.ReplicaID {
	if p.cfg.memory != 0 {
		return p.cfg.memory
	}
	return newReplicaID()
}

func newReplicaID() crdt.ReplicaID {
	for {
		var b [8]byte
		_, _ = crand.Read(b[:]) // never fails
		if id := crdt.ReplicaID(binary.BigEndian.Uint64(b[:])); id != 0 {
			return id
		}
	}
}

// refuse has reads and writes refused from now on. Views that are open stay.
func (p *Peer) refuse(why error) {
	p.opening.Lock()
	defer p.opening.Unlock()
	p.refusing.Store(&why)
}

// view opens a view of what is committed. What before returns, unless it is nil, is of the view's moment or older.
func (p *Peer) view(before func() moment) (v *replica.View, at moment, err error) {
	p.opening.RLock()
	defer p.opening.RUnlock()
	if why := p.refusing.Load(); why != nil {
		return nil, at, *why
	}
	if p.stopping() {
		return nil, at, ErrClosed
	}
	if before != nil {
		at = before()
	}
	p.views.Add(1)
	return p.core.View(), at, nil
}

// View runs fn on a snapshot of everything that is visible: all writes that this peer acknowledged,
// and what it received, in causal order, transactions whole. fn's error is returned, or that of a
// read that failed (see Tx). Views wait for nobody. Many may
// run at once, each for as long as it likes; but what is
// deleted meanwhile takes space on the disk until they end. Writes in it return ErrReadOnly.
func (p *Peer) View(ctx context.Context, fn func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v, _, err := p.view(nil)
	if err != nil {
		return err
	}
	defer p.views.Done()
	defer v.Close()
	err = newTx(v).run(fn)
	p.suspectRead(err)
	return err
}

// Update runs fn as one transaction and returns when it is as durable as configured. Its writes
// become visible together, here and on every other peer. If fn returns an error, which is returned,
// a read of it fails (see Tx), or the transaction goes beyond a limit, nothing of it takes effect.
//
// fn runs on the peer's commit loop: it must not wait for anything, least of all for the peer. If
// it panics, nothing of it takes effect, and Update panics with the same value; if it ends its
// goroutine, the error is ErrExited. If ctx ends before fn began, fn does not run; once it has
// begun, Update waits for its end.
//
// Other errors are ErrTooLarge, ErrNoSpace, ErrRebuilding, after all of which nothing has changed,
// and ErrClosed, after which that is unknown.
func (p *Peer) Update(ctx context.Context, fn func(tx *Tx) error) error {
	fns := [1]func(*Tx) error{fn}
	if errs := p.UpdateAll(ctx, fns[:]); errs != nil {
		return errs[0]
	}
	return nil
}

// UpdateAll runs several transactions one after the other, each seeing those before it. They share
// commit groups, but many of them need several, and transactions of others may come between. It
// returns when all are as durable as configured. One that fails does not keep the others from
// taking effect: if any failed, the result has an error or nil for each, in their order, and else
// is nil. Many small transactions cost much less so than one by one.
func (p *Peer) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	if err := ctx.Err(); err != nil {
		return repeat(err, len(fns))
	}
	u := newUpdate(fns)
	select {
	case p.updates <- u:
	case <-p.stop:
		return repeat(ErrClosed, len(fns))
	case <-ctx.Done():
		return repeat(ctx.Err(), len(fns))
	}
	select {
	case <-u.done:
	case <-p.stopped:
		select {
		case <-u.done:
		default:
			return repeat(ErrClosed, len(fns))
		}
	case <-ctx.Done():
		if u.cancel() {
			return repeat(ctx.Err(), len(fns))
		}
		select {
		case <-u.done:
		case <-p.stopped:
			return repeat(ErrClosed, len(fns))
		}
	}
	return u.result()
}

// stopping reports whether the peer is being closed.
func (p *Peer) stopping() bool {
	select {
	case <-p.stop:
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
func (p *Peer) call(fn func(l *loop)) error {
	done := make(chan struct{})
	select {
	case p.jobs <- job{call: func(l *loop) { fn(l); close(done) }}:
	case <-p.stopped:
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-p.stopped:
		select {
		case <-done:
			return nil
		default:
			return ErrClosed
		}
	}
}

// busyAfter is how long Ready, Status and Metrics wait for the commit loop, which takes a repair of
// 10⁶ cells over in one go: for half a minute, or more. Clients of HTTP are cut off after 10 s.
const busyAfter = 4 * time.Second

var errBusy = errors.New("the peer is busy: it takes a repair over, or its disk is slow")

// ask returns what fn tells of the loop, or errBusy.
func ask[T any](p *Peer, fn func(l *loop) T) (told T, err error) {
	limit := time.NewTimer(busyAfter)
	defer limit.Stop()
	answer := make(chan T, 1) // so that the loop never waits for who went away
	select {
	case p.jobs <- job{call: func(l *loop) { answer <- fn(l) }}:
	case <-p.stopped:
		return told, ErrClosed
	case <-limit.C:
		return told, errBusy
	}
	select {
	case told = <-answer:
		return told, nil
	case <-limit.C:
		return told, errBusy
	case <-p.stopped:
	}
	select {
	case told = <-answer:
		return told, nil
	default:
		return told, ErrClosed
	}
}

// Done is closed when the peer has ended: after Close, or by itself after a failure that Close
// returns.
func (p *Peer) Done() <-chan struct{} { return p.stopped }

// Reload takes over what can change while a peer runs: Join, LogBytes, LogAge, MinFree and MaxSkew.
// The other fields of cfg are checked, and have no effect. Hosts that are new in Join are looked
// for; members that are there, or were, stay known. After an error, ErrClosed or ConfigErrors,
// nothing has changed.
func (p *Peer) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	err := p.call(func(l *loop) {
		l.node.SetLimits(cfg.MaxSkew, cfg.LogBytes, cfg.LogAge)
		p.maxSkew.Store(int64(cfg.MaxSkew))
		p.disk.wanted = uint64(cfg.MinFree)
		l.watchDisk()
	})
	if err != nil || p.net == nil {
		return err
	}
	return p.net.members.SetJoin(cfg.Join)
}

// Close finishes what was accepted, leaves the cluster and releases everything; it returns when all
// is quiet, with the failure that ended the peer before, if any. A second Close returns the same.
func (p *Peer) Close() error {
	p.close.Do(func() {
		if p.net != nil {
			p.takeLeave()
			p.net.close()
		}
		close(p.stop)
		<-p.stopped
		p.background.Wait()
		p.refuse(ErrClosed) // views are opened no more, and those that are open end
		p.views.Wait()
		if err := p.closeStore(); p.failed == nil { // else that is why it could not be closed
			p.failed = err
		}
	})
	return p.failed
}
