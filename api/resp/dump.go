package resp

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"iter"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
)

// What DUMP returns is for RESTORE of any peer of the same version, not for Redis: for each type
// that the key holds one byte that names it, how many parts there are, and each part's name and
// value with their lengths in front, numbers as varints; behind all, dumpVersion and a CRC-64 of
// the rest. It holds what readers see: of concurrent strings the latest, of a number its sum. When
// the fields of a hash expire stands behind, as a type of its own: fieldTimesKind.

const (
	// dumpVersion is greater than any of Redis's, which refuses it.
	dumpVersion = 0x7001
	dumpFooter  = 2 + 8
)

var dumpTable = crc64.MakeTable(crc64.ECMA)

const (
	errDump   = replyError("ERR DUMP payload version or checksum are wrong")
	errNoDump = replyError("ERR DUMP of what Redis has no type for is not possible")
)

func runDump(c *call) error {
	key := c.arg(1)
	types := c.tx.Types(key)
	if types == 0 {
		c.out.null()
		return nil
	}
	var payload []byte
	// The times come last: what is looked at for them is of what a payload may have.
	for _, t := range append(slices.Collect(types.All()), fieldTimesKind.typ) {
		k := kindOf(t)
		n, shown := 0, false
		if k != nil {
			n, shown = k.count(c.tx, key)
		}
		if !shown {
			return errNoDump
		}
		if n == 0 && t == fieldTimesKind.typ {
			continue
		}
		payload = binary.AppendUvarint(append(payload, byte(t)), uint64(n))
		for name, value := range k.parts(c.tx, key) {
			payload = appendBytes(appendBytes(payload, []byte(name)), value)
			if len(payload)+dumpFooter > MaxValue {
				return replyError(fmt.Sprintf("ERR what the key holds exceeds the limit of %d bytes (MaxValue) of what RESTORE takes",
					MaxValue))
			}
		}
	}
	if len(payload) == 0 {
		return errNoDump // a newer version knows the type
	}
	c.out.bulk(seal(payload))
	return nil
}

// seal appends the footer to a payload.
func seal(payload []byte) []byte {
	payload = binary.LittleEndian.AppendUint16(payload, dumpVersion)
	return binary.LittleEndian.AppendUint64(payload, crc64.Checksum(payload, dumpTable))
}

func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

func runRestore(c *call) error {
	replace, since, err := c.restoreOptions()
	if err != nil {
		return err
	}
	key := c.arg(1)
	if !replace && c.tx.Has(key) {
		return replyError("BUSYKEY Target key name already exists.")
	}
	ttl, err := c.integer(2)
	switch {
	case err != nil:
		return err
	case ttl < 0:
		return replyError("ERR Invalid TTL value, must be >= 0")
	}
	until, ok := c.until(ttl, expiryUnit{millis: true, since: since})
	if !ok {
		return replyError("ERR Invalid TTL value, must be >= 0")
	}
	payload, ok := checkDump(c.args[3])
	if !ok {
		return errDump
	}
	n, bad := 0, !isWhole(payload)
	for p := range dumped(payload) {
		n++
		bad = bad || p.kind.check != nil && !p.kind.check(string(p.name), p.value)
	}
	if bad || n == 0 {
		return replyError("ERR Bad data format")
	}
	if err := c.changing(n, "parts"); err != nil {
		return err
	}
	if replace {
		if _, err := c.tx.Remove(key); err != nil {
			return err
		}
	}
	for p := range dumped(payload) {
		if err := p.kind.put(c.tx, key, string(p.name), p.value); err != nil {
			return err
		}
	}
	if ttl > 0 {
		if _, err := c.tx.Expiry(key).Set(time.UnixMilli(until)); err != nil {
			return err
		}
	}
	c.out.status("OK")
	return nil
}

// restoreOptions reads what may follow RESTORE's payload: since says that its time is one since
// 1970. Times and counts of use are checked and dropped: nothing keeps them.
func (c *call) restoreOptions() (replace, since bool, err error) {
	idle, often := false, false
	for i := 4; i < len(c.args); i++ {
		more := i+1 < len(c.args)
		switch {
		case c.is(i, "replace"):
			replace = true
		case c.is(i, "absttl"):
			since = true
		case c.is(i, "idletime") && more && !often:
			i++
			n, err := c.integer(i)
			switch {
			case err != nil:
				return false, false, err
			case n < 0:
				return false, false, replyError("ERR Invalid IDLETIME value, must be >= 0")
			}
			idle = true
		case c.is(i, "freq") && more && !idle:
			i++
			n, err := c.integer(i)
			switch {
			case err != nil:
				return false, false, err
			case n < 0 || n > 255:
				return false, false, replyError("ERR Invalid FREQ value, must be >= 0 and <= 255")
			}
			often = true
		default:
			return false, false, errSyntax
		}
	}
	return replace, since, nil
}

// checkDump returns what stands before the footer, and whether that is right.
func checkDump(data []byte) (payload []byte, ok bool) {
	end := len(data) - dumpFooter
	if end < 0 || binary.LittleEndian.Uint16(data[end:]) != dumpVersion {
		return nil, false
	}
	sum := binary.LittleEndian.Uint64(data[end+2:])
	return data[:end], sum == crc64.Checksum(data[:end+2], dumpTable)
}

// dumpedPart is a part of a value in a payload.
type dumpedPart struct {
	kind        *kind
	name, value []byte
	rest        []byte // what is behind it
	left        uint64 // parts of the type that are to come
}

// dumped passes the parts in a payload, up to where it is wrong.
func dumped(payload []byte) iter.Seq[dumpedPart] {
	return func(yield func(dumpedPart) bool) {
		for len(payload) > 0 {
			k := kindOf(crdt.Type(payload[0]))
			n, rest, ok := cutNumber(payload[1:])
			if k == nil || !ok || n == 0 {
				return
			}
			for ; n > 0; n-- {
				p := dumpedPart{kind: k, left: n - 1}
				var first, second bool
				p.name, rest, first = cutBytes(rest)
				p.value, rest, second = cutBytes(rest)
				p.rest = rest
				if !first || !second || len(p.name) > crdt.MaxName || !yield(p) {
					return
				}
			}
			payload = rest
		}
	}
}

// isWhole reports whether a payload has nothing wrong.
func isWhole(payload []byte) bool {
	rest, left := payload, uint64(1)
	for p := range dumped(payload) {
		rest, left = p.rest, p.left
	}
	return len(rest) == 0 && left == 0
}

func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, width := binary.Uvarint(b)
	if width <= 0 {
		return 0, nil, false
	}
	return n, b[width:], true
}

func cutBytes(b []byte) (data, rest []byte, ok bool) {
	n, rest, ok := cutNumber(b)
	if !ok || n > uint64(len(rest)) {
		return nil, nil, false
	}
	return slices.Clip(rest[:n]), rest[n:], true
}
