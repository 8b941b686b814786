package replica

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// formatVersion is the version of all stored records.
const formatVersion = 1

// maxInline is how large a payload may be, in bytes, to stand in its cell's record. Larger ones have a
// record of their own: payloads never change, so rewriting the cell need not rewrite them, and the
// cell's record stays small however many replicas wrote at once.
const maxInline = 16 << 10

// maxEntries bounds the entries of one cell: one for each replica that wrote concurrently.
const maxEntries = 1 << 16

// unseal checks a record and its version.
func unseal(key, record []byte) ([]byte, error) {
	version, body, err := wire.Unseal(key, record)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w: %w", shown(key), store.ErrCorrupt, err)
	}
	if version != formatVersion {
		return nil, fmt.Errorf("record %q has format %d, this program knows %d: use a newer one",
			shown(key), version, formatVersion)
	}
	return body, nil
}

// maxListed bounds the entries of a list in a single record. The record's size bounds it closer.
const maxListed = 1 << 20

// load reads one of the single records, and reports whether it is there.
func (r *Replica) load(key []byte, read func(*wire.Reader)) (found bool, err error) {
	snap := r.st.Snapshot()
	defer snap.Close()
	record, found, err := snap.Get(key)
	if err != nil || !found {
		return false, err
	}
	body, err := unseal(key, record)
	if err != nil {
		return false, err
	}
	if err := wire.Decode(body, read); err != nil {
		return false, damaged(key, err)
	}
	return true, nil
}

// shown returns the beginning of a key, for an error.
func shown(key []byte) []byte { return key[:min(len(key), 40)] }

func damaged(key []byte, err error) error {
	return fmt.Errorf("record %q: %w: %w", shown(key), store.ErrCorrupt, err)
}

// encodeCell returns the record of a cell. Large payloads are left out: see blobs.
func encodeCell(key []byte, a crdt.Address, c crdt.Cell) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		if isShortened(key, a) {
			w.String(string(a))
		} else {
			w.Bytes(nil)
		}
		w.Array(4 * len(c))
		for _, e := range c {
			w.Uint(uint64(e.Dot.Replica))
			w.Uint(e.Dot.Counter)
			if len(e.Payload) <= maxInline {
				w.Uint(0)
				w.Bytes(e.Payload)
				continue
			}
			sum := sha256.Sum256(e.Payload)
			w.Uint(uint64(len(e.Payload)))
			w.Bytes(sum[:])
		}
	}))
}

// decodeCell reads a cell's record and the large payloads that it names.
func decodeCell(s store.Snapshot, key, record []byte) (crdt.Address, crdt.Cell, error) {
	body, err := unseal(key, record)
	if err != nil {
		return "", nil, err
	}
	address := crdt.Address(key[1:])
	var cell crdt.Cell
	var large []int
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(2)
		if a := r.Bytes(crdt.MaxAddress); len(a) > 0 {
			address = crdt.Address(a)
		}
		n := r.Array(4*maxEntries) / 4
		cell = make(crdt.Cell, 0, n)
		for i := 0; i < n && r.Err() == nil; i++ {
			d := crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
			if r.Uint() > 0 {
				large = append(large, i)
			}
			cell = append(cell, crdt.Entry{Dot: d, Payload: r.Bytes(maxInline)})
		}
	})
	if err != nil {
		return "", nil, damaged(key, err)
	}
	for _, i := range large {
		if cell[i].Payload, err = readBlob(s, cell[i].Dot, cell[i].Payload); err != nil {
			return "", nil, err
		}
	}
	return address, cell, nil
}

func readBlob(s store.Snapshot, d crdt.Dot, want []byte) ([]byte, error) {
	key := blobKey(d)
	record, ok, err := s.Get(key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damaged(key, fmt.Errorf("a payload is missing"))
	}
	body, err := unseal(key, record)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(body); string(sum[:]) != string(want) {
		return nil, damaged(key, wire.ErrChecksum)
	}
	return body, nil
}

// encodeSummary returns the record of what is visible under a key; nil if that is nothing.
func encodeSummary(key []byte, name string, s crdt.Summary) []byte {
	shapes := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Visible)),
		func(shape string) bool { return s.Visible[shape] <= 0 })
	if len(shapes) == 0 && s.Tallies <= 0 {
		return nil
	}
	return wire.Seal(formatVersion, key, wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		if isShortened(key, crdt.KeyAddress(name)) {
			w.String(name)
		} else {
			w.Bytes(nil)
		}
		w.Uint(uint64(s.Tallies))
		w.Array(2 * len(shapes))
		for _, shape := range shapes {
			w.String(shape)
			w.Uint(uint64(s.Visible[shape]))
		}
	}))
}

func decodeSummary(key, record []byte) (name string, s crdt.Summary, err error) {
	body, err := unseal(key, record)
	if err != nil {
		return "", s, err
	}
	s.Visible = map[string]int{}
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(3)
		name = r.String(crdt.MaxName)
		s.Tallies = int(r.Uint())
		n := r.Array(1 << 16)
		for i := 0; i < n/2 && r.Err() == nil; i++ {
			shape := r.String(crdt.MaxAddress)
			s.Visible[shape] = int(r.Uint())
		}
	})
	if err != nil {
		return "", s, damaged(key, err)
	}
	if name == "" {
		name = crdt.Address(key[1:]).Key()
	}
	return name, s, nil
}
