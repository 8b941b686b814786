package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Lists are written to in some worlds. The oracle knows an element by the text that was inserted, which is never inserted
// again, and nothing of positions. An element is a cell to it; beside what is there it expects one order of all elements,
// whoever reads and whenever, in which an insertion stands where its maker put it; and that nobody stands between two
// elements of a run who knew neither.

// listed is what the oracle knows of one list.
type listed struct {
	made    map[string]*effect           // insertions, by their elements
	last    map[crdt.ReplicaID][2]string // the first and the last element of what each inserted last
	run     map[string]string            // to which element one was put next by who had inserted that last, behind it
	follows map[[2]string]bool           // elements that stood next to each other
}

// place is where an element was put: next to which, as its maker read them. It is known once the transaction ran.
type place struct{ before, behind string }

// errNothing is what a mutation returns that finds nothing to change: it is none.
var errNothing = errors.New("there is nothing to change")

// drawLists draws whether there are lists, apart.
func (p *plan) drawLists(rng *rand.Rand) {
	if rng.IntN(3) == 0 && !p.forks {
		p.mix.lists = rng
	}
}

// elementOf returns by which text an element was inserted: others follow behind "=" when it is set.
func elementOf(text string) string {
	elem, _, _ := strings.Cut(text, "=")
	return elem
}

// elements reads a list.
func elements(l crdt.List) (all []string) {
	for value := range l.All() {
		all = append(all, elementOf(string(value)))
	}
	return all
}

// drawListed returns what is done to a list: mostly insertions, each of which is a mutation for each element.
func (m *mix) drawListed() []mutation {
	rng := m.lists
	key := m.keys[rng.IntN(min(len(m.keys), 2))]
	list := dotted.KeyAddress(key).Type(crdt.TypeList)
	elem := strconv.Itoa(max(0, m.inserted-rng.IntN(12))) // which may be another list's
	cell := list.Name(elem)
	to := func(do func(l crdt.List, i int) error) func(f crdt.Fields) error {
		return func(f crdt.Fields) error {
			l := f.List(key)
			if i := slices.Index(elements(l), elem); i >= 0 {
				return do(l, i)
			}
			return errNothing
		}
	}
	switch rng.IntN(20) {
	case 0:
		return []mutation{{what: fmt.Sprintf("clear list %q", key), clears: list,
			do: func(f crdt.Fields) error { return second(f.List(key).Clear()) }}}
	case 1, 2, 3, 4, 5, 6:
		return []mutation{{what: fmt.Sprintf("remove %q of list %q", elem, key), clears: cell,
			do: to(func(l crdt.List, i int) error { return second(l.Remove(i, i+1)) })}}
	case 7, 8:
		m.inserted++
		text := fmt.Sprint(elem, "=", m.inserted)
		return []mutation{{what: fmt.Sprintf("set %q in list %q", text, key), cell: cell, text: text, write: true, clears: cell,
			do: to(func(l crdt.List, i int) error { return second(l.Set(i, []byte(text))) })}}
	}
	return m.drawInsertion(key, elem)
}

// drawInsertion returns the insertion of a few elements at an end, or behind another one, if that is there.
func (m *mix) drawInsertion(key, behind string) (muts []mutation) {
	rng := m.lists
	list := dotted.KeyAddress(key).Type(crdt.TypeList)
	where := rng.IntN(3)
	var texts []string
	var values [][]byte
	for range 1 + rng.IntN(3)/2 {
		m.inserted++
		texts = append(texts, strconv.Itoa(m.inserted))
		values = append(values, []byte(strconv.Itoa(m.inserted)))
	}
	places := make([]place, len(texts))
	insert := func(f crdt.Fields) error {
		l := f.List(key)
		was := elements(l)
		i := []int{0, len(was), 1 + slices.Index(was, behind)}[where]
		for n := range places {
			places[n] = place{}
			if n > 0 {
				places[n].before = texts[n-1]
			} else if i > 0 {
				places[n].before = was[i-1]
			}
			if i < len(was) {
				places[n].behind = was[i]
			}
		}
		return l.Insert(i, values...)
	}
	for n, text := range texts {
		mut := mutation{what: fmt.Sprintf("insert %q into list %q", text, key), cell: list.Name(text), text: text, write: true,
			place: &places[n], do: func(crdt.Fields) error { return nil }}
		if n == 0 {
			mut.do = insert
		}
		muts = append(muts, mut)
	}
	return muts
}

