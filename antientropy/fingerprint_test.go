package antientropy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"pgregory.net/rapid"
)

func drawFingerprint(t *rapid.T, name string) Fingerprint {
	word := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1<<64 - 1}))
	return Fingerprint{word.Draw(t, name+" hi"), word.Draw(t, name+" lo")}
}

func TestFingerprintsFormAGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawFingerprint(t, "a"), drawFingerprint(t, "b"), drawFingerprint(t, "c")
		if a.Add(b) != b.Add(a) {
			t.Fatal("addition does not commute")
		}
		if a.Add(b).Add(c) != a.Add(b.Add(c)) {
			t.Fatal("addition does not associate")
		}
		if a.Add(b).Sub(b) != a || a.Sub(b).Add(b) != a {
			t.Fatal("subtraction does not undo addition")
		}
		if !a.Sub(a).IsZero() {
			t.Fatal("a-a is not zero")
		}
	})
}

func TestFingerprintIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawFingerprint(t, "f")
		b := wire.Encode(func(w *wire.Writer) { WriteFingerprint(w, want) })
		var got Fingerprint
		if err := wire.Decode(b, func(r *wire.Reader) { got = ReadFingerprint(r) }); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("wrote %v, read %v", want, got)
		}
	})
}

func TestZeroFingerprintHasOneEncoding(t *testing.T) {
	b := wire.Encode(func(w *wire.Writer) { w.Bytes(make([]byte, fingerprintSize)) })
	err := wire.Decode(b, func(r *wire.Reader) { ReadFingerprint(r) })
	if !errors.Is(err, wire.ErrMalformed) {
		t.Fatalf("sixteen zero bytes were read, error %v", err)
	}
}

func TestEveryPartOfAnEntryChangesItsFingerprint(t *testing.T) {
	at := dotted.KeyAddress("k").Type(crdt.TypeString)
	dot := crdt.Dot{Replica: 1, Counter: 2}
	p := []byte("p")
	large := bytes.Repeat([]byte("x"), HashedAbove+1)
	hash := sha256.Sum256(large)
	seen := map[Fingerprint]string{}
	for name, f := range map[string]Fingerprint{
		"plain":        Of(at, dotted.Entry{Dot: dot, Payload: p}),
		"address":      Of(at+"p", dotted.Entry{Dot: dot}),
		"no payload":   Of(at, dotted.Entry{Dot: dot}),
		"replica":      Of(at, dotted.Entry{Dot: crdt.Dot{Replica: 2, Counter: 2}, Payload: p}),
		"counter":      Of(at, dotted.Entry{Dot: crdt.Dot{Replica: 1, Counter: 1}, Payload: p}),
		"hashed":       Of(at, dotted.Entry{Dot: dot, Payload: large}),
		"hash inlined": Of(at, dotted.Entry{Dot: dot, Payload: hash[:]}),
		"longest":      Of(at, dotted.Entry{Dot: dot, Payload: large[:HashedAbove]}),
		"a context":    ContextEntry(1, 2, 0),
		"a leaf":       {Hi: LeafOf(at)},
	} {
		if other, ok := seen[f]; ok {
			t.Errorf("%s and %s have the same fingerprint", name, other)
		}
		seen[f] = name
	}
	if f := OfHashed(at, dot, hash); seen[f] != "hashed" {
		t.Error("OfHashed and Of differ on a large payload")
	}
}

func TestContextDigestIsTheSumOfItsEntries(t *testing.T) {
	v := crdt.VersionVector{1: 10, 2: 20}
	heads := delta.Heads{1: 100, 2: 200}
	kept := ContextDigest(v, heads)
	kept = kept.Sub(ContextEntry(1, 10, 100)).Add(ContextEntry(1, 11, 101))
	v[1], heads[1] = 11, 101
	if want := ContextDigest(v, heads); kept != want {
		t.Fatalf("kept in place %v, computed %v", kept, want)
	}
	heads[2]++
	if ContextDigest(v, heads) == kept {
		t.Fatal("another head, the same digest")
	}
}

// Stored trees and other versions rely on these hashes. They were computed with another SHA-256.
func TestHashesOfTheProtocolNeverChange(t *testing.T) {
	at := dotted.KeyAddress("greeting").Type(crdt.TypeString)
	e := dotted.Entry{Dot: crdt.Dot{Replica: 0xfeed, Counter: 7}, Payload: []byte("hello")}
	large := dotted.Entry{Dot: e.Dot, Payload: []byte(strings.Repeat("a", HashedAbove+1))}
	context := ContextEntry(0xfeed, 7, 9).String()
	for _, c := range []struct{ what, got, want string }{
		{"an entry", Of(at, e).String(), "e714710226396a51b3d0da6932c36ae9"},
		{"a large entry", Of(at, large).String(), "762defc88bb55e686fc26b26944f7bce"},
		{"a replica's context", context, "e452dcc328ffb9dc2de0aae5f68998eb"},
		{"an address", Fingerprint{Lo: LeafOf(at)}.String(), "0000000000000000eab31bdc51d843bb"},
	} {
		if c.got != c.want {
			t.Errorf("the hash of %s is %s, was %s", c.what, c.got, c.want)
		}
	}
}

func TestHashingSmallEntriesAllocatesNothing(t *testing.T) {
	at := dotted.KeyAddress(strings.Repeat("k", 200)).Type(crdt.TypeString)
	small := dotted.Entry{Dot: crdt.Dot{Replica: 1, Counter: 2}, Payload: make([]byte, 700)}
	large := dotted.Entry{Dot: small.Dot, Payload: make([]byte, 100_000)}
	var sum Fingerprint
	n := testing.AllocsPerRun(100, func() {
		sum = sum.Add(Of(at, small)).Add(Of(at, large)).Add(ContextEntry(1, 2, 3))
		sum.Lo += LeafOf(at)
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkOf(b *testing.B) {
	at := dotted.KeyAddress("user:12345").Type(crdt.TypeMap).Name("email").Type(crdt.TypeString)
	for _, size := range []struct {
		name  string
		bytes int
	}{{"16B", 16}, {"256B", 256}, {"4KiB", 4096}, {"1MiB", 1 << 20}} {
		b.Run(size.name, func(b *testing.B) {
			e := dotted.Entry{Dot: crdt.Dot{Replica: 1, Counter: 2}}
			e.Payload = make([]byte, size.bytes)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				Of(at, e)
			}
		})
	}
}

func BenchmarkLeafOf(b *testing.B) {
	at := dotted.KeyAddress("user:12345").Type(crdt.TypeMap).Name("email").Type(crdt.TypeString)
	b.ReportAllocs()
	for b.Loop() {
		LeafOf(at)
	}
}
