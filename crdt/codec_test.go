package crdt

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/internal/dotted"
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
		_, _ = base.update(77, epochStart, func(tx dotted.Tx) error {
			_, err := fieldsOf(tx).Remove("c")
			return err
		})
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
