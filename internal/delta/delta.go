package delta

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Limits of one delta, which every store can apply in one transaction. They are part of the protocol.
const (
	MaxOps      = 1 << 17  // mutations in a transaction
	MaxCost     = 32 << 20 // see Delta.Cost
	MaxSize     = 32 << 20 // bytes, encoded
	MaxReplicas = 1 << 16  // that have written: entries of a replica's context
)

// HeadCost bounds the bytes of an encoded delta that Delta.Cost leaves out: what stands before its
// operations, but for its vectors. Who makes one counts it against MaxCost, so that what is within
// that is within MaxSize.
const HeadCost = 64

// ErrTooLarge is returned for a transaction beyond MaxOps, MaxCost or MaxSize, and for the first one of a
// replica where MaxReplicas have written already.
var ErrTooLarge = errors.New("transaction too large")

// OpKind tells what an operation does.
type OpKind byte

const (
	OpPut    OpKind = 0 // put an entry into a cell and remove the dots it replaces
	OpRemove OpKind = 1 // remove dots from a cell
	OpClear  OpKind = 2 // remove every dot seen from every cell under a prefix
	OpEnd    OpKind = 3 // nothing, and the replica issues no dot after it: the last op of its last delta
	OpBase   OpKind = 4 // nothing to cells: it says bases, so that vectors leave replicas out
)

// Op is one mutation. It has a dot of its own, removals too: the First of its delta plus its index.
type Op struct {
	Kind    OpKind
	Address dotted.Address // a cell; for OpClear a prefix, empty for everything
	Payload []byte         // OpPut; of an OpBase what it says
	Removes []crdt.Dot     // OpPut, OpRemove: in the order of dots
}

// Delta is what one transaction did: a run of dots of one replica.
type Delta struct {
	Replica crdt.ReplicaID
	First   uint64 // counter of the first op's dot
	Time    dotted.Time
	// Prev is the hash of the replica's previous delta; 0 for its first.
	Prev Hash
	// Deps is what the replica's context had gained since its previous delta, others' dots only: with
	// the dots before First it is everything that this delta may have seen. It leaves out what Bases do.
	Deps crdt.VersionVector
	// Seen is the whole context at the start of the transaction, in its short form (see Bases). It is there
	// only if an op is OpClear, which removes the dots in Seen and those of the delta's earlier ops.
	Seen crdt.VersionVector
	Ops  []Op

	// What follows is of this host alone, and is not encoded.

	Note    any      // by whoever ran the transaction
	Expired []string // keys that it removes because they had expired, as far as that is known

	encoded []byte
	hash    Hash
	plain   bool // encoded is what this version writes
}

// New returns memory for a delta that begins. There is room in it for one op: most have no more.
func New() *Delta {
	d := &struct {
		Delta
		room [1]Op
	}{}
	d.Ops = d.room[:0]
	return &d.Delta
}

// Begin says what a delta is that has no op yet.
func (d *Delta) Begin(id crdt.ReplicaID, first uint64, at dotted.Time, prev Hash) {
	d.Replica, d.First, d.Time, d.Prev, d.Note, d.Expired = id, first, at, prev, nil, nil
}

// Last returns the counter of the last op's dot.
func (d *Delta) Last() uint64 { return d.First + uint64(len(d.Ops)) - 1 }

// Dot returns the dot of the i-th op.
func (d *Delta) Dot(i int) crdt.Dot {
	return crdt.Dot{Replica: d.Replica, Counter: d.First + uint64(i)}
}

// Cost bounds the bytes that the op takes in an encoded delta: it is known before there is one.
func (o *Op) Cost() int {
	return 20 + len(o.Address) + len(o.Payload) + 20*len(o.Removes)
}

// Cost is the sum of the costs of the ops, and of the vectors. A delta that costs more than MaxCost is refused by all.
func (d *Delta) Cost() int {
	cost := 20 * (len(d.Deps) + len(d.Seen))
	for i := range d.Ops {
		cost += d.Ops[i].Cost()
	}
	return cost
}

// SeenBy returns the dots that the i-th op, an OpClear, removes. seen is what Seen stands for.
func (d *Delta) SeenBy(i int, seen Seen) ClearSet {
	return ClearSet{Seen: seen, Replica: d.Replica, Below: d.First + uint64(i)}
}

// ClearSet is what an OpClear saw: the context of its transaction and the ops before it.
type ClearSet struct {
	Seen    Seen
	Replica crdt.ReplicaID // the issuer, whose dots below Below are seen too
	Below   uint64
}

// Has reports whether the clear removes d.
func (s ClearSet) Has(d crdt.Dot) bool {
	return s.Seen.Has(d) || d.Replica == s.Replica && d.Counter < s.Below
}

