package resp

import (
	"bytes"
	_ "embed"
	"slices"
	"strconv"
	"strings"
)

// described is what Redis 7.0 tells of the commands that are here too, by which clients find keys
// and what a command may do. A line has the name; the flags; the categories of ACLs; tips; and what
// is known of its keys, each with flags, where it begins (an argument, or the one behind a word
// that is looked for from an argument on) and how far it goes.
//
//go:embed described.txt
var described string

// descriptions are the lines of described, by name.
var descriptions = func() map[string]description {
	all := map[string]description{}
	for line := range strings.Lines(described) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		parts := strings.Split(rest+";", ";")
		d := description{flags: strings.Fields(parts[0]), categories: strings.Fields(parts[1]), tips: strings.Fields(parts[2])}
		for _, part := range parts[3:] {
			if fields := strings.Fields(part); len(fields) > 0 {
				d.keys = append(d.keys, newKeySpec(fields))
			}
		}
		all[name] = d
	}
	return all
}()

type description struct {
	flags, categories, tips []string
	keys                    []keySpec
}

// keySpec tells where some keys of a command are, and what becomes of them.
type keySpec struct {
	flags []string
	word  string // behind which they begin, looked for from argument begin on; if empty, they begin with argument begin
	begin int    // 0: unknown. Negative: counted from the end, and then the word is looked for backwards
	find  string // "range", "keynum", or "?"
	by    [3]int // its numbers, in Redis' order
}

func newKeySpec(fields []string) (k keySpec) {
	k.flags = strings.Split(fields[0], ",")
	fields = fields[1:]
	if n, err := strconv.Atoi(fields[0]); err == nil {
		k.begin = n
	} else if fields[0] != "?" {
		k.word = fields[0]
		k.begin, _ = strconv.Atoi(fields[1])
		fields = fields[1:]
	}
	k.find = fields[1]
	for i, text := range fields[2:] {
		k.by[i], _ = strconv.Atoi(text)
	}
	return k
}

// first returns where the keys begin in the arguments of a call, 0 if there are none.
func (k *keySpec) first(args [][]byte) int {
	if k.word == "" {
		return k.begin
	}
	at, step := k.begin, 1
	if at < 0 {
		at, step = len(args)+at, -1
	}
	for ; at > 0 && at < len(args)-1; at += step {
		if bytes.EqualFold(args[at], []byte(k.word)) {
			return at + 1
		}
	}
	return 0
}

// keysIn returns the keys of a call.
func (k *keySpec) keysIn(args [][]byte) (keys [][]byte) {
	first := k.first(args)
	if first == 0 || first >= len(args) {
		return nil
	}
	last, step := 0, k.by[1]
	switch last = first + k.by[0]; {
	case k.find == "keynum":
		n, err := strconv.Atoi(string(args[min(last, len(args)-1)]))
		if err != nil {
			return nil
		}
		step = k.by[2]
		first += k.by[1]
		last = first + (n-1)*step
	case k.find != "range":
		return nil
	case k.by[0] < 0:
		last = len(args) + k.by[0]
		if k.by[2] > 1 { // of what is left only a part
			last = first + (len(args)-first)/k.by[2] + k.by[0]
		}
	}
	for i := first; i <= min(last, len(args)-1); i += step {
		keys = append(keys, args[i])
	}
	return keys
}

// describe writes the ten elements of COMMAND INFO.
func (c *command) describe(w *replies) {
	d := c.description()
	w.array(10)
	w.text(c.name)
	w.integer(int64(c.arity))
	w.statuses(d.flags, "")
	w.integer(int64(c.keys.first))
	w.integer(int64(c.keys.last))
	w.integer(int64(c.keys.step))
	w.statuses(d.categories, "@")
	w.set(len(d.tips))
	for _, tip := range d.tips {
		w.text(tip)
	}
	w.set(len(d.keys))
	for i := range d.keys {
		d.keys[i].describe(w)
	}
	subs := c.subNames()
	w.array(len(subs))
	for _, name := range subs {
		c.subs[name].describe(w)
	}
}

