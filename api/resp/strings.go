package resp

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

func runGet(c *call) error {
	value, ok := c.tx.String(string(c.args[1])).Get() // the key is not kept, and costs nothing
	var err error
	if !ok {
		value, ok, err = c.getPacked(c.arg(1))
	}
	switch long := len(value) > MaxBatchOutput && !c.whole && !c.inScript; {
	case !long:
		return c.replyWith(value, ok, err)
	case c.send == nil:
		return errLong
	}
	return c.inParts(value)
}

// inParts replies with bytes, and sends what there is of them whenever that is MaxBatchOutput.
func (c *call) inParts(value []byte) error {
	at := len(c.out.buf)
	c.holding = len(value)
	defer func() { c.holding = 0 }()
	c.out.header('$', int64(len(value)))
	for part := range slices.Chunk(value, MaxBatchOutput) {
		c.out.buf = append(c.out.buf, part...)
		if err := c.more(at); err != nil {
			return err
		}
	}
	c.out.buf = append(c.out.buf, "\r\n"...)
	return nil
}

// tooLong reports whether the loop must not copy a value.
func (c *call) tooLong(value []byte) bool { return c.looped && len(value) > maxQuickBytes }

// getString returns the string of a key, and errWrongType if there is only something else.
func (c *call) getString(key string) (value []byte, ok bool, err error) {
	if value, ok = c.tx.String(key).Get(); ok {
		return value, true, nil
	}
	return c.getPacked(key)
}

// getPacked returns what is no plain string.
func (c *call) getPacked(key string) (value []byte, ok bool, err error) {
	if types := c.tx.Types(key); types == 0 || types.Has(crdt.TypeString) {
		return nil, false, nil
	}
	if value, ok = packed(c.tx.Fields, key); !ok {
		return nil, false, errWrongType
	}
	return value, true, nil
}

// setOptions is what may follow SET's key and value.
type setOptions struct {
	ifAbsent, ifPresent, get, keep bool
	until                          time.Time // zero if that is never
}

func (c *call) setOptions() (o setOptions, err error) {
	var unit expiryUnit
	at := 0
	for i := 3; i < len(c.args); i++ {
		u, timed := c.expiryUnit(i)
		switch {
		case c.is(i, "nx") && !o.ifPresent:
			o.ifAbsent = true
		case c.is(i, "xx") && !o.ifAbsent:
			o.ifPresent = true
		case c.is(i, "get"):
			o.get = true
		case c.is(i, "keepttl") && at == 0:
			o.keep = true
		case timed && !o.keep && i+1 < len(c.args) && (at == 0 || u == unit):
			i++
			at, unit = i, u
		default:
			return o, errSyntax
		}
	}
	if at > 0 {
		o.until, err = c.lifetime(at, unit, "set")
	}
	return o, err
}

func runSet(c *call) error {
	o, err := c.setOptions()
	if err != nil {
		return err
	}
	key := c.arg(1)
	types := c.tx.Types(key)
	exists := types != 0
	if o.get {
		old, ok, err := c.getString(key)
		if err != nil {
			return err
		}
		switch {
		case c.tooLong(old):
			return errApart
		case ok:
			c.out.bulk(old)
		default:
			c.out.null()
		}
	}
	if o.ifAbsent && exists || o.ifPresent && !exists {
		if !o.get {
			c.out.null()
		}
		return nil
	}
	if o.keep {
		o.until, _ = c.tx.Expiry(key).Get()
	}
	if err := c.put(key, types, c.args[2], o.until); err != nil {
		return err
	}
	if !o.get {
		c.out.status("OK")
	}
	return nil
}

// put makes a key hold a string, whatever it holds, values of these types: until a time, or for
// ever if that is zero.
func (c *call) put(key string, types crdt.Types, value []byte, until time.Time) error {
	if types != 0 && !types.Only(crdt.TypeString) {
		if _, err := c.tx.Remove(key); err != nil {
			return err
		}
	}
	return c.setString(key, value, until)
}

