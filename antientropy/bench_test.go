package antientropy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// populate returns a replica with n entries of 64 bytes.
func populate(id crdt.ReplicaID, n int) *replica {
	r := newReplica(id)
	for i := range n {
		r.put(benchAddress(i), make([]byte, 64))
	}
	return r
}

func benchAddress(i int) dotted.Address {
	return dotted.KeyAddress(fmt.Sprintf("user:%08d", i)).Type(crdt.TypeString)
}

// BenchmarkPull reports, for some numbers of differences among 100,000 entries, the bytes that a
// session sends and receives for each, payloads included, and its round trips.
func BenchmarkPull(b *testing.B) {
	const entries, seed = 100_000, 1
	old := populate(0xaaaaaaaaaaaaaaaa, entries)
	local := old.pin()
	for _, differences := range []int{1, 10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(differences), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(seed, 0))
			newer := old.clone()
			newer.id = 0xbbbbbbbbbbbbbbbb
			for _, i := range rng.Perm(entries)[:differences] {
				newer.put(benchAddress(i), make([]byte, 64))
			}
			source := newer.pin()
			b.ResetTimer()
			var c *conversation
			for b.Loop() {
				c = converse(local, source, chunkSize)
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
			if got := c.puller.Result(); got.Added != differences || got.Removed != differences {
				b.Fatalf("added %d, removed %d", got.Added, got.Removed)
			}
			b.ReportMetric(float64(c.sent+c.got)/float64(differences), "B/difference")
			b.ReportMetric(float64(c.trips), "trips")
		})
	}
}

// BenchmarkBootstrap copies 100,000 entries of 64 bytes into an empty replica, staging included.
func BenchmarkBootstrap(b *testing.B) {
	const entries = 100_000
	source := populate(1, entries).pin()
	local := newReplica(2).pin()
	b.ResetTimer()
	var c *conversation
	for b.Loop() {
		c = converse(local, source, chunkSize)
		if err := c.run(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(c.puller.Result().Bytes)
	b.ReportMetric(float64(c.got)/entries, "B/entry")
	b.ReportMetric(float64(c.trips), "trips")
}
