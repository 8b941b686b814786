package resp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	embedded "github.com/peerd/peerd/peer"
)

// Redis tells of changed keys on two channels for each change: one named for the key, which says
// what happened, and one named for what happened, which says the key. Both have the database's
// number in their names.
func keyspace(db int) string { return fmt.Sprintf("__keyspace@%d__:", db) }
func keyevent(db int) string { return fmt.Sprintf("__keyevent@%d__:", db) }

// subscriptions is what a connection has subscribed to. Its own goroutine changes them, while it
// holds client.writing; the goroutine that sends messages reads them, while it does.
type subscriptions struct {
	names   [namings]nameSet
	bytes   int                // of the names, each charged ArgumentCost besides
	follows map[int]*following // by database
	box     *mailbox           // the client's
	begun   bool               // the box is open, or to be closed
	sending bool               // what comes into it is sent
	senders sync.WaitGroup     // goroutines that send messages
}

// following is a database whose changes a subscriber is told, by a goroutine of its own.
type following struct {
	number  int
	db      database
	watch   *embedded.Watch // nil until what came with the subscription was executed
	sending bool            // the goroutine was started
}

// nameSet is a set of names, in order.
type nameSet []string

func (s nameSet) has(name string) bool {
	_, ok := slices.BinarySearch(s, name)
	return ok
}

func (s *nameSet) add(name string) (added bool) {
	i, there := slices.BinarySearch(*s, name)
	if !there {
		*s = slices.Insert(*s, i, name)
	}
	return !there
}

func (s *nameSet) remove(name string) (removed bool) {
	i, there := slices.BinarySearch(*s, name)
	if there {
		*s = slices.Delete(*s, i, i+1)
	}
	return there
}

// count returns what the replies to subscriptions of a kind count, all returns how many there are
// of every kind.
func (s *subscriptions) count(kind naming) int64 {
	if kind == toShard {
		return int64(len(s.names[toShard]))
	}
	return int64(len(s.names[toChannel]) + len(s.names[toPattern]))
}

func (s *subscriptions) all() int { return int(s.count(toChannel) + s.count(toShard)) }

// add subscribes to a name.
func (s *subscriptions) add(kind naming, name string) {
	if s.names[kind].add(name) {
		s.bytes += len(name) + ArgumentCost
		s.box.server.audience.join(kind, name, s.box)
	}
}

func (s *subscriptions) remove(kind naming, name string) {
	if s.names[kind].remove(name) {
		s.bytes -= len(name) + ArgumentCost
		s.box.server.audience.leave(kind, name, s.box)
	}
}

// clear ends all subscriptions.
func (s *subscriptions) clear() {
	for kind := range namings {
		for _, name := range slices.Clone(s.names[kind]) {
			s.remove(kind, name)
		}
	}
}

// meets reports whether a name that is subscribed to may mean channels that begin with a prefix.
func (kind naming) meets(name, prefix string) bool {
	switch kind {
	case toChannel:
		return strings.HasPrefix(name, prefix)
	case toPattern:
		plain := globPrefix(name)
		n := min(len(plain), len(prefix))
		return plain[:n] == prefix[:n]
	}
	return false
}

