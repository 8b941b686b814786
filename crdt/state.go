package crdt

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/peerd/peerd/internal/dotted"
)

// State is a CRDT as a value: sorted cells in memory under a causal context. It needs no store,
// log or network; whoever holds two states can merge them. The zero State is empty and ready to
// use.
//
// Update returns what it changed as a small State, a delta. Deltas may be merged with each other,
// and into any state in any order, again and again; what was lost on the way is made up for by
// merging a whole state once. All of it is the same join:
//
//   - A whole state says about every cell: this is what I have of the dots in my context. A merge
//     of it visits every cell of both sides.
//   - A delta lists some cells, even those it emptied, and says it about these alone. Every dot of
//     its context is of a cell that it lists, so cells that it does not list have nothing to lose,
//     and a merge visits only the listed ones. That is sound as a dot belongs to one cell for ever.
//
// A State is used by one goroutine at a time, its views included. Payloads are shared between
// states and never changed.
type State struct {
	cells   btree.Map[dotted.Address, dotted.Cell] // of a whole state none empty; of a delta those it lists
	context Context
	delta   bool

	// For Summary: visible cells by key address and shape, tallying cells by key address. For Count: what was
	// counted, by the string's address.
	visible btree.Map[dotted.Address, int]
	tallies btree.Map[dotted.Address, int]
	counted btree.Map[dotted.Address, dotted.Count]
}

// ErrMissingDots is returned by Update on a state that lacks some of what the replica itself did,
// as an old or partial copy may: it could issue a dot for the second time. Use a new replica id.
var ErrMissingDots = errors.New("state lacks mutations of this replica")

// NewState returns an empty state.
func NewState() *State { return &State{} }

// View returns the keys as they are now, to be read. Later changes of the state do not show in it.
// O(1).
func (s *State) View() Fields { return fieldsOf(&stateTx{state: s.snapshot()}) }

// Update runs fn on the keys, as a transaction of the given replica, and returns what it changed.
// If fn returns an error, which is returned, or panics, nothing changed. If it wrote nothing, the
// delta is empty, and merging it does nothing. now decides between concurrent writes only, to the
// millisecond.
//
// A replica id must not be used by two copies of a state: each copy that writes draws its own. Zero
// is refused, and ErrMissingDots returned for an id that has written elsewhere what is not here.
// The cost is that of fn, of what it changed, and of a look at each exception of the context.
func (s *State) Update(
	r ReplicaID, now time.Time, fn func(keys Fields) error,
) (delta *State, err error) {
	return s.update(r, now, func(tx dotted.Tx) error { return fn(fieldsOf(tx)) })
}

func (s *State) update(
	r ReplicaID, now time.Time, fn func(tx dotted.Tx) error,
) (delta *State, err error) {
	if r == 0 {
		return nil, errors.New("update by replica zero, which is none")
	}
	for d := range s.context.cloud {
		if d.Replica == r {
			return nil, fmt.Errorf("%w: it has %v, but not all before it", ErrMissingDots, d)
		}
	}
	tx := &stateTx{
		state:   s,
		replica: r,
		time:    dotted.TimeAt(now),
		next:    s.context.Next(r),
		before:  map[dotted.Address]dotted.Cell{},
	}
	committed := false
	defer func() {
		if !committed {
			tx.rollback()
		}
	}()
	if err := fn(tx); err != nil {
		return nil, err
	}
	committed = true
	return tx.commit(), nil
}

// Merge joins o, a whole state or a delta, into s. o is not changed. O(cells of a delta · log
// cells), or O(cells of both) for a whole state.
func (s *State) Merge(o *State) {
	if s == o {
		return
	}
	for _, a := range s.reach(o) {
		s.set(a, dotted.Join(s.cell(a), &s.context, o.cell(a), &o.context))
	}
	s.context.Merge(&o.context)
	if !o.delta && s.delta {
		s.becomeWhole()
	}
}

// reach returns the cells that merging o can change: those of o, and unless o is a delta all of s.
func (s *State) reach(o *State) []dotted.Address {
	reach := o.cells.Keys()
	if o.delta {
		return reach
	}
	s.cells.Scan(func(a dotted.Address, _ dotted.Cell) bool {
		if _, ok := o.cells.Get(a); !ok {
			reach = append(reach, a)
		}
		return true
	})
	return reach
}

