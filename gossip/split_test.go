package gossip

import (
	"errors"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

// writeLarge writes a delta with a payload of so many bytes.
func (c *fakeCore) writeLarge(size int) *delta.Delta {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i>>8) ^ byte(i) | 1
	}
	d := &delta.Delta{
		Replica: c.id, First: c.seen[c.id] + 1, Prev: c.heads[c.id], Time: 1, Deps: crdt.VersionVector{},
		Ops: []delta.Op{{Kind: delta.OpPut, Address: dotted.KeyAddress("k").Type('v'), Payload: payload}},
	}
	c.take(d)
	return d
}

func TestALargeDeltaTravelsInPartsAndIsPutTogether(t *testing.T) {
	for _, size := range []int{partSize, partSize + 1, 2*partSize - 100, 5 << 20, dotted.MaxPayload} {
		w := newNet(t, 3)
		w.connect(0, 1)
		w.connect(1, 2)
		w.run()
		w.cores[0].write(1)
		d := w.cores[0].writeLarge(size)
		w.cores[0].write(1)
		for moved := true; moved; {
			for i, m := range w.meshes {
				for _, n := range m.neighbours {
					if most := uint64(window + partSize + 100); n.onTheWay > most {
						t.Fatalf("peer %d has %d bytes on the way, want %d at most", i, n.onTheWay, most)
					}
				}
			}
			moved = w.run()
		}
		w.mustAgree()
		if got := w.cores[2].heads[1]; got != w.cores[0].heads[1] || len(w.cores[2].log) != 3 || w.deltas != 6 {
			t.Errorf("%d bytes: %d deltas were handed out, want 6", size, w.deltas)
		}
		if want := 2 * ((len(d.Encode()) + partSize - 1) / partSize); w.sent[kindPart] != want {
			t.Errorf("%d bytes: %d parts, want %d", size, w.sent[kindPart], want)
		}
	}
}

// TestAHelloBetweenPartsDoesNotHaveADeltaSentTwice takes a hello that says nothing of the delta that is on the way.
func TestAHelloBetweenPartsDoesNotHaveADeltaSentTwice(t *testing.T) {
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	w.cores[0].writeLarge(2 * partSize)
	first, err := w.meshes[0].Next(id(1))
	if err != nil || kind(first[0]) != kindPart {
		t.Fatal(kind(first[0]), err)
	}
	w.deliver(0, id(1), first)
	w.meshes[1].neighbours[id(0)].hello = true
	w.run()
	w.tick(3 * askEvery)
	if w.mustAgree(); w.deltas != 1 {
		t.Errorf("it came %d times", w.deltas)
	}
}

// TestWhatIsOnTheWayInPartsIsNotAskedFor has a third peer offer it meanwhile.
func TestWhatIsOnTheWayInPartsIsNotAskedFor(t *testing.T) {
	w := newNet(t, 3)
	w.connectAll()
	w.run()
	w.cores[2].take(w.cores[0].writeLarge(20 * partSize))
	w.meshes[2].neighbours[id(1)].known.Raise(1, 1) // or it would send it at once
	w.deliver(2, id(1), encodeHave(w.cores[2].seen, w.cores[2].heads))
	for range 20 {
		data, err := w.meshes[0].Next(id(1))
		if err != nil {
			t.Fatal(err)
		}
		w.deliver(0, id(1), data)
		for range patience {
			w.meshes[1].Tick(false)
		}
		if w.meshes[1].neighbours[id(2)].graft {
			t.Fatal("it is asked for again")
		}
		for range 2 { // the acknowledgement
			if data, _ := w.meshes[1].Next(id(0)); data != nil {
				w.deliver(1, id(0), data)
			}
		}
	}
	for range stalled + 2*patience {
		w.meshes[1].Tick(false)
	}
	if w.meshes[1].neighbours[id(2)].graft == (w.cores[1].seen[1] == 1) {
		t.Errorf("asked for: %v, here: %v", w.meshes[1].neighbours[id(2)].graft, w.cores[1].seen)
	}
}

// TestWhatIsMissingIsAskedForWhileLargeDeltasComeAllTheTime has a neighbour send one after the other, and another have what
// it never sends.
func TestWhatIsMissingIsAskedForWhileLargeDeltasComeAllTheTime(t *testing.T) {
	w := newNet(t, 3)
	w.connect(0, 1)
	w.connect(1, 2)
	w.run()
	w.cores[2].write(1)
	w.meshes[2].neighbours[id(1)].known.Raise(3, 1) // it takes it for sent
	w.deliver(2, id(1), encodeHave(w.cores[2].seen, w.cores[2].heads))
	for range 2 * excuses { // of two parts each: ticks come between them
		w.cores[0].writeLarge(partSize + partSize/2)
		for part := range 2 {
			data, err := w.meshes[0].Next(id(1))
			for err == nil && data != nil && kind(data[0]) != kindPart {
				data, err = w.meshes[0].Next(id(1))
			}
			if err != nil || data == nil {
				t.Fatal(data, err)
			}
			w.deliver(0, id(1), data)
			for range askEvery * (1 - part) {
				w.meshes[1].Tick(false)
			}
		}
		for data, err := w.meshes[1].Next(id(0)); data != nil && err == nil; data, err = w.meshes[1].Next(id(0)) {
			w.deliver(1, id(0), data)
		}
	}
	if !w.meshes[1].neighbours[id(2)].graft {
		t.Error("what nobody sends is not asked for")
	}
}

