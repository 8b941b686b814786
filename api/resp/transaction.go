package resp

import (
	"fmt"
	"slices"

	embedded "github.com/peerd/peerd/peer"
)

// transaction is what was queued since MULTI.
type transaction struct {
	open   bool
	broken bool // a command was refused: EXEC will refuse them all
	queue  []queued
	size   int  // bytes, as MaxQueue counts
	heavy  bool // it may take long, or must not be begun twice
	writes bool // it may write
	// scan is a command that may look at much, a script if there is one: it says of which slots EXEC
	// takes one if it only reads. Nil: there is none.
	scan *command
	// subscribes tells that it may subscribe to something.
	subscribes bool
}

type queued struct {
	command *command
	args    [][]byte
}

// add queues a command, with a copy of its arguments.
func (t *transaction) add(c *call, cmd *command) error {
	size := 0
	for _, arg := range c.args {
		size += len(arg) + ArgumentCost
	}
	if t.size+size > MaxQueue {
		t.queue, t.broken = nil, true
		return replyError(fmt.Sprintf(
			"ERR the transaction exceeds the limit of %d bytes (MaxQueue)", MaxQueue))
	}
	t.size += size
	t.heavy = t.heavy || t.size > maxQuickBytes
	t.holds(cmd)
	if !t.broken { // else it will not be executed
		t.queue = append(t.queue, queued{cmd, cloneArgs(c.args, size)})
	}
	c.out.status("QUEUED")
	return nil
}

// holds notes what a command that is queued makes of the transaction.
func (t *transaction) holds(cmd *command) {
	t.heavy = t.heavy || cmd.access == accessScan || cmd.apart || !cmd.isRepeatable()
	t.subscribes = t.subscribes || cmd.subscribes()
	t.writes = t.writes || cmd.access == accessWrite
	if cmd.access == accessScan && (t.scan == nil || cmd.group == "scripting") {
		t.scan = cmd
	}
}

// repeatable are commands that need no database and may be executed twice for once: of those that
// publish only the last time counts.
var repeatable = []string{"ping", "echo", "time", "publish", "spublish", "unwatch"}

// isRepeatable reports whether a command may be one of several that the loop begins, and a goroutine
// perhaps begins again: see errApart. What it does in the database is undone then.
func (c *command) isRepeatable() bool {
	return c.access != accessNone || slices.Contains(repeatable, c.name)
}

// reading returns what EXEC needs if it only reads.
func (t *transaction) reading() access {
	if t.scan != nil {
		return accessScan
	}
	return accessRead
}

// cloneArgs copies arguments of at most size bytes.
func cloneArgs(args [][]byte, size int) [][]byte {
	buf := make([]byte, 0, size-len(args)*ArgumentCost)
	clone := make([][]byte, len(args))
	for i, arg := range args {
		from := len(buf)
		buf = append(buf, arg...)
		clone[i] = buf[from:len(buf):len(buf)]
	}
	return clone
}

func runMulti(c *call) error {
	if c.session.pending.open {
		return replyError("ERR MULTI calls can not be nested")
	}
	c.session.pending.open = true
	c.out.status("OK")
	return nil
}

func runDiscard(c *call) error {
	if !c.session.pending.open {
		return replyError("ERR DISCARD without MULTI")
	}
	c.session.endTransaction()
	c.out.status("OK")
	return nil
}

// endTransaction drops what was queued, and what it was to depend on.
func (s *session) endTransaction() {
	s.pending = transaction{}
	s.watched.end()
}

