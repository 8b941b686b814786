package resp

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// onPipe runs fn with the far end of a connection that is served under a clock of its own.
func onPipe(t *testing.T, fn func(t *testing.T, s *Server, far net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{DB: newMemory()})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		var running sync.WaitGroup
		running.Go(func() {
			newClient(s, near, 1).serve(t.Context())
			near.Close()
		})
		fn(t, s, far)
		far.Close()
		running.Wait()
		if left := s.held.Load(); left != 0 {
			t.Errorf("%d bytes are still held", left)
		}
	})
}

// largeReplies are commands whose replies are n times more than what is executed at once.
func largeReplies(n int) []byte {
	echo := encodeCommand("ECHO", strings.Repeat("v", MaxBatchOutput))
	return bytes.Repeat(echo, n)
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	onPipe(t, func(t *testing.T, s *Server, far net.Conn) {
		began := time.Now()
		sent, err := far.Write(largeReplies(10))
		if after := time.Since(began); err == nil || after < WriteTimeout || after > WriteTimeout+writeSlack {
			t.Errorf("closed after %v with %v, want %v", after, err, WriteTimeout)
		}
		if sent > 3*MaxBatchOutput {
			t.Errorf("%d bytes of commands were taken before a reply was read", sent)
		}
		if n := s.counts.unread.Load(); n != 1 {
			t.Errorf("%d clients were counted, want 1", n)
		}
	})
}

func TestAClientThatReadsSlowlyGetsItsReplies(t *testing.T) {
	onPipe(t, func(t *testing.T, s *Server, far net.Conn) {
		const replies = 3
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := far.Write(largeReplies(replies)); err != nil {
				t.Error(err)
			}
		})
		want := replies * (MaxBatchOutput + len("$1048576\r\n\r\n"))
		tick := time.NewTicker(WriteTimeout - time.Second)
		defer tick.Stop()
		for got := 0; got < want; {
			<-tick.C
			n, err := io.ReadFull(far, make([]byte, min(writeSize, want-got)))
			if got += n; err != nil {
				t.Fatalf("closed after %d of %d bytes: %v", got, want, err)
			}
		}
		sending.Wait()
	})
}

// busyDB keeps its views until it is told.
type busyDB struct {
	*memory
	running atomic.Int64
	leave   chan struct{}
}

func (db *busyDB) View(ctx context.Context, fn func(Tx) error) error {
	db.running.Add(1)
	<-db.leave
	return db.memory.View(ctx, fn)
}

func TestFewScansRunAtOnceAndOtherReadsBesideThem(t *testing.T) {
	db := &busyDB{memory: newMemory(), leave: make(chan struct{})}
	_, address := startServer(t, Config{DB: db})
	var scanning []*peer
	for range 2 * MaxScans {
		p := dial(t, address)
		p.send([]string{"KEYS", "*"})
		scanning = append(scanning, p)
	}
	eventually(t, "scans run", func() bool { return db.running.Load() == MaxScans })
	reader := dial(t, address)
	reader.send([]string{"GET", "a"})
	eventually(t, "a read runs beside them", func() bool { return db.running.Load() > MaxScans })
	if n := db.running.Load(); n != MaxScans+1 {
		t.Errorf("%d views run, want %d scans and a read", n, MaxScans)
	}
	close(db.leave)
	for _, p := range scanning {
		if got := p.reply(); got != "*0" {
			t.Errorf("KEYS answered %s", got)
		}
	}
	if got := reader.reply(); got != "$-1" {
		t.Errorf("GET answered %s", got)
	}
}
