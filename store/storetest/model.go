package storetest

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/store"
)

// maxViews is how many snapshots the model test keeps open at once.
const maxViews = 4

// model is what a store should hold: a plain map, sorted when it is read.
type model map[string]string

// records returns the model's records in [start, end); a nil bound is none.
func (m model) records(start, end []byte) []record {
	var out []record
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key >= string(start) && (end == nil || key < string(end)) {
			out = append(out, record{key, m[key]})
		}
	}
	return out
}

func (m model) apply(b *store.Batch) {
	for _, op := range b.Ops {
		if op.Delete {
			delete(m, string(op.Key))
		} else {
			m[string(op.Key)] = string(op.Value)
		}
	}
}

// pair is a snapshot and what it should show for as long as it is open.
type pair struct {
	view store.Snapshot
	want model
}

// Few short keys, so that they collide, and bytes at both ends of the order.
var (
	genKey   = rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 0, 3)
	genValue = rapid.SliceOfN(rapid.Byte(), 0, 12)
	genBound = rapid.OneOf(rapid.Just([]byte(nil)), genKey)
)

func genBatch(t *rapid.T) *store.Batch {
	b := &store.Batch{}
	for range rapid.IntRange(0, 8).Draw(t, "writes") {
		key := genKey.Draw(t, "key")
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			b.Delete(key)
		} else {
			b.Set(key, genValue.Draw(t, "value"))
		}
	}
	return b
}

// testModel makes random commits on one store and compares every open snapshot with its model. The
// store is emptied between the runs: opening one may be dear. rapid prints how to replay a
// failure.
func testModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(t *rapid.T) {
		empty(t, s)
		current := model{}
		var open []pair
		defer func() {
			for _, p := range open {
				p.view.Close()
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				b := genBatch(t)
				if err := s.Commit(b, false); err != nil {
					t.Fatalf("Commit: %v", err)
				}
				current.apply(b)
			},
			"open": func(t *rapid.T) {
				if len(open) == maxViews {
					t.Skip("enough snapshots")
				}
				open = append(open, pair{s.Snapshot(), maps.Clone(current)})
			},
			"close": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("no snapshot")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "snapshot")
				open[i].view.Close()
				open = slices.Delete(open, i, i+1)
			},
			"read": func(t *rapid.T) {
				start, end := genBound.Draw(t, "start"), genBound.Draw(t, "end")
				views := append(slices.Clone(open), pair{s.Snapshot(), current})
				defer views[len(open)].view.Close()
				for i, p := range views {
					got := scan(t, p.view, start, end)
					if diff := cmp.Diff(p.want.records(start, end), got); diff != "" {
						t.Fatalf("snapshot %d, [%q, %q) (-want +got):\n%s", i, start, end, diff)
					}
				}
			},
		})
	})
}

func empty(t *rapid.T, s store.Store) {
	b := &store.Batch{}
	now(s, func(view store.Snapshot) {
		err := view.ScanKeys(nil, nil, func(key []byte) bool {
			b.Delete(slices.Clone(key))
			return true
		})
		if err != nil {
			t.Fatalf("ScanKeys: %v", err)
		}
	})
	if err := s.Commit(b, false); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}
