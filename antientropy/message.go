package antientropy

import (
	"fmt"
	"math"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Kind tells what a request asks for. A response has the kind of its request.
type Kind byte

// The high half of a kind is the version of its fields: a later format takes new kinds.
const (
	// KindPin asks for the context and root of the moment that the source will compare.
	KindPin Kind = 0x20
	// KindScan asks for cells in the order of places (dotted.Address.Place).
	KindScan Kind = 0x21
	// KindNodes asks for the fingerprints below some nodes of the tree.
	KindNodes Kind = 0x22
	// KindLeaves asks for the entries of some leaves.
	KindLeaves Kind = 0x23
	// KindBases asks for the bases that the puller lacks, before it asks for the context.
	KindBases Kind = 0x24
)

// Request goes from the puller to the source. Fields that its kind does not name are zero.
type Request struct {
	Kind Kind

	// Want is the ContextDigest of an earlier pin that the puller would like to go on with, if
	// the source still has it; zero for any. (KindPin)
	Want Fingerprint

	// Level and Nodes name inner nodes of the tree, at most MaxNodes, ascending. (KindNodes)
	Level int
	Nodes []int

	// Leaves names leaves, at most MaxLeaves, ascending. (KindLeaves)
	Leaves []int
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

	// Children holds Fanout fingerprints for each node asked for. (KindNodes)
	Children []Fingerprint

	// Parts are cells in the order of leaves, then places, then dots. Entries whose dots the
	// puller has seen come without payload. (KindScan, KindLeaves)
	Parts []Part
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
			begin(w, q.Kind, 1)
			WriteFingerprint(w, q.Want)
		case KindScan:
			begin(w, q.Kind, 3)
			q.After.write(w)
		case KindNodes:
			begin(w, q.Kind, 2)
			w.Uint(uint64(q.Level))
			writeIndexes(w, q.Nodes)
		case KindLeaves:
			begin(w, q.Kind, 5)
			writeIndexes(w, q.Leaves)
			q.After.write(w)
			dotted.WriteVector(w, q.Lacks)
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
		case kind == KindPin && fields >= 1:
			q.Want = ReadFingerprint(r)
			return 1
		case kind == KindScan && fields >= 3:
			q.After = readCursor(r)
			return 3
		case kind == KindNodes && fields >= 2:
			q.Level = readIndex(r, Levels-1)
			q.Nodes = readIndexes(r, MaxNodes)
			return 2
		case kind == KindLeaves && fields >= 5:
			q.Leaves = readIndexes(r, MaxLeaves)
			q.After = readCursor(r)
			q.Lacks = dotted.ReadVector(r)
			return 5
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
			begin(w, p.Kind, 2)
			delta.WriteContext(w, p.Context, p.Heads)
			WriteFingerprint(w, p.Root)
		case KindNodes:
			begin(w, p.Kind, 1)
			w.Array(len(p.Children))
			for _, f := range p.Children {
				WriteFingerprint(w, f)
			}
		case KindScan, KindLeaves:
			begin(w, p.Kind, 2)
			writeParts(w, p.Parts)
			w.Bool(p.More)
		case KindBases:
			begin(w, p.Kind, 2)
			w.Array(len(p.Tables))
			for _, t := range p.Tables {
				t.Write(w)
			}
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
		case kind == KindPin && fields >= 2:
			p.Context, p.Heads = delta.ReadContext(r)
			p.Root = ReadFingerprint(r)
			return 2
		case kind == KindNodes && fields >= 1:
			p.Children = readFingerprints(r)
			return 1
		case (kind == KindScan || kind == KindLeaves) && fields >= 2:
			p.Parts = readParts(r)
			p.More = r.Bool()
			return 2
		case kind == KindBases && fields >= 2:
			p.Tables = readTables(r)
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
