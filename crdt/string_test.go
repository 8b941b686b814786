package crdt

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
)

// stringScript runs steps on the string "k" of replica r and returns how it reads.
func stringScript(t *testing.T, s *State, r ReplicaID, steps ...string) string {
	t.Helper()
	for _, step := range steps {
		mustUpdate(t, s, r, func(tx dotted.Tx) error {
			k := fieldsOf(tx).String("k")
			var n int64
			if _, err := fmt.Sscanf(step, "add %d", &n); err == nil {
				return second(k.Add(n))
			}
			if step == "delete" {
				return second(k.Clear())
			}
			return k.Set([]byte(strings.TrimPrefix(step, "set ")))
		})
	}
	got, ok := s.View().String("k").Get()
	if exists := s.View().Types("k").Has(TypeString); exists != ok {
		t.Errorf("exists: %v, get: %v", exists, ok)
	}
	if !ok {
		return "absent"
	}
	return string(got)
}

func TestStringReadsAsTheConversationSays(t *testing.T) {
	for _, c := range []struct {
		name       string
		both, a, b []string // steps that both have seen, then those of a and of b at once
		want       string
	}{
		{"increments of both", nil, []string{"add 1"}, []string{"add 2"}, "3"},
		{"increments on a text", []string{"set 10"}, []string{"add 1"}, []string{"add 2"}, "13"},
		{"set against increment", []string{"set 10"}, []string{"set 20"}, []string{"add 2"}, "22"},
		{"set seen by increment", []string{"set 10", "add 5", "set 7"}, nil, []string{"add 1"}, "8"},
		{"text hides increment", []string{"set 10"}, []string{"set soup"}, []string{"add 2"}, "soup"},
		{"delete against increment", []string{"add 10"}, []string{"delete"}, []string{"add 2"}, "2"},
		{"delete of both", []string{"add 10"}, []string{"delete"}, []string{"delete"}, "absent"},
		{"delete against set", []string{"set x"}, []string{"delete"}, []string{"set y"}, "y"},
		{"reset twice", []string{"add 10"}, []string{"set 0"}, []string{"add 1", "set 5"}, "5"},
		{"nothing", nil, nil, nil, "absent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := NewState(), NewState()
			stringScript(t, a, 1, c.both...)
			b.Merge(a)
			stringScript(t, a, 1, c.a...)
			stringScript(t, b, 2, c.b...)
			a.Merge(b)
			b.Merge(a)
			atA, atB := stringScript(t, a, 1), stringScript(t, b, 2)
			if atA != c.want || atB != c.want {
				t.Errorf("reads %q and %q, want %q", atA, atB, c.want)
			}
		})
	}
}

func TestTextThatHidIncrementsShowsThemWhenItIsAnIntegerAgain(t *testing.T) {
	a, b := NewState(), NewState()
	stringScript(t, a, 1, "set 10")
	b.Merge(a)
	stringScript(t, a, 1, "set soup")
	stringScript(t, b, 2, "add 2")
	if _, err := a.update(1, epochStart, func(tx dotted.Tx) error {
		return second(fieldsOf(tx).String("k").Add(1))
	}); !errors.Is(err, ErrNotInteger) {
		t.Errorf("adding to soup: %v", err)
	}
	early := a.Clone()
	a.Merge(b)
	mustUpdate(t, a, 1, func(tx dotted.Tx) error { return fieldsOf(tx).Register("k").Set([]byte("5")) })
	if got := stringScript(t, a, 1); got != "7" {
		t.Errorf("a register set beside the increments reads %q, want 7", got)
	}
	mustUpdate(t, early, 3, func(tx dotted.Tx) error { return fieldsOf(tx).String("k").Set([]byte("5")) })
	early.Merge(b)
	if got := stringScript(t, early, 3); got != "7" {
		t.Errorf("a string set before it saw the increment reads %q, want 7", got)
	}
}

func TestEntriesOfUnknownKindsAreCarriedAndThoseThatDoNotParseCountNothing(t *testing.T) {
	const unknown, unknownHidden = 0x3f, dotted.PayloadHidden | 0x3f
	k := dotted.KeyAddress("k").Type(TypeString)
	s := NewState()
	mustUpdate(t, s, 9, func(tx dotted.Tx) error {
		for _, payload := range [][]byte{
			{unknown, 1}, {unknownHidden, 2}, {byte(kindWrite), 3}, {byte(kindShare), 4},
			{byte(kindBaseline), 5}, {byte(kindShare)}, {byte(kindBaseline)},
		} {
			if err := second(tx.Put(k, payload, nil)); err != nil {
				return err
			}
		}
		return nil
	})
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).String("k").Add(3)) })
	if got := stringScript(t, s, 1); got != "3" {
		t.Errorf("reads %q, want 3", got)
	}
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return fieldsOf(tx).String("k").Set([]byte("new")) })
	if got := stringScript(t, s, 1); got != "new" {
		t.Errorf("reads %q, want new", got)
	}
	hidden := dotsOf(s.cell(k), func(e dotted.Entry) bool { return e.Has(dotted.PayloadHidden) })
	if len(hidden) != 3 || len(s.cell(k)) != 4 {
		t.Errorf("a write leaves other than itself and the hidden entries: %v", s.cell(k))
	}
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove("k")) })
	if s.cell(k).Visible() || len(s.cell(k)) != 3 {
		t.Errorf("after a removal: %v", s.cell(k))
	}
}
