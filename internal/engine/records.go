package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// formatVersion is the version of all stored records. A store has records of one version only.
const formatVersion = 2

// olderStore says what to do about a store with records of a lower version.
const olderStore = "start with an empty directory and let it fill from its peers, or run the older program to copy " +
	"its data"

// maxInline is how large a payload may be, in bytes, to stand in its cell's record. Larger ones have a
// record of their own: payloads never change, so rewriting the cell need not rewrite them, and the
// cell's record stays small however many replicas wrote at once.
const maxInline = 16 << 10

// maxPiece is how many bytes of a large payload, or of a staged change, one record holds: well below what a store
// takes, so that records of pieces fit into batches with others.
const maxPiece = 1 << 20

// piecesOf returns how many records hold so many bytes.
func piecesOf(size int) int { return (size + maxPiece - 1) / maxPiece }

// A cell has an entry for each write that no other has replaced: there is no limit to what can be concurrent. One
// record holds about maxPart bytes of them, and maxEntries at most; what is beyond has records of its own.
const (
	maxPart    = 1 << 20
	entryBytes = 32 + 32 // at most, with what stands for a large payload
	maxEntries = maxPart/entryBytes + 1
)

// seal returns the record at a key, of what write writes.
func seal(key []byte, write func(*wire.Writer)) []byte {
	return wire.EncodeSealed(formatVersion, key, write)
}

// unseal checks a record and its version. Another version is no damage: see wire.ErrFormat.
func unseal(key, record []byte) ([]byte, error) {
	version, body, err := wire.Unseal(key, record)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w: %w", shown(key), store.ErrCorrupt, err)
	}
	if err := wire.CheckFormat(uint64(version), formatVersion, olderStore); err != nil {
		return nil, fmt.Errorf("record %q: %w", shown(key), err)
	}
	return body, nil
}

func encodeRecord(key []byte, write func(*wire.Writer)) []byte {
	return wire.Seal(formatVersion, key, wire.Encode(write))
}

// decodeRecord checks a record and reads its body.
func decodeRecord(key, record []byte, read func(*wire.Reader)) error {
	body, err := unseal(key, record)
	if err != nil {
		return err
	}
	return decodeBody(key, body, read)
}

// decodeBody reads what a record, or several, had at key.
func decodeBody(key, body []byte, read func(*wire.Reader)) error {
	if err := wire.Decode(body, read); err != nil {
		return damaged(key, err)
	}
	return nil
}

// shown returns the beginning of a key, for an error.
func shown(key []byte) []byte { return key[:min(len(key), 40)] }

func damaged(key []byte, err error) error {
	return fmt.Errorf("record %q: %w: %w", shown(key), store.ErrCorrupt, err)
}

// encodeCell returns the records of a cell: its own, and those of its parts if it has more entries than fit
// there. Large payloads are left out: see blobs. Its own record names the generation of the parts, so that new ones can
// be written before it, and old ones removed after it.
func encodeCell(key []byte, a dotted.Address, c dotted.Cell, generation uint64) (record []byte, parts [][]byte) {
	var more []dotted.Cell
	if isSplit(c) {
		split := splitCell(c)
		c, more = split[0], split[1:]
	}
	record = seal(key, func(w *wire.Writer) {
		w.Array(2 + 2*min(len(more), 1))
		if isShortened(key, a) {
			w.String(string(a))
		} else {
			w.Bytes(nil)
		}
		writeEntries(w, c)
		if len(more) > 0 {
			w.Uint(uint64(len(more)))
			w.Uint(generation)
		}
	})
	for i, c := range more {
		parts = append(parts, seal(partKey(key, generation, i), func(w *wire.Writer) {
			writeEntries(w, c)
		}))
	}
	return record, parts
}

// splitCell returns the entries of a cell's record and of its parts, about maxPart bytes of them in each.
func splitCell(c dotted.Cell) (split []dotted.Cell) {
	size, from := 0, 0
	for i, e := range c {
		if size > maxPart {
			split = append(split, c[from:i:i])
			size, from = 0, i
		}
		size += entryBytes + min(len(e.Payload), maxInline)
	}
	return append(split, c[from:])
}

func writeEntries(w *wire.Writer, c dotted.Cell) {
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
}

// blob is an entry whose payload has records of its own.
type blob struct {
	at   int // in its cell
	size int
}

// readEntries appends what writeEntries wrote to a cell. Of large payloads it has the sums, and where they belong.
func readEntries(r *wire.Reader, c dotted.Cell, large []blob) (dotted.Cell, []blob) {
	n := r.Array(4*maxEntries) / 4
	c = slices.Grow(c, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		d := crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
		if size := r.Uint(); size > dotted.MaxPayload {
			r.Fail("a payload of %d bytes (limit %d)", size, dotted.MaxPayload)
		} else if size > 0 {
			large = append(large, blob{len(c), int(size)})
		}
		c = append(c, dotted.Entry{Dot: d, Payload: r.Bytes(maxInline)})
	}
	return c, large
}

