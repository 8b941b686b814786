package crdt

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

func TestALoopOverNamesSkipsWhatIsInsideAContainer(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		for i := range 500 {
			if err := second(fieldsOf(tx).Set("big").Add(strconv.Itoa(i))); err != nil {
				return err
			}
			f := fieldsOf(tx).Map("deep").Map(strconv.Itoa(i % 3))
			if err := f.Register(strconv.Itoa(i)).Set(nil); err != nil {
				return err
			}
		}
		return fieldsOf(tx).Flag("zzz").Set(true)
	})
	tx := &countingTx{Tx: &stateTx{state: s}}
	var names []string
	for name, types := range fieldsOf(tx).All() {
		names = append(names, name+":"+types.String())
	}
	if want := "big:set deep:map zzz:flag"; strings.Join(names, " ") != want {
		t.Errorf("names: %q, want %s", names, want)
	}
	if limit := 2*(walkSteps+1) + 3; tx.scanned > limit {
		t.Errorf("the loop looked at %d cells of 1001, limit %d", tx.scanned, limit)
	}
}

// placesTx scans in the order of places, as a store does that cannot keep long names in its keys.
type placesTx struct{ *stateTx }

func (p placesTx) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	var cells []addressed
	p.state.scan(prefix, "", func(a dotted.Address, c dotted.Cell) bool {
		if after == "" || dotted.ComparePlaces(a, after) > 0 {
			cells = append(cells, addressed{a, c})
		}
		return true
	})
	slices.SortFunc(cells, func(a, b addressed) int { return dotted.ComparePlaces(a.at, b.at) })
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

func TestPagesMeetEachNameOnceInWhateverOrderCellsAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		names := rapid.SliceOfDistinct(rapid.Custom(drawLongName), func(name string) string {
			return name
		}).Draw(t, "names")
		_, err := s.update(1, epochStart, func(tx dotted.Tx) error {
			for _, name := range names {
				m := fieldsOf(tx).Map("m")
				for i := range rapid.IntRange(1, walkSteps+8).Draw(t, "cells") {
					if err := second(m.Set(name).Add(strconv.Itoa(i))); err != nil {
						return err
					}
				}
				if err := second(fieldsOf(tx).Set("s").Add(name)); err != nil {
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
		for _, order := range []dotted.Tx{tx, placesTx{tx}} {
			fields := func(after *string) iter.Seq[string] {
				all := fieldsOf(order).Map("m").All()
				if after != nil {
					all = fieldsOf(order).Map("m").AllAfter(*after)
				}
				return func(yield func(string) bool) {
					all(func(name string, _ Types) bool { return yield(name) })
				}
			}
			elements := func(after *string) iter.Seq[string] {
				if after != nil {
					return fieldsOf(order).Set("s").AllAfter(*after)
				}
				return fieldsOf(order).Set("s").All()
			}
			for what, all := range map[string]func(*string) iter.Seq[string]{
				"fields": fields, "elements": elements,
			} {
				met := page(all)
				slices.Sort(met)
				if !slices.Equal(met, names) {
					t.Fatalf("%T: %s %q, want %q", order, what, met, names)
				}
			}
		}
	})
}

// page passes two names at a time, each page from where the one before ended.
func page(all func(after *string) iter.Seq[string]) (met []string) {
	for {
		before := len(met)
		var after *string
		if before > 0 {
			after = &met[before-1]
		}
		for name := range all(after) {
			if met = append(met, name); len(met) == before+2 {
				break
			}
		}
		if len(met) < before+2 {
			return met
		}
	}
}

// A loop passes what was there when it began, whatever its body writes.
func TestTheBodyOfALoopMayWrite(t *testing.T) {
	const many = 3 * lastPart
	fill := func(tx dotted.Tx) error {
		for i := range many {
			name := fmt.Sprintf("%04d", i)
			err := errors.Join(second(fieldsOf(tx).Set("s").Add(name)),
				fieldsOf(tx).Map("m").String(name).Set([]byte(name)), fieldsOf(tx).Flag(name).Set(true))
			if err != nil {
				return err
			}
		}
		return nil
	}
	for what, empty := range map[string]func(f Fields) (met int, err error){
		"elements": func(f Fields) (met int, err error) {
			for elem := range f.Set("s").All() {
				met++
				err = errors.Join(err, second(f.Set("s").Remove(elem)))
			}
			return met, err
		},
		"fields": func(f Fields) (met int, err error) {
			for name := range f.Map("m").All() {
				met++
				err = errors.Join(err, second(f.Map("m").Remove(name)))
			}
			return met, err
		},
		"strings": func(f Fields) (met int, err error) {
			for name, value := range f.Map("m").Strings() {
				if name == string(value) {
					met++
				}
				err = errors.Join(err, f.Map("m").Flag(name).Set(true), second(f.Map("m").String(name).Clear()))
			}
			return met, err
		},
		"keys": func(f Fields) (met int, err error) {
			for name := range f.AllAfter("/") {
				if name < "a" {
					met++
					err = errors.Join(err, second(f.Remove(name)))
				}
			}
			return met, err
		},
	} {
		s := NewState()
		mustUpdate(t, s, 1, fill)
		mustUpdate(t, s, 1, func(tx dotted.Tx) error {
			met, err := empty(fieldsOf(tx))
			if met != many {
				t.Errorf("%s: the loop met %d of %d", what, met, many)
			}
			return err
		})
	}
}

func TestAViewShowsNothingOfLaterUpdates(t *testing.T) {
	s := NewState()
	add := func(elem string) {
		mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Add(elem)) })
	}
	add("a")
	view := s.View()
	for elem := range view.Set("s").All() {
		add(elem + elem)
	}
	if got := slices.Collect(view.Set("s").All()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the view shows %q", got)
	}
	if n := s.View().Set("s").Len(); n != 2 {
		t.Errorf("the state has %d elements, want 2", n)
	}
}

