package crdt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
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
//     its context is of a cell that it lists, or of none, so cells that it does not list have nothing
//     to lose, and a merge visits only the listed ones. That is sound as a dot belongs to one cell for
//     ever. If the delta removed anything it has a dot of no cell, which nobody has who has not merged
//     it: so contexts tell who lacks what, removals too, in whatever order deltas came.
//
// A State is used by one goroutine at a time, its views included, and not copied but by Clone.
// Payloads are shared between states and never changed.
type State struct {
	cells   btree.Map[dotted.Address, dotted.Cell] // of a whole state none empty; of a delta those it lists
	context Context
	delta   bool
	busy    bool // an Update runs

	// For Summary: visible cells by key address and shape, tallying cells by key address. For
	// Count: what was counted, by the string's address.
	visible btree.Map[dotted.Address, int]
	tallies btree.Map[dotted.Address, int]
	counted btree.Map[dotted.Address, dotted.Count]
	timed   int // cells that say when a key expires
	shown   dotted.Shown

	// For Rank and Ranked: each visible cell that stands in an order, by its container's address
	// with its key there behind. No container's address begins another's.
	order btree.Map[dotted.Address, struct{}]
}

// ErrMissingDots is returned by Update on a state that has something that the replica did, and
// lacks what it did before that: it would issue a dot for the second time. Use a new replica id.
var ErrMissingDots = errors.New("state lacks mutations of this replica")

// NewState returns an empty state.
func NewState() *State { return &State{} }

// View returns the keys as they are now, to be read. Later changes of the state do not show in it.
// O(1).
func (s *State) View() Fields { return s.ViewAt(time.Time{}) }

// ViewAt is View without what has expired by a time. View itself hides nothing that was not
// removed.
func (s *State) ViewAt(now time.Time) Fields {
	return fieldsOf(&stateTx{state: s.snapshot(), now: now})
}

// Update runs fn on the keys, as a transaction of the given replica, and returns what it changed.
// If fn returns an error, which is returned, or panics, nothing changed. If it wrote nothing, the
// delta is empty, and merging it does nothing. now decides between concurrent writes and says
// what has expired, to the millisecond.
//
// fn uses the state by way of keys alone, which take no writes once it has returned. An Update
// within another is refused, as is UnmarshalBinary; Merge panics.
//
// A replica id must not be used by two copies of a state: each copy that writes draws its own,
// and so does whoever loads a state that was stored. That an older copy lacks what its id did
// last cannot be seen: replicas that have that would never agree with it. Zero is refused, and
// ErrMissingDots returned where there is a gap. The cost is that of fn, of what it changed, and
// of a look at each exception of the context.
func (s *State) Update(r ReplicaID, now time.Time, fn func(keys Fields) error) (delta *State, err error) {
	return s.update(r, now, func(tx dotted.Tx) error { return fn(fieldsOf(tx)) })
}

func (s *State) update(r ReplicaID, now time.Time, fn func(tx dotted.Tx) error) (delta *State, err error) {
	switch {
	case r == 0:
		return nil, errors.New("update by replica zero, which is none")
	case s.busy:
		return nil, errors.New("update within another one of the same state")
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
		now:     now,
		next:    s.context.next(r),
		before:  map[dotted.Address]dotted.Cell{},
	}
	s.busy = true
	defer func() {
		if delta == nil {
			tx.rollback()
		}
		s.busy, tx.replica = false, 0
	}()
	if err := fn(tx); err != nil {
		return nil, err
	}
	return tx.commit(), nil
}

