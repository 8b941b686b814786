package crdt

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// sampleDelta has an operation of each kind.
func sampleDelta() *Delta {
	return &Delta{
		Replica: 0xfedcba9876543210,
		First:   41,
		Time:    TimeAt(epochStart) + 7,
		Prev:    0x1122334455667788,
		Deps:    VersionVector{2: 9, 3: 1 << 33},
		Seen:    VersionVector{2: 9, 3: 1 << 33, 0xfedcba9876543210: 40},
		Ops: []Op{
			{OpPut, KeyAddress("k").Type(TypeValue), []byte("\x01 payload"), []Dot{{2, 3}, {3, 4}}},
			{OpPut, KeyAddress("k\x00").Type(TypeSet).Name("e"), []byte{0x02}, nil},
			{OpRemove, KeyAddress("gone").Type(TypeFlag), nil, []Dot{{2, 5}}},
			{Kind: OpClear, Address: KeyAddress("all")},
		},
	}
}

// sampleStates returns a state with an entry of each kind, and the delta that made the last of it.
func sampleStates(t testing.TB) (state, delta *State) {
	s, o := NewState(), NewState()
	mustUpdate(t, o, 2, func(tx Tx) error { return second(Root(tx).Counter("c").Add(-1)) })
	mustUpdate(t, o, 2, func(tx Tx) error { return second(Root(tx).Counter("c").Add(300)) })
	lost := mustUpdate(t, o, 2, func(tx Tx) error { return Root(tx).Flag("lost").Set(true) })
	s.Merge(o)
	s.Merge(mustUpdate(t, o, 3, func(tx Tx) error { return Root(tx).Flag("f").Set(true) }))
	mustUpdate(t, o, 3, func(tx Tx) error { return Root(tx).Flag("f").Set(false) })
	mustUpdate(t, o, 3, func(tx Tx) error { return Root(tx).Flag("unseen").Set(true) })
	s.Merge(mustUpdate(t, o, 3, func(tx Tx) error { return Root(tx).Map("m").Flag("x").Set(true) }))
	s.Merge(lost)
	delta = mustUpdate(t, s, 1, func(tx Tx) error {
		if err := Root(tx).String("text").Set([]byte("hello")); err != nil {
			return err
		}
		if err := second(Root(tx).Counter("c").Clear()); err != nil {
			return err
		}
		if err := second(Root(tx).Map("m").Set("s").Add("elem\x00ent")); err != nil {
			return err
		}
		return Root(tx).Flag("lost").Set(false)
	})
	mustUpdate(t, s, 1, func(tx Tx) error { return second(Root(tx).Counter("c").Add(1 << 40)) })
	return s, delta
}

func TestEncodingsOfDeltasAndStatesStayAsTheyAre(t *testing.T) {
	golden(t, "delta", sampleDelta().Encode())
	state, delta := sampleStates(t)
	for name, s := range map[string]*State{"state": state, "state-delta": delta} {
		data, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, data)
	}
}

func TestDeltaDecodesToWhatWasEncoded(t *testing.T) {
	want := sampleDelta()
	got, err := DecodeDelta(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".encoded" || p.Last().String() == ".hash"
	}, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Error(diff)
	}
	if got.Hash() != want.Hash() || !bytes.Equal(got.Encode(), want.Encode()) {
		t.Error("hash or bytes differ")
	}
}
