package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

const manyIDs = 10_000

// countedBy has that many other replicas count one on a string each.
func countedBy(t testing.TB, r *replica, key string, ids int) {
	t.Helper()
	counter := dotted.KeyAddress(key).Type(crdt.TypeString)
	var payload []byte // of a share, which does not name its owner
	one, err := openAt(newDisk(), Config{NewID: func() crdt.ReplicaID { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	g := one.newGroup(time.UnixMilli(1e12))
	if err := g.update(func(tx *Tx) error {
		_, err := Fields(tx).Counter(key).Add(1)
		payload = tx.delta.Ops[0].Payload
		return err
	}); err != nil {
		t.Fatal(err)
	}
	g.discard()
	for n := 0; n < ids; {
		g := r.newGroup(time.UnixMilli(1e12))
		for ; n < ids && !g.full(); n++ {
			id := crdt.ReplicaID(len(r.seen)+1) * 0x9e3779b97f4a7c15
			d := &delta.Delta{Replica: id, First: 1, Time: dotted.TimeAt(g.now)}
			d.Ops = []delta.Op{{Kind: delta.OpPut, Address: counter.Share(id), Payload: payload}}
			if outcome, err := g.apply(d); err != nil || outcome != gossip.Applied {
				t.Fatal(outcome, err)
			}
		}
		if _, err := g.Commit(false); err != nil {
			t.Fatal(err)
		}
	}
}

// traffic is what was read from a tree, and what is to be written to it; and what was written to the log.
type traffic struct {
	*disk
	reads, written int // records
	bytes          int // of all of them
}

func (s *traffic) Snapshot() store.Snapshot { return &readTraffic{s.Store.Snapshot(), s} }

func (s *traffic) journal() store.Log { return &loggedTraffic{s.log, s} }

type loggedTraffic struct {
	store.Log
	s *traffic
}

func (l *loggedTraffic) Append(records ...[]byte) (first, next store.Position, err error) {
	for _, r := range records {
		l.s.bytes += len(r)
	}
	return l.Log.Append(records...)
}

type readTraffic struct {
	store.Snapshot
	s *traffic
}

func (s *readTraffic) note(key, value []byte) {
	s.s.reads++
	s.s.bytes += len(key) + len(value)
}

func (s *readTraffic) Get(key []byte) ([]byte, bool, error) {
	value, ok, err := s.Snapshot.Get(key)
	s.note(key, value)
	return value, ok, err
}

func (s *readTraffic) Scan(start, end []byte, fn func(key, value []byte) bool) error {
	return s.Snapshot.Scan(start, end, func(key, value []byte) bool {
		s.note(key, value)
		return fn(key, value)
	})
}

// TestACounterCostsTheSameHoweverManyCountedOnIt compares the records and bytes that are read and written, with nothing
// in the cache, for a counter on which one other replica has counted, and one on which 10,000 have.
func TestACounterCostsTheSameHoweverManyCountedOnIt(t *testing.T) {
	var want int64
	incr := func(f crdt.Fields) error { want++; _, err := f.String("n").Add(1); return err }
	get := func(f crdt.Fields) error {
		if value, ok := f.String("n").Get(); !ok || string(value) != fmt.Sprint(want) {
			return fmt.Errorf("it reads %q, want %d", value, want)
		}
		return f.Err()
	}
	costs := map[string][]traffic{}
	for _, ids := range []int{1, manyIDs} {
		s := &traffic{disk: newDisk()}
		r, err := openAt(s, Config{NewID: func() crdt.ReplicaID { return 1 << 40 }})
		if err != nil {
			t.Fatal(err)
		}
		countedBy(t, r, "n", ids)
		want = int64(ids)
		update := func(fn func(f crdt.Fields) error) {
			g := r.newGroup(time.UnixMilli(1e12))
			if err := g.update(func(tx *Tx) error { return fn(Fields(tx)) }); err != nil {
				t.Fatal(err)
			}
			if _, err := g.Commit(false); err != nil {
				t.Fatal(err)
			}
		}
		update(func(f crdt.Fields) error { return f.Flag("other").Set(true) }) // its first delta names all that it has seen
		for _, op := range []struct {
			name string
			do   func()
		}{
			{"the first INCR", func() { update(incr) }},
			{"another INCR", func() { update(incr) }},
			{"GET in a transaction", func() { update(get) }},
			{"GET", func() {
				v := r.View()
				defer v.Close()
				if err := get(Fields(v)); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			must(t, r.Save(testStart))
			r.table.SetLimit(0) // nothing stays that was kept
			for r.table.Tidy() {
			}
			r.table.SetLimit(MaxCache)
			s.reads, s.written, s.bytes = 0, 0, 0
			op.do()
			s.written = r.table.Len()
			s.bytes += int(r.table.Bytes())
			costs[op.name] = append(costs[op.name], *s)
		}
	}
	for op, cost := range costs {
		few, many := cost[0], cost[1]
		t.Logf("%s: %d records read, %d written, %d bytes; with %d ids %d, %d, %d",
			op, few.reads, few.written, few.bytes, manyIDs, many.reads, many.written, many.bytes)
		if many.reads != few.reads || many.written != few.written || many.bytes > few.bytes+50 {
			t.Errorf("%s costs more where %d have counted", op, manyIDs)
		}
		if few.reads > 4 {
			t.Errorf("%s reads %d records", op, few.reads)
		}
	}
}

// TestWhatManyCountedOnIsReplacedWhole sets, deletes and clears strings on which more have counted than are removed one
// by one, at this replica and at one that hears of it.
func TestWhatManyCountedOnIsReplacedWhole(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(f crdt.Fields) error
		want string
	}{
		"set":      {func(f crdt.Fields) error { return f.String("n").Set([]byte("7")) }, "7"},
		"delete":   {func(f crdt.Fields) error { _, err := f.Remove("n"); return err }, ""},
		"clear":    {func(f crdt.Fields) error { _, err := f.String("n").Clear(); return err }, ""},
		"reset":    {func(f crdt.Fields) error { _, err := f.Counter("n").Clear(); return err }, "1"},
		"clear it": {func(f crdt.Fields) error { _, err := f.Clear(); return err }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3, worldConfig{hosts: 2})
			a, b := w.hosts[0], w.hosts[1]
			w.write(t, a, func(f crdt.Fields) error { return f.String("n").Set([]byte("1")) })
			w.connect(0, 1)
			w.settle(t)
			for _, h := range w.hosts {
				countedBy(t, h.engine.replica, "n", 100)
			}
			w.write(t, a, c.do)
			for _, h := range w.hosts {
				w.settle(t)
				for h.engine.Clears() > 0 {
					w.checkDerived(t, h)
					if _, err := h.engine.Sweep(); err != nil {
						t.Fatal(err)
					}
				}
				w.checkDerived(t, h)
				v := h.engine.View()
				value, _ := Fields(v).String("n").Get()
				exists := Fields(v).Has("n")
				v.Close()
				if string(value) != c.want || exists != (c.want != "") {
					t.Errorf("host %d reads %q (it exists: %v), want %q", h.i, value, exists, c.want)
				}
			}
			// An increment that nobody of them had seen comes in.
			w.write(t, b, func(f crdt.Fields) error { _, err := f.String("n").Add(5); return err })
			w.settle(t)
			for _, h := range w.hosts {
				w.checkDerived(t, h)
			}
		})
	}
}

// BenchmarkCounter measures INCR and GET, in one store, of a counter on which one id has counted and of one on which
// 10,000 have.
func BenchmarkCounter(b *testing.B) {
	r := openBench(b)
	group := func(n int, fn func(f crdt.Fields) error) {
		for done := 0; done < n; {
			g := r.newGroup(time.Now())
			for ; done < n && !g.full(); done++ {
				if err := g.update(func(tx *Tx) error { return fn(Fields(tx)) }); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := g.Commit(false); err != nil {
				b.Fatal(err)
			}
		}
	}
	counted := []int{1, manyIDs}
	incr := map[int]func(f crdt.Fields) error{}
	for _, ids := range counted {
		key := fmt.Sprint("by", ids)
		countedBy(b, r, key, ids)
		incr[ids] = func(f crdt.Fields) error { _, err := f.String(key).Add(1); return err }
		group(1, incr[ids])
	}
	for _, ids := range counted {
		b.Run(fmt.Sprintf("incr/ids=%d", ids), func(b *testing.B) { group(b.N, incr[ids]) })
	}
	for _, ids := range counted {
		b.Run(fmt.Sprintf("get/ids=%d", ids), func(b *testing.B) {
			v := r.View()
			defer v.Close()
			for b.Loop() {
				if _, ok := Fields(v).String(fmt.Sprint("by", ids)).Get(); !ok {
					b.Fatal("it is not there")
				}
			}
		})
	}
}
