package resp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// A command that finds nothing may wait for keys: see call.block. It is tried again, as part of a
// transaction, whenever one of its keys was written, in the order in which the commands began to
// wait for it:
//
//   - A transaction of a client of this server is followed by one in which those are tried who wait for what it wrote,
//     before anybody else sees it, and before its own client is answered. So whoever pushes and then looks finds that
//     what waited has taken it, as in Redis.
//   - A watch tells of all else, and of what the first may have missed: of what others write through the peer, of deltas
//     and repairs.
//
// While nobody waits in a database a transaction costs it one look at a counter, and there is no
// watch.

// errBlocked is what a command returns that waits: it has no reply yet.
var errBlocked = errors.New("waits for keys")

// attempt is what a command that waits does when one of its keys was written.
type attempt struct {
	// try looks at the key, and writes the reply if it finds what it waits for. If it does not, it
	// writes nothing. A replyError is the reply. It knows of its client what call has, its
	// arguments and its protocol, and no more.
	try func(c *call, key string) (done bool, err error)
	// none writes the reply for when the time is over, and within a transaction, where nothing
	// waits.
	none func(out *replies)
	// takes is what it takes any one of, if it does: when one such attempt finds nothing, no other
	// does.
	takes taking
}

// taking is elements of a type of value, and of a stream those that a group was not given.
type taking struct {
	typ   crdt.Type
	group string
}

// block has the command wait for keys, until one of them has what it tries for or the time is over;
// 0 is for ever. The command returns what block does, and has tried in vain by then.
func (c *call) block(keys []string, timeout time.Duration, a attempt) error {
	if c.whole {
		a.none(c.out)
		return nil
	}
	if len(keys) > MaxWaited {
		return replyError(fmt.Sprintf("ERR more than %d keys of a command that waits (MaxWaited)", MaxWaited))
	}
	w := c.newWaiter(keys, a)
	w.of.enter(w, c.client, c.selected(), timeout)
	return errBlocked
}

// newWaiter returns what the command is while it waits.
func (c *call) newWaiter(keys []string, a attempt) *waiter {
	w := &waiter{
		attempt: a, of: &c.server.waiting[c.session.index], done: make(chan struct{}),
		keys: slices.Compact(slices.Sorted(slices.Values(keys))),
		session: session{
			id: c.session.id, index: c.session.index, db: c.session.db, resp3: c.session.resp3, turn: c.session.turn,
		},
	}
	for _, arg := range c.args {
		w.size += len(arg) + ArgumentCost
	}
	w.call = call{server: c.server, session: &w.session, out: &w.out, command: c.command, args: cloneArgs(c.args, w.size)}
	w.size += len(w.keys) * ArgumentCost
	w.out.resp3 = c.session.resp3
	c.blocked = w
	return w
}

// await has the command wait for something that is no key: until look returns, whose context ends
// with the time, 0 being for ever. Then it replies with what is so by then. Within a transaction
// nothing waits.
func (c *call) await(timeout time.Duration, look func(ctx context.Context) error, reply func(out *replies)) error {
	if c.whole {
		reply(c.out)
		return nil
	}
	ctx, cut := context.WithCancel(context.Background())
	if timeout > 0 {
		ctx, cut = context.WithTimeout(context.Background(), timeout)
	}
	w, running := c.newWaiter(nil, attempt{none: reply}), &c.server.running // c is another's by then
	w.cut = cut
	if !w.of.enter(w, c.client, c.selected(), 0) {
		return errBlocked
	}
	go func() {
		defer running.Done()
		err := look(ctx)
		if !w.of.claim(w) {
			return
		}
		if err != nil && ctx.Err() == nil {
			w.out.fail(errorText(err))
		} else {
			reply(&w.out)
		}
		w.of.release(w, true)
	}()
	return errBlocked
}

// selected returns the database that the client has selected.
func (c *call) selected() database {
	if c.session.db != nil {
		return c.session.db
	}
	return c.server.config.db
}

