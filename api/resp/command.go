package resp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// command is what the server knows of one of its commands.
type command struct {
	name  string // in lower case
	arity int    // number of arguments, the name included; negative: that many at least
	// access is what it needs of the database.
	access access
	// inTransaction tells what it does between MULTI and EXEC, where others are queued.
	inTransaction transactionRole
	// alone tells that what comes with it is executed apart: it may be about another database. The
	// command itself has no transaction.
	alone bool
	// apart tells that it may take long, or has the connection send messages: the loop leaves it to
	// a goroutine.
	apart bool
	// brief tells that the loop executes it nevertheless, where all that it goes through is little and at
	// hand.
	brief bool
	// forStrangers tells that it may be used before authentication.
	forStrangers bool
	// forSubscribers tells that it may be used by a subscriber over RESP2.
	forSubscribers bool
	keys           keyRange
	// work is at how much it looks, if that is not what access and keys say: see call.work.
	work func(c *call, cmd *command) int64
	// find returns the arguments of a call that are keys, where neither keys nor counted tells.
	find func(args [][]byte) [][]byte
	// counted is the argument that tells how many keys follow it, 0 if there is none.
	counted int

	// subs are the subcommands that the first argument chooses from, by name; nil: it has none. The
	// name of one holds its command's: "client|list".
	subs map[string]*command
	// reading is the command without STORE and STOREDIST among its arguments, if it writes nothing
	// then.
	reading *command
	// usage is what HELP shows of a subcommand's arguments.
	usage string

	// writing is the command instead if storing holds of its arguments: it writes then.
	writing *command
	storing func(args [][]byte) bool

	place          int    // in Server.perCommand
	number         int    // from 0 on, for what is counted by command: a subcommand has its command's
	group, summary string // for COMMAND DOCS
	run            func(c *call) error
}

// access is what a command needs of the database. The order matters to batch.cut.
type access int

const (
	accessNone access = iota
	accessRead
	accessWrite
	// accessScan is reading that may take long: it is kept out of updates.
	accessScan
	// accessApart is no command's: the loop leaves what comes next to a goroutine.
	accessApart
)

type transactionRole int

const (
	roleQueued transactionRole = iota
	roleBegin                  // MULTI
	roleEnd                    // EXEC, DISCARD
	roleAtOnce                 // executed without waiting for EXEC
	roleWatch                  // refused
)

// subscribes reports whether the reply is made of messages: it changes what its client has
// subscribed to.
func (c *command) subscribes() bool { return c.group == "pubsub" && c.forSubscribers }

// accessWithin returns what executing the command needs when MULTI has been called or not, and
// whether it has afterwards.
func (c *command) accessWithin(queueing bool) (access, bool) {
	switch {
	case c.inTransaction == roleBegin:
		return accessNone, true
	case c.inTransaction == roleEnd && queueing:
		return c.access, false
	case queueing:
		return accessNone, true
	case c.inTransaction == roleEnd:
		return accessNone, false
	}
	return c.access, false
}

// commands is filled by init, for COMMAND refers to it.
var commands map[string]*command

const longestName = 20 // bytes of a command's name, and of a subcommand's

// resolve returns the command that the arguments ask for, or why there is none.
func resolve(args [][]byte) (*command, error) {
	c := lookUp(args[0])
	switch {
	case c == nil && isBrowser(args[0]):
		return nil, errBrowser
	case c == nil && len(args[0]) <= longestName:
		if err := refusal(strings.ToLower(string(args[0]))); err != nil {
			return nil, err
		}
		return nil, unknownCommand(args)
	case c == nil:
		return nil, unknownCommand(args)
	}
	if c.subs != nil && len(args) > 1 {
		sub := find(c.subs, args[1])
		if sub == nil {
			return nil, unknownSubcommand(c.name, args[1])
		}
		c = sub
	}
	if c.reading != nil && !slices.ContainsFunc(args, namesStore) {
		c = c.reading
	}
	switch {
	case c.arity > 0 && len(args) != c.arity, len(args) < -c.arity:
		if c.name == "exec" {
			return nil, errExecArity
		}
		return nil, wrongArity(c.name)
	}
	if c.writing != nil && c.storing(args) {
		c = c.writing
	}
	for i, last := c.keys.first, c.lastOf(args); i > 0 && i <= last; i += c.keys.step {
		if len(args[i]) > crdt.MaxName {
			return nil, replyError(fmt.Sprintf(
				"ERR a key of %d bytes exceeds the limit of %d bytes", len(args[i]), crdt.MaxName))
		}
	}
	return c, nil
}

func namesStore(arg []byte) bool {
	return bytes.EqualFold(arg, []byte("store")) || bytes.EqualFold(arg, []byte("storedist"))
}

