package crdt

import (
	"cmp"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawName draws names full of the bytes that addresses are escaped with.
func drawName(t *rapid.T, label string) string {
	b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 0xfe, 0xff, 'a'}), 0, 5).Draw(t, label)
	return string(b)
}

func TestAddressesSortAsTheirNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName(t, "a"), drawName(t, "b")
		x := KeyAddress(a).Type(Type(rapid.Byte().Draw(t, "type")))
		y := KeyAddress(b).Type(Type(rapid.Byte().Draw(t, "type")))
		if a != b && cmp.Compare(a, b) != cmp.Compare(x, y) {
			t.Fatalf("%q and %q sort otherwise than %q and %q", a, b, x, y)
		}
		if a != b && strings.HasPrefix(string(x), string(KeyAddress(b))) {
			t.Fatalf("%q of key %q has the prefix of key %q", x, a, b)
		}
	})
}

func TestAddressGivesBackItsNamesAndTypes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return drawName(t, "name")
		}), 1, 6).Draw(t, "names")
		a := KeyAddress(names[0])
		for _, name := range names[1:] {
			a = a.Type(TypeMap).Name(name)
		}
		a = a.Type(TypeValue)
		if want := strings.Repeat("m", len(names)-1) + "v"; a.Shape() != want {
			t.Fatalf("shape %q, want %q", a.Shape(), want)
		}
		if a.Key() != names[0] {
			t.Fatalf("key %q, want %q", a.Key(), names[0])
		}
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		for _, want := range names {
			name, rest, ok := a.CutName()
			if !ok || name != want {
				t.Fatalf("name %q, %v, want %q", name, ok, want)
			}
			_, a, _ = rest.CutType()
		}
		if a != "" {
			t.Fatalf("%q is left", a)
		}
	})
}

func TestAddressEndIsBeyondEverythingUnderIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName(t, "a"), drawName(t, "b")
		group, other := KeyAddress(a).Type(TypeSet), KeyAddress(b).Type(TypeValue)
		if under := group.Name(drawName(t, "elem")); under >= group.end() {
			t.Fatalf("%q is not before %q", under, group.end())
		}
		if a != b && other > group && other < group.end() {
			t.Fatalf("%q is skipped with %q", other, group)
		}
		if beyond := KeyAddress(a).Type(lastType); (b > a) != (other > beyond) {
			t.Fatalf("%q is on the wrong side of %q", other, beyond)
		}
	})
}

func TestNoTypeStandsRightAfterAContainer(t *testing.T) {
	for _, container := range []Type{TypeMap, TypeSet} {
		for _, typ := range types {
			if typ == container+1 {
				t.Errorf("type %q follows container %q: see Address.end", typ, container)
			}
		}
	}
}

func TestHandlesRefuseToWriteBeyondTheLimitsAndFindNothingThere(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	nuls := strings.Repeat("\x00", MaxName)
	deep := func(tx Tx, depth int) Fields {
		f := Root(tx)
		for range depth {
			f = f.Map("m").Fields
		}
		return f
	}
	cases := map[string]func(tx Tx) error{
		"string":         func(tx Tx) error { return Root(tx).String(long).Set(nil) },
		"string clear":   func(tx Tx) error { return second(Root(tx).String(long).Clear()) },
		"register":       func(tx Tx) error { return Root(tx).Register(long).Set(nil) },
		"register clear": func(tx Tx) error { return second(Root(tx).Register(long).Clear()) },
		"counter":        func(tx Tx) error { return second(Root(tx).Counter(long).Add(1)) },
		"counter clear":  func(tx Tx) error { return second(Root(tx).Counter(long).Clear()) },
		"remove":         func(tx Tx) error { return second(Root(tx).Remove(long)) },
		"flag":           func(tx Tx) error { return Root(tx).Flag(long).Set(false) },
		"map clear":      func(tx Tx) error { return second(Root(tx).Map(long).Clear()) },
		"set clear":      func(tx Tx) error { return second(Root(tx).Set(long).Clear()) },
		"element":        func(tx Tx) error { return second(Root(tx).Set("s").Add(long)) },
		"no element":     func(tx Tx) error { return second(Root(tx).Set("s").Remove(long)) },
		"under it":       func(tx Tx) error { return Root(tx).Map(long).Flag("f").Set(true) },
		"too deep":       func(tx Tx) error { return deep(tx, MaxDepth).Flag("f").Set(true) },
		"escaped": func(tx Tx) error {
			return Root(tx).Map(nuls).Map(nuls).Flag("f").Set(true)
		},
		"value": func(tx Tx) error { return Root(tx).String("k").Set(make([]byte, MaxValue+1)) },
	}
	for name, do := range cases {
		s := NewState()
		if _, err := s.update(1, epochStart, do); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v, want ErrTooLong", name, err)
		}
	}
	s := NewState()
	f := s.View()
	_, written := f.Register(long).Get()
	_, text := f.String(long).Get()
	if written || text || f.Has(long) || f.Types(long) != 0 || f.Flag(long).Get() ||
		f.Counter(long).Get() != 0 || f.Set(long).Len() != 0 || f.Set(long).Has(long) ||
		f.Map(long).Len() != 0 || f.Map(long).CountStrings() != 0 || f.Err() != nil {
		t.Errorf("something is found under a name beyond the limits; %v", f.Err())
	}
	for range f.Map(long).All() {
		t.Error("a field is found under a name beyond the limits")
	}
	mustUpdate(t, s, 1, func(tx Tx) error { return deep(tx, MaxDepth-1).Flag("f").Set(true) })
	mustUpdate(t, s, 1, func(tx Tx) error { return Root(tx).Flag(long[1:]).Set(true) })
	mustUpdate(t, s, 1, func(tx Tx) error {
		return Root(tx).String("k").Set(make([]byte, MaxValue))
	})
}

func TestPlacesAreOneToOneAndKeepPrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Address {
			a := KeyAddress(drawLongName(t)).Type(TypeSet)
			if rapid.Bool().Draw(t, label) {
				a = a.Name(drawLongName(t))
			}
			return a
		}
		a, b := draw("a has an element"), draw("b has an element")
		if (a == b) != (a.Place() == b.Place()) {
			t.Fatalf("%q and %q are at %q and %q", a, b, a.Place(), b.Place())
		}
		covers := strings.HasPrefix(string(b), string(a))
		if covers != strings.HasPrefix(string(b.Place()), string(a.Place())) {
			t.Fatalf("%q is a prefix of %q: %v; of the places the opposite", a, b, covers)
		}
		if again := a.Place().Place(); len(a) <= longName && again != a.Place() {
			t.Fatalf("%q has the place %q, that the place %q", a, a.Place(), again)
		}
	})
}
