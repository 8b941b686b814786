package resp

import (
	"maps"
	"slices"
	"strings"
)

// A command that has subcommands is a name for several, each with an arity and a place in the table
// of its own. So a call of one that does not exist is known before it is executed, or queued by
// MULTI.

// containing completes a command that is nothing but its subcommands, and HELP.
func containing(c command, subs ...command) command {
	if c.run == nil {
		c.arity, c.run = -2, runHelp // which no call reaches: see resolve
	}
	subs = append(subs, command{name: "help", arity: 2, summary: "Prints this help."})
	c.subs = make(map[string]*command, len(subs))
	for _, sub := range subs {
		short := sub.name
		sub.name = c.name + "|" + short
		if sub.run == nil {
			sub.run = runHelp
		}
		c.subs[short] = &sub
	}
	return c
}

// subNames returns the names of the subcommands, in order.
func (c *command) subNames() []string { return slices.Sorted(maps.Keys(c.subs)) }

// runHelp shows the subcommands of a command.
func runHelp(c *call) error {
	cmd := lookUp(c.args[0])
	lines := []string{strings.ToUpper(cmd.name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"}
	for _, name := range cmd.subNames() {
		usage := strings.ToUpper(name)
		if more := cmd.subs[name].usage; more != "" {
			usage += " " + more
		}
		lines = append(lines, usage, "    "+cmd.subs[name].summary)
	}
	c.out.array(len(lines))
	for _, line := range lines {
		c.out.status(line)
	}
	return nil
}
