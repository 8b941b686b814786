package crdt

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"testing"

	diffs "github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/dotted"
)

// drawAny draws a write of any type, at the root or in a map, or a removal of any extent. The names
// are few, so that replicas meet on them, with other types too.
func drawAny(choose chooser) action {
	if choose.Intn(4) == 0 {
		return drawRemoval(choose)
	}
	path, fields := drawPlace(choose)
	name := []string{"k", "k\x00l"}[choose.Intn(2)]
	at := path.Name(name)
	switch choose.Intn(7) {
	case 0:
		return setText(choose, path, fields, name)
	case 5, 6:
		return drawScore(choose, path, fields, name)
	case 1:
		n := int64(choose.Intn(7) - 3)
		return action{
			trace: fmt.Sprintf("add %d to %q", n, at),
			do:    func(tx dotted.Tx) error { return second(fields(tx).String(name).Add(n)) },
			cell:  at.Type(TypeString), adds: n, count: true,
		}
	case 2:
		text := strconv.Itoa(choose.Intn(3))
		cell := at.Type(TypeString)
		return action{
			trace: fmt.Sprintf("set register %q to %s", at, text),
			do:    func(tx dotted.Tx) error { return fields(tx).Register(name).Set([]byte(text)) },
			cell:  cell, text: text, write: true, clears: cell, keepsShares: true,
		}
	case 3:
		cell := at.Type(TypeFlag)
		return action{
			trace: fmt.Sprintf("enable %q", at),
			do:    func(tx dotted.Tx) error { return fields(tx).Flag(name).Set(true) },
			cell:  cell, write: true, clears: cell,
		}
	default:
		elem := []string{"", "x"}[choose.Intn(2)]
		cell := at.Type(TypeSet).Name(elem)
		return action{
			trace: fmt.Sprintf("add %q to set %q", elem, at),
			do:    func(tx dotted.Tx) error { return second(fields(tx).Set(name).Add(elem)) },
			cell:  cell, write: true, clears: cell,
		}
	}
}

func setText(choose chooser, path dotted.Address, fields func(dotted.Tx) Fields, name string) action {
	text := []string{"7", "-12", "007", "soup"}[choose.Intn(4)]
	cell := path.Name(name).Type(TypeString)
	return action{
		trace: fmt.Sprintf("set %q to %s", cell, text),
		do:    func(tx dotted.Tx) error { return fields(tx).String(name).Set([]byte(text)) },
		cell:  cell, text: text, write: true, clears: cell,
	}
}

// drawScore draws a write to an element of a sorted set: scores are in quarters, which the oracle counts.
func drawScore(choose chooser, path dotted.Address, fields func(dotted.Tx) Fields, name string) action {
	elem := []string{"", "x", "y"}[choose.Intn(3)]
	cell := path.Name(name).Type(TypeSortedSet).Name(elem)
	if choose.Intn(2) == 0 {
		score := float64(choose.Intn(5)-2) / 4
		return action{
			trace: fmt.Sprintf("set score %q to %v", cell, score),
			do:    func(tx dotted.Tx) error { return second(fields(tx).SortedSet(name).Set(elem, score)) },
			cell:  cell, text: fmt.Sprint(score), write: true, clears: cell,
		}
	}
	n := int64(choose.Intn(7) - 3)
	return action{
		trace: fmt.Sprintf("add %v to score %q", float64(n)/4, cell),
		do:    func(tx dotted.Tx) error { return second(fields(tx).SortedSet(name).Add(elem, float64(n)/4)) },
		cell:  cell, adds: n, count: true,
	}
}

