package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Reader reads a backup. It is used by one goroutine.
type Reader struct {
	r      io.Reader
	sum    hash.Hash // of the frames before the one that is being read
	zip    *zstd.Decoder
	header Header
	frames uint64
	totals Totals
	ended  bool

	frame    bytes.Buffer // that is being read
	unpacked []byte       // the last block, which its records point into
	records  []Record
}

// NewReader reads the beginning of a backup from r. Who has no more use for the reader closes it.
func NewReader(r io.Reader) (*Reader, error) {
	begin := make([]byte, len(magic))
	switch _, err := io.ReadFull(r, begin); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && string(begin) != magic:
		return nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	case err != nil:
		return nil, cutShort(err)
	}
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		return nil, err
	}
	b := &Reader{r: r, sum: sha256.New(), zip: zip}
	b.add(begin)
	kind, body, err := b.next()
	if err == nil && kind != kindHeader {
		err = fmt.Errorf("%w: it has no header", ErrDamaged)
	}
	if err == nil {
		b.header, err = decodeHeader(body)
		err = damaged(err)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	b.add(b.frame.Bytes())
	return b, nil
}

// Header returns what the backup says of itself.
func (b *Reader) Header() Header { return b.header }

// Next returns the records of the next block, which are valid until the call after. At the end of a backup that
// is whole it returns io.EOF; if the header says that more follow, another Reader reads on from there. All other errors
// are final.
func (b *Reader) Next() ([]Record, error) {
	if b.ended {
		return nil, io.EOF
	}
	kind, body, err := b.next()
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindBlock:
		records, err := b.block(body)
		b.totals.Records += uint64(len(records))
		b.add(b.frame.Bytes())
		return records, err
	case kindEnd:
		return nil, b.end(body)
	}
	return nil, fmt.Errorf("%w: a frame of the kind %q", ErrDamaged, kind)
}

// next reads a frame.
func (b *Reader) next() (kind byte, body []byte, err error) {
	b.frames++
	if err := readFrame(b.r, &b.frame); err != nil {
		return 0, nil, err
	}
	return decodeFrame(b.frame.Bytes(), b.frames)
}

// add takes bytes that were read into the sum.
func (b *Reader) add(p []byte) {
	_, _ = b.sum.Write(p) // never fails
	b.totals.Bytes += uint64(len(p))
}

// block takes a block apart.
func (b *Reader) block(body []byte) ([]Record, error) {
	var err error
	if b.unpacked, err = b.zip.DecodeAll(body, b.unpacked[:0]); err != nil {
		return nil, damaged(err)
	}
	b.records = b.records[:0]
	err = wire.Decode(b.unpacked, func(r *wire.Reader) {
		n := r.Array(2 * maxRecords)
		for i := 0; i < n/2 && r.Err() == nil; i++ {
			b.records = append(b.records, Record{Key: r.Bytes(store.MaxKey), Value: r.Bytes(store.MaxValue)})
		}
		if n == 0 || n%2 != 0 {
			r.Fail("a block of %d fields", n)
		}
	})
	return b.records, damaged(err)
}

// end compares what was read with what was written.
func (b *Reader) end(body []byte) error {
	written, err := decodeTotals(body)
	if err != nil {
		return damaged(err)
	}
	b.sum.Sum(b.totals.Sum[:0])
	if written != b.totals {
		return fmt.Errorf("%w: it has %d records and %d bytes, its end says %d and %d, or its sum differs",
			ErrDamaged, b.totals.Records, b.totals.Bytes, written.Records, written.Bytes)
	}
	var more [1]byte
	if b.header.More == 0 {
		switch _, err := io.ReadFull(b.r, more[:]); {
		case err == nil:
			return fmt.Errorf("%w: there is something behind its end", ErrDamaged)
		case !errors.Is(err, io.EOF):
			return cutShort(err)
		}
	}
	b.ended = true
	b.totals.Bytes += uint64(b.frame.Len())
	return io.EOF
}

// Records returns how many records were read.
func (b *Reader) Records() uint64 { return b.totals.Records }

// Bytes returns how many bytes were read, to the last whole frame.
func (b *Reader) Bytes() uint64 { return b.totals.Bytes }

// Close releases the reader's memory. It does not close what it reads from.
func (b *Reader) Close() { b.zip.Close() }

func damaged(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
