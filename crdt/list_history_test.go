package crdt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// The oracle knows an element by what was inserted, which is nowhere inserted again: that is its
// text up to "=", behind which stands what it was set to. It knows nothing of positions.

func elementOf(text string) string {
	elem, _, _ := strings.Cut(text, "=")
	return elem
}

// errNoElement is what a write to an element returns that is not there.
var errNoElement = errors.New("the element is not there")

// lists draws what is done to lists.
type lists struct{ inserted int }

func (d *lists) draw(choose chooser) action {
	path, fields := drawPlace(choose)
	at := path.Name("k").Type(TypeList)
	elem := fmt.Sprint(choose.Intn(d.inserted + 1))
	cell := at.Name(elem)
	find := func(tx dotted.Tx) (l List, i int) {
		l = fields(tx).List("k")
		return l, slices.IndexFunc(texts(l), func(text string) bool { return elementOf(text) == elem })
	}
	switch choose.Intn(12) {
	case 0:
		return action{trace: "remove", clears: path.Name("k"), do: func(tx dotted.Tx) error { return second(fields(tx).Remove("k")) }}
	case 1:
		return action{trace: "clear", clears: at, do: func(tx dotted.Tx) error { return second(fields(tx).List("k").Clear()) }}
	case 2, 3, 4:
		return action{trace: fmt.Sprintf("remove %s of %q", elem, at), clears: cell, do: func(tx dotted.Tx) error {
			if l, i := find(tx); i >= 0 {
				return second(l.Remove(i, i+1))
			}
			return errNoElement
		}}
	case 5, 6:
		text := fmt.Sprint(elem, "=", choose.Intn(100))
		return action{trace: fmt.Sprintf("set %s in %q", text, at), cell: cell, text: text, write: true, clears: cell,
			do: func(tx dotted.Tx) error {
				if l, i := find(tx); i >= 0 {
					return second(l.Set(i, []byte(text)))
				}
				return errNoElement
			}}
	}
	where, text := choose.Intn(4), fmt.Sprint(d.inserted)
	d.inserted++
	return action{trace: fmt.Sprintf("insert %s into %q", text, at), cell: at.Name(text), text: text, write: true,
		do: func(tx dotted.Tx) error {
			l := fields(tx).List("k")
			i := min(where, l.Len())
			if where == 3 {
				i = l.Len()
			}
			want := slices.Insert(texts(l), i, text)
			if err := l.Insert(i, []byte(text)); err != nil {
				return err
			}
			if got := texts(l); !slices.Equal(got, want) {
				return fmt.Errorf("got %q, want %q", got, want)
			}
			return nil
		}}
}

// follows is which elements stood next to each other in anything that was read.
type follows map[[2]string]bool

// checkLists returns what replica i reads of lists that the model does not say.
func (h *history) checkLists(i int, order follows) string {
	readings := h.readings(i)
	inner := h.states[i].View().Map("k")
	deeper := inner.Map("k")
	for path, fields := range map[dotted.Address]Fields{"": h.states[i].View(), inner.at: inner.Fields, deeper.at: deeper.Fields} {
		var want []string
		at := path.Name("k").Type(TypeList)
		for cell, r := range readings {
			if name, ok := strings.CutPrefix(string(cell), string(at)); ok && name != "" && len(r.Texts) > 0 {
				want = append(want, r.Texts[len(r.Texts)-1])
			}
		}
		l := fields.List("k")
		got := texts(l)
		for n := 1; n < len(got); n++ {
			order[[2]string{elementOf(got[n-1]), elementOf(got[n])}] = true
		}
		n := l.Len()
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) || n != len(want) {
			return fmt.Sprintf("r%d reads %q of length %d in %q, want %q", i, got, n, path, want)
		}
	}
	return ""
}

// cyclic reports whether elements did not stand in one order everywhere and always.
func (f follows) cyclic() bool {
	left := map[string]bool{}
	for pair := range f {
		left[pair[0]], left[pair[1]] = true, true
	}
	for more := true; more; { // takes away who stands behind nobody
		behind := map[string]bool{}
		for pair := range f {
			behind[pair[1]] = behind[pair[1]] || left[pair[0]]
		}
		more = false
		for elem := range left {
			if !behind[elem] {
				delete(left, elem)
				more = true
			}
		}
	}
	return len(left) > 0
}

func listsTrial(h *history, steps int) string {
	var d lists
	order := follows{}
	for range steps {
		i, err := h.step(d.draw)
		if err != nil && !errors.Is(err, errNoElement) {
			return err.Error()
		}
		if why := h.checkLists(i, order); h.causal && why != "" {
			return why
		}
	}
	h.syncAll()
	for i := range h.states {
		if why := h.checkLists(i, order); why != "" {
			return "after the last sync " + why
		}
	}
	if order.cyclic() {
		return "elements did not stand in one order"
	}
	return ""
}

func TestListsReadWhatTheModelSaysAfterEveryStep(t *testing.T) {
	runHistories(t, 1000, listsTrial, true)
}

func TestListsReadWhatTheModelSaysAfterLossAndReordering(t *testing.T) {
	runHistories(t, 1000, listsTrial, false)
}

func TestStatesWithListsKeepTheLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, d := newHistory(drawn{t}, 3, false), lists{}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			if _, err := h.step(d.draw); err != nil && !errors.Is(err, errNoElement) {
				t.Fatal(err)
			}
		}
		s := h.states
		same(t, join(s[0], s[1]), join(s[1], s[0]))
		same(t, join(join(s[0], s[1]), s[2]), join(s[0], join(s[1], s[2])))
		same(t, join(join(s[0], s[1]), s[1]), join(s[0], s[1]))
		all := merged(s...)
		for _, e := range h.events {
			same(t, join(all, e.delta), all)
		}
		copied, err := join(all, NewState()).update(9, epochStart, func(tx dotted.Tx) error {
			return second(fieldsOf(tx).Copy("k", "copy"))
		})
		if err != nil {
			t.Fatal(err)
		}
		if was, is := texts(all.View().List("k")), texts(join(all, copied).View().List("copy")); !slices.Equal(was, is) {
			t.Fatalf("a copy of %q reads %q", was, is)
		}
	})
}
