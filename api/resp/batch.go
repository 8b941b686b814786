package resp

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// batch is a run of commands that were received together, and their replies. It is filled by the
// connection and executed by it or, within UpdateAll, by the peer's goroutine, while the connection
// waits.
type batch struct {
	client   *client
	requests []request
	args     [][]byte // of all requests
	out      replies

	next     int // the first request that is not executed
	from, to int // the requests that one View or Update executes
	base     int // where their replies begin in out

	most   int             // bytes of replies, beyond which they must be sent
	more   bool            // fill left whole commands behind, perhaps
	looped bool            // executed by the loop, that must not be held up
	halted bool            // a request turned out to be for a goroutine of its own, or waits
	slots  chan struct{}   // of which a cut that needs accessScan takes one
	sent   bool            // the beginning of a long reply was sent
	waited time.Duration   // for the client to take it
	ended  <-chan struct{} // closed when nobody waits for what is executed any more
	waiter *waiter         // what the next request waits for; nil if it does not
	ahead  *ahead          // what one of the next requests has looked for; nil if it has not

	// The functions that are given to the peer, made once: updates[i] executes
	// requests[from+i].
	updates []func(*embedded.Tx) error
	view    func(*embedded.Tx) error
	call    call
}

// request is one command of a batch.
type request struct {
	command  *command
	rejected error // what makes it no command that could be executed
	args     span  // in batch.args
	access   access

	apart    bool // it may take long: the loop leaves it to a goroutine
	long     bool // so is its reply: see call.more
	done     bool
	failed   bool // its reply is an error, and it changed nothing
	muted    bool // it has no reply: see CLIENT REPLY
	at, stop int  // its reply in batch.out
}

// errApart is what a command returns that turned out to take long, if call.looped is set: it is
// executed again on a goroutine of its own.
var errApart = errors.New("to be executed apart")

// errPanicked is the reply to a command that panicked.
var errPanicked = errors.New(
	"internal error: the command panicked, and changed nothing; the log has more")

// errLater is what the function of a request returns that waits until replies were sent.
var errLater = errors.New("to be executed later")

var batches = sync.Pool{New: func() any {
	b := &batch{}
	b.view = b.runAll
	return b
}}

// newBatch returns an empty one.
func newBatch(c *client) *batch {
	b := batches.Get().(*batch)
	b.client, b.most = c, MaxBatchOutput
	return b
}

// fail tells the client, behind its replies, how it broke the protocol, if it did.
func (b *batch) fail(end error) {
	if errors.Is(end, errBrowser) {
		b.client.server.noteBrowser(b.client)
	}
	if end != nil && !b.client.quit {
		b.out.fail(errorText(end))
	}
}

// release gives the batch back, without what it refers to.
func (b *batch) release() {
	b.stopWaiting()
	b.dropAhead()
	b.client = nil
	b.looped, b.halted, b.sent, b.ended = false, false, false, nil
	b.call = call{}
	clear(b.args)
	clear(b.requests)
	b.args, b.requests = b.args[:0], b.requests[:0]
	if cap(b.args) > 4*MaxBatchCommands {
		b.args = nil
	}
	b.dropOutput()
	batches.Put(b)
}

func (b *batch) dropOutput() {
	if cap(b.out.buf) > keepOutput {
		b.out.buf = nil
	}
	b.out.buf = b.out.buf[:0]
}

// size returns how much memory the batch holds, in bytes.
func (b *batch) size() int {
	size := cap(b.out.buf) + cap(b.args)*argumentSize + cap(b.requests)*requestSize
	size += b.viewSize() + b.call.holding
	if b.waiter != nil {
		size += b.waiter.size
	}
	return size
}

func (b *batch) done() bool { return b.next == len(b.requests) }

