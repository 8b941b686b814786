package resp

import "time"

// Limits of the protocol. A client that goes beyond one is told its name and value; unless the
// text says otherwise its connection stays usable.
const (
	// MaxValue is the size in bytes of the longest argument: a value, key, field or element. A
	// longer one is read and thrown away, and the command is answered with an error.
	MaxValue = 16 << 20
	// MaxCommand is the size in bytes of one command, each argument charged ArgumentCost besides
	// its own bytes. The rest of a larger one is read and thrown away.
	MaxCommand = 32 << 20
	// ArgumentCost is what an argument takes in memory besides its bytes.
	ArgumentCost = 32
	// MaxArguments is the number of arguments that a command may announce, as in Redis. More are a
	// protocol error, which ends the connection. With more than 2^20 it is beyond MaxCommand.
	MaxArguments = 1<<31 - 1
	// MaxSkip is how many bytes of one command are thrown away before the connection is ended
	// instead.
	MaxSkip = 64 << 20
	// MaxInline is the size in bytes of a command written as a plain line. A longer one ends the
	// connection.
	MaxInline = 64 << 10

	// MaxBatchCommands and MaxBatchBytes bound what is executed of a pipeline at once, in one
	// commit group. The rest is executed next.
	MaxBatchCommands = 1024
	MaxBatchBytes    = 1 << 20
	// MaxBatchOutput is the size in bytes of replies at which nothing more is executed for a client
	// until they are sent. A client that does not read its replies blocks itself and nobody else,
	// and is closed when it has taken none of them for WriteTimeout.
	MaxBatchOutput = 1 << 20
	// WriteTimeout is how long a client may take none of its replies, and what it has to take
	// MaxBatchOutput in of a reply that is sent as it is made.
	WriteTimeout = 30 * time.Second
	// MaxReply is the size in bytes of a reply that is made whole: within MULTI, in scripts, and
	// of commands that write or choose. A longer one is replaced by an error. What only goes
	// through a key, as GET, LRANGE, ZRANGE, XRANGE, SMEMBERS and HGETALL do, or through all of
	// them, is sent as it is made, whatever its size. It is also how many bytes of names and
	// elements may be in memory at once: those that SORT, ZUNION, GEOSEARCH and their like gather
	// before they choose or store, and those that LREM and LINSERT look at, and LPOS within MULTI
	// and scripts.
	MaxReply = 64 << 20
	// MaxQueue is the size in bytes of the commands between MULTI and EXEC, counted as for
	// MaxCommand. Beyond it EXEC refuses the transaction.
	MaxQueue = 32 << 20

	// MaxHeld is the memory in bytes that all clients together may hold: commands that have come in
	// part, what MULTI queued, what is executed, replies and messages that were not sent, and
	// prefixes of CLIENT TRACKING. Beyond it the client that holds most is closed, one with CLIENT
	// NO-EVICT after all others. A large message that waits for several counts once, and for each
	// in part. What is less than FreeHold of one client, but for messages, is not counted.
	MaxHeld  = 256 << 20
	FreeHold = 16 << 10
	// LongHold is what a client counts as holding, in bytes, for each second that a long reply has
	// waited for it: as long a view keeps what was replaced since. MaxLongHold is the most. So
	// seven may be slow for as long as they like, and many are not closed for being a little slow.
	LongHold    = 1 << 20
	MaxLongHold = 32 << 20
	// MaxScans is how many commands run at once that look at many keys or members, such as KEYS,
	// SCAN, SMEMBERS and HGETALL, each with a reply of up to MaxReply in the making. A MULTI of
	// such that writes nothing counts as one. More wait, but not for clients that take a long
	// reply.
	MaxScans = 4

	// MaxCursors is how many unfinished SCANs a server remembers; the one not used for longest is
	// forgotten first.
	MaxCursors = 4096
	// MaxCursorBytes is the size in bytes of the keys that those cursors stand at.
	MaxCursorBytes = 8 << 20
	// MaxScanCount is the number of keys, members or fields that one SCAN, SSCAN, HSCAN or ZSCAN
	// looks at, whatever its COUNT.
	MaxScanCount = 10_000
	// MaxPattern is the size in bytes of a pattern. MaxMatching is how many of its characters are
	// passed in vain for one name, again for each place at which what follows a star is tried: what
	// takes more does not match.
	MaxPattern  = 128 << 10
	MaxMatching = 4 << 20
	// MaxRandom is how many elements HRANDFIELD, SRANDMEMBER and ZRANDMEMBER return, or draw with a
	// negative count.
	MaxRandom = 1 << 20
	// MaxSort is how many elements a value has that SORT sorts (with STORE MaxOps, as other
	// writers wait for it), and how many members ZUNION, ZINTER and ZDIFF make, or GEOSEARCH and
	// GEORADIUS find.
	MaxSort = 1 << 20
	// MaxLooks is how often what makes a key of several looks for a member in one, as other writers
	// may have to wait for it: SINTERSTORE and ZINTERSTORE for each of the smallest key, SDIFFSTORE
	// and ZDIFFSTORE of the first, SUNIONSTORE and ZUNIONSTORE of all, in every key that holds
	// something. It is also at how many members that are near GEOSEARCHSTORE or GEORADIUS with
	// STORE looks, and XREADGROUP with an id, and XGROUP DELCONSUMER, at how many that are pending
	// in the group; BITOP at how many strings and KiB of them, and PFMERGE at how many cells, 64 of
	// each key.
	MaxLooks = 1 << 20
	// MaxTrimmed is how many entries XADD removes with MAXLEN or MINID, and all XADDs of a
	// transaction together, but one each: other writers wait for it. What is left goes at the
	// next ones.
	MaxTrimmed = 10_000
	// MaxWork is at how many keys and members the commands of a MULTI that writes, or of a
	// script, may look, all in all: other writers wait for it. LCS counts 256 steps as one, and
	// BITOP a KiB. LINSERT and LREM of a list of more elements are refused also alone.
	MaxWork = 1 << 20
	// MaxProduct is the product of the lengths in bytes of the strings that LCS compares, each one
	// more.
	MaxProduct = 4 << 20
	// MaxScripts is how many scripts a server knows, and MaxScriptBytes about how many bytes they
	// hold, compiled and with their texts, all in all; the last one may hold more by itself. The one
	// not used for longest is forgotten first: a client that is told NOSCRIPT sends the text again,
	// with EVAL.
	MaxScripts     = 4096
	MaxScriptBytes = 16 << 20
	// MaxScriptTime, MaxScriptSteps and MaxScriptMemory bound a script: how long it runs, with all
	// others of a MULTI, how many instructions that is, and how many bytes it holds, as they are
	// added up. Beyond one it is ended, and has changed nothing.
	MaxScriptTime   = 10 * time.Second
	MaxScriptSteps  = 1 << 30
	MaxScriptMemory = 64 << 20
	// MaxReadScripts is how many EVAL_RO and EVALSHA_RO run at once, a MULTI of such that writes
	// nothing counted as one, each with up to MaxScriptMemory. More wait, and nobody else does.
	MaxReadScripts = 4
	// ScriptBusy is how long a script runs before others who write to its database are told BUSY,
	// and SCRIPT KILL ends it, unless CONFIG SET busy-reply-threshold says otherwise.
	ScriptBusy = 5 * time.Second
	// MaxSubscriptions is the number of channels, and of sharded channels, that a client may
	// subscribe to, and MaxPatterns the number of patterns: each message is matched with all of
	// them.
	MaxSubscriptions = 1 << 16
	MaxPatterns      = 256
	// MaxSubscribers is the number of clients that are told of changes of keys.
	MaxSubscribers = 512
	// MaxMail is how many bytes of messages wait for a client. One for which there would be more is
	// closed.
	MaxMail = 8 << 20
	// MaxWatched is the number of keys that a client may watch until EXEC.
	MaxWatched = 4096
	// MaxWaited is the number of keys that a command may wait for. It is refused if it is to wait
	// for more.
	MaxWaited = 1024
	// MaxTracked is how many keys are noted, all in all, of which clients are to be told that they
	// have changed, and MaxTrackedBytes what they take, about. Beyond it clients are told of others
	// that they have.
	MaxTracked      = 1 << 18
	MaxTrackedBytes = 64 << 20
	// MaxSlowLog is the number of slow commands that SLOWLOG remembers: the latest.
	MaxSlowLog = 128
	// MaxSlowLines is the number of slow commands that are logged in a second. The rest is counted.
	MaxSlowLines = 10
	// MaxClientName is the length in bytes of a connection's name.
	MaxClientName = 1 << 10

	// DefaultMaxClients is the number of connections if the configuration names none. One more is
	// answered with an error and closed.
	DefaultMaxClients = 10_000
)

