package resp

import (
	"maps"
	"slices"
)

// runCommand describes the commands to clients, which use it to find keys and to show help.
func runCommand(c *call) error { return describeCommands(c, sortedNames()) }

func runCommandCount(c *call) error {
	c.out.integer(int64(len(commands)))
	return nil
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
	c.out.array(len(names))
	for _, name := range names {
		cmd := lookUp([]byte(name))
		if cmd == nil {
			c.out.null()
			continue
		}
		cmd.describe(c.out)
	}
	return nil
}

// describe writes the ten elements of COMMAND INFO.
func (c *command) describe(w *replies) {
	w.array(10)
	w.text(c.name)
	w.integer(int64(c.arity))
	flags := c.flags()
	w.set(len(flags))
	for _, f := range flags {
		w.status(f)
	}
	w.integer(int64(c.firstKey))
	w.integer(int64(c.lastKey))
	w.integer(int64(c.keyStep))
	w.set(0)   // access categories
	w.array(0) // tips
	w.array(0) // key specifications
	w.array(0) // subcommands
}

func (c *command) flags() []string {
	switch c.access {
	case accessRead, accessScan:
		return []string{"readonly"}
	case accessWrite:
		return []string{"write"}
	}
	return []string{"fast"}
}

func documentCommands(c *call, names []string) error {
	at, n := len(c.out.buf), 0
	for _, name := range names {
		cmd := lookUp([]byte(name))
		if cmd == nil {
			continue
		}
		n++
		c.out.text(cmd.name)
		c.out.dict(2)
		c.out.text("summary")
		c.out.text(cmd.summary)
		c.out.text("group")
		c.out.text(cmd.group)
	}
	c.out.dictAt(at, n)
	return nil
}
