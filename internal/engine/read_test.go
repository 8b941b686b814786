package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// TestAStringThatIsNotInMemoryIsOneReadOfTheTree reads keys that memory does not have, from a view
// and beside steps.
func TestAStringThatIsNotInMemoryIsOneReadOfTheTree(t *testing.T) {
	s := &tally{disk: newDisk()}
	r := openOn(t, s, 1)
	pipeline(t, r, 10, func(f crdt.Fields, i int) error {
		return f.String(fmt.Sprint("k", i)).Set([]byte("x"))
	})
	must(t, r.Save(testStart))
	r = openOn(t, s, 100)
	e := newEngine(r)
	must(t, e.checkAll())
	s.reads, s.scans = 0, 0
	v := r.View()
	defer v.Close()
	if value, ok := Fields(v).String("k3").Get(); !ok || string(value) != "x" || s.reads != 1 {
		t.Errorf("a view reads %q (%v) with %d reads of the tree", value, ok, s.reads)
	}
	s.reads = 0
	var got []byte
	u := wishFor(func(tx *Tx) error { got, _ = Fields(tx).String("k4").Get(); return nil })
	next := e.Read(u, 0, testStart)
	if next != 1 || u.errs[0] != nil || string(got) != "x" || s.reads != 1 {
		t.Errorf("beside steps it is %q (%v) with %d reads of the tree", got, u.errs, s.reads)
	}
	s.reads = 0
	if e.Read(u, 0, testStart); s.reads != 0 || string(got) != "x" {
		t.Errorf("read again it is %q with %d reads of the tree", got, s.reads)
	}
}

// TestAStringThatLooksLikeACounterIsRead from a view, of a key that memory does not have.
func TestAStringThatLooksLikeACounterIsRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		other func(f crdt.Fields) error
		reads int // of the tree
	}{
		{"alone", nil, 1},
		{"in a store with a counter", counted(1), 2},
		{"in a store with an expiry", func(f crdt.Fields) error {
			return f.String("e").SetUntil([]byte("x"), testStart.Add(time.Hour))
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &tally{disk: newDisk()}
			r := openOn(t, s, 1)
			pipeline(t, r, 10, func(f crdt.Fields, i int) error {
				return f.String(fmt.Sprint("k", i)).Set([]byte("7"))
			})
			if c.other != nil {
				pipeline(t, r, 1, func(f crdt.Fields, _ int) error { return c.other(f) })
			}
			must(t, r.Save(testStart))
			r = openOn(t, s, 100)
			must(t, newEngine(r).checkAll())
			s.reads, s.scans = 0, 0
			v := r.View()
			defer v.Close()
			value, ok := Fields(v).String("k3").Get()
			if !ok || string(value) != "7" || s.reads != c.reads {
				t.Errorf("it is %q (%v) with %d reads, want %d", value, ok, s.reads, c.reads)
			}
		})
	}
}
