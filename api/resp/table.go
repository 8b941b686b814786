package resp

import "slices"

func init() {
	all := table()
	commands = make(map[string]*command, len(all))
	for i := range all {
		all[i].number = i
		for _, sub := range all[i].subs {
			sub.number = i
		}
		for _, alike := range []*command{all[i].reading, all[i].writing} {
			if alike != nil {
				alike.number, alike.group = i, all[i].group
			}
		}
		commands[all[i].name] = &all[i]
	}
	for i, c := range allCommands() {
		c.place = i
		for _, alike := range []*command{c.reading, c.writing} {
			if alike != nil {
				alike.place = i
			}
		}
	}
}

// keyRange tells which arguments of a command are keys, as COMMAND does: from the first on each
// step-th up to the last, which counts from the end if it is negative. Zero: none.
type keyRange struct{ first, last, step int }

var (
	oneKey    = keyRange{1, 1, 1}
	twoKeys   = keyRange{1, 2, 1}
	everyKey  = keyRange{1, -1, 1}
	pairs     = keyRange{1, -1, 2} // of a key and what is for it
	secondKey = keyRange{2, 2, 1}  // behind a subcommand
)

// grouped completes the commands of a group.
func grouped(name string, all []command) []command {
	for i := range all {
		all[i].group = name
		for _, sub := range all[i].subs {
			sub.group = name
		}
	}
	return all
}

// table returns every command. A summary is what COMMAND DOCS and redis-cli's help show.
func table() []command {
	return slices.Concat(connectionCommands(), pubsubCommands(), serverCommands(), transactionCommands(),
		scriptingCommands(), keyCommands(), stringCommands(), setCommands(), hashCommands(), hashExpiryCommands(),
		listCommands(), zsetCommands(), geoCommands(), streamCommands(), bitmapCommands(), hyperLogLogCommands(),
		beyondCommands())
}

func connectionCommands() []command {
	return grouped("connection", []command{
		{name: "ping", arity: -1, run: runPing, forSubscribers: true,
			summary: "Returns PONG, or the given message."},
		{name: "echo", arity: 2, run: runEcho,
			summary: "Returns the given string."},
		{name: "quit", arity: -1, run: runQuit, inTransaction: roleAtOnce,
			forStrangers: true, forSubscribers: true, summary: "Closes the connection."},
		{name: "reset", arity: 1, run: runReset, inTransaction: roleEnd, alone: true,
			forStrangers: true, forSubscribers: true, summary: "Makes the connection what it was at its beginning."},
		{name: "select", arity: 2, run: runSelect, inTransaction: roleAtOnce, alone: true,
			summary: "Changes the database: 0 is the space default, and n the space dbn."},
		{name: "hello", arity: -1, run: runHello, forStrangers: true,
			summary: "Chooses between RESP2 and RESP3, and authenticates."},
		{name: "auth", arity: -2, run: runAuth, forStrangers: true,
			summary: "Authenticates the connection by a password."},
		clientCommand(),
	})
}

