package peer

import (
	"fmt"
	"testing"
)

const countedKeys = 500

func countKeys(tx *Tx) error {
	for i := range countedKeys {
		if _, err := tx.Counter(fmt.Sprint("n", i)).Add(1); err != nil {
			return err
		}
	}
	return nil
}

func deleteKeys(tx *Tx) error {
	for i := range countedKeys {
		if _, err := tx.Remove(fmt.Sprint("n", i)); err != nil {
			return err
		}
	}
	return nil
}

func cellsOf(t *testing.T, p *Peer) int {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.Cells
}

func TestCountersOfOnePeerThatAnotherDeletesLeaveNothing(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	mustUpdate(t, a, countKeys)
	c.converge(a, b)
	mustUpdate(t, b, deleteKeys)
	eventually(t, "no cell is left", func() bool { return cellsOf(t, a) == 0 && cellsOf(t, b) == 0 })
	c.converge(a, b)
}

// leave has a peer end its id, as closing does, and waits until all know, for which closing has little time.
func leave(t *testing.T, p *Peer) {
	t.Helper()
	has := func(fn func(l *loop)) {
		if err := own(p).call(fn); err != nil {
			t.Fatal(err)
		}
	}
	has(func(l *loop) { l.engine.EndID() })
	eventually(t, "it has left", func() (left bool) { has(func(l *loop) { left = l.engine.HasLeft() }); return left })
}

func TestCountersOfAPeerThatClosedLeaveNothing(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	mustUpdate(t, a, countKeys)
	c.converge(a, b)
	leave(t, a)
	mustClose(t, a)
	mustUpdate(t, b, deleteKeys)
	if n := cellsOf(t, b); n != 0 {
		t.Errorf("%d cells are left", n)
	}
}

func TestCountersOfAPeerThatCrashedLeaveTheirBaselines(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	mustUpdate(t, a, countKeys)
	c.converge(a, b)
	crash(t, a)
	mustUpdate(t, b, deleteKeys)
	if n := cellsOf(t, b); n != countedKeys {
		t.Errorf("%d cells are left, want %d", n, countedKeys)
	}
}
