package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// BenchmarkKeys lists 30,000 keys of a store that was closed well: strings of 64 bytes and of 1 KiB, sets of one member
// and of 20, and strings and sets in turn.
func BenchmarkKeys(b *testing.B) {
	const keys = 30_000
	members := func(f crdt.Fields, i, n int) error {
		for m := range n {
			if _, err := f.Set(birthKey(i)).Add(fmt.Sprint(m)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name string
		make func(f crdt.Fields, i int) error
	}{
		{"strings", func(f crdt.Fields, i int) error { return f.String(birthKey(i)).Set(make([]byte, 64)) }},
		{"strings of 1 KiB", func(f crdt.Fields, i int) error { return f.String(birthKey(i)).Set(make([]byte, 1024)) }},
		{"sets of 1", func(f crdt.Fields, i int) error { return members(f, i, 1) }},
		{"sets of 20", func(f crdt.Fields, i int) error { return members(f, i, 20) }},
		{"in turn", func(f crdt.Fields, i int) error {
			if i%2 == 0 {
				return members(f, i, 20)
			}
			return f.String(birthKey(i)).Set(make([]byte, 64))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			r, close := openIn(b, dir)
			for i := 0; i < keys; {
				g := r.newGroup(time.Now())
				for ; !g.full() && i < keys; i++ {
					must(b, g.update(func(tx *Tx) error { return c.make(Fields(tx), i) }))
				}
				_, err := g.Commit(false)
				must(b, err)
				_, err = r.Maintain(time.Now())
				must(b, err)
			}
			must(b, r.Save(time.Now()))
			close()
			r, close = openIn(b, dir)
			defer close()
			v := r.View()
			defer v.Close()
			began := cpu(b)
			for b.Loop() {
				n := 0
				must(b, v.Keys("", "", func(string, dotted.Summary) bool { n++; return true }))
				if n != keys {
					b.Fatalf("%d keys are listed, want %d", n, keys)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N)/keys, "cpu-ns/key")
			size := r.st.(interface{ Size() int64 }).Size()
			b.ReportMetric(float64(size)/keys, "tree-bytes/key")
		})
	}
}
