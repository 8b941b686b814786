package peer

import (
	"cmp"
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
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/segment"
	spacestore "github.com/peerd/peerd/store/space"
)

var (
	// ErrClosed is returned by a peer that was closed, or failed. Whether a transaction that was under
	// way then took effect is unknown.
	ErrClosed = errors.New("the peer is closed")
	// ErrRebuilding is returned while a damaged peer rebuilds itself from others, or waits for one
	// that it can rebuild itself from. Nothing changed.
	ErrRebuilding = engine.ErrRebuilding
	// ErrReadOnly is returned by writes in a View.
	ErrReadOnly = crdt.ErrReadOnly
	// ErrTooLarge is returned for a transaction beyond MaxOps or MaxCost, and for the first one of a
	// peer where 65,536 replicas have written already. Nothing changed.
	ErrTooLarge = delta.ErrTooLarge
	// ErrLocked is wrapped where another process, or another peer of this one, has the directory.
	ErrLocked = store.ErrLocked
)

// worded is an error in words that fit better than those of its sentinel.
type worded struct {
	text     string
	sentinel error
}

func (e worded) Error() string { return e.text }
func (e worded) Unwrap() error { return e.sentinel }

// Peer is one peer: this host's part of a cluster. It holds spaces, sets of keys that are
// replicated apart from each other: see Space. View, Update and their like are those of its space
// "default". Its methods may be called by many goroutines.
type Peer struct {
	cfg     Config
	keys    Keys
	made    traces // by the opening
	log     *slog.Logger
	store   store.Store
	journal store.Log
	disk    *diskRoom

	committer *spacestore.Committer // divides the log among the spaces
	table     *spacestore.Table     // says which spaces the store has
	followed  atomic.Int64          // where the log ended when spaces were last asked whether they hold it back

	limits atomic.Pointer[limits]       // changed while making is held
	clock  atomic.Pointer[engine.Found] // what was found of it
	known  knownClock                   // of it; owned by keepLinks, once the network runs

	making   sync.Mutex                        // held while a space is opened or dropped
	spaces   atomic.Pointer[map[string]*space] // that are held, by name; never changed in place
	guards   sync.Map                          // *engine.Guards of spaces, by name: see guardsOf
	refused  atomic.Pointer[[]string]          // listed spaces that could not be opened when that was tried last
	opened   atomic.Pointer[momentID]          // of the directory, whose other spaces are all open; nil before that
	running  sync.WaitGroup                    // their loops, and what else ends with stop
	changes  bell                              // rings when spaces were opened or dropped
	problems problems

	spawning   sync.Mutex     // held while a Submit begins to wait
	dropping   sync.Mutex     // held while a space is dropped
	parting    sync.WaitGroup // spaces that were dropped, until they are closed; and Submits that wait
	reclaiming sync.Mutex     // held while records of dropped spaces are deleted

	// updates are those that are not in use, with their channels and, if they were submitted,
	// their transactions. They are this peer's alone: a channel that was made in a bubble of
	// testing/synctest must not be used outside.
	updates sync.Pool

	stop    chan struct{} // closed to end all loops
	ending  sync.Once
	stopped chan struct{} // closed when they have ended
	close   sync.Once
	failing sync.Once
	broken  atomic.Bool // nothing is written any more
	failed  error       // why the loops ended; read after stopped

	exchange *exchange // of published messages
	net      *network  // nil offline

	unnamed Space // that the peer's own methods are about
}

// Open opens the peer in cfg.Dir and starts it. It takes the longer the more there is: the tables
// of the store are read, to compare them with their checksums, and the log since the last
// checkpoint. What the tables hold is checked afterwards, in the background: see
// SpaceStatus.Unchecked. Joins that do not answer do not delay it. ctx is of the opening alone: it
// ends looking up names, and not reading. After an error, which says what to do, nothing is left
// running, nor of what was made in cfg.Dir: ConfigErrors for what is wrong in cfg, ErrNoClusterKey,
// ErrOtherClusterKey, ctx's, and what the store says, as ErrLocked.
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
	if err := cmp.Or(cfg.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	p := &Peer{cfg: cfg.withDefaults(), stop: make(chan struct{}), stopped: make(chan struct{})}
	p.unnamed, p.exchange = Space{p, DefaultSpace}, newExchange("")
	p.spaces.Store(&map[string]*space{})
	p.refused.Store(new([]string))
	p.log = p.cfg.Logger
	p.limits.Store(p.cfg.limits())
	p.clock.Store(engine.FoundNow(engine.Clock{}, p.reading(time.Now())))
	if err := p.checkKeys(); err != nil {
		return nil, err
	}
	p.made = lookBefore(p.cfg)
	if err := p.openAll(ctx); err != nil {
		used := p.store == nil
		for _, s := range p.held() {
			used = used || s.written()
		}
		if used {
			p.made.store = false // another process made it, if it is there
		}
		p.made.remove()
		return nil, err
	}
	return p, nil
}

