package crdt

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/wire"
)

func TestStatesAndDeltasSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, deltas := drawStates(t)
		for _, s := range append(states, deltas...) {
			data, err := s.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			got := NewState()
			if err := got.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
			same(t, got, s)
			if again, _ := got.MarshalBinary(); !bytes.Equal(again, data) {
				t.Fatalf("encoded again:\n%x\n%x", again, data)
			}
			same(t, join(states[0], got), join(states[0], s))
		}
	})
}

func TestUnmarshalNoticesEveryFlippedBitAndChangesNothing(t *testing.T) {
	state, _ := sampleStates(t)
	data, _ := state.MarshalBinary()
	kept := state.Clone()
	for i := range 8 * len(data) {
		flipped := bytes.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		if err := kept.UnmarshalBinary(flipped); !errors.Is(err, wire.ErrChecksum) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := range data {
		if err := kept.UnmarshalBinary(data[:n]); err == nil {
			t.Fatalf("cut to %d bytes: no error", n)
		}
	}
	if !kept.Equal(state) {
		t.Error("a refused encoding changed the state")
	}
}

// sealed is a state's body with a good seal, to let the fuzzer get past the checksum.
func sealed(body []byte) []byte { return wire.Seal(stateVersion, []byte(stateSeal), body) }

func FuzzUnmarshalState(f *testing.F) {
	state, delta := sampleStates(f)
	for _, s := range []*State{NewState(), state, delta} {
		data, _ := s.MarshalBinary()
		f.Add(data[1 : len(data)-4])
	}
	whole, _ := state.MarshalBinary()
	f.Fuzz(func(t *testing.T, body []byte) {
		s := NewState()
		var err error
		data := sealed(body)
		allocates(t, len(body), func() { err = s.UnmarshalBinary(data) })
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, _ := s.MarshalBinary()
		back := NewState()
		if err := back.UnmarshalBinary(again); err != nil || !back.Equal(s) {
			t.Fatalf("decoded, encoded and decoded: %v\n%s\n%s", err, describe(s), describe(back))
		}
		// Whatever was read can be used.
		base := NewState()
		if err := base.UnmarshalBinary(whole); err != nil {
			t.Fatal(err)
		}
		if text, err := s.MarshalJSON(); err != nil || !json.Valid(text) {
			t.Fatalf("in JSON: %s, %v", text, err)
		}
		base.Merge(s)
		if _, err := render(base); err != nil {
			t.Logf("strange, but no panic: %v", err)
		}
		_, _ = base.update(77, epochStart, func(tx Tx) error {
			_, err := Root(tx).Remove("c")
			return err
		})
	})
}

func FuzzDecodeDelta(f *testing.F) {
	f.Add(sampleDelta().Encode())
	small := &Delta{Replica: 1, First: 1, Ops: []Op{{Kind: OpClear, Address: KeyAddress("k")}}}
	f.Add(small.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		var d *Delta
		var err error
		allocates(t, len(data), func() { d, err = DecodeDelta(data) })
		if err != nil {
			return
		}
		if !bytes.Equal(d.Encode(), data) {
			t.Fatal("a decoded delta does not encode to its bytes")
		}
		copied := &Delta{
			Replica: d.Replica, First: d.First, Time: d.Time, Prev: d.Prev,
			Deps: d.Deps, Seen: d.Seen, Ops: d.Ops,
		}
		again, err := DecodeDelta(copied.Encode())
		if err != nil || !bytes.Equal(again.Encode(), copied.Encode()) {
			t.Fatalf("written anew it is refused or differs: %v", err)
		}
		for i := range d.Ops {
			_ = d.Ops[i].Address.Shape()
			_ = d.SeenBy(i).Has(d.Dot(i))
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, a := range []Address{
		"", "k", "\x00", "\x00\x01", KeyAddress("k").Type(TypeMap).Name("\x00").Type(TypeValue),
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

// allocates fails if fn allocates more than a fixed amount and a multiple of the input: two bytes
// can ask for a dot of sixteen, and maps and trees round up.
func allocates(t *testing.T, input int, fn func()) {
	t.Helper()
	limit := uint64(512<<10 + 128*input)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Fatalf("allocated %d bytes for an input of %d, limit %d", got, input, limit)
	}
}
