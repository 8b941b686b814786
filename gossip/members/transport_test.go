package members

import (
	"errors"
	"io"
	"net"
	"testing"
)

// endless is a connection that sends for ever.
type endless struct{ net.Conn }

func (endless) Read(b []byte) (int, error) { return len(b), nil }
func (endless) Close() error               { return nil }

func TestStreamsTogetherSendABoundedNumberOfBytes(t *testing.T) {
	tr := &transport{open: map[*trackedConn]struct{}{}}
	open := func(inward bool) *trackedConn {
		c, ok := tr.track(endless{}, inward)
		if !ok {
			t.Fatal("not taken")
		}
		return c
	}
	first, second, outward := open(true), open(true), open(false)
	if _, err := io.CopyN(io.Discard, first, maxStreamBytes-1000); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, second, 2000); !errors.Is(err, errStreamBytes) {
		t.Errorf("another stream was read on for %d bytes: %v", n, err)
	}
	if _, err := io.CopyN(io.Discard, outward, 2*maxStreamBytes); err != nil {
		t.Errorf("a stream of our own: %v", err)
	}
	for _, c := range []*trackedConn{first, second, outward} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if tr.taken != 0 || tr.inward != 0 {
		t.Errorf("%d bytes of %d streams are left", tr.taken, tr.inward)
	}
	if _, err := io.CopyN(io.Discard, open(true), 2000); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
