package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// ask asks for a key, gathers it on a view, and has the engine remember that: each at another time, with
// what the world does between them.
func (w *world) ask(t testing.TB, h *host) {
	t.Helper()
	key := string(rune('a' + w.asks.IntN(4)))
	switch v := h.gathering; {
	case w.asks.IntN(2) == 0:
		g := h.engine.newGroup(w.now)
		must(t, g.update(func(tx *Tx) error {
			w.done["at hand"] += gain(false, tx.AtHand(key))
			return nil
		}))
		g.discard()
	case v == nil:
		h.gathering = h.engine.View().Gathering()
		h.gathering.AtHand(key)
	default:
		if v.Gathered() {
			h.engine.Remember(v)
		}
		v.Close()
		h.gathering = nil
	}
}

// checkListings compares what is listed with what is stored.
func (w *world) checkListings(t testing.TB, h *host) {
	t.Helper()
	lists, v := h.engine.table.lists, h.engine.present()
	defer v.Close()
	for _, byKey := range []map[dotted.Address]*listing{lists.young, lists.old} {
		for key, l := range byKey {
			var stored []listedCell
			must(t, v.scanStored(key, "", func(a dotted.Address, c dotted.Cell) bool {
				stored = append(stored, listedCell{a, c})
				return true
			}))
			same := func(a, b listedCell) bool { return a.address == b.address && sameDots(a.cell, b.cell) }
			if l.state == listingMade && !slices.EqualFunc(l.cells, stored, same) {
				t.Fatalf("host %d: under %q is listed %v, and stored %v", h.i, key, dotsOf(l.cells), dotsOf(stored))
			}
			w.done["listed"] += gain(false, l.state == listingMade)
		}
	}
}

// dotsOf tells of which entries cells are.
func dotsOf(cells []listedCell) (said []string) {
	for _, c := range cells {
		said = append(said, fmt.Sprintf("%q: %v", c.address, c.cell.Dots()))
	}
	return said
}

// TestALowerLimitForgetsListingsBeyondIt at once, and none that fits.
func TestALowerLimitForgetsListingsBeyondIt(t *testing.T) {
	lists := newListings(1 << 20)
	for i := range 2000 {
		lists.put(&listing{of: dotted.KeyAddress(fmt.Sprint(i)), bytes: 1000})
	}
	held := func() (bytes int) {
		for _, byKey := range []map[dotted.Address]*listing{lists.young, lists.old} {
			for _, l := range byKey {
				bytes += listingBytes + len(l.of) + l.bytes
			}
		}
		return bytes
	}
	all := held()
	if lists.setLimit(900 << 10); held() != all || all < 1<<19 {
		t.Errorf("%d bytes were listed, and with a limit of 900 KiB %d are", all, held())
	}
	for _, limit := range []int{600 << 10, 100 << 10, 0} {
		if lists.setLimit(limit); held() > limit {
			t.Errorf("%d bytes are listed, and the limit is %d", held(), limit)
		}
	}
}

// TestAHashThatIsReadAgainIsAtHand reads a hash beside steps, that the tree alone has: at first it must be read on a
// view, then it is in memory, whatever is written to it, as long as it is little.
func TestAHashThatIsReadAgainIsAtHand(t *testing.T) {
	s := &tally{disk: newDisk()}
	r := openOn(t, s, 1)
	fill := func(fields int) {
		pipeline(t, r, fields, func(f crdt.Fields, i int) error {
			return f.Map("h").String(fmt.Sprintf("f%03d", i)).Set([]byte("x"))
		})
		must(t, r.Save(testStart))
	}
	fill(3)
	r = openOn(t, s, 100)
	e := newEngine(r)
	must(t, e.checkAll())
	var got []string
	atHand := false
	u := wishFor(func(tx *Tx) error {
		if got, atHand = nil, tx.AtHand("h"); atHand {
			for field, value := range Fields(tx).Map("h").Strings() {
				got = append(got, fmt.Sprintf("%s=%s", field, value))
			}
		}
		return nil
	})
	read := func() bool {
		s.reads, s.scans = 0, 0
		return e.Read(u, 0, testStart) == 1 && atHand && s.scans == 0
	}
	gather := func() {
		v := e.View().Gathering()
		defer v.Close()
		if v.AtHand("h") {
			e.Remember(v)
		}
	}
	gather()
	if read() {
		t.Error("the hash is at hand, for which nobody has asked")
	}
	gather()
	want := []string{"f000=x", "f001=x", "f002=x"}
	if !read() || !slices.Equal(got, want) || s.reads > 1 {
		t.Errorf("the hash is read with %d reads and %d scans: %v", s.reads, s.scans, got)
	}
	pipeline(t, r, 3, func(f crdt.Fields, i int) error {
		h := f.Map("h")
		if i == 0 {
			_, err := h.Remove("f001")
			return err
		}
		return h.String(fmt.Sprintf("f%03d", 2*i)).Set([]byte("y"))
	})
	if want = []string{"f000=x", "f002=y", "f004=y"}; !read() || !slices.Equal(got, want) {
		t.Errorf("after changes it is read with %d scans:%s", s.scans, cmp.Diff(want, got))
	}
	pipeline(t, r, 1, func(f crdt.Fields, _ int) error { _, err := f.Remove("h"); return err })
	if want = nil; read() && len(got) > 0 {
		t.Errorf("after its removal it is read: %v", got)
	}
	if fill(mostListed + 1); read() {
		t.Error("a large one is at hand")
	}
	if gather(); read() {
		t.Error("a large one was gathered")
	}
}
