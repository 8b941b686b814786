package badger

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerd/peerd/store"
)

func waiting(n int) func() int { return func() int { return n } }

func TestTablesAreWrittenOneAfterTheOtherUnlessManyWait(t *testing.T) {
	const took = 20 * time.Millisecond
	for tables, each := range map[int]time.Duration{ // how long later each begins than the one before
		0:                   restShare * took,
		easy:                restShare * took,
		(easy + urgent) / 2: restShare * took / 2,
		urgent:              0,
		l0Stall:             0,
	} {
		synctest.Test(t, func(t *testing.T) {
			p, began := newPace(), time.Now()
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() { p.wait(took, waiting(tables)) })
			}
			all.Wait()
			if took := time.Since(began); took != 4*each {
				t.Errorf("with %d memtables the last of five began after %v, want %v", tables, took, 4*each)
			}
		})
	}
}

func TestWhatStoodStillForLongIsNotWaitedForAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(), time.Now()
		p.wait(time.Hour, waiting(0))
		p.wait(time.Hour, waiting(0))
		if took := time.Since(began); took != restShare*longest {
			t.Errorf("a table is begun %v after one that took an hour", took)
		}
	})
}

func TestNobodyWaitsOnOnceItIsUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(), time.Now()
		p.wait(longest, waiting(0))
		p.wait(longest, func() int {
			if time.Since(began) > longest {
				return urgent
			}
			return 0
		})
		if took := time.Since(began); took > longest+lookAgain {
			t.Errorf("a table is begun %v later, %v after it had become urgent", took, took-longest)
		}
	})
}

func TestAClosingStoreWaitsForNoPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(), time.Now()
		p.wait(longest, waiting(0))
		var all sync.WaitGroup
		all.Go(func() { p.wait(longest, waiting(0)) })
		synctest.Wait()
		p.end()
		all.Wait()
		p.wait(longest, waiting(0))
		if took := time.Since(began); took != 0 {
			t.Errorf("merges waited for %v more", took)
		}
	})
}

// If Badger no longer says when it has gone through a table this fails, and nothing is paced.
func TestMergesArePaced(t *testing.T) {
	dir := t.TempDir()
	for i := range l0Tables + 1 { // closing writes a table each time
		s := openResting(t, dir, time.Hour)
		var b store.Batch
		b.Set([]byte("k"), []byte{byte(i)})
		if err := errors.Join(s.Commit(&b, false), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s := openResting(t, dir, time.Hour)
	defer s.Close()
	if err := s.db.Flatten(1); err != nil {
		t.Fatal(err)
	}
	s.merges.mu.Lock()
	defer s.merges.mu.Unlock()
	if s.merges.next.IsZero() {
		t.Error("a merge had no turn")
	}
}
