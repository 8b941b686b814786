package engine

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// change is what happens to one cell when staged changes are taken over. Doing it twice is doing it once.
type change struct {
	address dotted.Address
	adds    []dotted.Entry
	removes []crdt.Dot
}

func (c change) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.String(string(c.address))
		dotted.WriteDots(w, c.removes)
		w.Array(3 * len(c.adds))
		for _, e := range c.adds {
			w.Uint(uint64(e.Dot.Replica))
			w.Uint(e.Dot.Counter)
			w.Bytes(e.Payload)
		}
	})
}

// decodeChange reads a change. key is that of its last piece.
func decodeChange(key, body []byte) (c change, err error) {
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(3)
		c.address = dotted.Address(r.String(crdt.MaxAddress))
		c.removes = dotted.ReadDots(r)
		n := r.Array(3*maxEntries) / 3
		for i := 0; i < n && r.Err() == nil; i++ {
			d := crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
			c.adds = append(c.adds, dotted.Entry{Dot: d, Payload: r.Bytes(dotted.MaxPayload)})
		}
	})
	if err != nil {
		return c, damaged(key, err)
	}
	return c, nil
}

// sealPiece returns the record of a piece of a staged change. left are those that follow.
func sealPiece(key, piece []byte, left int) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		w.Uint(uint64(left))
		w.Bytes(piece)
	}))
}

func unsealPiece(key, record []byte) (piece []byte, left uint64, err error) {
	body, err := unseal(key, record)
	if err != nil {
		return nil, 0, err
	}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(2)
		left = r.Uint()
		piece = r.Bytes(maxPiece)
	})
	if err != nil {
		return nil, 0, damaged(key, err)
	}
	return piece, left, nil
}