// decodeCell reads a cell's record, and the parts and large payloads that it names.
func decodeCell(s store.Snapshot, key, record []byte) (dotted.Address, dotted.Cell, error) {
	return readCell(s, key, record, readBlob)
}

// readCell is decodeCell, with what payload reads of a large one of a dot, a size and a sum.
func readCell(s store.Snapshot, key, record []byte,
	payload func(s store.Snapshot, d crdt.Dot, size int, sum []byte) ([]byte, error),
) (dotted.Address, dotted.Cell, error) {
	address, cell, large, more, err := decodeFirst(key, record)
	if err != nil {
		return "", nil, err
	}
	for i := range more.count {
		if cell, large, err = readPart(s, partKey(key, more.generation, i), cell, large); err != nil {
			return "", nil, err
		}
	}
	for _, b := range large {
		e := &cell[b.at]
		if e.Payload, err = payload(s, e.Dot, b.size, e.Payload); err != nil {
			return "", nil, err
		}
	}
	return address, cell, nil
}

// parts are the records of a cell beside its own.
type parts struct {
	count      int
	generation uint64
}

// decodeFirst reads a cell's own record.
func decodeFirst(key, record []byte) (a dotted.Address, cell dotted.Cell, large []blob, more parts, err error) {
	a = dotted.Address(key[1:])
	err = decodeRecord(key, record, func(r *wire.Reader) {
		fields := r.Array(4)
		if name := r.Bytes(crdt.MaxAddress); len(name) > 0 {
			a = dotted.Address(name)
		}
		cell, large = readEntries(r, nil, nil)
		if fields == 4 {
			more.count, more.generation = int(min(r.Uint(), math.MaxInt32)), r.Uint()
		}
	})
	return a, cell, large, more, err
}

// partsOf returns the parts of the cell that is stored at key; none if there is no such.
func partsOf(s store.Snapshot, key []byte) (more parts, err error) {
	record, ok, err := s.Get(key)
	if err == nil && ok {
		_, _, _, more, err = decodeFirst(key, record)
	}
	return more, err
}

func readPart(s store.Snapshot, key []byte, c dotted.Cell, large []blob) (dotted.Cell, []blob, error) {
	record, ok, err := s.Get(key)
	if err == nil && !ok {
		err = damaged(key, fmt.Errorf("a part of a cell is missing"))
	}
	if err != nil {
		return nil, nil, err
	}
	err = decodeRecord(key, record, func(r *wire.Reader) { c, large = readEntries(r, c, large) })
	return c, large, err
}

// readBlob puts the payload of a dot together, and compares it with its sum.
func readBlob(s store.Snapshot, d crdt.Dot, size int, want []byte) (payload []byte, err error) {
	for i := range piecesOf(size) {
		body, err := readPiece(s, d, i)
		if err != nil {
			return nil, err
		}
		if size <= maxPiece {
			payload = body
			break
		}
		payload = append(slices.Grow(payload, size-len(payload)), body...)
	}
	if sum := sha256.Sum256(payload); string(sum[:]) != string(want) {
		return nil, damaged(blobKey(d, 0), wire.ErrChecksum)
	}
	return payload, nil
}

// readPiece reads the i-th piece of the payload of a dot.
func readPiece(s store.Snapshot, d crdt.Dot, i int) ([]byte, error) {
	key := blobKey(d, i)
	record, ok, err := s.Get(key)
	if err == nil && !ok {
		err = damaged(key, errMissing)
	}
	if err != nil {
		return nil, err
	}
	return unseal(key, record)
}

// readFirst reads the first piece alone, whose first byte says what the payload is.
func readFirst(s store.Snapshot, d crdt.Dot, _ int, _ []byte) ([]byte, error) {
	return readPiece(s, d, 0)
}

// errMissing says that a record is not there that another one names.
var errMissing = errors.New("the record is missing")

// encodeSummary returns the record of what is visible under a key, as of a clear; nil if the key is lone, or that is
// nothing.
func encodeSummary(key []byte, name string, s dotted.Summary, asOf uint64) []byte {
	shapes := 0
	for _, c := range s.Visible {
		shapes += gain(false, c.Count > 0)
	}
	if shapes == 0 && s.Tallies <= 0 || isLone(s) {
		return nil
	}
	return seal(key, func(w *wire.Writer) {
		w.Array(3 + min(s.Tallies, 1) + min(int(asOf), 1))
		if isShortened(key, dotted.KeyAddress(name)) {
			w.String(name)
		} else {
			w.Bytes(nil)
		}
		if w.Uint(uint64(s.Tallies)); s.Tallies > 0 {
			w.Uint(uint64(s.Sole))
		}
		w.Array(2 * shapes)
		for _, c := range s.Visible {
			if c.Count > 0 {
				w.String(c.Shape)
				w.Uint(uint64(c.Count))
			}
		}
		if asOf > 0 {
			w.Uint(asOf)
		}
	})
}

