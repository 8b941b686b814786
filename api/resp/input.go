package resp

import "sync"

// input is what a connection has received and not executed yet. Commands are parsed where they
// lie, so their arguments stay valid until the next call of reserve or rest.
//
// Memory follows the bytes that came, never a length that a client announced: while the connection
// is busy the buffer is one of firstSize from a pool, one of readSize if the client sends much at
// once, or up to twice the unfinished command if that is more, less if less of it is to come, and
// as much as is to come once a quarter is there; while it waits, at most four times the unfinished
// bytes, or nothing.
type input struct {
	buf   []byte
	start int // the command being parsed begins here; what is before it may be dropped
	pos   int // next byte to parse

	burst int  // bytes received since the client was last waited for
	large bool // the burst before that was longer than firstSize, so that this one may be
}

var (
	firstBuffers = sync.Pool{New: func() any { return new([firstSize]byte) }}
	readBuffers  = sync.Pool{New: func() any { return new([readSize]byte) }}
)

// free returns the room behind the received bytes, to read into; received tells how much of it was
// used.
func (in *input) free() []byte { return in.buf[len(in.buf):cap(in.buf)] }

func (in *input) received(n int) {
	in.buf = in.buf[:len(in.buf)+n]
	in.burst += n
}

// size returns how much memory the input holds, in bytes.
func (in *input) size() int { return cap(in.buf) }

// pending returns how many bytes of a command have come that is not complete.
func (in *input) pending() int { return len(in.buf) - in.start }

// reserve makes room for the next read; coming is how many bytes of the unfinished command are
// known to come. Amortized O(1) for a byte received.
func (in *input) reserve(coming int) {
	pending := in.pending()
	least := firstSize
	if in.large || in.burst >= firstSize {
		least = readSize
	}
	// Where all that is to come has a place, nothing is moved.
	room := cap(in.buf) - pending
	isLittle := room < pending/8 && room < coming || room < max(1, pending/8) && coming == 0
	switch {
	case cap(in.buf) < least || isLittle:
		more := pending
		if coming > 0 {
			most := pending
			if coming <= 3*pending {
				most = 3 * pending
			}
			more = min(most, max(coming+firstSize, pending/4))
		}
		in.moveTo(takeBuffer(max(least, pending+more)))
	case cap(in.buf)-len(in.buf) < max(least, pending)/4 && in.start > 0:
		n := copy(in.buf, in.buf[in.start:])
		in.buf = in.buf[:n]
		in.pos -= in.start
		in.start = 0
	}
}

func takeBuffer(size int) []byte {
	switch size {
	case firstSize:
		return firstBuffers.Get().(*[firstSize]byte)[:0]
	case readSize:
		return readBuffers.Get().(*[readSize]byte)[:0]
	}
	return make([]byte, 0, size)
}

// rest gives back what is not needed while the client is waited for.
func (in *input) rest() {
	in.large, in.burst = in.burst > firstSize, 0
	pending := in.pending()
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
	switch cap(old) {
	case firstSize:
		firstBuffers.Put((*[firstSize]byte)(old[:firstSize]))
	case readSize:
		readBuffers.Put((*[readSize]byte)(old[:readSize]))
	}
}
