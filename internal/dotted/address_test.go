package dotted

import (
	"cmp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Types of each kind, as crdt defines them.
const (
	TypeString Type = 'v'
	TypeSet    Type = 's'
	TypeMap    Type = 'm'
)

func init() {
	Define(Kind{Type: TypeString, Name: "string", Holds: HoldsShares})
	Define(Kind{Type: TypeSet, Name: "set", Holds: HoldsElements})
	Define(Kind{Type: TypeMap, Name: "map", Holds: HoldsFields})
}

func TestAByteIsOneType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second type took the byte of the first")
		}
	}()
	Define(Kind{Type: TypeSet, Name: "list"})
}

func TestATypeOfANewerVersionHasNoNameAndHoldsNothingThatIsKnown(t *testing.T) {
	a := KeyAddress("k").Type(7)
	if got := Type(7).String(); got != "type 7" || a.Name("x").Shape() != a.Shape()+"\x00" {
		t.Errorf("it is %q, with shape %q", got, a.Name("x").Shape())
	}
	if err := (a + "\x00").Check(); err != nil {
		t.Error(err)
	}
}

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
		a = a.Type(TypeString)
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

// drawLongName draws names that are short, or long with the same beginning.
func drawLongName(t *rapid.T) string {
	tail := drawName(t, "tail")
	if rapid.Bool().Draw(t, "long") {
		return strings.Repeat("x", rapid.SampledFrom([]int{126, 128, 255, 256}).Draw(t, "x")) + tail
	}
	return tail
}

func FuzzAddress(f *testing.F) {
	for _, a := range []Address{
		"", "k", "\x00", "\x00\x01", KeyAddress("k").Type(TypeMap).Name("\x00").Type(TypeString),
		KeyAddress("k").Type(TypeMap) + "\x00\xff", KeyAddress("k").Type(0xff),
	} {
		f.Add(string(a))
	}
	f.Fuzz(func(t *testing.T, data string) {
		a := Address(data)
		_ = a.Shape()
		name, rest, ok := a.CutName()
		if ok && Address("").Name(name)+rest != a {
			t.Fatalf("%q is not %q and %q", a, name, rest)
		}
		if a.Check() == nil && (!ok || a.Key() != name) {
			t.Fatalf("%q passes without a key", a)
		}
		if key := KeyAddress(data); key.Key() != data {
			t.Fatalf("key %q comes back as %q", data, key.Key())
		}
	})
}

// TestTheAddressOfAShareNamesItsStringAndItsOwner tests that shares stand right behind their string, and that nothing else
// is taken for one.
func TestTheAddressOfAShareNamesItsStringAndItsOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counter := KeyAddress(drawName(t, "key"))
		for range rapid.IntRange(0, 2).Draw(t, "depth") {
			counter = counter.Type(TypeMap).Name(drawName(t, "field"))
		}
		other := counter.Type(TypeSet).Name("c\x00\x00\x00\x00\x00\x00\x00\x00")
		counter = counter.Type(TypeString)
		id := ReplicaID(rapid.Uint64().Draw(t, "id"))
		share := counter.Share(id)
		of, owner, ok := share.CutShare()
		switch {
		case !ok || of != counter || owner != id:
			t.Fatalf("%q is the share of %v on %q: %v", share, owner, of, ok)
		case !strings.HasPrefix(string(share), string(counter.Shares())) || share <= counter:
			t.Fatalf("%q is not behind %q", share, counter)
		case len(share)-len(counter) > ShareBytes || share.CheckCell() != nil:
			t.Fatalf("%q is too long (%v)", share, share.CheckCell())
		case !counter.IsString() || share.IsString() || other.IsString():
			t.Fatal("strings are not told from others")
		}
		for _, a := range []Address{counter, counter.Shares(), share + "x", share[:len(share)-2], other, ""} {
			if _, _, ok := a.CutShare(); ok {
				t.Fatalf("%q is taken for a share", a)
			}
		}
	})
}
