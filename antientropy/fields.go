package antientropy

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// What the fields of messages are made of. Slices are grown as their elements are read, never
// allocated at the length that a message claims.

// preallocated is how many elements a claimed length may allocate before one of them was read.
const preallocated = 1024

func (c Cursor) write(w *wire.Writer) {
	w.String(string(c.Address))
	w.Uint(uint64(c.Dot.Replica))
	w.Uint(c.Dot.Counter)
}

func readCursor(r *wire.Reader) Cursor {
	c := Cursor{Address: dotted.Address(r.String(crdt.MaxAddress))}
	c.Dot = crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
	return c
}

func writeIndexes(w *wire.Writer, indexes []int) {
	w.Array(len(indexes))
	for _, i := range indexes {
		w.Uint(uint64(i))
	}
}

func readIndex(r *wire.Reader, most int) int {
	i := r.Uint()
	if i > uint64(most) {
		r.Fail("%d, want at most %d", i, most)
		return 0
	}
	return int(i)
}

func readIndexes(r *wire.Reader, most int) []int {
	n := r.Array(most)
	if n == 0 {
		return nil
	}
	indexes := make([]int, 0, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		indexes = append(indexes, readIndex(r, Leaves-1))
	}
	return indexes
}

func readFingerprints(r *wire.Reader) []Fingerprint {
	n := r.Array(MaxNodes * Fanout)
	if n == 0 {
		return nil
	}
	fs := make([]Fingerprint, 0, min(n, preallocated))
	for i := 0; i < n && r.Err() == nil; i++ {
		fs = append(fs, ReadFingerprint(r))
	}
	return fs
}

// writeParts writes one flat array: for each part its address, and an array of replica, counter
// and payload for each entry.
func readTables(r *wire.Reader) (tables []delta.Table) {
	n := r.Array(MaxMessage)
	for i := 0; i < n && r.Err() == nil; i++ {
		tables = append(tables, delta.ReadTable(r))
	}
	return tables
}

func writeParts(w *wire.Writer, parts []Part) {
	w.Array(2 * len(parts))
	for _, p := range parts {
		w.String(string(p.Address))
		w.Array(3 * len(p.Entries))
		for _, e := range p.Entries {
			w.Uint(uint64(e.Dot.Replica))
			w.Uint(e.Dot.Counter)
			w.Bytes(e.Payload)
		}
	}
}

func readParts(r *wire.Reader) []Part {
	n := r.Array(MaxMessage)
	if n%2 != 0 {
		r.Fail("cells of odd length")
	}
	if n == 0 {
		return nil
	}
	parts := make([]Part, 0, min(n/2, preallocated))
	for i := 0; i < n/2 && r.Err() == nil; i++ {
		p := Part{Address: dotted.Address(r.String(crdt.MaxAddress))}
		p.Entries = readEntries(r)
		if r.Err() != nil {
			break
		}
		if err := p.Address.CheckCell(); err != nil {
			r.Fail("%v", err)
		}
		parts = append(parts, p)
	}
	return parts
}

func readEntries(r *wire.Reader) dotted.Cell {
	n := r.Array(MaxMessage)
	if n == 0 || n%3 != 0 {
		r.Fail("entries of %d values", n)
		return nil
	}
	cell := make(dotted.Cell, 0, min(n/3, preallocated))
	for i := 0; i < n/3 && r.Err() == nil; i++ {
		e := dotted.Entry{Dot: crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}}
		if payload := r.Bytes(dotted.MaxPayload); len(payload) > 0 {
			e.Payload = payload
		}
		cell = append(cell, e)
	}
	return cell
}
