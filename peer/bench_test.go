package peer

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	dgraph "github.com/dgraph-io/badger/v4"
)

var value [64]byte

func openBench(b *testing.B, d Durability) *Peer {
	b.Helper()
	p, err := Open(context.Background(), Config{Dir: b.TempDir(), Offline: true, Durability: d})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return p
}

// parallel runs op by 64 writers at once and reports operations a second.
func parallel(b *testing.B, op func(i int64) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(32) // times GOMAXPROCS, which is 2 on the machine of the published figures
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := op(n.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "op/s")
}

// BenchmarkUpdate measures transactions of one operation, which share commit groups.
func BenchmarkUpdate(b *testing.B) {
	ops := []struct {
		name string
		fn   func(tx *Tx, i int64) error
	}{
		{"incr", func(tx *Tx, i int64) error {
			_, err := tx.String(fmt.Sprint("n", i%1000)).Add(1)
			return err
		}},
		{"set", func(tx *Tx, i int64) error { return tx.String(fmt.Sprint("k", i%100_000)).Set(value[:]) }},
		{"sadd", func(tx *Tx, i int64) error { _, err := tx.Set("s").Add(fmt.Sprint(i)); return err }},
	}
	for _, d := range []Durability{None, Interval, Always} {
		for _, op := range ops {
			b.Run(fmt.Sprintf("%s/%s", op.name, d), func(b *testing.B) {
				p := openBench(b, d)
				parallel(b, func(i int64) error {
					return p.Update(context.Background(), func(tx *Tx) error { return op.fn(tx, i) })
				})
			})
		}
	}
}

// BenchmarkBareBadger is what BenchmarkUpdate/set/always is to be compared with: Badger with its own
// synchronous writes, one transaction an operation.
func BenchmarkBareBadger(b *testing.B) {
	opts := dgraph.DefaultOptions(filepath.Join(b.TempDir(), "bare")).
		WithSyncWrites(true).WithLogger(nil)
	db, err := dgraph.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	parallel(b, func(i int64) error {
		return db.Update(func(tx *dgraph.Txn) error {
			return tx.Set([]byte(fmt.Sprint("k", i%100_000)), value[:])
		})
	})
}

// BenchmarkView measures reading one string of a thousand.
func BenchmarkView(b *testing.B) {
	p := openBench(b, Interval)
	for i := range 1000 {
		mustSet(b, p, fmt.Sprint("k", i))
	}
	i := 0
	for b.Loop() {
		i++
		err := p.View(context.Background(), func(tx *Tx) error {
			_, _, err := tx.String(fmt.Sprint("k", i%1000)).Get()
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func mustSet(b *testing.B, p *Peer, key string) {
	b.Helper()
	err := p.Update(context.Background(), func(tx *Tx) error { return tx.String(key).Set(value[:]) })
	if err != nil {
		b.Fatal(err)
	}
}

// fill adds elements to a set, many in a transaction.
func fill(b *testing.B, p *Peer, set string, n int) {
	b.Helper()
	for i := 0; i < n; {
		err := p.Update(context.Background(), func(tx *Tx) error {
			for end := min(i+4000, n); i < end; i++ {
				if _, err := tx.Set(set).Add(fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddToSet adds one more element to sets of different sizes; bytes/op is what is sent for it.
func BenchmarkAddToSet(b *testing.B) {
	for _, size := range []int{10, 1000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := openBench(b, Interval)
			fill(b, p, "s", size)
			before := logBytes(b, p)
			i := 0
			b.ResetTimer()
			for b.Loop() {
				i++
				err := p.Update(context.Background(), func(tx *Tx) error {
					_, err := tx.Set("s").Add(fmt.Sprint("new", i))
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(logBytes(b, p)-before)/float64(i), "logged-B/op")
		})
	}
}

func logBytes(b *testing.B, p *Peer) int64 {
	b.Helper()
	s, err := p.Status()
	if err != nil {
		b.Fatal(err)
	}
	return s.LogBytes
}

// BenchmarkDelete measures how long a delete takes to be answered: of a key that was updated 10,000
// times, and of a set of 300,000 elements.
func BenchmarkDelete(b *testing.B) {
	b.Run("key-after-10000-updates", func(b *testing.B) {
		p := openBench(b, Interval)
		for b.Loop() {
			b.StopTimer()
			parallelSets(b, p, 10_000)
			b.StartTimer()
			deleteKey(b, p, "hot")
		}
	})
	b.Run("set-of-300000", func(b *testing.B) {
		p := openBench(b, Interval)
		for b.Loop() {
			b.StopTimer()
			fill(b, p, "big", 300_000)
			b.StartTimer()
			deleteKey(b, p, "big")
		}
	})
}

func parallelSets(b *testing.B, p *Peer, n int) {
	b.Helper()
	fns := make([]func(*Tx) error, n)
	for i := range fns {
		fns[i] = func(tx *Tx) error { return tx.String("hot").Set(value[:]) }
	}
	for _, err := range p.UpdateAll(context.Background(), fns) {
		if err != nil {
			b.Fatal(err)
		}
	}
}

func deleteKey(b *testing.B, p *Peer, key string) {
	b.Helper()
	err := p.Update(context.Background(), func(tx *Tx) error { _, err := tx.Delete(key); return err })
	if err != nil {
		b.Fatal(err)
	}
}
