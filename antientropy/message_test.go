package antientropy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
)

// sample is a message of which the encoding is pinned.
type sample struct {
	name    string
	encoded []byte
	again   func(data []byte) ([]byte, error) // decodes and encodes
}

func requestAgain(data []byte) ([]byte, error) {
	q, err := DecodeRequest(data)
	if err != nil {
		return nil, err
	}
	return EncodeRequest(q), nil
}

func responseAgain(data []byte) ([]byte, error) {
	p, err := DecodeResponse(data)
	if err != nil {
		return nil, err
	}
	return EncodeResponse(p), nil
}

func samples() []sample {
	at := dotted.KeyAddress("key").Type(crdt.TypeString)
	elem := dotted.KeyAddress("set").Type(crdt.TypeSet).Name("one").Type(crdt.TypeFlag)
	dot := crdt.Dot{Replica: 0x0123456789abcdef, Counter: 300}
	parts := []Part{
		{at, dotted.Cell{
			{Dot: crdt.Dot{Replica: 1, Counter: 1}},
			{Dot: dot, Payload: []byte("value")},
		}},
		{elem, dotted.Cell{{Dot: crdt.Dot{Replica: 2, Counter: 9}, Payload: []byte{0}}}},
	}
	f := Fingerprint{0x0011223344556677, 0x8899aabbccddeeff}
	requests := []struct {
		name string
		Request
	}{
		{"pin", Request{Kind: KindPin}},
		{"scan", Request{Kind: KindScan}},
		{"scan on", Request{Kind: KindScan, After: Cursor{at, dot}}},
		{"nodes", Request{Kind: KindNodes, Level: 3, Nodes: []int{0, 17, 4095}}},
		{"leaves", Request{Kind: KindLeaves, Leaves: []int{5, 65535}, After: Cursor{at, dot},
			Have: [][]uint64{{1, 0x0011223344556677}, nil}, Lacks: crdt.VersionVector{1: 7, 0xffffffffffffffff: 1 << 40}}},
		{"bases", Request{Kind: KindBases, Held: crdt.VersionVector{1: 7}, Skip: 300}},
	}
	responses := []struct {
		name string
		Response
	}{
		{"pin of nothing", Response{Kind: KindPin}},
		{"pin", Response{Kind: KindPin, Root: f, Context: crdt.VersionVector{1: 7, 2: 9},
			Heads: delta.Heads{1: 70, 2: 90}}},
		{"scan of nothing", Response{Kind: KindScan}},
		{"scan", Response{Kind: KindScan, Parts: parts[1:], More: true}},
		{"nodes", Response{Kind: KindNodes, Children: append(make([]uint64, Fanout+3), append(make([]uint64, Fanout-4), f.Hi)...)}},
		{"leaves", Response{Kind: KindLeaves, Parts: parts, Lacking: [][]int{nil, {0, 300}}}},
		{"bases", Response{Kind: KindBases, More: true, Tables: []delta.Table{
			{Dot: dot, Bases: []delta.Base{{Replica: 2, Last: 9, Head: 90}, {Replica: 3, Last: 1 << 33, Head: 1}}}}}},
	}
	var all []sample
	for _, q := range requests {
		all = append(all, sample{"request " + q.name, EncodeRequest(q.Request), requestAgain})
	}
	for _, p := range responses {
		all = append(all, sample{"response " + p.name, EncodeResponse(p.Response), responseAgain})
	}
	return all
}

func TestMessagesEncodeAsTheyAlwaysDid(t *testing.T) {
	var lines strings.Builder
	for _, s := range samples() {
		fmt.Fprintf(&lines, "%s: %s\n", s.name, hex.EncodeToString(s.encoded))
	}
	golden.Text(t, "messages.golden", lines.String(), "the format changed")
}

func TestMessagesDecodeToWhatWasEncoded(t *testing.T) {
	for _, s := range samples() {
		got, err := s.again(s.encoded)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if !bytes.Equal(got, s.encoded) {
			t.Errorf("%s: %x became %x", s.name, s.encoded, got)
		}
		if err := wire.Decode(s.encoded, func(r *wire.Reader) { r.Skip(1) }); err != nil {
			t.Errorf("%s: not as many values as its arrays say: %v", s.name, err)
		}
	}
}

func TestFieldsOfNewerVersionsAreSkipped(t *testing.T) {
	for _, s := range samples() {
		longer := bytes.Clone(s.encoded)
		longer[0] += 2 // the array's length, in the low bits
		longer = append(longer, 0x92, 0xc4, 1, 'x', 0xc0, 0x07)
		got, err := s.again(longer)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if !bytes.Equal(got, s.encoded) {
			t.Errorf("%s: %x became %x", s.name, s.encoded, got)
		}
	}
}

func TestCutMessagesAreRefused(t *testing.T) {
	for _, s := range samples() {
		for n := range s.encoded {
			if _, err := s.again(s.encoded[:n]); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s: %d of %d bytes: %v", s.name, n, len(s.encoded), err)
			}
		}
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	message := func(k Kind, fields int, fn func(w *wire.Writer)) []byte {
		return wire.Encode(func(w *wire.Writer) {
			begin(w, k, fields)
			fn(w)
		})
	}
	nothing := func(*wire.Writer) {}
	at := string(dotted.KeyAddress("k").Type(crdt.TypeString))
	for name, data := range map[string][]byte{
		"empty":        nil,
		"no kind":      {0x90},
		"unknown kind": message(0x7f, 0, nothing),
		"huge kind":    {0x91, 0xcd, 0x01, byte(KindPin)},
		"no fields":    message(KindNodes, 0, nothing),
		"too large":    make([]byte, MaxMessage+1),
		"level": message(KindNodes, 2, func(w *wire.Writer) {
			w.Uint(Levels)
			w.Array(0)
		}),
		"index": message(KindNodes, 2, func(w *wire.Writer) {
			w.Uint(0)
			writeIndexes(w, []int{Leaves})
		}),
		"cut children": message(KindNodes, 1, func(w *wire.Writer) { w.Bytes([]byte{0, 1, 2}) }),
		"odd cells": message(KindScan, 2, func(w *wire.Writer) {
			w.Array(1)
			w.String(at)
			w.Bool(false)
		}),
		"no entries": message(KindScan, 2, func(w *wire.Writer) {
			w.Array(2)
			w.String(at)
			w.Array(0)
			w.Bool(false)
		}),
		"no address": message(KindScan, 2, func(w *wire.Writer) {
			writeParts(w, []Part{{"k", dotted.Cell{{Dot: crdt.Dot{Replica: 1, Counter: 1}}}}})
			w.Bool(false)
		}),
		"payload": message(KindScan, 2, func(w *wire.Writer) {
			large := dotted.Entry{Payload: make([]byte, dotted.MaxPayload+1)}
			writeParts(w, []Part{{dotted.Address(at), dotted.Cell{large}}})
			w.Bool(false)
		}),
	} {
		if _, err := DecodeRequest(data); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: as a request: %v", name, err)
		}
		if _, err := DecodeResponse(data); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: as a response: %v", name, err)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) { fuzz(f, "request", requestAgain) }

func FuzzDecodeResponse(f *testing.F) { fuzz(f, "response", responseAgain) }

// fuzz checks that what decodes has one encoding, which decodes to the same.
func fuzz(f *testing.F, prefix string, again func([]byte) ([]byte, error)) {
	for _, s := range samples() {
		if strings.HasPrefix(s.name, prefix) {
			f.Add(s.encoded)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := again(data)
		if err != nil {
			return
		}
		twice, err := again(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x, then %x, error %v", data, once, twice, err)
		}
	})
}
