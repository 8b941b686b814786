package resp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// To clients a bitmap is a string. A key whose string is changed in part becomes one: by SETBIT and
// BITFIELD at once, by SETRANGE and APPEND once it is longer than longText. SET makes it a plain
// string again. If a key is both, by writes of two peers at the same time, it is the plain string.

// longText is the length in bytes of the longest string that is rewritten as a whole.
const longText = 16 << 10

// text is the string of a key, of which no more is read than is asked for. It is empty if there is
// none.
type text struct {
	value  []byte // unless it is in chunks
	chunks crdt.Bitmap
	size   int
	there  bool
}

// text returns the string of a key, and errWrongType if there is only something else.
func (c *call) text(key string) (t text, err error) {
	if t.value, t.there = c.tx.String(key).Get(); !t.there {
		switch types := c.tx.Types(key); {
		case types == 0:
			return t, nil
		case types.Has(crdt.TypeBitmap):
			b := c.tx.Bitmap(key)
			return text{chunks: b, size: b.Len(), there: true}, nil
		}
		if t.value, t.there = hyllOf(c.tx.Fields, key); !t.there {
			return t, errWrongType
		}
	}
	t.size = len(t.value)
	return t, nil
}

// read returns the bytes from one position to before another, as far as there are.
func (t text) read(from, to int) []byte {
	if from, to = max(from, 0), min(to, t.size); from >= to {
		return nil
	}
	if t.value != nil {
		return t.value[from:to]
	}
	return t.chunks.Read(from, to)
}

// packed returns what reads as a string and is kept as another type: a bitmap, or a HyperLogLog.
func packed(of crdt.Fields, name string) (value []byte, ok bool) {
	if value, ok = of.Bitmap(name).Get(); !ok {
		value, ok = hyllOf(of, name)
	}
	return value, ok
}

// unpack makes a plain string of what is packed.
func (c *call) unpack(key string) error {
	value, ok := packed(c.tx.Fields, key)
	if !ok {
		return errWrongType
	}
	return c.store(key, value)
}

// unpackInteger is unpack of what reads as an integer.
func (c *call) unpackInteger(key string) error {
	const longest = 20 // bytes of one
	t, err := c.text(key)
	if err != nil {
		return err
	}
	if _, ok := parseInteger(t.read(0, longest+1)); !ok {
		return errNotInteger
	}
	return c.unpack(key)
}

// edited returns the bitmap that the string of a key is, or becomes because it is to be longer than
// some bytes. ok is false if it is none.
func (c *call) edited(key string, size, longest int) (b crdt.Bitmap, ok bool, err error) {
	b = c.tx.Bitmap(key)
	value, plain := c.tx.String(key).Get()
	switch types := c.tx.Types(key); {
	case plain && max(size, len(value)) > longest:
		_, err = b.Take()
		return b, true, err
	case plain || types == 0 && size <= longest:
		return b, false, nil
	case types == 0 || types.Has(crdt.TypeBitmap):
		return b, true, nil
	}
	if err := c.unpack(key); err != nil { // a HyperLogLog
		return b, false, err
	}
	return c.edited(key, size, longest)
}

// edit has fn change bytes of the string of the key that the first argument names, as a bitmap.
func (c *call) edit(from, to int, fn func(part []byte)) error {
	b, _, err := c.edited(c.arg(1), to, -1)
	if err != nil {
		return err
	}
	return b.Edit(from, to, fn)
}

const errBitOffset = replyError("ERR bit offset is not an integer or out of range")

// maxBitOffset is the greatest that Redis takes, as it is set up: of strings of 512 MB.
const maxBitOffset = 1<<32 - 1

// bitOffset returns the offset that an argument is. With a width it may be of so many fields of
// that width: #n.
func (c *call) bitOffset(i int, width int64) (int, error) {
	arg := c.args[i]
	by := int64(1)
	if width > 0 && len(arg) > 0 && arg[0] == '#' {
		arg, by = arg[1:], width
	}
	n, ok := parseInteger(arg)
	if n *= by; !ok || n < 0 || n > maxBitOffset {
		return 0, errBitOffset
	}
	return int(n), nil
}

