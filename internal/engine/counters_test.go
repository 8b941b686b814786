package engine

import (
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// TestASoleShareIsFoundBesideBaselinesOfOthers has baselines arrive for a share that is gone, each in the group of an increment
// by the only one who counts: the next increment goes to the share, not to what stands near it since.
func TestASoleShareIsFoundBesideBaselinesOfOthers(t *testing.T) {
	const own, other = crdt.ReplicaID(1 << 40), crdt.ReplicaID(1 << 41)
	r, err := openAt(newDisk(), Config{NewID: func() crdt.ReplicaID { return own }})
	if err != nil {
		t.Fatal(err)
	}
	counter := dotted.KeyAddress("n").Type(crdt.TypeString)
	incr := func(g *group) {
		t.Helper()
		must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Counter("n").Add(1); return err }))
	}
	baseline := wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{dotted.PayloadHidden | dotted.PayloadTally | 5})
		w.Array(5)
		for range 5 {
			w.Uint(1)
		}
	})
	var prev delta.Hash
	for i := range uint64(4) {
		g := r.newGroup(time.UnixMilli(1e12))
		incr(g)
		if i < 3 {
			d := &delta.Delta{Replica: other, First: i + 1, Time: dotted.TimeAt(g.now), Prev: prev}
			d.Ops = []delta.Op{{Kind: delta.OpPut, Address: counter.Share(other), Payload: baseline}}
			if i > 0 {
				d.Ops[0].Removes = []crdt.Dot{{Replica: other, Counter: i}}
			}
			prev = d.Hash()
			if outcome, err := g.apply(d); err != nil || outcome != gossip.Applied {
				t.Fatal(outcome, err)
			}
		}
		if _, err := g.Commit(false); err != nil {
			t.Fatal(err)
		}
	}
	v := r.View()
	defer v.Close()
	if n := Fields(v).Counter("n").Get(); n != 4 {
		t.Errorf("it counts %d after 4 increments", n)
	}
	for owner, entries := range map[crdt.ReplicaID]int{own: 1, other: 1} {
		if c, err := v.Cell(counter.Share(owner)); err != nil || len(c) != entries {
			t.Errorf("the cell of %v has %d entries (%v)", owner, len(c), err)
		}
	}
}

// TestAClearOfAStringAloneLeavesNoSoleShare, in a group with what counts under the key again.
func TestAClearOfAStringAloneLeavesNoSoleShare(t *testing.T) {
	r, err := openAt(newDisk(), Config{NewID: func() crdt.ReplicaID { return 1 << 40 }})
	must(t, err)
	at := dotted.KeyAddress("n").Type(crdt.TypeString)
	g := r.newGroup(time.UnixMilli(1e12))
	must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Counter("n").Add(7); return err }))
	_, err = g.Commit(false)
	must(t, err)
	g = r.newGroup(time.UnixMilli(1e12))
	must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Remove("n"); return err }))
	d := &delta.Delta{Replica: 1 << 41, First: 1, Time: dotted.TimeAt(g.now), Seen: crdt.VersionVector{}}
	d.Ops = []delta.Op{{Kind: delta.OpClear, Address: at}}
	if o, err := g.apply(d); err != nil || o != gossip.Applied {
		t.Fatal(o, err)
	}
	must(t, g.update(func(tx *Tx) error { _, err := Fields(tx).Map("n").Counter("f").Add(1); return err }))
	_, err = g.Commit(false)
	must(t, err)
	v := r.View()
	defer v.Close()
	if c, err := v.Count(at); err != nil || c.Shares != 0 {
		t.Errorf("%d shares count, %v", c.Shares, err)
	}
}
