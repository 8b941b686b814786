package antientropy

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Limits of messages. Both sides must agree on the first three: they are part of the protocol.
const (
	// MaxMessage is the size in bytes of an encoded message. Decoders refuse more unread. The
	// largest message has a cell's entry: MaxAddress and MaxPayload together are 16.3 MiB. Each side
	// holds one message at a time, and few sides repair at once, so entries are not split.
	MaxMessage = dotted.MaxPayload + 4<<20
	// MaxRequest is the same of a request, the largest of which has a context.
	MaxRequest = 4 << 20
	// MaxNodes is how many nodes one request opens. Its response is then 132 KiB.
	MaxNodes = 1024
	// MaxLeaves is how many leaves one request asks for. What does not fit into the response is
	// asked for again.
	MaxLeaves = 1024

	// MaxListed is how many cells one request says that the puller has. A leaf with more of them is
	// named all the same: the source sends what it has beside these.
	MaxListed = 1 << 15

	// chunkSize is where a response with cells ends, in bytes. Its first entry is sent at any
	// size.
	chunkSize = 512 << 10

	// maxContext is how many replicas fit into a message with a context, each with its counter
	// and head: 27 bytes at most. Serve refuses to pin a larger context.
	maxContext = (MaxRequest - 1024) / 27
)

// Upper bounds, in bytes, of what encoding adds to addresses and payloads.
const (
	partOverhead  = 5 + 5     // lengths of an address and of its entries
	entryOverhead = 9 + 9 + 5 // dot, length of the payload
)

// Kind tells what a request asks for. A response has the kind of its request.
type Kind byte

// The high half of a kind is the version of its fields: a later format takes new kinds.
const (
	// KindPin asks for the context and root of the moment that the source will compare.
	KindPin Kind = 0x20
	// KindScan asks for cells in the order of places (dotted.Address.Place).
	KindScan Kind = 0x21
	// KindNodes asks for the short fingerprints below some nodes of the tree.
	KindNodes Kind = 0x22
	// KindLeaves asks for the cells of some leaves that the puller has not, or not so.
	KindLeaves Kind = 0x23
	// KindBases asks for the bases that the puller lacks, before it asks for the context.
	KindBases Kind = 0x24
)

// Request goes from the puller to the source. Fields that its kind does not name are zero.
type Request struct {
	Kind Kind

	// Level and Nodes name inner nodes of the tree, at most MaxNodes, ascending. (KindNodes)
	Level int
	Nodes []int

	// Leaves names leaves, at most MaxLeaves, ascending. (KindLeaves)
	Leaves []int
	// Have has for each of Leaves the short fingerprints of the puller's cells in it, in the order of places: all, or
	// the first ones. If After is in the leaf, those from the cell on that it names. (KindLeaves)
	Have [][]uint64
	// After is where to go on: in all cells, or in the first of Leaves. (KindScan, KindLeaves)
	After Cursor
	// Lacks is what the puller has not seen of the pinned context: of each replica of which that is something,
	// the first dot. Of entries that it has seen it wants to know that they are there, and not what
	// they hold. (KindLeaves)
	Lacks crdt.VersionVector

	// Held is the puller's context in its short form. (KindBases)
	Held crdt.VersionVector
	// Skip is how many tables it got for that already. (KindBases)
	Skip int
}

// Response goes from the source to the puller. Fields that its kind does not name are zero.
type Response struct {
	Kind Kind

	// The pinned moment. The context travels in its short form; who hands the response to a Puller puts the long
	// one in its place. (KindPin)
	Context crdt.VersionVector
	Heads   delta.Heads
	Root    Fingerprint
	Cells   int // of which progress is told

	// Children holds Fanout short fingerprints for each node asked for. (KindNodes)
	Children []uint64

	// Parts are cells in the order of leaves, then places, then dots. Entries whose dots the
	// puller has seen come without payload. (KindScan, KindLeaves)
	Parts []Part
	// Lacking has, for each of the leaves that the response has something of, which ones of Have the source has no such
	// cell for, up to where the response ended: their indexes, ascending. (KindLeaves)
	Lacking [][]int
	// More says that the response ended for its size: go on behind the last of Parts, or of Tables.
	More bool

	// Tables are bases in the order in which the source applied them. (KindBases)
	Tables []delta.Table
}

