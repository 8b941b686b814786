package crdt

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
)

var (
	_ encoding.BinaryMarshaler   = (*State)(nil)
	_ encoding.BinaryUnmarshaler = (*State)(nil)
	_ json.Marshaler             = (*State)(nil)
	_ json.Unmarshaler           = (*State)(nil)
	_ encoding.BinaryMarshaler   = (*Context)(nil)
	_ encoding.BinaryUnmarshaler = (*Context)(nil)
	_ json.Marshaler             = (*Context)(nil)
	_ json.Unmarshaler           = (*Context)(nil)
)

// drawSeen draws a context with exceptions.
func drawSeen(t *rapid.T) *Context {
	var c Context
	for range rapid.IntRange(0, 20).Draw(t, "dots") {
		c.add(Dot{
			Replica: ReplicaID(rapid.Uint64Range(1, 3).Draw(t, "replica")),
			Counter: rapid.Uint64Range(1, 12).Draw(t, "counter"),
		})
	}
	return &c
}

func TestAContextComesBackFromBytesAndJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawSeen(t)
		var fromBytes, fromJSON Context
		data, _ := c.MarshalBinary()
		if err := fromBytes.UnmarshalBinary(data); err != nil || !fromBytes.Equal(c) {
			t.Fatalf("from bytes: %v", err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &fromJSON); err != nil || !fromJSON.Equal(c) {
			t.Fatalf("from %s: %v", text, err)
		}
	})
}

// Whoever keeps a state as JSON must see that before it is lost.
func TestAStateDoesNotComeBackFromJSON(t *testing.T) {
	state, _ := sampleStates(t)
	kept := struct{ State *State }{state}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	before := state.Clone()
	if err := json.Unmarshal(text, &kept); err == nil || !state.Equal(before) {
		t.Errorf("a state was read from %s: %v", text, err)
	}
}

func TestTheFormatOfAContextStays(t *testing.T) {
	state, _ := sampleStates(t)
	c := state.Context()
	data, _ := c.MarshalBinary()
	golden.Bytes(t, "context", data)
}

func TestTextThatIsNoContextOrDotIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"vector": {"1": 1}}`, `{"vector": {"0000000000000000": 1}}`, `{"vector": {"0000000000000001": 0}}`,
		`{"vector": {"0000000000000001": 9223372036854775808}}`, `{"exceptions": ["0000000000000001:0"]}`,
		`{"exceptions": ["0000000000000000:1"]}`, `{"exceptions": ["1"]}`, `[]`,
	} {
		c := Context{vector: VersionVector{7: 7}}
		if err := json.Unmarshal([]byte(text), &c); err == nil || c.Vector()[7] != 7 {
			t.Errorf("%s: %v, and the context has become %v", text, err, c.Vector())
		}
	}
	for _, text := range []string{"", ":", "0000000000000001", "1:1", "0000000000000001:-1", "0000000000000001:x"} {
		d := Dot{Replica: 7, Counter: 7}
		if err := d.UnmarshalText([]byte(text)); err == nil || d != (Dot{Replica: 7, Counter: 7}) {
			t.Errorf("%q: %v, and the dot has become %v", text, err, d)
		}
	}
}

func TestJSONShowsWhatReadersSee(t *testing.T) {
	s := NewState()
	mustUpdate(t, s, 1, func(tx dotted.Tx) error {
		f := fieldsOf(tx)
		_, err := f.Set("both").Add("\xff")
		_, err2 := f.Counter("n").Add(-3)
		_, err3 := f.String("text and count").Add(1)
		return errors.Join(err, err2, err3, f.Flag("both").Set(true), f.Map("m").Map("m").Flag("x").Set(true),
			f.Register("text and count").Set([]byte("6")), f.Flag("off").Set(false),
			f.String("\"<\"").Set(nil), tx.Clear(dotted.KeyAddress("nothing")),
			second(tx.Put(dotted.KeyAddress("newer").Type(TypeString), []byte{0x3f}, nil)),
			second(tx.Put(dotted.KeyAddress("type").Type('q'), []byte{0x3f}, nil)))
	})
	want := `{"\"\u003c\"":"","both":["\ufffd"],"m":{"m":{"x":true}},"n":-3,"newer":null,"text and count":"7"}`
	if got, err := json.Marshal(s); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func FuzzUnmarshalContext(f *testing.F) {
	state, _ := sampleStates(f)
	for _, c := range []*Context{{}, state.Context()} {
		data, _ := c.MarshalBinary()
		f.Add(data[1 : len(data)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var c Context
		var err error
		data := wire.Seal(contextVersion, []byte(contextSeal), body)
		allocates(t, len(body), func() { err = c.UnmarshalBinary(data) })
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, _ := c.MarshalBinary()
		var back Context
		if err := back.UnmarshalBinary(again); err != nil || !back.Equal(&c) {
			t.Fatalf("decoded, encoded and decoded: %v", err)
		}
		if once, _ := back.MarshalBinary(); !bytes.Equal(once, again) {
			t.Fatal("equal contexts have different bytes")
		}
	})
}

func TestAnEncodingOfAnotherFormatIsNamed(t *testing.T) {
	for version, why := range map[byte]string{
		1: "format 1, from before peerd 0.1.0, and this program reads format 2",
		3: "format 3, and this program reads format 2: use the newer peerd",
	} {
		for _, err := range []error{
			new(Context).UnmarshalBinary(wire.Seal(version, []byte(contextSeal), []byte{0x90})),
			new(State).UnmarshalBinary(wire.Seal(version, []byte(stateSeal), []byte{0x90})),
		} {
			if !errors.Is(err, wire.ErrFormat) || !strings.Contains(err.Error(), why) {
				t.Errorf("format %d: %v", version, err)
			}
		}
	}
}
