package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peerd/peerd/internal/dotted"
)

// TestAnAnswerIsInTheReadyThatHasItsRecord, behind the writes that make it true: whoever carries out the fields of a
// Ready in their order tells a client nothing that a crash takes back. The process dies before each of the writes, and
// behind the last; and the power fails there.
func TestAnAnswerIsInTheReadyThatHasItsRecord(t *testing.T) {
	for _, always := range []bool{false, true} {
		s := newScript(t)
		s.cfg.Sync = always
		a := &actor{s: s, i: 1, disk: newDisk()}
		s.actors = append(s.actors, a)
		a.start()
		a.submit([][]string{{"set", "k", "v"}, {"set", "l", "w"}})
		if err := a.e.Step(s.now, s.now); err != nil {
			t.Fatal(err)
		}
		rd := a.e.Ready()
		if len(rd.Answers) != 1 || len(rd.Committed) != 2 {
			t.Fatalf("the Ready has %d answers and %d deltas, want 1 and 2", len(rd.Answers), len(rd.Committed))
		}
		if keys := keysOf(t, a.e.replica); len(keys) > 0 {
			t.Errorf("readers see %q before it is written", keys)
		}
		for n := range len(rd.Writes) + 1 {
			before := a.disk.Clone()
			if err := CarryOut(rd.Writes[:n], before, before.log); err != nil {
				t.Fatal(err)
			}
			whole := n == len(rd.Writes)
			wantKept(t, fmt.Sprintf("always %v, killed behind %d writes", always, n), before.Clone(), whole || n > 0)
			wantKept(t, fmt.Sprintf("always %v, no power behind %d writes", always, n), before.Crash(), whole && always)
		}
		if err := CarryOut(rd.Writes, a.disk, a.disk.log); err != nil {
			t.Fatal(err)
		}
		if a.e.Advance(); len(keysOf(t, a.e.replica)) != 2 {
			t.Error("readers do not see it once it is written")
		}
	}
}

// wantKept opens a disk, and fails unless it has the keys k and l, or none.
func wantKept(t *testing.T, when string, d *disk, kept bool) {
	t.Helper()
	var want []string
	if kept {
		want = []string{"k", "l"}
	}
	if got := keysOf(t, openOn(t, d, 9)); !slices.Equal(got, want) {
		t.Errorf("%s: there are %q, want %q", when, got, want)
	}
}

func keysOf(t *testing.T, r *replica) (keys []string) {
	t.Helper()
	v := r.View()
	defer v.Close()
	if err := v.Keys("", "", func(key string, _ dotted.Summary) bool { keys = append(keys, key); return true }); err != nil {
		t.Fatal(err)
	}
	return keys
}