// checkEnd refuses to write bits up to one.
func checkEnd(last int) error {
	if last/8 >= MaxValue {
		return replyError(fmt.Sprintf("%s: here below %d, in strings of %d bytes (MaxValue)", errBitOffset, 8*MaxValue, MaxValue))
	}
	return nil
}

func runSetBit(c *call) error {
	bit, err := c.bitOffset(2, 0)
	if err != nil {
		return err
	}
	on, ok := parseInteger(c.args[3])
	if !ok || on&^1 != 0 {
		return replyError("ERR bit is not an integer or out of range")
	}
	if _, err := c.text(c.arg(1)); err != nil {
		return err
	}
	if err := checkEnd(bit); err != nil {
		return err
	}
	was, mask := int64(0), byte(0x80>>(bit&7))
	err = c.edit(bit/8, bit/8+1, func(part []byte) {
		if part[0]&mask != 0 {
			was = 1
		}
		if part[0] |= mask; on == 0 {
			part[0] &^= mask
		}
	})
	if err != nil {
		return err
	}
	c.out.integer(was)
	return nil
}

func runGetBit(c *call) error {
	bit, err := c.bitOffset(2, 0)
	if err != nil {
		return err
	}
	t, err := c.text(c.arg(1))
	if err != nil {
		return err
	}
	n := int64(0)
	if part := t.read(bit/8, bit/8+1); len(part) > 0 && part[0]&(0x80>>(bit&7)) != 0 {
		n = 1
	}
	c.out.integer(n)
	return nil
}

// bitRange is the bits that BITCOUNT and BITPOS look at: from one on, to one.
type bitRange struct{ first, last int }

// bitUnit reports whether an argument says that a range is of bits, and not of bytes.
func (c *call) bitUnit(i int) (ofBits bool, err error) {
	switch {
	case c.is(i, "bit"):
		return true, nil
	case c.is(i, "byte"):
		return false, nil
	}
	return false, errSyntax
}

// rangeOf returns the bits between two places of a string of so many bytes, which count from the
// end if they are negative.
func rangeOf(from, to int64, ofBits bool, size int) bitRange {
	total := int64(size)
	if ofBits {
		total *= 8
	}
	if from < 0 {
		from = max(0, from+total)
	}
	if to < 0 {
		to = max(0, to+total)
	}
	if to = min(to, total-1); from > to {
		return bitRange{0, -1}
	}
	if ofBits {
		return bitRange{int(from), int(to)}
	}
	return bitRange{int(from) * 8, int(to)*8 + 7}
}

// bytesOf returns the bytes that a range of bits is in, those bits in them that are outside of it
// all being like fill.
func (c *call) bytesOf(t text, r bitRange, fill bool) ([]byte, error) {
	if r.first > r.last {
		return nil, nil
	}
	if c.looped && (r.last-r.first)/8 > maxQuickBytes {
		return nil, errApart
	}
	part := t.read(r.first/8, r.last/8+1)
	if t.value != nil {
		part = bytes.Clone(part) // it belongs to others
	}
	head, tail := byte(0xff>>(r.first&7)), byte(0xff<<(7-r.last&7))
	if n := len(part) - 1; fill {
		part[0] |= ^head
		part[n] |= ^tail
	} else {
		part[0] &= head
		part[n] &= tail
	}
	return part, nil
}

func runBitCount(c *call) error {
	t, err := c.text(c.arg(1))
	if err != nil || !t.there {
		if err == nil {
			c.out.integer(0)
		}
		return err
	}
	from, to, ofBits := int64(0), int64(-1), false
	switch len(c.args) {
	case 2:
	case 4, 5:
		if from, err = c.integer(2); err != nil {
			return err
		}
		if to, err = c.integer(3); err != nil {
			return err
		}
		if from < 0 && to < 0 && from > to {
			c.out.integer(0)
			return nil
		}
		if len(c.args) == 5 {
			if ofBits, err = c.bitUnit(4); err != nil {
				return err
			}
		}
	default:
		return errSyntax
	}
	part, err := c.bytesOf(t, rangeOf(from, to, ofBits, t.size), false)
	if err != nil {
		return err
	}
	n := 0
	for ; len(part) >= 8; part = part[8:] {
		n += bits.OnesCount64(binary.NativeEndian.Uint64(part))
	}
	for _, b := range part {
		n += bits.OnesCount8(b)
	}
	c.out.integer(int64(n))
	return nil
}

