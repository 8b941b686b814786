// Package resp lets Redis clients talk to a peerd replica: it serves a subset of Redis's commands
// over RESP2 and RESP3 on top of a peer.
//
// # The idea
//
// A connection is one goroutine. It reads what its client has sent, cuts off as many whole
// commands as there are (a batch), and executes them in order. If any of them writes, the batch is
// one Peer.UpdateAll, each command a transaction of its own within one commit group, so a pipeline
// costs one commit whatever its length; else it is one Peer.View. Then all replies leave in one
// write. A connection that waits for its client holds no buffer.
//
// # The contract
//
// A reply to a write is sent after UpdateAll said that it is as durable as configured. Replies
// come in the order of the commands. A command that fails changed nothing. MULTI/EXEC is one
// transaction, visible at once and replicated as one delta; as in Redis, a command in it that
// meets a wrong type does not undo the others. A server that shuts down finishes and answers the
// commands it has read.
//
// A Redis string is a crdt.String, a set a crdt.Set, a hash a crdt.Map of strings.
//
// # Caveats
//
// Commands that are missing are answered as Redis answers unknown ones. SELECT chooses a space:
// 0 is "default" and n is "dbn". FLUSHALL empties one after the other of those that the host holds, and is refused
// within MULTI. Changes of keys are told of 0 alone. There is no expiry. Replicas that give one key different types at
// once keep both: each command sees the type it is for, TYPE names the first of hash, set, string, flag, and
// SET replaces them all. INCR of a value that was SET counts beside it, so increments that are made elsewhere at the
// same time add up. SCAN goes by the order of names; a cursor is forgotten when too many scans are left
// unfinished.
//
// With Config.Auth a client has to send the password first, by AUTH or HELLO; on a TLS listener it
// has to complete the handshake. Until then it is a stranger, with limits of its own, and gives way to
// others when places are short. There is one user, "default", who may do everything.
//
// Beside the replies, one more goroutine of a connection sends messages, if it has subscribed to
// changes of keys: to __keyspace@0__:KEY or __keyevent@0__:EVENT, by SUBSCRIBE or PSUBSCRIBE. It
// follows a Watch, which holds nothing for it: one that is slow gets fewer messages, with each key
// once; one that falls behind the log of changes is closed. The event is set, hset or sadd, for
// what the key is, or del if it is gone; it does not say which command made it. There is no PUBLISH.
//
// Every limit is a constant in limits.go. The command scripts in testdata are the manual of what
// each command answers.
package resp