// subscribing is SUBSCRIBE and its like.
func subscribing(kind naming, reply string) func(c *call) error {
	return func(c *call) error {
		if kind == toShard && c.whole {
			return replyError("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
		}
		if err := c.checkSubscriptions(kind); err != nil {
			return err
		}
		subs := &c.session.subs
		subs.box.start()
		subs.begun = true
		for i := range c.args[1:] {
			subs.add(kind, c.arg(i+1))
			c.out.push(3)
			c.out.text(reply)
			c.out.text(c.arg(i + 1))
			c.out.integer(subs.count(kind))
		}
		return nil
	}
}

// checkSubscriptions refuses those beyond a limit, and notes which databases are to be followed.
func (c *call) checkSubscriptions(kind naming) error {
	subs := &c.session.subs
	wanted := map[int]bool{}
	for i := range c.args[1:] {
		name, err := c.pattern(i + 1)
		if err != nil {
			return err
		}
		for n := range Databases {
			if kind.meets(name, keyspace(n)) || kind.meets(name, keyevent(n)) {
				wanted[n] = true
			}
		}
	}
	limit, name := MaxSubscriptions, "MaxSubscriptions"
	if kind == toPattern {
		limit, name = MaxPatterns, "MaxPatterns"
	}
	if len(subs.names[kind])+len(c.args)-1 > limit {
		return replyError(fmt.Sprintf("ERR more than %d subscriptions of a client (%s)", limit, name))
	}
	if len(wanted) > 0 && subs.follows == nil {
		if c.server.subscribers.Add(1) > MaxSubscribers {
			c.server.subscribers.Add(-1)
			return replyError(fmt.Sprintf(
				"ERR more than %d clients that are told of changes of keys (MaxSubscribers)", MaxSubscribers))
		}
		subs.follows = map[int]*following{}
	}
	for n := range wanted {
		if db, err := c.server.database(n); err == nil && subs.follows[n] == nil {
			subs.follows[n] = &following{number: n, db: db}
		}
	}
	return nil
}

// begin has the client be told of what changes from now on: nothing of what was committed together
// with its subscription.
func (s *subscriptions) begin() {
	for n, f := range s.follows {
		switch {
		case f.watch != nil:
		case holds(f.db):
			f.watch = f.db.Watch("")
			f.watch.WithNotes()
			s.box.server.followers.Add(1)
		default:
			delete(s.follows, n)
		}
	}
}

// holds reports whether this host has not dropped a database. What is dropped has no changes;
// once it is taken up again it is to be subscribed to again.
func holds(db database) bool {
	err := db.View(context.Background(), func(*embedded.Tx) error { return nil }) // which waits for nobody
	return !errors.Is(err, embedded.ErrNotHeld)
}

// unsubscribing is UNSUBSCRIBE and its like: it ends the subscriptions that are named, or all of
// its kind. What was published before stands before its reply.
func unsubscribing(kind naming, reply string) func(c *call) error {
	return func(c *call) error {
		subs := &c.session.subs
		var names []string
		for i := range c.args[1:] {
			names = append(names, c.arg(i+1))
		}
		if len(names) == 0 {
			names = slices.Clone(subs.names[kind])
		}
		for _, name := range names {
			subs.remove(kind, name)
			c.out.push(3)
			c.out.text(reply)
			c.out.text(name)
			c.out.integer(subs.count(kind))
		}
		if len(names) == 0 {
			c.out.push(3)
			c.out.text(reply)
			c.out.null()
			c.out.integer(subs.count(kind))
		}
		c.insertMail()
		return nil
	}
}

// insertMail puts what waits in the mailbox before the reply to the request. If messages were
// thrown away the client is closed behind that: the box that a later subscription opens does not
// know it.
func (c *call) insertMail() {
	for more := true; more; {
		before := replies{resp3: c.session.resp3}
		var large *mail
		var err error
		if large, more, err = c.session.subs.box.take(&before); err != nil {
			c.session.quit = true
			return
		}
		if large != nil {
			before.buf = append(append(before.buf, large.Payload...), "\r\n"...)
			c.server.dropMail(large)
		}
		c.out.insert(c.began, before.buf)
		c.began += len(before.buf)
	}
}

// errSubscribed is the reply to other commands of a subscriber over RESP2, whose client could not
// tell a reply from a message.
func errSubscribed(prefix, name string) error {
	return replyError(fmt.Sprintf("%s Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "+
		"PING / QUIT / RESET are allowed in this context", prefix, name))
}

// follow starts and ends the goroutines that send messages, as the subscriptions ask for. The
// connection's goroutine calls it before it sends the replies to them; messages wait until that is
// done.
func (c *client) follow(ctx context.Context) {
	subs := &c.subs
	switch {
	case !subs.begun:
	case subs.all() == 0 && c.tracker == nil:
		subs.begun, subs.sending = false, false
		c.box.stop()
		for _, f := range subs.follows {
			f.watch.Close()
			c.server.followers.Add(-1)
		}
		if subs.follows != nil {
			subs.follows = nil
			c.server.subscribers.Add(-1)
		}
	default:
		if !subs.sending {
			subs.sending = true
			arrived, closed := c.box.arrived, c.box.closed
			subs.senders.Go(func() { c.sendMail(ctx, arrived, closed) })
		}
		for _, f := range subs.follows {
			if !f.sending {
				f.sending = true
				subs.senders.Go(func() { c.sendMessages(ctx, f) })
			}
		}
	}
}

// unfollow ends the subscriptions of a connection that is to be closed.
func (c *client) unfollow(ctx context.Context) {
	if !c.subs.begun {
		return
	}
	c.writing.Lock() // who sends a message looks at them
	c.subs.clear()
	c.writing.Unlock()
	c.box.stop()
	for _, f := range c.subs.follows {
		f.watch.Close() // a message under way ends by its deadline, or by the connection's end
	}
	c.subs.senders.Wait()
	c.follow(ctx)
}

// sendMessages sends what changes in a database to a subscriber, until its watch is closed. The
// watch holds nothing for it: one that is slow gets fewer messages, with each key once. One that
// falls behind the log of changes is closed, as Redis closes one beyond its output limit: it
// knows then that it missed some.
func (c *client) sendMessages(ctx context.Context, f *following) {
	for {
		change, err := f.watch.Next(ctx)
		switch {
		case errors.Is(err, embedded.ErrClosed):
			return
		case err != nil: // its space was dropped, or the connection ends
			c.conn.Close()
			return
		case change.Reset:
			c.server.config.Logger.Warn("closed a redis subscriber: what changed is not known, after a "+
				"repair or because it was too slow", "client", c.address.String())
			c.conn.Close()
			return
		}
		if err := c.tell(ctx, f, &change); err != nil {
			c.conn.Close()
			return
		}
	}
}

// tell sends the messages about a change.
func (c *client) tell(ctx context.Context, f *following, change *embedded.Change) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.subs.follows[f.number] != f {
		return nil // it has ended since
	}
	out := replies{resp3: c.resp3}
	send := func(e event) error {
		c.subs.message(&out, f.number, e, c.server.notify.load())
		if len(out.buf) < writeSize {
			return nil
		}
		err := c.write(out.buf, writeSize)
		out.buf = out.buf[:0]
		return err
	}
	for _, note := range change.Notes {
		for _, e := range eventsIn(note) {
			if err := send(e); err != nil {
				return err
			}
		}
	}
	if err := c.tellOfKeys(ctx, f, change.Keys, send); err != nil {
		return err
	}
	return c.write(out.buf, writeSize)
}

