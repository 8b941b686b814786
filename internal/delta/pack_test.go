package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
)

// frameCost is what tests let a packing cost.
const frameCost = 4 << 20

func pack(deltas ...*Delta) []byte {
	var p Packer
	for _, d := range deltas {
		p.Add(d)
	}
	return p.Bytes()
}

func unpack(data []byte, most, cost int) ([]*Delta, error) {
	var u Unpacker
	return u.Unpack(data, most, cost)
}

// mustUnpack unpacks and compares with what was packed: fields, bytes and hashes.
func mustUnpack(t rapid.TB, packed []byte, want []*Delta) {
	t.Helper()
	got, err := unpack(packed, len(want), frameCost)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Delta{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
	for i := range want {
		if !bytes.Equal(got[i].Encode(), want[i].Encode()) || got[i].Hash() != want[i].Hash() {
			t.Fatalf("bytes or hash of delta %d are others", i)
		}
	}
}

// setOf returns a delta that writes one value, as a SET does: it continues the one before.
func setOf(before *Delta, key string, value []byte) *Delta {
	d := &Delta{Replica: 0xfedcba9876543210, First: 1, Time: 1e12 << 16}
	if before != nil {
		d.First, d.Prev, d.Time = before.Last()+1, before.Hash(), before.Time+1
	}
	payload := binary.BigEndian.AppendUint64([]byte{1}, uint64(d.Time))
	d.Ops = []Op{{Kind: OpPut, Address: dotted.KeyAddress(key).Type(crdt.TypeString), Payload: append(payload, value...)}}
	return d
}

func TestTheEncodingOfAPackingStaysAsItIs(t *testing.T) {
	first := setOf(nil, "key:000000000001", []byte("a value"))
	second := setOf(first, "key:000000000002", []byte("another"))
	golden.Bytes(t, "packed", pack(first, sampleDelta(), second, sampleDelta()))
}

func TestWritesTravelInFewBytes(t *testing.T) {
	const value = 64
	for name, c := range map[string]struct {
		key  func(i int) string
		most int // bytes for each, beyond key and value
	}{
		"keys that follow each other": {func(i int) string { return fmt.Sprintf("key:%012d", i) }, -9},
		"unrelated keys":              {func(i int) string { return fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15) }, 5},
	} {
		var p Packer
		var last *Delta
		const writes = 1000
		keys := 0
		for i := range writes {
			last = setOf(last, c.key(i), make([]byte, value))
			keys += len(c.key(i))
			p.Add(last)
		}
		if each := (len(p.Bytes()) - keys - writes*value) / writes; each > c.most {
			t.Errorf("%s: %d bytes for each write, want at most %d", name, each, c.most)
		}
	}
}

// TestWhatIsPackedComesBack packs deltas of several replicas, some of which continue each other.
func TestWhatIsPackedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := map[crdt.ReplicaID]*Delta{}
		deltas := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *Delta { return drawDelta(t, last) }), 0, 12).Draw(t, "deltas")
		var p Packer
		cost := 0
		for _, d := range deltas {
			p.Add(d)
			cost += d.PackedCost()
		}
		packed := p.Bytes()
		mustUnpack(t, packed, deltas)
		if _, err := unpack(packed, len(deltas), cost); err != nil || p.Cost() != cost {
			t.Fatalf("what costs %d, as the packer says %d: %v", cost, p.Cost(), err)
		}
		if p.Reset(); len(deltas) > 0 {
			if _, err := unpack(packed, len(deltas)-1, frameCost); !errors.Is(err, ErrTooLarge) {
				t.Fatalf("one more than allowed: %v", err)
			}
			if _, err := unpack(packed, len(deltas), cost-1); !errors.Is(err, ErrTooLarge) {
				t.Fatalf("more cost than allowed: %v", err)
			}
		}
		again, err := unpack(packed, len(deltas), frameCost)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range again { // a relay packs what it unpacked
			p.Add(d)
		}
		if !bytes.Equal(p.Bytes(), packed) {
			t.Fatal("packed again it is another packing")
		}
	})
}

// TestWhatCameKeepsNoFrame: not even a delta of a newer version, which travels as it is.
func TestWhatCameKeepsNoFrame(t *testing.T) {
	data := bytes.Clone(setOf(nil, "a", []byte("1")).Encode())
	data[0]++
	newer, err := Decode(append(data, 0x91, 7)) // with a field that nobody knows
	if err != nil {
		t.Fatal(err)
	}
	var p Packer
	p.Add(newer)
	frame := bytes.Clone(p.Bytes())
	came, err := unpack(frame, 1, frameCost)
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	if !bytes.Equal(came[0].Encode(), newer.Encode()) {
		t.Error("the delta changes with the frame that it came in")
	}
}

