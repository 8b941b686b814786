package resp

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// runCommand describes the commands to clients, which use it to find keys and to show help.
func runCommand(c *call) error { return describeCommands(c, sortedNames()) }

func runCommandCount(c *call) error {
	c.out.integer(int64(len(commands)))
	return nil
}

// runCommandList returns the names of commands, those of subcommands as "client|list" too.
func runCommandList(c *call) error {
	wanted := func(*command) bool { return true }
	switch {
	case len(c.args) == 2:
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "pattern"):
		pattern, err := c.pattern(4)
		if err != nil {
			return err
		}
		wanted = func(cmd *command) bool { return matchGlob(strings.ToLower(pattern), cmd.name) }
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "aclcat"):
		category := strings.ToLower(c.arg(4))
		wanted = func(cmd *command) bool { return slices.Contains(cmd.description().categories, category) }
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "module"):
		wanted = func(*command) bool { return false } // there is none
	default:
		return errSyntax
	}
	at, n := len(c.out.buf), 0
	for _, cmd := range allCommands() {
		if wanted(cmd) {
			c.out.text(cmd.name)
			n++
		}
	}
	c.out.arrayAt(at, n)
	return nil
}

// allCommands returns the commands in the order of their names, each with its subcommands behind
// it.
func allCommands() []*command {
	var all []*command
	for _, name := range sortedNames() {
		all = append(all, commands[name])
		for _, sub := range commands[name].subNames() {
			all = append(all, commands[name].subs[sub])
		}
	}
	return all
}

// runCommandGetKeys returns the keys of the call that its arguments are.
func runCommandGetKeys(c *call) error {
	_, keys, err := calledKeys(c.args[2:])
	if err != nil {
		return err
	}
	c.out.array(len(keys))
	for _, key := range keys {
		c.out.bulk(key)
	}
	return nil
}

// calledKeys returns which command a call is of, and its keys.
func calledKeys(args [][]byte) (cmd *command, keys [][]byte, err error) {
	cmd = lookUp(args[0])
	if cmd != nil && cmd.subs != nil && len(args) > 1 {
		cmd = find(cmd.subs, args[1])
	}
	switch {
	case cmd == nil:
		return nil, nil, replyError("ERR Invalid command specified")
	case cmd.keys.first == 0 && cmd.counted == 0 && cmd.find == nil || cmd.ofChannels():
		return nil, nil, errNoKeys
	}
	if cmd, err = resolve(args); err != nil {
		return nil, nil, replyError("ERR Invalid number of arguments specified for command")
	}
	keys, err = cmd.keysOf(args)
	for _, spec := range cmd.description().keys {
		if spec.word == "" && spec.begin >= len(args) { // as in PFMERGE of no source
			err = errKeyArguments
		}
	}
	if err == nil && len(keys) == 0 && cmd.counted == 0 {
		err = errNoKeys
	}
	return cmd, keys, err
}

const (
	errNoKeys       = replyError("ERR The command has no key arguments")
	errKeyArguments = replyError("ERR Invalid arguments specified for command")
)

// keysOf returns the arguments of a call that are keys.
func (c *command) keysOf(args [][]byte) (keys [][]byte, err error) {
	for i, last := c.keys.first, c.lastOf(args); i > 0 && i <= last; i += c.keys.step {
		keys = append(keys, args[i])
	}
	if c.counted > 0 {
		n, err := strconv.Atoi(string(args[c.counted]))
		least := 1
		if c.group == "scripting" { // one may have no keys
			least = 0
		}
		if err != nil || n < least || n > len(args)-c.counted-1 {
			return nil, errKeyArguments
		}
		keys = slices.Concat(keys, args[c.counted+1:c.counted+1+n])
	}
	if c.find != nil {
		keys = slices.Concat(keys, c.find(args))
	}
	return keys, nil
}

func runCommandInfo(c *call) error { return describeCommands(c, c.namesFrom(2)) }

func runCommandDocs(c *call) error { return documentCommands(c, c.namesFrom(2)) }

func sortedNames() []string { return slices.Sorted(maps.Keys(commands)) }

// namesFrom returns the arguments from the given one on, or the names of all commands if there are
// none.
func (c *call) namesFrom(first int) []string {
	if len(c.args) == first {
		return sortedNames()
	}
	names := make([]string, 0, len(c.args)-first)
	for i := first; i < len(c.args); i++ {
		names = append(names, c.arg(i))
	}
	return names
}

func describeCommands(c *call, names []string) error {
	at := len(c.out.buf)
	c.out.array(len(names))
	for _, name := range names {
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
		cmd := byFullName(name)
		if cmd == nil {
			c.out.null()
			continue
		}
		cmd.describe(c.out)
	}
	return nil
}

// byFullName returns the command or subcommand with a name.
func byFullName(name string) *command {
	name, sub, within := strings.Cut(name, "|")
	cmd := lookUp([]byte(name))
	if cmd != nil && within {
		return find(cmd.subs, []byte(sub))
	}
	return cmd
}

// document writes a name and an element of COMMAND DOCS.
func (c *command) document(w *replies) {
	w.text(c.name)
	fields := 2
	if c.subs != nil {
		fields++
	}
	w.dict(fields)
	w.text("summary")
	w.text(c.summary)
	w.text("group")
	w.text(c.group)
	if c.subs == nil {
		return
	}
	w.text("subcommands")
	w.dict(len(c.subs))
	for _, name := range c.subNames() {
		c.subs[name].document(w)
	}
}

func documentCommands(c *call, names []string) error {
	at, n := len(c.out.buf), 0
	for _, name := range names {
		if cmd := byFullName(name); cmd != nil {
			n++
			cmd.document(c.out)
		}
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	c.out.dictAt(at, n)
	return nil
}
