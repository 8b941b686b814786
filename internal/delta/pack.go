package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Deltas that travel together are packed: what one shares with those before it is said once, or
// as a difference. A replica's deltas follow each other, so that its id, the first dot and the hash
// of the one before are known; times grow by little; keys begin alike. Nothing is lost: a delta
// unpacks to the bytes that it was made or read with, of which hashes are. One whose bytes are not
// those that this version would write (a newer one wrote it) travels as it is.
//
// A packing is a byte string. Numbers are varints (of encoding/binary), other integers 8 bytes,
// big-endian. A replica is its number in the order in which the packing first names it, and at that
// first time its id follows. Each delta is:
//
//	head                what follows, see the bits
//	replica             unless it is that of the delta before
//	first, prev         unless it continues the last delta of its replica in the packing
//	time                a difference to the delta before, zigzag
//	deps, seen          if there are any
//	operations          how many, unless there is one; and these
//
// A vector is how many entries follow, and replica and counter of each. Of seen these are the
// entries that differ from the last one in the packing; 0 is one that is no more. An operation is:
//
//	kind and bits
//	prefix, middle      two lengths, unless those of the operation before
//	address             the middle: what it does not share with the last address, at either end
//	removes             how many dots, and replica and counter of each
//	payload             its length, unless that of the last one, and its bytes, less the stamp
const (
	headReplica = 1 << iota
	headFirst
	headDeps
	headSeen
	headMany
	headRaw // alone: a length, and the delta's bytes
	headBits
)

const (
	opKind    = 7
	opRemoves = 8
	opStamp   = 16 // the payload begins with stampKind and the delta's time, as a register's does
	opLength  = 32
	opShape   = 64
	opTail    = 128 // the last tail bytes are those of the last address: the end of a name, a type
)

const (
	stampKind = 1
	stamp     = 1 + 8
	tail      = 3
)

// deltaCost is what a delta costs in a packing beside Delta.Cost.
const deltaCost = 64

// history is what a packing holds so far, as far as what follows is said by it.
type history struct {
	origins []origin
	current int // the last delta's
	time    dotted.Time
	seen    crdt.VersionVector
	address dotted.Address

	prefix, middle, payload uint64 // lengths
}

// origin is a replica and how its last delta ended; zero if there was none: its first delta continues
// that.
type origin struct {
	id   crdt.ReplicaID
	last uint64
	head Hash
}

// size is how much memory the origins take, in bytes.
func (p *history) size() int { return 24 * cap(p.origins) }

// passed notes a delta that is packed now, or unpacked.
func (p *history) passed(d *Delta) {
	o := &p.origins[p.current]
	o.last, o.head = d.Last(), d.Hash()
	p.time = d.Time
	if len(d.Seen) > 0 {
		p.seen = d.Seen
	}
}

// shared returns how many bytes an address has in common with the last one, at the beginning and at
// the end.
func (p *history) shared(a dotted.Address) (prefix, suffix int) {
	most, before := len(a), p.address
	if len(a) >= tail && len(before) >= tail && a[len(a)-tail:] == before[len(before)-tail:] {
		most, suffix = most-tail, tail
	}
	for most = min(most, len(before)); prefix < most && a[prefix] == before[prefix]; {
		prefix++
	}
	return prefix, suffix
}

// maxKept is how much memory, in bytes, a Packer or an Unpacker keeps for the next packing. Few frames
// need more, and each space of a host has one of each.
const maxKept = 16 << 10

// Packer packs deltas. The zero value is ready. There is one packing of a list.
// It keeps some memory after Reset, and nothing of the deltas.
type Packer struct {
	history
	data    []byte
	cost    int
	numbers map[crdt.ReplicaID]int // of the origins, if they are not few
	scratch []byte
}

// Reset begins a new packing, in the memory of the last one.
func (p *Packer) Reset() {
	kept := Packer{}
	if cap(p.data)+cap(p.scratch)+2*p.size() <= maxKept {
		clear(p.numbers)
		kept.data, kept.scratch, kept.numbers = p.data[:0], p.scratch, p.numbers
		kept.origins = p.origins[:0]
	}
	*p = kept
}

// Bytes returns the packing, until Reset.
func (p *Packer) Bytes() []byte { return p.data }

// PackedCost bounds what a delta adds to Packer.Cost.
func (d *Delta) PackedCost() int { return deltaCost + d.Cost() }

// Cost bounds the memory that an Unpacker takes for what is packed.
func (p *Packer) Cost() int { return p.cost }