func lookUp(name []byte) *command { return find(commands, name) }

// find returns the command with a name, in whatever case.
func find(among map[string]*command, name []byte) *command {
	if len(name) > longestName {
		return nil
	}
	var lower [longestName]byte
	for i, ch := range name {
		if 'A' <= ch && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		lower[i] = ch
	}
	return among[string(lower[:len(name)])]
}

func (c *command) lastOf(args [][]byte) int {
	if c.keys.last < 0 {
		return len(args) + c.keys.last
	}
	return c.keys.last
}

// errBrowser ends a connection that speaks HTTP.
const errBrowser = protocolError("this is no HTTP server")

// isBrowser recognizes the first words of an HTTP request. A web page can make a browser send one
// here, with commands of the page's choice in its body: the connection must end before they are
// reached.
func isBrowser(name []byte) bool {
	return bytes.EqualFold(name, []byte("post")) || bytes.EqualFold(name, []byte("host:"))
}

// noteBrowser logs that HTTP was spoken here, at most once a minute: a web page may be trying to
// have a browser send commands.
func (s *Server) noteBrowser(c *client) {
	now, last := time.Now().Unix(), s.aliens.Load()
	if now-last < 60 || !s.aliens.CompareAndSwap(last, now) {
		return
	}
	s.config.Logger.Warn("closed a client that speaks HTTP to the redis port: a program with a wrong "+
		"address, or a web page that wants to send commands", "client", c.address.String())
}

// call is a command being executed.
type call struct {
	server   *Server
	client   *client // nil of what is tried again for one that waits
	session  *session
	tx       *embedded.Tx // nil if the command needs none
	args     [][]byte
	out      *replies
	command  *command
	looped   bool         // others wait for it: see errApart
	apart    bool         // it is executed alone, as its reply is long
	send     func() error // sends what there is of that; nil if it is made whole
	over     func() error // set with send: why nobody waits for it any more; nil if somebody does
	holding  int          // bytes of the value that is sent in parts
	ahead    *ahead       // what it has looked for; nil if it has not: see lookAhead
	inScript bool         // a script calls it
	whole    bool         // it is one of several that are one transaction, and must not wait
	writing  bool         // that one is EXEC's, and may write
	blocked  *waiter      // what it waits for, once it has returned errBlocked

	scripted time.Duration // what scripts of the request have taken
	long     bool          // one of them took long

	request int // in batch.requests
	began   int // where its reply begins in out
	posts   []post
	noted   *noted   // the note of the transaction, if it has one
	touched int      // what the transaction has done was noted up to there
	trimmed bool     // XADD has removed entries
	trims   int      // how many XADD has removed in the transaction
	joined  []string // streams of which the command made a consumer, if anybody may want to know
}

// needs returns what executing a command needs now.
func (s *session) needs(c *command) access {
	need, queueing := c.accessWithin(s.pending.open)
	if s.pending.open && !queueing && need == accessWrite && !s.pending.writes && !s.watched.any() {
		return s.pending.reading() // EXEC does
	}
	return need
}

// perform executes or queues a request and writes its reply. If it returns an error, which is then
// the reply, the transaction changes nothing.
func (c *call) perform(r *request) error {
	pending := &c.session.pending
	if r.rejected != nil {
		if r.rejected == errExecArity {
			c.session.endTransaction()
		}
		pending.broken = pending.open
		c.server.countRejected(c.args)
		return r.rejected
	}
	c.scripted = 0
	if c.session.stranger && !r.command.forStrangers {
		return errNoAuth // RESET came before it
	}
	if c.session.subs.all() > 0 && !c.session.resp3 && !r.command.forSubscribers {
		if r.command.name == "exec" {
			c.session.endTransaction()
			return errSubscribed("EXECABORT Transaction discarded because of:", "exec")
		}
		pending.broken = pending.open
		return errSubscribed("ERR", r.command.name)
	}
	if pending.open && r.command.inTransaction == roleQueued {
		return pending.add(c, r.command)
	}
	var err error
	if r.command.brief && !c.isBrief(r.command) && c.looped {
		err = errApart
	} else {
		err = c.run(r.command)
	}
	if !isAgain(err) && !pending.open && c.session.caching && !strings.HasPrefix(r.command.name, "client|") {
		c.session.caching = false
	}
	if err != nil && pending.open && r.command.inTransaction == roleAtOnce {
		pending.broken = true // what follows may rely on it
	}
	return err
}