// seconds reads argument i as how long to wait.
func (c *call) seconds(i int) (time.Duration, error) {
	f, err := parseFloat(c.args[i])
	if err != nil {
		return 0, replyError("ERR timeout is not a float or out of range")
	}
	millis, _ := f.Float64()
	return waitFor(math.Ceil(millis * 1000))
}

// waitFor returns how long a number of milliseconds is, or the longest time that there is.
func waitFor(millis float64) (time.Duration, error) {
	switch {
	case millis < 0, millis >= 1<<63: // which Redis takes for one below
		return 0, replyError("ERR timeout is negative")
	case millis > float64(math.MaxInt64/time.Millisecond):
		return math.MaxInt64, nil
	}
	return time.Duration(millis) * time.Millisecond, nil
}

// waiter is a command that waits.
type waiter struct {
	attempt
	of      *waiting
	keys    []string // each once
	size    int      // bytes, as hold counts
	call    call
	session session // of call: what it needs of the client's
	out     replies
	timer   *time.Timer
	cut     context.CancelFunc // ends the look of one that waits for no key

	// Guarded by of.mu, and by nothing once done is closed.
	claimed bool        // a transaction tries it, or has answered it and is not committed
	end     ending      // what ended it
	told    func()      // is called then
	why     error       // of lost
	answers atomic.Bool // set before done is closed; see isDone

	done chan struct{} // closed when out has the reply, or there is none any more
}

// ending is why a command waits no more.
type ending int

const (
	waitsOn   ending = iota
	answered         // out has its reply
	timedOut         // its time is over, or CLIENT UNBLOCK said so
	unblocked        // CLIENT UNBLOCK did
	left             // its connection ends
	lost             // its database tells of no more changes: why says more
)

// isDone reports whether the command waits no more.
func (w *waiter) isDone() bool { return w.answers.Load() }

// whenDone has fn called when the command waits no more. It returns false if that is so already.
func (w *waiter) whenDone(fn func()) bool {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.told = fn
	return w.end == waitsOn || w.claimed
}

// stop ends the wait, and reports whether the command waited. One that is being tried ends when that is over: with its
// answer, if it finds one.
func (w *waiter) stop(why ending) bool {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if w.end != waitsOn {
		return false
	}
	if w.cut != nil && why == timedOut {
		w.cut() // and it replies
		return true
	}
	if w.end = why; !w.claimed {
		w.of.finish(w)
	}
	return true
}

// waiting is those who wait for keys of one database.
type waiting struct {
	server *Server
	count  atomic.Int64 // how many there are
	// forKeys is how many of them wait for keys: transactions look for those.
	forKeys atomic.Int64

	mu       sync.Mutex
	db       database
	queues   map[string][]*waiter // by key, in the order in which they came
	keyless  map[*waiter]struct{} // those of await
	ready    keyQueue             // keys for which they are to be tried
	serving  bool                 // a goroutine does
	watching bool                 // another waits for changes
	watch    *embedded.Watch      // nil until that has begun to
	closed   bool
}

// enter adds a waiter, of a client that others see to wait before they see that one does, and
// reports whether it waits. For one of no keys somebody else is running then, and says when he is
// done.
func (q *waiting) enter(w *waiter, of *client, db database, timeout time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	of.waits.Store(w)
	of.show(w.call.command)
	q.db = db
	if q.queues == nil {
		q.queues = map[string][]*waiter{}
	}
	for _, key := range w.keys {
		q.queues[key] = append(q.queues[key], w)
	}
	if q.count.Add(1); len(w.keys) > 0 {
		q.forKeys.Add(1)
	}
	switch {
	case q.closed:
		w.end = left
		q.finish(w)
		return false
	case len(w.keys) == 0:
		if q.keyless == nil {
			q.keyless = map[*waiter]struct{}{}
		}
		q.keyless[w] = struct{}{}
		q.server.running.Add(1)
		return true
	}
	if timeout > 0 {
		w.timer = time.AfterFunc(timeout, func() { w.stop(timedOut) })
	}
	if !q.watching {
		q.watching = true
		q.server.running.Add(1)
		go q.follow(db)
	}
	if w.call.command.access != accessWrite {
		q.mark(w.keys) // what it read may have changed since
	}
	return true
}

