package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// TestAScanThatEndsSoonLooksAtFewCells has a transaction ask for the length of a bitmap before it sets each bit, as
// SETBIT does.
func TestAScanThatEndsSoonLooksAtFewCells(t *testing.T) {
	walked := func(bits int) int {
		return walkedBy(t, func(f crdt.Fields) error {
			b := f.Bitmap("b")
			for i := range bits {
				if size := b.Len(); size != i*crdt.ChunkSize {
					return fmt.Errorf("the bitmap has %d bytes, want %d", size, i*crdt.ChunkSize)
				}
				if _, err := b.SetBit((i+1)*crdt.ChunkSize*8-1, true); err != nil {
					return err
				}
			}
			return nil
		})
	}
	const bits = 300
	if few, many := walked(bits), walked(10*bits); many > 20*few {
		t.Errorf("%d bits look at %d cells, ten times as many at %d", bits, few, many)
	}
}

// TestAScanPassesWhatThereIsWhenItBegins has a transaction scan what the store has and what it wrote itself, and
// meanwhile look at cells ahead and add some.
func TestAScanPassesWhatThereIsWhenItBegins(t *testing.T) {
	const members = 1000
	member := func(i int) string { return fmt.Sprintf("%04d", i) }
	add := func(f crdt.Fields, from int) error {
		for i := from; i < members; i += 2 {
			if _, err := f.Set("s").Add(member(i)); err != nil {
				return err
			}
		}
		return nil
	}
	w := newWorld(t, 1, worldConfig{hosts: 1})
	w.write(t, w.hosts[0], func(f crdt.Fields) error { return add(f, 0) })
	set := dotted.KeyAddress("s").Type(crdt.TypeSet)
	g := w.hosts[0].engine.newGroup(w.now)
	check := func(tx *Tx, behind int, meanwhile func(name string)) {
		t.Helper()
		var got, want []string
		for i := behind + 1; i < members; i++ {
			want = append(want, member(i))
		}
		must(t, tx.Scan(set, set.Name(member(behind)), func(a dotted.Address, _ dotted.Cell) bool {
			name, _, _ := a[len(set):].CutName()
			got = append(got, name)
			meanwhile(name)
			return len(got) < 2*members
		}))
		if !slices.Equal(got, want) {
			t.Errorf("behind %d: it passes %q", behind, got)
		}
	}
	must(t, g.update(func(tx *Tx) error {
		s := Fields(tx).Set("s")
		if err := add(Fields(tx), 1); err != nil {
			return err
		}
		check(tx, 500, func(string) {})
		check(tx, 0, func(name string) {
			for i := range 3 {
				s.Has(name[:3] + fmt.Sprint(3*i))
			}
			if _, err := s.Add(name + "x"); err != nil {
				t.Error(err)
			}
		})
		return nil
	}))
	_, err := g.Commit(false)
	must(t, err)
}

// TestWhoClearsOneKeyAfterTheOtherLooksAtWhatWasCountedThere and not at what was counted on all others.
func TestWhoClearsOneKeyAfterTheOtherLooksAtWhatWasCountedThere(t *testing.T) {
	walked := func(keys int) int {
		return walkedBy(t, func(f crdt.Fields) error {
			for i := range keys {
				key := fmt.Sprint(i)
				for field := range 20 { // more than are removed one by one
					if _, err := f.Map(key).Counter(fmt.Sprint(field)).Add(1); err != nil {
						return err
					}
				}
				if _, err := f.Remove(key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	const keys = 30
	if few, many := walked(keys), walked(10*keys); few == 0 || many > 20*few {
		t.Errorf("%d keys look at %d counts, ten times as many at %d", keys, few, many)
	}
}

// walkedBy returns at how many cells of its own a group looks because of a transaction.
func walkedBy(t *testing.T, fn func(crdt.Fields) error) int {
	t.Helper()
	w := newWorld(t, 1, worldConfig{hosts: 1})
	g := w.hosts[0].engine.newGroup(w.now)
	must(t, g.update(func(tx *Tx) error { return fn(Fields(tx)) }))
	n := g.walked
	_, err := g.Commit(false)
	must(t, err)
	return n
}
