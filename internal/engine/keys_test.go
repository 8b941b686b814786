package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// lister lists keys: a view, or a transaction with writes of its own.
type lister interface {
	Keys(prefix, after string, fn func(string, dotted.Summary) bool) error
}

// TestKeysAreListedEachOnceInTheOrderOfPlaces lists keys in pages, in a transaction to which some are new
// and from which some are gone, and in a view. Long names that share their beginning sort by a hash.
func TestKeysAreListedEachOnceInTheOrderOfPlaces(t *testing.T) {
	for seed := uint64(1); seed <= (*seedsFlag+4)/5; seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		if err := listKeys(t, seed); err != nil {
			t.Fatalf("%v\nreplay: go test ./internal/engine -run TestKeysAreListed -seed %d", err, seed)
		}
		if *seedFlag != 0 {
			break
		}
	}
}

func listKeys(t *testing.T, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(t, seed, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	exist := map[string]bool{}
	for round := range 4 { // on an empty store, and on what the rounds before left, in the tree or not
		if round == 2 {
			must(t, r.Save(w.now))
		}
		g := r.newGroup(w.now)
		err := g.update(func(tx *Tx) error {
			return errors.Join(writeNames(tx, rng, exist), checkKeys(tx, rng, exist))
		})
		if err == nil {
			_, err = g.Commit(false)
		}
		if err != nil {
			return err
		}
		v := r.View()
		err = checkKeys(v, rng, exist)
		v.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAScanStaysUnderItsPrefixWhereverItGoesOn goes on from a place that lies before the prefix.
func TestAScanStaysUnderItsPrefixWhereverItGoesOn(t *testing.T) {
	w := newWorld(t, 1, worldConfig{hosts: 1})
	r := w.hosts[0].engine.replica
	scan := func(tx dotted.Tx) {
		t.Helper()
		var got []string
		from := dotted.KeyAddress("a").Type(crdt.TypeFlag)
		err := tx.Scan(dotted.KeyAddress("c"), from, func(a dotted.Address, _ dotted.Cell) bool {
			got = append(got, a.Key())
			return true
		})
		if err != nil || !slices.Equal(got, []string{"c"}) {
			t.Errorf("%T: cells of %q (%v), want one of c", tx, got, err)
		}
	}
	g := r.newGroup(w.now)
	err := g.update(func(tx *Tx) error {
		for _, key := range []string{"a", "b", "c", "d"} {
			if err := Fields(tx).Flag(key).Set(true); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		_, err = g.Commit(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := r.View()
	defer v.Close()
	scan(v)
	g = r.newGroup(w.now)
	defer g.discard()
	if err := g.update(func(tx *Tx) error { scan(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

// drawName draws one of some names, of which most are longer than a place keeps, or nearly.
func drawName(rng *rand.Rand) string {
	heads := []string{"", strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("a", 255),
		strings.Repeat("a", 128) + "\x00", strings.Repeat("a", 300), strings.Repeat("b", 300)}
	return heads[rng.IntN(len(heads))] + string([]byte("\x00ab\xff")[rng.IntN(4)]) + fmt.Sprint(rng.IntN(9))
}

// writeNames makes some keys and deletes some.
func writeNames(tx *Tx, rng *rand.Rand, exist map[string]bool) error {
	if rng.IntN(4) == 0 {
		clear(exist)
		if err := tx.Clear(""); err != nil {
			return err
		}
	}
	for range 60 {
		name := drawName(rng)
		if rng.IntN(3) > 0 {
			exist[name] = true
			if err := writeUnder(Fields(tx), rng, name); err != nil {
				return err
			}
			continue
		}
		delete(exist, name)
		if _, err := Fields(tx).Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// writeUnder writes a string, something else, or more than keys are gone through cell by cell, under a key.
func writeUnder(f crdt.Fields, rng *rand.Rand, name string) error {
	switch rng.IntN(20) {
	case 0, 1, 2:
		return f.Flag(name).Set(true)
	case 3, 4, 5:
		return f.Map(name).Flag("z").Set(true)
	case 6:
		for i := range 2 * passedBy {
			if _, err := f.Set(name).Add(fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	}
	return f.String(name).Set([]byte("x"))
}

// checkKeys compares what is listed, under prefixes and beyond names of all kinds, with what exists.
func checkKeys(from lister, rng *rand.Rand, exist map[string]bool) error {
	prefix := drawName(rng)
	prefixes := []string{"", prefix, prefix[:rng.IntN(len(prefix))], strings.Repeat("a", 130)}
	for _, prefix := range prefixes {
		for _, beyond := range []string{"", drawName(rng), prefix} {
			var want []string
			for name := range exist {
				if strings.HasPrefix(name, prefix) && (beyond == "" || comparePlaces(name, beyond) > 0) {
					want = append(want, name)
				}
			}
			slices.SortFunc(want, comparePlaces)
			got, err := pages(from, prefix, beyond, 1+rng.IntN(5))
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%T: with the prefix %q, beyond %q: %d keys are listed in pages, want %d, "+
					"or their order is wrong", from, prefix, beyond, len(got), len(want))
			}
		}
	}
	return nil
}

func comparePlaces(a, b string) int {
	return cmp.Compare(dotted.KeyAddress(a).Place(), dotted.KeyAddress(b).Place())
}

// pages lists keys some at a time, each page from where the one before ended.
func pages(from lister, prefix, beyond string, size int) (names []string, err error) {
	for n := size; n == size && err == nil; {
		n = 0
		err = from.Keys(prefix, beyond, func(name string, _ dotted.Summary) bool {
			names, beyond = append(names, name), name
			n++
			return n < size
		})
	}
	return names, err
}
