package resp

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	embedded "github.com/peerd/peerd/peer"
)

// loop serves the connections over plain TCP, all on one goroutine. A round of it reads what
// clients have sent, has the commands of all executed at once, in one call of each database for
// those that read and one for the others, which reads do not wait for, and writes all replies. It
// is bounded, whatever clients send: see roundCommands. What may take long is executed by a
// goroutine meanwhile, and a client that takes no replies is waited for; neither holds up the
// others. Of a connection nothing is read before the replies to what came before are sent, so
// their order is that of the commands.
type loop struct {
	server  *Server
	poll    *poll
	sockets []*socket // by file descriptor
	open    int       // how many there are
	now     time.Time // of the round
	leaving bool      // it ends with its last socket

	share, output     int // of the round's commands, and of its bytes of replies, that each connection has
	taken, came, left int // commands, bytes read and bytes sent in this round: see roundCommands
	writes            int // commands of this round that write

	turn, next []*socket // to be looked at in this round, and in the next
	answered   []*socket // that have replies to be sent
	flights    []*flight // to be submitted in this round
	idle       []*flight // to be used again

	limited map[*socket]struct{} // those with a deadline
	alarm   time.Time            // no deadline is before; zero: there is none

	mu       sync.Mutex
	inbox    []*socket // of which something has changed
	landed   []*flight // that are done
	woken    bool      // somebody has seen to it that this is read
	stopping bool      // no more sockets come
	ended    bool

	mail    []*socket // the other buffer of inbox, and of landed
	arrived []*flight
}

// flight is the commands of one round for one database, on their way through it.
type flight struct {
	loop  *loop
	index int  // the database's number
	reads bool // nothing of it writes
	db    database
	fns   []func(*embedded.Tx) error
	parts []part
	began time.Time
	state atomic.Int32
	errs  []error
	land  func(errs []error) // made once
}

// part is a connection's share of a flight.
type part struct {
	socket   *socket
	from, to int // in fns
}

// States of a flight. Of the loop, that has called Submit, and the database, that calls done, the
// second to come has it land.
const (
	submitting int32 = iota
	away
	done
)

// startLoop starts the loop. Called under mu.
func (s *Server) startLoop(ctx context.Context) (*loop, error) {
	p, err := newPoll(s.config.sleeper)
	if err != nil {
		return nil, err
	}
	l := &loop{server: s, poll: p, limited: map[*socket]struct{}{}}
	// Connections that were handed over use the context when the loop has ended: only cut cancels
	// it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancels = append(s.cancels, cancel)
	s.running.Go(func() { l.run(ctx) })
	return l, nil
}

// endWhenEmpty ends the loop once it has no socket any more. No more are added.
func (l *loop) endWhenEmpty() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	l.rouse()
}

// isOver reports whether there was a loop that serves nobody any more.
func (l *loop) isOver() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// post has the loop look at a socket. Called under mu.
func (l *loop) post(s *socket) {
	if !s.posted {
		s.posted = true
		l.inbox = append(l.inbox, s)
	}
	l.rouse()
}

// rouse has the loop read its mail. Called under mu.
func (l *loop) rouse() {
	if !l.woken && !l.ended {
		l.woken = true
		l.poll.wake()
	}
}