// store makes a key's string another one, which expires when the one before does. What the key
// holds beside it stays.
func (c *call) store(key string, value []byte) error {
	until, _ := c.tx.Expiry(key).Get()
	types, err := c.tx.Types(key), c.setString(key, value, until)
	if err != nil || types == 0 || types.Only(crdt.TypeString) {
		return err
	}
	if _, err = c.tx.Bitmap(key).Clear(); err == nil {
		_, err = c.tx.HyperLogLog(key).Clear()
	}
	return err
}

func runIncr(c *call) error { return c.add(1) }

func runDecr(c *call) error { return c.add(-1) }

func runIncrBy(c *call) error {
	n, err := c.integer(2)
	if err != nil {
		return err
	}
	return c.add(n)
}

func runDecrBy(c *call) error {
	n, err := c.integer(2)
	switch {
	case err != nil:
		return err
	case n == math.MinInt64:
		return errDecrement
	}
	return c.add(-n)
}

// add increments the string of the key that the first argument names.
func (c *call) add(n int64) error {
	key := c.arg(1)
	if err := c.typeError(key, crdt.TypeString); err != nil {
		if err = c.unpackInteger(key); err != nil {
			return err
		}
	}
	value, err := c.tx.String(key).Add(n)
	if err != nil {
		return additionError(err, errNotInteger)
	}
	c.out.integer(value)
	return nil
}

// additionError returns an error of String.Add in Redis's words.
func additionError(err, notInteger error) error {
	switch {
	case errors.Is(err, crdt.ErrNotInteger):
		return notInteger
	case errors.Is(err, crdt.ErrOverflow):
		return errOverflow
	}
	return err
}

func runMGet(c *call) error {
	return c.readEach(1, func(key string) ([]byte, bool) {
		value, ok, _ := c.getString(key)
		return value, ok
	})
}

// readEach replies with the string of each name that the arguments are from the given one on.
func (c *call) readEach(first int, get func(name string) (value []byte, ok bool)) error {
	at := len(c.out.buf)
	c.out.array(len(c.args) - first)
	for i := first; i < len(c.args); i++ {
		value, ok := get(c.arg(i))
		switch {
		case c.tooLong(value):
			return errApart
		case ok && len(c.out.buf)-at+len(value) > MaxReply:
			return errReplyTooLarge
		case ok:
			c.out.bulk(value)
		default:
			c.out.null()
		}
	}
	return nil
}

