package delta

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

func TestDecodeRefusesDeltasThatBreakTheRules(t *testing.T) {
	flag := dotted.KeyAddress("k").Type(crdt.TypeFlag)
	put := Op{Kind: OpPut, Address: flag, Payload: []byte{1}}
	with := func(change func(d *Delta)) *Delta {
		d := &Delta{Replica: 1, First: 2, Prev: 3, Ops: []Op{put}}
		change(d)
		return d
	}
	for name, d := range map[string]*Delta{
		"no replica":           with(func(d *Delta) { d.Replica = 0 }),
		"no dot":               with(func(d *Delta) { d.First = 0 }),
		"no operation":         with(func(d *Delta) { d.Ops = nil }),
		"first with hash":      with(func(d *Delta) { d.First = 1 }),
		"later without hash":   with(func(d *Delta) { d.Prev = 0 }),
		"counter out of range": with(func(d *Delta) { d.First = 1<<62 + 1 }),
		"depends on itself":    with(func(d *Delta) { d.Deps = crdt.VersionVector{1: 1} }),
		"no payload":           with(func(d *Delta) { d.Ops = []Op{{Kind: OpPut, Address: flag}} }),
		"unknown operation":    with(func(d *Delta) { d.Ops = []Op{{Kind: 9, Address: flag}} }),
		"an end with address":  with(func(d *Delta) { d.Ops = []Op{{Kind: OpEnd, Address: flag}} }),
		"bases of nothing":     with(func(d *Delta) { d.Ops = []Op{BaseOp(nil)} }),
		"bases out of order":   with(func(d *Delta) { d.Ops = []Op{BaseOp([]Base{{3, 1, 2}, {2, 1, 2}})} }),
		"a base of no dot":     with(func(d *Delta) { d.Ops = []Op{BaseOp([]Base{{2, 0, 0}})} }),
		"a base of its own":    with(func(d *Delta) { d.Ops = []Op{BaseOp([]Base{{1, 1, 2}})} }),
		"bases with address": with(func(d *Delta) {
			d.Ops = []Op{BaseOp([]Base{{2, 1, 2}})}
			d.Ops[0].Address = flag
		}),
		"too many bases": with(func(d *Delta) {
			d.Ops = []Op{BaseOp(make([]Base, MaxBases+1))}
		}),
		"more after the end": with(func(d *Delta) { d.Ops = []Op{{Kind: OpEnd}, put} }),
		"no address":         with(func(d *Delta) { d.Ops = []Op{{Kind: OpRemove}} }),
		"unended name":       with(func(d *Delta) { d.Ops = []Op{{Kind: OpClear, Address: "k"}} }),
		"long name": with(func(d *Delta) {
			d.Ops = []Op{{Kind: OpClear, Address: dotted.KeyAddress(strings.Repeat("k", crdt.MaxName+1))}}
		}),
		"too many operations": with(func(d *Delta) { d.Ops = make([]Op, MaxOps+1) }),
		"large payload": with(func(d *Delta) {
			d.Ops = []Op{{Kind: OpPut, Address: flag, Payload: make([]byte, dotted.MaxPayload+1)}}
		}),
		"vector with a zero": with(func(d *Delta) { d.Deps = crdt.VersionVector{2: 0} }),
	} {
		if _, err := Decode(d.Encode()); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, err := Decode(make([]byte, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond the size limit: %v", err)
	}
}

// TestAHashTellsWhetherItsReplicaEnds of both, a delta that was made here and one that was read.
func TestAHashTellsWhetherItsReplicaEnds(t *testing.T) {
	put := Op{Kind: OpPut, Address: dotted.KeyAddress("k").Type(crdt.TypeFlag), Payload: []byte{1}}
	for i := range uint64(64) {
		for _, ends := range []bool{false, true} {
			d := &Delta{Replica: 1, First: 2 + i, Prev: 3, Ops: []Op{put}}
			if ends {
				d.Ops = append(d.Ops, Op{Kind: OpEnd})
			}
			read, err := Decode(d.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if d.Hash().Ends() != ends || read.Hash() != d.Hash() || read.Ends() != ends {
				t.Fatalf("delta %d: hashes %x and %x, ends: %v", i, d.Hash(), read.Hash(), ends)
			}
		}
	}
}

func TestDecodeCarriesFieldsOfANewerVersion(t *testing.T) {
	d := &Delta{Replica: 1, First: 1, Ops: []Op{{Kind: OpClear, Address: dotted.KeyAddress("k")}}}
	data := d.Encode()
	newer := append([]byte{data[0] + 1}, data[1:]...)
	newer = append(newer, 0x93, 1, 2, 0xc3) // an array that this version does not know
	got, err := Decode(newer)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Encode()) != string(newer) || got.Hash() == d.Hash() {
		t.Error("the unknown field is not carried along")
	}
}

func TestReadyWaitsForTheReplicasOwnAndForWhatItDependsOn(t *testing.T) {
	d := &Delta{Replica: 1, First: 5, Deps: crdt.VersionVector{2: 3}, Ops: make([]Op, 2)}
	for _, c := range []struct {
		seen crdt.VersionVector
		want bool
	}{
		{crdt.VersionVector{1: 4, 2: 3}, true},
		{crdt.VersionVector{1: 4, 2: 9, 3: 1}, true},
		{crdt.VersionVector{1: 3, 2: 3}, false},
		{crdt.VersionVector{1: 6, 2: 3}, false},
		{crdt.VersionVector{1: 4, 2: 2}, false},
		{nil, false},
	} {
		if got := d.Ready(c.seen); got != c.want {
			t.Errorf("with %v: %v", c.seen, got)
		}
	}
	if d.Last() != 6 || d.Dot(1) != (crdt.Dot{Replica: 1, Counter: 6}) {
		t.Errorf("last %d, dot %v", d.Last(), d.Dot(1))
	}
}

func TestClearSeesItsContextAndTheOperationsBeforeIt(t *testing.T) {
	dot := func(r crdt.ReplicaID, n uint64) crdt.Dot { return crdt.Dot{Replica: r, Counter: n} }
	d := &Delta{Replica: 1, First: 5, Seen: crdt.VersionVector{1: 4, 2: 3}, Ops: make([]Op, 3)}
	for _, c := range []struct {
		of   crdt.Dot
		want bool
	}{
		{dot(2, 3), true}, {dot(2, 4), false}, {dot(1, 4), true}, {dot(1, 5), true},
		{dot(1, 6), false}, {dot(3, 1), false},
	} {
		if got := d.SeenBy(1, Whole(d.Seen)).Has(c.of); got != c.want {
			t.Errorf("the second operation removes %v: %v", c.of, got)
		}
	}
}

// TestAnOperationOnAShareIsDescribedAtItsString tests that nobody is shown where an increment is kept.
func TestAnOperationOnAShareIsDescribedAtItsString(t *testing.T) {
	counter := dotted.KeyAddress("ann").Type(crdt.TypeMap).Name("visits").Type(crdt.TypeString)
	want := []Step{{crdt.TypeMap, "visits"}, {Type: crdt.TypeString}}
	for _, at := range []dotted.Address{counter, counter.Share(7)} {
		d := Describe(Op{Kind: OpRemove, Address: at, Removes: []crdt.Dot{{Replica: 7, Counter: 1}}})
		if d.Key != "ann" || !slices.Equal(d.Path, want) {
			t.Errorf("%q: %q, %v", at, d.Key, d.Path)
		}
	}
}