func pubsubCommands() []command {
	return grouped("pubsub", []command{
		{name: "subscribe", apart: true, alone: true, arity: -2, run: subscribing(toChannel, "subscribe"),
			forSubscribers: true, summary: "Sends what is published on channels; of changed keys on " + keyspace(0) +
				"KEY or " + keyevent(0) + "EVENT."},
		{name: "psubscribe", apart: true, alone: true, arity: -2, run: subscribing(toPattern, "psubscribe"),
			forSubscribers: true, summary: "Sends what is published on channels that match patterns."},
		{name: "ssubscribe", apart: true, alone: true, arity: -2, run: subscribing(toShard, "ssubscribe"),
			forSubscribers: true, keys: everyKey, summary: "Sends what is published on sharded channels."},
		{name: "unsubscribe", arity: -1, run: unsubscribing(toChannel, "unsubscribe"), forSubscribers: true,
			summary: "Ends subscriptions, or all."},
		{name: "punsubscribe", arity: -1, run: unsubscribing(toPattern, "punsubscribe"), forSubscribers: true,
			summary: "Ends subscriptions to patterns, or all."},
		{name: "sunsubscribe", arity: -1, run: unsubscribing(toShard, "sunsubscribe"), forSubscribers: true,
			keys: everyKey, summary: "Ends subscriptions to sharded channels, or all."},
		{name: "publish", alone: true, arity: 3, run: publishing(false),
			summary: "Sends a message to who has subscribed, at all peers. Returns how many of this peer's clients have."},
		{name: "spublish", alone: true, arity: 3, run: publishing(true), keys: oneKey,
			summary: "Sends a message on a sharded channel."},
		containing(command{name: "pubsub", summary: "Tells what this peer's clients have subscribed to."},
			command{name: "channels", apart: true, arity: -2, usage: "[pattern]", run: pubSubChannels(toChannel),
				summary: "Returns the channels that somebody has subscribed to."},
			command{name: "numpat", arity: 2, run: runPubSubNumPat, summary: "Returns how many patterns there are."},
			command{name: "numsub", arity: -2, usage: "[channel ...]", run: pubSubNumSub(toChannel),
				summary: "Returns how many have subscribed to channels, patterns not counted."},
			command{name: "shardchannels", apart: true, arity: -2, usage: "[pattern]", run: pubSubChannels(toShard),
				summary: "Returns the sharded channels that somebody has subscribed to."},
			command{name: "shardnumsub", arity: -2, usage: "[shardchannel ...]", run: pubSubNumSub(toShard),
				summary: "Returns how many have subscribed to sharded channels."}),
	})
}

func clientCommand() command {
	return containing(command{name: "client", summary: "Names the connection and tells of all."},
		command{name: "caching", arity: 3, usage: "YES|NO", run: runClientCaching,
			summary: "Has the keys that the next command reads be tracked, or not: see TRACKING."},
		command{name: "getname", arity: 2, run: runClientGetName, summary: "Returns the name of the connection."},
		command{name: "getredir", arity: 2, run: runClientGetRedir,
			summary: "Returns which connection is told of changes in place of this one, 0 if none is, -1 without TRACKING."},
		command{name: "id", arity: 2, run: runClientID, summary: "Returns the number of the connection."},
		command{name: "info", arity: 2, run: runClientInfo, summary: "Returns what there is to tell of the connection."},
		command{name: "kill", apart: true, arity: -3, usage: "addr | <ID|TYPE|ADDR|LADDR|USER|SKIPME> value ...",
			run: runClientKill, summary: "Closes the connections for which all that is named holds."},
		command{name: "list", apart: true, arity: -2, usage: "[TYPE type | ID id [id ...]]", run: runClientList,
			summary: "Returns what there is to tell of connections, a line each."},
		command{name: "no-evict", arity: 3, usage: "ON|OFF", run: runClientNoEvict,
			summary: "Has others be closed before this connection if all hold too much, or not."},
		command{name: "no-touch", arity: 3, usage: "ON|OFF", run: runClientNoTouch,
			summary: "Changes nothing: nothing keeps when a key was used."},
		command{name: "pause", arity: -3, usage: "timeout [WRITE|ALL]", run: runClientPause,
			summary: "Is refused: other peers' writes come in all the same."},
		command{name: "reply", arity: 3, usage: "ON|OFF|SKIP", run: runClientReply, inTransaction: roleAtOnce,
			summary: "Turns replies off and on, or off for the next command."},
		command{name: "setinfo", arity: 4, usage: "LIB-NAME|LIB-VER value", run: runClientSetInfo,
			summary: "Takes what a library tells of itself. Nothing of it is kept."},
		command{name: "setname", arity: 3, usage: "name", run: runClientSetName, summary: "Names the connection."},
		command{name: "tracking", apart: true, alone: true, arity: -3, run: runClientTracking,
			usage:   "ON|OFF [REDIRECT id] [BCAST] [PREFIX prefix [PREFIX prefix ...]] [OPTIN] [OPTOUT] [NOLOOP]",
			summary: "Has the connection be told of changes of keys that it has read, or that begin so."},
		command{name: "trackinginfo", arity: 2, run: runClientTrackingInfo, summary: "Returns what TRACKING was told."},
		command{name: "unblock", arity: -3, usage: "id [TIMEOUT|ERROR]", run: runClientUnblock,
			summary: "Has a command of another connection wait no more, as if its time was over or with an error."},
		command{name: "unpause", arity: 2, run: runClientUnpause, summary: "Changes nothing: nobody is ever paused."})
}