// drawPlace draws where to write: the root, a map, a map in a map.
func drawPlace(choose chooser) (dotted.Address, func(dotted.Tx) Fields) {
	switch choose.Intn(3) {
	case 0:
		return "", fieldsOf
	case 1:
		return dotted.KeyAddress("k").Type(TypeMap), func(tx dotted.Tx) Fields { return fieldsOf(tx).Map("k").Fields }
	default:
		path := dotted.KeyAddress("k").Type(TypeMap).Name("k").Type(TypeMap)
		return path, func(tx dotted.Tx) Fields { return fieldsOf(tx).Map("k").Map("k").Fields }
	}
}

func drawRemoval(choose chooser) action {
	path, fields := drawPlace(choose)
	value, set := path.Name("k").Type(TypeString), path.Name("k").Type(TypeSet)
	remove := func(what string, at dotted.Address, do func(f Fields) error) action {
		return action{
			trace:  fmt.Sprintf("%s %q", what, at),
			do:     func(tx dotted.Tx) error { return do(fields(tx)) },
			clears: at,
		}
	}
	scored := path.Name("k").Type(TypeSortedSet)
	switch choose.Intn(11) {
	case 9:
		return remove("clear sorted set", scored, func(f Fields) error { return second(f.SortedSet("k").Clear()) })
	case 10:
		return remove("remove \"x\" from", scored.Name("x"), func(f Fields) error {
			return second(f.SortedSet("k").Remove("x"))
		})
	case 0:
		return remove("delete name", path.Name("k"), func(f Fields) error {
			return second(f.Remove("k"))
		})
	case 1:
		return remove("clear by context", path.Name("k"), func(f Fields) error {
			return f.named("k").clearAll()
		})
	case 2:
		return remove("delete string", value, func(f Fields) error {
			return second(f.String("k").Clear())
		})
	case 3:
		a := remove("clear register", value, func(f Fields) error {
			return second(f.Register("k").Clear())
		})
		a.keepsShares = true
		return a
	case 4:
		a := remove("clear counter", value, func(f Fields) error {
			return second(f.Counter("k").Clear())
		})
		a.keepsTexts = true
		return a
	case 5:
		return remove("disable", path.Name("k").Type(TypeFlag), func(f Fields) error {
			return f.Flag("k").Set(false)
		})
	case 6:
		return remove("clear set", set, func(f Fields) error { return second(f.Set("k").Clear()) })
	case 7:
		return remove("clear map", path.Name("k").Type(TypeMap), func(f Fields) error {
			return second(f.Map("k").Clear())
		})
	default:
		return remove("remove \"x\" from", set.Name("x"), func(f Fields) error {
			return second(f.Set("k").Remove("x"))
		})
	}
}

// score returns what the cell of an element of a sorted set reads.
func (r reading) score() float64 {
	score := float64(r.Total) / 4
	if len(r.Texts) > 0 {
		set, _ := strconv.ParseFloat(r.Texts[len(r.Texts)-1], 64)
		score += set
	}
	return score
}

// expected renders what the oracle says of replica i, as render does with what the handles say.
func (h *history) expected(i int) map[string]string {
	out := map[string]string{}
	for a, r := range h.readings(i) {
		shape := a.Shape()
		if shape[len(shape)-1] == byte(TypeSortedSet) {
			out[fmt.Sprintf("%q", a)] = fmt.Sprint(r.score())
			continue
		}
		if shape[len(shape)-1] != byte(TypeString) {
			out[fmt.Sprintf("%q", a)] = "there"
			continue
		}
		values := slices.Clone(r.Texts)
		for n, text := range r.Texts {
			v, _ := strconv.ParseInt(text, 10, 64)
			if r.Counts && strconv.FormatInt(v, 10) == text {
				values[n] = strconv.FormatInt(v+r.Total, 10)
			}
		}
		if len(values) == 0 {
			values = []string{strconv.FormatInt(r.Total, 10)}
		}
		latest := values[len(values)-1]
		sort.Strings(values)
		out[fmt.Sprintf("%q", a)] = fmt.Sprintf("%s of %q", latest, values)
	}
	return out
}

