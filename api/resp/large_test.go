//go:build !race

package resp

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"runtime"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestALargeStringIsSentInParts which the server makes as the client takes them. What is allocated
// is what the store reads and the string, twice if memory did not have it: when the reply turned
// out to be long, and to send it. The least of some times counts, as a checkpoint may be under way.
func TestALargeStringIsSentInParts(t *testing.T) {
	const slack = 6 << 20
	db := newMemory(t)
	value := bytes.Repeat([]byte("0123456789abcdef"), MaxValue/16)
	set := func(tx *embedded.Tx) error { return tx.String("k").Set(value) }
	if err := db.UpdateAll(t.Context(), []func(*embedded.Tx) error{set}); err != nil {
		t.Fatal(err)
	}
	for _, goroutines := range []bool{false, true} {
		s, address := startServer(t, Config{db: db, goroutines: goroutines})
		p := dial(t, address)
		live, all := int64(math.MaxInt64), int64(math.MaxInt64)
		for range 3 {
			l, a := weighedGet(t, s, p, value)
			live, all = min(live, l), min(all, a)
		}
		if live > MaxValue+slack || all > 4*MaxValue+slack {
			t.Errorf("for a string of %d KiB %d were allocated, and %d are live while it is sent",
				len(value)>>10, all>>10, live>>10)
		}
	}
}

// weighedGet reads a large string, and returns how many bytes more are live, and were allocated,
// while the server waits for the client to take it.
func weighedGet(t *testing.T, s *Server, p *peer, value []byte) (live, all int64) {
	t.Helper()
	p.sendRaw(encodeCommand("PING"))
	expectBytes(t, p.in, []byte("+PONG\r\n"))
	before := inMemory()
	p.sendRaw(append(encodeCommand("GET", "k"), encodeCommand("PING")...))
	expectBytes(t, p.in, fmt.Appendf(nil, "$%d\r\n", len(value)))
	expectBytes(t, p.in, value[:MaxBatchOutput]) // what is left is more than the sockets hold
	eventually(t, "the value counts as held while it is sent", func() bool {
		return s.held.Load() >= MaxValue
	})
	now := inMemory()
	for rest := value[MaxBatchOutput:]; len(rest) > 0; rest = rest[MaxBatchOutput:] {
		expectBytes(t, p.in, rest[:MaxBatchOutput])
	}
	expectBytes(t, p.in, []byte("\r\n+PONG\r\n"))
	return int64(now.HeapAlloc - before.HeapAlloc), int64(now.TotalAlloc - before.TotalAlloc)
}

// inMemory returns what memory is allocated, of which only what is used is live.
func inMemory() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

func expectBytes(t *testing.T, from io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes are not what was to come: %v", len(got), err)
	}
}
