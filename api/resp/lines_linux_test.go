package resp

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopLines returns what makes connections that join a server's loop under synctest, whose goroutines
// may wait for channels alone: sockets that their clients look at again once the loop sleeps.
func loopLines(t *testing.T, config *Config) (connect func() (near, far net.Conn), end func()) {
	b := &bell{rung: make(chan struct{}, 1), slept: make(chan struct{})}
	config.sleeper = b
	first := b.slept
	return func() (near, far net.Conn) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.SetsockoptInt(ends[1], unix.SOL_SOCKET, unix.SO_SNDBUF, sentAhead/2) // doubled by the system
			}
			if err != nil {
				t.Fatal(err)
			}
			l := &clientLine{bell: b, fd: ends[0]}
			t.Cleanup(func() { l.Close() })
			return l, &serverLine{bell: b, fd: ends[1]}
		}, func() {
			if b.slept == first {
				t.Error("there was no loop")
			}
			b.tell()
		}
}

// bell is a sleeper that tells clients when the loop sleeps.
type bell struct {
	rung chan struct{}

	mu    sync.Mutex
	slept chan struct{} // closed when it does next
}

func (b *bell) sleep(most time.Duration) {
	b.tell()
	var over <-chan time.Time
	if most >= 0 {
		over = time.After(most)
	}
	select {
	case <-b.rung:
	case <-over:
	}
}

func (b *bell) wake() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// tell has clients look at what has come, and where there is room.
func (b *bell) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.slept)
	b.slept = make(chan struct{})
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slept
}

// clientLine is a client's end.
type clientLine struct {
	net.Conn // nil: nobody asks for more
	bell     *bell
	mu       sync.Mutex
	fd       int // -1 once it is closed
}

// try makes a system call until it does something.
func (l *clientLine) try(call func(fd int, p []byte) (int, error), p []byte) (n int, err error) {
	for {
		slept := l.bell.next()
		l.mu.Lock()
		n, err = -1, net.ErrClosed
		if l.fd >= 0 {
			n, err = call(l.fd, p)
		}
		l.mu.Unlock()
		if err != unix.EAGAIN {
			l.bell.wake()
			return max(0, n), err
		}
		<-slept
	}
}

func (l *clientLine) Read(p []byte) (n int, err error) {
	n, err = l.try(unix.Read, p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (l *clientLine) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = l.try(unix.Write, p[n:])
		n += m
	}
	return n, err
}

func (l *clientLine) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 {
		err = unix.Close(l.fd)
	}
	l.fd = -1
	l.bell.wake()
	return err
}

// serverLine is a server's end, until it joins the loop.
type serverLine struct {
	net.Conn // nil: nobody asks for more
	bell     *bell
	fd       int
}

func (l *serverLine) LocalAddr() net.Addr                   { return (&pipes{}).Addr() }
func (l *serverLine) RemoteAddr() net.Addr                  { return l.LocalAddr() }
func (l *serverLine) SetDeadline(time.Time) error           { return nil } // which the loop keeps
func (l *serverLine) SyscallConn() (syscall.RawConn, error) { return rawLine{fd: l.fd}, nil }

func (l *serverLine) Write(p []byte) (n int, err error) { return unix.Write(l.fd, p) }

func (l *serverLine) Close() error {
	defer l.bell.tell()
	return unix.Close(l.fd)
}

// rawLine gives the loop the descriptor.
type rawLine struct {
	syscall.RawConn // nil: nobody asks for more
	fd              int
}

func (l rawLine) Control(f func(fd uintptr)) error {
	f(uintptr(l.fd))
	return nil
}