// finish takes a waiter out whose end is known, and tells it. Called under mu.
func (q *waiting) finish(w *waiter) {
	for _, key := range w.keys {
		queue := q.queues[key]
		if i := slices.Index(queue, w); len(queue) == 1 && i == 0 {
			delete(q.queues, key)
		} else if i >= 0 {
			q.queues[key] = slices.Delete(queue, i, i+1)
		}
	}
	if q.count.Add(-1); len(w.keys) > 0 {
		q.forKeys.Add(-1)
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.cut != nil {
		delete(q.keyless, w)
		w.cut()
	}
	switch w.end {
	case timedOut:
		w.none(&w.out)
	case unblocked:
		w.out.fail("UNBLOCKED client unblocked via CLIENT UNBLOCK")
	case lost:
		w.out.fail(errorText(w.why))
	}
	w.answers.Store(true)
	close(w.done)
	if w.told != nil {
		w.told()
	}
}

// claim begins to try a waiter, unless another does or it waits no more.
func (q *waiting) claim(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.claimed || w.end != waitsOn {
		return false
	}
	w.claimed = true
	return true
}

// release ends what claim began: with an answer, if it was given one.
func (q *waiting) release(w *waiter, isAnswered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.claimed = false
	if isAnswered {
		w.end = answered
	} else {
		w.out.buf = w.out.buf[:0]
	}
	if w.end != waitsOn {
		q.finish(w)
	}
}

// waitersOf returns who waits for a key.
func (q *waiting) waitersOf(key string) []*waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.queues[key])
}

func (q *waiting) has(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queues[key]) > 0
}

// mark has those tried who wait for some keys. Called under mu.
func (q *waiting) mark(keys []string) {
	for _, key := range keys {
		if len(q.queues[key]) > 0 {
			q.ready.add(key)
		}
	}
	if len(q.ready.keys) > 0 && !q.serving && !q.closed {
		q.serving = true
		q.server.running.Add(1)
		go q.serveReady()
	}
}

// markAll has all tried. Called under mu.
func (q *waiting) markAll() {
	q.ready = keyQueue{}
	q.mark(slices.Sorted(maps.Keys(q.queues)))
}

// keyQueue is keys in an order, each once.
type keyQueue struct {
	keys []string
	in   map[string]struct{}
}

// add puts a key behind the others, unless it is among them.
func (q *keyQueue) add(key string) {
	if _, there := q.in[key]; there {
		return
	}
	if q.in == nil {
		q.in = map[string]struct{}{}
	}
	q.in[key] = struct{}{}
	q.keys = append(q.keys, key)
}

// drop takes the first key out.
func (q *keyQueue) drop() {
	delete(q.in, q.keys[0])
	q.keys = q.keys[1:]
}

// serveReady tries those who are to be, until none is.
func (q *waiting) serveReady() {
	defer q.server.running.Done()
	for {
		q.mu.Lock()
		db, ready := q.db, q.ready
		q.ready = keyQueue{}
		if q.serving = len(ready.keys) > 0; !q.serving {
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		s := &serving{of: q, left: ready}
		if q.update(db, s) == nil {
			continue
		}
		for _, key := range ready.keys { // it may be that of one of them alone
			for _, w := range q.waitersOf(key) {
				one := &serving{of: q, only: w}
				one.left.add(key)
				if err := q.update(db, one); err != nil && q.claim(w) {
					w.out.fail(errorText(err))
					q.release(w, true)
				}
			}
		}
	}
}

// update tries waiters in a transaction of its own.
func (q *waiting) update(db database, s *serving) (err error) {
	for _, err = range db.UpdateAll(context.Background(), []func(*embedded.Tx) error{s.run}) {
		break // there is one
	}
	s.end(err)
	return err
}

// watchRest is how long changes are watched when nobody waits any more, for who comes next.
const watchRest = 10 * time.Second

// follow has those tried whose keys changed, as long as there are some.
func (q *waiting) follow(db database) {
	defer q.server.running.Done()
	watch := db.Watch("")
	defer watch.Close()
	watch.Only(q.has)
	q.mu.Lock()
	q.watch = watch
	if q.closed {
		watch.Close()
	}
	q.markAll() // for what changed before the watch was there
	q.mu.Unlock()
	for {
		limit, cancel := context.WithTimeout(context.Background(), watchRest)
		change, err := watch.Next(limit)
		cancel()
		if !q.changed(change, err) {
			return
		}
	}
}

// changed takes what a watch tells, and returns false if it is over.
func (q *waiting) changed(change embedded.Change, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err == nil && change.Reset:
		q.markAll()
	case err == nil:
		q.mark(change.Keys)
	case errors.Is(err, context.DeadlineExceeded) && len(q.queues) > 0:
	default:
		// Nobody waits; or the database is no more, and nothing tells any more when a key changes. To try those who
		// wait would not end that: to a transaction a database that was dropped is empty.
		q.watching, q.watch = false, nil
		q.endAll(lost, err)
		return false
	}
	return true
}

