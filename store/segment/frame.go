package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// The format, which docs/storage.md describes byte by byte. Numbers are little-endian.
const (
	format     = 2
	magic      = "peerd log\n\x00\x00"
	headerSize = 32
	frameSize  = store.RecordFrame
	behind     = frameSize - 4 // what a frame's length counts beside the record
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	order      = binary.LittleEndian
)

// segment is one file of the log. Its header takes no positions: where the records of one end,
// those of the next begin.
type segment struct {
	base store.Position // of its first record
	// salt begins each checksum. So a frame of another segment never passes for one of this, nor what
	// somebody had stored to look like one, when a reader searches in a damaged place.
	salt uint32
	// rotten says that the header is not the one that was written. Without its salt no record of the
	// segment can be told from other bytes.
	rotten bool
}

func (s segment) name() string { return fmt.Sprintf("%020d.log", s.base) }

// named returns the base in a file's name, and false if it is no segment's.
func named(name string) (base store.Position, ok bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	base = store.Position(n)
	return base, ok && err == nil && segment{base: base}.name() == name
}

// offset returns where in the file a position stands.
func (s segment) offset(p store.Position) int64 { return headerSize + int64(p-s.base) }

// header has a magic of 12 bytes, the format (4), the salt (4), the base (8) and a CRC (4) over
// these. Magic, format and CRC keep their places in every format.
func (s segment) header() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = order.AppendUint32(b, format)
	b = order.AppendUint32(b, s.salt)
	b = order.AppendUint64(b, uint64(s.base))
	return order.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readSegment reads the header of the segment that the file is named as. The error is about
// reading, or says that the format is another one.
func readSegment(f io.ReaderAt, base store.Position) (segment, error) {
	rotten := segment{base: base, rotten: true}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); errors.Is(err, io.EOF) {
		return rotten, nil
	} else if err != nil {
		return rotten, err
	}
	const sum = headerSize - 4
	if string(b[:len(magic)]) != magic || order.Uint32(b[sum:]) != crc32.Checksum(b[:sum], castagnoli) {
		return rotten, nil
	}
	if got := order.Uint32(b[len(magic):]); got != format {
		return rotten, fmt.Errorf("%w: %s has format %d of the log, and this program reads %d: open it with "+
			"the version that wrote it, or move the directory away and start empty; nothing was changed",
			wire.ErrFormat, rotten.name(), got, format)
	}
	s := segment{base: base, salt: order.Uint32(b[len(magic)+4:])}
	if !bytes.Equal(b, s.header()) {
		return rotten, nil // of another base: somebody renamed the file
	}
	return s, nil
}

// frame is what stands before a record: the bytes behind this field (4), how far back the log was
// synced when the record was written (4), a CRC over the record (4), and one over the record's
// position and these 12 bytes (4).
type frame struct {
	length int            // of the record, in bytes
	back   store.Position // every record up to position - back was synced
	sum    uint32
}

func (f frame) size() store.Position { return frameSize + store.Position(f.length) }

// checksum computes the sums of a segment's frames. It holds the bytes of a position, as what
// crc32 is given escapes and would be allocated for each record.
type checksum struct {
	salt     uint32
	position [8]byte
}

func (c *checksum) record(b []byte) uint32 { return crc32.Update(c.salt, castagnoli, b) }

func (c *checksum) parts(parts [][]byte) uint32 {
	sum := c.salt
	for _, part := range parts {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return sum
}

func (c *checksum) frame(at store.Position, fields []byte) uint32 {
	order.PutUint64(c.position[:], uint64(at))
	return crc32.Update(crc32.Update(c.salt, castagnoli, c.position[:]), castagnoli, fields)
}

// appendRecord appends a record that will stand at a position, in a log synced up to another.
func (c *checksum) appendRecord(b []byte, at, synced store.Position, record []byte) []byte {
	return append(c.appendFrame(b, at, synced, len(record), c.record(record)), record...)
}

// appendFrame appends the frame of a record with a length and a sum.
func (c *checksum) appendFrame(b []byte, at, synced store.Position, length int, sum uint32) []byte {
	start := len(b)
	b = order.AppendUint32(b, uint32(behind+length))
	b = order.AppendUint32(b, uint32(at-synced))
	b = order.AppendUint32(b, sum)
	return order.AppendUint32(b, c.frame(at, b[start:]))
}

// parse reads the frame at a position, and returns false if it is none, or not one of a record
// that could stand in a segment between base and end. A length of zero, as in preallocated space,
// is none.
func (c *checksum) parse(b []byte, at, base, end store.Position) (f frame, ok bool) {
	length := order.Uint32(b)
	if length < behind || length > behind+store.MaxRecord {
		return f, false
	}
	f = frame{int(length - behind), store.Position(order.Uint32(b[4:])), order.Uint32(b[8:])}
	if f.size() > end-at || f.back > at-base || order.Uint32(b[12:]) != c.frame(at, b[:12]) {
		return f, false
	}
	return f, true
}
