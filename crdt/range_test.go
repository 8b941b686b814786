package crdt

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRangeSkipsWhatIsInsideAContainer(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx Tx) error {
		for i := range 500 {
			if err := second(Root(tx).Set("big").Add(strconv.Itoa(i))); err != nil {
				return err
			}
			f := Root(tx).Map("deep").Map(strconv.Itoa(i % 3))
			if err := f.Register(strconv.Itoa(i)).Set(nil); err != nil {
				return err
			}
		}
		return Root(tx).Flag("zzz").Enable()
	})
	tx := &countingTx{Tx: &stateTx{state: s}}
	var names []string
	err := Root(tx).Range(func(name string, typ Type) bool {
		names = append(names, name+":"+string(typ))
		return true
	})
	if want := "big:s deep:m zzz:f"; err != nil || strings.Join(names, " ") != want {
		t.Errorf("range: %q, %v, want %s", names, err, want)
	}
	if limit := 2*(walkSteps+1) + 3; tx.scanned > limit {
		t.Errorf("range looked at %d cells of 1001, limit %d", tx.scanned, limit)
	}
}

// placesTx scans in the order of places, as a store does that cannot keep long names in its keys.
type placesTx struct{ *stateTx }

func (p placesTx) Scan(prefix, after Address, fn func(Address, Cell) bool) error {
	var cells []addressed
	p.state.scan(prefix, "", func(a Address, c Cell) bool {
		if after == "" || ComparePlaces(a, after) > 0 {
			cells = append(cells, addressed{a, c})
		}
		return true
	})
	slices.SortFunc(cells, func(a, b addressed) int { return ComparePlaces(a.at, b.at) })
	for _, c := range cells {
		if !fn(c.at, c.cell) {
			return nil
		}
	}
	return nil
}

// drawLongName draws names that are short, or long with the same beginning.
func drawLongName(t *rapid.T) string {
	tail := drawName(t, "tail")
	if rapid.Bool().Draw(t, "long") {
		return strings.Repeat("x", rapid.SampledFrom([]int{126, 128, 255, 256}).Draw(t, "x")) + tail
	}
	return tail
}

func TestRangeAfterMeetsEachNameOnceInWhateverOrderCellsAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		names := rapid.SliceOfDistinct(rapid.Custom(drawLongName), func(name string) string {
			return name
		}).Draw(t, "names")
		_, err := s.Update(1, epochStart, func(tx Tx) error {
			for _, name := range names {
				m := Root(tx).Map("m")
				for i := range rapid.IntRange(1, walkSteps+8).Draw(t, "cells") {
					if err := second(m.Set(name).Add(strconv.Itoa(i))); err != nil {
						return err
					}
				}
				if err := second(Root(tx).Set("s").Add(name)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		tx := &stateTx{state: s}
		for _, order := range []Tx{tx, placesTx{tx}} {
			met := page(t, Root(order).Map("m").Range, Root(order).Map("m").RangeAfter)
			slices.Sort(met)
			if !slices.Equal(met, names) {
				t.Fatalf("%T: fields %q, want %q", order, met, names)
			}
			set := Root(order).Set("s")
			met = page(t, typeless(set.Range), func(after string, fn func(string, Type) bool) error {
				return typeless(func(fn func(string) bool) error {
					return set.RangeAfter(after, fn)
				})(fn)
			})
			slices.Sort(met)
			if !slices.Equal(met, names) {
				t.Fatalf("%T: elements %q, want %q", order, met, names)
			}
		}
	})
}

func typeless(f func(fn func(string) bool) error) func(fn func(string, Type) bool) error {
	return func(fn func(string, Type) bool) error {
		return f(func(name string) bool { return fn(name, TypeSet) })
	}
}

// page ranges two names at a time, each page from where the one before ended.
func page(t *rapid.T,
	from func(fn func(string, Type) bool) error,
	after func(after string, fn func(string, Type) bool) error,
) (met []string) {
	for {
		before := len(met)
		collect := func(name string, _ Type) bool {
			met = append(met, name)
			return len(met) < before+2
		}
		var err error
		if before == 0 {
			err = from(collect)
		} else {
			err = after(met[before-1], collect)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(met) < before+2 {
			return met
		}
	}
}
