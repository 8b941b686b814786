// Package badger keeps a store's records on disk, in Badger.
//
// # Idea
//
// Badger is a log-structured merge tree: a commit is appended to the log of the memtable, and full
// memtables become sorted tables on disk. This package makes it keep the contract of package
// store, which asks for more than Badger does by itself:
//
//   - A commit is one Badger transaction, whole or absent after any crash. The limits of package
//     store are sized into the memtable, so that no batch within them is refused (settings.go).
//   - A commit with sync, or a Sync, covers every commit before it, also those in a log that was
//     full meanwhile; and one fsync serves all who wait for it (wal.go).
//   - Values of any size live in the tree, large ones in parts: Badger's value log, which can lose
//     a value alone, stays empty (large.go).
//   - A table that rotted is found at Open, by its name, before Badger could crash over it
//     (verify.go), and who saves the rest reads a copy without it (rotten.go). A panic of Badger's
//     on damaged bytes comes back as store.ErrCorrupt.
//   - A Get of a key that is certainly absent is answered by a filter in memory (presence.go).
//
// # Memory
//
// A memtable has to hold the largest batch seven times over, without its large values, and takes
// 21 MB from its first write on. Under sustained writing there are two or three of them, with the
// tables in the making. That lowers what a collector with a goal for all memory lets others
// allocate between two of its rounds, though there are few pointers to follow. Tables are mapped:
// the kernel counts those of their pages that were read as the process's, and takes them back when
// it needs them. What was only written is let go with each Sync, and all of them when nobody has
// written for a while (resident_linux.go).
//
// Filters take some 10 to 30 bits for each key, 64 MiB at most, and a quarter of a MiB for few keys; in
// a store that was opened with keys, nothing until 20,000 Gets found nothing.
//
// # Caveats
//
// A full disk kills the process with SIGBUS, since Badger maps its files: ask Disk and Free, and
// stop writing in time. Nothing acknowledged is lost, and with room made the store opens again.
//
// Open reads every table once, at the speed of the disk. What rots after that is for the checksums
// of the records to find: tables are not compressed, so damage stays where it is.
//
// A bit that flips in the log of a memtable, between a crash and the next Open, cuts off that log
// there: it looks like the end of a write that the crash interrupted.
//
// Badger's iterators pass over what they cannot read of a table. So if one rots while the store is
// open, a filter that is built then can deny keys behind the damage, which a Get would still have found.
//
// Between the moment at which a log is full and its fsync, in the same commit, a power failure
// could in theory keep later commits and lose earlier ones, if the kernel wrote the new log first.
//
// The conformance suite in store/storetest, a process that is killed, flipped bits and the
// settings are tested in this directory, which holds the benchmarks as well.
package badger

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	dgraph "github.com/dgraph-io/badger/v4"

	"github.com/peerd/peerd/store"
)

// Options are the choices of whoever opens a store. The zero value is a good one.
type Options struct {
	// Logger takes Badger's own messages, cut to 200 bytes: warnings and errors at the level of a
	// warning, the rest for debugging. The default drops them.
	Logger *slog.Logger
	// Rotten has a store opened whose tables have rotted, for who saves what is left of it. What
	// stood in a block that has is not found, or is what was there before it: see Store.Damage.
	// Then it is a copy that is opened, in a directory for temporary files, and ends with Close.
	Rotten bool

	rest     time.Duration  // in place of restAfter
	presence presenceLimits // in place of usualLimits
}

// Store is a store.Store in a directory.
type Store struct {
	dir  string
	db   *dgraph.DB
	lock *os.File // holds the directory
	log  *slog.Logger
	rot  rot  // of the tables; set by open
	copy bool // dir is a copy without what is rotten

	gate  gate          // open while the store is
	quiet chan struct{} // closed when no call is under way after Close

	mu    sync.Mutex  // serializes commits
	large largeValues // guarded by mu

	wal      *wal
	mapped   mapped
	idle     *compactors
	merges   *pace
	presence presence
	failed   atomic.Pointer[error] // why the store takes no more commits
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, which is made if it is not there, and verifies what it holds: its
// time grows with the store (`go -C bench run . bounds open`). One process at a time can hold a
// store.
//
// The error wraps store.ErrLocked when another process does, or this one already, and
// store.ErrCorrupt when the directory does not hold what was written to it. After an error nothing
// was removed or repaired, but for logs without a byte.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, log: opts.Logger, quiet: make(chan struct{}), merges: newPace()}
	s.gate.drained = func() { close(s.quiet) }
	if err := s.open(opts); err != nil {
		s.merges.end()
		s.release() // Its errors would only distract from the first.
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, err), s.removeCopy())
	}
	return s, nil
}

// Unused runs fn while nobody has the store in dir open, nor can open it. The error wraps
// store.ErrLocked if somebody has, and fs.ErrNotExist if there is none.
func Unused(dir string, fn func()) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	fn()
	if lock == nil {
		return nil
	}
	return lock.Close()
}

func (s *Store) open(opts Options) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lockDir(s.dir); err != nil {
		return err
	}
	if err := checkAccess(s.dir); err != nil {
		return err
	}
	if s.rot, err = verifyTables(s.dir, opts.Rotten); err != nil {
		return err
	}
	if s.rot.count > 0 {
		if s.dir, err = s.rot.copyBeside(s.dir); err != nil {
			return err
		}
		s.copy = true
	}
	if err := checkRoom(s.dir); err != nil {
		return err
	}
	if err := dropEmpty(s.dir); err != nil {
		return err
	}
	own := settings(s.dir, opts.Logger, s.merges)
	if opts.Rotten {
		own.NumCompactors, own.NumLevelZeroTablesStall = 0, math.MaxInt // a merge would cut what is linked
	}
	if s.db, err = openDB(own); err != nil {
		return err
	}
	s.merges.db.Store(s.db)
	if s.wal, err = openWAL(s.dir); err != nil {
		return err
	}
	if err := s.large.load(s.db, s.copy); err != nil {
		return err
	}
	empty, err := s.empty()
	if err != nil {
		return err
	}
	s.presence.open(empty, cmp.Or(opts.presence, usualLimits))
	s.idle = watchCompactors(s.db, cmp.Or(opts.rest, restAfter), func() { s.letGo(true) })
	return nil
}