// tellOfKeys tells what became of keys.
func (c *client) tellOfKeys(ctx context.Context, f *following, keys []string, send func(event) error) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), maxEvents)]
		events := make([]event, 0, len(part))
		err := f.db.View(ctx, func(tx *embedded.Tx) error {
			for _, key := range part {
				events = append(events, eventOf(tx.Types(key), key))
			}
			return tx.Err()
		})
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := send(e); err != nil {
				return err
			}
		}
		keys = keys[len(part):]
	}
	return nil
}

// maxEvents is how many keys are looked at in one view, which is not held while messages are sent.
const maxEvents = 256

// message writes the messages about an event, if it is of the classes that are told.
func (s *subscriptions) message(out *replies, db int, e event, classes string) {
	if strings.IndexByte(classes, e.class) < 0 {
		return
	}
	for _, m := range [2]struct {
		class            string
		channel, payload string
	}{
		{"K", keyspace(db) + e.key, e.name}, {"E", keyevent(db) + e.name, e.key},
	} {
		if !strings.Contains(classes, m.class) {
			continue
		}
		if s.names[toChannel].has(m.channel) {
			out.push(3)
			out.text("message")
			out.text(m.channel)
			out.text(m.payload)
		}
		for _, pattern := range s.names[toPattern] {
			if matchGlob(pattern, m.channel) {
				out.push(4)
				out.text("pmessage")
				out.text(pattern)
				out.text(m.channel)
				out.text(m.payload)
			}
		}
	}
}