// failingTx fails one read, after some others.
type failingTx struct {
	dotted.Tx
	left int
}

var errRead = errors.New("a read failed on purpose")

func (f *failingTx) read() error {
	if f.left--; f.left == -1 {
		return errRead
	}
	return nil
}

func (f *failingTx) Cell(a dotted.Address) (dotted.Cell, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	return f.Tx.Cell(a)
}

func (f *failingTx) Element(container dotted.Address, name string) (dotted.Cell, error) {
	return f.Cell(container.Name(name))
}

func (f *failingTx) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) (err error) {
	scan := f.Tx.Scan(prefix, after, func(a dotted.Address, c dotted.Cell) bool {
		err = f.read()
		return err == nil && fn(a, c)
	})
	return errors.Join(scan, err)
}

func (f *failingTx) Summary(key string) (dotted.Summary, error) {
	if err := f.read(); err != nil {
		return dotted.Summary{}, err
	}
	return f.Tx.Summary(key)
}

// After a read that failed nothing is passed as whole that is not, and nothing is written.
func TestAReadThatFailedEndsItsTransaction(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		return errors.Join(second(fieldsOf(tx).Set("s").Add("a")), second(fieldsOf(tx).Set("s").Add("b")),
			fieldsOf(tx).Map("m").Flag("x").Set(true), second(fieldsOf(tx).Map("m").Set("x").Add("a")))
	})
	read := func(f Fields) (whole bool) {
		elems := slices.Collect(f.Set("s").All())
		whole = f.Map("m").Types("x").String() == "set, flag"
		for name, types := range f.Map("m").All() {
			if types.String() != "set, flag" {
				t.Errorf("field %q passed with types %v", name, types)
			}
		}
		return whole && len(elems) == 2 && f.Has("s") && f.Map("m").Flag("x").Get()
	}
	for reads := 0; ; reads++ {
		f := fieldsOf(&failingTx{&stateTx{state: s}, reads})
		whole := read(f)
		if f.Err() == nil {
			if !whole || reads < 5 {
				t.Errorf("%d reads, none failed; all there: %v", reads, whole)
			}
			return
		}
		if !errors.Is(f.Err(), errRead) || whole {
			t.Errorf("after %d reads: %v; all there: %v", reads, f.Err(), whole)
		}
		before := s.Clone()
		_, err := s.update(1, epochStart, func(tx dotted.Tx) error {
			f := fieldsOf(&failingTx{tx, reads})
			read(f)
			return errors.Join(f.Flag("f").Set(true), second(f.Remove("s")), second(f.Set("s").Add("c")))
		})
		if !errors.Is(err, errRead) || !s.Equal(before) {
			t.Errorf("a write after %d reads: %v", reads, err)
		}
	}
}

// A read that fails while a list is gone through, or in the body of the loop, is not forgotten when that ends.
func TestAReadThatFailedInALoopOverAListIsNotForgotten(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		return fieldsOf(tx).List("l").Insert(0, []byte("a"), []byte("b"))
	})
	for reads := range 3 {
		f := fieldsOf(&failingTx{Tx: &stateTx{state: s}, left: reads})
		n := len(slices.Collect(f.List("l").All()))
		if failed := errors.Is(f.Err(), errRead); n != reads || failed != (reads < 2) {
			t.Errorf("after %d reads: %d elements, %v", reads, n, f.Err())
		}
	}
	tx := &failingTx{Tx: &stateTx{state: s}, left: -2}
	f := fieldsOf(tx)
	for range f.List("l").All() {
		tx.left = 0
		f.Has("l")
	}
	if !errors.Is(f.Err(), errRead) {
		t.Errorf("after the loop: %v", f.Err())
	}
}

// A read that fails in the body of a loop over a sorted set is not forgotten when the loop ends.
func TestAReadThatFailedInALoopOverASortedSetIsNotForgotten(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).SortedSet("z").Set("x", 1)) })
	tx := &failingTx{Tx: &stateTx{state: s}, left: -2}
	f := fieldsOf(tx)
	for elem := range f.SortedSet("z").All() {
		tx.left = 0
		if _, ok := f.SortedSet("z").Score(elem); ok {
			t.Error("the read has not failed")
		}
	}
	if !errors.Is(f.Err(), errRead) {
		t.Errorf("the error is %v", f.Err())
	}
}