// Add packs one more delta.
func (p *Packer) Add(d *Delta) {
	if len(p.data) == 0 {
		p.current = -1
	}
	p.cost += d.PackedCost()
	if !p.plain(d) {
		p.data = append(p.data, headRaw)
		p.bytes(d.Encode())
		return
	}
	head, at := byte(0), len(p.data)
	p.data = append(p.data, 0)
	if p.current < 0 || p.origins[p.current].id != d.Replica {
		head |= headReplica
		p.current = p.replica(d.Replica)
	}
	if o := p.origins[p.current]; o.last+1 != d.First || o.head != d.Prev {
		head |= headFirst
		p.uint(d.First)
		p.data = binary.BigEndian.AppendUint64(p.data, uint64(d.Prev))
	}
	p.data = binary.AppendVarint(p.data, int64(d.Time-p.time))
	if len(d.Deps) > 0 {
		head |= headDeps
		p.vector(d.Deps, nil)
	}
	if len(d.Seen) > 0 {
		head |= headSeen
		p.vector(d.Seen, p.seen)
	}
	if len(d.Ops) > 1 {
		head |= headMany
		p.uint(uint64(len(d.Ops)))
	}
	for i := range d.Ops {
		p.op(&d.Ops[i], d.Time)
	}
	p.data[at] = head
	p.passed(d)
}

// plain reports whether the delta's bytes are those that its fields are written as.
func (p *Packer) plain(d *Delta) bool {
	if d.plain || d.encoded == nil {
		return len(d.Ops) > 0
	}
	p.scratch = wire.AppendTo(p.scratch[:0], d.write)
	return bytes.Equal(p.scratch, d.encoded)
}

func (p *Packer) uint(n uint64) { p.data = binary.AppendUvarint(p.data, n) }

func (p *Packer) bytes(b []byte) {
	p.uint(uint64(len(b)))
	p.data = append(p.data, b...)
}

// replica writes and returns the number of a replica.
func (p *Packer) replica(id crdt.ReplicaID) int {
	n, named := p.number(id)
	if !named {
		n = len(p.origins)
		p.origins = append(p.origins, origin{id: id})
	}
	p.uint(uint64(n))
	if !named {
		p.data = binary.BigEndian.AppendUint64(p.data, uint64(id))
	}
	return n
}

// number returns the number of a replica that was named.
func (p *Packer) number(id crdt.ReplicaID) (n int, named bool) {
	const few = 8
	if len(p.origins) <= few {
		n = slices.IndexFunc(p.origins, func(o origin) bool { return o.id == id })
		return n, n >= 0
	}
	if p.numbers == nil {
		p.numbers = map[crdt.ReplicaID]int{}
	}
	for i := len(p.numbers); i < len(p.origins); i++ {
		p.numbers[p.origins[i].id] = i
	}
	n, named = p.numbers[id]
	return n, named
}

