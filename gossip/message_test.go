package gossip

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
)

// samples has a frame of each kind.
func samples() map[string][]byte {
	c := newFake(7)
	c.write(2)
	v := crdt.VersionVector{1: 3, 2: 1 << 40}
	return map[string][]byte{
		"hello": hello{version: protocolVersion, replica: 7, seen: v, heads: delta.Heads{1: 5, 2: 6},
			answer: true, whole: true, heard: 3, total: 300, sum: 1 << 63, graft: []crdt.ReplicaID{2}}.encode(),
		"deltas": encodeDeltas(packed(c.log[0], c.log[1]), v, delta.Heads{1: 5, 2: 6}),
		"have":   encodeHave(v, delta.Heads{1: 5, 2: 6}),
		"prune":  encodeReplicas(kindPrune, []crdt.ReplicaID{1, 2}),
		"behind": encodeBehind(),
		"digest": encodeDigest(Digest{Context: 1, Root: 1 << 63}),
		"ask":    encodeNumber(kindAsk, 7),
		"ack":    encodeNumber(kindAck, 131072),
		"secure": encodeDot(kindSecure, crdt.Dot{Replica: 7, Counter: 300}),
		"part":   encodePart(3<<20, 1<<20, []byte("in the middle")),
		"bases": encodeBases([]delta.Table{{Dot: crdt.Dot{Replica: 7, Counter: 9},
			Bases: []delta.Base{{Replica: 1, Last: 3, Head: 5}}}}),
		"fork": encodeReplicas(kindFork, []crdt.ReplicaID{7}),
		"spaces": Envelope(SpaceID{}, encodeSpaces(spacesList{number: 5, heard: 3,
			since: map[SpaceID]uint64{SpaceOf("default"): 1, SpaceOf("peerd"): 1, SpaceOf("orders"): 5}})),
		"messages": relaySample(),
		"heard":    Envelope(SpaceID{}, encodeNumber(kindHeard, 5)),
		"chain":    encodeChain(Chain{Replica: 7, First: 1, Links: []ChainLink{{1, 2}, {3, 4}}}),
	}
}

// packed returns deltas as they stand in a frame.
func packed(deltas ...*delta.Delta) []byte {
	var p delta.Packer
	for _, d := range deltas {
		p.Add(d)
	}
	return p.Bytes()
}

func TestFramesAreEncodedAsTheyEverWere(t *testing.T) {
	for name, data := range samples() {
		golden.Text(t, name+".golden", strings.TrimSpace(hex.Dump(data))+"\n", "the format changed")
		message := bytes.TrimPrefix(data, Envelope(SpaceID{}, nil))[1:]
		if err := wire.Decode(message, func(r *wire.Reader) { r.Skip(1) }); err != nil {
			t.Errorf("%s: not as many values as its arrays say: %v", name, err)
		}
	}
}

func TestADigestHasAtMost32BytesOnAStream(t *testing.T) {
	const header = 4 + SpaceIDSize // of a frame on a stream
	if n := header + len(encodeDigest(Digest{Context: 1<<64 - 1, Root: 1<<64 - 1})); n > 32 {
		t.Errorf("%d bytes", n)
	}
}

func TestFieldsOfANewerVersionArePassedOver(t *testing.T) {
	want := samples()["have"]
	body := append([]byte(nil), want[1:]...)
	body[0]++ // one field more
	body = append(body, 0x93, 1, 0xa1, 'x', 0x81, 1, 2)
	v, _, err := decodeHave(body)
	if err != nil || fmt.Sprint(v) != fmt.Sprint(crdt.VersionVector{1: 3, 2: 1 << 40}) {
		t.Errorf("got %v, %v", v, err)
	}
}

// FuzzReceive feeds a frame to a mesh that has said hello and to one that has not. Whatever it is, the
// mesh must neither panic nor hang, and must go on working.
func FuzzReceive(f *testing.F) {
	for _, data := range samples() {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, greeted := range []bool{false, true} {
			c := newFake(7)
			c.write(3)
			m := NewMesh(c)
			m.Connect("x")
			if greeted {
				if err := m.Receive("x", samples()["hello"], c.apply); err != nil {
					t.Fatal(err)
				}
			}
			_ = m.Receive("x", bytes.Clone(data), c.apply)
			m.Tick(false)
			for range 100 {
				if data, err := m.Next("x"); err != nil || data == nil {
					break
				}
			}
		}
	})
}
