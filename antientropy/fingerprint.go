package antientropy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Fingerprint stands for a set: the sum modulo 2¹²⁸ of the hashes of its elements, so that adding
// and removing an element costs the same at any size. Zero is the empty set.
type Fingerprint struct {
	Hi, Lo uint64
}

// fingerprintSize is the size in bytes of an encoded fingerprint that is not zero.
const fingerprintSize = 16

// Add returns f with the elements of o.
func (f Fingerprint) Add(o Fingerprint) Fingerprint {
	lo, carry := bits.Add64(f.Lo, o.Lo, 0)
	hi, _ := bits.Add64(f.Hi, o.Hi, carry)
	return Fingerprint{hi, lo}
}

// Sub returns f without the elements of o, which must be in it.
func (f Fingerprint) Sub(o Fingerprint) Fingerprint {
	lo, borrow := bits.Sub64(f.Lo, o.Lo, 0)
	hi, _ := bits.Sub64(f.Hi, o.Hi, borrow)
	return Fingerprint{hi, lo}
}

// IsZero reports whether f stands for the empty set.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// String returns f as 32 hexadecimal digits.
func (f Fingerprint) String() string { return fmt.Sprintf("%016x%016x", f.Hi, f.Lo) }

// A salt makes the short forms of one session: nobody who chooses what is hashed knows it before.
type salt Fingerprint

// saltOf returns that of a session about a moment with a root.
func saltOf(root Fingerprint) salt { return salt{root.Hi, root.Lo | 1} }

// short returns 8 bytes that stand for f in one session: the high half of its product with the salt,
// modulo 2¹²⁸. Those of two fingerprints are equal by a chance of 2⁻⁶³ (Dietzfelbinger et al.,
// A reliable randomized algorithm for the closest-pair problem, 1997), and those of n add up to
// that of their sum but for less than n. Only zero has zero.
func (s salt) short(f Fingerprint) uint64 {
	if f.IsZero() {
		return 0
	}
	high, _ := bits.Mul64(f.Lo, s.Lo)
	return max(1, high+f.Hi*s.Lo+f.Lo*s.Hi)
}

// WriteFingerprint writes f as 16 bytes, big-endian; zero as none, because sparse trees are full
// of it.
func WriteFingerprint(w *wire.Writer, f Fingerprint) {
	if f.IsZero() {
		w.Bytes(nil)
		return
	}
	var b [fingerprintSize]byte
	binary.BigEndian.PutUint64(b[:8], f.Hi)
	binary.BigEndian.PutUint64(b[8:], f.Lo)
	w.Bytes(b[:])
}

// ReadFingerprint reads what WriteFingerprint wrote.
func ReadFingerprint(r *wire.Reader) Fingerprint {
	b := r.Bytes(fingerprintSize)
	if len(b) == 0 {
		return Fingerprint{}
	}
	if len(b) != fingerprintSize {
		r.Fail("fingerprint of %d bytes", len(b))
		return Fingerprint{}
	}
	f := Fingerprint{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	if f.IsZero() {
		r.Fail("a fingerprint of zero, written out")
	}
	return f
}

// The first byte of everything that is hashed tells what it is, so that no hash of one kind is
// ever one of another.
const (
	domainEntry   = 1
	domainContext = 2
	domainAddress = 3
)

// HashedAbove is the size in bytes beyond which a payload enters fingerprints as its SHA-256:
// whoever keeps that hash can subtract the entry without reading the payload again.
const HashedAbove = 4096

// Of returns the fingerprint of one entry of the cell at a: 128 bits of a SHA-256 over address,
// dot and payload. It allocates nothing if address and payload have less than a kilobyte
// together. O(len(a) + len(payload)) (BenchmarkOf).
func Of(a dotted.Address, e dotted.Entry) Fingerprint {
	if len(e.Payload) > HashedAbove {
		return OfHashed(a, e.Dot, sha256.Sum256(e.Payload))
	}
	return ofEntry(a, e.Dot, false, e.Payload)
}

// OfHashed returns the fingerprint of an entry whose payload is larger than HashedAbove, from the
// SHA-256 of the payload.
func OfHashed(a dotted.Address, d crdt.Dot, payloadHash [sha256.Size]byte) Fingerprint {
	return ofEntry(a, d, true, payloadHash[:])
}

// ofEntry hashes domain, len(address), address, replica, counter, the form of the payload, and
// the payload or its hash. All but the last field have a known length, so no two entries share an
// input.
func ofEntry(a dotted.Address, d crdt.Dot, hashed bool, payload []byte) Fingerprint {
	var stack [1024]byte
	b := append(stack[:0], domainEntry)
	b = binary.BigEndian.AppendUint64(b, uint64(len(a)))
	b = append(b, a...)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Replica))
	b = binary.BigEndian.AppendUint64(b, d.Counter)
	form := byte(0)
	if hashed {
		form = 1
	}
	b = append(b, form)
	b = append(b, payload...)
	return truncate(sha256.Sum256(b))
}

func truncate(sum [sha256.Size]byte) Fingerprint {
	return Fingerprint{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])}
}

// ContextEntry returns what one replica adds to the digest of a context. When a replica's counter
// and head change, subtract its old entry and add the new one.
func ContextEntry(r crdt.ReplicaID, counter uint64, head delta.Hash) Fingerprint {
	b := [25]byte{domainContext}
	binary.BigEndian.PutUint64(b[1:], uint64(r))
	binary.BigEndian.PutUint64(b[9:], counter)
	binary.BigEndian.PutUint64(b[17:], uint64(head))
	return truncate(sha256.Sum256(b[:]))
}

// ContextDigest returns the fingerprint of a context: the sum of its ContextEntry. Heads are part
// of it, so two contexts with the same counters and different histories differ. O(len(v)).
func ContextDigest(v crdt.VersionVector, heads delta.Heads) Fingerprint {
	var sum Fingerprint
	for r, n := range v {
		sum = sum.Add(ContextEntry(r, n, heads[r]))
	}
	return sum
}
