// Package resp lets Redis clients talk to a peerd replica: it serves a subset of Redis's commands
// over RESP2 and RESP3 on top of a peer.
//
// # The idea
//
// On Linux one goroutine, the loop, serves all connections over plain TCP. A round of it reads what
// has come on any of them, cuts off as many whole commands as there are (a connection's batch), and
// has the commands of all be executed at once, each a transaction of its own: one Peer.Read for
// each database, for those connections that only read, which wait for no writer; and one
// Peer.Submit for the others, one commit group. Then all replies leave that there are, one write a
// connection. While a batch is under way nothing more is read of its connection, but of the others.
// A connection that waits for its client holds no buffer.
//
// What may take long does not stay in the loop: KEYS, SCAN, SMEMBERS, HGETALL, INFO and the like,
// large commands, values and transactions are executed by a goroutine meanwhile, reads on a
// Peer.View, others with Peer.UpdateAll. SMEMBERS, HGETALL and others of what is little stay, once that
// is in memory: see Tx.AtHand of package peer. A subscriber gets a goroutine of its own for good.
//
// Over TLS, and on other systems, a connection is one goroutine, which does the same for itself
// alone: a batch that writes is one Peer.UpdateAll, another one Peer.View. What others ask of a
// connection goes through the interface line in both cases. The tests run on both.
//
// # The contract
//
// A reply to a write is sent after the peer said that it is as durable as configured. Replies come
// in the order of the commands. A command that fails changed nothing. MULTI/EXEC is one
// transaction, visible at once and replicated as one delta; as in Redis, a command in it that meets
// a wrong type does not undo the others. A command that panics, which is a mistake of ours, changes
// nothing and is answered with an error. What WATCH has named is compared within it. A server that
// shuts down finishes and answers the commands it has read.
//
// A Redis string is a crdt.String, a set a crdt.Set, a hash a crdt.Map of strings.
//
// # Caveats
//
// Commands that are missing are answered as Redis answers unknown ones, or refused with the reason:
// docs/redis.md lists what there is and what differs. SELECT chooses a space: 0 is "default" and n
// is "dbn". FLUSHALL empties one after the other of those that the host holds, and is refused
// within MULTI. Fields of hashes expire as in Redis 7.4. Replicas that give one key different types
// at once keep both: each command sees the type it is for, TYPE names the first of hash, set,
// sorted set, list, stream, string, flag, and SET replaces them all. INCR of a value that was SET
// counts beside it, so increments that are made elsewhere at the same time add up. SCAN goes by the
// order of names; a cursor is forgotten when too many scans are left unfinished.
//
// With Config.Auth a client has to send the password first, by AUTH or HELLO; on a TLS listener it
// has to complete the handshake. Until then it is a stranger, with limits of its own, and gives way
// to others when places are short. There is one user, "default", who may do everything.
//
// Beside the replies, a connection that has subscribed is sent messages. What is published waits in
// its mailbox, whoever publishes it, and one goroutine sends it; one for whom too much waits is
// closed. PUBLISH goes to the other peers too, once what its transaction wrote is committed.
//
// Of changes of keys it is told on __keyspace@N__:KEY or __keyevent@N__:EVENT of database N. For
// each such database one more goroutine follows a Watch, which holds nothing for it: one that is
// slow gets fewer messages, with each key once; one that falls behind the log of changes is closed.
// What was committed together with a subscription, or before, is not told. The events of this
// server's commands are a note of their transaction (events.go); of others the event is set, hset
// or sadd, for what the key is, or del if it is gone.
//
// A client that keeps copies of what it reads is told when they are out of date (tracking.go): one
// Watch for each database serves all of them.
//
// Every limit is a constant in limits.go. The command scripts in testdata are the manual of what
// each command answers.
package resp