func decodeSummary(key, record []byte) (name string, s dotted.Summary, asOf uint64, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		fields := r.Array(5)
		name = r.String(crdt.MaxName)
		if s.Tallies = int(r.Uint()); s.Tallies > 0 {
			s.Sole = crdt.ReplicaID(r.Uint())
			fields--
		}
		n := r.Array(2 * dotted.MaxShapes)
		for i := 0; i < n/2 && r.Err() == nil; i++ {
			shape := r.String(crdt.MaxAddress)
			s.Visible.Add(shape, int(r.Uint()))
		}
		if fields > 3 {
			asOf = r.Uint()
		}
	})
	if name == "" {
		name = dotted.Address(key[1:]).Key()
	}
	return name, s, asOf, err
}

// The store's key space. Every record is sealed with the version of its format and a checksum.
const (
	prefixCell    = 'c' // c <place> : the live entries of a cell
	prefixPart    = 'p' // p <place> <generation> <number> : more entries of a cell that has very many
	prefixSummary = 'k' // k <place of the key> : what is visible under a key that is not lone
	prefixCount   = 'n' // n <place of a string> : what was counted on it, unless that is alone
	prefixOrder   = 'o' // o <place of a container> : the shape of the tree that keeps the order of its cells
	prefixNode    = 'q' // q <place of a container> <generation> <number> : a node of that
	prefixUndone  = 'u' // u <number> : what a checkpoint has written over
	prefixLeaf    = 't' // t <leaf hash> <place> : which cells a leaf of the tree holds
	prefixExpiry  = 'd' // d <time> <place> : which cells say that what is under their name ends then
	prefixBlob    = 'b' // b <dot> <n> : a piece of a payload too large for its cell's record
	prefixStage   = 's' // s <session> <number> : a change that a repair staged
	prefixClear   = 'y' // y <number> : a clear that is not swept yet
	prefixSeen    = 'z' // z <number> : what clears saw
	prefixPage    = 'f' // f <number> : the fingerprints of a page of the tree
	prefixMoved   = 'g' // g <number> : what a batch of a checkpoint changed of them
	prefixBase    = 'e' // e <number> : a table of bases, in the order in which they were applied
)

// The single records.
var (
	keyCheckpoint = []byte("mcheckpoint") // context, heads, clock and the log's index as of a record of the log
	keyRebuild    = []byte("mrebuild")    // this replica found itself damaged
	keyFilling    = []byte("mfilling")    // what is there is nobody's: see filling
	keyDoubt      = []byte("mdoubt")      // all cells are to be read when the store is opened
	keyUndone     = []byte("mundone")     // up to which number what checkpoints wrote over means nothing any more
	keySums       = []byte("msums")       // sums over all cells, as of the last checkpoint
)

// place returns where the store keeps what is at address a. The place of a prefix is a prefix.
func place(kind byte, a dotted.Address) []byte {
	return appendPlace(make([]byte, 0, len(a)+1), kind, a)
}

// appendPlace appends that to memory that may be used again.
func appendPlace(out []byte, kind byte, a dotted.Address) []byte {
	return append(append(out, kind), a.Place()...)
}

// isShortened reports whether key is not the address itself, so that the record must name it.
func isShortened(key []byte, a dotted.Address) bool { return string(key[1:]) != string(a) }

// after returns the first key that does not begin with prefix; nil if there is none.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func numbered(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func numberOf(key []byte) uint64 {
	if len(key) != 9 {
		return 0
	}
	return binary.BigEndian.Uint64(key[1:])
}

// blobKey returns where the n-th piece of a dot's payload is.
func blobKey(d crdt.Dot, n int) []byte {
	return binary.BigEndian.AppendUint32(blobPrefix(d), uint32(n))
}

// blobPrefix returns what the keys of all pieces of a large payload begin with.
func blobPrefix(d crdt.Dot) []byte {
	return binary.BigEndian.AppendUint64(numbered(prefixBlob, uint64(d.Replica)), d.Counter)
}

// partKey returns where the n-th part of the cell stored at key is. No place holds the bytes in the middle.
func partKey(key []byte, generation uint64, n int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(partPrefix(key), generation), uint32(n))
}

// partPrefix returns what the keys of all parts of the cell stored at key begin with.
func partPrefix(key []byte) []byte { return append(append([]byte{prefixPart}, key[1:]...), 0, 4) }

// leafKey returns the index entry of the cell at an address.
func leafKey(leaf uint64, a dotted.Address) []byte {
	at := a.Place()
	key := binary.BigEndian.AppendUint64(append(make([]byte, 0, 1+8+len(at)), prefixLeaf), leaf)
	return append(key, at...)
}