// Merge joins o, a whole state or a delta, into s. o is not changed. O(cells of a delta · log
// cells), or O(cells of both) for a whole state. It panics within an Update of either: an Update
// that fails would take back what was merged, and leave its dots as seen.
func (s *State) Merge(o *State) {
	switch {
	case s.busy || o.busy:
		panic("crdt: Merge within an Update of the state")
	case s == o:
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
	if was || is {
		s.reorder(a, old, c)
	}
	if a.IsExpiry() && was != is {
		s.timed += map[bool]int{true: 1, false: -1}[is]
	}
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

// reorder takes a change of a cell into the order in which it stands.
func (s *State) reorder(a dotted.Address, old, now dotted.Cell) {
	container, name, keyOf, ok := a.Standing()
	if !ok {
		return
	}
	var was, is dotted.Address
	if old.Visible() {
		was = container + dotted.Address(keyOf(name, old))
	}
	if now.Visible() {
		is = container + dotted.Address(keyOf(name, now))
	}
	if was == is {
		return
	}
	if was != "" {
		s.order.Delete(was)
	}
	if is != "" {
		s.order.Set(is, struct{}{})
	}
}

// rank returns how many cells stand in any order before an address. O(log² cells).
func (s *State) rank(a dotted.Address) int {
	return sort.Search(s.order.Len(), func(i int) bool {
		at, _, _ := s.order.GetAt(i)
		return at >= a
	})
}

// recount takes a change of a share into what its string counts, and returns how many shares that
// had and has.
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
	var sum dotted.Summary
	sum.Tallies, _ = s.tallies.Get(prefix)
	s.visible.Ascend(prefix, func(a dotted.Address, n int) bool {
		shape, ok := strings.CutPrefix(string(a), string(prefix))
		if ok {
			sum.Visible = append(sum.Visible, dotted.ShapeCount{Shape: shape, Count: n})
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
func (s *State) Context() *Context { return s.context.Clone() }

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
	c.context = *s.context.Clone()
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
		timed:   s.timed,
		order:   *s.order.Copy(),
	}
}

// stateTx is a transaction on a State. It changes the state at once and remembers what it changed,
// to take it back, or to make the delta from it.
type stateTx struct {
	state   *State
	replica ReplicaID // zero: reads only
	time    dotted.Time
	now     time.Time
	next    uint64                         // counter of the next dot
	before  map[dotted.Address]dotted.Cell // the cells touched, as they were
}

func (t *stateTx) Cell(a dotted.Address) (dotted.Cell, error) { return t.state.cell(a), nil }

func (t *stateTx) Scan(prefix, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	t.state.scan(prefix, after, fn)
	return nil
}

func (t *stateTx) Summary(key string) (dotted.Summary, error) { return t.state.summary(key), nil }

func (t *stateTx) Count(a dotted.Address) (dotted.Count, error) {
	c, _ := t.state.counted.Get(a)
	return c, nil
}

// Rank takes O(log² cells).
func (t *stateTx) Rank(container dotted.Address, key string) (int, error) {
	return t.state.rank(container+dotted.Address(key)) - t.state.rank(container), nil
}

// Ranked takes O(log² cells), and O(log cells) for each call of fn.
func (t *stateTx) Ranked(container dotted.Address, from int, back bool, fn func(key string) bool) error {
	if from < 0 {
		return nil
	}
	step := 1
	if back {
		step = -1
	}
	for i := t.state.rank(container) + from; i >= 0; i += step {
		at, _, ok := t.state.order.GetAt(i)
		key, within := strings.CutPrefix(string(at), string(container))
		if !ok || !within || !fn(key) {
			break
		}
	}
	return nil
}

// Tallied looks at every cell.
func (t *stateTx) Tallied(fn func(key string) bool) error {
	last, found := "", false
	t.state.scan("", "", func(a dotted.Address, c dotted.Cell) bool {
		key := a.Key()
		if !c.Tallies() || found && key == last {
			return true
		}
		last, found = key, true
		return fn(key)
	})
	return nil
}

func (t *stateTx) Replica() ReplicaID { return t.replica }

// Ended returns false: nothing in a State says that a replica has ended.
func (t *stateTx) Ended(ReplicaID) bool { return false }

func (t *stateTx) Next() uint64 { return t.next }

func (t *stateTx) Time() dotted.Time { return t.time }

func (t *stateTx) Now() time.Time { return t.now }

// Cleared implements dotted.Tx: what was cleared is gone.
func (t *stateTx) Cleared(dotted.Address) bool { return false }

func (t *stateTx) Timed() bool { return t.state.timed > 0 }

func (t *stateTx) Shown() *dotted.Shown { return &t.state.shown }

func (t *stateTx) Element(container dotted.Address, name string) (dotted.Cell, error) {
	return t.Cell(container.Name(name))
}

func (t *stateTx) Put(a dotted.Address, payload []byte, removes []Dot) (Dot, error) {
	switch {
	case t.replica == 0:
		return Dot{}, ErrReadOnly
	case len(payload) == 0 || len(payload) > dotted.MaxPayload:
		return Dot{}, fmt.Errorf("%w: a payload of %d bytes (1 to %d)",
			ErrTooLong, len(payload), dotted.MaxPayload)
	}
	if err := a.CheckCell(); err != nil {
		return Dot{}, err
	}
	d := Dot{Replica: t.replica, Counter: t.next}
	t.next++
	t.set(a, t.state.cell(a).Without(removes).With(dotted.Entry{Dot: d, Payload: payload}))
	return d, nil
}

func (t *stateTx) Begin(a dotted.Address, payload []byte) (Dot, error) { return t.Put(a, payload, nil) }

func (t *stateTx) Remove(a dotted.Address, dots []Dot) error {
	if t.replica == 0 {
		return ErrReadOnly
	}
	if len(dots) > 0 {
		t.set(a, t.state.cell(a).Without(dots))
	}
	return nil
}

// Clear empties the cells one by one: a value has no log in which one operation could stand for
// them.
func (t *stateTx) Clear(prefix dotted.Address) error {
	if t.replica == 0 {
		return ErrReadOnly
	}
	var cells []dotted.Address
	t.state.scan(prefix, "", func(a dotted.Address, _ dotted.Cell) bool {
		cells = append(cells, a)
		return true
	})
	for _, a := range cells {
		t.set(a, nil)
	}
	return nil
}

func (t *stateTx) set(a dotted.Address, c dotted.Cell) {
	if _, ok := t.before[a]; !ok {
		t.before[a] = t.state.cell(a)
	}
	t.state.set(a, c)
}

func (t *stateTx) rollback() {
	for a, c := range t.before {
		t.state.set(a, c)
	}
}

// commit adds the transaction's dots to the context and returns its delta: the cells that it
// touched with their new entries, under a context of the dots that it issued and those that it
// removed. A dot that was both is in the context as well, or merging the delta twice would differ
// from merging it once. What removes something has one dot more, of no cell: all others of its
// context may be in those of deltas that overtake it.
func (t *stateTx) commit() *State {
	delta := &State{delta: true}
	removes := false
	for a, before := range t.before {
		after := t.state.cell(a)
		for _, e := range before {
			if !after.Has(e.Dot) {
				delta.context.add(e.Dot)
				removes = true
			}
		}
		var added dotted.Cell
		for _, e := range after {
			if !before.Has(e.Dot) {
				added = append(added, e)
			}
		}
		delta.set(a, added)
	}
	if removes {
		t.next++
	}
	for n := t.state.context.next(t.replica); n < t.next; n++ {
		d := Dot{Replica: t.replica, Counter: n}
		t.state.context.add(d)
		delta.context.add(d)
	}
	return delta
}

// stateVersion is the version of an encoded State. Another one is refused.
const stateVersion = 2

// stateSeal is what stands for the key under which a record is sealed.
const stateSeal = "peerd state"

const (
	stateFields = 4 // delta, vector, exceptions, cells
	cellFields  = 2 // address, entries
	entryFields = 3 // dot (2), payload
)

// MarshalBinary returns the canonical, versioned and checksummed bytes of the state or delta.
// Equal whole states have equal bytes. It never fails.
func (s *State) MarshalBinary() ([]byte, error) {
	return wire.Seal(stateVersion, []byte(stateSeal), wire.Encode(s.write)), nil
}

func (s *State) write(w *wire.Writer) {
	w.Array(stateFields)
	w.Bool(s.delta)
	s.context.write(w)
	w.Array(s.cells.Len())
	s.cells.Scan(func(a dotted.Address, c dotted.Cell) bool {
		w.Array(cellFields)
		w.String(string(a))
		c.Write(w)
		return true
	})
}

// UnmarshalBinary replaces the state with the one that MarshalBinary wrote. After an error, for
// bytes that were damaged or are of another version, s is as it was. data is not kept. Memory is
// bounded by a small multiple of len(data).
func (s *State) UnmarshalBinary(data []byte) error {
	if s.busy {
		return errors.New("state: it is being updated")
	}
	read := &State{}
	if err := unseal(stateSeal, stateVersion, data, read.read); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	*s = *read
	return nil
}

func (s *State) read(r *wire.Reader) {
	extra := r.Fields(stateFields)
	s.delta = r.Bool()
	s.context = readContext(r)
	last := dotted.Address("")
	for left := r.Array(math.MaxInt32); left > 0 && r.Err() == nil; left-- {
		more := r.Fields(cellFields)
		a := dotted.Address(r.String(MaxAddress))
		c := s.readCell(r)
		r.Skip(more)
		if r.Err() != nil {
			return
		}
		if err := a.CheckCell(); err != nil {
			r.Fail("%v", err)
			return
		}
		if a <= last || len(c) == 0 && !s.delta {
			r.Fail("cells out of order, or one without entries")
			return
		}
		last = a
		s.set(a, c)
	}
	r.Skip(extra)
}

// readCell reads the entries of a cell, whose dots must be in the context.
func (s *State) readCell(r *wire.Reader) dotted.Cell {
	n := r.Array(math.MaxInt32)
	if n%entryFields != 0 {
		r.Fail("a cell with a part of an entry")
		return nil
	}
	n /= entryFields
	c := make(dotted.Cell, 0, min(n, 1024))
	last := Dot{}
	for ; n > 0 && r.Err() == nil; n-- {
		e := dotted.Entry{Dot: dotted.ReadDot(r), Payload: bytes.Clone(r.Bytes(dotted.MaxPayload))}
		if e.Dot.Compare(last) <= 0 || len(e.Payload) == 0 || !s.context.Has(e.Dot) {
			r.Fail("entry %v out of order, without payload, or not in the context", e.Dot)
			return nil
		}
		c, last = append(c, e), e.Dot
	}
	return c
}

// MarshalJSON returns what View shows, with what has expired, to look at or to serve: an object
// of keys. Strings and registers are strings, as are bitmaps, counters numbers, flags true,
// sets, lists and streams arrays, maps and sorted sets objects, HyperLogLogs their count; of
// several types under one name there is the first of Types.First, and of concurrent values the
// one that Get shows. Bytes that are no UTF-8 are replaced. It does not fail.
//
// There is no way back: what makes the state mergeable is not in it. See MarshalBinary for that.
func (s *State) MarshalJSON() ([]byte, error) { return s.View().appendJSON(nil), nil }

// UnmarshalJSON returns an error, and leaves s as it was: see MarshalJSON.
func (s *State) UnmarshalJSON([]byte) error {
	return errors.New("state: JSON does not hold a state: keep what MarshalBinary returns")
}

func (f Fields) appendJSON(b []byte) []byte {
	b = append(b, '{')
	first := true
	for name, held := range f.All() {
		if held.First() == 0 {
			continue // of a newer version
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, name), ':')
		b = f.handle(name, held.First()).appendJSON(b)
	}
	return append(b, '}')
}

// handle returns the handle of what is stored with type t under name; nil if only a newer version
// knows the type.
func (f Fields) handle(name string, t Type) handle {
	for i := range types {
		if types[i].Type == t {
			return types[i].handle(f.named(name, t))
		}
	}
	return nil
}

func appendText(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string has no reason to fail
	return append(b, quoted...)
}
