package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkOrder measures a sorted set of so many elements: one more, how many come before a score,
// and ten from a rank on.
func BenchmarkOrder(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		r := openBench(b)
		rng := rand.New(rand.NewPCG(1, 2))
		names := 0
		groups := func(b *testing.B, n int, fn func(tx *Tx) error) {
			b.Helper()
			groupsOf(b, r, n, 50, fn)
		}
		insert := func(tx *Tx) error {
			names++
			_, err := Fields(tx).SortedSet("k").Set(fmt.Sprintf("member:%07d", names), rng.Float64())
			return err
		}
		groups(b, size, insert)
		measure := func(name string, fn func(tx *Tx) error) {
			b.Run(fmt.Sprintf("%s/of=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				began := cpu(b)
				groups(b, b.N, fn)
				b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
		measure("insert", insert)
		measure("rank", func(tx *Tx) error {
			Fields(tx).SortedSet("k").Before(rng.Float64(), "")
			return nil
		})
		measure("range", func(tx *Tx) error {
			left := 10
			for range Fields(tx).SortedSet("k").From(rng.IntN(size)) {
				if left--; left == 0 {
					break
				}
			}
			return nil
		})
		r.Close()
	}
}