func runBitPos(c *call) error {
	bit, err := c.integer(2)
	switch {
	case err != nil:
		return err
	case bit&^1 != 0:
		return replyError("ERR The bit argument must be 1 or 0.")
	}
	t, err := c.text(c.arg(1))
	switch {
	case err != nil:
		return err
	case !t.there:
		c.out.integer(-bit)
		return nil
	}
	from, to, ofBits, bounded, err := c.bitPosRange()
	if err != nil {
		return err
	}
	r := rangeOf(from, to, ofBits, t.size)
	part, err := c.bytesOf(t, r, bit == 0)
	if err != nil {
		return err
	}
	c.out.integer(int64(positionOf(part, r, bit == 1, bounded)))
	return nil
}

// bitPosRange reads what may follow BITPOS' bit: bounded says that an end was given.
func (c *call) bitPosRange() (from, to int64, ofBits, bounded bool, err error) {
	to = -1
	switch n := len(c.args); {
	case n > 6:
		err = errSyntax
	case n > 3:
		if from, err = c.integer(3); err == nil && n == 6 {
			ofBits, err = c.bitUnit(5)
		}
		if bounded = n > 4; err == nil && bounded {
			to, err = c.integer(4)
		}
	}
	return from, to, ofBits, bounded, err
}

// positionOf returns where the first bit of a range is that is set or clear, -1 if none is. The
// bits behind the end of the string are clear, unless the range is bounded.
func positionOf(part []byte, r bitRange, set, bounded bool) int {
	for i, b := range part {
		if !set {
			b = ^b
		}
		if b != 0 {
			return r.first&^7 + 8*i + bits.LeadingZeros8(b)
		}
	}
	if set || bounded || len(part) == 0 {
		return -1
	}
	return r.first&^7 + 8*len(part)
}

// bitOps are what BITOP does with bits of a string and those of the next.
var bitOps = map[string]func(a, b uint64) uint64{
	"and": func(a, b uint64) uint64 { return a & b },
	"or":  func(a, b uint64) uint64 { return a | b },
	"xor": func(a, b uint64) uint64 { return a ^ b },
	"not": nil,
}

var errMuchBits = replyError(fmt.Sprintf("ERR more than %d KiB of strings would be combined (MaxLooks), "+
	"for which all other writers would wait: combine some, and then the results", MaxLooks))

// bitTexts returns the strings that BITOP combines, and at how much it looks: at each, and its KiB.
// Beyond most it stops.
func (c *call) bitTexts(most int) (texts []text, looks int, err error) {
	for i := 3; i < len(c.args) && looks <= most; i++ {
		t, err := c.text(c.arg(i))
		if err != nil {
			return nil, looks, err
		}
		texts, looks = append(texts, t), looks+1+t.size/crdt.ChunkSize
	}
	return texts, looks, nil
}

func workOfBitOp(c *call, _ *command) int64 {
	_, looks, _ := c.bitTexts(c.mostWork()) // what is wrong is refused
	return int64(looks)
}

func runBitOp(c *call) error {
	name := string(bytes.ToLower(c.args[1]))
	op, ok := bitOps[name]
	switch {
	case !ok:
		return errSyntax
	case name == "not" && len(c.args) != 4:
		return replyError("ERR BITOP NOT must be called with a single source key.")
	}
	most := MaxLooks
	if c.looped {
		most = maxQuickBytes / crdt.ChunkSize
	}
	texts, looks, err := c.bitTexts(most)
	switch {
	case err != nil:
		return err
	case looks > most && c.looped:
		return errApart
	case looks > most:
		return errMuchBits
	}
	result, err := lookAhead(c, looks, 3, len(c.args), func() ([]byte, error) { return combineTexts(texts, name, op), nil })
	if err != nil {
		return err
	}
	if err := c.putOrRemove(c.arg(2), result); err != nil {
		return err
	}
	c.out.integer(int64(len(result)))
	return nil
}

