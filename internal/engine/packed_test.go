package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
)

// TestAnItemIsWhatItWasWhenItIsUnpacked, whatever it was, and whatever becomes of what it was packed in.
func TestAnItemIsWhatItWasWhenItIsUnpacked(t *testing.T) {
	short, long := dotted.KeyAddress("k"), dotted.KeyAddress(strings.Repeat("k", 1000))
	at := func(a dotted.Address) string { return string(place(prefixCell, a)) }
	one := dotted.Cell{{Dot: crdt.Dot{Replica: 1 << 63, Counter: 300}, Payload: []byte("a payload")}}
	two := append(dotted.Cell{{Dot: crdt.Dot{Replica: 1, Counter: 1}, Payload: []byte{}}}, one...)
	cell := func(a dotted.Address, c dotted.Cell, lone bool, adds share) *item {
		it := cellItem(at(a), a, c)
		it.lone = lone
		it.adds(moved{}, adds)
		return it
	}
	known := share{leaf: 65_000, located: true, whole: true, sum: antientropy.Fingerprint{Hi: 1 << 63, Lo: 7}}
	for name, want := range map[string]*item{
		"a cell":          cell(short, one, false, share{}),
		"two entries":     cell(short, two, false, share{}),
		"a long name":     cell(long, one, false, share{}),
		"a lone cell":     cell(short, one, true, share{}),
		"a known share":   cell(long, two, true, known),
		"a record":        recordItem("k1", body{value: []byte("a value")}),
		"an empty record": recordItem("k1", body{value: []byte{}}),
	} {
		packed := want.Pack(nil)
		got := unpackItem([]byte(want.key), packed).(*item)
		clear(packed)
		if got.key != want.key || got.address() != want.address() || got.Vacant() != want.Vacant() {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if got.lone != want.lone || got.share() != want.share() {
			t.Errorf("%s: lone %v, share %v; want %v, %v", name, got.lone, got.share(), want.lone, want.share())
		}
		if diff := cmp.Diff(want.cell, got.cell); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if want.address() == "" && !bytes.Equal(got.value, want.value) {
			t.Errorf("%s: %q, want %q", name, got.value, want.value)
		}
	}
}

// TestWhatWasPackedIsWhatThereWas tests that cells and sums which were written, read from the tree,
// packed and found again are none the less right.
func TestWhatWasPackedIsWhatThereWas(t *testing.T) {
	const keys, rounds = 40, 20
	r := openOn(t, newDisk(), 1)
	defer r.Close()
	r.table.SetLimit(keys / 2 * (itemOverhead + 100))
	for round := range rounds {
		for i := range 3 * keys { // twice they are only read
			name := fmt.Sprint("key ", (i*7+round*11)%keys)
			g := r.newGroup(time.UnixMilli(1e12))
			must(t, g.update(func(tx *Tx) error {
				f := Fields(tx)
				if n, err := f.Set(name).Len(), f.Err(); n != round || err != nil {
					t.Fatalf("the set %q has %d elements in round %d, %v", name, n, round, err)
				}
				if i < 2*keys {
					return nil
				}
				if n, err := f.Counter("n" + name).Add(1); n != int64(round+1) || err != nil {
					t.Fatalf("the counter %q is %d in round %d, %v", name, n, round, err)
				}
				_, err := f.Set(name).Add(fmt.Sprint(round))
				return err
			}))
			_, err := g.Commit(false)
			must(t, err)
		}
		must(t, r.Save(testStart))
	}
}

// TestAKeyThatIsPackedMeanwhileIsNotTakenForLone: a group finds strings, writes beside them under the same keys, and reads so much
// that they are packed before it ends. What is derived from all cells is right in the end.
func TestAKeyThatIsPackedMeanwhileIsNotTakenForLone(t *testing.T) {
	const keys = 60
	w := newWorld(t, 1, worldConfig{hosts: 1})
	h := w.hosts[0]
	r := h.engine.replica
	name := func(i int) string { return fmt.Sprint("key ", i%keys) }
	for i := range keys {
		w.write(t, h, func(f crdt.Fields) error { return f.String(name(i)).Set([]byte("v")) })
	}
	must(t, h.engine.Save(w.now))
	r.table.SetLimit(keys * (itemOverhead + 100)) // a generation is a 16th of it
	for i := range keys {
		w.write(t, h, func(f crdt.Fields) error {
			for j := range 12 { // it is found, and then others push it out
				_, _ = f.String(name(i + j)).Get()
			}
			return nil
		})
		w.write(t, h, func(f crdt.Fields) error {
			_, err := f.Set(name(i)).Add("element")
			for j := range keys {
				_, _ = f.String(name(j)).Get()
			}
			return err
		})
		w.write(t, h, func(f crdt.Fields) error { _, err := f.Remove(name(i)); return err })
	}
	if keys, cells := h.engine.Counts(); keys != 0 || cells != 0 && h.engine.Clears() == 0 {
		t.Errorf("%d keys and %d cells are there", keys, cells)
	}
	must(t, h.engine.checkAll())
}

// TestWhetherAKeyIsLoneIsKeptPacked, so that who writes to it again does not look for its record; but not that it is lone
// where something else was written to it before the checkpoint ended that packed it.
func TestWhetherAKeyIsLoneIsKeptPacked(t *testing.T) {
	r := openOn(t, newDisk(), 1)
	defer r.Close()
	write := func(op func(f crdt.Fields) error) {
		t.Helper()
		g := r.newGroup(time.UnixMilli(1e12))
		must(t, g.update(func(tx *Tx) error { return op(Fields(tx)) }))
		_, err := g.Commit(false)
		must(t, err)
	}
	for _, key := range []string{"alone", "with a set"} {
		write(func(f crdt.Fields) error { return f.String(key).Set([]byte("v")) })
	}
	r.table.Seal().From("", func(rec hot.Record) bool {
		r.table.Stored(rec)
		return true
	})
	write(func(f crdt.Fields) error { _, err := f.Set("with a set").Add("e"); return err })
	r.table.Unseal(r.st.Snapshot())
	find := func(key string) *item { return r.table.find(place(prefixCell, ownString(key))) }
	if it := find("alone"); it == nil || !it.lone {
		t.Errorf("a lone key's cell is found as %+v", it)
	}
	if it := find("with a set"); it != nil && it.lone {
		t.Error("a key with a set is taken for lone")
	}
}
