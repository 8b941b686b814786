package resp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// streamCommand returns a call of a command for streams that may do something. What depends on the
// time, as ids that are made, is left out; of XINFO settleStream hides the times, and the radix
// tree.
func (d *differing) streamCommand(name string) []string {
	key, group, consumer := d.streamKey(), d.pick("g", "g", "g", "g", "g", "g", "g", "h", "none"), d.pick("alice", "bob")
	switch d.rand.IntN(16) { // so that others find entries, and some that are pending
	case 0, 1:
		return []string{"xgroup", "create", key, "g", "0", "MKSTREAM"}
	case 2, 3, 4:
		return []string{"xadd", key, d.nextID(), "f", d.argument()}
	case 5, 6:
		return []string{"xreadgroup", "GROUP", "g", consumer, "COUNT", d.pick("1", "2", "100"), "STREAMS", key, ">"}
	}
	some := func(words ...string) []string {
		if d.rand.IntN(3) > 0 {
			return nil
		}
		return words
	}
	add := func(args []string, more ...[]string) []string {
		for _, m := range more {
			args = append(args, m...)
		}
		return args
	}
	count := []string{"COUNT", d.pick("0", "1", "2", "100", "-1", "x")}
	switch name {
	case "xadd":
		args := add([]string{name, key}, some("NOMKSTREAM"), some(d.trim()...))
		id := d.nextID()
		if d.rand.IntN(3) == 0 {
			id = d.entryID()
		}
		return append(args, id, "f", d.argument(), d.argument(), d.argument())
	case "xrange":
		return add([]string{name, key, d.edge("-"), d.edge("+")}, some(count...))
	case "xrevrange":
		return add([]string{name, key, d.edge("+"), d.edge("-")}, some(count...))
	case "xtrim":
		return add([]string{name, key}, d.trim())
	case "xsetid":
		// A lower id than before has Redis pass over what is added next, in groups that had come
		// further.
		last := d.pick(d.nextID(), d.nextID(), "0-1")
		return add([]string{name, key, last}, some("ENTRIESADDED", d.pick("1", "5", "-1", "100")), some("MAXDELETEDID", d.entryID()))
	case "xread":
		return add([]string{name}, some(count...), some("NOACK"), []string{"STREAMS", key, d.streamKey(), d.pick("0", "$", d.entryID()), d.entryID()})
	case "xreadgroup":
		args := add([]string{name, "GROUP", group, consumer}, some(count...), some("NOACK"))
		if d.rand.IntN(2) == 0 {
			return append(args, "STREAMS", key, d.pick(">", ">", "0", d.entryID(), "$"))
		}
		return append(args, "STREAMS", key, d.streamKey(), d.pick(">", ">", "0"), ">")
	case "xdel":
		return []string{name, key, d.entryID(), d.entryID()}
	case "xack":
		return []string{name, key, group, d.entryID(), d.entryID(), d.entryID()}
	case "xpending":
		if d.rand.IntN(3) == 0 {
			return []string{name, key, group}
		}
		args := add([]string{name, key, group}, some("IDLE", d.idle()))
		args = append(args, d.edge("-"), d.edge("+"), d.pick("0", "2", "100", "100", "-1", "x"))
		return add(args, some(d.pick("alice", "bob", "none")))
	case "xclaim":
		args := []string{name, key, group, consumer, d.idle(), d.entryID(), d.entryID(), d.entryID()}
		args = add(args, some("IDLE", d.pick("2000000", d.idle())), some("TIME", d.pick("1000", "9000000000000", "-1", "x")))
		args = add(args, some("FORCE"), some("JUSTID"), some("RETRYCOUNT", "3"))
		return add(args, some("LASTID", d.entryID()), d.seldom(d.argument()))
	case "xautoclaim":
		args := []string{name, key, group, consumer, d.idle(), d.edge("-")}
		return add(args, some(count...), some("JUSTID"), d.seldom(d.argument()))
	case "xgroup":
		return d.groupCommand(key, group, consumer)
	case "xinfo":
		switch d.rand.IntN(4) {
		case 0:
			return []string{name, "GROUPS", key}
		case 1:
			return []string{name, "CONSUMERS", key, group}
		case 2:
			return []string{name, "STREAM", key}
		}
		return add([]string{name, "STREAM", key, "FULL"}, some(count...))
	}
	return []string{name, key}
}