func serverCommands() []command {
	return grouped("server", []command{
		{name: "info", work: workOfInfo, apart: true, arity: -1, run: runInfo, access: accessRead,
			summary: "Returns facts and figures about the server, as lines."},
		containing(command{name: "command", apart: true, arity: -1, run: runCommand,
			summary: "Describes the commands."},
			command{name: "count", arity: 2, run: runCommandCount, summary: "Returns how many commands there are."},
			command{name: "getkeys", arity: -4, usage: "command arg [arg ...]", run: runCommandGetKeys,
				summary: "Returns which arguments of a call are keys."},
			command{name: "getkeysandflags", arity: -4, usage: "command arg [arg ...]", run: runCommandGetKeysAndFlags,
				summary: "Returns which arguments of a call are keys, each with what becomes of it."},
			command{name: "list", apart: true, arity: -2, usage: "[FILTERBY <PATTERN pattern|ACLCAT category|MODULE name>]", run: runCommandList,
				summary: "Returns the names of all commands."},
			command{name: "docs", apart: true, arity: -2, usage: "[command ...]", run: runCommandDocs,
				summary: "Returns what commands, or all, are for."},
			command{name: "info", apart: true, arity: -2, usage: "[command ...]", run: runCommandInfo,
				summary: "Returns how commands, or all, are called."}),
		containing(command{name: "config", summary: "Shows settings, and changes some until the server ends."},
			command{name: "get", apart: true, arity: -3, usage: "pattern [pattern ...]", run: runConfigGet,
				summary: "Returns the settings that match a pattern."},
			command{name: "resetstat", arity: 2, run: runConfigResetStat, summary: "Has INFO count from now on."},
			command{name: "rewrite", arity: 2, run: runConfigRewrite, summary: "Is refused: peerd writes no configuration file."},
			command{name: "set", arity: -4, usage: "name value [name value ...]", run: runConfigSet,
				summary: "Changes maxclients, slowlog-log-slower-than, busy-reply-threshold, " +
					"notify-keyspace-events, and the encodings, which mean little here."}),
		containing(command{name: "memory", summary: "Tells what takes memory."},
			command{name: "doctor", arity: 2, run: runMemoryDoctor, summary: "Says that there is nothing to advise."},
			command{name: "malloc-stats", arity: 2, run: runMemoryMallocStats, summary: "Says that there is nothing to tell."},
			command{name: "purge", arity: 2, run: runMemoryPurge, summary: "Changes nothing: memory is given back anyway."},
			command{name: "stats", arity: 2, run: runMemoryStats, access: accessRead,
				summary: "Returns how much memory is in use."},
			command{name: "usage", arity: -3, usage: "key [SAMPLES count]", run: runMemoryUsage, access: accessScan,
				keys: secondKey, summary: "Estimates what a key takes on the disk, in bytes."}),
		containing(command{name: "acl", summary: "Tells of the only user. More of them are for later."},
			command{name: "users", arity: 2, run: runUsers, summary: "Returns the names of all users: default."},
			command{name: "whoami", arity: 2, run: runWhoAmI, summary: "Returns the name of the user: default."}),
		{name: "role", arity: 1, run: runRole, summary: "Says that the server takes writes, as every peer does."},
		containing(command{name: "slowlog", summary: "Shows the commands that took long."},
			command{name: "get", apart: true, arity: -2, usage: "[count]", run: runSlowLogGet,
				summary: "Returns the latest slow commands, 10 of them or as many as are asked for."},
			command{name: "len", arity: 2, run: runSlowLogLen, summary: "Returns how many slow commands are remembered."},
			command{name: "reset", arity: 2, run: runSlowLogReset, summary: "Forgets the slow commands."}),
		functionCommand(),
		{name: "dbsize", work: workOfDBSize, arity: 1, run: runDBSize, access: accessRead,
			summary: "Returns the number of keys."},
		{name: "flushdb", arity: -1, run: runFlush, access: accessWrite,
			summary: "Removes all keys of the database."},
		{name: "flushall", apart: true, arity: -1, run: runFlushAll, access: accessWrite,
			inTransaction: roleAtOnce, alone: true, summary: "Removes all keys of all databases that this host holds."},
		{name: "time", arity: 1, run: runTime,
			summary: "Returns the seconds since 1970 and the microseconds of the second."},
	})
}

