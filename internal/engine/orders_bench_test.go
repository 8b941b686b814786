package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/dotted"
)

// BenchmarkOrder measures cells that stand in an order by what they hold, in a container of so many: one more, its rank, and
// a range of 100 from the middle.
func BenchmarkOrder(b *testing.B) {
	container := dotted.KeyAddress("k").Type(typeRanked)
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		r := openBench(b)
		rng := rand.New(rand.NewPCG(1, 2))
		names := 0
		groups := func(b *testing.B, n int, fn func(tx *Tx) error) {
			b.Helper()
			for done := 0; done < n; {
				g := r.newGroup(time.Now())
				for range min(50, n-done) {
					must(b, g.update(fn))
					done++
				}
				_, err := g.Commit(false)
				must(b, err)
				_, err = r.Maintain(time.Now())
				must(b, err)
			}
		}
		insert := func(tx *Tx) error {
			names++
			return stand(tx, container, fmt.Sprintf("member:%07d", names), ranked(rng.IntN(1e9)))
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
			_, err := tx.Rank(container, string(ranked(rng.IntN(1e9))))
			return err
		})
		measure("range", func(tx *Tx) error {
			left := 100
			return tx.Ranked(container, rng.IntN(size), false, func(string) bool { left--; return left > 0 })
		})
		r.Close()
	}
}
