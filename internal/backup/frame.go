package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/peerd/peerd/internal/wire"
)

const lengthSize = 4 // bytes of a frame's length

// older says what to do about a backup of a lower format.
const older = "restore it with the program that made it, and copy its data from there"

// place is what a frame's checksum covers beside its body, so that no frame passes for another.
func place(kind byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, number)
}

// encodeFrame returns the frame with a body.
func encodeFrame(kind byte, number uint64, body []byte) []byte {
	sealed := wire.Seal(formatVersion, place(kind, number), body)
	out := make([]byte, 0, lengthSize+1+len(sealed))
	out = binary.BigEndian.AppendUint32(out, uint32(1+len(sealed)))
	return append(append(out, kind), sealed...)
}

// readFrame reads one frame, with its length, into a buffer. That takes no more memory than a few times what
// there is to read.
func readFrame(r io.Reader, into *bytes.Buffer) error {
	into.Reset()
	if _, err := io.CopyN(into, r, lengthSize); err != nil {
		return cutShort(err)
	}
	size := int64(binary.BigEndian.Uint32(into.Bytes()))
	if size < 2 || size > maxFrame {
		return fmt.Errorf("%w: a frame of %d bytes (limit %d)", ErrDamaged, size, maxFrame)
	}
	if _, err := io.CopyN(into, r, size); err != nil {
		return cutShort(err)
	}
	return nil
}

// decodeFrame checks a frame that was read. The body points into it.
func decodeFrame(frame []byte, number uint64) (kind byte, body []byte, err error) {
	kind = frame[lengthSize]
	version, body, err := wire.Unseal(place(kind, number), frame[lengthSize+1:])
	if err != nil {
		return 0, nil, fmt.Errorf("%w: frame %d: %w", ErrDamaged, number, err)
	}
	if err := wire.CheckFormat(uint64(version), formatVersion, older); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return kind, body, nil
}

// cutShort is the error of a read: an end in the middle is damage, anything else the medium's error.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends before its end mark", ErrDamaged)
	}
	return fmt.Errorf("read the backup: %w", err)
}
