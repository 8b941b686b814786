package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/segment"
)

// cpu returns how much of the processors this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSet measures the commit path of a replica alone: SET of 64 bytes over 100,000 keys, in groups of 50 and
// of 800.
func BenchmarkSet(b *testing.B) {
	value := make([]byte, 64)
	benchmarkKeys(b, benchKeys, func(f crdt.Fields, key string) error { return f.String(key).Set(value) })
}

// BenchmarkIncr measures the same of INCR over 10,000 keys.
func BenchmarkIncr(b *testing.B) {
	benchmarkKeys(b, benchKeys/10, func(f crdt.Fields, key string) error { _, err := f.String(key).Add(1); return err })
}

const benchKeys = 100_000

// benchmarkKeys measures a command on any of so many keys that are there.
func benchmarkKeys(b *testing.B, keys int, op func(f crdt.Fields, key string) error) {
	for _, size := range []int{50, 800} {
		b.Run(fmt.Sprint("group=", size), func(b *testing.B) { benchmarkGroups(b, size, keys, op) })
	}
}

func benchmarkGroups(b *testing.B, size, count int, op func(f crdt.Fields, key string) error) {
	r := openBench(b)
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("key:%012d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	run := func(n int, key func() string) {
		for done := 0; done < n; {
			g := r.newGroup(time.Now())
			for range min(size, n-done) {
				if err := g.update(func(tx *Tx) error { return op(Fields(tx), key()) }); err != nil {
					b.Fatal(err)
				}
				done++
			}
			if _, err := g.Commit(false); err != nil {
				b.Fatal(err)
			}
			if _, err := r.Maintain(time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	}
	next := 0
	run(count, func() string { next++; return keys[next-1] })
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu(b)
	run(b.N, func() string { return keys[rng.IntN(len(keys))] })
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkBirth measures what writes cost that make a cell: strings, counters, members of sets of 20, and fields of maps
// of 20, in groups of 50, of a replica alone that begins with nothing.
func BenchmarkBirth(b *testing.B) {
	value := make([]byte, 64)
	births := map[string]func(f crdt.Fields, i int) error{
		"string":  func(f crdt.Fields, i int) error { return f.String(birthKey(i)).Set(value) },
		"counter": func(f crdt.Fields, i int) error { _, err := f.Counter(birthKey(i)).Add(1); return err },
		"member":  func(f crdt.Fields, i int) error { _, err := f.Set(birthKey(i / 20)).Add(birthKey(i)); return err },
		"field":   func(f crdt.Fields, i int) error { return f.Map(birthKey(i / 20)).String(birthKey(i)).Set(value) },
	}
	for _, kind := range sortedKeys(births) {
		b.Run(kind, func(b *testing.B) {
			r := openBench(b)
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu(b)
			for i := 0; i < b.N; {
				g := r.newGroup(time.Now())
				for range min(50, b.N-i) {
					if err := g.update(func(tx *Tx) error { return births[kind](Fields(tx), i) }); err != nil {
						b.Fatal(err)
					}
					i++
				}
				if _, err := g.Commit(false); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Maintain(time.Now()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// birthKey returns the i-th of some keys in no order.
func birthKey(i int) string { return fmt.Sprintf("key:%08x", uint32(i)*2654435761) }

func openBench(b *testing.B) *replica {
	b.Helper()
	tree, err := badger.Open(filepath.Join(b.TempDir(), "tree"), badger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tree.Close() })
	log, err := segment.Open(filepath.Join(b.TempDir(), "log"), segment.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	r, err := open(tree, log, Config{NewID: func() crdt.ReplicaID { return 7 }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	return r
}

// BenchmarkStep measures how long a step takes whose budget is spent on one kind of operation, its commit included.
// It is what StepWork is chosen by.
func BenchmarkStep(b *testing.B) {
	value := make([]byte, 64)
	for name, op := range map[string]func(f crdt.Fields, i int) error{
		"set":  func(f crdt.Fields, i int) error { return f.String(fmt.Sprint(i % benchKeys)).Set(value) },
		"incr": func(f crdt.Fields, i int) error { _, err := f.Counter(fmt.Sprint("n", i%1000)).Add(1); return err },
		"sadd": func(f crdt.Fields, i int) error { _, err := f.Set("s").Add(fmt.Sprint(i)); return err },
		"get":  func(f crdt.Fields, i int) error { f.String(fmt.Sprint(i % benchKeys)).Get(); return f.Err() },
	} {
		b.Run(name, func(b *testing.B) {
			r := openBench(b)
			done := 0
			for range b.N {
				r.beginStep()
				g := r.newGroup(time.Now())
				for ; !g.full(); done++ {
					if err := g.update(func(tx *Tx) error { return op(Fields(tx), done) }); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := g.Commit(false); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(done)/float64(b.N), "operations/step")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/step")
		})
	}
}

// BenchmarkOpen opens a store of so many cells of 64 bytes that was closed well: Badger, the log, and the replica.
func BenchmarkOpen(b *testing.B) {
	for _, cells := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint("cells=", cells), func(b *testing.B) {
			if testing.Short() && cells > 100_000 {
				b.Skip()
			}
			dir := b.TempDir()
			fillBench(b, dir, cells)
			began := cpu(b)
			for b.Loop() {
				r, close := openIn(b, dir)
				if _, n := r.Counts(); n != cells || r.Recounted() != nil {
					b.Fatalf("%d cells, want %d; %v", n, cells, r.Recounted())
				}
				b.StopTimer()
				close()
				b.StartTimer()
			}
			b.ReportMetric(float64((cpu(b)-began).Milliseconds())/float64(b.N), "cpu-ms/op") // with the closing
		})
	}
}

// openIn opens a replica in a directory.
func openIn(b *testing.B, dir string) (r *replica, close func()) {
	tree, err := badger.Open(filepath.Join(dir, "tree"), badger.Options{})
	must(b, err)
	log, err := segment.Open(filepath.Join(dir, "log"), segment.Options{})
	must(b, err)
	r, err = open(tree, log, Config{NewID: func() crdt.ReplicaID { return 7 }})
	must(b, err)
	return r, func() {
		r.Close()
		must(b, log.Close())
		must(b, tree.Close())
	}
}

// fillBench fills a store.
func fillBench(b *testing.B, dir string, cells int) {
	r, close := openIn(b, dir)
	defer close()
	for i := 0; i < cells; {
		g := r.newGroup(time.Now())
		for ; !g.full() && i < cells; i++ {
			must(b, g.update(func(tx *Tx) error { return Fields(tx).String(fmt.Sprintf("key:%012d", i)).Set(value) }))
		}
		_, err := g.Commit(false)
		must(b, err)
		_, err = r.Maintain(time.Now())
		must(b, err)
	}
	must(b, r.Save(time.Now()))
}
