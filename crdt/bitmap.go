package crdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"

	"github.com/peerd/peerd/internal/dotted"
)

// ChunkSize is how many bytes a chunk of a bitmap is.
const ChunkSize = 1 << 10

// Bitmap is a string of at most MaxValue bytes that is kept in chunks, each in a cell of its own.
// So to set a bit writes one chunk, however long the bitmap is, and what replicas write into
// different chunks at the same time all stays. Each chunk is a register: of concurrent writes of
// one the latest shows, by time, then dot.
//
// Bit 0 is the highest of the first byte, as in Redis. What was never written and lies before the
// end is zero. The end is that of the last chunk that is there: a removal that is concurrent with a
// write leaves the chunk that this wrote, and zeros before it.
//
// Costs are O(log cells) for each chunk that is concerned, and for Len.
type Bitmap struct {
	ref
}

// Bitmap returns the bitmap under name. It shares nothing with the string of that name: see Take.
func (f Fields) Bitmap(name string) Bitmap { return Bitmap{f.named(name, TypeBitmap)} }

// chunk is what one cell holds: the first bytes of its part of the bitmap, up to which that is
// known to reach.
type chunk struct {
	time dotted.Time
	size int    // up to where it reaches
	from int    // how many zeros stand before data
	data []byte // behind which are zeros up to size
}

// lastChunk is the number of the last chunk that a bitmap can have.
const lastChunk = MaxValue/ChunkSize - 1

// chunkName returns the name of the n-th chunk's cell. The last one is the first in the order of
// names: where a bitmap ends is seen at once.
func chunkName(n int) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(lastChunk-n)))
}

// chunkNumber returns the number of the chunk in a cell with a name.
func chunkNumber(name string) (n int, ok bool) {
	if len(name) != 2 {
		return 0, false
	}
	n = lastChunk - int(binary.BigEndian.Uint16([]byte(name)))
	return n, n >= 0
}

// chunkHeader is what stands before the data in a payload: the kind, the time, size and from, all
// big-endian.
const chunkHeader = 1 + 8 + 2 + 2

func (c chunk) payload() []byte {
	data := bytes.TrimRight(c.data, "\x00")
	zeros := len(data) - len(bytes.TrimLeft(data, "\x00"))
	p := make([]byte, 0, chunkHeader+len(data)-zeros)
	p = append(p, byte(kindChunk))
	p = binary.BigEndian.AppendUint64(p, uint64(c.time))
	p = binary.BigEndian.AppendUint16(p, uint16(c.size))
	p = binary.BigEndian.AppendUint16(p, uint16(c.from+zeros))
	return append(p, data[zeros:]...)
}

func parseChunk(e dotted.Entry) (c chunk, ok bool) {
	if !kindChunk.marks(e) || len(e.Payload) < chunkHeader {
		return c, false
	}
	p := e.Payload[1:]
	c = chunk{
		time: dotted.Time(binary.BigEndian.Uint64(p)), size: int(binary.BigEndian.Uint16(p[8:])),
		from: int(binary.BigEndian.Uint16(p[10:])), data: p[12:],
	}
	return c, c.size <= ChunkSize && c.from+len(c.data) <= c.size
}

// chunkIn returns the chunk that wins among the concurrent ones in a cell, which is in the order of
// dots. ok is false if there is none.
func chunkIn(cell dotted.Cell) (latest chunk, ok bool) {
	for _, e := range cell {
		if c, is := parseChunk(e); is && (!ok || c.time >= latest.time) {
			latest, ok = c, true
		}
	}
	return latest, ok
}

// chunks passes the chunks that are there with numbers below one, from the last to the first.
func (b Bitmap) chunks(below int, fn func(n int, c chunk) bool) error {
	after := dotted.Address("")
	if below <= lastChunk {
		after = b.at.Name(chunkName(below))
	}
	return b.scan(after, func(a dotted.Address, cell dotted.Cell) bool {
		name, rest, ok := a[len(b.at):].CutName()
		n, is := chunkNumber(name)
		switch c, any := chunkIn(cell); {
		case !ok || rest != "" || !is || !any:
			return true
		default:
			return fn(n, c)
		}
	})
}