// endAll ends all waits for keys, and some others. Called under mu.
func (q *waiting) endAll(end ending, why error, others ...*waiter) {
	all := others
	for _, queue := range q.queues {
		all = append(all, queue...)
	}
	for _, w := range all {
		if w.end != waitsOn {
			continue
		}
		if w.end, w.why = end, why; !w.claimed {
			q.finish(w)
		}
	}
}

// close ends all waits, and those that will begin.
func (q *waiting) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.watch != nil {
		q.watch.Close()
	}
	q.endAll(left, nil, slices.Collect(maps.Keys(q.keyless))...)
}

// serving tries those who wait for some keys, in a transaction.
type serving struct {
	of    *waiting
	only  *waiter  // if set, no other
	left  keyQueue // keys that are still to be tried
	tried []string // keys that were
	from  int      // of the transaction's operations the first that was not looked at
	noted *noted   // what it did, if anybody wants to know
	done  []*waiter
}

// maxServed is how many commands that wait are answered in one transaction.
const maxServed = 64

// run is the transaction. What it writes may be what others wait for.
func (s *serving) run(tx *embedded.Tx) error {
	s.from, s.noted = 0, nil
	for len(s.left.keys) > 0 && len(s.done) < maxServed {
		if err := s.serve(tx, s.left.keys[0]); err != nil {
			return err
		}
	}
	return nil
}

// serve tries those who wait for the first of the keys.
func (s *serving) serve(tx *embedded.Tx, key string) error {
	inVain := map[taking]bool{}
	for _, w := range s.of.waitersOf(key) {
		if len(s.done) == maxServed {
			return nil
		}
		if s.only != nil && w != s.only || inVain[w.takes] || !s.of.claim(w) {
			continue
		}
		done, err := w.run(s, tx, key)
		if err != nil || !done {
			s.of.release(w, false)
		}
		switch {
		case err != nil:
			return err
		case !done && w.takes != taking{}:
			inVain[w.takes] = true
		case done:
			s.done = append(s.done, w)
			s.note(tx)
		}
	}
	s.tried = append(s.tried, key)
	s.left.drop()
	return nil
}

// run tries to answer the command.
func (w *waiter) run(s *serving, tx *embedded.Tx, key string) (done bool, err error) {
	w.call.tx, w.call.noted, w.call.touched = tx, s.noted, s.from
	defer func() {
		w.call.tx = nil
		if thrown := recover(); thrown != nil {
			err = w.of.server.panicked(w.call.command, thrown)
		}
	}()
	done, err = w.try(&w.call, key)
	if err == nil {
		err = tx.Err()
	}
	if refusal, ok := err.(replyError); ok {
		w.out.buf = w.out.buf[:0]
		w.out.fail(string(refusal))
		return true, nil
	}
	if len(w.out.buf) > MaxReply {
		return false, errReplyTooLarge
	}
	if done && err == nil {
		w.call.note(w.call.command)
		s.noted = w.call.noted
	}
	return done, err
}

// note adds the keys that the transaction wrote and somebody waits for.
func (s *serving) note(tx *embedded.Tx) {
	s.from = tx.Touched(s.from, func(key string) {
		if s.of.has(key) {
			s.left.add(key)
		}
	})
}