func runMSet(c *call) error {
	if err := c.putAll("mset"); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

func runMSetNX(c *call) error {
	if len(c.args)%2 == 0 {
		return wrongArity("msetnx")
	}
	for i := 1; i < len(c.args); i += 2 {
		if c.tx.Has(c.arg(i)) {
			c.out.integer(0)
			return nil
		}
	}
	if err := c.putAll("msetnx"); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

// putAll makes each key hold the value behind it.
func (c *call) putAll(name string) error {
	if len(c.args)%2 == 0 {
		return wrongArity(name)
	}
	if err := c.changing(len(c.args)/2, "keys"); err != nil {
		return err
	}
	for i := 1; i < len(c.args); i += 2 {
		key := c.arg(i)
		if err := c.put(key, c.tx.Types(key), c.args[i+1], time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

func runSetNX(c *call) error {
	key := c.arg(1)
	if c.tx.Has(key) {
		c.out.integer(0)
		return nil
	}
	if err := c.tx.String(key).Set(c.args[2]); err != nil {
		return err
	}
	c.out.integer(1)
	return nil
}

func runGetSet(c *call) error {
	if err := c.reply(c.arg(1)); err != nil {
		return err
	}
	return c.put(c.arg(1), c.tx.Types(c.arg(1)), c.args[2], time.Time{})
}

func runGetDel(c *call) error {
	if err := c.reply(c.arg(1)); err != nil {
		return err
	}
	_, err := c.tx.Remove(c.arg(1))
	return err
}

// reply replies with the string of a key.
func (c *call) reply(key string) error { return c.replyWith(c.getString(key)) }

func (c *call) replyWith(value []byte, ok bool, err error) error {
	switch {
	case err != nil:
		return err
	case c.tooLong(value):
		return errApart
	case ok:
		c.out.bulk(value)
	default:
		c.out.null()
	}
	return nil
}

func runStrLen(c *call) error {
	t, err := c.text(c.arg(1))
	if err != nil {
		return err
	}
	c.out.integer(int64(t.size))
	return nil
}

func runAppend(c *call) error {
	t, err := c.text(c.arg(1))
	if err != nil {
		return err
	}
	return c.rewrite(t, t.size, c.args[2])
}

func runSetRange(c *call) error {
	at, err := c.integer(2)
	switch {
	case err != nil:
		return err
	case at < 0:
		return replyError("ERR offset is out of range")
	}
	t, err := c.text(c.arg(1))
	switch {
	case err != nil:
		return err
	case len(c.args[3]) == 0:
		c.out.integer(int64(t.size))
		return nil
	}
	return c.rewrite(t, int(min(at, MaxValue+1)), c.args[3])
}

// rewrite stores a text with part from position at on, zeros before it where there is nothing, and
// replies how long that is.
func (c *call) rewrite(t text, at int, part []byte) error {
	size := max(t.size, at+len(part))
	if size > MaxValue {
		return replyError(fmt.Sprintf(
			"ERR string exceeds maximum allowed size (proto-max-bulk-len): here %d bytes (MaxValue)", MaxValue))
	}
	if c.looped && max(len(t.value), len(part)) > maxQuickBytes {
		return errApart
	}
	b, chunked, err := c.edited(c.arg(1), size, longText)
	switch {
	case err != nil:
		return err
	case chunked:
		err = b.Edit(at, at+len(part), func(to []byte) { copy(to, part) })
	default:
		whole := make([]byte, size)
		copy(whole, t.value)
		copy(whole[at:], part)
		err = c.store(c.arg(1), whole)
	}
	if err != nil {
		return err
	}
	c.out.integer(int64(size))
	return nil
}

func runGetRange(c *call) error {
	from, err := c.integer(2)
	if err != nil {
		return err
	}
	to, err := c.integer(3)
	if err != nil {
		return err
	}
	t, err := c.text(c.arg(1))
	if err != nil {
		return err
	}
	first, last, ok := between(from, to, t.size)
	switch {
	case !ok:
		last = first - 1
	case c.looped && last-first >= maxQuickBytes:
		return errApart
	}
	part := t.read(first, last+1)
	c.out.bulk(part)
	return nil
}

// between returns which of n places, from 0 on, a range of Redis's means, whose bounds count from
// the end if they are negative, and false if none.
func between(from, to int64, n int) (first, last int, ok bool) {
	length := int64(n)
	if to < from && from < 0 {
		return 0, 0, false
	}
	if from < 0 {
		from = max(0, from+length)
	}
	if to < 0 {
		to = max(0, to+length)
	}
	to = min(to, length-1)
	return int(from), int(to), from <= to
}

func runIncrByFloat(c *call) error {
	text, ok, err := c.getString(c.arg(1))
	if err != nil {
		return err
	}
	sum, err := addFloat(text, ok, c.args[2], errNoFloat)
	if err != nil {
		return err
	}
	if err := c.store(c.arg(1), sum); err != nil {
		return err
	}
	c.out.bulk(sum)
	return nil
}

// runLCS finds a longest common subsequence by the method of Wagner and Fischer (1974), in time
// and memory of the product of both lengths, which MaxProduct bounds.
func runLCS(c *call) error {
	var texts [2][]byte
	for i := range texts {
		var err error
		if texts[i], _, err = c.getString(c.arg(i + 1)); err != nil {
			return replyError("ERR The specified keys must contain string values")
		}
	}
	o, err := c.lcsOptions()
	if err != nil {
		return err
	}
	a, b := texts[0], texts[1]
	if (len(a)+1)*(len(b)+1) > MaxProduct {
		return replyError(fmt.Sprintf("ERR the lengths of the strings, %d and %d, have a product over the limit of %d "+
			"(MaxProduct)", len(a), len(b), MaxProduct))
	}
	if c.looped && len(a)*len(b) > maxQuickBytes {
		return errApart
	}
	common, runs := longestCommon(a, b)
	switch {
	case o.length:
		c.out.integer(int64(len(common)))
	case o.runs:
		c.writeRuns(runs, o, len(common))
	default:
		c.out.bulk(common)
	}
	return nil
}

// lcsOptions is what may follow LCS' keys.
type lcsOptions struct {
	length, runs, lengths bool
	least                 int64
}

func (c *call) lcsOptions() (o lcsOptions, err error) {
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "idx"):
			o.runs = true
		case c.is(i, "len"):
			o.length = true
		case c.is(i, "withmatchlen"):
			o.lengths = true
		case c.is(i, "minmatchlen") && i+1 < len(c.args):
			i++
			if o.least, err = c.integer(i); err != nil {
				return o, err
			}
		default:
			return o, errSyntax
		}
	}
	if o.length && o.runs {
		return o, replyError("ERR If you want both the length and indexes, please just use IDX.")
	}
	return o, nil
}

// run is bytes that two strings share: where they begin in each, and how many they are.
type run struct{ a, b, size int }

// longestCommon returns a longest common subsequence and the runs of it, the last first.
func longestCommon(a, b []byte) (common []byte, runs []run) {
	wide := len(b) + 1
	length := make([]uint32, (len(a)+1)*wide) // of the first i of a and j of b
	for i := range a {
		for j := range b {
			at := (i+1)*wide + j + 1
			if a[i] == b[j] {
				length[at] = length[at-wide-1] + 1
			} else {
				length[at] = max(length[at-wide], length[at-1])
			}
		}
	}
	common = make([]byte, length[len(length)-1])
	at := len(common)
	for i, j := len(a), len(b); i > 0 && j > 0; {
		switch here := i*wide + j; {
		case a[i-1] == b[j-1]:
			i, j, at = i-1, j-1, at-1
			common[at] = a[i]
			if n := len(runs) - 1; n >= 0 && runs[n].a == i+1 && runs[n].b == j+1 {
				runs[n] = run{i, j, runs[n].size + 1}
			} else {
				runs = append(runs, run{i, j, 1})
			}
		case length[here-wide] > length[here-1]:
			i--
		default:
			j--
		}
	}
	return common, runs
}

func (c *call) writeRuns(runs []run, o lcsOptions, length int) {
	c.out.dict(2)
	c.out.text("matches")
	at, n := len(c.out.buf), 0
	for _, r := range runs {
		if int64(r.size) < o.least {
			continue
		}
		n++
		c.out.array(2)
		if o.lengths {
			c.out.buf[len(c.out.buf)-3] = '3'
		}
		for _, from := range [...]int{r.a, r.b} {
			c.out.array(2)
			c.out.integer(int64(from))
			c.out.integer(int64(from + r.size - 1))
		}
		if o.lengths {
			c.out.integer(int64(r.size))
		}
	}
	c.out.arrayAt(at, n)
	c.out.text("len")
	c.out.integer(int64(length))
}

// stringKind: a string is one part without a name.
var stringKind = kind{
	typ:   crdt.TypeString,
	count: func(*embedded.Tx, string) (int, bool) { return 1, true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return func(yield func(string, []byte) bool) {
			if value, ok := tx.String(key).Get(); ok {
				yield("", value)
			}
		}
	},
	put: func(tx *embedded.Tx, key, _ string, value []byte) error { return tx.String(key).Set(value) },
	encoding: func(tx *embedded.Tx, key string) string {
		value, _ := tx.String(key).Get()
		if _, ok := parseInteger(value); ok {
			return "int"
		}
		return "raw"
	},
}
