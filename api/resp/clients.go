package resp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// view is what a session shows to other connections, which read it while its owner goes on: it is
// that of the end of the last batch.
type view struct {
	index                      int // of the database
	channels, patterns, shards int // subscriptions
	queued                     int // commands, -1 without MULTI
	queuedSize                 int // bytes of them
	resp3                      bool
	tracker                    *tracker
	bcast                      bool
	redirects                  int64
	guards                     *guardList // of what WATCH watches
	noEvict                    bool
}

func (s *session) view() view {
	names := &s.subs.names
	v := view{s.index, len(names[toChannel]), len(names[toPattern]), len(names[toShard]), -1, 0, s.resp3, s.tracker, false,
		s.tracker.redirects(), s.watched.guards, s.noEvict.Load()}
	v.bcast = s.tracker != nil && s.tracker.bcast
	if s.pending.open {
		v.queued, v.queuedSize = len(s.pending.queue), s.pending.size
	}
	return v
}

// show shows others what the client is, after a command. It costs an allocation if the view has
// changed.
func (c *client) show(last *command) {
	c.used.Store(c.server.config.clock().UnixNano())
	c.last.Store(last)
	v := c.session.view()
	if old := c.shown.Load(); old == nil || *old != v {
		changed := v
		c.shown.Store(&changed)
	}
}

// kind is what CLIENT LIST and KILL know as TYPE. No client is a master or replica.
func (v view) kind() string {
	if v.channels+v.patterns+v.shards > 0 {
		return "pubsub"
	}
	return "normal"
}

// flags returns those of CLIENT LIST, in Redis' order.
func (v view) flags(waits bool) (flags string) {
	for _, f := range []struct {
		is   bool
		flag string
	}{
		{v.kind() == "pubsub", "P"}, {v.queued >= 0, "x"}, {waits, "b"}, {v.tracker != nil, "t"},
		{v.tracker != nil && v.tracker.broken.Load(), "R"}, {v.bcast, "B"}, {v.guards.touched(), "d"}, {v.noEvict, "e"},
	} {
		if f.is {
			flags += f.flag
		}
	}
	return cmp.Or(flags, "N")
}

// line returns what CLIENT LIST and CLIENT INFO show of a client, whose request of so many bytes is
// being executed, if it is the one that asks. Others hold no buffers but for what they have sent a
// part of; tot-mem has that.
func (c *client) line(v view, now time.Time, asks int) string {
	name, version := "NULL", 2
	if last := c.last.Load(); last != nil {
		name = last.name
	}
	if v.resp3 {
		version = 3
	}
	messages, bytes := c.box.waiting()
	used := c.came
	if at := c.used.Load(); at != 0 {
		used = time.Unix(0, at)
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d "+
		"qbuf=%d qbuf-free=0 argv-mem=%d multi-mem=%d rbs=0 rbp=0 obl=0 oll=%d omem=%d tot-mem=%d events=r cmd=%s user=%s "+
		"redir=%d resp=%d\n", c.id, c.address, c.local, c.name.get(),
		int(now.Sub(c.came).Seconds()), int(now.Sub(used).Seconds()), v.flags(c.waits.Load() != nil), v.index, v.channels, v.patterns,
		v.shards, v.queued, asks, asks, v.queuedSize, messages, bytes, max(c.held.Load(), 0), name, onlyUser, v.redirects, version)
}

// viewOf returns what a client shows; the one that asks is shown as it is now.
func (c *call) viewOf(other *client) view {
	if &other.session == c.session {
		other.last.Store(c.command)
		return c.session.view()
	}
	if v := other.shown.Load(); v != nil {
		return *v
	}
	return view{queued: -1, redirects: -1}
}

// clients returns those that a condition holds for, in the order in which they came. One that is to
// be closed is gone, whatever it still does.
func (c *call) clients(wanted func(*client, view) bool) []*client {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*client
	for other := range s.clients {
		if !other.evicted() && wanted(other, c.viewOf(other)) {
			found = append(found, other)
		}
	}
	slices.SortFunc(found, func(a, b *client) int { return cmp.Compare(a.id, b.id) })
	return found
}

func runClientList(c *call) error {
	wanted := func(*client, view) bool { return true }
	switch {
	case len(c.args) == 2:
	case len(c.args) == 4 && c.is(2, "type"):
		kind, err := c.clientType(3)
		if err != nil {
			return err
		}
		wanted = func(_ *client, v view) bool { return v.kind() == kind }
	case len(c.args) > 3 && c.is(2, "id"):
		ids := map[int64]bool{}
		for i := 3; i < len(c.args); i++ {
			id, err := c.integer(i)
			if err != nil {
				return replyError("ERR Invalid client ID")
			}
			ids[id] = true
		}
		wanted = func(other *client, _ view) bool { return ids[other.id] }
	default:
		return errSyntax
	}
	return c.listClients(wanted)
}

func runClientInfo(c *call) error {
	return c.listClients(func(other *client, _ view) bool { return other.id == c.session.id })
}

func (c *call) listClients(wanted func(*client, view) bool) error {
	now := c.server.config.clock()
	var text strings.Builder
	for _, other := range c.clients(wanted) {
		asks := 0
		if other.id == c.session.id {
			asks = lengthOf(c.args)
		}
		text.WriteString(other.line(c.viewOf(other), now, asks))
	}
	c.out.verbatim(text.String())
	return nil
}