// end answers those who were served, once the transaction is committed; if it is not, they wait on
// and are tried again, as those are for whom it had no room.
func (s *serving) end(err error) {
	for _, w := range s.done {
		s.of.release(w, err == nil)
	}
	again := s.left.keys
	if err != nil && s.only == nil {
		again = append(s.tried, again...)
	}
	if len(again) > 0 && s.only == nil {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.mark(again)
	}
}

// submit has the database execute transactions, and between them those of waiters who wait for what
// they write.
func (q *waiting) submit(db database, fns []func(*embedded.Tx) error, done func(errs []error)) {
	if q.forKeys.Load() == 0 {
		db.Submit(fns, done)
		return
	}
	all, end := q.between(fns)
	db.Submit(all, func(errs []error) { done(end(errs)) })
}

// updateAll is submit for who waits until all are executed.
func (q *waiting) updateAll(ctx context.Context, db database, fns []func(*embedded.Tx) error) []error {
	if q.forKeys.Load() == 0 {
		return db.UpdateAll(ctx, fns)
	}
	all, end := q.between(fns)
	return end(db.UpdateAll(ctx, all))
}

// between returns the transactions with one behind each that tries waiters, and what makes of the
// errors of all those of the first.
func (q *waiting) between(fns []func(*embedded.Tx) error) (all []func(*embedded.Tx) error, end func([]error) []error) {
	servings := make([]serving, len(fns))
	for i, fn := range fns {
		s := &servings[i]
		s.of = q
		all = append(all, func(tx *embedded.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			s.note(tx)
			return nil
		}, s.run)
	}
	return all, func(errs []error) []error {
		var own []error
		for i := range servings {
			var failed error
			if errs != nil {
				own, failed = append(own, errs[2*i]), errs[2*i+1]
			}
			servings[i].end(failed)
		}
		return own
	}
}

// blockedCount returns how many commands wait.
func (s *Server) blockedCount() (n int64) {
	for i := range s.waiting {
		n += s.waiting[i].count.Load()
	}
	return n
}

// awake puts the reply of the command that waited behind the others, and goes on behind it.
func (b *batch) awake() {
	r, w := &b.requests[b.next], b.waiter
	b.waiter = nil
	b.client.waits.Store(nil)
	if len(w.out.buf) > 0 && w.out.buf[0] == '-' {
		b.client.server.errors.add(string(w.out.buf[1 : len(w.out.buf)-2]))
		b.client.server.perCommand[r.command.place].failed.Add(1)
	}
	if !r.muted {
		b.out.buf = append(b.out.buf, w.out.buf...)
	}
	b.next++
	b.client.show(r.command)
	b.client.server.counts.commands.Add(1)
}

// stopWaiting ends what the client waits for, and forgets it.
func (b *batch) stopWaiting() {
	if b.waiter != nil {
		b.waiter.stop(left)
		b.waiter = nil
		b.client.waits.Store(nil)
	}
}

// await waits until the command is answered that waits, on the connection's own goroutine. Messages
// are sent meanwhile. It returns false if the connection is to be closed.
func (c *client) await(b *batch) bool {
	c.writing.Unlock()
	defer c.writing.Lock()
	w := b.waiter
	forget := c.whenGone(func() { w.stop(left) })
	if c.evicted() { // perhaps before others could see that it waits
		w.stop(left)
	}
	<-w.done
	forget()
	if w.end == left {
		return false
	}
	b.awake()
	return true
}

// runClientUnblock has a command of another client wait no more, as if its time was over or with an
// error.
func runClientUnblock(c *call) error {
	id, err := c.integer(2)
	why := timedOut
	switch {
	case len(c.args) > 4:
		return wrongUse(c)
	case len(c.args) == 4 && c.is(3, "error"):
		why = unblocked
	case len(c.args) == 4 && !c.is(3, "timeout"):
		return replyError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
	}
	if err != nil {
		return err
	}
	ended := int64(0)
	for _, other := range c.clients(func(other *client, _ view) bool { return other.id == id }) {
		if w := other.waits.Load(); w != nil && w.stop(why) {
			ended = 1
		}
	}
	c.out.integer(ended)
	return nil
}
