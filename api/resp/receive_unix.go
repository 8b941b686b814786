//go:build unix

package resp

import (
	"io"
	"syscall"
)

// rawRead carries the outcome of a read out of its callback, which is made once for a connection.
type rawRead struct {
	callback func(fd uintptr) bool
	err      error
}

// receive waits until bytes have come. With a file descriptor it takes a buffer only when there is
// something to read into it, so that a waiting connection holds none.
func (c *client) receive() error {
	if c.raw == nil {
		return c.receiveBuffered()
	}
	if c.read.callback == nil {
		c.read.callback = c.tryRead
	}
	if err := c.raw.Read(c.read.callback); err != nil {
		return err
	}
	return c.read.err
}

// tryRead reads what is there and reports whether there was anything, an end or an error included.
func (c *client) tryRead(fd uintptr) bool {
	c.in.reserve()
	for {
		n, err := syscall.Read(int(fd), c.in.free())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.in.rest()
			c.hold(c.in.size() + c.size()) // if that closes the client, the wait ends at once
			return false
		case err == nil && n == 0:
			err = io.EOF
		}
		c.in.received(max(0, n))
		c.read.err = err
		return true
	}
}
