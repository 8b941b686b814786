package resp

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

func listCommands() []command {
	return grouped("list", []command{
		{name: "lpush", arity: -3, keys: oneKey, run: pushing(head, false), access: accessWrite,
			summary: "Puts elements before the first of a list. Concurrent ones all stay, and runs together."},
		{name: "rpush", arity: -3, keys: oneKey, run: pushing(tail, false), access: accessWrite,
			summary: "Puts elements behind the last of a list. Concurrent ones all stay, and runs together."},
		{name: "lpushx", arity: -3, keys: oneKey, run: pushing(head, true), access: accessWrite,
			summary: "Puts elements before the first of a list that exists here."},
		{name: "rpushx", arity: -3, keys: oneKey, run: pushing(tail, true), access: accessWrite,
			summary: "Puts elements behind the last of a list that exists here."},
		{name: "lpop", arity: -2, keys: oneKey, run: listPop(head), access: accessWrite,
			summary: "Removes the first elements of a list and returns them. Two peers may return the same at once."},
		{name: "rpop", arity: -2, keys: oneKey, run: listPop(tail), access: accessWrite,
			summary: "Removes the last elements of a list and returns them. Two peers may return the same at once."},
		{name: "llen", arity: 2, keys: oneKey, run: runLLen, access: accessRead,
			summary: "Returns the number of elements of a list."},
		{name: "lrange", work: workOfLRange, arity: 4, keys: oneKey, run: runLRange, access: accessRead,
			summary: "Returns elements of a list from an index to another."},
		{name: "lindex", arity: 3, keys: oneKey, run: runLIndex, access: accessRead,
			summary: "Returns the element of a list at an index."},
		{name: "lset", arity: 4, keys: oneKey, run: runLSet, access: accessWrite,
			summary: "Replaces the element at an index. It wins over a concurrent removal."},
		{name: "linsert", work: workOfKeys, arity: 5, keys: oneKey, run: runLInsert, access: accessWrite,
			summary: "Puts an element before or behind another."},
		{name: "lrem", work: workOfKeys, arity: 4, keys: oneKey, run: runLRem, access: accessWrite,
			summary: "Removes elements from a list that are equal to one."},
		{name: "ltrim", arity: 4, keys: oneKey, run: runLTrim, access: accessWrite,
			summary: "Removes the elements of a list that are not between two indexes."},
		{name: "lpos", brief: true, arity: -3, keys: oneKey, run: runLPos, access: accessScan,
			summary: "Returns the indexes of elements that are equal to one."},
		{name: "lmove", arity: 5, keys: twoKeys, run: runLMove, access: accessWrite,
			summary: "Moves an element from an end of a list to one of another."},
		{name: "rpoplpush", arity: 3, keys: twoKeys, run: runRPopLPush, access: accessWrite,
			summary: "Moves the last element of a list before the first of another."},
		{name: "lmpop", arity: -4, run: runLMPop, access: accessWrite, counted: 1,
			summary: "Removes elements from the first of some lists that has any, and returns them."},
		{name: "blpop", arity: -3, keys: allButLast, run: blockingListPop(head), access: accessWrite,
			summary: "Waits until one of some lists has an element, removes its first and returns it."},
		{name: "brpop", arity: -3, keys: allButLast, run: blockingListPop(tail), access: accessWrite,
			summary: "Waits until one of some lists has an element, removes its last and returns it."},
		{name: "blmove", arity: 6, keys: twoKeys, run: runBLMove, access: accessWrite,
			summary: "Waits until a list has an element, and moves it to another."},
		{name: "brpoplpush", arity: 4, keys: twoKeys, run: runBRPopLPush, access: accessWrite,
			summary: "Waits until a list has an element, and moves its last before the first of another."},
		{name: "blmpop", arity: -5, run: runBLMPop, access: accessWrite, counted: 2,
			summary: "Waits until one of some lists has elements, removes some and returns them."},
	})
}

var allButLast = keyRange{1, -2, 1}

// end is one of a list's.
type end bool

const (
	head end = false
	tail end = true
)

// list returns the list of the key that the first argument names.
func (c *call) list() crdt.List { return c.tx.List(c.arg(1)) }

// listError returns errWrongType if a key exists without a list.
func (c *call) listError(key string) error { return c.typeError(key, crdt.TypeList) }

