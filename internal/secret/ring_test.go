package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARingIsStoredAndReadAgainAtEachStepOfARotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	old, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, r Ring, keys int, inUse, next Key) Ring {
		t.Helper()
		if err := r.Save(path); err != nil {
			t.Fatal(err)
		}
		loaded, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := loaded.Next(); got != next || loaded.InUse() != inUse || len(loaded.Keys()) != keys {
			t.Errorf("%s: another ring was read than was stored", what)
		}
		return loaded
	}
	renewed := New()
	ring := step("one key", NewRing(old), 1, old, Key{})
	held, err := ring.Hold(renewed)
	if err != nil {
		t.Fatal(err)
	}
	held = step("held", held, 2, old, renewed)
	if again, err := held.Hold(renewed); err != nil || len(again.Keys()) != 2 {
		t.Errorf("held twice: %v", err)
	}
	used, err := held.Use(renewed.ClusterID())
	if err != nil {
		t.Fatal(err)
	}
	used = step("in use", used, 2, renewed, Key{})
	if again, err := used.Hold(renewed); err != nil || !again.next.IsZero() {
		t.Errorf("a key in use is next after it was held again: %v", err)
	}
	step("retired", used.Retire(), 1, renewed, Key{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is stored with mode %v (%v)", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files left behind: %v", left)
	}
}

func TestARingIsBoundedAndUsesOnlyWhatItHolds(t *testing.T) {
	ring := NewRing(New())
	for range MaxKeys - 1 {
		var err error
		if ring, err = ring.Hold(New()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ring.Hold(New()); !errors.Is(err, ErrTooManyKeys) {
		t.Errorf("one key too many: %v", err)
	}
	if _, err := ring.Use(New().ClusterID()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a key that is not held: %v", err)
	}
	if read, err := parseRing(ring.text()); err != nil || read.text() != ring.text() {
		t.Errorf("a full ring is not read again: %v", err)
	}
}

func TestLinesThatDoNotBelongTogetherAreRefused(t *testing.T) {
	a, b, c := strings.TrimSpace(New().line()), strings.TrimSpace(New().line()), strings.TrimSpace(New().line())
	for name, lines := range map[string][]string{
		"the first is next": {a + " next", b},
		"two are next":      {a, b + " next", c + " next"},
		"twice the same":    {a, b, a},
		"a stray word":      {a, "hello"},
		"another mark":      {a, b + " later"},
	} {
		if _, err := parseRing(strings.Join(lines, "\n")); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), a[20:40]) {
			t.Errorf("%s: the error shows a part of a key: %v", name, err)
		}
	}
}

func TestAKeyTravelsAsBytes(t *testing.T) {
	k := New()
	if got, err := FromBytes(k.Expose()); err != nil || got != k {
		t.Error(err)
	}
	for _, raw := range [][]byte{nil, make([]byte, KeySize), make([]byte, KeySize-1)} {
		if _, err := FromBytes(raw); err == nil {
			t.Errorf("%d bytes are taken for a key", len(raw))
		}
	}
}

// TestAnOlderCopyOfARingIsKnownByTheKeysThatItLost has a host that is started with the file that
// it was given first.
func TestAnOlderCopyOfARingIsKnownByTheKeysThatItLost(t *testing.T) {
	first, second := New(), New()
	given := NewRing(first)
	held, err := given.Hold(second)
	if err != nil {
		t.Fatal(err)
	}
	used, err := held.Use(second.ClusterID())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := used.Retire().Save(path); err != nil {
		t.Fatal(err)
	}
	stored, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		here, other Ring
		want        Ring
		same        bool
	}{
		{"the one from before the rotation", stored, given, stored, true},
		{"one of the middle of it", stored, used, stored, true},
		{"the same", stored, stored, stored, true},
		{"a newer one", given, used, used, true},
		{"one that came after a rotation that is over", given, stored, given, false},
		{"another cluster's", stored, NewRing(New()), stored, false},
	} {
		got, same := c.here.Newer(c.other)
		if same != c.same || !got.Equal(c.want) {
			t.Errorf("%s: of the same cluster %v, want %v; it was the other one that was chosen, or not", c.name, same, c.same)
		}
	}
	for range 2 * maxFormer {
		next := New()
		held, _ := stored.Hold(next)
		used, _ := held.Use(next.ClusterID())
		stored = used.Retire()
	}
	if n := len(stored.former); n != maxFormer {
		t.Errorf("%d former keys are remembered, want %d", n, maxFormer)
	}
	if again, err := RingFromBytes(stored.Expose()); err != nil || !again.Equal(stored) || len(again.former) != maxFormer {
		t.Errorf("read again: %v", err)
	}
}
