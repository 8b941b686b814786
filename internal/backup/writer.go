package backup

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/peerd/peerd/internal/wire"
)

// Writer writes a backup. It is used by one goroutine.
type Writer struct {
	w      io.Writer
	sum    hash.Hash // of all that was written
	zip    *zstd.Encoder
	frames uint64
	totals Totals

	pending []Record // of the block that is being filled
	held    []byte   // what they point into
	packed  []byte   // the last block, for its memory
}

// Record is one record of a store.
type Record struct{ Key, Value []byte }

// NewWriter writes the beginning of a backup to w, whose writes are of about a block each.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	b := &Writer{w: w, sum: sha256.New(), zip: zip}
	if err := b.write([]byte(magic)); err != nil {
		return nil, err
	}
	return b, b.frame(kindHeader, h.encode())
}

// Add adds a record, of which it keeps nothing. After an error the backup is worth nothing.
func (b *Writer) Add(key, value []byte) error {
	start := len(b.held)
	b.held = append(append(b.held, key...), value...)
	b.pending = append(b.pending, Record{
		Key: b.held[start : start+len(key)], Value: b.held[start+len(key):],
	})
	if len(b.held) < blockSize && len(b.pending) < maxRecords {
		return nil
	}
	return b.flush()
}

// flush writes what is pending as a block.
func (b *Writer) flush() error {
	if len(b.pending) == 0 {
		return nil
	}
	body := wire.Encode(func(w *wire.Writer) {
		w.Array(2 * len(b.pending))
		for _, r := range b.pending {
			w.Bytes(r.Key)
			w.Bytes(r.Value)
		}
	})
	b.totals.Records += uint64(len(b.pending))
	clear(b.pending)
	b.pending, b.held = b.pending[:0], b.held[:0]
	b.packed = b.zip.EncodeAll(body, b.packed[:0])
	return b.frame(kindBlock, b.packed)
}

// frame writes a frame.
func (b *Writer) frame(kind byte, body []byte) error {
	b.frames++
	return b.write(encodeFrame(kind, b.frames, body))
}

func (b *Writer) write(p []byte) error {
	if _, err := b.w.Write(p); err != nil {
		return err
	}
	_, _ = b.sum.Write(p) // never fails
	b.totals.Bytes += uint64(len(p))
	return nil
}

// Records returns how many records were written, without those that wait for their block to fill.
func (b *Writer) Records() uint64 { return b.totals.Records }

// Bytes returns how many bytes were written.
func (b *Writer) Bytes() uint64 { return b.totals.Bytes }

// Close writes the end. Without it the backup is refused by all who read it. It does not close what the backup
// was written to.
func (b *Writer) Close() error {
	err := b.flush()
	if err == nil {
		totals := b.totals
		b.sum.Sum(totals.Sum[:0])
		err = b.frame(kindEnd, totals.encode())
	}
	return errors.Join(err, b.zip.Close())
}
