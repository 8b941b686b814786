package resp

import "fmt"

// transaction is what was queued since MULTI.
type transaction struct {
	open   bool
	broken bool // a command was refused: EXEC will refuse them all
	queue  []queued
	size   int  // bytes, as MaxQueue counts
	heavy  bool // it may take long
	writes bool // it may write
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
		*t = transaction{open: true, broken: true, size: t.size, heavy: t.heavy, writes: t.writes,
			subscribes: t.subscribes}
		return replyError(fmt.Sprintf(
			"ERR the transaction exceeds the limit of %d bytes (MaxQueue)", MaxQueue))
	}
	t.size += size
	t.heavy = t.heavy || cmd.access == accessScan || cmd.apart || t.size > maxQuickBytes
	t.subscribes = t.subscribes || cmd.group == "pubsub"
	t.writes = t.writes || cmd.access == accessWrite
	if !t.broken { // else it will not be executed
		t.queue = append(t.queue, queued{cmd, cloneArgs(c.args, size)})
	}
	c.out.status("QUEUED")
	return nil
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
	c.session.pending = transaction{}
	c.out.status("OK")
	return nil
}

// runExec executes what was queued as one transaction. A command's replyError is raised before it
// writes, so it is its reply and the others go on; any other error undoes them all.
func runExec(c *call) error {
	pending := c.session.pending
	c.session.pending = transaction{}
	switch {
	case !pending.open:
		return replyError("ERR EXEC without MULTI")
	case pending.broken:
		return replyError("EXECABORT Transaction discarded because of previous errors.")
	}
	start := len(c.out.buf)
	c.out.array(len(pending.queue))
	for _, q := range pending.queue {
		at := len(c.out.buf)
		c.args = q.args
		err := c.run(q.command)
		refusal, ok := err.(replyError)
		switch {
		case err == nil:
		case err == errApart:
			c.session.pending = pending // for the next time
			return err
		case ok:
			c.out.buf = c.out.buf[:at]
			c.out.fail(string(refusal))
		default:
			return err
		}
		if len(c.out.buf)-start > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}
