//go:build !race

package resp

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The race detector takes several times the memory that is measured here.

// crowd has n clients send the same, and keeps them without reading a reply.
func crowd(t *testing.T, address string, n int, send []byte) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		p := dial(t, address)
		all.Go(func() { _, _ = p.Write(send) }) // those that are closed meanwhile fail
	}
	all.Wait()
}

func TestAllClientsTogetherHoldABoundedMemory(t *testing.T) {
	eachWay(t, testAllClientsTogetherHoldABoundedMemory)
}

func testAllClientsTogetherHoldABoundedMemory(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	polite := dial(t, address)
	const members, size = 600, 60_000
	for i := range members {
		polite.send([]string{"SADD", "s", fmt.Sprintf("%0*d", size, i)})
		polite.reply()
	}
	whole := slices.Concat(encodeCommand("MULTI"), encodeCommand("SMEMBERS", "s"), encodeCommand("EXEC"))
	const mib = 1 << 20
	half := encodeCommand("DEL", strings.Repeat("k", mib), strings.Repeat("k", mib), strings.Repeat("k", mib),
		strings.Repeat("k", mib))
	for _, test := range []struct {
		name    string
		clients int
		send    []byte
	}{
		{"replies that nobody reads", 12, whole},
		{"halves of commands", 120, half[:len(half)-10]},
	} {
		t.Run(test.name, func(t *testing.T) {
			closed := func() int64 { return s.counts.evicted.Load() + s.counts.unread.Load() }
			before, already := memoryInUse(), closed()
			crowd(t, address, test.clients, test.send)
			eventually(t, "clients are closed, and the rest is within the limit", func() bool {
				return closed() > already && s.held.Load() <= MaxHeld
			})
			eventually(t, "the memory is free", func() bool {
				return memoryInUse()-before < MaxHeld*5/4
			})
			polite.expect("SCARD s", fmt.Sprint(":", members))
		})
	}
	if info := polite.ask("INFO stats"); strings.Contains(info, "evicted_clients:0") {
		t.Errorf("INFO does not tell of it: %s", info)
	}
	polite.expect("QUIT", "+OK")
}
