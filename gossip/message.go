package gossip

import (
	"errors"
	"fmt"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/wire"
)

// Limits of frames, in bytes.
const (
	// MaxFrame is the largest frame. A longer one is refused unread.
	MaxFrame = 4<<20 + 1024
	// frameSize is about how much goes into one frame of deltas. A larger delta goes alone, or in parts.
	frameSize = 64 << 10
	// maxFrameDeltas bounds the deltas of one frame, and maxFrameCost what they cost once they are unpacked: what is
	// alike in many is in the frame once. Of a larger cost than frameCost a delta goes alone. It is less than
	// maxFrameCost then: a delta that goes whole costs at most ten times its bytes.
	maxFrameDeltas = 4096
	maxFrameCost   = 4 << 20
	frameCost      = 256 << 10
	// window is how many bytes of deltas may be on the way to a neighbour. What is on the way cannot be
	// called back when it turns out that another neighbour was faster.
	window = 512 << 10
	// ackAfter is how many bytes of deltas are received before they are acknowledged: few enough that
	// those which are not yet never fill a window.
	ackAfter = window / 4
)

// ErrFrame is wrapped by errors about frames that do not parse. The link should be closed.
var ErrFrame = errors.New("bad frame")

// protocolVersion is this program's version of the messages. Newer ones add fields and kinds of
// messages, which older programs pass over. Nobody who speaks an older one opens a stream of this one's name.
const protocolVersion = 2

// kind is the first byte of a frame.
type kind byte

const (
	kindHello  kind = 1
	kindDeltas kind = 2
	kindHave   kind = 3
	kindPrune  kind = 4
	kindBehind kind = 5
	kindDigest kind = 6
	kindAsk    kind = 7
	kindChain  kind = 8
	kindAck    kind = 9
	kindFork   kind = 10
	kindBases  kind = 11
	kindPart   kind = 12

	kindSecure  kind = 13
	kindSecured kind = 14
)

// Layer is what a frame is for, to count what each costs.
type Layer int

const (
	// Push is deltas: new ones as they are written, and older ones for who lacks them.
	Push Layer = iota
	// Vectors is who has what: hellos, news, prunes, acknowledgements and chains of hashes.
	Vectors
	// Digests is the comparison of whole replicas.
	Digests
	// Messages is what was published on channels.
	Messages
	// Layers is their number.
	Layers = iota
)

// String returns the name of a layer.
func (l Layer) String() string {
	switch l {
	case Push:
		return "push"
	case Digests:
		return "digest"
	case Messages:
		return "message"
	}
	return "vector"
}

// LayerOf returns the layer of a frame.
func LayerOf(frame []byte) Layer {
	if len(frame) == 0 {
		return Vectors
	}
	switch kind(frame[0]) {
	case kindDeltas, kindPart:
		return Push
	case kindDigest:
		return Digests
	}
	return Vectors
}

// Digest sums up a replica's state at one moment, by 8 bytes each of two fingerprints. Mesh only compares them.
type Digest struct{ Context, Root uint64 }

// hello opens a link, and begins it again after a repair or a loss.
type hello struct {
	version uint64
	replica crdt.ReplicaID
	seen    crdt.VersionVector // in its short form
	heads   delta.Heads
	total   int    // replicas in the context, those included that are left out
	sum     uint64 // of their heads, which tells that they were taken for what they are
	answer  bool   // send me your hello
	whole   bool   // the sender has what its context says, and may be repaired from
	heard   uint64 // how many of the receiver's hellos the sender has heard on this link
	// graft lists replicas whose deltas the sender wants again, though it may have pruned them.
	graft []crdt.ReplicaID
}

// frame returns a message of so many fields.
func frame(k kind, fields int, fn func(w *wire.Writer)) []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Raw([]byte{byte(k)})
		w.Array(fields)
		fn(w)
	})
}