func transactionCommands() []command {
	return grouped("transactions", []command{
		{name: "multi", arity: 1, run: runMulti, inTransaction: roleBegin,
			summary: "Begins a transaction: what follows is queued."},
		{name: "exec", arity: 1, run: runExec, inTransaction: roleEnd,
			access:  accessWrite,
			summary: "Executes what was queued, all at once."},
		{name: "discard", arity: 1, run: runDiscard, inTransaction: roleEnd,
			summary: "Drops what was queued."},
		{name: "watch", arity: -2, run: runWatch, inTransaction: roleWatch, access: accessWrite, keys: everyKey,
			summary: "Has EXEC execute nothing if one of the keys changes before, at this peer."},
		{name: "unwatch", arity: 1, run: runUnwatch,
			summary: "Has EXEC execute what is queued whatever changes."},
	})
}

func scriptingCommands() []command {
	return grouped("scripting", []command{
		{name: "eval", arity: -3, counted: 2, run: evaluating(false, false), access: accessWrite,
			summary: "Runs a script in Lua, as one transaction."},
		{name: "evalsha", arity: -3, counted: 2, run: evaluating(true, false), access: accessWrite,
			summary: "Runs a script that is known, by the SHA-1 of its text."},
		{name: "eval_ro", arity: -3, counted: 2, run: evaluating(false, true), access: accessScan,
			summary: "Runs a script that writes nothing: writers do not wait for it."},
		{name: "evalsha_ro", arity: -3, counted: 2, run: evaluating(true, true), access: accessScan,
			summary: "Runs a script that is known and writes nothing."},
		containing(command{name: "script", summary: "Keeps scripts, and ends one that runs."},
			command{name: "debug", arity: 3, usage: "YES|SYNC|NO", run: runScriptDebug,
				summary: "Is refused: a script that is stopped would keep all others who write waiting."},
			command{name: "exists", arity: -3, usage: "sha1 [sha1 ...]", run: runScriptExists,
				summary: "Returns which scripts are known."},
			command{name: "flush", arity: -2, usage: "[ASYNC|SYNC]", run: runScriptFlush, summary: "Forgets all scripts."},
			command{name: "kill", arity: 2, run: runScriptKill,
				summary: "Ends the scripts that run for longer than busy-reply-threshold. They have changed nothing."},
			command{name: "load", apart: true, arity: 3, usage: "script", run: runScriptLoad,
				summary: "Has a script be known, and returns the SHA-1 of its text."}),
	})
}

