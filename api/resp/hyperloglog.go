package resp

import (
	"fmt"
	"iter"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// In Redis a HyperLogLog is a string of a form of its own: "HYLL", a byte that says how the
// registers stand in it, three zeros, eight bytes for a count that was estimated before, and the
// registers. Here it is a type. To all other commands it is the string that it would be, and such a
// string is one to those of this file.

const (
	hyllMagic  = "HYLL"
	hyllHeader = 16
	hyllDense  = 0 // six bits for each register
	hyllSparse = 1 // runs of equal registers
	// sparseSize is the size in bytes up to which a HyperLogLog is a sparse string, as in Redis.
	sparseSize   = 3000
	longestZeros = 1 << 14 // registers in a run
	shortZeros   = 64
	longestRun   = 4
	sparseMost   = 32 // that a register can be
	denseSize    = hyllHeader + len(crdt.Registers{})*6/8
)

const (
	errNoHyll  = replyError("WRONGTYPE Key is not a valid HyperLogLog string value.")
	errBadHyll = replyError("INVALIDOBJ Corrupted HLL object detected")
)

// hyllOf returns the string that a HyperLogLog is to other commands.
func hyllOf(of crdt.Fields, name string) (value []byte, ok bool) {
	r, ok := of.HyperLogLog(name).Get()
	if !ok {
		return nil, false
	}
	header := append(make([]byte, 0, denseSize), hyllMagic...)
	header = append(header, hyllSparse, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80) // there is no count
	if value, ok := appendSparse(header, r); ok && len(value) <= sparseSize {
		return value, true
	}
	header[len(hyllMagic)] = hyllDense
	value = header[:denseSize]
	clear(value[hyllHeader:])
	for i, n := range r {
		at, shift := hyllHeader+i*6/8, i*6%8
		value[at] |= n << shift
		if shift > 2 {
			value[at+1] |= n >> (8 - shift)
		}
	}
	return value, true
}

// appendSparse appends the runs of a sparse string. ok is false if a register is greater than it
// can hold.
func appendSparse(b []byte, r *crdt.Registers) (out []byte, ok bool) {
	for i := 0; i < len(r); {
		n, size := r[i], 1
		for i+size < len(r) && r[i+size] == n && (n == 0 || size < longestRun) {
			size++
		}
		i += size
		switch {
		case n > sparseMost:
			return nil, false
		case n > 0:
			b = append(b, 0x80|(n-1)<<2|byte(size-1))
		case size > shortZeros:
			b = append(b, 0x40|byte((size-1)>>8), byte(size-1))
		default:
			b = append(b, byte(size-1))
		}
	}
	return b, true
}

// parseHyll returns the registers in a string.
func parseHyll(s []byte) (*crdt.Registers, error) {
	if len(s) < hyllHeader || string(s[:len(hyllMagic)]) != hyllMagic {
		return nil, errNoHyll
	}
	r := new(crdt.Registers)
	switch s[len(hyllMagic)] {
	case hyllSparse:
		if !parseSparse(s[hyllHeader:], r) {
			return nil, errBadHyll
		}
	case hyllDense:
		if len(s) != denseSize {
			return nil, errNoHyll
		}
		for i := range r {
			at, shift := hyllHeader+i*6/8, i*6%8
			r[i] = s[at] >> shift
			if shift > 2 {
				r[i] |= s[at+1] << (8 - shift)
			}
			r[i] &= 0x3f
		}
	default:
		return nil, errNoHyll
	}
	return r, nil
}

// parseSparse reads runs, which are of all registers together.
func parseSparse(s []byte, r *crdt.Registers) bool {
	i := 0
	for len(s) > 0 {
		n, size, width := byte(0), int(s[0]&0x3f)+1, 1
		switch {
		case s[0]&0x80 != 0:
			n, size = s[0]>>2&0x1f+1, int(s[0]&3)+1
		case s[0]&0x40 != 0 && len(s) == 1:
			return false
		case s[0]&0x40 != 0:
			size, width = (size-1)<<8+int(s[1])+1, 2
		}
		if i+size > len(r) {
			return false
		}
		for j := range size {
			r[i+j] = n
		}
		i, s = i+size, s[width:]
	}
	return i == len(r)
}

// registers returns those of a key, and an error if it holds something that is no HyperLogLog. They
// are nil if there is none. plain says that it is a string which is one.
func (c *call) registers(key string) (r *crdt.Registers, plain bool, err error) {
	if c.tx.Types(key) == 0 {
		return nil, false, nil
	}
	value, plain := c.tx.String(key).Get()
	if !plain {
		if r, ok := c.tx.HyperLogLog(key).Get(); ok {
			return r, false, nil
		}
		if value, plain = c.tx.Bitmap(key).Get(); !plain {
			return nil, false, errWrongType
		}
	}
	r, err = parseHyll(value)
	return r, true, err
}

// counting prepares the HyperLogLog of a key for what is to be added: it is made of a string, or
// made. isNew says that there was nothing.
func (c *call) counting(key string) (h crdt.HyperLogLog, isNew bool, err error) {
	h = c.tx.HyperLogLog(key)
	switch types := c.tx.Types(key); {
	case types.Only(crdt.TypeHyperLogLog):
		return h, false, nil
	case types == 0:
		_, err = h.Merge(new(crdt.Registers))
		return h, true, err
	}
	r, plain, err := c.registers(key)
	if err != nil || !plain {
		return h, false, err
	}
	if _, err = h.Merge(r); err == nil {
		_, err = c.tx.String(key).Clear()
	}
	if err == nil {
		_, err = c.tx.Bitmap(key).Clear()
	}
	return h, false, err
}

func runPFAdd(c *call) error {
	h, isNew, err := c.counting(c.arg(1))
	if err != nil {
		return err
	}
	elems := make([]string, 0, len(c.args)-2)
	for _, arg := range c.args[2:] {
		elems = append(elems, string(arg))
	}
	changed, err := h.Add(elems...)
	if err != nil {
		return err
	}
	n := int64(0)
	if changed || isNew {
		n = 1
	}
	c.out.integer(n)
	return nil
}

// hyllCells is how many cells a HyperLogLog has at most.
const hyllCells = 64

var errMuchMerged = replyError(fmt.Sprintf("ERR more than %d HyperLogLogs would be merged (MaxLooks of cells), "+
	"for which all other writers would wait: merge some, and then the results", MaxLooks/hyllCells))

func workOfHyll(c *call, _ *command) int64 { return int64(len(c.args)-1) * hyllCells }

// united returns the registers of all keys that the arguments name.
func (c *call) united() (*crdt.Registers, error) {
	if c.looped && workOfHyll(c, nil) > quickWork {
		return nil, errApart
	}
	all := new(crdt.Registers)
	for i := 1; i < len(c.args); i++ {
		r, _, err := c.registers(c.arg(i))
		if err != nil {
			return nil, err
		}
		if r != nil {
			all.Merge(r)
		}
	}
	return all, nil
}

func runPFCount(c *call) error {
	all, err := c.united()
	if err != nil {
		return err
	}
	c.out.integer(all.Count())
	return nil
}

func runPFMerge(c *call) error {
	if workOfHyll(c, nil) > MaxLooks {
		return errMuchMerged
	}
	all, err := lookAhead(c, int(workOfHyll(c, nil)), 1, len(c.args), c.united) // those of the destination too
	if err != nil {
		return err
	}
	h, _, err := c.counting(c.arg(1))
	if err != nil {
		return err
	}
	if _, err := h.Merge(all); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

// hyperLogLogKind: a HyperLogLog is one part, the string that it is in Redis.
var hyperLogLogKind = kind{
	typ:   crdt.TypeHyperLogLog,
	count: func(*embedded.Tx, string) (int, bool) { return 1, true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return func(yield func(string, []byte) bool) {
			if value, ok := hyllOf(tx.Fields, key); ok {
				yield("", value)
			}
		}
	},
	check: func(_ string, value []byte) bool {
		_, err := parseHyll(value)
		return err == nil
	},
	put: func(tx *embedded.Tx, key, _ string, value []byte) error {
		r, err := parseHyll(value)
		if err == nil {
			_, err = tx.HyperLogLog(key).Merge(r)
		}
		return err
	},
	encoding: func(*embedded.Tx, string) string { return "raw" },
}

func hyperLogLogCommands() []command {
	return grouped("hyperloglog", []command{
		{name: "pfadd", arity: -2, keys: oneKey, run: runPFAdd, access: accessWrite,
			summary: "Adds elements to a HyperLogLog. What all peers add is counted."},
		{name: "pfcount", work: workOfHyll, arity: -2, keys: everyKey, run: runPFCount, access: accessRead,
			summary: "Estimates how many different elements HyperLogLogs have together."},
		{name: "pfmerge", work: workOfHyll, arity: -2, keys: everyKey, run: runPFMerge, access: accessWrite,
			summary: "Makes a HyperLogLog count what others do."},
	})
}