// render reads everything through the handles, and checks that they agree with each other.
func render(s *State) (out map[string]string, err error) {
	out = map[string]string{}
	return out, renderFields(s.View(), out)
}

func renderFields(f Fields, out map[string]string) error {
	held := map[string]Types{}
	var names []string
	for name, types := range f.All() {
		names, held[name] = append(names, name), types
	}
	if !slices.IsSorted(names) || len(held) != len(names) {
		return fmt.Errorf("names of %q are out of order, or there twice: %q", f.at, names)
	}
	if n := f.Len(); n != len(names) {
		return fmt.Errorf("length of %q: %d; it has %q", f.at, n, names)
	}
	if f.typ == TypeMap {
		if err := renderStrings(Map{f}, held); err != nil {
			return err
		}
	}
	for name, ranged := range held {
		if err := renderName(f, name, ranged, out); err != nil {
			return err
		}
	}
	return nil
}

// renderStrings checks what a map says of its strings against what each of them says.
func renderStrings(m Map, held map[string]Types) error {
	n := 0
	for name, value := range m.Strings() {
		n++
		if got, ok := m.String(name).Get(); !ok || string(got) != string(value) {
			return fmt.Errorf("%q in %q reads %q, among the strings %q", name, m.at, got, value)
		}
	}
	want := 0
	for _, types := range held {
		if types.Has(TypeString) {
			want++
		}
	}
	if n != want || m.CountStrings() != want {
		return fmt.Errorf("%q has %d strings: %d are passed, %d counted", m.at, want, n, m.CountStrings())
	}
	return nil
}