func keyCommands() []command {
	return grouped("generic", []command{
		{name: "del", arity: -2, keys: everyKey, run: runDel, access: accessWrite,
			summary: "Deletes keys and returns how many there were."},
		{name: "exists", arity: -2, keys: everyKey, run: runExists,
			access:  accessRead,
			summary: "Returns how many of the keys exist."},
		{name: "type", arity: 2, keys: oneKey, run: runType, access: accessRead,
			summary: "Returns the type of a key's value."},
		{name: "keys", arity: 2, run: runKeys, access: accessScan,
			summary: "Returns all keys that match a pattern."},
		{name: "scan", work: workOfStep, arity: -2, run: runScan, access: accessScan,
			summary: "Returns some keys, and a cursor to go on from."},
		{name: "unlink", arity: -2, keys: everyKey, run: runDel, access: accessWrite,
			summary: "Deletes keys, as DEL does."},
		{name: "touch", arity: -2, keys: everyKey, run: runExists, access: accessRead,
			summary: "Returns how many of the keys exist."},
		{name: "rename", work: workOfKeys, apart: true, arity: 3, run: runRename, access: accessWrite, keys: twoKeys,
			summary: "Moves what a key holds to another key."},
		{name: "renamenx", work: workOfKeys, apart: true, arity: 3, run: runRenameNX, access: accessWrite, keys: twoKeys,
			summary: "Moves what a key holds to another key, if that does not exist here."},
		{name: "copy", work: workOfKeys, apart: true, arity: -3, run: runCopy, access: accessWrite, keys: twoKeys,
			summary: "Copies what a key holds to another key."},
		containing(command{name: "object", summary: "Tells how a key is kept."},
			command{name: "encoding", arity: 3, usage: "key", run: runObjectEncoding, access: accessRead,
				keys: secondKey, summary: "Returns int, raw or cells."},
			command{name: "freq", arity: 3, usage: "key", run: runObjectFreq, access: accessRead,
				keys: secondKey, summary: "Is refused: how often keys are used is not counted."},
			command{name: "idletime", arity: 3, usage: "key", run: runObjectIdleTime, access: accessRead,
				keys: secondKey, summary: "Is refused: nothing keeps when a key was used."},
			command{name: "refcount", arity: 3, usage: "key", run: runObjectRefCount, access: accessRead,
				keys: secondKey, summary: "Returns 1."}),
		{name: "dump", arity: 2, keys: oneKey, run: runDump, access: accessScan,
			summary: "Returns what a key holds, for RESTORE of a peer."},
		{name: "restore", apart: true, arity: -4, keys: oneKey, run: runRestore, access: accessWrite,
			summary: "Makes a key hold what DUMP returned."},
		{name: "sort", work: workOfSort, arity: -2, keys: oneKey, run: runSort, access: accessScan, storing: isStoring,
			writing: &command{name: "sort", keys: oneKey, find: sortedInto, run: runSort, access: accessWrite, work: workOfSort},
			summary: "Returns or stores the elements of a list, set or sorted set in an order, or what they stand for."},
		{name: "sort_ro", work: workOfSort, arity: -2, keys: oneKey, run: runSort, access: accessScan,
			summary: "Returns the elements of a list, set or sorted set in an order, as SORT does."},
		{name: "expire", arity: -3, keys: oneKey, run: expiring("expire", expiryUnit{}), access: accessWrite,
			summary: "Sets after how many seconds a key expires. Of concurrent times the latest counts."},
		{name: "pexpire", arity: -3, keys: oneKey, run: expiring("pexpire", expiryUnit{millis: true}), access: accessWrite,
			summary: "Sets after how many milliseconds a key expires."},
		{name: "expireat", arity: -3, keys: oneKey, run: expiring("expireat", expiryUnit{since: true}), access: accessWrite,
			summary: "Sets when a key expires, in seconds since 1970."},
		{name: "pexpireat", arity: -3, keys: oneKey, run: expiring("pexpireat", expiryUnits["pxat"]), access: accessWrite,
			summary: "Sets when a key expires, in milliseconds since 1970."},
		{name: "ttl", arity: 2, keys: oneKey, run: telling(expiryUnit{}), access: accessRead,
			summary: "Returns after how many seconds a key expires."},
		{name: "pttl", arity: 2, keys: oneKey, run: telling(expiryUnit{millis: true}), access: accessRead,
			summary: "Returns after how many milliseconds a key expires."},
		{name: "expiretime", arity: 2, keys: oneKey, run: telling(expiryUnit{since: true}), access: accessRead,
			summary: "Returns when a key expires, in seconds since 1970."},
		{name: "pexpiretime", arity: 2, keys: oneKey, run: telling(expiryUnits["pxat"]), access: accessRead,
			summary: "Returns when a key expires, in milliseconds since 1970."},
		{name: "persist", arity: 2, keys: oneKey, run: runPersist, access: accessWrite,
			summary: "Has a key not expire, whatever others say at the same time."},
		{name: "randomkey", work: workOfStep, arity: 1, run: runRandomKey, access: accessScan,
			summary: "Returns a random key."},
	})
}

