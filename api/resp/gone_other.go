//go:build !linux

package resp

// whenGone does nothing: a connection that is not read is not known to be closed.
func (c *client) whenGone(func()) (forget func()) { return func() {} }
