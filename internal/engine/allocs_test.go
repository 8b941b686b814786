package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store/mem"
)

// TestATransactionAllocatesLittle counts what one of a single operation allocates, its share of the commit of a group of
// 50 included. The limits leave some room above what was measured.
func TestATransactionAllocatesLittle(t *testing.T) {
	r, err := open(mem.New(), mem.NewLog(), Config{NewID: func() crdt.ReplicaID { return 7 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	const size, keys = 50, 500
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("key:%012d", i)
	}
	value, done := make([]byte, 64), 0
	for _, c := range []struct {
		name  string
		limit float64
		op    func(f crdt.Fields, name string) error
	}{
		{"SET", 11, func(f crdt.Fields, name string) error { return f.String(name).Set(value) }},
		{"GET", 4, func(f crdt.Fields, name string) error { f.String(name).Get(); return f.Err() }},
		{"INCR", 20, func(f crdt.Fields, name string) error { _, err := f.Counter("n" + name).Add(1); return err }},
		{"SADD", 20, func(f crdt.Fields, name string) error {
			_, err := f.Set("s").Add(fmt.Sprint(name, done))
			return err
		}},
	} {
		group := func() {
			g := r.newGroup(time.UnixMilli(1e12))
			for range size {
				done++
				err := g.update(func(tx *Tx) error { return c.op(Fields(tx), names[done%keys]) })
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := g.Commit(false); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * keys / size { // what is written is there, and hot
			group()
		}
		n := testing.AllocsPerRun(20, group) / size
		t.Logf("%s: %.1f allocations", c.name, n)
		if n > c.limit {
			t.Errorf("%s allocates %.1f times, at most %.0f", c.name, n, c.limit)
		}
	}
}