func drawDelta(t *rapid.T, last map[crdt.ReplicaID]*Delta) *Delta {
	id := crdt.ReplicaID(rapid.SampledFrom([]uint64{1, 2, 1 << 63}).Draw(t, "replica"))
	d := &Delta{Replica: id, First: 1, Time: dotted.Time(rapid.Uint64().Draw(t, "time"))}
	if before := last[id]; before != nil {
		d.First, d.Prev = before.Last()+1, before.Hash()
		if rapid.Bool().Draw(t, "near") {
			d.Time = before.Time + dotted.Time(rapid.Uint64Range(0, 3).Draw(t, "later"))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "gap") == 0 {
		d.First += 7
		d.Prev = Hash(rapid.Uint64Min(1).Draw(t, "hash"))
	}
	d.Deps = drawVector(t, "deps")
	delete(d.Deps, id)
	d.Seen = drawVector(t, "seen")
	for n := rapid.IntRange(1, 4).Draw(t, "ops"); len(d.Ops) < n && !d.Ends(); {
		d.Ops = append(d.Ops, drawOp(t, d.Time))
	}
	last[id] = d
	return d
}

func drawVector(t *rapid.T, label string) crdt.VersionVector {
	return rapid.MapOfN(rapid.SampledFrom([]crdt.ReplicaID{1, 2, 3, 1 << 63, 1<<64 - 1}),
		rapid.Uint64Range(1, dotted.MaxCounter), 0, 3).Draw(t, label)
}

func drawOp(t *rapid.T, at dotted.Time) Op {
	key := rapid.StringMatching(`(user:|user:1|)[0-9]{0,3}`).Draw(t, "key")
	cell := dotted.KeyAddress(key).Type(crdt.TypeSet).Name(rapid.StringN(0, 3, 9).Draw(t, "name"))
	if rapid.Bool().Draw(t, "register") {
		cell = dotted.KeyAddress(key).Type(crdt.TypeString)
	}
	o := Op{Kind: OpKind(rapid.IntRange(0, int(OpBase)).Draw(t, "kind"))}
	switch o.Kind {
	case OpPut:
		o.Address, o.Payload = cell, rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "payload")
		if rapid.Bool().Draw(t, "stamped") {
			o.Payload = append(binary.BigEndian.AppendUint64([]byte{1}, uint64(at)), o.Payload...)
		}
	case OpRemove:
		o.Address = cell
	case OpClear:
		o.Address = rapid.SampledFrom([]dotted.Address{"", dotted.KeyAddress(key)}).Draw(t, "prefix")
	case OpBase:
		return BaseOp([]Base{{Replica: 9, Last: 4, Head: 5}})
	}
	if o.Kind.names() {
		for n := rapid.IntRange(0, 2).Draw(t, "removes"); len(o.Removes) < n; {
			o.Removes = append(o.Removes, crdt.Dot{Replica: crdt.ReplicaID(rapid.Uint64().Draw(t, "of")),
				Counter: rapid.Uint64().Draw(t, "dot")})
		}
	}
	return o
}

// TestADeltaOfANewerVersionKeepsItsBytes has one with a field more between two others.
func TestADeltaOfANewerVersionKeepsItsBytes(t *testing.T) {
	first := setOf(nil, "a", []byte("1"))
	second := setOf(first, "b", []byte("2"))
	data := bytes.Clone(second.Encode())
	data[0]++ // a field more
	newer, err := Decode(append(data, 0x91, 7))
	if err != nil {
		t.Fatal(err)
	}
	third := setOf(newer, "c", []byte("3"))
	mustUnpack(t, pack(first, newer, third), []*Delta{first, newer, third})
}

// TestOneThatWasReadTravelsPacked has a delta that came from the log be packed as one that was made here.
func TestOneThatWasReadTravelsPacked(t *testing.T) {
	made := setOf(nil, "a", []byte("1"))
	read, err := Decode(made.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pack(read), pack(made)) {
		t.Error("they are packed otherwise")
	}
}