// EncodeRequest returns the canonical bytes of a request.
func EncodeRequest(q Request) []byte {
	return wire.Encode(func(w *wire.Writer) {
		switch q.Kind {
		case KindPin:
			begin(w, q.Kind, 0)
		case KindScan:
			begin(w, q.Kind, 3)
			q.After.write(w)
		case KindNodes:
			begin(w, q.Kind, 2)
			w.Uint(uint64(q.Level))
			writeIndexes(w, q.Nodes)
		case KindLeaves:
			begin(w, q.Kind, 6)
			writeIndexes(w, q.Leaves)
			q.After.write(w)
			dotted.WriteVector(w, q.Lacks)
			w.Array(len(q.Have))
			for _, have := range q.Have {
				w.Bytes(appendShorts(nil, have))
			}
		case KindBases:
			begin(w, q.Kind, 2)
			dotted.WriteVector(w, q.Held)
			w.Uint(uint64(q.Skip))
		default:
			panic(fmt.Sprintf("antientropy: request of kind %#x", byte(q.Kind)))
		}
	})
}

// DecodeRequest reads a request. Its lengths are bounded; whether it makes sense, Serve checks.
// Errors wrap wire.ErrMalformed.
func DecodeRequest(data []byte) (Request, error) {
	var q Request
	err := decode(data, MaxRequest, func(r *wire.Reader, kind Kind, fields int) (known int) {
		q.Kind = kind
		switch {
		case kind == KindPin:
			return 0
		case kind == KindScan && fields >= 3:
			q.After = readCursor(r)
			return 3
		case kind == KindNodes && fields >= 2:
			q.Level = readIndex(r, Levels-1)
			q.Nodes = readIndexes(r, MaxNodes)
			return 2
		case kind == KindLeaves && fields >= 6:
			q.Leaves = readIndexes(r, MaxLeaves)
			q.After = readCursor(r)
			q.Lacks = dotted.ReadVector(r)
			q.Have = readHave(r)
			return 6
		case kind == KindBases && fields >= 2:
			q.Held = dotted.ReadVector(r)
			q.Skip = readIndex(r, math.MaxInt32)
			return 2
		}
		return unknown(r, kind, fields)
	})
	if err != nil {
		return Request{}, fmt.Errorf("repair request: %w", err)
	}
	return q, nil
}

// EncodeResponse returns the canonical bytes of a response.
func EncodeResponse(p Response) []byte {
	return wire.Encode(func(w *wire.Writer) {
		switch p.Kind {
		case KindPin:
			begin(w, p.Kind, 3)
			delta.WriteContext(w, p.Context, p.Heads)
			WriteFingerprint(w, p.Root)
			w.Uint(uint64(p.Cells))
		case KindNodes:
			begin(w, p.Kind, 1)
			writeChildren(w, p.Children)
		case KindScan:
			begin(w, p.Kind, 2)
			writeParts(w, p.Parts)
			w.Bool(p.More)
		case KindLeaves:
			begin(w, p.Kind, 3)
			writeParts(w, p.Parts)
			w.Bool(p.More)
			w.Array(len(p.Lacking))
			for _, lacking := range p.Lacking {
				writeIndexes(w, lacking)
			}
		case KindBases:
			begin(w, p.Kind, 2)
			delta.WriteTables(w, p.Tables)
			w.Bool(p.More)
		default:
			panic(fmt.Sprintf("antientropy: response of kind %#x", byte(p.Kind)))
		}
	})
}

// DecodeResponse reads a response. Addresses, payloads and lengths keep to their limits; whether
// it answers the request, the Puller checks. Payloads point into data, which must not change.
// Errors wrap wire.ErrMalformed.
func DecodeResponse(data []byte) (Response, error) {
	var p Response
	err := decode(data, MaxMessage, func(r *wire.Reader, kind Kind, fields int) (known int) {
		p.Kind = kind
		switch {
		case kind == KindPin && fields >= 3:
			p.Context, p.Heads = delta.ReadContext(r)
			p.Root = ReadFingerprint(r)
			n := r.Uint()
			if p.Cells = int(n); p.Cells < 0 {
				r.Fail("%d cells", n)
			}
			return 3
		case kind == KindNodes && fields >= 1:
			p.Children = readChildren(r)
			return 1
		case kind == KindScan && fields >= 2:
			p.Parts = readParts(r)
			p.More = r.Bool()
			return 2
		case kind == KindLeaves && fields >= 3:
			p.Parts = readParts(r)
			p.More = r.Bool()
			p.Lacking = readLacking(r)
			return 3
		case kind == KindBases && fields >= 2:
			p.Tables = delta.ReadTables(r, MaxMessage)
			p.More = r.Bool()
			return 2
		}
		return unknown(r, kind, fields)
	})
	if err != nil {
		return Response{}, fmt.Errorf("repair response: %w", err)
	}
	return p, nil
}

// begin starts a message: an array of its kind and its fields.
func begin(w *wire.Writer, k Kind, fields int) {
	w.Array(1 + fields)
	w.Uint(uint64(k))
}

// maxFields bounds the fields of a message, those that later versions append included.
const maxFields = 64