// combineTexts returns what an operation makes of strings.
func combineTexts(texts []text, name string, op func(a, b uint64) uint64) []byte {
	bySize := func(a, b text) int { return a.size - b.size }
	longest, shortest := slices.MaxFunc(texts, bySize).size, slices.MinFunc(texts, bySize).size
	result := make([]byte, longest)
	copy(result, texts[0].read(0, longest))
	if name == "not" {
		for i := range result {
			result[i] = ^result[i]
		}
	}
	for _, t := range texts[1:] {
		other, i := t.read(0, longest), 0
		for ; i+8 <= len(other); i += 8 {
			a, b := binary.NativeEndian.Uint64(result[i:]), binary.NativeEndian.Uint64(other[i:])
			binary.NativeEndian.PutUint64(result[i:], op(a, b))
		}
		for ; i < len(other); i++ {
			result[i] = byte(op(uint64(result[i]), uint64(other[i])))
		}
	}
	if name == "and" { // behind its end a string is zeros, which change nothing else
		clear(result[shortest:])
	}
	return result
}

// putOrRemove makes a key hold a string, or nothing if that is empty.
func (c *call) putOrRemove(key string, value []byte) error {
	if len(value) == 0 {
		_, err := c.tx.Remove(key)
		return err
	}
	return c.put(key, c.tx.Types(key), value, time.Time{})
}

// bitmapKind: a bitmap is its chunks that are there, by where they begin.
var bitmapKind = kind{
	typ:   crdt.TypeBitmap,
	count: func(tx *embedded.Tx, key string) (int, bool) { return tx.Bitmap(key).Chunks(), true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return func(yield func(string, []byte) bool) {
			for at, part := range tx.Bitmap(key).All() {
				if !yield(strconv.Itoa(at), part) {
					return
				}
			}
		}
	},
	check: func(name string, value []byte) bool {
		at, err := strconv.Atoi(name)
		return err == nil && at >= 0 && at <= MaxValue-len(value)
	},
	put: func(tx *embedded.Tx, key, name string, value []byte) error {
		at, _ := strconv.Atoi(name)
		return tx.Bitmap(key).Edit(at, at+len(value), func(part []byte) { copy(part, value) })
	},
	encoding: func(*embedded.Tx, string) string { return "raw" },
}

func bitmapCommands() []command {
	return grouped("bitmap", []command{
		{name: "setbit", arity: 4, keys: oneKey, run: runSetBit, access: accessWrite,
			summary: "Sets or clears a bit of a string. Concurrent ones in different KiB all stay."},
		{name: "getbit", arity: 3, keys: oneKey, run: runGetBit, access: accessRead,
			summary: "Returns a bit of a string."},
		{name: "bitcount", work: workOfKeys, arity: -2, keys: oneKey, run: runBitCount, access: accessRead,
			summary: "Counts the bits of a string that are set."},
		{name: "bitpos", work: workOfKeys, arity: -3, keys: oneKey, run: runBitPos, access: accessRead,
			summary: "Finds the first bit of a string that is set, or clear."},
		{name: "bitop", work: workOfBitOp, arity: -4, keys: keyRange{2, -1, 1}, run: runBitOp, access: accessWrite,
			summary: "Combines strings bit by bit and stores the result."},
		{name: "bitfield", arity: -2, keys: oneKey, run: runBitField, access: accessWrite,
			summary: "Reads, sets and increments integers in the bits of a string."},
		{name: "bitfield_ro", arity: -2, keys: oneKey, run: runBitFieldRO, access: accessRead,
			summary: "Reads integers in the bits of a string."},
	})
}
