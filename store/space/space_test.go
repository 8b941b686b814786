package space_test

import (
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
	"github.com/peerd/peerd/store/space"
	"github.com/peerd/peerd/store/storetest"
)

func TestATreeKeepsTheContract(t *testing.T) {
	for _, n := range []space.Number{0, 7, 0x00ff, 0xffff} {
		storetest.RunDivided(t, func(*testing.T) store.Store { return mem.New() },
			func(whole store.Store) (part, beside store.Store) {
				return space.NewTree(whole, n), space.NewTree(whole, n^1)
			})
	}
}

func TestATreeOnDiskKeepsTheContract(t *testing.T) {
	storetest.RunDivided(t, func(t *testing.T) store.Store { return openBadger(t, t.TempDir()) },
		func(whole store.Store) (part, beside store.Store) {
			return space.NewTree(whole, 7), space.NewTree(whole, 8)
		})
}

func openBadger(t testing.TB, dir string) store.Store {
	t.Helper()
	st, err := badger.Open(dir, badger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}
