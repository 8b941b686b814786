package engine

import (
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
)

// gets is an update that reads a string.
type gets struct {
	key, got string
	err      error
}

func (u *gets) Begin() bool { return true }

func (u *gets) Len() int { return 1 }

func (u *gets) Run(_ int, tx *Tx) error {
	value, _ := Fields(tx).String(u.key).Get()
	u.got = string(value)
	return nil
}

func (u *gets) Ran(_ int, err error) { u.err = err }

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
	u := &gets{key: "k4"}
	if next := e.Read(u, 0, testStart); next != 1 || u.err != nil || u.got != "x" || s.reads != 1 {
		t.Errorf("beside steps it is %q (%v) with %d reads of the tree", u.got, u.err, s.reads)
	}
	s.reads = 0
	if e.Read(u, 0, testStart); s.reads != 0 || u.got != "x" {
		t.Errorf("read again it is %q with %d reads of the tree", u.got, s.reads)
	}
}
