package mem_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/storetest"
)

func TestTheMemoryStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return mem.New() })
}

// write commits key under itself.
func write(t *testing.T, s store.Store, key string, sync bool) {
	t.Helper()
	var b store.Batch
	b.Set([]byte(key), []byte(key))
	if err := s.Commit(&b, sync); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, s store.Store, want ...string) {
	t.Helper()
	snap := s.Snapshot()
	defer snap.Close()
	var got []string
	err := snap.ScanKeys(nil, nil, func(key []byte) bool {
		got = append(got, string(key))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestACrashKeepsWhatWasSyncedAndNothingElse(t *testing.T) {
	s := mem.New()
	write(t, s, "a", false)
	write(t, s, "b", true)
	write(t, s, "c", false)
	found := s.Crash()
	expect(t, found, "a", "b")
	if err := s.Sync(); err != store.ErrClosed {
		t.Errorf("the crashed store answers %v, want %v", err, store.ErrClosed)
	}

	write(t, found, "d", false)
	if err := found.Sync(); err != nil {
		t.Fatal(err)
	}
	write(t, found, "e", false)
	expect(t, found.Crash(), "a", "b", "d")
}

func TestACrashAfterACleanCloseLosesNothing(t *testing.T) {
	s := mem.New()
	write(t, s, "a", false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, s.Crash(), "a")
}

func TestACloneAndItsOriginalGoSeparateWays(t *testing.T) {
	s := mem.New()
	write(t, s, "a", false)
	clone := s.Clone()
	write(t, s, "b", false)
	write(t, clone, "c", false)
	expect(t, s, "a", "b")
	expect(t, clone, "a", "c")
	expect(t, clone.Crash(), "a")
}
