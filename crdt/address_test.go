package crdt

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
)

// drawName draws names full of the bytes that addresses are escaped with.
func drawName(t *rapid.T, label string) string {
	b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 0xfe, 0xff, 'a'}), 0, 5).Draw(t, label)
	return string(b)
}

func TestAddressEndIsBeyondEverythingUnderIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName(t, "a"), drawName(t, "b")
		group, other := dotted.KeyAddress(a).Type(TypeSet), dotted.KeyAddress(b).Type(TypeString)
		if under := group.Name(drawName(t, "elem")); under >= endOf(group) {
			t.Fatalf("%q is not before %q", under, endOf(group))
		}
		if a != b && other > group && other < endOf(group) {
			t.Fatalf("%q is skipped with %q", other, group)
		}
		if beyond := dotted.KeyAddress(a).Type(lastType); (b > a) != (other > beyond) {
			t.Fatalf("%q is on the wrong side of %q", other, beyond)
		}
	})
}

func TestNoTypeStandsRightAfterAContainer(t *testing.T) {
	for _, container := range types {
		for _, typ := range types {
			if container.Holds != dotted.HoldsNothing && typ.Type == container.Type+1 {
				t.Errorf("type %v follows container %v: see endOf", typ.Type, container.Type)
			}
		}
	}
}

func TestHandlesRefuseToWriteBeyondTheLimitsAndFindNothingThere(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	deep := func(tx dotted.Tx, depth int) Fields {
		f := fieldsOf(tx)
		for range depth {
			f = f.Map("m").Fields
		}
		return f
	}
	cases := map[string]func(tx dotted.Tx) error{
		"string":         func(tx dotted.Tx) error { return fieldsOf(tx).String(long).Set(nil) },
		"string clear":   func(tx dotted.Tx) error { return second(fieldsOf(tx).String(long).Clear()) },
		"register":       func(tx dotted.Tx) error { return fieldsOf(tx).Register(long).Set(nil) },
		"register clear": func(tx dotted.Tx) error { return second(fieldsOf(tx).Register(long).Clear()) },
		"counter":        func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter(long).Add(1)) },
		"counter clear":  func(tx dotted.Tx) error { return second(fieldsOf(tx).Counter(long).Clear()) },
		"remove":         func(tx dotted.Tx) error { return second(fieldsOf(tx).Remove(long)) },
		"flag":           func(tx dotted.Tx) error { return fieldsOf(tx).Flag(long).Set(false) },
		"map clear":      func(tx dotted.Tx) error { return second(fieldsOf(tx).Map(long).Clear()) },
		"set clear":      func(tx dotted.Tx) error { return second(fieldsOf(tx).Set(long).Clear()) },
		"element":        func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Add(long)) },
		"no element":     func(tx dotted.Tx) error { return second(fieldsOf(tx).Set("s").Remove(long)) },
		"under it":       func(tx dotted.Tx) error { return fieldsOf(tx).Map(long).Flag("f").Set(true) },
		"too deep":       func(tx dotted.Tx) error { return deep(tx, MaxDepth).Flag("f").Set(true) },
		"escaped": func(tx dotted.Tx) error {
			return fieldsOf(tx).Map(nuls(MaxName)).Map(nuls(MaxName)).Flag("f").Set(true)
		},
		"value": func(tx dotted.Tx) error { return fieldsOf(tx).String("k").Set(make([]byte, MaxValue+1)) },
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
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return deep(tx, MaxDepth-1).Flag("f").Set(true) })
	mustUpdate(t, s, 1, func(tx dotted.Tx) error { return fieldsOf(tx).Flag(long[1:]).Set(true) })
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		return fieldsOf(tx).String("k").Set(make([]byte, MaxValue))
	})
}

func nuls(n int) string { return strings.Repeat("\x00", n) }

// refused returns 1 if a write is refused as beyond the limits, which must not change anything, and 0 if it is done.
func refused(t *testing.T, f Fields, do func() error) int {
	t.Helper()
	read := func() string { text, _ := f.tx.Tx.(*stateTx).state.MarshalBinary(); return string(text) }
	before := read()
	switch err := do(); {
	case err == nil:
		return 0
	case !errors.Is(err, ErrTooLong):
		t.Fatal(err)
	case read() != before:
		t.Fatalf("changed something and said %v", err)
	}
	return 1
}

// TestAStreamNearTheLimitsIsWrittenToWholeOrNot has streams so deep, or groups of names so long,
// that some of the cells of a write are within the limits and some are not.
func TestAStreamNearTheLimitsIsWrittenToWholeOrNot(t *testing.T) {
	none, some := 0, 0
	mustUpdate(t, NewState(), 1, func(tx dotted.Tx) error {
		f := fieldsOf(tx)
		for range MaxDepth {
			n := refused(t, f, func() error { return f.Stream("s").AddAs(StreamID{1, 1}, "f", "v") })
			none, some, f = none+n, some+1-n, f.Map("m").Fields
		}
		return nil
	})
	for size := MaxName - 36; size < MaxName-22; size += 2 {
		mustUpdate(t, NewState(), 1, func(tx dotted.Tx) error {
			f := fieldsOf(tx).Map(nuls(MaxName)).Map("m").Fields
			group := f.Stream("s").Group(nuls(size))
			for _, id := range []StreamID{{1, 1}, {1 << 60, 1 << 60}} {
				if err := f.Stream("s").AddAs(id, "f", "v"); err != nil {
					return err
				}
			}
			if _, err := group.Create(GroupInfo{}); err != nil {
				return err
			}
			n := refused(t, f, func() error { return second(group.Read("", epochStart, 0, false)) })
			none, some = none+n, some+1-n
			return nil
		})
	}
	if none < 3 || some < 3 {
		t.Errorf("%d writes were refused, %d not", none, some)
	}
}

// TestOneOfManyThatIsTooLongRefusesAll has paths so long that the first id is within the limits and the second is not,
// or all chunks of a bitmap but one.
func TestOneOfManyThatIsTooLongRefusesAll(t *testing.T) {
	short, long := StreamID{1, 1}, StreamID{1 << 60, 1 << 60}
	mustUpdate(t, NewState(), 1, func(tx dotted.Tx) error {
		f := fieldsOf(tx).Map(nuls(MaxName)).Map("m").Fields
		s, text := f.Stream(nuls(MaxName-28)), nuls(MaxName-17)
		group := f.Stream("s").Group(nuls(MaxName - 28))
		err := errors.Join(s.AddAs(short, "f", "v"), f.Stream("s").AddAs(short, "f", "v"),
			second(group.Create(GroupInfo{})), second(group.Read("", epochStart, 0, false)),
			f.String(text).Set(make([]byte, 256*ChunkSize)))
		for what, do := range map[string]func() error{
			"removed":      func() error { return second(s.Remove(short, long)) },
			"acknowledged": func() error { return second(group.Ack(short, long)) },
			"taken":        func() error { return second(f.Bitmap(text).Take()) },
		} {
			if refused(t, f, do) == 0 {
				t.Errorf("all are %s", what)
			}
		}
		return err
	})
}