// lengthOf returns how many bytes a client sends for some arguments.
func lengthOf(args [][]byte) int {
	var digits [20]byte
	header := func(n int) int { return len(strconv.AppendInt(digits[:0], int64(n), 10)) + len("$\r\n") }
	size := header(len(args))
	for _, arg := range args {
		size += header(len(arg)) + len(arg) + len("\r\n")
	}
	return size
}

func (c *call) clientType(i int) (string, error) {
	switch kind := strings.ToLower(c.arg(i)); kind {
	case "normal", "pubsub", "master", "replica":
		return kind, nil
	case "slave":
		return "replica", nil
	}
	return "", replyError(fmt.Sprintf("ERR Unknown client type '%s'", clip(c.args[i], 128)))
}

// runClientKill closes clients: the one with an address, or those for which all that is named
// holds.
func runClientKill(c *call) error {
	if len(c.args) == 3 {
		if c.kill(func(other *client, _ view) bool { return other.address.String() == c.arg(2) }) == 0 {
			return replyError("ERR No such client")
		}
		c.out.status("OK")
		return nil
	}
	skipMe, conditions := true, []func(*client, view) bool{}
	for i := 2; i < len(c.args); i += 2 {
		if i+1 == len(c.args) {
			return errSyntax
		}
		condition, err := c.killOption(i, &skipMe)
		if err != nil {
			return err
		}
		if condition != nil {
			conditions = append(conditions, condition)
		}
	}
	c.out.integer(int64(c.kill(func(other *client, v view) bool {
		for _, holds := range conditions {
			if !holds(other, v) {
				return false
			}
		}
		return !skipMe || other.id != c.session.id
	})))
	return nil
}

// killOption returns which clients an option of CLIENT KILL means; nil if it is about the one that
// asks.
func (c *call) killOption(i int, skipMe *bool) (func(*client, view) bool, error) {
	value := c.arg(i + 1)
	switch {
	case c.is(i, "id"):
		id, err := c.integer(i + 1)
		if err != nil || id < 1 {
			return nil, replyError("ERR client-id should be greater than 0")
		}
		return func(other *client, _ view) bool { return other.id == id }, nil
	case c.is(i, "type"):
		kind, err := c.clientType(i + 1)
		return func(_ *client, v view) bool { return v.kind() == kind }, err
	case c.is(i, "addr"):
		return func(other *client, _ view) bool { return other.address.String() == value }, nil
	case c.is(i, "laddr"):
		return func(other *client, _ view) bool { return other.local.String() == value }, nil
	case c.is(i, "user"):
		if value != onlyUser {
			return nil, replyError(fmt.Sprintf("ERR No such user '%s'", clip(c.args[i+1], 128)))
		}
		return nil, nil
	case c.is(i, "skipme") && (c.is(i+1, "yes") || c.is(i+1, "no")):
		*skipMe = c.is(i+1, "yes")
		return nil, nil
	}
	return nil, errSyntax
}

// kill has clients closed, the one that asks after its reply, and returns how many.
func (c *call) kill(wanted func(*client, view) bool) int {
	found := c.clients(wanted)
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for _, other := range found {
		if other.id == c.session.id {
			c.session.quit = true
		} else if _, there := c.server.clients[other]; there {
			c.server.expel(other)
		}
	}
	return len(found)
}

// runClientReply turns replies off and on, or off for the next command.
func runClientReply(c *call) error {
	switch {
	case c.session.pending.open:
		return replyError("ERR CLIENT REPLY is not allowed in transactions: EXEC tells how many replies it has")
	case c.is(2, "on"):
		c.session.mute = replying
	case c.is(2, "off"):
		c.session.mute = silent
		return nil
	case c.is(2, "skip"):
		if c.session.mute != silent {
			c.session.mute = skipNext
		}
		return nil
	default:
		return errSyntax
	}
	c.out.status("OK")
	return nil
}

// mute tells which replies a client is not sent.
type mute int

const (
	replying mute = iota
	silent        // none is sent, until CLIENT REPLY ON
	skipNext      // the next is not
	skipping      // this is not
)

// begin notes that a command is executed next.
func (m *mute) begin() {
	if *m == skipNext {
		*m = skipping
	}
}

// mutes reports whether what is executed has no reply.
func (m mute) mutes() bool { return m == silent || m == skipping }

// end notes that it was executed, and reports whether it has no reply.
func (m *mute) end() bool {
	muted := m.mutes()
	if *m == skipping {
		*m = replying
	}
	return muted
}

// onOff answers a command that takes ON or OFF.
func (c *call) onOff() error {
	if !c.is(2, "on") && !c.is(2, "off") {
		return errSyntax
	}
	c.out.status("OK")
	return nil
}

// runClientNoEvict has the client be closed for what it holds after all others: see largest.
func runClientNoEvict(c *call) error {
	if err := c.onOff(); err != nil {
		return err
	}
	c.session.noEvict.Store(c.is(2, "on"))
	return nil
}

// runClientNoTouch: nothing keeps when a key was used.
func runClientNoTouch(c *call) error { return c.onOff() }

func runClientPause(*call) error {
	return replyError("ERR CLIENT PAUSE is not possible: other peers' writes come in all the same")
}

// runClientUnpause: nobody is ever paused.
func runClientUnpause(c *call) error {
	c.out.status("OK")
	return nil
}

// verbatim writes a text for a person.
func (w *replies) verbatim(text string) {
	if !w.resp3 {
		w.text(text)
		return
	}
	w.buf = append(w.buf, '=')
	w.buf = append(strconv.AppendInt(w.buf, int64(len(text)+4), 10), "\r\ntxt:"...)
	w.buf = append(append(w.buf, text...), "\r\n"...)
}