// runExec executes what was queued as one transaction, unless something that is guarded has
// changed. A command's replyError is raised before it writes, so it is its reply and the others go
// on; any other error undoes them all.
func runExec(c *call) error {
	pending := c.session.pending
	if !pending.open {
		return replyError("ERR EXEC without MULTI")
	}
	c.session.pending = transaction{}
	defer func() {
		if !c.session.pending.open { // it is not for the next time
			c.session.watched.end()
		}
	}()
	if pending.broken {
		return replyError("EXECABORT Transaction discarded because of previous errors.")
	}
	if stale, err := c.isStale(); err != nil {
		return err
	} else if stale {
		c.out.nullArray()
		return nil
	}
	c.whole, c.writing = true, pending.writes || c.session.watched.any()
	defer func() { c.whole, c.writing = false, false }()
	start, work := len(c.out.buf), int64(0)
	c.out.array(len(pending.queue))
	for _, q := range pending.queue {
		at := len(c.out.buf)
		c.args = q.args
		if c.writing {
			if work += c.work(q.command); work > MaxWork {
				return errTooMuchWork
			}
		}
		err := c.run(q.command)
		if c.looped && len(c.out.buf)-start > MaxBatchOutput {
			err = errApart
		}
		refusal, ok := err.(replyError)
		switch {
		case err == nil:
		case err == errApart:
			c.session.pending = pending // for the next time
			return err
		case ok:
			c.out.buf = c.out.buf[:at]
			c.out.fail(string(refusal))
			c.server.errors.add(string(refusal))
		default:
			return err
		}
		if len(c.out.buf)-start > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}

// changing returns an error for a command that is about to change so many elements, before it looks
// at them: that a transaction has a limit, or that others are not to wait for it in the loop.
func (c *call) changing(n int, of string) error {
	switch {
	case n > embedded.MaxOps:
		return replyError(fmt.Sprintf("ERR %d %s exceed the limit of %d a transaction (MaxOps)",
			n, of, embedded.MaxOps))
	case c.looped && n > maxQuickArguments:
		return errApart
	}
	return nil
}

// errTooMuchWork is no replyError: it refuses the whole transaction.
var errTooMuchWork = fmt.Errorf("the commands of a transaction that writes would look at more "+
	"than %d keys and members (MaxWork), for which all other writers would wait; ask for them before MULTI", MaxWork)

// work returns at how many keys and members a command looks, at most or about: those that may look
// at many. Others are bounded by their arguments.
func (c *call) work(cmd *command) int64 {
	switch {
	case cmd.work != nil:
		return cmd.work(c, cmd)
	case cmd.access == accessScan:
		return workOfKeys(c, cmd)
	}
	return 0
}

// isBrief reports whether all that a command goes through is little and at hand. On a view that makes
// it so for the next time, where it can.
func (c *call) isBrief(cmd *command) bool {
	keys, err := cmd.keysOf(c.args)
	if err != nil || len(keys) == 0 || len(keys) > briefKeys {
		return false
	}
	brief := true
	for _, key := range keys {
		brief = c.tx.AtHand(string(key)) && brief
	}
	return brief && c.work(cmd) <= briefWork
}

// mostWork is beyond which work a command need not know how much more it is.
func (c *call) mostWork() int {
	if c.looped {
		return quickWork
	}
	return MaxWork
}

// workOfKeys is that of a command that looks for all that some keys hold in all of them, or of one
// that goes through all keys.
func workOfKeys(c *call, cmd *command) int64 {
	keys, err := cmd.keysOf(c.args)
	switch {
	case err != nil:
		return 0 // which the command refuses
	case len(keys) == 0:
		return int64(c.tx.Len())
	}
	sum := 0
	for _, key := range keys {
		sum += countParts(c.tx, string(key), c.mostWork()-sum)
	}
	return int64(sum) * int64(len(keys))
}

// workOfCombining is that of what makes the first key of the others: it goes through members, as many
// as through says by the sizes of those keys, and looks for each in all that hold something.
func workOfCombining(through func(sizes []int64) int64) func(*call, *command) int64 {
	return func(c *call, cmd *command) int64 {
		keys, err := cmd.keysOf(c.args)
		if err != nil || len(keys) < 2 {
			return 0 // which the command refuses
		}
		var sizes []int64
		counted, holding := 0, 0
		for _, key := range keys[1:] {
			n := countParts(c.tx, string(key), c.mostWork()-counted) // of a set exact
			sizes = append(sizes, int64(n))
			counted, holding = counted+n, holding+oneIf(n > 0)
		}
		return through(sizes) * int64(holding)
	}
}

// What workOfCombining asks for.
func sizeOfFirst(sizes []int64) int64    { return sizes[0] }
func sizeOfSmallest(sizes []int64) int64 { return slices.Min(sizes) }

func sizeOfAll(sizes []int64) (sum int64) {
	for _, n := range sizes {
		sum += n
	}
	return sum
}

// mayCombine returns how often a command with workOfCombining looks, or an error if others would
// wait for too long.
func (c *call) mayCombine() (looks int, err error) {
	switch looks := c.work(c.command); {
	case looks > MaxLooks:
		return 0, errTooManyLooks
	case c.looped && looks > maxQuickArguments:
		return 0, errApart
	default:
		return int(looks), nil
	}
}

var errTooManyLooks = replyError(fmt.Sprintf("ERR members would be looked for in keys more than %d times (MaxLooks), "+
	"for which all other writers would wait: ask for the members, and add them in parts", MaxLooks))

// workOfStep is that of SCAN and the like, and of what chooses one of many.
func workOfStep(c *call, cmd *command) int64 { return min(workOfKeys(c, cmd), MaxScanCount) }

// workOfProduct is that of LCS, of which some hundred steps take as long as to look at a member.
func workOfProduct(c *call, _ *command) int64 {
	a, _ := c.text(c.arg(1)) // what is none is refused
	b, _ := c.text(c.arg(2))
	return int64(a.size) * int64(b.size) / 256
}