func (p *Peer) openAll(ctx context.Context) (err error) {
	if err := p.openStore(); err != nil {
		return inDirectory(p.cfg.Dir, err)
	}
	p.loadClock()
	if err := p.openSpaces(); err != nil {
		return errors.Join(inDirectory(p.cfg.Dir, err), p.closeStore())
	}
	if p.cfg.Offline {
		err = p.foundOffline()
	} else {
		p.net, err = openNetwork(ctx, p)
	}
	if err != nil {
		return errors.Join(err, p.closeStore())
	}
	return nil
}

func (p *Peer) start() {
	if p.disk.room() != roomy {
		p.tellRoom()
	}
	for _, s := range p.held() {
		p.running.Go(s.loop.run)
	}
	p.running.Go(p.keepBudgets)
	go func() {
		defer close(p.stopped)
		<-p.stop
		p.making.Lock()   // no space is opened any more
		p.spawning.Lock() // nor is a goroutine begun for a Submit
		for _, s := range p.held() {
			s.end()
		}
		p.spawning.Unlock()
		p.making.Unlock()
		p.running.Wait()
	}()
	if p.net != nil {
		p.net.start()
	}
	p.running.Go(p.watchProblems)
	p.running.Go(p.followDirectory)
	if p.net != nil {
		p.running.Go(p.followRemovals)
	}
	p.running.Go(p.reclaim)
}

// end has all loops end, when they have finished what was accepted.
func (p *Peer) end() { p.ending.Do(func() { close(p.stop) }) }

// fail ends the peer after an error of the store.
func (p *Peer) fail(err error) {
	p.failing.Do(func() { p.failed = err })
	p.broken.Store(true)
	p.end()
}

// openStore opens the directory and what is in it.
func (p *Peer) openStore() error {
	if p.cfg.Memory {
		p.store, p.journal = mem.New(), mem.NewLog()
		p.disk, _ = newDiskRoom(nil, 0)
		return p.divide()
	}
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := checkNotRestoring(p.cfg.Dir); err != nil {
		return err
	}
	st, err := badger.Open(filepath.Join(p.cfg.Dir, storeDir), badger.Options{Logger: p.log})
	if err != nil {
		return err
	}
	if p.journal, err = openLog(p.cfg.Dir, st); err != nil {
		return errors.Join(err, st.Close())
	}
	p.store = st
	if p.cfg.faulty != nil {
		p.store, p.journal = p.cfg.faulty(st, p.journal)
	}
	if p.disk, err = newDiskRoom(st, uint64(p.cfg.MinFree)); err == nil {
		err = p.divide()
	}
	if err != nil {
		return errors.Join(err, p.closeStore())
	}
	return nil
}

// divide opens what divides the store and the log among spaces.
func (p *Peer) divide() (err error) {
	p.committer = spacestore.NewCommitter(p.journal)
	p.table, err = openTable(p.store, p.journal)
	return err
}

// openTable opens the table of the spaces that a store and a log have.
func openTable(st store.Store, journal store.Log) (*spacestore.Table, error) {
	table, err := spacestore.OpenTable(st)
	if err == nil && len(table.Spaces()) == 0 && journal.First() < journal.Next() {
		// Numbers are drawn before anything is logged.
		err = fmt.Errorf("the log has records and the store beside it has no spaces: %w", store.ErrCorrupt)
	}
	return table, err
}

// openLog opens the log of a directory, beside its store.
func openLog(dir string, st store.Store) (store.Log, error) {
	table, err := spacestore.OpenTable(st)
	if err != nil {
		return nil, err
	}
	synced := store.Position(0)
	for _, s := range table.Spaces() {
		// The log was synced up to where a space begins: see Committer.Begin.
		synced = max(synced, s.From, engine.Durable(spacestore.NewTree(st, s.Number)))
	}
	return segment.Open(filepath.Join(dir, logDir), segment.Options{SegmentSize: logSegment, Synced: synced})
}

// inDirectory says of an error in which data directory it was.
func inDirectory(dir string, err error) error { return fmt.Errorf("data directory %s: %w", dir, err) }

// logSegment is the size of the files of the log, in bytes: it is cut by whole ones.
const logSegment = 16 << 20