func stringCommands() []command {
	return grouped("string", []command{
		{name: "get", arity: 2, keys: oneKey, run: runGet, access: accessRead,
			summary: "Returns the string of a key."},
		{name: "set", arity: -3, keys: oneKey, run: runSet, access: accessWrite,
			summary: "Makes a key hold a string, whatever it held."},
		{name: "incr", arity: 2, keys: oneKey, run: runIncr, access: accessWrite,
			summary: "Adds 1 to an integer. Concurrent additions of all peers count."},
		{name: "incrby", arity: 3, keys: oneKey, run: runIncrBy,
			access:  accessWrite,
			summary: "Adds a number to an integer. Concurrent additions of all peers count."},
		{name: "decr", arity: 2, keys: oneKey, run: runDecr, access: accessWrite,
			summary: "Subtracts 1 from an integer. Concurrent subtractions of all peers count."},
		{name: "decrby", arity: 3, keys: oneKey, run: runDecrBy,
			access:  accessWrite,
			summary: "Subtracts a number from an integer. Concurrent ones of all peers count."},
		{name: "mget", arity: -2, keys: everyKey, run: runMGet, access: accessRead,
			summary: "Returns the strings of keys."},
		{name: "mset", arity: -3, run: runMSet, access: accessWrite, keys: pairs,
			summary: "Makes keys hold strings, all at once."},
		{name: "msetnx", arity: -3, run: runMSetNX, access: accessWrite, keys: pairs,
			summary: "Makes keys hold strings, all at once, if none of them exists here."},
		{name: "setnx", arity: 3, keys: oneKey, run: runSetNX, access: accessWrite,
			summary: "Makes a key hold a string if it does not exist here."},
		{name: "getset", arity: 3, keys: oneKey, run: runGetSet, access: accessWrite,
			summary: "Makes a key hold a string, and returns the one before."},
		{name: "getdel", arity: 2, keys: oneKey, run: runGetDel, access: accessWrite,
			summary: "Returns the string of a key, and deletes the key."},
		{name: "getex", arity: -2, keys: oneKey, run: runGetEx, access: accessWrite,
			summary: "Returns the string of a key, and sets when it expires."},
		{name: "setex", arity: 4, keys: oneKey, run: settingEx("setex", expiryUnit{}), access: accessWrite,
			summary: "Makes a key hold a string for so many seconds."},
		{name: "psetex", arity: 4, keys: oneKey, run: settingEx("psetex", expiryUnit{millis: true}), access: accessWrite,
			summary: "Makes a key hold a string for so many milliseconds."},
		{name: "strlen", arity: 2, keys: oneKey, run: runStrLen, access: accessRead,
			summary: "Returns the length of a string."},
		{name: "append", arity: 3, keys: oneKey, run: runAppend, access: accessWrite,
			summary: "Puts more behind a string. Of concurrent ones the latest stays."},
		{name: "getrange", arity: 4, keys: oneKey, run: runGetRange, access: accessRead,
			summary: "Returns a part of a string."},
		{name: "substr", arity: 4, keys: oneKey, run: runGetRange, access: accessRead,
			summary: "Returns a part of a string, as GETRANGE does."},
		{name: "setrange", arity: 4, keys: oneKey, run: runSetRange, access: accessWrite,
			summary: "Overwrites a part of a string."},
		{name: "incrbyfloat", arity: 3, keys: oneKey, run: runIncrByFloat, access: accessWrite,
			summary: "Adds to a number with a fraction. Of concurrent ones the latest stays."},
		{name: "lcs", work: workOfProduct, arity: -3, run: runLCS, access: accessScan, keys: twoKeys,
			summary: "Finds a longest common subsequence of two strings."},
	})
}

