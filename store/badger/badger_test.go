package badger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/storetest"
)

func open(t testing.TB, dir string) *badger.Store {
	t.Helper()
	s, err := badger.Open(dir, badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheDurableStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return open(t, dir) })
}

func TestASecondOpeningIsRefusedInOneLine(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	_, err := badger.Open(dir, badger.Options{})
	if !errors.Is(err, store.ErrLocked) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second opening: %v, want %v", err, store.ErrLocked)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFreeSpaceIsThatOfTheFileSystem(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	free, err := s.Free()
	if err != nil || free == 0 {
		t.Errorf("Free() = %d, %v", free, err)
	}
}