// Ready reports whether a replica with context seen has everything that d may have seen.
func (d *Delta) Ready(seen crdt.VersionVector) bool {
	return seen[d.Replica] == d.First-1 && seen.Contains(d.Deps) && seen.Contains(d.Seen) && d.based(seen)
}

// based reports whether all that the delta's bases cover is in a context: its Deps say so already, if its origin
// keeps to the rules.
func (d *Delta) based(seen crdt.VersionVector) bool {
	for _, t := range d.Tables() {
		for _, b := range t.Bases {
			if seen[b.Replica] < b.Last {
				return false
			}
		}
	}
	return true
}

// Encode returns the canonical bytes of d, made once. d must not change afterwards.
func (d *Delta) Encode() []byte {
	if d.encoded == nil {
		d.encoded, d.plain = wire.Encode(d.write), true
		d.hash = d.hashOf(d.encoded)
	}
	return d.encoded
}

// largeFrom is from how many bytes on a payload is large.
const largeFrom = 1 << 20

// IsMost reports whether the payload of the i-th op is large, and most of the encoded delta: so who
// keeps one of them may as well keep both.
func (d *Delta) IsMost(i int) bool {
	n := len(d.Ops[i].Payload)
	return n >= largeFrom && n > len(d.Encode())/2
}

// Fold makes the payload of the i-th op, of which IsMost holds, a part of the encoded delta, so
// that memory has it once: it is the last field of its op. For a delta that was made here.
func (d *Delta) Fold(i int) {
	behind := wire.Encode(func(w *wire.Writer) {
		for j := i + 1; j < len(d.Ops); j++ {
			d.Ops[j].write(w)
		}
	})
	op, end := &d.Ops[i], len(d.encoded)-len(behind)
	op.Payload = d.encoded[end-len(op.Payload) : end : end]
}

// Hash returns the hash of the encoded delta, which chains the next one.
func (d *Delta) Hash() Hash {
	d.Encode()
	return d.hash
}

func (d *Delta) hashOf(encoded []byte) Hash {
	sum := sha256.Sum256(encoded)
	h := Hash(binary.BigEndian.Uint64(sum[:8])) &^ 1
	if d.Ends() {
		h |= 1
	}
	return h
}

// Ends reports whether the replica says that it issues no dot after this delta.
func (d *Delta) Ends() bool { return len(d.Ops) > 0 && d.Ops[len(d.Ops)-1].Kind == OpEnd }

const deltaFields = 7

func (d *Delta) write(w *wire.Writer) {
	d.writeHead(w)
	for i := range d.Ops {
		d.Ops[i].write(w)
	}
}

// writeHead writes what stands before the operations.
func (d *Delta) writeHead(w *wire.Writer) {
	w.Array(deltaFields)
	w.Uint(uint64(d.Replica))
	w.Uint(d.First)
	w.Uint(uint64(d.Time))
	w.Uint(uint64(d.Prev))
	dotted.WriteVector(w, d.Deps)
	dotted.WriteVector(w, d.Seen)
	w.Array(len(d.Ops))
}

// names reports whether an op lists dots that it removes, and holds whether it has a payload.
func (k OpKind) names() bool { return k == OpPut || k == OpRemove }
func (k OpKind) holds() bool { return k == OpPut || k == OpBase }

// fields returns how many fields an encoded op has: its kind, its address, and what names and holds say.
func (k OpKind) fields() int {
	n := 2
	if k.names() {
		n++
	}
	if k.holds() {
		n++
	}
	return n
}

func (o *Op) write(w *wire.Writer) {
	w.Array(o.Kind.fields())
	w.Uint(uint64(o.Kind))
	w.String(string(o.Address))
	if o.Kind.names() {
		dotted.WriteDots(w, o.Removes)
	}
	if o.Kind.holds() {
		w.Bytes(o.Payload)
	}
}

// Decode reads a delta and checks that it keeps to the limits. The result points into data, which
// must not change. Fields that a newer version appended are kept: Encode returns data.
func Decode(data []byte) (*Delta, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes (limit %d)", ErrTooLarge, len(data), MaxSize)
	}
	d := &Delta{}
	if err := wire.Decode(data, d.read); err != nil {
		return nil, fmt.Errorf("delta: %w", err)
	}
	d.encoded = data
	d.hash = d.hashOf(data)
	return d, nil
}

func (d *Delta) read(r *wire.Reader) {
	extra := r.Fields(deltaFields)
	d.Replica = crdt.ReplicaID(r.Uint())
	d.First = r.Uint()
	d.Time = dotted.Time(r.Uint())
	d.Prev = Hash(r.Uint())
	d.Deps = dotted.ReadVector(r)
	d.Seen = dotted.ReadVector(r)
	n := r.Array(MaxOps)
	if n > 0 {
		d.Ops = make([]Op, 0, min(n, 1024))
	}
	cost := 0
	for i := 0; i < n && r.Err() == nil; i++ {
		d.Ops = append(d.Ops, readOp(r))
		if cost += d.Ops[i].Cost(); cost > MaxCost {
			break // refused below, before more memory is taken for it
		}
		if i < n-1 && d.Ends() {
			r.Fail("operations after the replica's last")
		}
	}
	if cost <= MaxCost {
		r.Skip(extra)
	}
	if r.Err() == nil {
		if err := d.check(); err != nil {
			r.Fail("%v", err)
		}
	}
}

