package crdt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"

	"github.com/peerd/peerd/internal/dotted"
)

// MaxValue is how many bytes a register or string may hold. A longer one is refused with
// ErrTooLong.
const MaxValue = 16 << 20

// Register holds a value that is replaced as a whole. Concurrent writes all stay, until a write
// that has seen them replaces them: Get shows the latest of them, All shows all.
type Register struct {
	ref
}

// Register returns the register under name. It shares its cell with the counter and string of that
// name.
func (f Fields) Register(name string) Register { return Register{f.named(name, TypeString)} }

// Get returns the value with the greatest time, and among equal times the greatest dot. ok is
// false if there is none. The value must not be changed.
func (r Register) Get() (value []byte, ok bool) {
	c, _ := r.cell()
	return latestWrite(c)
}

// All passes all concurrent values, in the order of their dots. They must not be changed.
func (r Register) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c, _ := r.cell()
		for _, e := range c {
			if !isWrite(e) {
				continue
			}
			if _, value := splitWrite(e); !yield(value) {
				return
			}
		}
	}
}

// Set replaces the values that it sees. It returns ErrTooLong for one of more than MaxValue bytes.
// The value is copied.
func (r Register) Set(value []byte) error {
	c, err := r.cell()
	if err != nil {
		return err
	}
	if err := checkValue(value); err != nil {
		return err
	}
	timed, err := r.replaces(dotted.Never)
	if err != nil {
		return err
	}
	err = r.put(writePayload(r.tx.Time(), value), dotsOf(c, isWrite))
	if timed {
		err = r.replaced(dotted.Never, err)
	}
	return err
}

// Clear removes the values that it sees, and reports whether there were any. Concurrent ones
// survive it.
func (r Register) Clear() (existed bool, err error) {
	c, err := r.cell()
	if err != nil {
		return false, err
	}
	values := dotsOf(c, isWrite)
	return len(values) > 0, r.remove(values)
}

func checkValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("%w: a value of %d bytes (limit %d)", ErrTooLong, len(value), MaxValue)
	}
	return nil
}

// writeHeader is what stands before the value in a payload: the kind, and the time big-endian.
const writeHeader = 1 + 8

func writePayload(t dotted.Time, value []byte) []byte {
	p := make([]byte, 0, writeHeader+len(value))
	p = append(p, byte(kindWrite))
	p = binary.BigEndian.AppendUint64(p, uint64(t))
	return append(p, value...)
}

func isWrite(e dotted.Entry) bool { return kindWrite.marks(e) && len(e.Payload) >= writeHeader }

func splitWrite(e dotted.Entry) (dotted.Time, []byte) {
	return dotted.Time(binary.BigEndian.Uint64(e.Payload[1:])), e.Payload[writeHeader:]
}

// latestWrite returns the value that wins among the concurrent ones in c. A cell is in the order
// of dots, so that of equal times the last one wins.
func latestWrite(c dotted.Cell) (value []byte, ok bool) {
	latest := dotted.Time(0)
	for _, e := range c {
		if !isWrite(e) {
			continue
		}
		if t, v := splitWrite(e); !ok || t >= latest {
			latest, value, ok = t, v, true
		}
	}
	return value, ok
}

// parseInteger reads a decimal as Redis does: a minus sign or none, no leading zeros, nothing
// else.
func parseInteger(text []byte) (n int64, ok bool) {
	const longest = len("-9223372036854775808")
	if len(text) == 0 || len(text) > longest || text[0] > '9' {
		return 0, false // most texts are none: an error would cost more
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	var again [longest]byte
	return n, err == nil && bytes.Equal(strconv.AppendInt(again[:0], n, 10), text)
}
