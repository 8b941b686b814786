package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
)

// What a packed item begins with.
const (
	packedValue = iota // a record that is no cell's
	packedCell         // one whose key is its address
	packedNamed        // one whose address follows
	packedNode         // one of an order

	packedShare = 1 << 4 // of a cell: what it adds to the tree follows
	packedLone  = 1 << 5 // of a string's own cell: its key is known to be lone
)

// Pack appends an item that the tree has, which is not vacant, beside its key: to memory alone, so that it has no check.
func (it *item) Pack(b []byte) []byte {
	a := it.address()
	switch {
	case a != "":
	case it.node != nil:
		return append(append(b, packedNode), it.record()...)
	default:
		return append(append(b, packedValue), it.value...)
	}
	kind, named := byte(packedCell), it.body != nil
	if named {
		kind = packedNamed
	}
	if it.lone {
		kind |= packedLone
	}
	adds := it.share()
	shared := adds.located && adds.whole
	if shared {
		kind |= packedShare
	}
	if b = append(b, kind); shared {
		b = binary.LittleEndian.AppendUint16(b, adds.leaf)
		b = binary.LittleEndian.AppendUint64(b, adds.sum.Hi)
		b = binary.LittleEndian.AppendUint64(b, adds.sum.Lo)
	}
	if named {
		b = append(binary.AppendUvarint(b, uint64(len(a))), a...)
	}
	for _, e := range it.cell {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Dot.Replica))
		b = binary.AppendUvarint(b, e.Dot.Counter)
		b = append(binary.AppendUvarint(b, uint64(len(e.Payload))), e.Payload...)
	}
	return b
}

// unpackItem returns the item that was packed.
func unpackItem(key, packed []byte) hot.Record {
	b := bytes.Clone(packed) // payloads are parts of it
	kind := b[0]
	b = b[1:]
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		b = b[size:]
		return n
	}
	take := func() (part []byte) {
		n := number()
		part, b = b[:n:n], b[n:]
		return part
	}
	switch kind {
	case packedValue:
		return recordItem(string(key), body{value: b})
	case packedNode:
		n, err := decodeNode(key, b)
		if err != nil { // it rotted in memory
			return recordItem(string(key), body{value: b})
		}
		return recordItem(string(key), body{node: n})
	}
	it := &item{key: string(key), lone: kind&packedLone != 0}
	if kind&packedShare != 0 {
		sum := antientropy.Fingerprint{Hi: binary.LittleEndian.Uint64(b[2:]), Lo: binary.LittleEndian.Uint64(b[10:])}
		it.adds(moved{}, share{leaf: binary.LittleEndian.Uint16(b), located: true, whole: true, sum: sum})
		b = b[18:]
	}
	if kind&^(packedShare|packedLone) == packedNamed {
		it.body = &body{named: dotted.Address(take())}
	}
	for it.cell = it.single[:0]; len(b) > 0; {
		e := dotted.Entry{}
		e.Dot.Replica = dotted.ReplicaID(binary.LittleEndian.Uint64(b))
		b = b[8:]
		e.Dot.Counter = number()
		e.Payload = take()
		it.cell = append(it.cell, e)
	}
	return it
}