// Damage returns which block of a table has rotted, or which table whose index has, and how many
// more, of those that were read when the store was opened with Options.Rotten; nil if none has.
func (s *Store) Damage() error { return s.rot.err() }

func openDB(opts dgraph.Options) (db *dgraph.DB, err error) {
	defer caught(&err, faultsPanic())
	db, err = dgraph.Open(opts)
	return db, openError(err)
}

// empty reports whether the store has no key.
func (s *Store) empty() (bool, error) {
	if len(s.db.Tables()) > 0 {
		return false, nil // It may take long to find one among what was deleted.
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	c := newCursor(txn, prefixData, nil, nil)
	defer c.close()
	_, found, err := c.next()
	return !found, err
}

// release frees what open acquired, in the opposite order.
func (s *Store) release() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, closeDB(s.db))
	}
	if s.wal != nil {
		errs = append(errs, s.wal.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// removeCopy removes the copy that a rotten store is read in.
func (s *Store) removeCopy() error {
	if !s.copy {
		return nil
	}
	return os.RemoveAll(s.dir)
}

func closeDB(db *dgraph.DB) (err error) {
	defer caught(&err, faultsPanic())
	return brief(db.Close())
}

// Commit implements store.Store. Batches are applied one after the other; concurrent callers that
// ask for sync share an fsync.
func (s *Store) Commit(b *store.Batch, sync bool) error {
	if !s.gate.enter() {
		return store.ErrClosed
	}
	defer s.gate.leave()
	if err := b.Check(); err != nil {
		return err
	}
	if err := s.apply(b); err != nil {
		return err
	}
	if sync {
		return s.flush()
	}
	return nil
}

func (s *Store) apply(b *store.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed.Load(); err != nil {
		return *err
	}
	if b.Len() == 0 {
		return nil
	}
	s.idle.committed()
	s.written(b)
	change, err := s.large.lay(b, s.writeParts)
	if err != nil {
		return s.fail(err)
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	if err := s.large.stage(txn, b, change); err != nil {
		s.large.garbage = append(s.large.garbage, change.laid...)
		return stageError(err)
	}
	if err := txn.Commit(); err != nil {
		if errors.Is(err, dgraph.ErrTxnTooBig) {
			s.large.garbage = append(s.large.garbage, change.laid...)
			return store.ErrBatchTooLarge
		}
		return s.fail(err)
	}
	s.large.adopt(change)
	if err := s.large.sweep(s.db); err != nil {
		return s.fail(err)
	}
	if err := s.wal.committed(); err != nil {
		return s.fail(err)
	}
	return nil
}

// writeParts has a transaction of parts of values committed.
func (s *Store) writeParts(fn func(*dgraph.Txn) error) error {
	if err := s.db.Update(fn); err != nil {
		return err
	}
	return s.wal.committed()
}

// fail makes the store refuse all further commits: after a failed write or fsync nobody knows what
// the disk holds, and trying again would hide it.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w, so that the outcome of a commit is unknown, and the store must be closed: %w",
		store.ErrFailed, brief(cause))
	s.failed.CompareAndSwap(nil, &err)
	return *s.failed.Load()
}

// Sync implements store.Store.
func (s *Store) Sync() error {
	if !s.gate.enter() {
		return store.ErrClosed
	}
	defer s.gate.leave()
	return s.flush()
}

func (s *Store) flush() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	if err := s.wal.sync(); err != nil {
		return s.fail(err)
	}
	s.letGo(false)
	return nil
}

// Size implements store.Store: the blocks that the directory takes on its disk. It costs a look at
// every file.
func (s *Store) Size() int64 {
	var total int64
	filepath.WalkDir(s.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // A file may go at any time: the answer is rough anyway.
		}
		if info, err := entry.Info(); err == nil {
			total += allocated(info)
		}
		return nil
	})
	return total
}

// Close implements store.Store. It waits for the calls that are under way and writes the memtable
// out, so that the next Open has no log to replay. Without room for that it makes the log durable
// and leaves the rest to the end of the process, which holds the directory until then. So it
// does, and writes nothing, after a write or fsync has failed, or if the disk takes no file:
// Badger would try for ever to write the memtable to a disk that takes nothing.
func (s *Store) Close() (err error) {
	if !s.gate.shut() {
		return nil
	}
	s.merges.end() // a commit may wait for one
	<-s.quiet
	defer func() { err = errors.Join(err, s.removeCopy()) }()
	s.presence.close()
	s.idle.end()
	if s.failed.Load() != nil {
		return nil // whoever was told knows that what it had written last is uncertain
	}
	if checkRoom(s.dir) != nil {
		badgerLog{to: s.log}.Warningf("closed without room on the disk: the memtable stays in its log")
		return s.wal.sync()
	}
	if err := takesFiles(s.dir); err != nil {
		return s.fail(err)
	}
	s.idle.wait()
	return s.release()
}

// takesFiles returns an error if the disk would not take a table: one that failed may not have
// been written to by the store itself, but by its owner, beside it.
func takesFiles(dir string) error {
	name := filepath.Join(dir, "closing")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), os.Remove(name))
}
