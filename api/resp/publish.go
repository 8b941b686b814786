package resp

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	embedded "github.com/peerd/peerd/peer"
)

// naming is what a name means that is subscribed to.
type naming int

const (
	toChannel naming = iota
	toPattern        // of channels
	toShard          // a sharded channel
	namings
)

// audience is who has subscribed to what, of a server's clients. Other goroutines than the clients'
// own read it.
type audience struct {
	mu       sync.RWMutex
	boxes    [namings]map[string]map[*mailbox]struct{} // by name
	patterns nameSet                                   // that somebody has subscribed to
}

// join has a client be sent what is meant by a name.
func (a *audience) join(kind naming, name string, box *mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.boxes[kind] == nil {
		a.boxes[kind] = map[string]map[*mailbox]struct{}{}
	}
	all := a.boxes[kind][name]
	if all == nil {
		all = map[*mailbox]struct{}{}
		a.boxes[kind][name] = all
		if kind == toPattern {
			a.patterns.add(name)
		}
	}
	all[box] = struct{}{}
}

func (a *audience) leave(kind naming, name string, box *mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.boxes[kind][name]
	delete(all, box)
	if len(all) == 0 {
		delete(a.boxes[kind], name)
		if kind == toPattern {
			a.patterns.remove(name)
		}
	}
}

// tell puts a message into the mailboxes of those who have subscribed to it.
func (a *audience) tell(m embedded.Message) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	kind, shared := toChannel, new(atomic.Int64)
	if m.Sharded {
		kind = toShard
	}
	for box := range a.boxes[kind][m.Channel] {
		box.put(mail{Message: m, shared: shared})
	}
	if m.Sharded {
		return
	}
	for _, pattern := range a.patterns {
		if matchGlob(pattern, m.Channel) {
			for box := range a.boxes[toPattern][pattern] {
				box.put(mail{pattern: pattern, Message: m, shared: shared})
			}
		}
	}
}

// receivers returns how many mailboxes tell puts a message into, one that is named twice counted
// so.
func (a *audience) receivers(channel string, sharded bool) int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if sharded {
		return len(a.boxes[toShard][channel])
	}
	n := len(a.boxes[toChannel][channel])
	for _, pattern := range a.patterns {
		if matchGlob(pattern, channel) {
			n += len(a.boxes[toPattern][pattern])
		}
	}
	return n
}

// names returns what is subscribed to, in order.
func (a *audience) names(kind naming) []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.boxes[kind]))
}

func (a *audience) subscribers(kind naming, name string) int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.boxes[kind][name])
}

// post is a message that a request publishes, once what it wrote is committed.
type post struct {
	request int // in batch.requests
	embedded.Message
}

// publishing is PUBLISH and SPUBLISH. The reply counts this peer's clients.
func publishing(sharded bool) func(c *call) error {
	return func(c *call) error {
		m := embedded.Message{Channel: c.arg(1), Payload: bytes.Clone(c.args[2]), Sharded: sharded}
		if n := len(m.Channel) + len(m.Payload); n > embedded.MaxMessage {
			return replyError(fmt.Sprintf("ERR a message of %d bytes exceeds the limit of %d bytes, its channel included "+
				"(MaxMessage)", n, embedded.MaxMessage))
		}
		c.posts = append(c.posts, post{c.request, m})
		c.out.integer(int64(c.server.audience.receivers(m.Channel, sharded)))
		return nil
	}
}

// publish publishes what requests have that were executed, but for those of which the database
// refused what they wrote.
func (b *batch) publish(errs []error) {
	for _, p := range b.call.posts {
		if p.request < b.next && (errs == nil || errs[p.request-b.from] == nil) {
			b.client.server.publish(p.Message)
		}
	}
	clear(b.call.posts)
	b.call.posts = b.call.posts[:0]
}

func (s *Server) publish(m embedded.Message) {
	if s.config.Peer == nil {
		s.audience.tell(m)
		return
	}
	_ = s.config.Peer.Publish(m) // which fails if the peer is closed: then nobody hears any more
}

// pubSubChannels is PUBSUB CHANNELS and SHARDCHANNELS.
func pubSubChannels(kind naming) func(c *call) error {
	return func(c *call) error {
		pattern := "*"
		switch {
		case len(c.args) > 3:
			return wrongUse(c)
		case len(c.args) == 3:
			var err error
			if pattern, err = c.pattern(2); err != nil {
				return err
			}
		}
		at, n := len(c.out.buf), 0
		for _, name := range c.server.audience.names(kind) {
			if matchGlob(pattern, name) {
				c.out.text(name)
				n++
			}
			if len(c.out.buf)-at > MaxReply {
				return errReplyTooLarge
			}
		}
		c.out.arrayAt(at, n)
		return nil
	}
}

// pubSubNumSub is PUBSUB NUMSUB and SHARDNUMSUB.
func pubSubNumSub(kind naming) func(c *call) error {
	return func(c *call) error {
		c.out.array(2 * (len(c.args) - 2))
		for i := 2; i < len(c.args); i++ {
			c.out.bulk(c.args[i])
			c.out.integer(int64(c.server.audience.subscribers(kind, c.arg(i))))
		}
		return nil
	}
}

func runPubSubNumPat(c *call) error {
	c.out.integer(int64(len(c.server.audience.names(toPattern))))
	return nil
}