// description returns what Redis tells of a command, or of one that it does not know what follows
// from the table.
func (c *command) description() description {
	if d, known := descriptions[c.name]; known {
		return d
	}
	switch c.access {
	case accessRead, accessScan:
		return description{flags: []string{"readonly"}}
	case accessWrite:
		return description{flags: []string{"write"}}
	}
	return description{flags: []string{"fast"}}
}

// ofChannels reports whether what stands where keys would are the names of sharded channels.
func (c *command) ofChannels() bool {
	keys := c.description().keys
	return len(keys) > 0 && slices.Contains(keys[0].flags, "not_key")
}

func (w *replies) statuses(words []string, mark string) {
	w.set(len(words))
	for _, word := range words {
		w.status(mark + word)
	}
}

func (k *keySpec) describe(w *replies) {
	w.dict(3)
	w.text("flags")
	w.statuses(k.flags, "")
	w.text("begin_search")
	switch {
	case k.begin == 0:
		w.numbered("unknown", nil, nil)
	case k.word == "":
		w.numbered("index", []string{"index"}, []int{k.begin})
	default:
		w.dict(2)
		w.text("type")
		w.text("keyword")
		w.text("spec")
		w.dict(2)
		w.text("keyword")
		w.text(k.word)
		w.text("startfrom")
		w.integer(int64(k.begin))
	}
	w.text("find_keys")
	switch k.find {
	case "range":
		w.numbered("range", []string{"lastkey", "keystep", "limit"}, k.by[:])
	case "keynum":
		w.numbered("keynum", []string{"keynumidx", "firstkey", "keystep"}, k.by[:])
	default:
		w.numbered("unknown", nil, nil)
	}
}

// numbered writes a part of a keySpec: its type, and numbers.
func (w *replies) numbered(kind string, names []string, numbers []int) {
	w.dict(2)
	w.text("type")
	w.text(kind)
	w.text("spec")
	w.dict(len(names))
	for i, name := range names {
		w.text(name)
		w.integer(int64(numbers[i]))
	}
}

// runCommandGetKeysAndFlags returns the keys of the call that its arguments are, each with what
// becomes of it.
func runCommandGetKeysAndFlags(c *call) error {
	args := c.args[2:]
	cmd, _, err := calledKeys(args)
	if err != nil {
		return err
	}
	at, n := len(c.out.buf), 0
	for _, spec := range cmd.description().keys {
		flags, keys := spec.flags, spec.keysIn(args)
		if spec.find == "?" && cmd.find != nil && slices.Contains(flags, "OW") {
			keys = cmd.find(args) // what SORT stores
		}
		if slices.Contains(flags, "variable_flags") {
			flags = variableFlags(cmd.name, args)
		}
		for _, key := range keys {
			c.out.array(2)
			c.out.bulk(key)
			c.out.statuses(flags, "")
			n++
		}
	}
	c.out.arrayAt(at, n)
	return nil
}

// variableFlags returns what becomes of the key of SET, which depends on its GET, or of BITFIELD.
func variableFlags(name string, args [][]byte) []string {
	gets := func(arg []byte) bool { return bytes.EqualFold(arg, []byte("get")) }
	switch {
	case name == "set" && !slices.ContainsFunc(args[3:], gets):
		return []string{"OW", "update"}
	case name == "bitfield" && fieldsAreRead(args[2:]):
		return []string{"RO", "access"}
	}
	return []string{"RW", "access", "update"}
}

// fieldsAreRead reports whether operations of BITFIELD are well-formed and only read.
func fieldsAreRead(ops [][]byte) bool {
	for len(ops) > 0 {
		n := map[string]int{"get": 3, "overflow": 2}[strings.ToLower(string(ops[0]))]
		if n == 0 || n > len(ops) {
			return false
		}
		ops = ops[n:]
	}
	return true
}