// check returns an error unless the fields go together. Each by itself, and each operation, was checked.
func (d *Delta) check() error {
	switch {
	case d.Replica == 0 || d.First == 0 || len(d.Ops) == 0 || d.First > dotted.MaxCounter:
		return errors.New("no replica, dot or operation")
	case (d.First == 1) != (d.Prev == 0):
		return errors.New("the chain of hashes does not begin at the first dot")
	case d.Cost() > MaxCost:
		return fmt.Errorf("a transaction of cost %d (limit %d)", d.Cost(), MaxCost)
	case d.Deps[d.Replica] != 0:
		return errors.New("a delta that depends on its own replica")
	case slices.ContainsFunc(d.Tables(), d.ofOwn):
		return errors.New("a base of its own replica")
	}
	return nil
}

// ofOwn reports whether a table says something of the delta's own replica, which goes on.
func (d *Delta) ofOwn(t Table) bool {
	return slices.ContainsFunc(t.Bases, func(b Base) bool { return b.Replica == d.Replica })
}

func readOp(r *wire.Reader) (o Op) {
	fields, kind := r.Array(64), r.Uint()
	if kind > uint64(OpBase) {
		r.Fail("operation of unknown kind %d: written by a newer version", kind)
		return o
	}
	o = Op{Kind: OpKind(kind), Address: dotted.Address(r.String(crdt.MaxAddress))}
	if o.Kind.names() {
		o.Removes = dotted.ReadDots(r)
	}
	if o.Kind.holds() {
		o.Payload = r.Bytes(dotted.MaxPayload)
	}
	if extra := fields - o.Kind.fields(); extra >= 0 {
		r.Skip(extra)
	} else {
		r.Fail("operation with %d fields", fields)
	}
	if r.Err() == nil {
		if err := o.Check(); err != nil {
			r.Fail("%v", err)
		}
	}
	return o
}

// Check returns an error unless a delta may hold the op: what a transaction refuses, and what a decoder
// does, are the same.
func (o *Op) Check() error {
	switch {
	case o.Kind == OpPut && (len(o.Payload) == 0 || len(o.Payload) > dotted.MaxPayload):
		return fmt.Errorf("%w: a payload of %d bytes (at least 1, limit %d)",
			crdt.ErrTooLong, len(o.Payload), dotted.MaxPayload)
	case o.Kind.names():
		return o.Address.CheckCell()
	case o.Kind == OpClear && o.Address != "":
		return o.Address.Check()
	case o.Address != "":
		return errors.New("an end or bases with an address")
	case o.Kind == OpBase:
		_, err := o.Bases()
		return err
	}
	return nil
}

// Hash is the first 8 bytes of a SHA-256. It chains the deltas of a replica so that a dot that was
// issued twice is noticed; it is no defence against a member that lies. Its lowest bit is not of the
// sum: it tells whether the delta is its replica's last. So whoever has a context with its heads
// knows which replicas have ended, however the context came.
type Hash uint64

// Ends reports whether the hash is that of a replica's last delta.
func (h Hash) Ends() bool { return h&1 != 0 }

// Heads holds, for the replicas of a version vector, the hash of the delta that ends at their counter.
type Heads map[crdt.ReplicaID]Hash

// WriteContext writes a version vector together with its heads, in the order of replicas.
func WriteContext(w *wire.Writer, v crdt.VersionVector, heads Heads) {
	w.Array(3 * len(v))
	for _, id := range v.Replicas() {
		w.Uint(uint64(id))
		w.Uint(v[id])
		w.Uint(uint64(heads[id]))
	}
}

// ReadContext reads what WriteContext wrote. The maps are never nil.
func ReadContext(r *wire.Reader) (crdt.VersionVector, Heads) {
	n := r.Array(3 * dotted.MaxVector)
	v := make(crdt.VersionVector, min(n/3, 1024))
	heads := make(Heads, min(n/3, 1024))
	last := crdt.ReplicaID(0)
	for i := 0; i < n/3 && r.Err() == nil; i++ {
		id, count, head := crdt.ReplicaID(r.Uint()), r.Uint(), Hash(r.Uint())
		if id <= last || count == 0 || count > dotted.MaxCounter {
			r.Fail("context out of order")
			break
		}
		v[id], heads[id], last = count, head, id
	}
	if n%3 != 0 {
		r.Fail("context of odd length")
	}
	return v, heads
}