// beside runs something that a Submit waits for on a goroutine, which Close waits for. It does not
// once the peer is to end.
func (p *Peer) beside(fn func()) bool {
	p.spawning.Lock()
	defer p.spawning.Unlock()
	if p.isStopping() {
		return false
	}
	p.parting.Go(fn)
	return true
}

// closeStore closes what holds the data.
func (p *Peer) closeStore() error {
	for _, s := range p.held() {
		s.core.Close()
	}
	return errors.Join(p.journal.Close(), p.store.Close())
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

// Done is closed when the peer has ended: after Close, or by itself after a failure that Close
// returns.
func (p *Peer) Done() <-chan struct{} { return p.stopped }

// limits are what of a Config a space has for itself and can change while the peer runs.
type limits struct {
	skew     time.Duration
	logBytes int64
	logAge   time.Duration
	cache    int64
}

func (c *Config) limits() *limits { return &limits{c.MaxSkew, c.LogBytes, c.LogAge, c.CacheBytes} }

// Reload takes over what can change while a peer runs: Join, LogBytes, LogAge, CacheBytes,
// MinFree and MaxSkew. The other fields of cfg are checked, and have no effect. Hosts that are
// new in Join are looked for; members that are there, or were, stay known. After an error,
// ErrClosed or ConfigErrors, nothing has changed.
func (p *Peer) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if p.isStopping() {
		return ErrClosed
	}
	p.disk.want(uint64(cfg.MinFree))
	p.making.Lock() // what is opened later has them too
	p.limits.Store(cfg.limits())
	held := p.held()
	p.making.Unlock()
	for _, s := range held {
		err := s.call(func(l *loop) {
			l.engine.SetLimits(cfg.MaxSkew, cfg.LogBytes, cfg.LogAge)
			l.watchDisk()
		})
		if err != nil && p.isStopping() {
			return err
		}
	}
	if p.net == nil {
		return nil
	}
	return p.net.members.SetJoin(cfg.Join)
}

// Close finishes what was accepted, leaves the cluster and releases everything; it returns when
// all is quiet, with the failure that ended the peer before, if any. It waits for transactions
// that run, Views among them, so it is not called within one. A second Close returns the same.
func (p *Peer) Close() error {
	p.close.Do(func() {
		if p.net != nil {
			p.takeLeave()
			p.net.close()
		}
		p.end()
		<-p.stopped
		p.parting.Wait()
		for _, s := range p.held() {
			s.close(ErrClosed)
		}
		err := errors.Join(p.journal.Close(), p.store.Close())
		p.failing.Do(func() { p.failed = err }) // else that is why it could not be closed
	})
	return p.failed
}

// isStopping reports whether the peer is being closed.
func (p *Peer) isStopping() bool { return isClosed(p.stop) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// own is the space that the methods below are about.
func (p *Peer) own() *Space { return &p.unnamed }

// View is Space.View of the space "default".
func (p *Peer) View(ctx context.Context, fn func(tx *Tx) error) error { return p.own().View(ctx, fn) }

// Update is Space.Update of the space "default".
func (p *Peer) Update(ctx context.Context, fn func(tx *Tx) error) error {
	return p.own().Update(ctx, fn)
}

// UpdateAll is Space.UpdateAll of the space "default".
func (p *Peer) UpdateAll(ctx context.Context, fns []func(tx *Tx) error) []error {
	return p.own().UpdateAll(ctx, fns)
}

// Read is Space.Read of the space "default".
func (p *Peer) Read(fns []func(tx *Tx) error) []error { return p.own().Read(fns) }

// Submit is Space.Submit of the space "default".
func (p *Peer) Submit(fns []func(tx *Tx) error, done func(errs []error)) {
	p.own().Submit(fns, done)
}

// ViewToken is Space.ViewToken of the space "default".
func (p *Peer) ViewToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	return p.own().ViewToken(ctx, fn)
}

// UpdateToken is Space.UpdateToken of the space "default".
func (p *Peer) UpdateToken(ctx context.Context, fn func(tx *Tx) error) (Token, error) {
	return p.own().UpdateToken(ctx, fn)
}

// Wait is Space.Wait of the space "default".
func (p *Peer) Wait(ctx context.Context, t Token) error { return p.own().Wait(ctx, t) }

// Replicated is Space.Replicated of the space "default".
func (p *Peer) Replicated(ctx context.Context, n int) (int, error) { return p.own().Replicated(ctx, n) }

// Watch is Space.Watch of the space "default".
func (p *Peer) Watch(prefix string) *Watch { return p.own().Watch(prefix) }

// WatchSince is Space.WatchSince of the space "default".
func (p *Peer) WatchSince(prefix string, since Token) (*Watch, error) {
	return p.own().WatchSince(prefix, since)
}
