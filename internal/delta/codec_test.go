package delta

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
)

// sampleDelta has an operation of each kind.
func sampleDelta() *Delta {
	return &Delta{
		Replica: 0xfedcba9876543210,
		First:   41,
		Time:    dotted.TimeAt(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)) + 7,
		Prev:    0x1122334455667788,
		Deps:    crdt.VersionVector{2: 9, 3: 1 << 33},
		Seen:    crdt.VersionVector{2: 9, 3: 1 << 33, 0xfedcba9876543210: 40},
		Ops: []Op{
			{OpPut, dotted.KeyAddress("k").Type(crdt.TypeString), []byte("\x01 payload"),
				[]crdt.Dot{{Replica: 2, Counter: 3}, {Replica: 3, Counter: 4}}},
			{OpPut, dotted.KeyAddress("k\x00").Type(crdt.TypeSet).Name("e"), []byte{0x02}, nil},
			{OpRemove, dotted.KeyAddress("gone").Type(crdt.TypeFlag), nil, []crdt.Dot{{Replica: 2, Counter: 5}}},
			{Kind: OpClear, Address: dotted.KeyAddress("all")},
			BaseOp([]Base{{2, 9, 0x8877665544332211}, {3, 1 << 33, 0x99}}),
		},
	}
}

func TestTheEncodingOfADeltaStaysAsItIs(t *testing.T) {
	golden.Bytes(t, "delta", sampleDelta().Encode())
}

func TestDeltaDecodesToWhatWasEncoded(t *testing.T) {
	want := sampleDelta()
	got, err := Decode(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Delta{})); diff != "" {
		t.Error(diff)
	}
	if got.Hash() != want.Hash() || !bytes.Equal(got.Encode(), want.Encode()) {
		t.Error("hash or bytes differ")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleDelta().Encode())
	small := &Delta{Replica: 1, First: 1, Ops: []Op{{Kind: OpClear, Address: dotted.KeyAddress("k")}}}
	f.Add(small.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		var d *Delta
		var err error
		allocates(t, len(data), func() { d, err = Decode(data) })
		if err != nil {
			return
		}
		if !bytes.Equal(d.Encode(), data) {
			t.Fatal("a decoded delta does not encode to its bytes")
		}
		copied := &Delta{
			Replica: d.Replica, First: d.First, Time: d.Time, Prev: d.Prev,
			Deps: d.Deps, Seen: d.Seen, Ops: d.Ops,
		}
		again, err := Decode(copied.Encode())
		if err != nil || !bytes.Equal(again.Encode(), copied.Encode()) {
			t.Fatalf("written anew it is refused or differs: %v", err)
		}
		for i := range d.Ops {
			_ = d.Ops[i].Address.Shape()
			_ = d.SeenBy(i, Whole(d.Seen)).Has(d.Dot(i))
		}
	})
}

// allocates fails if fn allocates more than a fixed amount and a multiple of the input: two bytes
// can ask for a dot of sixteen, and maps and trees round up.
func allocates(t *testing.T, input int, fn func()) {
	t.Helper()
	limit := uint64(512<<10 + 128*input)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Fatalf("allocated %d bytes for an input of %d, limit %d", got, input, limit)
	}
}

// A kind is a number: 256 and an OpPut are not the same.
func TestAnOperationOfUnknownKindIsRefused(t *testing.T) {
	for kind, known := range map[uint64]bool{0: true, 5: false, 256: false} {
		data := wire.Encode(func(w *wire.Writer) {
			w.Array(deltaFields)
			for _, n := range []uint64{1, 1, 0, 0} { // replica, first dot, time, hash before
				w.Uint(n)
			}
			w.Array(0)
			w.Array(0)
			w.Array(1)
			w.Array(4)
			w.Uint(kind)
			w.String(string(dotted.KeyAddress("k").Type(crdt.TypeString)))
			w.Array(0)
			w.Bytes([]byte{1})
		})
		if _, err := Decode(data); (err == nil) != known {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}
