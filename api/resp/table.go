package resp

import "slices"

func init() {
	all := table()
	commands = make(map[string]*command, len(all))
	for i := range all {
		all[i].number = i
		commands[all[i].name] = &all[i]
	}
}

// keyed completes a command whose only key is its first argument.
func keyed(c command) command {
	c.firstKey, c.lastKey, c.keyStep = 1, 1, 1
	return c
}

// allKeys completes a command whose arguments are all keys.
func allKeys(c command) command {
	c.firstKey, c.lastKey, c.keyStep = 1, -1, 1
	return c
}

// table returns every command. A summary is what COMMAND DOCS and redis-cli's help show.
func table() []command {
	return slices.Concat(connectionCommands(), serverCommands(), transactionCommands(),
		keyCommands(), stringCommands(), setCommands(), hashCommands())
}

func connectionCommands() []command {
	return []command{
		{name: "ping", arity: -1, group: "connection", run: runPing, forSubscribers: true,
			summary: "Returns PONG, or the given message."},
		{name: "echo", arity: 2, group: "connection", run: runEcho,
			summary: "Returns the given string."},
		{name: "quit", arity: -1, group: "connection", run: runQuit, inTransaction: roleAtOnce,
			forStrangers: true, forSubscribers: true, summary: "Closes the connection."},
		{name: "select", arity: 2, group: "connection", run: runSelect, inTransaction: roleAtOnce, alone: true,
			summary: "Changes the database: 0 is the space default, and n the space dbn."},
		{name: "hello", arity: -1, group: "connection", run: runHello, forStrangers: true,
			summary: "Chooses between RESP2 and RESP3, and authenticates."},
		{name: "auth", arity: -2, group: "connection", run: runAuth, forStrangers: true,
			summary: "Authenticates the connection by a password."},
		{name: "subscribe", apart: true, arity: -2, group: "pubsub", run: runSubscribe, forSubscribers: true, inTransaction: roleAtOnce,
			summary: "Tells of changes of keys: " + keyspace(0) + "KEY or " + keyevent(0) + "EVENT."},
		{name: "psubscribe", apart: true, arity: -2, group: "pubsub", run: runPSubscribe, forSubscribers: true,
			inTransaction: roleAtOnce, summary: "Tells of changes of keys, by patterns of channels."},
		{name: "unsubscribe", arity: -1, group: "pubsub", run: runUnsubscribe, forSubscribers: true,
			inTransaction: roleAtOnce, summary: "Ends subscriptions, or all."},
		{name: "punsubscribe", arity: -1, group: "pubsub", run: runPUnsubscribe, forSubscribers: true,
			inTransaction: roleAtOnce, summary: "Ends subscriptions to patterns, or all."},
		{name: "client", arity: -2, group: "connection", run: runClient,
			summary: "SETNAME, GETNAME, SETINFO, ID: names the connection."},
	}
}

func serverCommands() []command {
	return []command{
		{name: "info", apart: true, arity: -1, group: "server", run: runInfo, access: accessRead,
			summary: "Returns facts and figures about the server, as lines."},
		{name: "command", apart: true, arity: -1, group: "server", run: runCommand,
			summary: "COUNT, INFO, DOCS: describes the commands."},
		{name: "config", apart: true, arity: -2, group: "server", run: runConfig,
			summary: "GET: returns the settings that match a pattern."},
		{name: "slowlog", apart: true, arity: -2, group: "server", run: runSlowLog,
			summary: "GET, LEN, RESET: shows the commands that took long."},
		{name: "dbsize", arity: 1, group: "server", run: runDBSize, access: accessRead,
			summary: "Returns the number of keys."},
		{name: "flushdb", arity: -1, group: "server", run: runFlush, access: accessWrite,
			summary: "Removes all keys of the database."},
		{name: "flushall", apart: true, arity: -1, group: "server", run: runFlushAll, access: accessWrite,
			inTransaction: roleAtOnce, alone: true, summary: "Removes all keys of all databases that this host holds."},
	}
}

