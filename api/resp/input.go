package resp

import "sync"

// input is what a connection has received and not executed yet. Commands are parsed where they
// lie, so their arguments stay valid until the next call of reserve or rest.
//
// Memory follows the bytes that came, never a length that a client announced: while the connection
// is busy the buffer is one of readSize from a pool, or twice the unfinished command if that is
// more; while it waits, at most four times the unfinished bytes, or nothing.
type input struct {
	buf   []byte
	start int // the command being parsed begins here; what is before it may be dropped
	pos   int // next byte to parse
}

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// free returns the room behind the received bytes, to read into; received tells how much of it was
// used.
func (in *input) free() []byte { return in.buf[len(in.buf):cap(in.buf)] }

func (in *input) received(n int) { in.buf = in.buf[:len(in.buf)+n] }

// reserve makes room for the next read. Amortized O(1) for a byte received.
func (in *input) reserve() {
	if cap(in.buf)-len(in.buf) >= readSize/4 {
		return
	}
	pending := len(in.buf) - in.start
	switch want := max(readSize, 2*pending); {
	case cap(in.buf) >= want:
		n := copy(in.buf, in.buf[in.start:])
		in.buf = in.buf[:n]
		in.pos -= in.start
		in.start = 0
	case want == readSize:
		in.moveTo(readBuffers.Get().(*[readSize]byte)[:0])
	default:
		in.moveTo(make([]byte, 0, want))
	}
}

// reserveLittle makes room for a read that may have to wait.
func (in *input) reserveLittle() {
	switch {
	case len(in.buf) > in.start:
		in.reserve() // the rest of a command is on its way
	case cap(in.buf) == waitSize:
		in.buf, in.start, in.pos = in.buf[:0], 0, 0
	default:
		in.moveTo(make([]byte, 0, waitSize))
	}
}

// rest gives back what is not needed while the client is waited for.
func (in *input) rest() {
	pending := len(in.buf) - in.start
	switch {
	case pending == 0:
		in.moveTo(nil)
	case cap(in.buf) > max(restSize, 4*pending):
		in.moveTo(make([]byte, 0, max(restSize, 2*pending)))
	}
}

// moveTo puts the unfinished bytes into another buffer.
func (in *input) moveTo(dst []byte) {
	old := in.buf
	in.buf = append(dst, old[in.start:]...)
	in.pos -= in.start
	in.start = 0
	if cap(old) == readSize {
		readBuffers.Put((*[readSize]byte)(old[:readSize]))
	}
}