func (p *Packer) vector(v, before crdt.VersionVector) {
	var ids []crdt.ReplicaID
	for id, n := range v {
		if before[id] != n {
			ids = append(ids, id)
		}
	}
	for id := range before {
		if v[id] == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	p.uint(uint64(len(ids)))
	for _, id := range ids {
		p.replica(id)
		p.uint(v[id])
	}
}

func (p *Packer) op(o *Op, at dotted.Time) {
	prefix, suffix := p.shared(o.Address)
	middle := o.Address[prefix : len(o.Address)-suffix]
	bits := byte(o.Kind)
	if suffix > 0 {
		bits |= opTail
	}
	if p.prefix == uint64(prefix) && p.middle == uint64(len(middle)) {
		bits |= opShape
	}
	if len(o.Removes) > 0 {
		bits |= opRemoves
	}
	payload := o.Payload
	if o.Kind.holds() && stamped(payload, at) {
		bits |= opStamp
		payload = payload[stamp:]
	}
	if o.Kind.holds() && p.payload == uint64(len(payload)) {
		bits |= opLength
	}
	p.data = append(p.data, bits)
	if bits&opShape == 0 {
		p.prefix, p.middle = uint64(prefix), uint64(len(middle))
		p.uint(p.prefix)
		p.uint(p.middle)
	}
	p.data = append(p.data, middle...)
	if len(o.Address) > 0 {
		p.address = o.Address
	}
	if len(o.Removes) > 0 {
		p.uint(uint64(len(o.Removes)))
		for _, dot := range o.Removes {
			p.replica(dot.Replica)
			p.uint(dot.Counter)
		}
	}
	if !o.Kind.holds() {
		return
	}
	if bits&opLength == 0 {
		p.payload = uint64(len(payload))
		p.uint(p.payload)
	}
	p.data = append(p.data, payload...)
}

// stamped reports whether a payload begins with stampKind and a time.
func stamped(payload []byte, at dotted.Time) bool {
	return len(payload) >= stamp && payload[0] == stampKind &&
		binary.BigEndian.Uint64(payload[1:]) == uint64(at)
}

// Unpacker unpacks what a Packer packed. The zero value is ready. It keeps some memory, and nothing of
// what it read.
type Unpacker struct {
	history
	data    []byte // what remains; nothing after an error, and what is read then is zero
	cost    int    // that may still be spent
	err     error
	scratch []byte // payloads of the delta that is being read
	ends    []int  // of these in its bytes
}

var errPacking = fmt.Errorf("%w: no packing", wire.ErrMalformed)

// Unpack returns what was packed. It refuses more than so many deltas, what costs more than so much, and
// all that Decode refuses: no more memory than a few times that cost is taken, however much the packing
// says. A delta has memory of its own, but for one that travelled as it is.
//
// There may be other packings than a Packer's of the same deltas. They are taken as well: nothing is a
// function of a packing but what it unpacks to.
func (u *Unpacker) Unpack(data []byte, most, cost int) (deltas []*Delta, err error) {
	u.data, u.cost, u.current = data, cost, -1
	defer u.reset()
	for len(u.data) > 0 {
		if len(deltas) == most {
			return nil, fmt.Errorf("%w: more than %d deltas are packed", ErrTooLarge, most)
		}
		d := u.delta()
		if u.err != nil {
			return nil, fmt.Errorf("delta %d of a packing: %w", len(deltas), u.err)
		}
		deltas = append(deltas, d)
	}
	return deltas, nil
}

func (u *Unpacker) reset() {
	kept := Unpacker{}
	if cap(u.scratch)+u.size()+8*cap(u.ends) <= maxKept {
		kept.scratch, kept.origins, kept.ends = u.scratch, u.origins[:0], u.ends
	}
	*u = kept
}

func (u *Unpacker) fail(err error) {
	if u.err == nil && err != nil {
		u.err, u.data = err, nil
	}
}

// spend notes what is about to be taken, and reports whether it may be.
func (u *Unpacker) spend(n uint64) bool {
	if n > uint64(u.cost) {
		u.fail(fmt.Errorf("%w: what is packed costs more than it may", ErrTooLarge))
		return false
	}
	u.cost -= int(n)
	return u.err == nil
}

func (u *Unpacker) uint() uint64 {
	n, size := binary.Uvarint(u.data)
	if size <= 0 {
		u.fail(errPacking)
		return 0
	}
	u.data = u.data[size:]
	return n
}

func (u *Unpacker) int() int64 {
	n := u.uint()
	return int64(n>>1) ^ -int64(n&1)
}

// take returns the next n bytes, which point into the packing.
func (u *Unpacker) take(n uint64) []byte {
	if n > uint64(len(u.data)) {
		u.fail(errPacking)
		return nil
	}
	b := u.data[:n:n]
	u.data = u.data[n:]
	return b
}

func (u *Unpacker) fixed() uint64 {
	if b := u.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (u *Unpacker) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

// replica returns the number of a replica, for origins.
func (u *Unpacker) replica() (number int, id crdt.ReplicaID) {
	n := u.uint()
	if n == uint64(len(u.origins)) && u.err == nil {
		u.origins = append(u.origins, origin{id: crdt.ReplicaID(u.fixed())})
	}
	if n >= uint64(len(u.origins)) || u.err != nil {
		u.fail(errPacking)
		return -1, 0
	}
	return int(n), u.origins[n].id
}

func (u *Unpacker) delta() *Delta {
	if !u.spend(deltaCost) {
		return nil
	}
	head := u.byte()
	if head&headRaw != 0 {
		return u.raw(head)
	}
	if head >= headBits {
		u.fail(errPacking)
	}
	if head&headReplica != 0 {
		u.current, _ = u.replica()
	}
	if u.current < 0 || u.err != nil {
		u.fail(errPacking)
		return nil
	}
	o := &u.origins[u.current]
	d := New()
	d.Replica, d.First, d.Prev = o.id, o.last+1, o.head
	if head&headFirst != 0 {
		d.First, d.Prev = u.uint(), Hash(u.fixed())
	}
	d.Time = u.time + dotted.Time(u.int())
	if head&headDeps != 0 {
		d.Deps = u.vector(nil)
	}
	if head&headSeen != 0 {
		d.Seen = u.vector(u.seen)
	}
	u.operations(d, head)
	if u.err == nil {
		u.fail(d.check())
	}
	if u.err != nil {
		return nil
	}
	u.encode(d)
	u.passed(d)
	return d
}

func (u *Unpacker) operations(d *Delta, head byte) {
	count := uint64(1)
	if head&headMany != 0 {
		if count = u.uint(); count > MaxOps {
			u.fail(fmt.Errorf("%w: %d operations (limit %d)", ErrTooLarge, count, MaxOps))
		}
	}
	u.scratch = u.scratch[:0]
	for ; count > 0 && u.err == nil; count-- {
		if d.Ends() {
			u.fail(errors.New("operations after the replica's last"))
			return
		}
		d.Ops = append(d.Ops, u.op(d.Time))
	}
}

// raw returns a delta that travelled as it is.
func (u *Unpacker) raw(head byte) *Delta {
	data := u.take(u.uint())
	if u.err != nil || head != headRaw {
		u.fail(errPacking)
		return nil
	}
	d, err := Decode(bytes.Clone(data)) // it may be kept for longer than the frame
	if err != nil {
		u.fail(err)
		return nil
	}
	if !u.spend(uint64(d.Cost())) {
		return nil
	}
	return d
}

// encode makes the delta's bytes. Its payloads point into them from then on.
func (u *Unpacker) encode(d *Delta) {
	u.ends = u.ends[:0]
	d.encoded = wire.Encode(func(w *wire.Writer) {
		d.writeHead(w)
		for i := range d.Ops {
			d.Ops[i].write(w)
			u.ends = append(u.ends, w.Size())
		}
	})
	for i := range d.Ops {
		if o := &d.Ops[i]; o.Kind.holds() {
			end := u.ends[i]
			o.Payload = d.encoded[end-len(o.Payload) : end : end]
		}
	}
	d.hash, d.plain = d.hashOf(d.encoded), true
}

func (u *Unpacker) vector(before crdt.VersionVector) crdt.VersionVector {
	n := u.uint()
	v := make(crdt.VersionVector, len(before)+int(min(n, 64)))
	for id, count := range before {
		v[id] = count
	}
	for ; n > 0 && u.err == nil; n-- {
		_, id := u.replica()
		switch count := u.uint(); {
		case id == 0 || count > dotted.MaxCounter || count == 0 && v[id] == 0:
			u.fail(errPacking)
		case count == 0:
			delete(v, id)
		case len(v)-len(before) > u.cost/20:
			u.spend(20 * uint64(len(v)))
		default:
			v[id] = count
		}
	}
	if len(v) == 0 {
		u.fail(errPacking) // what is empty is left out
	}
	u.spend(20 * uint64(len(v)))
	return v
}

func (u *Unpacker) op(at dotted.Time) (o Op) {
	bits := u.byte()
	if o.Kind = OpKind(bits & opKind); o.Kind > OpBase {
		u.fail(errPacking)
		return o
	}
	o.Address = u.cell(bits)
	if o.Kind.names() && bits&opRemoves != 0 {
		o.Removes = u.dots()
	}
	if o.Kind.holds() {
		o.Payload = u.value(bits, at)
	}
	if u.err == nil {
		u.fail(o.Check())
	}
	return o
}

// cell returns the next address.
func (u *Unpacker) cell(bits byte) dotted.Address {
	if bits&opShape == 0 {
		u.prefix, u.middle = u.uint(), u.uint()
	}
	before, suffix := u.address, 0
	if bits&opTail != 0 {
		suffix = tail
	}
	middle := u.take(u.middle)
	if u.prefix > uint64(len(before)) || suffix > len(before) {
		u.fail(errPacking)
		return ""
	}
	if !u.spend(20 + u.prefix + uint64(len(middle)+suffix)) {
		return ""
	}
	if int(u.prefix)+suffix == len(before) && len(middle) == 0 {
		return before
	}
	a := before[:u.prefix] + dotted.Address(middle) + before[len(before)-suffix:]
	if a != "" {
		u.address = a
	}
	return a
}

func (u *Unpacker) dots() []crdt.Dot {
	n := u.uint()
	if n == 0 || n > uint64(len(u.data)) || !u.spend(20*n) {
		u.fail(errPacking)
		return nil
	}
	dots := make([]crdt.Dot, 0, n)
	for ; n > 0 && u.err == nil; n-- {
		_, id := u.replica()
		dots = append(dots, crdt.Dot{Replica: id, Counter: u.uint()})
	}
	return dots
}

// value returns the next payload.
func (u *Unpacker) value(bits byte, at dotted.Time) []byte {
	if bits&opLength == 0 {
		u.payload = u.uint()
	}
	payload := u.take(u.payload)
	if bits&opStamp == 0 {
		u.spend(uint64(len(payload)))
		return payload
	}
	if !u.spend(uint64(stamp + len(payload))) {
		return nil
	}
	from := len(u.scratch)
	u.scratch = append(u.scratch, stampKind)
	u.scratch = binary.BigEndian.AppendUint64(u.scratch, uint64(at))
	u.scratch = append(u.scratch, payload...)
	return u.scratch[from:len(u.scratch):len(u.scratch)]
}