// fill takes whole commands from what the client has sent, most of them. After an error the
// connection must be closed, once the commands before it are answered.
func (b *batch) fill(most int) error {
	in := &b.client.in
	clear(b.args)
	b.requests, b.args, b.next, b.more = b.requests[:0], b.args[:0], 0, false
	if in.stranger {
		most = 1 // it decides how the next is read
	}
	for size := 0; size < MaxBatchBytes && len(b.requests) < most; {
		ok, err := in.next()
		if err != nil || !ok {
			return err
		}
		r := request{rejected: in.rejected}
		first := len(b.args)
		b.args = in.arguments(b.args)
		r.args = span{uint32(first), uint32(len(b.args))}
		switch {
		case r.rejected != nil:
		case first == len(b.args):
			continue // an empty line asks nothing
		default:
			r.command, r.rejected = resolve(b.args[first:])
			if broken, ok := r.rejected.(protocolError); ok {
				return broken
			}
			if r.rejected == nil && in.stranger && !r.command.forStrangers {
				r.rejected = errNoAuth
			}
		}
		length := in.pos - in.start
		size += length
		r.apart = length > maxQuickBytes || len(b.args)-first > maxQuickArguments ||
			r.command != nil && r.command.apart
		b.requests = append(b.requests, r)
	}
	b.more = true
	return nil
}

// begin prepares the batch for being executed.
func (b *batch) begin() {
	c := b.client
	b.out.resp3 = c.resp3
	b.call = call{server: c.server, client: c, session: &c.session, out: &b.out, looped: b.looped}
}

// execute runs requests until all are done, the client has quit, one waits for keys, or there is so
// much to send that the rest has to wait.
func (b *batch) execute(ctx context.Context) {
	c := b.client
	b.begin()
	b.ended = ctx.Done()
	for !b.done() && !b.mustSend() {
		began := time.Now()
		var errs []error
		switch b.cut() {
		case accessNone:
			_ = b.runAll(nil)
		case accessRead:
			errs = b.spread(c.database().View(ctx, b.view))
		case accessScan:
			errs = b.spread(b.cutShort(c.server.scan(ctx, b.slots, c.database(), b.view)))
		case accessWrite:
			if c.server.scripts.isBusy(c.index) {
				errs = b.spread(errScriptBusy)
			} else {
				errs = c.server.waiting[c.index].updateAll(ctx, c.database(), b.functions())
			}
		}
		b.conclude(errs, time.Since(began)-b.waited)
		b.sent, b.waited = false, 0
	}
}

// conclude ends what began with a cut: with the database's errors, after some time.
func (b *batch) conclude(errs []error, took time.Duration) {
	c := b.client
	b.settle(errs)
	b.observe(b.endAhead(took))
	b.publish(errs)
	c.subs.begin()
	if b.next > b.from {
		c.show(b.requests[b.next-1].command)
	}
	c.server.counts.commands.Add(int64(b.next - b.from))
	if c.in.stranger && !c.stranger {
		c.server.trust(c)
	}
}

func (b *batch) mustSend() bool { return len(b.out.buf) >= b.most || b.client.quit || b.waiter != nil }