// list returns what is known of one.
func (h *history) list(key string) *listed {
	l := h.lists[key]
	if l == nil {
		l = &listed{map[string]*effect{}, map[crdt.ReplicaID][2]string{}, map[string]string{}, map[[2]string]bool{}}
		h.lists[key] = l
	}
	return l
}

// inserted notes an insertion.
func (h *history) inserted(key string, e *effect) {
	l := h.list(key)
	l.made[e.text] = e
	p, by := e.place, e.of.first.Replica
	ends := l.last[by]
	switch {
	case p.before != "" && p.before == ends[1]: // the run goes on
		l.run[e.text], ends[1] = ends[1], e.text
	case p.behind != "" && p.behind == ends[0]:
		l.run[ends[0]], ends[0] = e.text, e.text
	default:
		ends = [2]string{e.text, e.text}
	}
	l.last[by] = ends
	if p.before != "" {
		l.follows[[2]string{p.before, e.text}] = true
	}
	if p.behind != "" {
		l.follows[[2]string{e.text, p.behind}] = true
	}
}

// readList reads a list, as a whole and element by element.
func readList(l crdt.List, at dotted.Address, out *reading) error {
	n := 0
	for value := range l.All() {
		if got, ok := l.Get(n); !ok || string(got) != string(value) {
			return fmt.Errorf("list %q: element %d is %q, and alone %q (%v)", at, n, value, got, ok)
		}
		text := string(value)
		out.add(fact{at: at.Name(elementOf(text)), texts: []string{text}, latest: text})
		n++
	}
	for i := range l.From(n-1, true) {
		if n--; i != n {
			return fmt.Errorf("list %q: going back, element %d comes in place of %d", at, i, n)
		}
	}
	if size := l.Len(); n != 0 {
		return fmt.Errorf("list %q of length %d: going back, %d are lacking", at, size, n)
	}
	return nil
}

// readsListed says how an element reads with the given live effects, of which the latest is the last.
func (c *cell) readsListed(live []*effect) fact {
	text := live[len(live)-1].text
	return fact{at: c.at, texts: []string{text}, latest: text}
}

// checkOrder notes in which order a view shows the elements of a list, and checks that runs are not interleaved.
func (h *host) checkOrder(v *engine.View, key string) {
	l := h.w.hist.lists[key]
	if l == nil {
		return
	}
	f := engine.Fields(v)
	all := elements(f.List(key))
	if h.tolerates(f.Err()) {
		return
	}
	at := map[string]int{}
	for i, elem := range all {
		at[elem] = i
		if i > 0 {
			l.follows[[2]string{all[i-1], elem}] = true
		}
	}
	for i, elem := range all {
		before, ok := l.run[elem]
		from, there := at[before]
		if !ok || !there {
			continue
		}
		for _, other := range all[min(from+1, i):i] {
			if o := l.made[other]; !o.knew(l.made[before]) && !o.knew(l.made[elem]) {
				h.w.fail("%s shows %q of list %q between %q and %q, which one put next to each other: %q", h.name, other, key,
					before, elem, all)
			}
		}
	}
}

// knew reports whether who made an effect had seen another one, or made it too.
func (e *effect) knew(o *effect) bool { return e.of == o.of || has(e.of.saw, o.of) }

// checkOrders checks that the elements of each list stood in one order everywhere and always.
func (w *realm) checkOrders() {
	for _, key := range w.hist.keys {
		l := w.hist.lists[key]
		if l == nil || w.blind {
			continue
		}
		left := map[string]bool{}
		for pair := range l.follows {
			left[pair[0]], left[pair[1]] = true, true
		}
		for size := -1; len(left) != size; { // takes away those that stand behind nobody
			size = len(left)
			behind := map[string]bool{}
			for pair := range l.follows {
				behind[pair[1]] = behind[pair[1]] || left[pair[0]]
			}
			for elem := range left {
				if !behind[elem] {
					delete(left, elem)
				}
			}
		}
		if len(left) > 0 {
			w.fail("%d elements of list %q did not stand in one order", len(left), key)
		}
	}
}
