package badger_test

import (
	"fmt"
	"testing"

	"github.com/peerd/peerd/store"
)

// benchKey is of the length and shape of a cell's address.
func benchKey(i int) []byte {
	return fmt.Appendf(nil, "user:%08d/field", i*2_654_435_761%100_000_000)
}

// fill writes n records of 64 bytes.
func fill(b *testing.B, s store.Store, n int) {
	b.Helper()
	var batch store.Batch
	for i := range n {
		batch.Set(benchKey(i), fmt.Appendf(nil, "%064d", i))
		if batch.Len() == 1000 || i == n-1 {
			if err := s.Commit(&batch, false); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, ops := range []int{1, 50} {
			b.Run(fmt.Sprintf("sync=%v/ops=%d", sync, ops), func(b *testing.B) {
				s := open(b, b.TempDir())
				defer s.Close()
				var batch store.Batch
				value := make([]byte, 64)
				n := 0
				for b.Loop() {
					batch.Reset()
					for range ops {
						batch.Set(benchKey(n), value)
						n++
					}
					if err := s.Commit(&batch, sync); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}

// BenchmarkCommitTogether has many goroutines that each commit one write with sync.
func BenchmarkCommitTogether(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		var batch store.Batch
		for n := 0; pb.Next(); n++ {
			batch.Reset()
			batch.Set(benchKey(n), []byte("value"))
			if err := s.Commit(&batch, true); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// where runs fn on a store whose records are in the memtable, and on one where they are in tables.
func where(b *testing.B, n int, fn func(b *testing.B, s store.Store)) {
	b.Run("memtable", func(b *testing.B) {
		s := open(b, b.TempDir())
		defer s.Close()
		fill(b, s, n)
		b.ResetTimer()
		fn(b, s)
	})
	b.Run("tables", func(b *testing.B) {
		dir := b.TempDir()
		s := open(b, dir)
		fill(b, s, n)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = open(b, dir)
		defer s.Close()
		b.ResetTimer()
		fn(b, s)
	})
}

const benchRecords = 100_000

// BenchmarkGet measures a snapshot and one read of it.
func BenchmarkGet(b *testing.B) {
	for _, hit := range []bool{true, false} {
		b.Run(fmt.Sprintf("hit=%v", hit), func(b *testing.B) {
			where(b, benchRecords, func(b *testing.B, s store.Store) {
				n := 0
				for b.Loop() {
					key := benchKey(n % benchRecords)
					n++
					if !hit {
						key = append(key, 'x')
					}
					view := s.Snapshot()
					if _, ok, err := view.Get(key); err != nil || ok != hit {
						b.Fatal(ok, err)
					}
					view.Close()
				}
			})
		})
	}
}

func BenchmarkSnapshotOpen(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	for b.Loop() {
		s.Snapshot().Close()
	}
}

// BenchmarkShortScan reads the ten records under one prefix.
func BenchmarkShortScan(b *testing.B) {
	where(b, benchRecords, func(b *testing.B, s store.Store) {
		view := s.Snapshot()
		defer view.Close()
		n := 0
		for b.Loop() {
			start := benchKey(n % benchRecords)
			n++
			end := append([]byte{}, start[:6]...)
			end[5]++
			found := 0
			err := view.Scan(start, end, func(_, _ []byte) bool { found++; return found < 10 })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkScanKeys reports the time for one key of a long scan.
func BenchmarkScanKeys(b *testing.B) {
	where(b, benchRecords, func(b *testing.B, s store.Store) {
		view := s.Snapshot()
		defer view.Close()
		for left := b.N; left > 0; {
			err := view.ScanKeys(nil, nil, func([]byte) bool { left--; return left > 0 })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
