package badger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peerd/peerd/store"
)

func openTemp(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// set commits one write.
func set(t *testing.T, s *Store, key string, value []byte) {
	t.Helper()
	var b store.Batch
	b.Set([]byte(key), value)
	if err := s.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
}

// TestCommitsAreFollowedFromLogToLog guards what wal.go relies on: how Badger names its logs, and
// that it makes the next one before the first commit goes there.
func TestCommitsAreFollowedFromLogToLog(t *testing.T) {
	s := openTemp(t)
	first := s.wal.number
	value := make([]byte, partSize)
	for i := 0; s.wal.number < first+2; i++ {
		if i > 3*memTableSize/partSize {
			t.Fatalf("after %d commits the log is number %d, it began at %d", i, s.wal.number, first)
		}
		set(t, s, fmt.Sprint(i), value)
		numbers, err := memTables(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		if newest := numbers[len(numbers)-1]; s.wal.number != newest {
			t.Fatalf("commit %d was followed to log %d, the newest is %d", i, s.wal.number, newest)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if s.wal.synced != s.wal.commits.Load() {
		t.Errorf("%d of %d commits are durable", s.wal.synced, s.wal.commits.Load())
	}
}

// TestALogWithoutAByteIsNoDamage makes the newest, as a process leaves it that is killed while it
// makes it, and older ones, as it leaves them that is killed while Badger removes them.
func TestALogWithoutAByteIsNoDamage(t *testing.T) {
	s := openTemp(t)
	if err := s.Close(); err != nil { // there are two logs of values then, once it is opened
		t.Fatal(err)
	}
	s, err := Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set(t, s, "key", []byte("value"))
	for _, logs := range [][]string{
		{memTable("", s.wal.number+1), "000007.vlog"},
		{memTable("", s.wal.number-1), "000001.vlog"},
	} {
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
		for _, log := range logs {
			if err := os.WriteFile(filepath.Join(killed, log), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		after, err := Open(killed, Options{})
		if err != nil {
			t.Errorf("%v have no byte: %v", logs, err)
			continue
		}
		view := after.Snapshot()
		if value, _, err := view.Get([]byte("key")); err != nil || string(value) != "value" {
			t.Errorf("%v have no byte: %q is there: %v", logs, value, err)
		}
		view.Close()
		after.Close()
	}
}

func TestASyncThatOthersDidIsNotDoneAgain(t *testing.T) {
	s := openTemp(t)
	set(t, s, "key", nil)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.wal.active.Close() // A second fsync would fail.
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
}

func TestAStoreWhoseSyncFailedTakesNoMoreCommits(t *testing.T) {
	s := openTemp(t)
	s.wal.active.Close()
	var b store.Batch
	b.Set([]byte("key"), []byte("value"))
	for _, sync := range []bool{true, false} {
		err := s.Commit(&b, sync)
		if !errors.Is(err, store.ErrFailed) || strings.Contains(err.Error(), "\n") {
			t.Errorf("commit with sync %v: %v", sync, err)
		}
	}
	if err := s.Sync(); !errors.Is(err, store.ErrFailed) {
		t.Errorf("Sync returns %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Commit(&b, false); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a commit after Close: %v", err)
	}
	// On a disk that takes nothing Badger would try again for ever.
	if tables, err := filesOf(s.dir, ".sst"); err != nil || len(tables) > 0 {
		t.Errorf("Close wrote %v (%v)", tables, err)
	}
}
