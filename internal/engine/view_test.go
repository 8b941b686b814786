package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerd/peerd/crdt"
)

// TestAViewIsOneMomentWhileGroupsCommit reads views in goroutines of their own, beside groups that write, clear and delete, the sweep,
// and checkpoints, with next to no memory. Each group gives all keys one text, so a view has one.
func TestAViewIsOneMomentWhileGroupsCommit(t *testing.T) {
	const keys, rounds = 30, 150
	r := openOn(t, newDisk(), 1)
	r.SetMemory(20<<10, 10<<10)
	var readers sync.WaitGroup
	var over atomic.Bool
	defer func() { over.Store(true); readers.Wait() }()
	for range 2 {
		readers.Go(func() {
			for !over.Load() {
				v := r.View()
				if err := sameEverywhere(v, keys); err != nil {
					t.Error(err)
					over.Store(true)
				}
				v.Close()
			}
		})
	}
	for round := 0; round < rounds && !over.Load(); round++ {
		g := r.newGroup(testStart)
		must(t, g.update(func(tx *Tx) error {
			f := Fields(tx)
			if round%10 == 0 {
				if _, err := f.Clear(); err != nil {
					return err
				}
			}
			for i := range keys {
				if err := putRound(f, fmt.Sprint("k", i), round); err != nil {
					return err
				}
			}
			return nil
		}))
		_, err := g.Commit(false)
		must(t, err)
		for more := round%5 == 0; more && err == nil; {
			more, err = r.Sweep()
		}
		must(t, err)
		_, err = r.Maintain(testStart)
		must(t, err)
	}
}

// putRound gives a key a text, or takes it away.
func putRound(f crdt.Fields, key string, round int) error {
	if round%7 == 6 {
		_, err := f.Remove(key)
		return err
	}
	return f.String(key).Set(fmt.Appendf(nil, "%01000d", round))
}

// sameEverywhere returns an error unless all keys of a view have the same text, or none is there.
func sameEverywhere(v *View, keys int) error {
	f := Fields(v)
	first, exists := f.String("k0").Get()
	for i := range keys {
		key := fmt.Sprint("k", i)
		if text, ok := f.String(key).Get(); ok != exists || string(text) != string(first) || f.Has(key) != exists {
			return fmt.Errorf("k0 is %.8s… (%t), and %s is %.8s… (%t)", first, exists, key, text, ok)
		}
	}
	listed := 0
	for range f.All() {
		listed++
	}
	if count, _, _ := v.KeyCount(); count != listed || exists != (listed == keys) || !exists && listed > 0 {
		return fmt.Errorf("%d keys are listed, %d counted, and k0 is there: %t", listed, count, exists)
	}
	return f.Err()
}