// Len returns the length in bytes.
func (b Bitmap) Len() int {
	size, _ := b.length()
	return size
}

func (b Bitmap) length() (size int, there bool) {
	_ = b.chunks(lastChunk+1, func(n int, c chunk) bool {
		size, there = n*ChunkSize+c.size, true
		return false
	})
	return size, there
}

// Get returns all bytes. ok is false if there is no bitmap; one without a byte is.
func (b Bitmap) Get() (value []byte, ok bool) {
	size, ok := b.length()
	if !ok {
		return nil, false
	}
	return b.Read(0, size), true
}

// Read returns the bytes from one position to before another, as far as the bitmap reaches.
func (b Bitmap) Read(from, to int) []byte {
	size, _ := b.length()
	if from, to = max(from, 0), min(to, size); from >= to {
		return nil
	}
	part := make([]byte, to-from)
	_ = b.chunks((to-1)/ChunkSize+1, func(n int, c chunk) bool {
		if n < from/ChunkSize {
			return false
		}
		c.fill(part, from-n*ChunkSize)
		return true
	})
	return part
}

// Chunks returns how many chunks are there. O(1) for a key, O(chunks) for a field of a map.
func (b Bitmap) Chunks() int {
	if n, ok, _ := b.visible(); ok {
		return n
	}
	n := 0
	_ = b.chunks(lastChunk+1, func(int, chunk) bool { n++; return true })
	return n
}

// All passes the chunks that are there, from the last to the first: where each begins, and its
// bytes, which may be fewer than it could have.
func (b Bitmap) All() iter.Seq2[int, []byte] {
	return func(yield func(at int, part []byte) bool) {
		for below := lastChunk + 1; ; {
			var part []byte
			var at int
			_ = b.chunks(below, func(n int, c chunk) bool {
				below, at, part = n, n*ChunkSize, make([]byte, c.size)
				c.fill(part, 0)
				return false
			})
			if part == nil || !yield(at, part) || at == 0 {
				return
			}
		}
	}
}

// fill copies what the chunk has into a part of the bitmap that begins at a position of the chunk.
func (c chunk) fill(part []byte, at int) {
	data, to := c.data, c.from-at
	if to < 0 {
		data, to = data[min(-to, len(data)):], 0
	}
	if to < len(part) {
		copy(part[to:], data)
	}
}

// GetBit returns a bit: false, if it lies beyond the end.
func (b Bitmap) GetBit(bit int) bool {
	if bit < 0 || bit/8 >= MaxValue {
		return false
	}
	cell, _ := b.named(chunkName(bit / 8 / ChunkSize)).cell()
	c, _ := chunkIn(cell)
	var part [1]byte
	c.fill(part[:], bit/8%ChunkSize)
	return part[0]&maskOf(bit) != 0
}

func maskOf(bit int) byte { return 0x80 >> (bit & 7) }

// SetBit sets or clears a bit, and returns what it was. It makes the bitmap reach to its byte. If
// that changes nothing, nothing is written. It returns ErrTooLong for a bit beyond MaxValue bytes.
func (b Bitmap) SetBit(bit int, on bool) (was bool, err error) {
	err = b.Edit(bit>>3, bit>>3+1, func(part []byte) {
		was = part[0]&maskOf(bit) != 0
		if part[0] |= maskOf(bit); !on {
			part[0] &^= maskOf(bit)
		}
	})
	return was, err
}

