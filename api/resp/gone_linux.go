package resp

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// whenGone has fn called when either end closes a connection that is not read meanwhile, until
// what it returns is called.
func (c *client) whenGone(fn func()) (forget func()) {
	raw := c.raw
	if secured, ok := c.stream.(*tls.Conn); ok {
		if conn, ok := secured.NetConn().(syscall.Conn); ok {
			raw, _ = conn.SyscallConn()
		}
	}
	if raw == nil {
		return func() {}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := raw.Read(hasHungUp); !errors.Is(err, os.ErrDeadlineExceeded) { // it may have been closed here
			fn()
		}
	}()
	return func() {
		c.limitReading(time.Unix(1, 0))
		<-ended
		c.limitReading(time.Time{})
	}
}

// hasHungUp reports whether nothing comes behind what has.
func hasHungUp(fd uintptr) bool {
	const end = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
	asked := []unix.PollFd{{Fd: int32(fd), Events: end}}
	n, err := unix.Poll(asked, 0)
	return err == nil && n > 0 && asked[0].Revents&end != 0
}

// limitReading sets until when the connection may be read, unless that is over already.
func (c *client) limitReading(until time.Time) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if !c.server.draining && !c.evicted() {
		_ = c.conn.SetReadDeadline(until)
	}
}