func (l *loop) run(ctx context.Context) {
	for l.collect(ctx) {
		l.reply(ctx) // what the round before has left
		l.lookAtAll(ctx)
		for len(l.flights) > 0 {
			l.submit(ctx)
		}
		l.reply(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.poll.close()
}

// collect waits until there is something to do, and says to whom. It returns false when all is
// over.
func (l *loop) collect(ctx context.Context) bool {
	if l.leaving && l.open == 0 {
		return false
	}
	clear(l.turn)
	l.turn, l.next = l.next, l.turn[:0]
	wait := time.Duration(-1)
	switch {
	case len(l.turn)+len(l.answered) > 0:
		wait = 0
	case !l.alarm.IsZero():
		wait = max(0, l.alarm.Sub(l.server.config.clock()))
	}
	events, err := l.poll.wait(wait)
	if err != nil {
		l.server.config.Logger.Error("the loop for clients ends: it can wait no longer", "error", err)
		l.abandon(ctx)
		return false
	}
	l.now = l.server.config.clock()
	for i := range events {
		l.notice(int(events[i].Fd), events[i].Events)
	}
	l.readMail(ctx)
	if passed(l.alarm, l.now) {
		l.expire(ctx)
	}
	n := max(1, len(l.turn))
	l.share = min(max(roundCommands/n, leastShare), MaxBatchCommands)
	l.output = min(max(roundOutput/n, leastOutput), MaxBatchOutput)
	l.taken, l.came, l.left, l.writes = 0, 0, 0, 0
	return true
}

// isSpent reports whether the round has done so much that the others have to wait for the next.
func (l *loop) isSpent() bool {
	return l.taken >= roundCommands-l.share || l.writes >= roundWrites ||
		l.came >= roundInput || l.left >= roundOutput
}

// lookAtAll looks at the sockets that have their turn. Those for which nothing is left of the
// round are the first of the next.
func (l *loop) lookAtAll(ctx context.Context) {
	for i, s := range l.turn {
		if l.isSpent() {
			l.next = slices.Insert(l.next, 0, l.turn[i:]...)
			return
		}
		s.turned = false
		l.taken++
		l.look(ctx, s)
	}
}

// notice has a socket looked at of which something is told.
func (l *loop) notice(fd int, events uint32) {
	if fd >= len(l.sockets) || l.sockets[fd] == nil {
		return // it is how the loop was woken
	}
	s := l.sockets[fd]
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	s.hungUp = s.hungUp || events&end != 0
	s.readable = s.readable || events&(end|unix.EPOLLIN) != 0
	if !s.turned {
		s.turned = true
		l.turn = append(l.turn, s)
	}
}

// later has a socket looked at in the next round.
func (l *loop) later(s *socket) {
	if !s.turned {
		s.turned = true
		l.next = append(l.next, s)
	}
}

// readMail does what others asked for, and goes on with what they have done.
func (l *loop) readMail(ctx context.Context) {
	l.mu.Lock()
	l.woken = false
	l.mail, l.inbox = l.inbox, l.mail[:0]
	l.arrived, l.landed = l.landed, l.arrived[:0]
	for _, s := range l.mail {
		s.posted = false
	}
	l.leaving = l.stopping
	l.mu.Unlock()
	for _, s := range l.mail {
		l.obey(ctx, s)
	}
	for _, f := range l.arrived {
		l.land(ctx, f)
	}
	clear(l.mail)
	clear(l.arrived)
}

// obey does what others asked for of a socket.
func (l *loop) obey(ctx context.Context, s *socket) {
	l.mu.Lock()
	cut, executed, part := s.cut, s.executed, s.part
	s.executed, s.part = false, false
	s.partial = s.partial || part
	s.readLimit, s.writeLimit = s.readBy, s.writeBy
	l.mu.Unlock()
	if s.state == closed {
		return
	}
	if !s.joined {
		s.joined = true
		l.add(ctx, s)
	}
	if executed {
		s.batch.looped = true
		s.batch.begin()
		s.state = answering
		if s.client.subs.begun && !cut {
			l.handOver(ctx, s)
			return
		}
		l.answer(ctx, s)
	}
	if cut || s.state != executing && s.client.evicted() {
		l.finish(ctx, s)
		return
	}
	if part {
		l.answer(ctx, s)
		return
	}
	if s.state == awaiting && s.batch.waiter.isDone() {
		l.awake(ctx, s)
		return
	}
	if !executed && passed(s.deadline(), l.now) {
		l.giveUp(ctx, s)
		return
	}
	l.limit(s)
}

// add begins to serve a socket. What its client has sent already is told next.
func (l *loop) add(ctx context.Context, s *socket) {
	if need := s.fd + 1 - len(l.sockets); need > 0 {
		l.sockets = append(l.sockets, make([]*socket, need)...)
	}
	l.sockets[s.fd] = s
	l.open++
	if err := l.poll.add(s.fd); err != nil {
		l.server.config.Logger.Warn(
			"closed a client: the system does not tell of what it sends", "error", err)
		l.finish(ctx, s)
	}
}

// drop lets go of a socket. It reports whether a goroutine has executed the batch before: what the
// client holds is the loop's to give back then.
func (l *loop) drop(s *socket) (executed bool) {
	s.state = closed
	l.sockets[s.fd] = nil
	l.open--
	delete(l.limited, s)
	l.mu.Lock()
	s.over = true
	if s.part || s.partial {
		s.went <- false
	}
	executed = s.executed
	l.mu.Unlock()
	return executed
}

// finish closes a socket. What is being executed for it goes on, and keeps what it needs.
func (l *loop) finish(ctx context.Context, s *socket) {
	if s.state == closed {
		return
	}
	c, busy := s.client, s.state == executing || s.partial
	executed := l.drop(s)
	_ = unix.Close(s.fd)
	if !busy || executed {
		if s.batch != nil {
			s.batch.release()
		}
		c.leave(ctx)
	}
	c.hold(0)
	l.server.mu.Lock()
	l.server.forget(c)
	l.server.mu.Unlock()
	l.server.running.Done()
}

// handOver has a socket be served by a goroutine from now on, because it was subscribed.
func (l *loop) handOver(ctx context.Context, s *socket) {
	c, srv := s.client, l.server
	conn, err := l.release(s)
	if err != nil {
		srv.config.Logger.Warn(
			"closed a redis subscriber: it could not be given a goroutine", "error", err)
		l.finish(ctx, s)
		return
	}
	srv.mu.Lock()
	c.attach(conn)
	switch {
	case c.evicted():
		_ = conn.SetDeadline(time.Unix(1, 0))
	case srv.draining:
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
	srv.mu.Unlock()
	l.mu.Lock()
	s.moved = conn
	cut := s.cut
	l.mu.Unlock()
	if cut {
		_ = conn.Close()
	}
	s.batch.looped = false
	go func() {
		c.resume(ctx, s.batch, s.end)
		srv.end(ctx, c)
	}()
}

// release takes a socket out of the loop and returns its connection.
func (l *loop) release(s *socket) (net.Conn, error) {
	if err := l.poll.remove(s.fd); err != nil {
		return nil, err
	}
	conn, err := copyOf(s.fd)
	if err != nil {
		return nil, err
	}
	_ = unix.Close(s.fd)
	l.drop(s)
	return conn, nil
}

// limit sees to it that a socket is looked at when its time is over.
func (l *loop) limit(s *socket) {
	at := s.deadline()
	if at.IsZero() {
		return
	}
	l.limited[s] = struct{}{}
	if l.alarm.IsZero() || at.Before(l.alarm) {
		l.alarm = at
	}
}

// expire closes the sockets whose time is over.
func (l *loop) expire(ctx context.Context) {
	l.alarm = time.Time{}
	for s := range l.limited {
		switch at := s.deadline(); {
		case at.IsZero():
			delete(l.limited, s)
		case passed(at, l.now):
			l.giveUp(ctx, s)
		default:
			l.limit(s)
		}
	}
}

// giveUp closes a socket whose time is over.
func (l *loop) giveUp(ctx context.Context, s *socket) {
	if s.state == sending && !s.client.evicted() {
		l.server.unread(s.client)
	}
	l.finish(ctx, s)
}

// abandon closes all sockets.
func (l *loop) abandon(ctx context.Context) {
	l.mu.Lock()
	l.ended = true // no more join
	l.mu.Unlock()
	l.readMail(ctx)
	for _, s := range l.sockets {
		if s != nil {
			l.finish(ctx, s)
		}
	}
}

// look goes on with a socket, as far as that is possible.
func (l *loop) look(ctx context.Context, s *socket) {
	switch s.state {
	case reading:
		if s.readable {
			l.read(ctx, s)
		}
	case resuming:
		if s.batch == nil {
			l.take(ctx, s)
		} else {
			l.goOn(ctx, s)
		}
	case sending:
		l.send(ctx, s)
	case awaiting:
		if s.hungUp {
			l.finish(ctx, s)
		}
	}
}

// read reads what has come, once: others have their turn before there is more.
func (l *loop) read(ctx context.Context, s *socket) {
	n, err := s.receive()
	l.came += n
	c := s.client
	switch {
	case err != nil || !c.hold(c.in.size()+c.size()):
		l.finish(ctx, s)
	case n > 0:
		l.take(ctx, s)
	default:
		l.listen(ctx, s)
	}
}

// take cuts off the whole commands that have come, and begins with them.
func (l *loop) take(ctx context.Context, s *socket) {
	b := newBatch(s.client)
	s.end = b.fill(l.share)
	if len(b.requests) == 0 && s.end == nil {
		b.release()
		l.listen(ctx, s)
		return
	}
	b.looped = true
	b.begin()
	s.batch = b
	l.goOn(ctx, s)
}

// goOn goes on with a batch in this round.
func (l *loop) goOn(ctx context.Context, s *socket) {
	b := s.batch
	b.most = l.output
	l.taken += len(b.requests) - b.next
	l.advance(ctx, s)
}

// listen waits for the next command.
func (l *loop) listen(ctx context.Context, s *socket) {
	s.state = reading
	c := s.client
	switch {
	case c.evicted() || passed(s.readLimit, l.now):
		l.finish(ctx, s)
	case s.readable:
		l.later(s)
	default:
		c.in.rest()
		if !c.hold(c.in.size() + c.size()) {
			l.finish(ctx, s)
			return
		}
		l.limit(s) // expire forgets those who wait for something else
	}
}

// advance executes what needs no database, and has the next that does wait for the round's flight.
func (l *loop) advance(ctx context.Context, s *socket) {
	b := s.batch
	for !b.done() && !b.mustSend() {
		switch b.cut() {
		case accessNone:
			_ = b.runAll(nil)
			b.conclude(nil, l.server.config.clock().Sub(l.now))
		case accessApart:
			l.executeApart(ctx, s)
			return
		case accessRead:
			l.enlist(s, true)
			return
		default:
			l.enlist(s, false)
			return
		}
	}
	l.answer(ctx, s)
}

// executeApart has a goroutine execute what comes next.
func (l *loop) executeApart(ctx context.Context, s *socket) {
	s.state = executing
	b, c := s.batch, s.client
	b.looped, b.most = false, MaxBatchOutput
	l.server.running.Go(func() {
		b.execute(ctx)
		l.mu.Lock()
		s.executed = true
		over := s.over
		l.post(s)
		l.mu.Unlock()
		if over {
			c.endTracking(c.server)
			c.unfollow(ctx)
			c.watched.end()
			b.stopWaiting()
		}
	})
}

// enlist puts what a batch has cut into a flight.
func (l *loop) enlist(s *socket, reads bool) {
	s.state = executing
	f := l.flightTo(s.client, reads)
	from := len(f.fns)
	f.fns = append(f.fns, s.batch.functions()...)
	f.parts = append(f.parts, part{s, from, len(f.fns)})
	if !reads {
		l.writes += len(f.fns) - from
	}
}

// flightTo returns the flight of this round to a client's database, of what reads or of the rest.
func (l *loop) flightTo(c *client, reads bool) *flight {
	for _, f := range l.flights {
		if f.index == c.index && f.reads == reads {
			return f
		}
	}
	var f *flight
	if n := len(l.idle); n > 0 {
		f, l.idle = l.idle[n-1], l.idle[:n-1]
	} else {
		f = &flight{loop: l}
		f.land = f.landed
	}
	f.index, f.reads, f.db = c.index, reads, c.database()
	if reads { // before somebody else has the turn because of the others
		l.flights = slices.Insert(l.flights, 0, f)
	} else {
		l.flights = append(l.flights, f)
	}
	return f
}

// submit has one flight executed.
func (l *loop) submit(ctx context.Context) {
	f := l.flights[0]
	l.flights = slices.Delete(l.flights, 0, 1)
	f.began = time.Now()
	if f.reads {
		f.errs = f.db.Read(f.fns)
		l.land(ctx, f)
		return
	}
	if l.server.scripts.isBusy(f.index) {
		f.errs = slices.Repeat([]error{errScriptBusy}, len(f.fns))
		l.land(ctx, f)
		return
	}
	f.state.Store(submitting)
	l.server.waiting[f.index].submit(f.db, f.fns, f.land)
	if !f.state.CompareAndSwap(submitting, away) {
		l.land(ctx, f)
	}
}

// landed is what the database calls when a flight is done.
func (f *flight) landed(errs []error) {
	f.errs = errs
	if f.state.CompareAndSwap(submitting, done) {
		return
	}
	l := f.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landed = append(l.landed, f)
	l.rouse()
}

// land goes on with the connections of a flight that is done.
func (l *loop) land(ctx context.Context, f *flight) {
	took := time.Since(f.began)
	for _, p := range f.parts {
		if p.socket.state == closed {
			p.socket.batch.stopWaiting()
			p.socket.client.watched.end()
			continue
		}
		errs := f.errs
		if errs != nil {
			errs = errs[p.from:p.to]
		}
		p.socket.batch.conclude(errs, took)
		l.advance(ctx, p.socket)
	}
	clear(f.fns)
	clear(f.parts)
	f.fns, f.parts, f.errs, f.db = f.fns[:0], f.parts[:0], nil, nil
	l.idle = append(l.idle, f)
}

// answer has the replies to what was executed sent at the end of the round.
func (l *loop) answer(ctx context.Context, s *socket) {
	c, b := s.client, s.batch
	s.state = answering
	if b.done() {
		b.fail(s.end)
	}
	if !c.hold(c.in.size()+c.size()+b.size()) || c.in.stranger && passed(s.writeLimit, l.now) {
		l.finish(ctx, s)
		return
	}
	l.answered = append(l.answered, s)
}

// reply begins to send replies, as many as the round may.
func (l *loop) reply(ctx context.Context) {
	sent := 0
	for ; sent < len(l.answered) && l.left < roundOutput; sent++ {
		if s := l.answered[sent]; s.state == answering {
			s.state = sending
			l.send(ctx, s)
		}
	}
	l.answered = slices.Delete(l.answered, 0, sent)
}

// send goes on sending replies, MaxBatchOutput of them at once. A client that does not take them
// is waited for until it has taken nothing for WriteTimeout, or too little of a long one.
func (l *loop) send(ctx context.Context, s *socket) {
	c, b := s.client, s.batch
	rest := b.out.buf[s.sent:]
	part := rest[:min(len(rest), MaxBatchOutput)]
	n, err := s.transmit(part)
	s.sent += n
	l.left += n
	if err != nil {
		l.finish(ctx, s)
		return
	}
	if s.sent < len(b.out.buf) {
		s.taken += n
		if !c.in.stranger && (s.patience.IsZero() || s.taken >= b.pace()) {
			s.patience, s.taken = l.now.Add(WriteTimeout), 0
		}
		if n == len(part) {
			l.later(s)
		}
		l.limit(s)
		return
	}
	s.patience, s.sent, s.taken = time.Time{}, 0, 0
	b.out.buf = b.out.buf[:0]
	switch {
	case s.partial:
		s.partial, s.state = false, executing
		s.went <- true
	case c.quit || b.done() && s.end != nil:
		l.finish(ctx, s)
	case b.waiter != nil:
		l.await(ctx, s)
	case !b.done():
		s.state = resuming
		l.later(s)
	default:
		more := b.more
		b.release()
		s.batch = nil
		if more {
			s.state = resuming
			l.later(s)
			return
		}
		l.listen(ctx, s)
	}
}

// await has a socket wait until the command is answered that waits for keys.
func (l *loop) await(ctx context.Context, s *socket) {
	s.state = awaiting
	switch {
	case s.hungUp || s.client.evicted():
		l.finish(ctx, s)
	case !s.batch.waiter.whenDone(func() { _ = s.tell(func() {}) }):
		_ = s.tell(func() {})
	}
}

// awake goes on with a socket whose command waits no more.
func (l *loop) awake(ctx context.Context, s *socket) {
	if s.batch.waiter.end == left {
		l.finish(ctx, s)
		return
	}
	s.batch.awake()
	l.goOn(ctx, s)
}
