package engine

import (
	"bytes"

	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
)

// A value of up to 16 MiB is in memory once, beside what its writer has: in the encoded delta. The
// cell points there until the tree has it, and the log's record is written in parts, of which that
// is one. A checkpoint writes it in pieces, each made when it is written (see treeWriter.blob).

// largeDelta is from how many bytes on a delta is not copied to be written: it takes long enough
// that nobody's turn should append it at once, and is more than the log keeps memory for.
const largeDelta = 4 << 20

func isLarge(d *delta.Delta) bool { return len(d.Encode()) > largeDelta }

// fold has the group's cell keep a large payload where the encoded delta has it.
func (g *group) fold(d *delta.Delta) {
	for i := range d.Ops {
		if !d.IsMost(i) {
			continue
		}
		d.Fold(i)
		if c := g.cells[d.Ops[i].Address]; c != nil {
			if at, ok := c.now.Find(d.Dot(i)); ok {
				c.now[at].Payload = d.Ops[i].Payload // nobody else has the cell yet
			}
		}
	}
}

// lasting returns the payload of an op of another replica's delta, which is a part of what came
// with it: a copy, unless it is most of that.
func lasting(d *delta.Delta, i int) []byte {
	payload := d.Ops[i].Payload
	if !d.IsMost(i) {
		payload = bytes.Clone(payload)
	}
	return payload
}

// partsOfLogged returns the parts of a record, of which each large delta is one.
func partsOfLogged(rec logged) (parts [][]byte) {
	var large []*delta.Delta
	var before []int // bytes of the rest, for each of them
	rest := writeLogged(nil, rec, func(w *wire.Writer, d *delta.Delta) {
		if !isLarge(d) {
			w.Bytes(d.Encode())
			return
		}
		w.BytesHeader(len(d.Encode()))
		large, before = append(large, d), append(before, w.Size())
	})
	from := 0
	for i, d := range large {
		parts = append(parts, rest[from:before[i]], d.Encode())
		from = before[i]
	}
	return append(parts, rest[from:])
}