// pushing returns LPUSH and its like, of those that push to a list only if it exists as well.
func pushing(to end, onlyThere bool) func(c *call) error {
	return func(c *call) error {
		if err := c.listError(c.arg(1)); err != nil {
			return err
		}
		l := c.list()
		n := l.Len()
		if onlyThere && n == 0 {
			c.out.integer(0)
			return nil
		}
		values := c.args[2:]
		if err := c.changing(len(values), "elements"); err != nil {
			return err
		}
		if to == head { // each before the one before it
			values = slices.Clone(values)
			slices.Reverse(values)
		}
		if err := push(l, n, to, values...); err != nil {
			return err
		}
		c.out.integer(int64(n + len(values)))
		return nil
	}
}

// push puts values to an end of a list of n elements, in their order.
func push(l crdt.List, n int, to end, values ...[]byte) error {
	if to == head {
		n = 0
	}
	return l.Insert(n, values...)
}

// pop removes elements at an end, at most so many, and returns them, the outermost first.
func (c *call) pop(l crdt.List, from end, most int) ([][]byte, error) {
	n := l.Len()
	count := min(most, n)
	if err := c.changing(count, "elements"); err != nil || count == 0 {
		return nil, err
	}
	first := 0
	if from == tail {
		first = n - count
	}
	if count == 1 {
		value, _, err := l.Pop(first)
		if c.tooLong(value) {
			return nil, errApart
		}
		return [][]byte{value}, err
	}
	values := make([][]byte, 0, count)
	size := 0
	for _, value := range l.From(first, false) {
		switch size += len(value); {
		case size > MaxReply:
			return nil, errReplyTooLarge
		case c.looped && size > maxQuickBytes:
			return nil, errApart
		}
		if values = append(values, value); len(values) == count { // before the next one is read
			break
		}
	}
	if from == tail {
		slices.Reverse(values)
	}
	_, err := l.Remove(first, first+count)
	return values, err
}

// listPop returns LPOP or RPOP.
func listPop(from end) func(c *call) error {
	return func(c *call) error {
		count, several := 1, len(c.args) == 3
		switch {
		case len(c.args) > 3:
			return wrongArity(c.command.name)
		case several:
			n, err := c.atLeast(2, 0, "value is out of range, must be positive")
			if err != nil {
				return err
			}
			count = n
		}
		if err := c.listError(c.arg(1)); err != nil {
			return err
		}
		l := c.list()
		switch exists := l.Len() > 0; {
		case !exists && several:
			c.out.nullArray()
			return nil
		case !exists:
			c.out.null()
			return nil
		}
		values, err := c.pop(l, from, count)
		switch {
		case err != nil:
			return err
		case several:
			c.out.bulks(values)
		default:
			c.out.bulk(values[0])
		}
		return nil
	}
}

// atLeast reads argument i as a number that is not less than one. The error has the text.
func (c *call) atLeast(i int, least int64, text string) (int, error) {
	n, err := c.integer(i)
	if err != nil || n < least {
		return 0, replyError("ERR " + text)
	}
	return int(min(n, math.MaxInt32)), nil
}

// bulks writes an array of values.
func (w *replies) bulks(values [][]byte) {
	w.array(len(values))
	for _, value := range values {
		w.bulk(value)
	}
}

func runLLen(c *call) error {
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	c.out.integer(int64(c.list().Len()))
	return nil
}

// spanOf returns which elements of n are from one index to another, both of them included, which
// count from the end if they are negative.
func spanOf(first, last int64, n int) (from, to int) {
	if first < 0 {
		first += int64(n)
	}
	if last < 0 {
		last += int64(n)
	}
	first, last = max(first, 0), min(last, int64(n)-1)
	if first > last {
		return 0, 0
	}
	return int(first), int(last) + 1
}

// listSpan returns the list that the first argument names, and which of its elements are from the
// index that is the second to the one that is the third.
func (c *call) listSpan() (l crdt.List, from, to int, err error) {
	first, err := c.integer(2)
	if err != nil {
		return l, 0, 0, err
	}
	last, err := c.integer(3)
	if err != nil {
		return l, 0, 0, err
	}
	if err := c.listError(c.arg(1)); err != nil {
		return l, 0, 0, err
	}
	l = c.list()
	from, to = spanOf(first, last, l.Len())
	return l, from, to, nil
}

// quickElements is how many elements of a list the loop reads itself.
const quickElements = 1024

