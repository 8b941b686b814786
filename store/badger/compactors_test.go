package badger

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/storetest"
)

func openResting(t *testing.T, dir string, after time.Duration) *Store {
	t.Helper()
	s, err := Open(dir, Options{rest: after})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// compacting returns how many compactors there are in the process.
func compacting() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(".runCompactor("))
}

func awaitCompactors(t *testing.T, want func(int) bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for now := range time.Tick(time.Millisecond) {
		n := compacting()
		if want(n) {
			return
		}
		if now.After(deadline) {
			t.Fatalf("there are %d compactors", n)
		}
	}
}

func TestCompactorsRestUntilSomethingIsWritten(t *testing.T) {
	others := compacting()
	s := openResting(t, t.TempDir(), 50*time.Millisecond)
	defer s.Close()
	for range 3 {
		awaitCompactors(t, func(n int) bool { return n == others })
		awaitCompactors(t, func(n int) bool {
			var b store.Batch
			b.Set([]byte("k"), []byte("v"))
			if err := s.Commit(&b, false); err != nil {
				t.Fatal(err)
			}
			return n == others+2
		})
	}
}

// The compactors of this store rest between nearly any two commits.
func TestAStoreWhoseCompactorsOftenRestKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openResting(t, t.TempDir(), time.Microsecond) })
}
