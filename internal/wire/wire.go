// Package wire writes and reads peerd's messages and stored records: msgpack, one field after the
// other.
//
// Everything that peerd reads may come from a hostile peer or a rotten disk. A Reader therefore
// works on a slice whose size is already bounded, makes only primitive calls, checks every declared
// length against the bytes that are left before anything is allocated, and never recurses. Its
// errors stick: callers read a whole record and look at Err once.
//
// A record on disk is sealed: version, body, and a CRC-32C of the key it is stored under and of the
// body, so that a flipped bit and a record under the wrong key are both noticed.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// ErrMalformed is wrapped by every error about bytes that do not parse.
var ErrMalformed = errors.New("malformed bytes")

// ErrChecksum is returned for a sealed record whose checksum does not match.
var ErrChecksum = errors.New("checksum mismatch")

// ErrFormat is wrapped by errors about what has another number of its format than this program
// reads. It is no damage, and whoever reads it changes nothing.
var ErrFormat = errors.New("another format")

// CheckFormat returns nil if what was read has the number that this program knows, and else an
// error that wraps ErrFormat. older says what to do about a lower number; about a higher one there
// is one thing to do.
func CheckFormat(got, known uint64, older string) error {
	switch {
	case got < known:
		return fmt.Errorf("%w: it has format %d, from before peerd 0.1.0, and this program reads format %d: %s",
			ErrFormat, got, known, older)
	case got > known:
		return fmt.Errorf("%w: it has format %d, and this program reads format %d: use the newer peerd that "+
			"wrote it", ErrFormat, got, known)
	}
	return nil
}

// Writer appends msgpack values to a buffer, each in its shortest form. Writing cannot fail.
type Writer struct{ buf []byte }

var writers = sync.Pool{New: func() any { return &Writer{} }}

// maxPooled is how large the buffer of a writer may be, in bytes, that is used again: a commit
// group fits.
const maxPooled = 1 << 20

// Encode runs fn on a fresh writer and returns the bytes written, owned by the caller.
func Encode(fn func(w *Writer)) []byte {
	w := writers.Get().(*Writer)
	w.buf = w.buf[:0]
	fn(w)
	return w.done()
}

// AppendTo runs fn on a writer that appends to memory of the caller's, and returns it with the
// bytes written.
func AppendTo(memory []byte, fn func(w *Writer)) []byte {
	w := writers.Get().(*Writer)
	own := w.buf
	w.buf = memory
	fn(w)
	memory, w.buf = w.buf, own
	writers.Put(w)
	return memory
}

// Size returns how many bytes the buffer has: what fn wrote so far, in Encode.
func (w *Writer) Size() int { return len(w.buf) }

// done returns what was written, and gives the writer back, unless its buffer is too large: that
// goes to the caller.
func (w *Writer) done() []byte {
	if cap(w.buf) > maxPooled {
		return w.buf
	}
	out := bytes.Clone(w.buf)
	writers.Put(w)
	return out
}

// number appends a code with the size of the number behind it: the codes of the sizes of 1, 2, 4
// and 8 bytes follow each other.
func (w *Writer) number(code byte, n uint64) {
	switch {
	case n <= math.MaxUint8:
		w.buf = append(w.buf, code, byte(n))
	case n <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, code+1), uint16(n))
	case n <= math.MaxUint32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, code+2), uint32(n))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, code+3), n)
	}
}

// Array starts an array of n values, which the caller then writes.
func (w *Writer) Array(n int) {
	switch {
	case n < 16:
		w.buf = append(w.buf, msgpcode.FixedArrayLow|byte(n))
	case n <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, msgpcode.Array16), uint16(n))
	default:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, msgpcode.Array32), uint32(n))
	}
}

// Uint writes an unsigned integer.
func (w *Writer) Uint(u uint64) {
	if u <= math.MaxInt8 {
		w.buf = append(w.buf, byte(u))
	} else {
		w.number(msgpcode.Uint8, u)
	}
}

// Int writes a signed integer.
func (w *Writer) Int(i int64) {
	switch {
	case i >= 0:
		w.Uint(uint64(i))
	case i >= -32:
		w.buf = append(w.buf, byte(i))
	case i >= math.MinInt8:
		w.buf = append(w.buf, msgpcode.Int8, byte(i))
	case i >= math.MinInt16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, msgpcode.Int16), uint16(i))
	case i >= math.MinInt32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, msgpcode.Int32), uint32(i))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, msgpcode.Int64), uint64(i))
	}
}