func runLRange(c *call) error {
	l, from, to, err := c.listSpan()
	if err != nil {
		return err
	}
	if c.looped && to-from > quickElements {
		return errApart
	}
	return listing(c, to-from, c.out.arrayAt, elements(l, from, to), func(_ int, value []byte) { c.out.bulk(value) })
}

// elements passes those of a list from an index to one behind the last.
func elements(l crdt.List, from, to int) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if from == to {
			return
		}
		for i, value := range l.From(from, false) {
			if !yield(i, value) || i+1 == to {
				return
			}
		}
	}
}

// workOfLRange is that of LRANGE.
func workOfLRange(c *call, cmd *command) int64 {
	_, from, to, err := c.listSpan()
	if err != nil {
		return 0
	}
	return int64(to - from)
}

// index reads argument 2 as that of an element of n. ok is false if there is none.
func (c *call) index(n int) (i int, ok bool, err error) {
	at, err := c.integer(2)
	if at < 0 {
		at += int64(n)
	}
	return int(at), err == nil && 0 <= at && at < int64(n), err
}

func runLIndex(c *call) error {
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	l := c.list()
	n := l.Len()
	if n == 0 {
		c.out.null()
		return nil
	}
	i, ok, err := c.index(n)
	if err != nil {
		return err
	}
	switch value, found := l.Get(i); {
	case c.tooLong(value):
		return errApart
	case ok && found:
		c.out.bulk(value)
	default:
		c.out.null()
	}
	return nil
}

