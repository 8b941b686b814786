package engine

import (
	"fmt"
	"maps"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// kindsIn returns how many records there are of each kind that is written with cells.
func kindsIn(t *testing.T, snap store.Snapshot) map[string]int {
	t.Helper()
	defer snap.Close()
	kinds := map[string]int{}
	must(t, snap.ScanKeys(nil, nil, func(key []byte) bool {
		switch key[0] {
		case prefixCell, prefixLeaf, prefixSummary, prefixCount:
			kinds[string(key[:1])]++
		}
		return true
	}))
	return kinds
}

// TestABirthWritesTwoRecordsOrThree has cells born, and looks at what the tree has more afterwards: a cell and its entry in the
// index of leaves. What is not a string has also sums over its key, with its first cell, and those over what was counted
// on a field.
// Entries of the index come with a checkpoint alone: memory and the log have none.
func TestABirthWritesTwoRecordsOrThree(t *testing.T) {
	two := map[string]int{"c": 1, "t": 1}
	for _, c := range []struct {
		what string
		do   func(f crdt.Fields) error
		want map[string]int
	}{
		{"a string", func(f crdt.Fields) error { return f.String("new").Set([]byte("x")) }, two},
		{"a further member", added("set", "new"), two},
		{"a further field", func(f crdt.Fields) error { return f.Map("map").Flag("new").Set(true) }, two},
		{"a first member", added("new", "new"), map[string]int{"c": 1, "t": 1, "k": 1}},
		{"a counter", func(f crdt.Fields) error { _, err := f.Counter("new").Add(1); return err },
			map[string]int{"c": 1, "t": 1, "k": 1}},
		{"a counter in a map", func(f crdt.Fields) error { _, err := f.Map("map").Counter("new").Add(1); return err },
			map[string]int{"c": 1, "t": 1, "n": 1}},
	} {
		w := newWorld(t, 1, worldConfig{hosts: 1})
		h := w.hosts[0]
		w.write(t, h, added("set", "old"))
		w.write(t, h, func(f crdt.Fields) error { return f.Map("map").Flag("old").Set(true) })
		w.write(t, h, put("old"))
		r := h.engine.replica
		must(t, r.Save(w.now))
		before := kindsIn(t, r.st.Snapshot())
		w.write(t, h, c.do)
		must(t, scanLog(r.logs, r.saved.next, 0, func(rec logged, _ store.Position) bool {
			for _, it := range rec.derived {
				if it.key[0] == prefixLeaf || c.want[it.key[:1]] == 0 && it.key[0] != prefixSummary {
					t.Errorf("%s: the log has a record %q", c.what, it.key)
				}
			}
			return true
		}))
		v := r.View()
		for at := v.shot.Seek(""); at.Record != nil; at.Next() {
			if at.Record.Key()[0] == prefixLeaf {
				t.Errorf("%s: memory has an entry of the index of leaves", c.what)
			}
		}
		v.Close()
		if now := kindsIn(t, r.st.Snapshot()); !maps.Equal(now, before) {
			t.Errorf("%s: the tree has %v before a checkpoint, want %v", c.what, now, before)
		}
		must(t, r.Save(w.now))
		more := kindsIn(t, r.st.Snapshot())
		for kind, n := range before {
			if more[kind] -= n; more[kind] == 0 {
				delete(more, kind)
			}
		}
		if !maps.Equal(more, c.want) {
			t.Errorf("%s: the tree has %v more, want %v", c.what, more, c.want)
		}
	}
}

// TestAKeyHasSumsWhileAStringIsNotAllOfIt has a key become lone and cease to be, by what is written here and by what comes
// from another host, as deltas and by a repair, in a replica that is empty too. Readers always see what there is.
func TestAKeyHasSumsWhileAStringIsNotAllOfIt(t *testing.T) {
	w := newWorld(t, 3, worldConfig{hosts: 3, maxLog: 300})
	a := w.hosts[0]
	set := func(f crdt.Fields) error { return f.String("k").Set([]byte("x")) }
	both := dotted.Summary{Visible: dotted.Shapes{{Shape: "s", Count: 1}, {Shape: "v", Count: 1}}}
	clear := func(f crdt.Fields) error { _, err := f.Clear(); return err }
	for i, step := range []struct {
		what string
		do   func(f crdt.Fields) error
		want dotted.Summary
		sums bool
	}{
		{"a string", set, lone, false},
		{"the string again", set, lone, false},
		{"a member", added("k", "m"), both, true},
		{"the string once more", set, both, true},
		{"the member gone", func(f crdt.Fields) error { _, err := f.Set("k").Remove("m"); return err }, lone, false},
		{"an increment", func(f crdt.Fields) error { _, err := f.Counter("k").Add(1); return err },
			dotted.Summary{Visible: lone.Visible, Tallies: 1}, true},
		{"all cleared", clear, dotted.Summary{}, false},
		{"a string after a clear", set, lone, false},
		{"a second after a clear", added("k", "m"), both, true},
		{"all cleared again", clear, dotted.Summary{}, false},
	} {
		w.write(t, a, step.do)
		if i%3 == 2 {
			must(t, a.engine.Save(w.now))
		}
		if i%4 > 1 { // by a repair, where the log does not reach back
			for n := range 20 {
				w.write(t, a, func(f crdt.Fields) error { return f.String(fmt.Sprint("other", n)).Set(make([]byte, 50)) })
			}
			must(t, a.engine.Save(w.now))
		}
		w.connect(0, 1)
		if i == 5 {
			w.connect(0, 2)
		}
		w.settle(t)
		for _, h := range w.hosts[:2] {
			w.checkLone(t, h, step.what, step.want, step.sums)
		}
		w.cut(0, 1)
	}
	w.connect(0, 2)
	w.settle(t)
	w.checkDerived(t, w.hosts[2])
	if w.done["repair"] == 0 {
		t.Error("nothing was repaired")
	}
}

// checkLone compares what is said of a key with what should be.
func (w *world) checkLone(t *testing.T, h *host, what string, want dotted.Summary, sums bool) {
	t.Helper()
	w.checkDerived(t, h)
	v := h.engine.View()
	defer v.Close()
	got, err := v.Summary("k")
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: host %d says %v of the key, want %v", what, h.i, got, want)
	}
	at := place(prefixSummary, dotted.KeyAddress("k"))
	record, found, err := v.record(at)
	must(t, err)
	if found { // else a clear may be over it
		var s dotted.Summary
		s, err = v.summaryIn(at, record)
		must(t, err)
		found = says(s)
	}
	if found != sums {
		t.Errorf("%s: that host %d has sums over the key is %v, want %v", what, h.i, found, sums)
	}
}