// TestAPackingTakesNoMoreMemoryThanItsBound has a few bytes stand for much: a long key said once, and a context.
func TestAPackingTakesNoMoreMemoryThanItsBound(t *testing.T) {
	long := strings.Repeat("k", 60<<10)
	many := &Delta{Replica: 1, First: 1, Seen: crdt.VersionVector{}}
	many.Ops = []Op{{Kind: OpClear, Address: dotted.KeyAddress(long)}}
	for id := range crdt.ReplicaID(1000) {
		many.Seen[id+2] = 1
	}
	deltas := []*Delta{many}
	for range 100 {
		next := *many
		next.encoded, next.First, next.Prev = nil, deltas[len(deltas)-1].Last()+1, deltas[len(deltas)-1].Hash()
		deltas = append(deltas, &next)
	}
	packed := pack(deltas...)
	if len(packed) > 80<<10 {
		t.Fatalf("%d bytes are packed", len(packed))
	}
	allocates(t, frameCost, func() {
		if _, err := unpack(packed, len(deltas), frameCost); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v, want ErrTooLarge", err)
		}
	})
}

func TestWhatIsNoPackingIsRefused(t *testing.T) {
	good := pack(setOf(nil, "a", []byte("1")), sampleDelta())
	if _, err := unpack(good, 2, frameCost); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(good); n++ {
		if deltas, err := unpack(good[:n], 2, frameCost); err == nil && len(deltas) != 1 {
			t.Errorf("%d bytes of %d are %d deltas", n, len(good), len(deltas))
		}
	}
	one := binary.BigEndian.AppendUint64([]byte{headReplica, 0}, 1) // the head and replica 1; then the time
	for name, data := range map[string][]byte{
		"an unknown bit":           {headBits, 0},
		"raw and more":             {headRaw | headSeen, 0},
		"raw and no delta":         {headRaw, 1, 0x90},
		"no replica":               {0, 0, byte(OpEnd), 0, 0},
		"a number before its time": {headReplica, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(OpEnd), 0, 0},
		"an unknown operation":     append(bytes.Clone(one), 0, byte(OpBase)+1, 0, 0),
		"a prefix of nothing":      append(bytes.Clone(one), 0, byte(OpRemove), 3, 0),
		"an endless number":        append(bytes.Clone(one), bytes.Repeat([]byte{0xff}, 20)...),
		"no vector": append(binary.BigEndian.AppendUint64([]byte{headReplica | headDeps, 0}, 1),
			0, 0, byte(OpEnd), 0, 0),
	} {
		if _, err := unpack(data, 2, frameCost); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, err := unpack(append(one, 0, byte(OpEnd), 0, 0), 2, frameCost); err != nil {
		t.Errorf("the end of a replica: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	first := setOf(nil, "key:1", []byte("value"))
	f.Add(pack(first, setOf(first, "key:2", []byte("value"))))
	f.Add(pack(sampleDelta(), first, sampleDelta()))
	const most, cost = 64, 1 << 16
	f.Fuzz(func(t *testing.T, data []byte) {
		var deltas []*Delta
		var err error
		allocates(t, cost+len(data), func() { deltas, err = unpack(data, most, cost) })
		if err != nil {
			return
		}
		for _, d := range deltas {
			again, err := Decode(d.Encode())
			if err != nil || again.Hash() != d.Hash() {
				t.Fatalf("unpacked it is no delta: %v", err)
			}
		}
		mustUnpack(t, pack(deltas...), deltas)
	})
}

// BenchmarkCodecs compares what the deltas of a frame cost with what the same cost each by itself: made ready to send,
// read, and their bytes and hashes there.
func BenchmarkCodecs(b *testing.B) {
	for _, size := range []int{1, 16, 500} {
		var deltas []*Delta
		var last *Delta
		for i := range size {
			last = setOf(last, fmt.Sprintf("key:%012d", i), make([]byte, 64))
			last.Encode()
			deltas = append(deltas, last)
		}
		b.Run(fmt.Sprint("alone/", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				data := wire.Encode(func(w *wire.Writer) {
					for _, d := range deltas {
						w.Bytes(d.Encode())
					}
				})
				err := wire.Decode(data, func(r *wire.Reader) {
					var got []*Delta
					for range deltas {
						d, err := Decode(r.Bytes(len(data)))
						if err != nil {
							b.Fatal(err)
						}
						got = append(got, d)
					}
					if len(got) != size {
						b.Fatal(len(got))
					}
				})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(data))/float64(size), "B/delta")
			}
		})
		b.Run(fmt.Sprint("packed/", size), func(b *testing.B) {
			b.ReportAllocs()
			var p Packer
			var u Unpacker
			for b.Loop() {
				p.Reset()
				for _, d := range deltas {
					p.Add(d)
				}
				data := wire.Encode(func(w *wire.Writer) { w.Bytes(p.Bytes()) })
				err := wire.Decode(data, func(r *wire.Reader) {
					if _, err := u.Unpack(r.Bytes(len(data)), size, frameCost); err != nil {
						b.Fatal(err)
					}
				})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(data))/float64(size), "B/delta")
			}
		})
	}
}
