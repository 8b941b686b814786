package crdt

import (
	"fmt"

	"github.com/peerd/peerd/internal/dotted"
)

// stateTx is a transaction on a State. It changes the state at once and remembers what it changed,
// to take it back, or to make the delta from it.
type stateTx struct {
	state   *State
	replica ReplicaID // zero: reads only
	time    dotted.Time
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

func (t *stateTx) Time() dotted.Time { return t.time }

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
// from merging it once.
func (t *stateTx) commit() *State {
	delta := &State{delta: true}
	for n := t.state.context.Next(t.replica); n < t.next; n++ {
		d := Dot{Replica: t.replica, Counter: n}
		t.state.context.Add(d)
		delta.context.Add(d)
	}
	for a, before := range t.before {
		after := t.state.cell(a)
		for _, e := range before {
			if !after.Has(e.Dot) {
				delta.context.Add(e.Dot)
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
	return delta
}