func (d *differing) groupCommand(key, group, consumer string) []string {
	switch d.rand.IntN(10) {
	case 0:
		return []string{"xgroup", "destroy", key, group}
	case 1:
		return []string{"xgroup", "createconsumer", key, group, consumer}
	case 2:
		return []string{"xgroup", "delconsumer", key, group, consumer}
	case 3:
		return []string{"xgroup", "setid", key, group, d.pick("0", "$", "-", "+", d.entryID()), "ENTRIESREAD", d.pick("0", "3", "-1", "-2")}
	case 4:
		return []string{"xgroup", "setid", key, group, d.pick("0", "$", d.entryID())}
	case 5:
		return []string{"xgroup", d.pick("create", "foo"), key, group, d.argument(), d.argument()}
	}
	return []string{"xgroup", "create", key, d.pick("g", "h"), d.pick("0", "$", d.entryID()), "MKSTREAM"}
}

func (d *differing) pick(words ...string) string { return words[d.rand.IntN(len(words))] }

// seldom returns a word, or mostly none.
func (d *differing) seldom(word string) []string {
	if d.rand.IntN(12) > 0 {
		return nil
	}
	return []string{word}
}

// idle returns a time in milliseconds that has passed since an entry was delivered, or has not by far but where XCLAIM
// said so.
func (d *differing) idle() string {
	return d.pick("0", "0", "0", "0", "0", "1000000", "1000000", "-1", "x")
}

func (d *differing) streamKey() string {
	return d.pick("x0", "x0", "x0", "x0", "x0", "x1", "x1", "x2", "k1")
}

// nextID returns an id greater than those before.
func (d *differing) nextID() string {
	d.entries++
	return fmt.Sprintf("%d-%d", d.entries/3, d.entries%3)
}

// entryID returns one of few ids, mostly, so that they meet.
func (d *differing) entryID() string {
	ms := strconv.Itoa(max(0, d.entries/3-d.rand.IntN(5)))
	switch d.rand.IntN(16) {
	case 0:
		if text := d.argument(); text != "*" {
			return text
		}
	case 1:
		return ms + "-*"
	}
	return ms + "-" + strconv.Itoa(d.rand.IntN(3))
}

func (d *differing) edge(usual string) string {
	return d.pick(usual, usual, d.entryID(), "("+d.entryID())
}

func (d *differing) trim() []string {
	by := d.pick("MAXLEN", "MAXLEN", "MINID", "LIMIT")
	to := d.pick(strconv.Itoa(d.rand.IntN(6)), strconv.Itoa(d.rand.IntN(6)), d.argument())
	switch d.rand.IntN(4) {
	case 0:
		return []string{by, "~", to}
	case 1:
		return []string{by, "=", to}
	case 2:
		return []string{by, "~", to, "LIMIT", d.pick("0", "1", "1000", "x")}
	}
	return []string{by, to}
}

// settleStream hides in what XINFO tells what is of the time, and what Redis' radix tree has of
// nodes.
func (v *value) settleStream() {
	hidden := []string{`"idle"`, `"radix-tree-keys"`, `"radix-tree-nodes"`}
	for i := range v.elements {
		e := &v.elements[i]
		n, err := strconv.Atoi(strings.TrimPrefix(e.head, ":"))
		if err == nil && (n > 1e12 || i > 0 && slices.Contains(hidden, v.elements[i-1].head)) {
			e.head = ":some"
		}
		e.settleStream()
	}
}

// settlePending hides how long ago what XPENDING lists was delivered.
func (v *value) settlePending() {
	for _, e := range v.elements {
		if len(e.elements) == 4 {
			e.elements[2].head = ":some"
		}
	}
}
