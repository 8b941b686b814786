package resp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/peerd/peerd/crdt"
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
	channels nameSet
	patterns nameSet
	bytes    int                // of their names, each charged ArgumentCost besides
	follows  map[int]*following // by database
	senders  sync.WaitGroup     // their goroutines
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

func (s *subscriptions) count() int { return len(s.channels) + len(s.patterns) }

// add subscribes, to a channel or pattern.
func (s *subscriptions) add(set *nameSet, name string) {
	if i, ok := slices.BinarySearch(*set, name); !ok {
		*set = slices.Insert(*set, i, name)
		s.bytes += len(name) + ArgumentCost
	}
}

func (s *subscriptions) remove(set *nameSet, name string) {
	if i, ok := slices.BinarySearch(*set, name); ok {
		*set = slices.Delete(*set, i, i+1)
		s.bytes -= len(name) + ArgumentCost
	}
}

func runSubscribe(c *call) error {
	return c.subscribe("subscribe", &c.session.subs.channels, strings.HasPrefix)
}

func runPSubscribe(c *call) error {
	return c.subscribe("psubscribe", &c.session.subs.patterns, func(pattern, channel string) bool {
		plain := globPrefix(pattern)
		n := min(len(plain), len(channel))
		return plain[:n] == channel[:n]
	})
}

// subscribe subscribes to what is named. meets reports whether a name may mean channels that
// begin with a prefix.
func (c *call) subscribe(reply string, set *nameSet, meets func(name, prefix string) bool) error {
	subs := &c.session.subs
	wanted := map[int]bool{}
	for i := range c.args[1:] {
		name, err := c.pattern(i + 1)
		if err != nil {
			return err
		}
		some := false
		for n := range Databases {
			if meets(name, keyspace(n)) || meets(name, keyevent(n)) {
				wanted[n], some = true, true
			}
		}
		if !some {
			return replyError(fmt.Sprintf("ERR '%s' will never have a message, as there is no PUBLISH: subscribe to "+
				"%sKEY or %sEVENT, with the number of another database in place of 0", clip(c.args[i+1], 128),
				keyspace(0), keyevent(0)))
		}
	}
	if subs.count()+len(c.args)-1 > MaxSubscriptions {
		return replyError(fmt.Sprintf(
			"ERR more than %d subscriptions of a client (MaxSubscriptions)", MaxSubscriptions))
	}
	if subs.follows == nil {
		if c.server.subscribers.Add(1) > MaxSubscribers {
			c.server.subscribers.Add(-1)
			return replyError(fmt.Sprintf(
				"ERR more than %d clients with subscriptions (MaxSubscribers)", MaxSubscribers))
		}
		subs.follows = map[int]*following{}
	}
	for n := range wanted {
		if db, err := c.server.database(n); err == nil && subs.follows[n] == nil {
			subs.follows[n] = &following{number: n, db: db}
		}
	}
	for i := range c.args[1:] {
		subs.add(set, c.arg(i+1))
		c.out.push(3)
		c.out.text(reply)
		c.out.text(c.arg(i + 1))
		c.out.integer(int64(subs.count()))
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

func runUnsubscribe(c *call) error {
	return c.unsubscribe("unsubscribe", &c.session.subs.channels)
}

func runPUnsubscribe(c *call) error {
	return c.unsubscribe("punsubscribe", &c.session.subs.patterns)
}

// unsubscribe ends the subscriptions that are named, or all in the set.
func (c *call) unsubscribe(reply string, set *nameSet) error {
	names := make([]string, 0, len(c.args))
	for i := range c.args[1:] {
		names = append(names, c.arg(i+1))
	}
	if len(names) == 0 {
		names = slices.Clone(*set)
	}
	subs := &c.session.subs
	for _, name := range names {
		subs.remove(set, name)
		c.out.push(3)
		c.out.text(reply)
		c.out.text(name)
		c.out.integer(int64(subs.count()))
	}
	if len(names) == 0 {
		c.out.push(3)
		c.out.text(reply)
		c.out.null()
		c.out.integer(int64(subs.count()))
	}
	return nil
}

// errSubscribed is the reply to other commands of a subscriber over RESP2, whose client could not
// tell a reply from a message.
func errSubscribed(name string) error {
	return replyError(fmt.Sprintf("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "+
		"PING / QUIT / RESET are allowed in this context", name))
}

// follow starts and ends the goroutines that send messages, as the subscriptions ask for. The
// connection's goroutine calls it before it sends the replies to them; messages wait until that is
// done.
func (c *client) follow(ctx context.Context) {
	subs := &c.subs
	switch {
	case subs.follows == nil:
	case subs.count() == 0:
		for _, f := range subs.follows {
			f.watch.Close()
		}
		subs.follows = nil
		c.server.subscribers.Add(-1)
	default:
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
	if c.subs.follows == nil {
		return
	}
	for _, f := range c.subs.follows {
		f.watch.Close() // a message under way ends by its deadline, or by the connection's end
	}
	c.subs.senders.Wait()
	c.subs.channels, c.subs.patterns, c.subs.bytes = nil, nil, 0
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
		if err := c.tell(ctx, f, change.Keys); err != nil {
			c.conn.Close()
			return
		}
	}
}

// tell sends the messages about some keys.
func (c *client) tell(ctx context.Context, f *following, keys []string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.subs.follows[f.number] != f {
		return nil // it has ended since
	}
	out := replies{resp3: c.resp3}
	for len(keys) > 0 {
		err := f.db.View(ctx, func(tx *embedded.Tx) error {
			for len(keys) > 0 && len(out.buf) < writeSize {
				event := eventOf(tx.Types(keys[0]))
				if tx.Err() != nil {
					return tx.Err()
				}
				c.subs.message(&out, f.number, keys[0], event)
				keys = keys[1:]
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := c.write(out.buf); err != nil {
			return err
		}
		out.buf = out.buf[:0]
	}
	return nil
}

// eventOf names what happened to a key, in Redis's words. Changes that came together, or from other
// peers, are told as one, so it is not the command that made it.
func eventOf(types crdt.Types) string {
	if t := types.First(); t != 0 {
		return t.Redis().Event
	}
	return "del"
}

// message writes the messages about one key.
func (s *subscriptions) message(out *replies, db int, key, event string) {
	for _, m := range [2]struct{ channel, payload string }{
		{keyspace(db) + key, event}, {keyevent(db) + event, key},
	} {
		if s.channels.has(m.channel) {
			out.push(3)
			out.text("message")
			out.text(m.channel)
			out.text(m.payload)
		}
		for _, pattern := range s.patterns {
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
