package resp

// functionCommand is for who cleans up before or after itself, as test suites do: there are no functions.
func functionCommand() command {
	return containing(command{name: "function", summary: "Says that there are no functions: they are for later."},
		command{name: "flush", arity: -2, usage: "[ASYNC|SYNC]", run: runFunctionFlush,
			summary: "Removes all functions: there are none."},
		command{name: "list", arity: -2, usage: "[LIBRARYNAME pattern] [WITHCODE]", run: runFunctionList,
			summary: "Returns all functions: there are none."})
}

func runFunctionFlush(c *call) error {
	if len(c.args) > 3 || len(c.args) == 3 && !c.is(2, "async") && !c.is(2, "sync") {
		return replyError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
	}
	c.out.status("OK")
	return nil
}

func runFunctionList(c *call) error {
	c.out.array(0)
	return nil
}
