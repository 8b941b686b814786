package resp

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInTheLoopALongReplyHasToBeTaken: a part of it within the time, not only a little.
func TestInTheLoopALongReplyHasToBeTaken(t *testing.T) {
	_, s, address, clock, other := probed(t)
	n, element := beyondMaxReply(other, "RPUSH", "k")
	size := n * (len(element) + len("000000$60006\r\n\r\n"))
	for _, test := range []struct {
		piece int
		every time.Duration
		stays bool
	}{
		{MaxBatchOutput / 2, WriteTimeout / 8, true},
		{MaxBatchOutput / 8, WriteTimeout / 3, false},
	} {
		slow := dial(t, address)
		if err := slow.Conn.(*net.TCPConn).SetReadBuffer(writeSize); err != nil {
			t.Fatal(err)
		}
		slow.expect("PING", "+PONG")
		limitSystem(t, s, slow.LocalAddr())
		slow.send([]string{"LRANGE", "k", "0", "-1"})
		taken := 0
		for ; taken < size && s.counts.unread.Load() == 0; taken += test.piece {
			if _, err := io.CopyN(io.Discard, slow.in, int64(min(test.piece, size-taken))); err != nil {
				break
			}
			other.expect("SET a 1", "+OK")
			clock.advance(s, test.every)
			other.expect("SET a 1", "+OK")
		}
		if stayed := taken >= size; stayed != test.stays {
			t.Errorf("%d bytes each %v: closed %v after %d of %d bytes",
				test.piece, test.every, !stayed, taken, size)
		}
		slow.Close()
	}
}

// limitSystem has the system hold little of what is sent to a client.
func limitSystem(t *testing.T, s *Server, address net.Addr) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		if c.address.String() == address.String() {
			fd := c.conn.(*socket).fd
			err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, writeSize)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestInTheLoopWhoStopsReadingALongReplyIsClosed(t *testing.T) {
	_, s, address, clock, other := probed(t)
	beyondMaxReply(other, "RPUSH", "k")
	deaf := dial(t, address)
	deaf.send([]string{"LRANGE", "k", "0", "-1"})
	eventually(t, "it is closed", func() bool { // though first the system may take some more
		clock.advance(s, WriteTimeout+time.Second)
		other.expect("SET a 1", "+OK")
		return s.counts.unread.Load() == 1
	})
}
