package resp

import (
	"slices"
	"strconv"
	"strings"
)

// streamCommand returns a call of a command for streams that may do something. What depends on the
// time, as ids that are made, is left out; of XINFO settleStream hides the times, and the radix
// tree.
func (d *differing) streamCommand(name string) []string {
	key, group, consumer := d.streamKey(), d.pick("g", "g", "g", "g", "h", "none"), d.pick("alice", "bob")
	if d.rand.IntN(8) == 0 {
		return []string{"xgroup", "create", key, "g", "0", "MKSTREAM"}
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
		return append(args, d.entryID(), "f", d.argument(), d.argument(), d.argument())
	case "xrange":
		return add([]string{name, key, d.edge("-"), d.edge("+")}, some(count...))
	case "xrevrange":
		return add([]string{name, key, d.edge("+"), d.edge("-")}, some(count...))
	case "xtrim":
		return add([]string{name, key}, d.trim())
	case "xsetid":
		// A lower id than before has Redis pass over what is added next, in groups that had come
		// further.
		last := d.pick("9-1", "9-2", "99-0", "0-1")
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
		return []string{name, key, group}
	case "xclaim":
		args := []string{name, key, group, consumer, d.pick("0", "0", "1000000", "x"), d.entryID(), d.entryID(), d.entryID()}
		return add(args, some("FORCE"), some("JUSTID"), some("RETRYCOUNT", "3"), some("LASTID", d.entryID()), some(d.argument()))
	case "xautoclaim":
		args := []string{name, key, group, consumer, d.pick("0", "0", "1000000", "x"), d.edge("-")}
		return add(args, some(count...), some("JUSTID"), some(d.argument()))
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

func (d *differing) streamKey() string { return d.pick("x0", "x0", "x0", "x0", "x1", "x1", "x2", "k1") }

// entryID returns one of few ids, mostly, so that they meet.
func (d *differing) entryID() string {
	switch d.rand.IntN(12) {
	case 0:
		if text := d.argument(); text != "*" {
			return text
		}
	case 1:
		return strconv.Itoa(d.rand.IntN(9)) + "-*"
	}
	return strconv.Itoa(d.rand.IntN(9)) + "-" + strconv.Itoa(d.rand.IntN(3))
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
