package crdt

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/dotted"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// golden compares bytes with testdata/name.golden, 32 of them a line in hexadecimal.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	var lines strings.Builder
	for rest := got; len(rest) > 0; {
		n := min(len(rest), 32)
		lines.WriteString(hex.EncodeToString(rest[:n]) + "\n")
		rest = rest[n:]
	}
	if *update {
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), lines.String()); diff != "" {
		t.Errorf("the format of %s changed (-was +is): old peers cannot read it.\n%s", name, diff)
	}
}

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
		golden(t, name, data)
	}
}