// Edit has fn change the bytes from one position to before another, and writes those chunks of
// which it did. It makes the bitmap reach to the end of that part, which lies within MaxValue: else
// it returns ErrTooLong.
func (b Bitmap) Edit(from, to int, fn func(part []byte)) error {
	switch {
	case b.broken() != nil:
		return b.broken()
	case to > MaxValue || from < 0 || to < from:
		return fmt.Errorf("%w: bytes %d to %d of a bitmap (limit %d)", ErrTooLong, from, to, MaxValue)
	}
	first, last := max(min(from, to-1), 0)/ChunkSize, max(to-1, 0)/ChunkSize
	cells := make([]dotted.Cell, 0, last-first+1)
	part := make([]byte, to-from)
	for n := first; n <= last; n++ {
		cell, err := b.named(chunkName(n)).cell()
		if err != nil {
			return err
		}
		c, _ := chunkIn(cell)
		c.fill(part, from-n*ChunkSize)
		cells = append(cells, cell)
	}
	before := bytes.Clone(part)
	fn(part)
	for n := first; n <= last; n++ {
		start, end := max(from, n*ChunkSize), min(to, (n+1)*ChunkSize)
		if bytes.Equal(before[start-from:end-from], part[start-from:end-from]) && (end < to || b.reaches(to)) {
			continue
		}
		if err := b.write(n, cells[n-first], start-n*ChunkSize, part[start-from:end-from]); err != nil {
			return err
		}
	}
	return nil
}

// reaches reports whether the bitmap is there, and so long.
func (b Bitmap) reaches(to int) bool {
	size, there := b.length()
	return there && size >= to
}

// write puts bytes into a chunk, whose cell is given, from a position of it on.
func (b Bitmap) write(n int, cell dotted.Cell, start int, part []byte) error {
	old, _ := chunkIn(cell)
	next := chunk{time: b.tx.Time(), size: max(old.size, start+len(part)), data: make([]byte, ChunkSize)}
	copy(next.data[old.from:], old.data)
	copy(next.data[start:], part)
	return b.named(chunkName(n)).replace(cell, next.payload())
}

// Take moves into the bitmap what the string of the same name reads as, and reports whether there
// was one. It takes the place of what was here. Two replicas that do so at the same time make one
// bitmap of it: what either writes into that wins over the other's copy, which is as old as the
// text. O(bytes).
func (b Bitmap) Take() (taken bool, err error) {
	if err := b.broken(); err != nil {
		return false, err
	}
	s := String(b)
	s.at = s.at[:len(s.at)-1]
	s.ref = s.typed(dotted.StringType())
	cell, err := s.cell()
	if err != nil {
		return false, err
	}
	value, ok := s.read(cell)
	if !ok {
		return false, b.broken()
	}
	for n := 0; n*ChunkSize < len(value); n++ { // first: a path may be too long
		if err := b.named(chunkName(n)).err; err != nil {
			return false, err
		}
	}
	if _, err := b.Clear(); err != nil {
		return false, err
	}
	written := dotted.Time(1)
	for _, e := range cell {
		if isWrite(e) {
			t, _ := splitWrite(e)
			written = max(written, t)
		}
	}
	for n := 0; n*ChunkSize < len(value) || n == 0; n++ {
		data := value[n*ChunkSize : min(len(value), (n+1)*ChunkSize)]
		c := chunk{time: written - 1, size: len(data), data: data} // before all that is written at its time
		if err := b.named(chunkName(n)).put(c.payload(), nil); err != nil {
			return false, err
		}
	}
	return s.Clear()
}

// Clear removes all chunks that it sees, and reports whether there were any. Concurrent writes
// survive it.
func (b Bitmap) Clear() (existed bool, err error) { return b.clear() }

func (b Bitmap) copyTo(to Fields, name string) error {
	value, ok := b.Get()
	if !ok {
		return errNewerType // chunks that only a newer version can read
	}
	return to.Bitmap(name).Edit(0, len(value), func(part []byte) { copy(part, value) })
}

func (b Bitmap) appendJSON(to []byte) []byte {
	value, ok := b.Get()
	if !ok {
		return append(to, "null"...)
	}
	return appendText(to, string(value))
}

// shownChunk returns the byte at which the chunk of a name begins.
func shownChunk(name string) string {
	if n, ok := chunkNumber(name); ok {
		return strconv.Itoa(n * ChunkSize)
	}
	return name
}
