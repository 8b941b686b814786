package resp

import (
	"bytes"
	"encoding/binary"
	"math"
)

// field is an integer in the bits of a string: where it begins, how wide it is, and whether it has
// a sign.
type field struct {
	at, width int
	signed    bool
}

// fieldOp is one of the operations of a BITFIELD.
type fieldOp struct {
	field
	name     string // get, set or incrby
	overflow string // wrap, sat or fail
	n        int64
}

const errFieldType = replyError("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported " +
	"but i64 is.")

// fieldType reads an argument such as u8 or i64.
func (c *call) fieldType(i int) (f field, err error) {
	arg, _, _ := bytes.Cut(c.args[i], []byte{0}) // as Redis reads it
	if len(arg) == 0 || arg[0] != 'i' && arg[0] != 'u' {
		return f, errFieldType
	}
	f.signed = arg[0] == 'i'
	width, ok := parseInteger(arg[1:])
	if !ok || width < 1 || width > 64 || width > 63 && !f.signed {
		return f, errFieldType
	}
	f.width = int(width)
	return f, nil
}

// fieldOps reads the operations. writes says that there is one that is no GET.
func (c *call) fieldOps() (ops []fieldOp, writes bool, err error) {
	overflow := "wrap"
	for i := 2; i < len(c.args); i++ {
		op := fieldOp{overflow: overflow}
		switch left := len(c.args) - i - 1; {
		case c.is(i, "get") && left >= 2:
			op.name = "get"
		case c.is(i, "set") && left >= 3:
			op.name = "set"
		case c.is(i, "incrby") && left >= 3:
			op.name = "incrby"
		case c.is(i, "overflow") && left >= 1:
			i++
			if overflow = string(bytes.ToLower(c.args[i])); overflow != "wrap" && overflow != "sat" && overflow != "fail" {
				return nil, false, replyError("ERR Invalid OVERFLOW type specified")
			}
			continue
		default:
			return nil, false, errSyntax
		}
		if op.field, err = c.fieldType(i + 1); err != nil {
			return nil, false, err
		}
		if op.at, err = c.bitOffset(i+2, int64(op.width)); err != nil {
			return nil, false, err
		}
		if i += 2; op.name != "get" {
			i++
			writes = true
			if op.n, err = c.integer(i); err != nil {
				return nil, false, err
			}
		}
		ops = append(ops, op)
	}
	return ops, writes, nil
}

func runBitField(c *call) error { return c.bitField(false) }

func runBitFieldRO(c *call) error { return c.bitField(true) }

func (c *call) bitField(readOnly bool) error {
	ops, writes, err := c.fieldOps()
	if err != nil {
		return err
	}
	if writes && readOnly {
		return replyError("ERR BITFIELD_RO only supports the GET subcommand")
	}
	t, err := c.text(c.arg(1))
	if err != nil {
		return err
	}
	if !writes {
		c.out.array(len(ops))
		for _, op := range ops {
			c.out.integer(op.get(t.read(op.at/8, op.at/8+9), op.at%8))
		}
		return nil
	}
	// The bytes that are read, and the string after it, reach from the first to behind the last of
	// all that is written.
	first, last := math.MaxInt, 0
	for _, op := range ops {
		if op.name != "get" {
			first, last = min(first, op.at/8), max(last, op.at+op.width-1)
		}
	}
	if err := checkEnd(last); err != nil {
		return err
	}
	if c.looped && last/8-first > maxQuickBytes {
		return errApart
	}
	return c.edit(first, last/8+1, func(part []byte) {
		c.out.array(len(ops))
		for _, op := range ops {
			if op.name == "get" {
				c.out.integer(op.get(nineBytes(t, part, first, op.at/8), op.at%8))
				continue
			}
			if n, done := op.write(part[op.at/8-first:], op.at%8); done {
				c.out.integer(n)
			} else {
				c.out.null()
			}
		}
	})
}

// nineBytes returns nine bytes of a string, as they are after some of them were changed: part, from
// a position on.
func nineBytes(t text, part []byte, first, at int) []byte {
	var room [9]byte
	copy(room[:], t.read(at, at+len(room)))
	for i := range room {
		if j := at + i - first; j >= 0 && j < len(part) {
			room[i] = part[j]
		}
	}
	return room[:]
}

// get returns the integer that begins at a bit of a part, whose end zeros follow.
func (f field) get(part []byte, bit int) int64 {
	var room [16]byte
	copy(room[:], part[:min(len(part), 9)])
	n := binary.BigEndian.Uint64(room[:])<<bit | uint64(room[8])>>(8-bit)
	if f.signed {
		return int64(n) >> (64 - f.width)
	}
	return int64(n >> (64 - f.width))
}

// put writes the lowest bits of an integer from a bit of a part on.
func (f field) put(part []byte, bit int, n int64) {
	for i := range f.width {
		at, mask := (bit+i)/8, byte(0x80>>((bit+i)&7))
		if part[at] |= mask; n>>(f.width-1-i)&1 == 0 {
			part[at] &^= mask
		}
	}
}

// write sets or increments, and returns what the reply is; done is false if that would overflow,
// and is not to.
func (op *fieldOp) write(part []byte, bit int) (reply int64, done bool) {
	old := op.get(part, bit)
	from, by := old, op.n
	if op.name == "set" {
		from, by = op.n, 0
	}
	next, over := op.limited(from, by)
	if over && op.overflow == "fail" {
		return 0, false
	}
	op.put(part, bit, next)
	if op.name == "set" {
		return old, true
	}
	return next, true
}

// limited returns n + by within the bounds of the field, and whether it would be beyond them.
func (op *fieldOp) limited(n, by int64) (sum int64, over bool) {
	low, high := int64(0), int64(1)<<(op.width-op.widthOfSign())-1
	if op.signed {
		low = -high - 1
	}
	bound := high
	switch {
	case !op.signed && n < 0: // as Redis reads it: an unsigned number of 64 bits
		over = true
	case n > high || by > 0 && n > high-by:
		over = true
	case n < low || by < 0 && (op.width < 64 || n < 0) && by < low-n:
		over, bound = true, low
	}
	if over && op.overflow == "sat" {
		return bound, true
	}
	return op.wrapped(n + by), over
}

func (f field) widthOfSign() int {
	if f.signed {
		return 1
	}
	return 0
}

// wrapped returns what the lowest bits of an integer read as.
func (f field) wrapped(n int64) int64 {
	if f.signed {
		return n << (64 - f.width) >> (64 - f.width)
	}
	return int64(uint64(n) << (64 - f.width) >> (64 - f.width))
}