func (c *call) run(cmd *command) error {
	at := len(c.out.buf)
	c.command, c.joined, c.trimmed = cmd, nil, false
	c.session.turn++
	var began time.Time
	if c.whole { // of others it is known how long they take with all that is executed with them
		began = time.Now()
	}
	c.track(cmd)
	err := cmd.run(c)
	if c.countRun(cmd, at, err, began); err != nil {
		return err
	}
	c.note(cmd)
	if len(c.out.buf)-at > MaxReply {
		return errReplyTooLarge
	}
	return nil
}

func (c *call) arg(i int) string { return string(c.args[i]) }

// is reports whether argument i is the given word, in whatever case. The word is in lower case.
func (c *call) is(i int, word string) bool {
	if len(c.args[i]) != len(word) {
		return false
	}
	for j, ch := range c.args[i] {
		if 'A' <= ch && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		if ch != word[j] {
			return false
		}
	}
	return true
}

// integer reads argument i.
func (c *call) integer(i int) (int64, error) {
	if n, ok := parseInteger(c.args[i]); ok {
		return n, nil
	}
	return 0, errNotInteger
}

// parseInteger reads an integer as Redis does: no plus sign, no zeros in front, no blanks.
func parseInteger(text []byte) (int64, bool) {
	const longest = 20 // bytes of one
	if len(text) > longest {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	var canonical [longest]byte
	return n, err == nil && bytes.Equal(strconv.AppendInt(canonical[:0], n, 10), text)
}

// typeError returns errWrongType if the key exists, but without a value of type t.
func (c *call) typeError(key string, t crdt.Type) error {
	if types := c.tx.Types(key); types != 0 && !types.Has(t) {
		return errWrongType
	}
	return nil
}

const (
	errSyntax      = replyError("ERR syntax error")
	errNotInteger  = replyError("ERR value is not an integer or out of range")
	errHashInteger = replyError("ERR hash value is not an integer")
	errOverflow    = replyError("ERR increment or decrement would overflow")
	errDecrement   = replyError("ERR decrement would overflow")
	errWrongType   = replyError("WRONGTYPE Operation against a key holding " +
		"the wrong kind of value")
	errExecArity = replyError("EXECABORT Transaction discarded because of: " +
		"wrong number of arguments for 'exec' command")
	errNoPassword = replyError("ERR AUTH <password> called without any password configured for " +
		"the default user. Are you sure your configuration is correct?")
	errNoAuth    = replyError("NOAUTH Authentication required.")
	errNoAuthYet = replyError("NOAUTH HELLO must be called with the client already authenticated, " +
		"otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the " +
		"client and select the RESP protocol version at the same time")
	errWrongPass = replyError("WRONGPASS invalid username-password pair or user is disabled.")

	longestErrorText = 512 // bytes
)

// errReplyTooLarge is no replyError: within MULTI it refuses the whole transaction, which may have
// written by then.
var errReplyTooLarge = fmt.Errorf(
	"the reply exceeds the limit of %d bytes (MaxReply); ask for less at once", MaxReply)

// errMuchHeld says that a command gathers too much, or that a transaction would keep too much that it reads.
var errMuchHeld = replyError(fmt.Sprintf(
	"ERR more than %d bytes of names or elements would be in memory at once (MaxReply); look at less", MaxReply))

func unknownCommand(args [][]byte) error {
	const shown = 128 // bytes of the name, and of the arguments
	var text strings.Builder
	for _, arg := range args[1:] {
		if text.Len() >= shown {
			break
		}
		fmt.Fprintf(&text, "'%s' ", clip(arg, shown-text.Len()))
	}
	return replyError(fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s",
		clip(args[0], shown), text.String()))
}

// clip returns what Redis shows of an argument: up to a number of bytes or the first zero.
func clip(arg []byte, limit int) []byte {
	arg = arg[:min(len(arg), limit)]
	if i := bytes.IndexByte(arg, 0); i >= 0 {
		return arg[:i]
	}
	return arg
}

// wrongUse is the error of a subcommand that has found its arguments to be too many.
func wrongUse(c *call) error {
	return replyError(fmt.Sprintf(
		"ERR unknown subcommand or wrong number of arguments for '%s'. Try %s HELP.",
		clip(c.args[1], 128), strings.ToUpper(c.arg(0))))
}

func wrongArity(name string) error {
	return replyError("ERR wrong number of arguments for '" + name + "' command")
}

// errorText returns how an error reads in a reply.
func errorText(err error) string {
	if e, ok := err.(replyError); ok {
		return string(e)
	}
	if errors.Is(err, context.Canceled) {
		return "ERR the server is shutting down; the outcome is unknown"
	}
	text := err.Error()
	if errors.Is(err, embedded.ErrNoSpace) {
		return "MISCONF " + text[:min(len(text), longestErrorText)]
	}
	return "ERR " + text[:min(len(text), longestErrorText)]
}