func TestATruncatedOrLyingPartEndsTheLink(t *testing.T) {
	c := newFake(2)
	large := c.writeLarge(2 * partSize)
	data := large.Encode()
	size := len(data)
	part := func(size, from, end int) []byte { return encodePart(size, from, data[from:end]) }
	for name, frames := range map[string][][]byte{
		"more than a delta may have":     {encodePart(delta.MaxSize+1, 0, data[:100])},
		"more than was announced":        {encodePart(50, 0, data[:100])},
		"another size":                   {part(size, 0, 100), part(size+1, 100, 200)},
		"a hole":                         {part(size, 0, 100), part(size, 101, 200)},
		"the same again":                 {part(size, 0, 100), part(size, 0, 100)},
		"a middle without a beginning":   {part(size, 100, 200)},
		"nothing":                        {encodePart(size, 0, nil)},
		"fewer bytes than it has":        {part(size-1, 0, 100), part(size-1, 100, size-1)},
		"more bytes than it has":         {part(size+1, 0, size), encodePart(size+1, size, []byte{0})},
		"other bytes":                    {encodePart(size, 0, make([]byte, 100)), part(size, 100, size)},
		"another delta before its end":   {part(size, 0, 100), encodeDeltas(packed(large), nil, nil)},
		"another delta, also in parts":   {part(size, 0, 100), encodePart(100, 0, data[:50])},
		"an offset beyond what there is": {encodePart(size, 1<<62, data[:100])},
	} {
		m := NewMesh(newFake(7))
		m.Connect("x")
		frames = append([][]byte{hello{version: protocolVersion, replica: 2}.encode()}, frames...)
		for i, data := range frames {
			err := m.Receive("x", data, func(*delta.Delta) (Outcome, error) {
				t.Errorf("%s: something of it was applied", name)
				return Applied, nil
			})
			if last := i == len(frames)-1; last != errors.Is(err, ErrFrame) || !last && err != nil {
				t.Errorf("%s: frame %d: %v", name, i, err)
			}
		}
	}
}

// TestAnnouncedBytesTakeNoMemoryBeforeTheyCome and what has come is given back with the link.
func TestAnnouncedBytesTakeNoMemoryBeforeTheyCome(t *testing.T) {
	c := newFake(2)
	data := c.writeLarge(2 * partSize).Encode()
	m := NewMesh(newFake(7))
	for range 2 {
		m.Connect("x")
		for _, data := range [][]byte{hello{version: protocolVersion, replica: 2}.encode(),
			encodePart(delta.MaxSize, 0, data[:partSize])} {
			if err := m.Receive("x", data, c.apply); err != nil {
				t.Fatal(err)
			}
		}
		if got := cap(m.neighbours["x"].partial.data); got > 2*partSize {
			t.Errorf("%d bytes were taken for %d", got, partSize)
		}
	}
	m.Estrange("x", 2)
	if m.neighbours["x"].partial.data != nil {
		t.Error("a neighbour in quarantine holds memory")
	}
	if err := m.Receive("x", encodePart(delta.MaxSize, partSize, data[:partSize]), c.apply); err != nil {
		t.Error(err)
	}
	if m.neighbours["x"].partial.data != nil {
		t.Error("what comes in quarantine is kept")
	}
}

// TestADeltaThatGoesWholeCostsLessThanAFrameMay has the delta that costs most for its bytes: many dots of few bytes.
func TestADeltaThatGoesWholeCostsLessThanAFrameMay(t *testing.T) {
	d := &delta.Delta{Replica: 2, First: 1, Ops: []delta.Op{
		{Kind: delta.OpRemove, Address: dotted.KeyAddress("k").Type('v')}}}
	for i := range partSize/2 - 40 {
		dot := crdt.Dot{Replica: crdt.ReplicaID(i%100 + 1), Counter: 1}
		d.Ops[0].Removes = append(d.Ops[0].Removes, dot)
	}
	if n := len(d.Encode()); n > partSize || n < partSize-100 {
		t.Fatalf("%d bytes", n)
	}
	deltas, _, _, err := decodeDeltas(new(delta.Unpacker), encodeDeltas(packed(d), nil, nil)[1:])
	if err != nil || len(deltas) != 1 || deltas[0].Hash() != d.Hash() {
		t.Errorf("%d deltas, %v", len(deltas), err)
	}
}

// TestDeltasThatShareMuchTravelInSeveralFrames has some whose long key is in a frame once, and which would be more than a
// reader unpacks.
func TestDeltasThatShareMuchTravelInSeveralFrames(t *testing.T) {
	const writes = 2 * maxFrameCost / (6 << 10)
	w := newNet(t, 2)
	w.connect(0, 1)
	w.run()
	c := w.cores[0]
	key := dotted.KeyAddress(strings.Repeat("k", 6<<10)).Type('v')
	for range writes {
		c.take(&delta.Delta{Replica: c.id, First: c.seen[c.id] + 1, Prev: c.heads[c.id],
			Ops: []delta.Op{{Kind: delta.OpPut, Address: key, Payload: []byte{1}}}})
	}
	w.run()
	w.mustAgree()
	if w.deltas != writes {
		t.Errorf("%d deltas arrived, want %d", w.deltas, writes)
	}
}
