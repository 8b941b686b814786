package engine

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// TestTheLargestTransactionsAreWholeEverywhere does each at one of two linked hosts, counts what the other shows after
// each frame, and repairs a third.
func TestTheLargestTransactionsAreWholeEverywhere(t *testing.T) {
	const members = 100_000
	value := bytes.Repeat([]byte("0123456789abcde\n"), crdt.MaxValue/16)
	fill := func(n, size int) func(f crdt.Fields) error {
		return func(f crdt.Fields) error {
			for i := range n {
				if _, err := f.Set("s").Add(fmt.Sprintf("%0*d", size, i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	set := func(value []byte) func(f crdt.Fields) error {
		return func(f crdt.Fields) error { return f.Register("r").Set(value) }
	}
	for name, test := range map[string]struct {
		do   func(f crdt.Fields) error
		want error
		n    int // members
	}{
		"100,000 members":  {fill(members, 10), nil, members},
		"one value":        {set(value), nil, 0},
		"too many members": {fill(delta.MaxOps+1, 10), delta.ErrTooLarge, 0},
		"too many bytes":   {fill(delta.MaxCost/1000, 1000), delta.ErrTooLarge, 0},
		"too long a value": {set(append(value, '!')), crdt.ErrTooLong, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, worldConfig{hosts: 3})
			a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
			w.connect(0, 1)
			g := a.engine.newGroup(w.now)
			if err := g.update(func(tx *Tx) error { return test.do(Fields(tx)) }); !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			w.commit(t, a, g)
			for busy := true; busy; {
				busy = w.pump(t, 0, 1)
				busy = w.deliver(t, 0, 1) || busy
				busy = w.pump(t, 1, 0) || busy
				busy = w.deliver(t, 1, 0) || busy
				if n := b.engine.cells; n != 0 && n != a.engine.cells {
					t.Fatalf("%d of %d cells are visible", n, a.engine.cells)
				}
			}
			if err := repairAll(a.engine, c.engine); err != nil {
				t.Fatal(err)
			}
			for _, h := range w.hosts {
				must(t, h.engine.Save(w.now))
				w.open(t, h)
				holdsLargest(t, h, test.n, test.want == nil && test.n == 0, value)
			}
		})
	}
}

// holdsLargest checks that a host has a set of so many members, and the value if it is to be there, and no more.
func holdsLargest(t *testing.T, h *host, members int, has bool, value []byte) {
	t.Helper()
	g := h.engine.newGroup(testStart)
	defer g.discard()
	must(t, g.update(func(tx *Tx) error {
		if n := Fields(tx).Set("s").Len(); n != members {
			t.Errorf("host %d has %d members, want %d", h.i, n, members)
		}
		got, ok := Fields(tx).Register("r").Get()
		if ok != has || has && !bytes.Equal(got, value) {
			t.Errorf("host %d has a value of %d bytes: %v", h.i, len(got), ok)
		}
		return nil
	}))
	if n := h.engine.cells; n != members && !has || has && n != 1 {
		t.Errorf("host %d has %d cells", h.i, n)
	}
}
