package peer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkUpdate measures transactions of one operation by 64 writers at once, which share commit groups.
func BenchmarkUpdate(b *testing.B) {
	for _, d := range []Durability{None, Interval, Always} {
		for name, fn := range map[string]func(tx *Tx, i int64) error{
			"incr": func(tx *Tx, i int64) error { _, err := tx.String(fmt.Sprint("n", i%1000)).Add(1); return err },
			"set":  func(tx *Tx, i int64) error { return tx.String(fmt.Sprint("k", i%100_000)).Set(value[:]) },
			"sadd": func(tx *Tx, i int64) error { _, err := tx.Set("s").Add(fmt.Sprint(i)); return err },
		} {
			b.Run(fmt.Sprintf("%s/%s", name, d), func(b *testing.B) {
				p, err := Open(context.Background(), Config{Dir: b.TempDir(), Offline: true, Durability: d})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = p.Close() }()
				var n atomic.Int64
				b.SetParallelism(32)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						if err := p.Update(context.Background(), func(tx *Tx) error { return fn(tx, i) }); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "tx/s")
			})
		}
	}
}

var value [64]byte

func BenchmarkView(b *testing.B) {
	p, err := Open(context.Background(), Config{Dir: b.TempDir(), Offline: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for i := range 1000 {
		if err := p.Update(context.Background(), func(tx *Tx) error {
			return tx.String(fmt.Sprint("k", i)).Set(value[:])
		}); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	for b.Loop() {
		i++
		if err := p.View(context.Background(), func(tx *Tx) error {
			_, _, err := tx.String(fmt.Sprint("k", i%1000)).Get()
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}
