package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Bitmaps and HyperLogLogs are written in some worlds. To the oracle a chunk of a bitmap is a cell of its own, whose latest
// text counts; and a run of registers one which counts what was added to it, with what each of those who added saw there
// and wrote again.

const (
	chunkBytes = 1024
	lastChunk  = 16<<20/chunkBytes - 1
	markBytes  = 8 // of what is written into a chunk, at its beginning
	runLength  = 256
)

// drawBits returns a write of bits, or a removal. No two write the same.
func (m *mix) drawBits() mutation {
	rng := m.bits
	key := m.keys[rng.IntN(len(m.keys))]
	bitmap, counts := dotted.KeyAddress(key).Type(crdt.TypeBitmap), dotted.KeyAddress(key).Type(crdt.TypeHyperLogLog)
	switch rng.IntN(12) {
	case 0:
		return mutation{what: fmt.Sprintf("clear %q", bitmap), clears: bitmap,
			do: func(f crdt.Fields) error { return second(f.Bitmap(key).Clear()) }}
	case 1:
		return mutation{what: fmt.Sprintf("clear %q", counts), clears: counts,
			do: func(f crdt.Fields) error { return second(f.HyperLogLog(key).Clear()) }}
	case 2, 3, 4, 5, 6:
		n := m.counted % len(crdt.Registers{})
		m.counted++
		var r crdt.Registers
		r[n] = 1
		cell := counts.Name(string([]byte{byte(n / runLength)}))
		return mutation{what: fmt.Sprintf("count %d in %q", n, cell), cell: cell, text: fmt.Sprintf("%05d", n), write: true,
			clears: cell, do: func(f crdt.Fields) error { return second(f.HyperLogLog(key).Merge(&r)) }}
	}
	n := []int{0, 1, 2, 300}[rng.IntN(4)]
	text := fmt.Sprintf("%0*x", markBytes, rng.Uint32())
	cell := bitmap.Name(string(binary.BigEndian.AppendUint16(nil, uint16(lastChunk-n))))
	return mutation{what: fmt.Sprintf("write %s to %q", text, cell), cell: cell, text: text, write: true, clears: cell,
		do: func(f crdt.Fields) error {
			return f.Bitmap(key).Edit(n*chunkBytes, n*chunkBytes+markBytes, func(part []byte) { copy(part, text) })
		}}
}

// gather notes what the run of registers that an effect writes has counted: what it adds, and what its transaction sees
// there.
func (e *effect) gather(cells []*cell) {
	if last(e.cell) != crdt.TypeHyperLogLog {
		return
	}
	e.united = []string{e.text}
	if i := find(cells, e.cell); i < len(cells) && cells[i].at == e.cell {
		for _, o := range cells[i].effects {
			if e.of.liveTo(o) {
				e.united = append(e.united, o.united...)
			}
		}
	}
}

// last returns the last type in an address.
func last(a dotted.Address) crdt.Type {
	shape := a.Shape()
	if shape == "" {
		return 0
	}
	return crdt.Type(shape[len(shape)-1])
}

// readsBits says how a chunk or a run reads with the given live effects, of which the latest is the last.
func (c *cell) readsBits(live []*effect) fact {
	text := live[len(live)-1].text
	if c.typ == crdt.TypeHyperLogLog {
		var all []string
		for _, e := range live {
			all = append(all, e.united...)
		}
		slices.Sort(all)
		text = strings.Join(slices.Compact(all), " ")
	}
	return fact{at: c.at, texts: []string{text}, latest: text}
}

func readBitmap(b crdt.Bitmap, at dotted.Address, out *reading) error {
	all, ok := b.Get()
	if !ok || len(all) != b.Len() || len(all)%chunkBytes != markBytes {
		return fmt.Errorf("bitmap %q is listed: there %v, of %d and %d bytes", at, ok, len(all), b.Len())
	}
	for from := 0; from < len(all); from += chunkBytes {
		mark := all[from:min(from+markBytes, len(all))]
		if bytes.Count(mark, []byte{0}) == markBytes {
			continue // as nearly all of a long one: to read each of those alone took most of a world's time
		}
		if alone := b.Read(from, from+markBytes); !bytes.Equal(alone, mark) {
			return fmt.Errorf("bitmap %q: it has %q at %d, and alone %q", at, mark, from, alone)
		}
		name := binary.BigEndian.AppendUint16(nil, uint16(lastChunk-from/chunkBytes))
		out.add(fact{at.Name(string(name)), []string{string(mark)}, string(mark), 0})
	}
	return nil
}

func readCounts(h crdt.HyperLogLog, at dotted.Address, out *reading) error {
	all, ok := h.Get()
	if !ok {
		return fmt.Errorf("HyperLogLog %q is listed and not there", at)
	}
	for from := 0; from < len(all); from += runLength {
		var counted []string
		for i, n := range all[from : from+runLength] {
			if n > 0 {
				counted = append(counted, fmt.Sprintf("%05d", from+i))
			}
		}
		if text := strings.Join(counted, " "); text != "" {
			out.add(fact{at.Name(string([]byte{byte(from / runLength)})), []string{text}, text, 0})
		}
	}
	return nil
}

// drawBits draws whether bits are written, apart.
func (p *plan) drawBits(rng *rand.Rand) {
	if rng.IntN(4) == 0 && !p.forks {
		p.mix.bits = rng
	}
}
