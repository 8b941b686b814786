package badger

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	dgraph "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sys/unix"
)

// mapped is what is known of the tables that the process has mapped.
type mapped struct {
	mu   sync.Mutex
	seen map[uint64]bool // those that were let go
}

// letGo takes tables that are new since the last call out of the memory that counts as the process's.
// Badger writes a table through its mapping, so that all its pages are there, until it is merged
// into another. The kernel's cache has them as before, and gives back those that are read, without
// the disk. A table is let go once: what readers have of it afterwards stays, until nobody has written
// for a while, when all are.
//
// Nothing but a table may be at an address that is let go, or memory of the process's own would be
// lost. So an iterator is open meanwhile, which keeps mapped whatever table is there both before it
// is opened and afterwards. If the kernel does not say what is mapped where, the pages stay.
func (s *Store) letGo(all bool) {
	var damage error // is for readers to say: the pages stay
	defer caught(&damage, faultsPanic())
	s.mapped.mu.Lock()
	defer s.mapped.mu.Unlock()
	before := s.tables()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	defer txn.NewIterator(dgraph.IteratorOptions{}).Close()
	held, fresh := map[uint64]bool{}, map[string]bool{}
	for id := range s.tables() {
		if before[id] {
			held[id] = true
			if all || !s.mapped.seen[id] {
				fresh[table.IDToFilename(id)] = true
			}
		}
	}
	if s.mapped.seen = held; len(fresh) > 0 {
		eachMapping(s.dir, func(name string, start, end uintptr) {
			if fresh[name] {
				unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
			}
		})
	}
}

// tables returns the numbers of all tables that there are.
func (s *Store) tables() map[uint64]bool {
	all := map[uint64]bool{}
	for _, t := range s.db.Tables() {
		all[t.ID] = true
	}
	return all
}

// eachMapping calls fn with the shared mappings of the files of a directory.
func eachMapping(dir string, fn func(name string, start, end uintptr)) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	maps, failed := os.ReadFile("/proc/self/maps")
	if err != nil || failed != nil {
		return
	}
	for line := range bytes.Lines(maps) { // 7f00-7f20 rw-s 00000000 fe:00 1234    /dir/name
		at, path, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), "/")
		name, ours := strings.CutPrefix("/"+path, dir+"/")
		fields := strings.Fields(at)
		if !ours || len(fields) < 2 || !strings.HasSuffix(fields[1], "s") {
			continue
		}
		first, last, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(first, 16, 64)
		end, failed := strconv.ParseUint(last, 16, 64)
		if err == nil && failed == nil {
			fn(name, uintptr(start), uintptr(end))
		}
	}
}
