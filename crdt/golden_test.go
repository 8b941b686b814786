package crdt

import (
	"testing"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
)

// sampleStates returns a state with an entry of each kind, and the delta that made the last of it.
func sampleStates(t testing.TB) (state, delta *State) {
	s, o := NewState(), NewState()
	mustUpdate(t, o, 2, func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("c").Add(-1)) })
	mustUpdate(t, o, 2, func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("c").Add(300)) })
	lost := mustUpdate(t, o, 2, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("lost").Set(true) })
	s.Merge(o)
	s.Merge(mustUpdate(t, o, 3, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("f").Set(true) }))
	mustUpdate(t, o, 3, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("f").Set(false) })
	mustUpdate(t, o, 3, func(tx dotted.Tx) error { return fieldsOf(tx).Flag("unseen").Set(true) })
	s.Merge(mustUpdate(t, o, 3, func(tx dotted.Tx) error { return fieldsOf(tx).Map("m").Flag("x").Set(true) }))
	s.Merge(lost)
	delta = mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		if err := fieldsOf(tx).String("text").Set([]byte("hello")); err != nil {
			return err
		}
		if err := second(fieldsOf(tx).Counter("c").Clear()); err != nil {
			return err
		}
		if err := second(fieldsOf(tx).Map("m").Set("s").Add("elem\x00ent")); err != nil {
			return err
		}
		return fieldsOf(tx).Flag("lost").Set(false)
	})
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter("c").Add(1 << 40)) })
	return s, delta
}

func TestEncodingsOfStatesStayAsTheyAre(t *testing.T) {
	state, delta := sampleStates(t)
	for name, s := range map[string]*State{"state": state, "state-delta": delta} {
		data, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		golden.Bytes(t, name, data)
	}
}