// cut chooses how many requests are executed at once and what access to the database they need,
// all in all. It keeps scans out of updates: all other writers would wait for them. In the loop it
// ends before what may take long: accessApart, if that comes first.
func (b *batch) cut() access {
	need, ahead, watching := accessNone, b.client.pending, b.client.watched.any()
	b.from, b.base, b.halted = b.next, len(b.out.buf), false
	for b.to = b.from; b.to < len(b.requests); b.to++ {
		r := &b.requests[b.to]
		r.access = accessNone
		if b.looped && b.isApart(r, &ahead) {
			if b.to == b.from {
				return accessApart
			}
			return need
		}
		if a := b.aheadOf(b.to); r.long || a != nil && a.looking {
			if b.to == b.from {
				need, r.access, b.slots = accessScan, accessScan, b.client.server.scans
				b.to++
			}
			return need
		}
		if r.rejected == errExecArity {
			ahead.open = false
		}
		if r.rejected == nil && r.command.alone {
			if b.to == b.from {
				r.access = r.command.access // it sees to that itself
				b.to++
			}
			return need
		}
		scan := r.command
		if r.rejected == nil {
			before := ahead.open
			r.access, ahead.open = r.command.accessWithin(before)
			switch {
			case before && ahead.open:
				ahead.holds(r.command)
			case ahead.open: // by MULTI
				ahead = transaction{open: true}
			case before && r.access == accessWrite && !ahead.writes && !watching: // an EXEC that only reads
				r.access, scan = ahead.reading(), ahead.scan
			}
			r.access = b.atFirst(r.access)
			watching = watching || r.command.inTransaction == roleWatch
		}
		if r.access == accessScan {
			slots := b.client.server.slotsOf(scan)
			if need == accessScan && slots != b.slots {
				return need
			}
			b.slots = slots
		}
		if min(need, r.access) == accessWrite && max(need, r.access) == accessScan {
			return need
		}
		need = max(need, r.access)
		if r.rejected == nil && r.command.inTransaction == roleEnd && b.client.pending.subscribes {
			b.to++ // what comes next is to be told of
			return need
		}
	}
	return need
}

// isApart reports whether a request may take long. ahead is the transaction that it finds.
func (b *batch) isApart(r *request, ahead *transaction) bool {
	if r.rejected != nil || r.apart {
		return r.rejected == nil
	}
	access, _ := r.command.accessWithin(ahead.open)
	if ahead.open && r.command.inTransaction == roleEnd {
		return ahead.heavy && access == accessWrite
	}
	return access == accessScan && !r.command.brief
}

// atFirst returns with which access a request is tried: the loop reads what a scan would, if that is
// at hand. See call.isBrief.
func (b *batch) atFirst(need access) access {
	if b.looped && need == accessScan {
		return accessRead
	}
	return need
}

// functions returns those that execute the requests of a cut.
func (b *batch) functions() []func(*embedded.Tx) error {
	n := b.to - b.from
	for i := len(b.updates); i < n; i++ {
		b.updates = append(b.updates, func(tx *embedded.Tx) error { return b.run(b.from+i, tx) })
	}
	return b.updates[:n]
}

// runAll executes the requests of a cut on one snapshot.
func (b *batch) runAll(tx *embedded.Tx) error {
	for i := b.from; i < b.to; i++ {
		if errors.Is(b.run(i, tx), errLater) {
			break
		}
	}
	return nil
}

// run executes a request and writes its reply. Its error makes the database discard the
// transaction.
func (b *batch) run(i int, tx *embedded.Tx) error {
	if b.mustSend() || b.halted {
		return errLater
	}
	r := &b.requests[i]
	if r.rejected == nil && b.atFirst(b.call.session.needs(r.command)) > r.access {
		b.halted = true // MULTI was refused, say: it is cut again
		return errLater
	}
	b.call.tx = tx
	b.call.args = b.args[r.args.from:r.args.to]
	r.at = len(b.out.buf)
	b.call.request, b.call.began, b.call.noted, b.call.touched, b.call.trims = i, r.at, nil, 0, 0
	posted := len(b.call.posts)
	b.call.session.mute.begin()
	b.call.apart, b.call.send, b.call.over, b.call.ahead = r.long, nil, nil, b.aheadOf(i)
	if r.long {
		b.call.send, b.call.over = b.sendPart, b.over
	}
	err := b.attempt(r)
	r.at = b.call.began // behind mail that was put before the reply: that stays, whatever becomes of it
	if tx != nil && tx.Err() != nil {
		if err == errBlocked {
			b.waiter = b.call.blocked
			b.stopWaiting() // it must not take what comes, for a command that is refused
		}
		err = tx.Err() // nothing is known then of what the command asked for
	}
	if b.sent {
		r.at, err = 0, b.cutShort(err)
	}
	if err != nil {
		b.call.posts = b.call.posts[:posted]
	}
	if isAgain(err) {
		b.again(i, err)
		return errLater
	}
	if err == errBlocked {
		b.out.buf = b.out.buf[:r.at]
		r.muted = b.call.session.mute.end()
		b.waiter, b.halted = b.call.blocked, true // nothing behind it is executed
		return nil
	}
	if b.call.long { // others have their turn before the next
		b.call.long, b.halted = false, true
	}
	if err != nil {
		r.failed = true
		b.client.server.errors.add(errorText(err))
		b.out.buf = b.out.buf[:r.at]
		b.out.fail(errorText(err))
	}
	if r.muted = b.call.session.mute.end() && !r.subscribes(); r.muted {
		b.out.buf = b.out.buf[:r.at]
	}
	r.stop = len(b.out.buf)
	r.done = true
	return err
}

