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

	embedded "github.com/peerd/peerd/peer"
)

// largeReplies are commands whose replies are n times more than what is executed at once.
func largeReplies(n int) []byte {
	echo := encodeCommand("ECHO", strings.Repeat("v", MaxBatchOutput))
	return bytes.Repeat(echo, n)
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) { eachWay(t, testAClientThatDoesNotReadIsClosed) }

func testAClientThatDoesNotReadIsClosed(t *testing.T) {
	onPipes(t, Config{}, nil, func(t *testing.T, s *Server, connect func() *peer) {
		other, deaf := connect(), connect()
		other.expect("PING", "+PONG")
		began := time.Now()
		sent, err := deaf.Write(largeReplies(10))
		if after := time.Since(began); err == nil || after < WriteTimeout || after > WriteTimeout+writeSlack {
			t.Errorf("closed after %v with %v, want %v", after, err, WriteTimeout)
		}
		if sent > 3*MaxBatchOutput {
			t.Errorf("%d bytes of commands were taken before a reply was read", sent)
		}
		if n := s.counts.unread.Load(); n != 1 {
			t.Errorf("%d clients were counted, want 1", n)
		}
		other.expect("PING", "+PONG")
	})
}

func TestAClientThatReadsSlowlyGetsItsReplies(t *testing.T) {
	eachWay(t, testAClientThatReadsSlowlyGetsItsReplies)
}

func testAClientThatReadsSlowlyGetsItsReplies(t *testing.T) {
	onPipes(t, Config{}, nil, func(t *testing.T, _ *Server, connect func() *peer) {
		slow := connect()
		const replies = 3
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := slow.Write(largeReplies(replies)); err != nil {
				t.Error(err)
			}
		})
		want := replies * (MaxBatchOutput + len("$1048576\r\n\r\n"))
		tick := time.NewTicker(WriteTimeout - time.Second)
		defer tick.Stop()
		for got := 0; got < want; {
			<-tick.C
			n, err := io.ReadFull(slow.Conn, make([]byte, min(writeSize+sentAhead, want-got)))
			if got += n; err != nil {
				t.Fatalf("closed after %d of %d bytes: %v", got, want, err)
			}
		}
		sending.Wait()
		slow.expect("PING", "+PONG")
	})
}

// busyDB keeps its views until it is told.
type busyDB struct {
	*memory
	running atomic.Int64
	leave   chan struct{}
}

func (db *busyDB) View(ctx context.Context, fn func(*embedded.Tx) error) error {
	db.running.Add(1)
	<-db.leave
	return db.memory.View(ctx, fn)
}

func (db *busyDB) Read(fns []func(*embedded.Tx) error) []error {
	db.running.Add(1)
	return db.memory.Read(fns)
}

func TestFewScansRunAtOnceAndOtherReadsBesideThem(t *testing.T) {
	eachWay(t, testFewScansRunAtOnceAndOtherReadsBesideThem)
}

func testFewScansRunAtOnceAndOtherReadsBesideThem(t *testing.T) {
	scan, read := []string{"KEYS", "*"}, []string{"GET", "a"}
	multi, exec := []string{"MULTI"}, []string{"EXEC"}
	for name, test := range map[string]struct{ scan, read [][]string }{
		"alone":         {[][]string{scan}, [][]string{read}},
		"within MULTI":  {[][]string{multi, scan, exec}, [][]string{multi, read, exec}},
		"behind others": {[][]string{multi, read, scan, exec}, [][]string{multi, read, read, exec}},
	} {
		t.Run(name, func(t *testing.T) {
			db := &busyDB{memory: newMemory(t), leave: make(chan struct{})}
			s, address := startServer(t, Config{db: db})
			ask := func(commands [][]string) *peer {
				p := dial(t, address)
				p.send(commands...)
				return p
			}
			var scanning []*peer
			for range 2 * MaxScans {
				scanning = append(scanning, ask(test.scan))
			}
			eventually(t, "scans run", func() bool { return db.running.Load() >= MaxScans })
			if n := len(s.scans); n != MaxScans {
				t.Errorf("%d places for scans are taken, want %d", n, MaxScans)
			}
			reader := ask(test.read)
			eventually(t, "a read runs beside them", func() bool { return db.running.Load() > MaxScans })
			if n := db.running.Load(); n != MaxScans+1 {
				t.Errorf("%d views run, want %d scans and a read", n, MaxScans)
			}
			close(db.leave)
			last := func(p *peer, commands [][]string) string {
				for range len(commands) - 1 {
					p.reply()
				}
				return p.reply()
			}
			for _, p := range scanning {
				if got := last(p, test.scan); !strings.HasSuffix(got, "*0") {
					t.Errorf("KEYS answered %s", got)
				}
			}
			if got := last(reader, test.read); !strings.HasSuffix(got, "$-1") {
				t.Errorf("GET answered %s", got)
			}
		})
	}
}