// Limits of a client that has to authenticate, or to end the handshake of TLS, and has not. One
// that goes beyond is closed.
const (
	// MaxStrangerArguments is the number of arguments of a command before authentication, as in
	// Redis.
	MaxStrangerArguments = 10
	// MaxStrangerCommand is the size in bytes of a command before authentication, counted as for
	// MaxCommand.
	MaxStrangerCommand = 16 << 10
	// StrangerPatience is how long authentication may take, from connecting on.
	StrangerPatience = 10 * time.Second
	// MaxStrangers is how many clients there may be at once that have not authenticated. When
	// there are as many, or no place for a client is left, the one who came first gives way to
	// the next who comes: so those without the password cannot keep out those who have it.
	MaxStrangers = 1024
	// strangerTurn is how long a stranger may keep another waiting, from connecting on.
	strangerTurn = time.Second
)

const (
	// firstSize and readSize are the sizes in bytes of the buffers that a busy connection reads
	// into: the second if its client sends more at once than the first holds. One that waits for
	// its client with nothing half read holds none.
	firstSize = 4 << 10
	readSize  = 64 << 10
	// writeSize is how many bytes of replies a client must take within WriteTimeout.
	writeSize = 64 << 10
	// writeSlack is how much later a client may be closed.
	writeSlack = 5 * time.Second
	// maxQuickBytes and maxQuickArguments bound a command that the loop executes itself, and the
	// first the value that it returns. A larger one has a goroutine of its own.
	maxQuickBytes     = 64 << 10
	maxQuickArguments = 256
	// quickScript, quickSteps, quickScriptBytes, quickWork and quickLines bound a script that the
	// loop executes itself: its time, its instructions, the bytes that it holds, at how many keys
	// and members its commands look, and how many lines it logs.
	quickScript      = 2 * time.Millisecond
	quickSteps       = 20_000
	quickScriptBytes = 8 << 20
	quickWork        = 1 << 10
	quickLines       = 16
	// quickSource is how long a script is that the loop compiles itself, in bytes.
	quickSource = 8 << 10
	// briefKeys, briefWork and briefPattern bound a command that the loop executes itself though
	// it goes through all that keys hold: how many keys, at how many members and the like it
	// looks, and with what each is compared, in bytes.
	briefKeys    = 8
	briefWork    = 256
	briefPattern = 256
	// roundCommands is how many commands one round of the loop executes, roundInput how many bytes
	// it reads, and roundOutput how many it writes. A connection that it looks at counts as a
	// command. The first and the last are divided among the connections that have something to do;
	// each may have leastShare and leastOutput of them. Those for which nothing is left have their
	// turn in the next round, before all others. Of bytes a round may go beyond by those of its
	// last connection. Once it has roundWrites of commands that write, about as many as a commit
	// group takes, those it has are executed before it looks at other connections: clients that
	// have their replies prepare their next commands while those of the others are executed.
	roundCommands = 4096
	roundWrites   = 256
	roundInput    = 4 << 20
	roundOutput   = 8 << 20
	leastShare    = 16
	leastOutput   = 16 << 10
	// spanSize is what the place of an argument takes in a command that has come in part.
	spanSize = 8
	// argumentSize and requestSize are what a batch holds for an argument and for a command.
	argumentSize = 24
	requestSize  = 192
	// restSize is the least buffer in bytes that keeps the half of a command that has come.
	restSize = 512
	// keepArguments is how many slots for arguments stay allocated from one command to the next.
	keepArguments = 64
	// keepOutput is the size in bytes of the largest reply buffer that is used again.
	keepOutput = 64 << 10
	// leastWindow is of how many members SPOP chooses at least, of a large set, and RANDOMKEY of
	// how many keys.
	leastWindow = 64
	// maxDigits is how many characters a length may have.
	maxDigits = 20
)
