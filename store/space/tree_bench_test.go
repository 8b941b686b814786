package space_test

import (
	"fmt"
	"testing"

	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/space"
)

// BenchmarkTree compares a space's part of a store with a whole one.
func BenchmarkTree(b *testing.B) {
	for name, divide := range map[string]func(store.Store) store.Store{
		"whole": func(st store.Store) store.Store { return st },
		"space": func(st store.Store) store.Store { return space.NewTree(st, 7) },
	} {
		st := divide(openBadger(b, b.TempDir()))
		batch := &store.Batch{}
		for i := range 50 {
			batch.Set(fmt.Appendf(nil, "user:%08d/field", i), make([]byte, 64))
		}
		b.Run("commit of 50/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := st.Commit(batch, false); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("get/"+name, func(b *testing.B) {
			b.ReportAllocs()
			view := st.Snapshot()
			defer view.Close()
			for b.Loop() {
				if _, ok, err := view.Get(batch.Ops[20].Key); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