// register adds a client to a server that does nothing but hold memory. Its connection is given.
func register(t *testing.T, s *Server, conn net.Conn, held int) *client {
	t.Helper()
	c := newClient(s, conn, s.counts.clients.Add(1))
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
	c.note(held)
	return c
}

// idle returns a connection on which nothing happens.
func idle(t *testing.T) net.Conn {
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	return near
}

// TestWhatAWaitingClientHoldsIsBounded: the room for the rest of a command grows when its client is
// waited for, and nothing may come after that.
func TestWhatAWaitingClientHoldsIsBounded(t *testing.T) {
	eachWay(t, testWhatAWaitingClientHoldsIsBounded)
}

func testWhatAWaitingClientHoldsIsBounded(t *testing.T) {
	set := encodeCommand("SET", "k", strings.Repeat("v", MaxValue))
	const part, more = 300_000, 1000
	for _, by := range []string{"file descriptor", "blocking read"} {
		if by == "blocking read" && looped(t) {
			continue // there is none
		}
		t.Run(by, func(t *testing.T) {
			s, address := startServer(t, Config{db: newMemory(t)})
			p := dial(t, address)
			if by == "blocking read" {
				near, far := net.Pipe()
				s.start(t.Context(), near)
				p = newPipePeer(t, far)
			}
			p.sendRaw(set[:part])
			eventually(t, "the server waits with room for an eighth more", func() bool {
				return s.held.Load() >= part*9/8
			})
			before := s.held.Load()
			other := register(t, s, idle(t), MaxHeld-int(before)-more)
			if other.evicted() {
				t.Fatal("closed while all hold less than the limit")
			}
			p.sendRaw(set[part : 3*part]) // for which there must be another buffer
			eventually(t, "the one that holds most is closed", other.evicted)
			eventually(t, "the rest is within the limit", func() bool {
				held := s.held.Load()
				return held > before && held <= 2*3*part+readSize
			})
			p.sendRaw(set[3*part:])
			if got := p.reply(); got != "+OK" {
				t.Errorf("SET answered %s", got)
			}
		})
	}
}

func TestAClientThatTookItsRepliesHoldsThemNoLonger(t *testing.T) {
	eachWay(t, testAClientThatTookItsRepliesHoldsThemNoLonger)
}

func testAClientThatTookItsRepliesHoldsThemNoLonger(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.sendRaw(largeReplies(1))
	p.expectText(strings.Repeat("v", MaxBatchOutput))
	eventually(t, "nothing is held for a client that waits for nothing", func() bool { return s.held.Load() == 0 })
}

// TestNobodyIsClosedForMemoryThatWasGivenBack stops a client between the two steps of giving memory
// back, where a busy machine may stop it.
func TestNobodyIsClosedForMemoryThatWasGivenBack(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	large := register(t, s, idle(t), MaxHeld*3/4)
	small := register(t, s, idle(t), MaxHeld/8)
	large.held.Store(0) // the server does not know yet
	if !small.hold(MaxHeld / 2) {
		t.Error("a client was closed while all held half of the limit")
	}
	if third := register(t, s, idle(t), 0); !third.hold(MaxHeld/2) || small.evicted() || large.evicted() {
		t.Error("a client was closed while all held the limit and no more")
	}
	if n := s.counts.evicted.Load(); n != 0 {
		t.Errorf("%d clients were closed, want none", n)
	}
}

// TestWhoShallStayIsClosedAfterAllOthers for what it holds, by CLIENT NO-EVICT: even after one that
// holds less.
func TestWhoShallStayIsClosedAfterAllOthers(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	stays, large := register(t, s, idle(t), MaxHeld/2), register(t, s, idle(t), MaxHeld/8)
	small, none := register(t, s, idle(t), MaxHeld/16), register(t, s, idle(t), 0)
	stays.noEvict.Store(true)
	if !stays.hold(MaxHeld*15/16) || !large.evicted() || small.evicted() {
		t.Error("another was closed than the one that holds most of those that may be")
	}
	if stays.hold(MaxHeld+1) || !small.evicted() || none.evicted() {
		t.Error("who shall stay was not closed though it holds too much alone, or one that holds nothing was")
	}
}

// expelling is a connection whose client is expelled just before it sets a deadline for writing.
type expelling struct {
	net.Conn
	expel func()
}

func (c *expelling) SetWriteDeadline(t time.Time) error {
	c.expel()
	return c.Conn.SetWriteDeadline(t)
}

func TestADeadlineThatIsSetAfterwardsDoesNotKeepAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{db: newMemory(t)})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		defer far.Close()
		conn := &expelling{Conn: near}
		c := register(t, s, conn, 0)
		conn.expel = func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.expel(c)
		}
		began := time.Now()
		var running sync.WaitGroup
		running.Go(func() { c.serve(t.Context()) })
		if _, err := far.Write(encodeCommand("PING")); err != nil {
			t.Fatal(err)
		}
		running.Wait()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("an expelled client was served for another %v", waited)
		}
	})
}