func runLSet(c *call) error {
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	l := c.list()
	n := l.Len()
	if n == 0 {
		return errNoKey
	}
	i, ok, err := c.index(n)
	switch {
	case err != nil:
		return err
	case !ok:
		return replyError("ERR index out of range")
	}
	if _, err := l.Set(i, c.args[3]); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

// walkable returns the error for a list of n elements in which a command that writes would look for
// too long.
func (c *call) walkable(n int) error {
	switch {
	case n > MaxWork:
		return replyError(fmt.Sprintf("ERR the list has %d elements: others would wait for a write that looks at more than %d "+
			"(MaxWork)", n, MaxWork))
	case c.looped && n > quickElements:
		return errApart
	}
	return nil
}

func runLInsert(c *call) error {
	if !c.is(2, "before") && !c.is(2, "after") {
		return errSyntax
	}
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	l := c.list()
	n := l.Len()
	if err := c.walkable(n); err != nil {
		return err
	}
	found, err := lookAhead(c, n, 1, 2, func() ([]int, error) { return indexesOf(l, c.args[3], 0, false, 1) })
	switch {
	case err != nil:
		return err
	case n == 0:
		c.out.integer(0)
		return nil
	case len(found) == 0:
		c.out.integer(-1)
		return nil
	}
	if err := l.Insert(found[0]+oneIf(c.is(2, "after")), c.args[4]); err != nil {
		return err
	}
	c.out.integer(int64(n + 1))
	return nil
}

// indexesOf returns where a list has elements that are equal to one, from an index on or back from
// it: as many as count says, or with 0 all, but no more than one beyond what a transaction changes.
func indexesOf(l crdt.List, elem []byte, start int, back bool, count int64) (found []int, err error) {
	held := 0
	for i, value := range l.From(start, back) {
		if held += len(value); held > MaxReply {
			return nil, errMuchHeld
		}
		if bytes.Equal(value, elem) {
			if found = append(found, i); int64(len(found)) == count || len(found) > embedded.MaxOps {
				break
			}
		}
	}
	return found, nil
}

func runLRem(c *call) error {
	count, err := c.integer(2)
	if err != nil {
		return err
	}
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	l := c.list()
	n := l.Len()
	if err := c.walkable(n); err != nil {
		return err
	}
	start, back := 0, count < 0
	if back {
		start, count = n-1, -count
	}
	found, err := lookAhead(c, n, 1, 2, func() ([]int, error) { return indexesOf(l, c.args[3], start, back, count) })
	if err != nil {
		return err
	}
	if err := c.changing(len(found), "elements"); err != nil {
		return err
	}
	slices.Sort(found)
	for _, i := range slices.Backward(found) {
		if _, err := l.Remove(i, i+1); err != nil {
			return err
		}
	}
	c.out.integer(int64(len(found)))
	return nil
}

func runLTrim(c *call) error {
	l, from, to, err := c.listSpan()
	if err != nil {
		return err
	}
	n := l.Len()
	if from < to {
		err = c.changing(n-(to-from), "elements")
	}
	if err != nil {
		return err
	}
	if from == to {
		_, err = l.Clear()
	} else if _, err = l.Remove(to, n); err == nil {
		_, err = l.Remove(0, from)
	}
	if err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

// positions is what an LPOS asks for.
type positions struct{ rank, count, longest int64 } // count -1: one, and no array

func (c *call) positions() (p positions, err error) {
	p = positions{rank: 1, count: -1}
	for i := 3; i < len(c.args); i += 2 {
		more := i+1 < len(c.args)
		switch {
		case c.is(i, "rank") && more:
			p.rank, err = c.integer(i + 1)
			if err == nil && p.rank == 0 {
				err = replyError("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... " +
					"or use negative to start from the end of the list")
			}
		case c.is(i, "count") && more:
			if p.count, err = c.integer(i + 1); err != nil || p.count < 0 {
				err = replyError("ERR COUNT can't be negative")
			}
		case c.is(i, "maxlen") && more:
			if p.longest, err = c.integer(i + 1); err != nil || p.longest < 0 {
				err = replyError("ERR MAXLEN can't be negative")
			}
		default:
			err = errSyntax
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func runLPos(c *call) error {
	p, err := c.positions()
	if err != nil {
		return err
	}
	if err := c.listError(c.arg(1)); err != nil {
		return err
	}
	l := c.list()
	start, back := 0, p.rank < 0
	if back {
		start, p.rank = l.Len()-1, -p.rank
	}
	var found []int
	looked, matches, held := int64(0), int64(0), 0
	for i, value := range l.From(start, back) {
		if p.longest > 0 && looked == p.longest {
			break
		}
		if held += len(value); c.whole && held > MaxReply {
			return errMuchHeld
		}
		looked++
		if !bytes.Equal(value, c.args[2]) {
			continue
		}
		if matches++; matches < p.rank {
			continue
		}
		if found = append(found, i); p.count < 0 || p.count > 0 && int64(len(found)) == p.count {
			break
		}
	}
	switch {
	case p.count >= 0:
		c.out.array(len(found))
		for _, i := range found {
			c.out.integer(int64(i))
		}
	case len(found) > 0:
		c.out.integer(int64(found[0]))
	default:
		c.out.null()
	}
	return nil
}

// end reads argument i.
func (c *call) end(i int) (end, error) {
	switch {
	case c.is(i, "left"):
		return head, nil
	case c.is(i, "right"):
		return tail, nil
	}
	return head, errSyntax
}

// ends reads two arguments, from i on.
func (c *call) ends(i int) (from, to end, err error) {
	if from, err = c.end(i); err == nil {
		to, err = c.end(i + 1)
	}
	return from, to, err
}

// move moves an element between the lists that the first two arguments name, and replies with it.
// done is false if there is none.
func (c *call) move(from, to end) (done bool, err error) {
	source, target := c.arg(1), c.arg(2)
	if err := c.listError(source); err != nil {
		return false, err
	}
	l := c.tx.List(source)
	if l.Len() == 0 {
		return false, nil
	}
	if err := c.listError(target); err != nil {
		return false, err
	}
	i := 0
	if from == tail {
		i = l.Len() - 1
	}
	value, _ := l.Get(i)
	if c.tooLong(value) {
		return false, errApart
	}
	// It is put in before it is taken out: a list that turns its only element is not emptied, and
	// keeps its expiry.
	into := c.tx.List(target)
	if err := push(into, into.Len(), to, value); err != nil {
		return false, err
	}
	if source == target && to == head {
		i++
	}
	if _, err := l.Remove(i, i+1); err != nil {
		return false, err
	}
	c.out.bulk(value)
	return true, nil
}

func (c *call) moveNow(from, to end, err error) error {
	if err != nil {
		return err
	}
	done, err := c.move(from, to)
	if err == nil && !done {
		c.out.null()
	}
	return err
}

func runLMove(c *call) error { return c.moveNow(c.ends(3)) }

func runRPopLPush(c *call) error { return c.moveNow(tail, head, nil) }

func runBLMove(c *call) error {
	from, to, err := c.ends(3)
	if err != nil {
		return err
	}
	return c.moveLater(from, to, 5)
}

func runBRPopLPush(c *call) error { return c.moveLater(tail, head, 3) }

// moveLater moves an element when there is one. timeout is the argument that says how long to wait.
func (c *call) moveLater(from, to end, timeout int) error {
	wait, err := c.seconds(timeout)
	if err != nil {
		return err
	}
	done, err := c.move(from, to)
	switch {
	case done || err != nil:
		return err
	case c.whole:
		c.out.null()
		return nil
	}
	return c.block([]string{c.arg(1)}, wait, attempt{
		try: func(c *call, key string) (bool, error) {
			if c.listError(key) != nil {
				return false, nil // another type came
			}
			return c.move(from, to)
		},
		none: (*replies).nullArray, takes: taking{typ: crdt.TypeList},
	})
}

// popFrom pops from a key, and replies with it and the elements: in an array if there may be
// several.
func (c *call) popFrom(key string, from end, most int, several bool) (done bool, err error) {
	if err := c.listError(key); err != nil {
		return false, err
	}
	l := c.tx.List(key)
	if l.Len() == 0 {
		return false, nil
	}
	values, err := c.pop(l, from, most)
	if err != nil {
		return false, err
	}
	c.out.array(2)
	c.out.text(key)
	if several {
		c.out.bulks(values)
	} else {
		c.out.bulk(values[0])
	}
	return true, nil
}

// popFirst pops from the first of some keys that has something.
func (c *call) popFirst(keys []string, from end, most int, several bool) (done bool, err error) {
	for _, key := range keys {
		if done, err := c.popFrom(key, from, most, several); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// popLater pops when one of some keys has something.
func (c *call) popLater(keys []string, from end, most int, several bool, wait time.Duration) error {
	if done, err := c.popFirst(keys, from, most, several); done || err != nil {
		return err
	}
	return c.block(keys, wait, attempt{
		try: func(c *call, key string) (bool, error) {
			if c.listError(key) != nil {
				return false, nil // another type came
			}
			return c.popFrom(key, from, most, several)
		},
		none: (*replies).nullArray, takes: taking{typ: crdt.TypeList},
	})
}

func blockingListPop(from end) func(c *call) error {
	return func(c *call) error {
		last := len(c.args) - 1
		wait, err := c.seconds(last)
		if err != nil {
			return err
		}
		return c.popLater(c.texts(1, last), from, 1, false, wait)
	}
}

// texts returns the arguments from one up to another.
func (c *call) texts(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, c.arg(i))
	}
	return all
}

// poppable reads what LMPOP asks for, from the number of keys at argument i on.
func (c *call) poppable(i int) (keys []string, from end, most int, err error) {
	n, err := c.atLeast(i, 1, "numkeys should be greater than 0")
	if err != nil {
		return nil, head, 0, err
	}
	where := i + n + 1
	if where >= len(c.args) {
		return nil, head, 0, errSyntax
	}
	if from, err = c.end(where); err != nil {
		return nil, head, 0, err
	}
	most = 1
	switch rest := c.args[where+1:]; {
	case len(rest) == 0:
	case len(rest) < 2 || !c.is(where+1, "count"):
		return nil, head, 0, errSyntax
	default:
		if most, err = c.atLeast(where+2, 1, "count should be greater than 0"); err == nil && len(rest) > 2 {
			err = errSyntax
		}
	}
	return c.texts(i+1, where), from, most, err
}

func runLMPop(c *call) error {
	keys, from, most, err := c.poppable(1)
	if err != nil {
		return err
	}
	done, err := c.popFirst(keys, from, most, true)
	if err == nil && !done {
		c.out.nullArray()
	}
	return err
}

func runBLMPop(c *call) error {
	keys, from, most, err := c.poppable(2)
	if err != nil {
		return err
	}
	wait, err := c.seconds(1)
	if err != nil {
		return err
	}
	return c.popLater(keys, from, most, true, wait)
}

var listKind = kind{
	typ:   crdt.TypeList,
	count: func(tx *embedded.Tx, key string) (int, bool) { return tx.List(key).Len(), true },
	parts: func(tx *embedded.Tx, key string) iter.Seq2[string, []byte] {
		return func(yield func(string, []byte) bool) {
			for value := range tx.List(key).All() {
				if !yield("", value) {
					return
				}
			}
		}
	},
	put: func(tx *embedded.Tx, key, _ string, value []byte) error {
		l := tx.List(key)
		return l.Insert(l.Len(), value)
	},
	encoding:     asCells,
	sorted:       true,
	sortedValues: true,
	ordered:      true,
}
