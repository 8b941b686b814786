package resp

// functionCommand is for who cleans up before or after itself, as test suites do: there are no
// functions.
func functionCommand() command {
	return containing(command{name: "function", summary: "Says that there are no functions: they are for later."},
		command{name: "flush", arity: -2, usage: "[ASYNC|SYNC]", run: runFunctionFlush,
			summary: "Removes all functions: there are none."},
		command{name: "list", arity: -2, usage: "[LIBRARYNAME pattern] [WITHCODE]", run: runFunctionList,
			summary: "Returns all functions: there are none."})
}

func runFunctionFlush(c *call) error {
	if len(c.args) > 3 {
		return wrongUse(c)
	}
	if len(c.args) == 3 && !c.is(2, "async") && !c.is(2, "sync") {
		return replyError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
	}
	c.out.status("OK")
	return nil
}

// laterFunctions are the subcommands that Redis has beside these.
var laterFunctions = []string{"delete", "dump", "kill", "load", "restore", "stats"}

func runFunctionList(c *call) error {
	code, library := false, false
	for i := 2; i < len(c.args); i++ {
		switch {
		case !code && c.is(i, "withcode"):
			code = true
		case !library && c.is(i, "libraryname"):
			if i++; i == len(c.args) {
				return replyError("ERR library name argument was not given")
			}
			library = true
		default:
			return replyError("ERR Unknown argument " + c.arg(i))
		}
	}
	c.out.array(0)
	return nil
}
