package main

import (
	"context"
	"io"
)

// maxRead is how much of the standard input is read at once, in bytes.
const maxRead = 64 << 10

// untilInterrupt returns the standard input, but that ctx ends a read: of a terminal, or of a pipe
// into which nobody writes, one lasts for as long as that. The goroutine of such a read is left:
// the process ends.
func untilInterrupt(ctx context.Context, in io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		part := make([]byte, min(len(p), maxRead)) // p is the caller's again once ctx has ended
		read := make(chan error, 1)
		n := 0
		go func() {
			var err error
			n, err = in.Read(part)
			read <- err
		}()
		select {
		case err := <-read:
			return copy(p, part[:n]), err
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
}

type readFunc func(p []byte) (int, error)

// Read implements io.Reader.
func (f readFunc) Read(p []byte) (int, error) { return f(p) }