// becomeWhole makes a delta that has merged a whole state one itself: its context now holds dots
// of cells that it does not list.
func (s *State) becomeWhole() {
	s.delta = false
	var empty []dotted.Address
	s.cells.Scan(func(a dotted.Address, c dotted.Cell) bool {
		if len(c) == 0 {
			empty = append(empty, a)
		}
		return true
	})
	for _, a := range empty {
		s.cells.Delete(a)
	}
}

func (s *State) cell(a dotted.Address) dotted.Cell {
	c, _ := s.cells.Get(a)
	return c
}

// set replaces a cell and keeps what Summary and Count tell.
func (s *State) set(a dotted.Address, c dotted.Cell) {
	var old dotted.Cell
	if len(c) == 0 && !s.delta {
		old, _ = s.cells.Delete(a)
	} else {
		old, _ = s.cells.Set(a, c)
	}
	was, is := old.Visible(), c.Visible()
	if counter, owner, ok := a.CutShare(); ok {
		written := s.cell(counter).Visible()
		shares := s.recount(counter, owner, old, c)
		a, was, is = counter, written || shares.before > 0, written || shares.after > 0
	} else if counted, _ := s.counted.Get(a); counted.Shares > 0 {
		was, is = true, true
	}
	if was != is {
		count(&s.visible, a.KeyAddress()+dotted.Address(a.Shape()), is)
	}
	if was, is := old.Tallies(), c.Tallies(); was != is {
		count(&s.tallies, a.KeyAddress(), is)
	}
}

// recount takes a change of a share into what its string counts, and returns how many shares that had and has.
func (s *State) recount(
	counter dotted.Address, owner ReplicaID, old, now dotted.Cell,
) (shares struct{ before, after int }) {
	n, _ := s.counted.Get(counter)
	shares.before = n.Shares
	n.Sum = n.Sum.Plus(tallyOf(owner, now).counted()).Minus(tallyOf(owner, old).counted())
	if old.Visible() {
		n.Shares--
	}
	if now.Visible() {
		n.Shares++
	}
	if shares.after = n.Shares; n == (dotted.Count{}) {
		s.counted.Delete(counter)
	} else {
		s.counted.Set(counter, n)
	}
	return shares
}

func count(m *btree.Map[dotted.Address, int], a dotted.Address, up bool) {
	n, _ := m.Get(a)
	switch {
	case up:
		m.Set(a, n+1)
	case n > 1:
		m.Set(a, n-1)
	default:
		m.Delete(a)
	}
}

func (s *State) summary(key string) dotted.Summary {
	prefix := dotted.KeyAddress(key)
	sum := dotted.Summary{Visible: map[string]int{}}
	sum.Tallies, _ = s.tallies.Get(prefix)
	s.visible.Ascend(prefix, func(a dotted.Address, n int) bool {
		shape, ok := strings.CutPrefix(string(a), string(prefix))
		if ok {
			sum.Visible[shape] = n
		}
		return ok
	})
	return sum
}

// scan calls fn with the cells that begin with prefix and are greater than after.
func (s *State) scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) {
	s.cells.Ascend(max(prefix, after), func(a dotted.Address, c dotted.Cell) bool {
		if !strings.HasPrefix(string(a), string(prefix)) {
			return false
		}
		if len(c) == 0 || a == after && after != "" {
			return true
		}
		return fn(a, c)
	})
}

// Context returns a copy of the causal context: the dots of everything that the state has seen.
func (s *State) Context() Context { return s.context.Clone() }

// size returns how many cells have live entries, hidden ones included.
func (s *State) size() int {
	n := 0
	s.scan("", "", func(dotted.Address, dotted.Cell) bool { n++; return true })
	return n
}

// Equal reports whether both have the same live entries and have seen the same dots. O(cells).
func (s *State) Equal(o *State) bool {
	if !s.context.Equal(&o.context) || s.size() != o.size() {
		return false
	}
	equal := true
	s.scan("", "", func(a dotted.Address, c dotted.Cell) bool {
		equal = c.Equal(o.cell(a))
		return equal
	})
	return equal
}

// Clone returns a copy that changes independently. O(replicas): cells are shared until one side
// changes them.
func (s *State) Clone() *State {
	c := s.snapshot()
	c.context = s.context.Clone()
	return c
}

// snapshot returns a copy without a context, to be read.
func (s *State) snapshot() *State {
	return &State{
		cells:   *s.cells.Copy(),
		delta:   s.delta,
		visible: *s.visible.Copy(),
		tallies: *s.tallies.Copy(),
		counted: *s.counted.Copy(),
	}
}
