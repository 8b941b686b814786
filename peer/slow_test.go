package peer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	libnet "github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// slowHost is a host that reads its streams slowly, until it is cured.
type slowHost struct {
	host.Host
	cured chan struct{}
}

func (h slowHost) NewStream(ctx context.Context, id libpeer.ID, protocols ...protocol.ID) (
	libnet.Stream, error) {
	s, err := h.Host.NewStream(ctx, id, protocols...)
	return slowStream{s, h.cured}, err
}

func (h slowHost) SetStreamHandler(id protocol.ID, handle libnet.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s libnet.Stream) { handle(slowStream{s, h.cured}) })
}

type slowStream struct {
	libnet.Stream
	cured chan struct{}
}

// Read reads 10 KB a second.
func (s slowStream) Read(b []byte) (int, error) {
	const piece = 1 << 10
	pause := time.NewTimer(time.Second * piece / 10_000)
	defer pause.Stop()
	select {
	case <-pause.C:
		b = b[:min(len(b), piece)]
	case <-s.cured:
	}
	return s.Stream.Read(b)
}

// links returns how many neighbours have said what they have.
func links(p *Peer) (n int) {
	_ = own(p).call(func(l *loop) {
		for id := range l.links {
			if _, greeted := l.engine.Known(id); greeted {
				n++
			}
		}
	})
	return n
}

// lacks returns how many writes of another peer a peer has not.
func lacks(t testing.TB, p, other *Peer) (n uint64) {
	t.Helper()
	ours, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := other.Status()
	if err != nil {
		t.Fatal(err)
	}
	for id, count := range theirs.VersionVector {
		n += count - ours.VersionVector[id]
	}
	return n
}

// memoryInUse returns the bytes of what lives in the heap, and of the goroutines' stacks.
func memoryInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestAPeerThatReadsSlowlySlowsNobodyAndTakesNoMemory(t *testing.T) {
	const (
		keys, size = 64, 4 << 10
		together   = 8         // keys that a transaction writes
		log        = 4 << 20   // bytes of deltas that each peer keeps
		written    = 256 << 20 // bytes, of which no more than the log and keys*size stay
		allowed    = 96 << 20  // bytes of memory: three logs, in memory and cut by checkpoints, each with 32 MiB by then
	)
	c := newCluster(t)
	config := func() Config {
		cfg := c.config("")
		cfg.Memory, cfg.LogBytes = true, log
		return cfg
	}
	writer := c.start(config())
	reader := c.start(config())
	cfg := config()
	slow, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cured := make(chan struct{})
	slow.net.host = slowHost{slow.net.host, cured}
	slow.start()
	c.adopt(slow, cfg)
	for _, p := range c.peers {
		eventually(t, "all are linked", func() bool { return links(p) == 2 })
	}

	value := make([]byte, size)
	write := func(bytes int) {
		for i := 0; i < bytes/size; i += together {
			mustUpdate(t, writer, func(tx *Tx) error {
				for n := range together {
					if err := tx.String(fmt.Sprint("k", (i+n)%keys)).Set(value); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	write(2 * log)
	before := memoryInUse()
	write(written)
	c.converge(writer, reader)
	eventually(t, "what was written is no longer in memory", func() bool { // but for checkpoints on their way
		used := memoryInUse() - before
		t.Logf("%d bytes of memory after %d were written, limit %d", used, written, allowed)
		return used <= allowed
	})
	if lacking := lacks(t, slow, writer); lacking == 0 {
		t.Error("the slow peer was not slow")
	}
	if n := links(writer); n != 2 {
		t.Errorf("the writer has %d links: the slow peer is to be served on", n)
	}
	close(cured)
	c.converge(writer, reader, slow)
}

// BenchmarkSlowNeighbour measures how long a write takes until another peer has it, one after the
// other, while a third one reads 10 KB a second, and while it reads what there is. ms is the 99th
// percentile.
func BenchmarkSlowNeighbour(b *testing.B) {
	for _, slow := range []bool{false, true} {
		b.Run(fmt.Sprint("slow=", slow), func(b *testing.B) { benchmarkNeighbour(b, slow) })
	}
}

func benchmarkNeighbour(b *testing.B, slow bool) {
	c := newCluster(b)
	config := func() Config {
		cfg := c.config("")
		cfg.Memory = true
		return cfg
	}
	writer, reader := c.start(config()), c.start(config())
	cfg := config()
	third, err := open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	cured := make(chan struct{})
	third.net.host = slowHost{third.net.host, cured}
	third.start()
	c.adopt(third, cfg)
	for _, p := range c.peers {
		eventually(b, "all are linked", func() bool { return links(p) == 2 })
	}
	if !slow {
		close(cured)
	}
	value, times := make([]byte, 1<<10), make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		token, err := writer.UpdateToken(b.Context(), func(tx *Tx) error {
			return tx.String(fmt.Sprint("k", i%1000)).Set(value)
		})
		if err == nil {
			err = reader.Wait(b.Context(), token)
		}
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	if lacking := lacks(b, third, writer); slow && lacking == 0 {
		b.Log("it kept up: more writes are needed")
	}
}
