package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// BenchmarkList measures a list of 1,000,000 elements: one more or less at each end, a transaction each, in groups of
// 50 and of 800.
func BenchmarkList(b *testing.B) {
	r := openBench(b)
	groupsOf(b, r, 1_000_000, 800, func(tx *Tx) error { return pushBench(Fields(tx).List("k")) })
	pop := func(i func(l crdt.List) int) func(l crdt.List) error {
		return func(l crdt.List) error { return popBench(l, i(l)) }
	}
	ends := []struct {
		name string
		op   func(l crdt.List) error
	}{
		{"rpush", pushBench},
		{"lpush", func(l crdt.List) error { return l.Insert(0, []byte("xxx")) }},
		{"lpop", pop(func(crdt.List) int { return 0 })},
		{"rpop", pop(func(l crdt.List) int { return l.Len() - 1 })},
	}
	for _, end := range ends {
		for _, size := range []int{50, 800} {
			b.Run(fmt.Sprintf("%s/group=%d", end.name, size), func(b *testing.B) {
				b.ReportAllocs()
				began := cpu(b)
				groupsOf(b, r, b.N, size, func(tx *Tx) error { return end.op(Fields(tx).List("k")) })
				b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkQueue measures one element more behind a list of 100 and one less before it, in one transaction.
func BenchmarkQueue(b *testing.B) {
	r := openBench(b)
	b.ReportAllocs()
	began := cpu(b)
	groupsOf(b, r, b.N, 800, func(tx *Tx) error {
		q := Fields(tx).List("q")
		if err := pushBench(q); err != nil || q.Len() <= 100 {
			return err
		}
		return popBench(q, 0)
	})
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func pushBench(l crdt.List) error { return l.Insert(l.Len(), []byte("xxx")) }

func popBench(l crdt.List, i int) error {
	l.Get(i)
	_, err := l.Remove(i, i+1)
	return err
}

// groupsOf carries out so many transactions, in groups of a size.
func groupsOf(b *testing.B, r *replica, n, size int, fn func(tx *Tx) error) {
	b.Helper()
	for done := 0; done < n; {
		g := r.newGroup(time.Now())
		for range min(size, n-done) {
			must(b, g.update(fn))
			done++
		}
		_, err := g.Commit(false)
		must(b, err)
		_, err = r.Maintain(time.Now())
		must(b, err)
	}
}
