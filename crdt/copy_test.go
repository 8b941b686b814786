package crdt

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestACopyReadsAsWhatWasCopied copies each key of states that replicas made at the same time
// over each other.
func TestACopyReadsAsWhatWasCopied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states, _ := drawStates(t)
		s := merged(states...)
		var keys []string
		for key := range s.View().All() {
			keys = append(keys, key)
		}
		if len(keys) == 0 {
			return
		}
		from, to := rapid.SampledFrom(keys).Draw(t, "from"), rapid.SampledFrom(append(keys, "new")).Draw(t, "to")
		before := readings(t, s)
		_, err := s.Update(99, time.Time{}, func(f Fields) error {
			_, err := f.Copy(from, to)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		after := readings(t, s)
		if !bytes.Equal(after[to], before[from]) || !bytes.Equal(after[from], before[from]) {
			t.Fatalf("a copy of %s to %s reads as %s", from, before[from], after[to])
		}
	})
}

// readings returns how each key reads.
func readings(t *rapid.T, s *State) (keys map[string]json.RawMessage) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestWhatIsWrittenWhileACopyIsMadeStaysWhereItWas(t *testing.T) {
	a := NewState()
	write := func(s *State, r ReplicaID, fn func(f Fields) error) {
		t.Helper()
		if _, err := s.Update(r, time.Time{}, fn); err != nil {
			t.Fatal(err)
		}
	}
	add := func(f Fields) error {
		_, err := f.Counter("visits").Add(5)
		return err
	}
	write(a, 1, add)
	b := a.Clone()
	write(a, 1, func(f Fields) error {
		_, err := f.Copy("visits", "before")
		return err
	})
	write(b, 2, add)
	a.Merge(b)
	if copied, now := a.View().Counter("before").Get(), a.View().Counter("visits").Get(); copied != 5 || now != 10 {
		t.Errorf("copied %d, now %d; want 5 and 10", copied, now)
	}
	write(a, 1, func(f Fields) error {
		if existed, err := f.Copy("none", "visits"); existed || err != nil {
			t.Errorf("nothing was copied: %v, %v", existed, err)
		}
		_, err := f.Copy("visits", "visits")
		return err
	})
	if now := a.View().Counter("visits").Get(); now != 10 {
		t.Errorf("%d after copies of nothing and onto itself", now)
	}
}