// decode reads a message of at least so many fields and passes over those that a newer version added.
func decode(body []byte, fields int, fn func(r *wire.Reader)) error {
	err := wire.Decode(body, func(r *wire.Reader) {
		extra := r.Fields(fields)
		fn(r)
		r.Skip(extra)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}

// A prune lists replicas whose deltas the sender gets sooner from others. A fork lists those whose deltas are chained
// otherwise at the sender than at the receiver, so that nothing is to be exchanged.
func encodeReplicas(k kind, ids []crdt.ReplicaID) []byte {
	return frame(k, 1, func(w *wire.Writer) { writeReplicas(w, ids) })
}

func decodeReplicas(body []byte) (ids []crdt.ReplicaID, err error) {
	err = decode(body, 1, func(r *wire.Reader) { ids = readReplicas(r) })
	return ids, err
}

// An ask has the id of a replica: how does the receiver's log say that its deltas are chained? An ack tells how many
// more bytes of deltas were received, a heard which of the receiver's lists of spaces was the last.
func encodeNumber(k kind, n uint64) []byte {
	return frame(k, 1, func(w *wire.Writer) { w.Uint(n) })
}

func decodeNumber(body []byte) (n uint64, err error) {
	err = decode(body, 1, func(r *wire.Reader) { n = r.Uint() })
	return n, err
}

// A behind has no fields.
func encodeBehind() []byte { return frame(kindBehind, 0, func(*wire.Writer) {}) }

func (h hello) encode() []byte {
	return frame(kindHello, 9, func(w *wire.Writer) {
		w.Uint(h.version)
		w.Uint(uint64(h.replica))
		delta.WriteContext(w, h.seen, h.heads)
		w.Bool(h.answer)
		writeReplicas(w, h.graft)
		w.Bool(h.whole)
		w.Uint(h.heard)
		w.Uint(uint64(h.total))
		w.Uint(h.sum)
	})
}

func decodeHello(body []byte) (h hello, err error) {
	err = decode(body, 9, func(r *wire.Reader) {
		h.version = r.Uint()
		h.replica = crdt.ReplicaID(r.Uint())
		h.seen, h.heads = delta.ReadContext(r)
		h.answer = r.Bool()
		h.graft = readReplicas(r)
		h.whole = r.Bool()
		h.heard = r.Uint()
		h.total = int(min(r.Uint(), maxContext))
		h.sum = r.Uint()
		if h.version < protocolVersion {
			r.Fail("hello of version %d, and the stream is of version %d", h.version, protocolVersion)
		}
	})
	return h, err
}

// maxReplicas bounds the replicas that one message lists.
const maxReplicas = 1 << 16

func writeReplicas(w *wire.Writer, ids []crdt.ReplicaID) {
	w.Array(len(ids))
	for _, id := range ids {
		w.Uint(uint64(id))
	}
}

func readReplicas(r *wire.Reader) (ids []crdt.ReplicaID) {
	n := r.Array(maxReplicas)
	for i := 0; i < n && r.Err() == nil; i++ {
		ids = append(ids, crdt.ReplicaID(r.Uint()))
	}
	return ids
}

// A deltas message has deltas as a delta.Packer packs them. It also tells what is new at the sender, as a have does, when
// that is due.
func encodeDeltas(packed []byte, news crdt.VersionVector, heads delta.Heads) []byte {
	return frame(kindDeltas, 2, func(w *wire.Writer) {
		w.Bytes(packed)
		delta.WriteContext(w, news, heads)
	})
}

func decodeDeltas(u *delta.Unpacker, body []byte) (
	deltas []*delta.Delta, news crdt.VersionVector, heads delta.Heads, err error) {
	var bad error
	err = decode(body, 2, func(r *wire.Reader) {
		if deltas, bad = u.Unpack(r.Bytes(MaxFrame), maxFrameDeltas, maxFrameCost); bad == nil {
			news, heads = delta.ReadContext(r)
		}
	})
	if bad != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrFrame, bad)
	}
	return deltas, news, heads, err
}

// A have tells what is new at the sender, with the hashes of the heads.
func encodeHave(v crdt.VersionVector, heads delta.Heads) []byte {
	return frame(kindHave, 1, func(w *wire.Writer) {
		delta.WriteContext(w, v, heads)
	})
}

func decodeHave(body []byte) (v crdt.VersionVector, heads delta.Heads, err error) {
	err = decode(body, 1, func(r *wire.Reader) { v, heads = delta.ReadContext(r) })
	return v, heads, err
}

// Bases are those that the sender holds and the receiver may lack, in the sender's order. They follow a hello, so that
// it can be read.
func encodeBases(tables []delta.Table) []byte {
	return frame(kindBases, 1, func(w *wire.Writer) { delta.WriteTables(w, tables) })
}

func decodeBases(body []byte) (tables []delta.Table, err error) {
	err = decode(body, 1, func(r *wire.Reader) { tables = delta.ReadTables(r, MaxFrame) })
	return tables, err
}

func encodeDigest(d Digest) []byte {
	return frame(kindDigest, 2, func(w *wire.Writer) {
		w.Uint(d.Context)
		w.Uint(d.Root)
	})
}

func decodeDigest(body []byte) (d Digest, err error) {
	err = decode(body, 2, func(r *wire.Reader) { d = Digest{Context: r.Uint(), Root: r.Uint()} })
	return d, err
}

// Chain is how a replica's deltas follow each other: the newest ones that a log has, in order and without a
// hole.
type Chain struct {
	Replica crdt.ReplicaID
	First   uint64 // counter of the first link's first dot
	Links   []ChainLink
}

// ChainLink is one delta of a chain.
type ChainLink struct {
	Last uint64 // counter of its last dot
	Hash delta.Hash
}

// MaxChain bounds the links of one chain.
const MaxChain = 16384

func encodeChain(c Chain) []byte {
	return frame(kindChain, 3, func(w *wire.Writer) {
		w.Uint(uint64(c.Replica))
		w.Array(2 * len(c.Links))
		for _, l := range c.Links {
			w.Uint(l.Last)
			w.Uint(uint64(l.Hash))
		}
		w.Uint(c.First)
	})
}

func decodeChain(body []byte) (c Chain, err error) {
	err = decode(body, 3, func(r *wire.Reader) {
		c.Replica = crdt.ReplicaID(r.Uint())
		for n := r.Array(2*MaxChain) / 2; n > 0 && r.Err() == nil; n-- {
			c.Links = append(c.Links, ChainLink{r.Uint(), delta.Hash(r.Uint())})
		}
		c.First = r.Uint()
	})
	return c, err
}
