package peer

import (
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"
)

// pieceSize is how many bytes of a frame have a deadline of their own.
const pieceSize = 64 << 10

// patient is a stream on which every piece of a frame has a deadline of its own: the other side may
// be slow, and take minutes for a large frame, but not silent.
type patient struct {
	libnet.Stream
	timeout time.Duration
}

// Read implements io.Reader.
func (s patient) Read(b []byte) (int, error) {
	_ = s.SetReadDeadline(time.Now().Add(s.timeout))
	return s.Stream.Read(b)
}

// Write implements io.Writer.
func (s patient) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		_ = s.SetWriteDeadline(time.Now().Add(s.timeout))
		var wrote int
		wrote, err = s.Stream.Write(b[n:min(n+pieceSize, len(b))])
		n += wrote
	}
	return n, err
}