func renderName(f Fields, name string, ranged Types, out map[string]string) (err error) {
	listed := f.Types(name)
	if !f.Has(name) {
		return fmt.Errorf("%q in %q does not exist", name, f.at)
	}
	if ranged != listed {
		return fmt.Errorf("types of %q in %q: %v among all, %v alone", name, f.at, ranged, listed)
	}
	for t := range listed.All() {
		at := f.named(name, t).at
		switch t {
		case TypeMap:
			err = renderFields(f.Map(name).Fields, out)
		case TypeSet:
			err = renderSet(f.Set(name), out)
		case TypeSortedSet:
			err = renderSortedSet(f.SortedSet(name), out)
		case TypeFlag:
			out[fmt.Sprintf("%q", at)] = "there"
		case TypeString:
			err = renderString(f.String(name), out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func renderSet(s Set, out map[string]string) error {
	elems := slices.Collect(s.All())
	if n := s.Len(); n != len(elems) || !slices.IsSorted(elems) {
		return fmt.Errorf("set %q of length %d has %q", s.at, n, elems)
	}
	for _, elem := range elems {
		out[fmt.Sprintf("%q", s.at.Name(elem))] = "there"
	}
	return nil
}

func renderSortedSet(s SortedSet, out map[string]string) error {
	var last scored
	rank := 0
	for elem, score := range s.All() {
		e := scored{elem, score}
		if got, ok := s.Score(elem); !ok || got != score || s.Before(score, elem) != rank {
			return fmt.Errorf("%q of %q: score %v at %d, in order %v at %d", elem, s.at, got, s.Before(score, elem), score, rank)
		}
		if rank > 0 && (score < last.score || score == last.score && elem <= last.elem) {
			return fmt.Errorf("%v of %q stands behind %v", e, s.at, last)
		}
		for back := range s.Back(rank) {
			if back != elem {
				return fmt.Errorf("%q of %q is at %d, where there is %q on the way back", elem, s.at, rank, back)
			}
			break
		}
		last, rank = e, rank+1
		out[fmt.Sprintf("%q", s.at.Name(elem))] = fmt.Sprint(score)
	}
	var named []string
	for elem, score := range s.ByName() {
		if got, _ := s.Score(elem); got != score {
			return fmt.Errorf("%q of %q has %v, by name %v", elem, s.at, got, score)
		}
		named = append(named, elem)
	}
	if n := s.Len(); n != rank || len(named) != rank || !slices.IsSorted(named) {
		return fmt.Errorf("sorted set %q of length %d has %d elements, by name %v", s.at, n, rank, named)
	}
	return nil
}

func renderString(s String, out map[string]string) error {
	got, ok := s.Get()
	if !ok {
		return fmt.Errorf("string %q does not exist", s.at)
	}
	var texts []string
	for text := range s.All() {
		texts = append(texts, string(text))
	}
	sort.Strings(texts)
	out[fmt.Sprintf("%q", s.at)] = fmt.Sprintf("%s of %q", got, texts)
	return nil
}

func (h *history) checkAll(i int) string {
	got, err := render(h.states[i])
	if err != nil {
		return fmt.Sprintf("r%d: %v", i, err)
	}
	if diff := diffs.Diff(h.expected(i), got); diff != "" {
		return fmt.Sprintf("r%d reads (-must be +is):\n%s", i, diff)
	}
	return ""
}

func modelTrial(h *history, steps int) string {
	for range steps {
		i, err := h.step(drawAny)
		if err != nil && !errors.Is(err, ErrNotInteger) {
			return err.Error()
		}
		if why := h.checkAll(i); h.causal && why != "" {
			return why
		}
	}
	h.syncAll()
	for i := range h.states {
		if why := h.checkAll(i); why != "" {
			return "after the last sync " + why
		}
		if !h.states[i].Equal(h.states[0]) {
			return fmt.Sprintf("r%d and r0 differ after the last sync", i)
		}
	}
	return ""
}

func TestEveryTypeReadsWhatTheModelSaysAfterEveryStep(t *testing.T) {
	runHistories(t, 800, modelTrial, true)
}

func TestEveryTypeReadsWhatTheModelSaysAfterLossAndReordering(t *testing.T) {
	runHistories(t, 800, modelTrial, false)
}

func TestTypesThatMeetUnderOneNameBothStay(t *testing.T) {
	a, b := NewState(), NewState()
	mustUpdate(t, a, 1, func(tx dotted.Tx) error { return fieldsOf(tx).String("k").Set([]byte("text")) })
	mustUpdate(t, b, 2, func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("k").Add("elem")) })
	mustUpdate(t, b, 2, func(tx dotted.Tx) error { return fieldsOf(tx).Map("k").Flag("on").Set(true) })
	a.Merge(b)
	want := map[string]string{
		`"k\x00\x01v"`:             `text of ["text"]`,
		`"k\x00\x01selem\x00\x01"`: "there",
		`"k\x00\x01mon\x00\x01f"`:  "there",
	}
	got, err := render(a)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffs.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if types := a.View().Types("k"); types.String() != "map, set, string" || types.First() != TypeMap {
		t.Errorf("types %v, the first %v", types, types.First())
	}
	b.Merge(mustUpdate(t, a, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("k")) }))
	if got, err := render(b); err != nil || len(got) != 0 {
		t.Errorf("after the name was deleted: %v, %v", got, err)
	}
}

// countingTx counts what is asked of a transaction.
type countingTx struct {
	dotted.Tx
	scanned, puts, removes, clears int
}

func (c *countingTx) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	return c.Tx.Scan(prefix, after, func(a dotted.Address, cell dotted.Cell) bool {
		c.scanned++
		return fn(a, cell)
	})
}

func (c *countingTx) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	c.puts++
	return c.Tx.Put(a, payload, removes)
}

func (c *countingTx) Begin(a dotted.Address, payload []byte) (Dot, error) {
	c.puts++
	return c.Tx.Begin(a, payload)
}

func (c *countingTx) Remove(a dotted.Address, dots []Dot) error {
	c.removes++
	return c.Tx.Remove(a, dots)
}

func (c *countingTx) Clear(prefix dotted.Address) error {
	c.clears++
	return c.Tx.Clear(prefix)
}
