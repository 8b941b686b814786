//go:build !race

package resp

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// The race detector takes several times the memory that is measured here.

// dialPatiently is dial for what takes as long as the machine needs.
func dialPatiently(t *testing.T, address string) *peer {
	t.Helper()
	p := dial(t, address)
	if err := p.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// crowd has n clients send the same, and keeps them without reading a reply.
func crowd(t *testing.T, address string, n int, send []byte) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		p := dialPatiently(t, address)
		all.Go(func() { _, _ = p.Write(send) }) // those that are closed meanwhile fail
	}
	all.Wait()
}

func TestAllClientsTogetherHoldABoundedMemory(t *testing.T) {
	s, address := startServer(t, Config{DB: newMemory()})
	polite := dialPatiently(t, address)
	const members, size = 600, 60_000
	for i := range members {
		polite.send([]string{"SADD", "s", fmt.Sprintf("%0*d", size, i)})
		polite.reply()
	}
	half := encodeCommand("DEL", strings.Repeat("k", MaxValue), strings.Repeat("k", MaxValue),
		strings.Repeat("k", MaxValue), strings.Repeat("k", MaxValue))
	for _, test := range []struct {
		name    string
		clients int
		send    []byte
	}{
		{"replies that nobody reads", 12, encodeCommand("SMEMBERS", "s")},
		{"halves of commands", 120, half[:len(half)-10]},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, evicted := memoryInUse(), s.counts.evicted.Load()
			crowd(t, address, test.clients, test.send)
			eventually(t, "clients are closed, and the rest is within the limit", func() bool {
				return s.counts.evicted.Load() > evicted && s.held.Load() <= MaxHeld
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
