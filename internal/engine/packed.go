package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/hot"
)

// What a packed item begins with.
const (
	packedValue = iota // a record that is no cell's
	packedCell         // one whose key is its address
	packedNamed        // one whose address follows
	packedNode         // one of an order
)

// Pack appends an item that the tree has, which is not vacant, beside its key: to memory alone, so that it has no check.
func (it *item) Pack(b []byte) []byte {
	switch {
	case it.node != nil:
		return append(append(b, packedNode), it.record()...)
	case it.address == "":
		return append(append(b, packedValue), it.value...)
	case string(it.address) == it.key[1:]:
		b = append(b, packedCell)
	default:
		b = append(binary.AppendUvarint(append(b, packedNamed), uint64(len(it.address))), it.address...)
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
	it := &item{key: string(key)}
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
		it.value = b
		return it
	case packedNode:
		if it.node, _ = decodeNode(key, b); it.node == nil { // it rotted in memory
			it.value = b
		}
		return it
	case packedCell:
		it.address = dotted.Address(it.key[1:])
	case packedNamed:
		it.address = dotted.Address(take())
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