// decode reads the kind of a message, lets fn read the fields that it knows, and skips the
// others.
func decode(data []byte, limit int, fn func(r *wire.Reader, kind Kind, fields int) (known int)) error {
	if len(data) > limit {
		return fmt.Errorf("%w: %d bytes (limit %d)", wire.ErrMalformed, len(data), limit)
	}
	return wire.Decode(data, func(r *wire.Reader) {
		fields := r.Array(maxFields) - 1
		kind := r.Uint()
		if kind > 0xff {
			r.Fail("message of kind %#x", kind)
			return
		}
		r.Skip(fields - fn(r, Kind(kind), fields))
	})
}

func unknown(r *wire.Reader, k Kind, fields int) int {
	r.Fail("message of kind %#x with %d fields", byte(k), fields)
	return fields
}

// What the fields of messages are made of. Slices are grown as their elements are read, never
// allocated at the length that a message claims.

// preallocated is how many elements a claimed length may allocate before one of them was read.
const preallocated = 1024

func (c Cursor) write(w *wire.Writer) {
	w.String(string(c.Address))
	dotted.WriteDot(w, c.Dot)
}

func readCursor(r *wire.Reader) Cursor {
	return Cursor{dotted.Address(r.String(crdt.MaxAddress)), dotted.ReadDot(r)}
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
	indexes := make([]int, 0, min(n, preallocated))
	for i := 0; i < n && r.Err() == nil; i++ {
		indexes = append(indexes, readIndex(r, max(Leaves, MaxListed)-1))
	}
	return indexes
}

func readLacking(r *wire.Reader) [][]int {
	n := r.Array(MaxLeaves)
	var all [][]int
	for i := 0; i < n && r.Err() == nil; i++ {
		all = append(all, readIndexes(r, MaxListed))
	}
	return all
}

// shortSize is the size in bytes of a short fingerprint.
const shortSize = 8

func appendShorts(b []byte, shorts []uint64) []byte {
	for _, s := range shorts {
		b = binary.BigEndian.AppendUint64(b, s)
	}
	return b
}

func readHave(r *wire.Reader) [][]uint64 {
	n := r.Array(MaxLeaves)
	var all [][]uint64
	for left := MaxListed; len(all) < n; {
		b := r.Bytes(left * shortSize)
		if len(b)%shortSize != 0 {
			r.Fail("short fingerprints of %d bytes", len(b))
		}
		if r.Err() != nil {
			return nil
		}
		have := make([]uint64, len(b)/shortSize)
		for i := range have {
			have[i] = binary.BigEndian.Uint64(b[i*shortSize:])
		}
		left -= len(have)
		all = append(all, have)
	}
	return all
}

// writeChildren writes, as one byte string, for each Fanout of them two bytes with a bit for each that is not zero, the
// lowest for the first, and then those: sparse trees are full of zeros.
func writeChildren(w *wire.Writer, children []uint64) {
	b := make([]byte, 0, len(children)*(shortSize+1))
	for siblings := range slices.Chunk(children, Fanout) {
		at := len(b)
		b = append(b, 0, 0)
		mask := uint16(0)
		for i, c := range siblings {
			if c != 0 {
				mask |= 1 << i
				b = binary.BigEndian.AppendUint64(b, c)
			}
		}
		binary.BigEndian.PutUint16(b[at:], mask)
	}
	w.Bytes(b)
}

// readChildren reads what writeChildren wrote of whole nodes.
func readChildren(r *wire.Reader) []uint64 {
	b := r.Bytes(MaxNodes * (2 + Fanout*shortSize))
	var children []uint64
	for len(b) >= 2 {
		mask := binary.BigEndian.Uint16(b)
		b = b[2:]
		if len(b) < shortSize*bits.OnesCount16(mask) {
			break
		}
		for i := range Fanout {
			c := uint64(0)
			if mask&(1<<i) != 0 {
				if c = binary.BigEndian.Uint64(b); c == 0 {
					r.Fail("a short fingerprint of zero, written out")
				}
				b = b[shortSize:]
			}
			children = append(children, c)
		}
		if len(b) == 0 {
			return children
		}
	}
	if len(b) > 0 {
		r.Fail("children that are cut")
	}
	return children
}

// writeParts writes one flat array: for each part its address, and an array of replica, counter
// and payload for each entry.
func writeParts(w *wire.Writer, parts []Part) {
	w.Array(2 * len(parts))
	for _, p := range parts {
		w.String(string(p.Address))
		p.Entries.Write(w)
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
		e := dotted.Entry{Dot: dotted.ReadDot(r)}
		if payload := r.Bytes(dotted.MaxPayload); len(payload) > 0 {
			e.Payload = payload
		}
		cell = append(cell, e)
	}
	return cell
}