func transactionCommands() []command {
	return []command{
		{name: "multi", arity: 1, group: "transactions", run: runMulti, inTransaction: roleBegin,
			summary: "Begins a transaction: what follows is queued."},
		{name: "exec", arity: 1, group: "transactions", run: runExec, inTransaction: roleEnd,
			access:  accessWrite,
			summary: "Executes what was queued, all at once."},
		{name: "discard", arity: 1, group: "transactions", run: runDiscard, inTransaction: roleEnd,
			summary: "Drops what was queued."},
	}
}

func keyCommands() []command {
	return []command{
		allKeys(command{name: "del", arity: -2, group: "generic", run: runDel, access: accessWrite,
			summary: "Deletes keys and returns how many there were."}),
		allKeys(command{name: "exists", arity: -2, group: "generic", run: runExists,
			access:  accessRead,
			summary: "Returns how many of the keys exist."}),
		keyed(command{name: "type", arity: 2, group: "generic", run: runType, access: accessRead,
			summary: "Returns the type of a key's value."}),
		{name: "keys", arity: 2, group: "generic", run: runKeys, access: accessScan,
			summary: "Returns all keys that match a pattern."},
		{name: "scan", arity: -2, group: "generic", run: runScan, access: accessScan,
			summary: "Returns some keys, and a cursor to go on from."},
	}
}

func stringCommands() []command {
	return []command{
		keyed(command{name: "get", arity: 2, group: "string", run: runGet, access: accessRead,
			summary: "Returns the string of a key."}),
		keyed(command{name: "set", arity: -3, group: "string", run: runSet, access: accessWrite,
			summary: "Makes a key hold a string, whatever it held."}),
		keyed(command{name: "incr", arity: 2, group: "string", run: runIncr, access: accessWrite,
			summary: "Adds 1 to an integer. Concurrent additions of all peers count."}),
		keyed(command{name: "incrby", arity: 3, group: "string", run: runIncrBy,
			access:  accessWrite,
			summary: "Adds a number to an integer. Concurrent additions of all peers count."}),
		keyed(command{name: "decr", arity: 2, group: "string", run: runDecr, access: accessWrite,
			summary: "Subtracts 1 from an integer. Concurrent subtractions of all peers count."}),
		keyed(command{name: "decrby", arity: 3, group: "string", run: runDecrBy,
			access:  accessWrite,
			summary: "Subtracts a number from an integer. Concurrent ones of all peers count."}),
	}
}

func setCommands() []command {
	return []command{
		keyed(command{name: "sadd", arity: -3, group: "set", run: runSAdd, access: accessWrite,
			summary: "Adds members to a set. An addition wins over a concurrent removal."}),
		keyed(command{name: "srem", arity: -3, group: "set", run: runSRem, access: accessWrite,
			summary: "Removes members from a set."}),
		keyed(command{name: "smembers", arity: 2, group: "set", run: runSMembers,
			access:  accessScan,
			summary: "Returns all members of a set, in order."}),
		keyed(command{name: "sismember", arity: 3, group: "set", run: runSIsMember,
			access:  accessRead,
			summary: "Returns whether a string is a member of a set."}),
		keyed(command{name: "scard", arity: 2, group: "set", run: runSCard, access: accessRead,
			summary: "Returns the number of members of a set."}),
	}
}

func hashCommands() []command {
	return []command{
		keyed(command{name: "hset", arity: -4, group: "hash", run: runHSet, access: accessWrite,
			summary: "Sets fields of a hash. An update wins over a concurrent deletion."}),
		keyed(command{name: "hget", arity: 3, group: "hash", run: runHGet, access: accessRead,
			summary: "Returns the value of a field of a hash."}),
		keyed(command{name: "hdel", arity: -3, group: "hash", run: runHDel, access: accessWrite,
			summary: "Deletes fields of a hash."}),
		keyed(command{name: "hgetall", arity: 2, group: "hash", run: runHGetAll,
			access:  accessScan,
			summary: "Returns all fields of a hash and their values, in order."}),
		keyed(command{name: "hlen", arity: 2, group: "hash", run: runHLen, access: accessRead,
			summary: "Returns the number of fields of a hash."}),
		keyed(command{name: "hincrby", arity: 4, group: "hash", run: runHIncrBy,
			access:  accessWrite,
			summary: "Adds to an integer in a hash. Concurrent additions of all peers count."}),
	}
}