func setCommands() []command {
	return grouped("set", []command{
		{name: "sadd", arity: -3, keys: oneKey, run: runSAdd, access: accessWrite,
			summary: "Adds members to a set. An addition wins over a concurrent removal."},
		{name: "srem", arity: -3, keys: oneKey, run: runSRem, access: accessWrite,
			summary: "Removes members from a set."},
		{name: "smembers", brief: true, arity: 2, keys: oneKey, run: runSMembers,
			access:  accessScan,
			summary: "Returns all members of a set, in order."},
		{name: "sismember", arity: 3, keys: oneKey, run: runSIsMember,
			access:  accessRead,
			summary: "Returns whether a string is a member of a set."},
		{name: "scard", arity: 2, keys: oneKey, run: runSCard, access: accessRead,
			summary: "Returns the number of members of a set."},
		{name: "smismember", arity: -3, keys: oneKey, run: runSMIsMember, access: accessRead,
			summary: "Returns which of some strings are members of a set."},
		{name: "smove", arity: 4, run: runSMove, access: accessWrite, keys: twoKeys,
			summary: "Moves a member from a set to another."},
		{name: "spop", work: workOfSPop, arity: -2, keys: oneKey, run: runSPop, access: accessWrite,
			summary: "Removes random members of a set and returns them. Two peers may return the same at once."},
		{name: "srandmember", work: workOfDraws, arity: -2, keys: oneKey, run: runSRandMember, access: accessScan,
			summary: "Returns random members of a set."},
		{name: "sscan", brief: true, work: workOfStep, arity: -3, keys: oneKey, run: runSScan, access: accessScan,
			summary: "Returns some members of a set, and a cursor to go on from."},
		{name: "sinter", brief: true, arity: -2, keys: everyKey, run: combined(intersection), access: accessScan,
			summary: "Returns the members that all sets have."},
		{name: "sunion", brief: true, arity: -2, keys: everyKey, run: combined(union), access: accessScan,
			summary: "Returns the members of all sets."},
		{name: "sdiff", brief: true, arity: -2, keys: everyKey, run: combined(difference), access: accessScan,
			summary: "Returns the members of the first set that no other has."},
		{name: "sinterstore", work: workOfCombining(sizeOfSmallest), arity: -3, keys: everyKey,
			run: stored(intersection), access: accessWrite,
			summary: "Stores the members that all sets have."},
		{name: "sunionstore", work: workOfCombining(sizeOfAll), arity: -3, keys: everyKey,
			run: stored(union), access: accessWrite,
			summary: "Stores the members of all sets."},
		{name: "sdiffstore", work: workOfCombining(sizeOfFirst), arity: -3, keys: everyKey,
			run: stored(difference), access: accessWrite,
			summary: "Stores the members of the first set that no other has."},
		{name: "sintercard", arity: -3, run: runSInterCard, access: accessScan, counted: 1,
			summary: "Counts the members that all sets have."},
	})
}

func hashCommands() []command {
	return grouped("hash", []command{
		{name: "hset", arity: -4, keys: oneKey, run: runHSet, access: accessWrite,
			summary: "Sets fields of a hash. An update wins over a concurrent deletion."},
		{name: "hget", arity: 3, keys: oneKey, run: runHGet, access: accessRead,
			summary: "Returns the value of a field of a hash."},
		{name: "hdel", arity: -3, keys: oneKey, run: runHDel, access: accessWrite,
			summary: "Deletes fields of a hash."},
		{name: "hgetall", brief: true, arity: 2, keys: oneKey, run: runHGetAll,
			access:  accessScan,
			summary: "Returns all fields of a hash and their values, in order."},
		{name: "hlen", work: workOfHLen, arity: 2, keys: oneKey, run: runHLen, access: accessRead,
			summary: "Returns the number of fields of a hash."},
		{name: "hincrby", arity: 4, keys: oneKey, run: runHIncrBy,
			access:  accessWrite,
			summary: "Adds to an integer in a hash. Concurrent additions of all peers count."},
		{name: "hmset", arity: -4, keys: oneKey, run: runHMSet, access: accessWrite,
			summary: "Sets fields of a hash, as HSET does."},
		{name: "hsetnx", arity: 4, keys: oneKey, run: runHSetNX, access: accessWrite,
			summary: "Sets a field of a hash if it does not exist here."},
		{name: "hmget", arity: -3, keys: oneKey, run: runHMGet, access: accessRead,
			summary: "Returns the values of fields of a hash."},
		{name: "hexists", arity: 3, keys: oneKey, run: runHExists, access: accessRead,
			summary: "Returns whether a hash has a field."},
		{name: "hstrlen", arity: 3, keys: oneKey, run: runHStrLen, access: accessRead,
			summary: "Returns the length of the value of a field."},
		{name: "hkeys", brief: true, arity: 2, keys: oneKey, run: runHKeys, access: accessScan,
			summary: "Returns all fields of a hash, in order."},
		{name: "hvals", brief: true, arity: 2, keys: oneKey, run: runHVals, access: accessScan,
			summary: "Returns all values of a hash, in the order of their fields."},
		{name: "hincrbyfloat", arity: 4, keys: oneKey, run: runHIncrByFloat, access: accessWrite,
			summary: "Adds to a number with a fraction in a hash. Of concurrent ones the latest stays."},
		{name: "hrandfield", work: workOfDraws, arity: -2, keys: oneKey, run: runHRandField, access: accessScan,
			summary: "Returns random fields of a hash."},
		{name: "hscan", brief: true, work: workOfStep, arity: -3, keys: oneKey, run: runHScan, access: accessScan,
			summary: "Returns some fields of a hash, and a cursor to go on from."},
	})
}