// Bool writes a boolean.
func (w *Writer) Bool(b bool) {
	code := msgpcode.False
	if b {
		code = msgpcode.True
	}
	w.buf = append(w.buf, code)
}

// Bytes writes a byte string; nil and empty are the same.
func (w *Writer) Bytes(b []byte) {
	w.BytesHeader(len(b))
	w.buf = append(w.buf, b...)
}

// BytesHeader writes what stands before the bytes of a byte string, for who has them elsewhere.
func (w *Writer) BytesHeader(n int) { w.number(msgpcode.Bin8, uint64(n)) }

// String writes a string as a byte string: keys and values need not be UTF-8.
func (w *Writer) String(s string) {
	w.number(msgpcode.Bin8, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// Raw appends bytes that are msgpack already.
func (w *Writer) Raw(b []byte) { w.buf = append(w.buf, b...) }

// Reader reads msgpack values from a slice. After the first error every call returns a zero value.
// Slices that it returns point into the input.
type Reader struct {
	data []byte
	at   int // of them are read
	err  error

	// What reads the forms that no Writer writes.
	src bytes.Reader
	dec *msgpack.Decoder
}

var readers = sync.Pool{New: func() any {
	r := &Reader{}
	r.dec = msgpack.NewDecoder(&r.src)
	return r
}}

// Decode runs fn on a reader of data and returns fn's first error, or one if bytes are left over.
func Decode(data []byte, fn func(r *Reader)) error {
	r := readers.Get().(*Reader)
	r.data, r.at, r.err = data, 0, nil
	fn(r)
	err := r.err
	if err == nil && r.Left() != 0 {
		err = fmt.Errorf("%w: %d bytes after the end", ErrMalformed, r.Left())
	}
	r.data = nil
	readers.Put(r)
	return err
}

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Left returns how many bytes are unread.
func (r *Reader) Left() int { return len(r.data) - r.at }

// Offset returns how many bytes were read.
func (r *Reader) Offset() int { return r.at }

// Since returns the bytes between an earlier Offset and here.
func (r *Reader) Since(offset int) []byte { return r.data[offset:r.at:r.at] }

// Fail records an error of the caller's, unless there is one already.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
}

// short reads a value that is one byte, of those between low and high, and returns what it is
// beyond low. Most values are such: what they take decides how long reading takes. If the next one
// is not nothing is read.
func (r *Reader) short(low, high byte) (n int, is bool) {
	if r.at >= len(r.data) || r.data[r.at] < low || r.data[r.at] > high {
		return 0, false
	}
	r.at++
	return int(r.data[r.at-1] - low), true
}

// number reads what Writer.number wrote, with a code of 1 byte. If the next value is something else
// nothing is read.
func (r *Reader) number(code byte) (n uint64, is bool) {
	left := r.data[r.at:]
	if len(left) == 0 || left[0] < code || left[0] > code+3 {
		return 0, false
	}
	size := 1 << (left[0] - code)
	if len(left) <= size {
		return 0, false
	}
	for _, b := range left[1 : 1+size] {
		n = n<<8 | uint64(b)
	}
	r.at += 1 + size
	return n, true
}

// other reads a value in another form than a Writer gives it, and finds what is none. It reports
// whether it was one.
func (r *Reader) other(read func(dec *msgpack.Decoder) error) bool {
	if r.err != nil {
		return false
	}
	r.src.Reset(r.data[r.at:])
	r.dec.Reset(&r.src)
	if err := read(r.dec); err != nil {
		r.Fail("%v", err)
	}
	r.at = len(r.data) - r.src.Len()
	return r.err == nil
}

// Array reads an array header of at most max values. Each value takes a byte at least, so a header
// that promises more than is left is refused before the caller allocates for it.
func (r *Reader) Array(max int) int {
	if r.err != nil {
		return 0
	}
	n, short := r.short(msgpcode.FixedArrayLow, msgpcode.FixedArrayHigh)
	if !short && !r.other(func(dec *msgpack.Decoder) (err error) { n, err = dec.DecodeArrayLen(); return err }) {
		return 0
	}
	if n < 0 || n > max || n > r.Left() {
		r.Fail("array of %d values (limit %d, %d bytes left)", n, max, r.Left())
		return 0
	}
	return n
}

// Fields reads the header of an array of at least n values, one for each field of a record, and
// returns how many there are beyond them: of a newer version, to be skipped.
func (r *Reader) Fields(n int) (extra int) {
	got := r.Array(64)
	if got < n {
		r.Fail("%d fields, want %d", got, n)
		return 0
	}
	return got - n
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() (u uint64) {
	if r.err != nil {
		return 0
	}
	if n, short := r.short(0, msgpcode.PosFixedNumHigh); short {
		return uint64(n)
	}
	if u, is := r.number(msgpcode.Uint8); is {
		return u
	}
	if !r.other(func(dec *msgpack.Decoder) (err error) { u, err = dec.DecodeUint64(); return err }) {
		return 0
	}
	return u
}

// Int reads a signed integer.
func (r *Reader) Int() (i int64) {
	if r.err != nil {
		return 0
	}
	if n, short := r.short(0, msgpcode.PosFixedNumHigh); short {
		return int64(n)
	}
	if !r.other(func(dec *msgpack.Decoder) (err error) { i, err = dec.DecodeInt64(); return err }) {
		return 0
	}
	return i
}

// Bool reads a boolean.
func (r *Reader) Bool() (b bool) {
	if r.err != nil {
		return false
	}
	if n, is := r.short(msgpcode.False, msgpcode.True); is {
		return n > 0
	}
	return r.other(func(dec *msgpack.Decoder) (err error) { b, err = dec.DecodeBool(); return err }) && b
}

// Bytes reads a byte string of at most max bytes. The slice points into the input.
func (r *Reader) Bytes(max int) []byte {
	if r.err != nil {
		return nil
	}
	if at := r.at; at < len(r.data) && r.data[at] <= msgpcode.Bin32 {
		if n, is := r.number(msgpcode.Bin8); is {
			return r.take(int(n), max)
		}
	}
	n := 0
	if !r.other(func(dec *msgpack.Decoder) (err error) { n, err = dec.DecodeBytesLen(); return err }) {
		return nil
	}
	return r.take(n, max)
}

// String reads a byte string of at most max bytes as a string.
func (r *Reader) String(max int) string { return string(r.Bytes(max)) }

func (r *Reader) take(n, max int) []byte {
	if n < 0 || n > max || n > r.Left() {
		r.Fail("string of %d bytes (limit %d, %d bytes left)", n, max, r.Left())
		return nil
	}
	r.at += n
	return r.data[r.at-n : r.at : r.at]
}

// Skip passes over n values of any kind: fields that a newer version added. It does not recurse.
func (r *Reader) Skip(n int) {
	for left := uint64(max(n, 0)); left > 0 && r.err == nil; left-- {
		var c byte
		if !r.other(func(dec *msgpack.Decoder) (err error) { c, err = dec.PeekCode(); return err }) {
			return
		}
		m := 0
		switch {
		case msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32:
			left += uint64(r.Array(r.Left()))
		case msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32:
			if r.other(func(dec *msgpack.Decoder) (err error) { m, err = dec.DecodeMapLen(); return err }) {
				left += 2 * uint64(max(m, 0))
			}
		case msgpcode.IsExt(c):
			if r.other(func(dec *msgpack.Decoder) (err error) { _, m, err = dec.DecodeExtHeader(); return err }) {
				r.take(m, r.Left())
			}
		case msgpcode.IsString(c) || msgpcode.IsBin(c):
			r.Bytes(r.Left())
		default:
			r.other((*msgpack.Decoder).Skip)
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealSize is what sealing adds: a version byte and a CRC-32C.
const sealSize = 1 + 4

// Seal returns a stored record: the version, the body and a checksum over key, version and body.
func Seal(version byte, key, body []byte) []byte {
	return EncodeSealed(version, key, func(w *Writer) { w.Raw(body) })
}

// EncodeSealed returns a stored record whose body is what fn writes.
func EncodeSealed(version byte, key []byte, fn func(w *Writer)) []byte {
	w := writers.Get().(*Writer)
	w.buf = append(w.buf[:0], version)
	fn(w)
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, w.buf)
	w.buf = binary.BigEndian.AppendUint32(w.buf, sum)
	return w.done()
}

// Unseal returns version and body of a record that Seal made for the same key. The body points into
// it.
func Unseal(key, record []byte) (version byte, body []byte, err error) {
	if len(record) < sealSize {
		return 0, nil, ErrChecksum
	}
	end := len(record) - 4
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, record[:end])
	if sum != binary.BigEndian.Uint32(record[end:]) {
		return 0, nil, ErrChecksum
	}
	return record[0], record[1:end], nil
}
