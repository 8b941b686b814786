package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/peerd/peerd/store"
)

// Sizes of the concurrent test: enough for the race detector to see every pair of calls.
const (
	writers          = 4
	readers          = 4
	commitsPerWriter = 60
	keysPerCommit    = 8
)

// testConcurrency has writers that each give all their keys one number at a time, and readers to
// whom every snapshot must show one number a writer, never lower than before.
func testConcurrency(t *testing.T, s store.Store) {
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		writing.Go(func() { countUp(t, s, w) })
	}
	for range readers {
		reading.Go(func() { watch(t, s, done) })
	}
	writing.Wait()
	close(done)
	reading.Wait()
	now(s, func(view store.Snapshot) {
		for w := range writers {
			expectGet(t, view, counterKey(w, 0), fmt.Sprintf("%06d", commitsPerWriter-1))
		}
	})
}

func counterKey(writer, i int) string { return fmt.Sprintf("writer %d/%d", writer, i) }

func countUp(t *testing.T, s store.Store, writer int) {
	var b store.Batch
	for n := range commitsPerWriter {
		b.Reset()
		for i := range keysPerCommit {
			b.Set([]byte(counterKey(writer, i)), fmt.Appendf(nil, "%06d", n))
		}
		if err := s.Commit(&b, n%16 == 0); err != nil {
			t.Errorf("Commit: %v", err)
			return
		}
		if n%16 == 8 {
			if err := s.Sync(); err != nil {
				t.Errorf("Sync: %v", err)
			}
		}
	}
}

// watch reads until done is closed, each snapshot from two goroutines at once.
func watch(t *testing.T, s store.Store, done <-chan struct{}) {
	var seen [writers]string
	for {
		select {
		case <-done:
			return
		default:
		}
		view := s.Snapshot()
		var other sync.WaitGroup
		other.Go(func() {
			if err := view.ScanKeys(nil, nil, func([]byte) bool { return true }); err != nil {
				t.Errorf("ScanKeys: %v", err)
			}
		})
		for w := range seen {
			seen[w] = expectWhole(t, view, w, seen[w])
		}
		other.Wait()
		view.Close()
	}
}

// expectWhole returns the number under a writer's first key, which the others must hold too.
func expectWhole(t *testing.T, view store.Snapshot, writer int, before string) string {
	value, _, err := view.Get([]byte(counterKey(writer, 0)))
	first := string(value)
	if err != nil || first < before {
		t.Errorf("writer %d: %q after %q, %v", writer, first, before, err)
	}
	prefix := fmt.Sprintf("writer %d/", writer)
	err = view.Scan([]byte(prefix), []byte(prefix+"\xff"), func(key, value []byte) bool {
		if string(value) != first {
			t.Errorf("%s is %s and another key of its batch %s", key, value, first)
		}
		return true
	})
	if err != nil {
		t.Errorf("Scan: %v", err)
	}
	return first
}
