//go:build !unix

package resp

// rawRead is not used here.
type rawRead struct{}

// receive waits until bytes have come.
func (c *client) receive() error { return c.receiveBuffered() }
