package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
)

// benchCells is how many cells the large stores of benchmarks hold: a tenth with -short.
func benchCells() int {
	if testing.Short() {
		return 100_000
	}
	return 1_000_000
}

// benchStores opens an empty store of each kind.
var benchStores = []struct {
	name string
	open func(b *testing.B) store.Store
}{
	{"mem", func(*testing.B) store.Store { return mem.New() }},
	{"badger", func(b *testing.B) store.Store {
		s, err := badger.Open(filepath.Join(b.TempDir(), "store"), badger.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}},
}

var value = make([]byte, 64)

// benchReplica is a replica without a network around it.
type benchReplica struct {
	*Engine
	b     *testing.B
	store store.Store
}

func newBenchReplica(b *testing.B, s store.Store) *benchReplica {
	b.Helper()
	r, err := open(s, mem.NewLog(), Config{NewID: func() crdt.ReplicaID { return crdt.ReplicaID(rand.Uint64() | 1) }})
	if err != nil {
		b.Fatal(err)
	}
	return &benchReplica{newEngine(r), b, s}
}

func (r *benchReplica) close() {
	if err := r.store.Close(); err != nil {
		r.b.Fatal(err)
	}
}

// set writes the keys of some numbers.
func (r *benchReplica) set(numbers []int) {
	r.b.Helper()
	for len(numbers) > 0 {
		g := r.newGroup(time.Now())
		for !g.full() && len(numbers) > 0 {
			n := min(1000, len(numbers))
			err := g.update(func(tx *Tx) error {
				for _, i := range numbers[:n] {
					if err := Fields(tx).String(fmt.Sprintf("user:%08d", i)).Set(value); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				r.b.Fatal(err)
			}
			numbers = numbers[n:]
		}
		if _, err := g.Commit(false); err != nil {
			r.b.Fatal(err)
		}
	}
}

// conversation counts what a repair sends and receives, in frames as they go over a stream.
type conversation struct{ bytes, messages int }

// repair repairs r from another replica, without a network.
func (r *benchReplica) repair(from *benchReplica) (c conversation) {
	r.b.Helper()
	source, err := from.Pin()
	if err != nil {
		r.b.Fatal(err)
	}
	defer source.Close()
	ask := func(q antientropy.Request) (resp antientropy.Response, err error) {
		out := antientropy.EncodeRequest(q)
		if q, err = antientropy.DecodeRequest(out); err != nil {
			return resp, err
		}
		if resp, err = antientropy.Serve(source, q); err != nil {
			return resp, err
		}
		in := antientropy.EncodeResponse(resp)
		c.bytes += len(out) + len(in) + 2*4
		c.messages += 2
		return antientropy.DecodeResponse(in)
	}
	r.Connect("source", 1)
	r.startPull("source")
	p := r.pull
	for question, asks := p.Start(), true; ; {
		if asks {
			answer, err := ask(question)
			if err == nil {
				question, asks, err = p.Go(answer, r.stage)
			}
			if err != nil {
				r.b.Fatal(err)
			}
			continue
		}
		r.Take(p)
		for begun := false; !begun; begun = p.repair != nil || p.Over { // what the last one left is first
			r.settle()
			if err := r.carry(); err != nil {
				r.b.Fatal(err)
			}
		}
		if p.Over {
			break
		}
		if question, asks, err = p.Resume(r.stage); err != nil {
			r.b.Fatal(err)
		}
	}
	if p.Err != nil {
		r.b.Fatal(p.Err)
	}
	ours, theirs, _ := r.Digest()
	if a, b, _ := from.Digest(); a != ours || b != theirs {
		r.b.Fatal("the repair left a difference")
	}
	return c
}

// upTo returns the numbers from 0 on.
func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// BenchmarkBootstrap fills an empty replica from one with a million cells of 64 bytes, staging and
// flip included.
func BenchmarkBootstrap(b *testing.B) {
	for _, kind := range benchStores {
		b.Run(kind.name, func(b *testing.B) {
			cells := benchCells()
			source := newBenchReplica(b, kind.open(b))
			defer source.close()
			source.set(upTo(cells))
			var c conversation
			for b.Loop() {
				b.StopTimer()
				empty := newBenchReplica(b, kind.open(b))
				b.StartTimer()
				c = empty.repair(source)
				b.StopTimer()
				empty.close()
				b.StartTimer()
			}
			rate := float64(cells*b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "cells/s")
			b.ReportMetric(float64(c.bytes)/float64(cells), "B/cell")
			b.ReportMetric(float64(c.messages), "messages")
		})
	}
}

// BenchmarkRepair repairs some differences among a million cells of 64 bytes by the Merkle tree. Bytes
// count both directions, the entries that were missing included.
func BenchmarkRepair(b *testing.B) {
	for _, kind := range benchStores {
		b.Run(kind.name, func(b *testing.B) {
			cells := benchCells()
			source := newBenchReplica(b, kind.open(b))
			defer source.close()
			source.set(upTo(cells))
			behind := newBenchReplica(b, kind.open(b))
			defer behind.close()
			behind.repair(source)
			var seed [32]byte
			binary.LittleEndian.PutUint64(seed[:], 1)
			rng := rand.New(rand.NewChaCha8(seed))
			for _, differences := range []int{10, 100, 1000} {
				b.Run(fmt.Sprint(differences), func(b *testing.B) {
					var c conversation
					for b.Loop() {
						b.StopTimer()
						source.set(rng.Perm(cells)[:differences])
						b.StartTimer()
						c = behind.repair(source)
					}
					b.ReportMetric(float64(c.bytes)/float64(differences), "B/difference")
					b.ReportMetric(float64(c.messages), "messages")
				})
			}
		})
	}
}
