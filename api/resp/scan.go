package resp

import (
	"container/list"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/peerd/peerd/crdt"
)

// cursors remembers at which key each unfinished SCAN stands. Redis's cursors are numbers, while
// keys are gone through in the order of their names; so a number is given out for each place.
//
// A client that comes with a cursor has received it, and will not come with the one before. So a
// scan holds two entries however long it takes: the last cursor given out, and the one before it,
// should the reply have been lost. Scans that are never finished are forgotten, the longest unused
// first.
type cursors struct {
	mu    sync.Mutex
	last  uint64 // number given out last
	byID  map[uint64]*list.Element
	byUse list.List // of cursor, the latest used first
	bytes int
}

// mostCursor is greater than any cursor: some clients read them as floating-point numbers.
const mostCursor = 1 << 53

type cursor struct {
	id, previous uint64
	after        string // the greatest key that was returned or passed over
}

// lookUp returns the key that a cursor stands at, and false if it is not known or forgotten.
func (cs *cursors) lookUp(id uint64) (after string, ok bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	e, ok := cs.byID[id]
	if !ok {
		return "", false
	}
	cs.byUse.MoveToFront(e)
	c := e.Value.(cursor)
	cs.remove(c.previous)
	return c.after, true
}

// add returns a new cursor for a scan that came with the previous one.
func (cs *cursors) add(after string, previous uint64) uint64 {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byID == nil {
		cs.byID = map[uint64]*list.Element{}
		// Cursors of a server that ran here before should not be taken for ours. Some clients read
		// them as signed or floating-point numbers, so they stay well below 2^53.
		cs.last = rand.Uint64N(1 << 50)
	}
	cs.last++
	cs.byID[cs.last] = cs.byUse.PushFront(cursor{cs.last, previous, after})
	cs.bytes += len(after)
	for len(cs.byID) > MaxCursors || cs.bytes > MaxCursorBytes {
		cs.remove(cs.byUse.Back().Value.(cursor).id)
	}
	return cs.last
}

func (cs *cursors) remove(id uint64) {
	e, ok := cs.byID[id]
	if !ok {
		return
	}
	cs.byUse.Remove(e)
	delete(cs.byID, id)
	cs.bytes -= len(e.Value.(cursor).after)
}

// scanOptions is what may follow SCAN's cursor; TYPE only that.
type scanOptions struct {
	pattern string
	typ     string
	typed   bool
	count   int64
}

func (c *call) scanOptions(first int) (o scanOptions, err error) {
	o = scanOptions{pattern: "*", count: 10}
	for i := first; i < len(c.args); i += 2 {
		if i+1 == len(c.args) {
			return o, errSyntax
		}
		switch {
		case c.is(i, "match"):
			o.pattern, err = c.pattern(i + 1)
		case c.is(i, "type") && first == 2:
			o.typ, o.typed = c.arg(i+1), true
		case c.is(i, "count"):
			o.count, err = c.integer(i + 1)
			if err == nil && o.count < 1 {
				err = errSyntax
			}
		default:
			err = errSyntax
		}
		if err != nil {
			return o, err
		}
	}
	if c.looped && len(o.pattern) > briefPattern {
		return o, errApart
	}
	o.count = min(o.count, MaxScanCount)
	return o, nil
}

// runScan goes through the keys in the order of Tx.Keys, so a key that is there during the
// whole scan is returned exactly once.
func runScan(c *call) error {
	id, err := c.cursor(1)
	if err != nil {
		return err
	}
	o, err := c.scanOptions(2)
	if err != nil {
		return err
	}
	keys := func(after string, _ bool) iter.Seq2[string, crdt.Types] {
		return c.tx.Scan(globPrefix(o.pattern), after)
	}
	return scanned(c, id, o, keys, func(key string, types crdt.Types) int {
		if types == 0 || o.typed && !strings.EqualFold(o.typ, typeName(types)) {
			return 0
		}
		c.out.text(key)
		return 1
	})
}

// scanned goes through the names greater than the one that a cursor stands at, or all, as far as
// one call does. write writes those that the pattern means, and returns as how many replies.
func scanned[T any](c *call, id uint64, o scanOptions, names func(after string, more bool) iter.Seq2[string, T],
	write func(name string, value T) int) error {
	after, ended, err := c.placeOf(id)
	if err != nil || ended {
		return err
	}
	at, n := len(c.out.buf), 0
	seen, last, more := int64(0), after, false
	for name, value := range names(after, id != 0) {
		if seen == o.count || seen > 0 && len(c.out.buf)-at > MaxBatchOutput {
			more = true
			break
		}
		if name != "" { // no scan can go on after the empty name: "" bounds nothing
			seen++
		}
		last = name
		if matchGlob(o.pattern, name) {
			n += write(name, value)
		}
	}
	next := uint64(0)
	if more {
		next = c.server.cursors.add(last, id)
	}
	c.scanReply(at, n, next)
	return nil
}

// scanReply puts the cursor in front of the n keys written since at.
func (c *call) scanReply(at, n int, next uint64) {
	c.out.arrayAt(at, n)
	var front replies
	front.array(2)
	front.text(strconv.FormatUint(next, 10))
	c.out.insert(at, front.buf)
}

// cursor returns the cursor that argument i is, read as Redis reads it, by strtoul: up to a zero
// byte, nothing being 0, and below 0 counted from 2^64 down.
func (c *call) cursor(i int) (id uint64, err error) {
	text := string(c.args[i])
	if end := strings.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	if text == "" {
		return 0, nil
	}
	digits := strings.TrimPrefix(text, "-")
	negative := len(digits) < len(text)
	if !negative {
		digits = strings.TrimPrefix(text, "+")
	}
	if id, err = strconv.ParseUint(digits, 10, 64); err != nil {
		return 0, replyError("ERR invalid cursor")
	}
	if negative {
		id = -id
	}
	return id, nil
}

// placeOf returns the name that a cursor stands at. A number that no cursor ever is ends the scan,
// with a reply that says so.
func (c *call) placeOf(id uint64) (after string, ended bool, err error) {
	if id == 0 {
		return "", false, nil
	}
	if id > mostCursor {
		c.scanReply(len(c.out.buf), 0, 0)
		return "", true, nil
	}
	after, ok := c.server.cursors.lookUp(id)
	if !ok {
		return "", false, replyError("ERR invalid cursor: it was not given out by this server, or forgotten " +
			"because of too many unfinished scans; begin again with 0")
	}
	return after, false, nil
}

// scanWithin goes through what is under the key that the first argument names, as scanned does.
func scanWithin[T any](
	c *call, check func() error, names func(after string, more bool) iter.Seq2[string, T],
	write func(name string, value T) int,
) error {
	id, err := c.cursor(2)
	if err != nil {
		return err
	}
	if !c.tx.Has(c.arg(1)) {
		c.scanReply(len(c.out.buf), 0, 0)
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	o, err := c.scanOptions(3)
	if err != nil {
		return err
	}
	return scanned(c, id, o, names, write)
}