// subscribes reports whether the reply is made of messages.
func (r *request) subscribes() bool { return r.command != nil && r.command.subscribes() }

// attempt executes a request. One whose command panics changes nothing, and is answered so: it must
// not end what others ask for.
func (b *batch) attempt(r *request) (err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = b.client.server.panicked(r.command, thrown)
		}
	}()
	return b.call.perform(r)
}

// panicked logs that a command did, and returns the reply.
func (s *Server) panicked(c *command, thrown any) error {
	s.config.Logger.Error("a command panicked: please report it",
		"command", c.name, "panic", thrown, "stack", string(debug.Stack()))
	return errPanicked
}

// spread returns an error of View as that of each request.
func (b *batch) spread(err error) []error {
	if err == nil {
		return nil
	}
	errs := make([]error, b.to-b.from)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// settle moves next behind what was executed, and puts the database's errors in the place of the
// replies to what it refused. Those to requests that do not need the database stay.
func (b *batch) settle(errs []error) {
	var old []byte // the replies as they were, with mail between them, once one of them is replaced
	replacing := false
	end := b.base // how far they have been looked at
	for ; b.next < b.to; b.next++ {
		r := &b.requests[b.next]
		var err error
		if len(errs) > 0 {
			err = errs[b.next-b.from]
		}
		switch {
		case r.done && (err == nil || r.failed || r.access == accessNone):
			if replacing {
				b.out.buf = append(b.out.buf, old[end:r.stop]...)
			}
			end = r.stop
		case !r.done && (err == nil || errors.Is(err, errLater)):
			if replacing {
				b.out.buf = append(b.out.buf, old[end:]...)
			}
			return
		default:
			if !replacing {
				replacing = true
				old = bytes.Clone(b.out.buf)
				b.out.buf = b.out.buf[:end]
			}
			if r.done {
				b.out.buf = append(b.out.buf, old[end:r.at]...)
				end = r.stop
			}
			if !b.refuse(r, err) {
				return
			}
		}
	}
}

// refuse answers a request that the database refused. One that it has not run and that needs no
// database is executed: it returns false if that has to wait, or waits.
func (b *batch) refuse(r *request, err error) bool {
	session := b.call.session
	b.stopWaiting()
	switch {
	case r.done:
		b.client.server.errors.add(errorText(err))
		if !r.muted {
			b.out.fail(errorText(err))
		}
	case r.access == accessNone:
		b.halted = false
		return b.run(b.next, nil) != errLater && b.waiter == nil
	default:
		session.mute.begin()
		if r.command.inTransaction == roleEnd {
			session.endTransaction() // it is over, as Redis has it
		}
		if err == errScriptBusy && r.command.name == "exec" {
			err = replyError("EXECABORT Transaction discarded because of: " + string(errScriptBusy))
		}
		b.client.server.errors.add(errorText(err))
		if !session.mute.end() {
			b.out.fail(errorText(err))
		}
	}
	return true
}
