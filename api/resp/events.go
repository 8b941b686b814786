package resp

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// event is what happened to a key, in Redis's words.
type event struct {
	name, key string
	class     byte   // of notify-keyspace-events
	by        author // who did it
}

// author is the client that did something, by its number, and which of its commands; zero if that
// is not known.
type author struct{ client, turn int64 }

// noted is what a transaction of clients did: its note, by which those who follow a database are
// told of it. Of what others did, and of what they could not be told at once, they are told what
// became of the keys.
type noted struct{ events []event }

// eventNames are the events of commands that are not named for them. Where there are two, the
// second is that of the second key.
var eventNames = map[string][2]string{
	"incr": {"incrby"}, "decr": {"incrby"}, "decrby": {"incrby"},
	"mset": {"set"}, "msetnx": {"set"}, "setnx": {"set"}, "getset": {"set"}, "setex": {"set"}, "psetex": {"set"},
	"getdel": {"del"}, "unlink": {"del"},
	"pexpire": {"expire"}, "expireat": {"expire"}, "pexpireat": {"expire"}, "getex": {"expire"},
	"hmset": {"hset"}, "hsetnx": {"hset"}, "hpexpire": {"hexpire"}, "hexpireat": {"hexpire"}, "hpexpireat": {"hexpire"},
	"smove": {"srem", "sadd"}, "rename": {"rename_from", "rename_to"}, "renamenx": {"rename_from", "rename_to"},
	"copy": {"", "copy_to"}, "sort": {"sortstore", "sortstore"},
	"lpushx": {"lpush"}, "rpushx": {"rpush"}, "blpop": {"lpop"}, "brpop": {"rpop"},
	"rpoplpush": {"rpop", "lpush"}, "brpoplpush": {"rpop", "lpush"},
	"zincrby": {"zincr"}, "bzpopmin": {"zpopmin"}, "bzpopmax": {"zpopmax"}, "geoadd": {"zadd"},
	"georadius": {"georadiusstore"}, "georadiusbymember": {"georadiusstore"},
	"pfmerge": {"pfadd"}, "bitop": {"set"}, "bitfield": {"setbit"},
	"xgroup|create": {"xgroup-create"}, "xgroup|destroy": {"xgroup-destroy"}, "xgroup|setid": {"xgroup-setid"},
	"crdt.resolve": {"set"}, "crdt.hresolve": {"hset"},
	"crdt.zresolve": {"zadd"}, "crdt.lresolve": {"lset"},
	"xgroup|createconsumer": {"xgroup-createconsumer"}, "xgroup|delconsumer": {"xgroup-delconsumer"},
}

// generic are the events of keys of any type, of class g.
var generic = []string{"del", "expire", "persist", "rename_from", "rename_to", "copy_to", "restore"}

// classes are those of events by the group of the command, or the name of the type, that they are
// of.
var classes = map[string]byte{
	"string": '$', "bitmap": '$', "hyperloglog": '$', "list": 'l', "set": 's', "hash": 'h', "sorted-set": 'z', "zset": 'z',
	"geo": 'z', "stream": 't', "generic": 'l', // SORT's
	"flag": '$', // which Redis has not
}

// resolved are what Redis calls the types of what CRDT.RESOLVE and its forms set, by the event.
var resolved = map[string]string{"set": "string", "hset": "hash", "zadd": "zset", "lset": "list"}

// classOf returns the class of an event of a group of commands, or of a type.
func classOf(name, group string) byte {
	switch {
	case name == "expired":
		return 'x'
	case slices.Contains(generic, name):
		return 'g'
	case group == "crdt":
		return classes[resolved[name]]
	}
	return classes[group]
}

// note notes what a command has done in its transaction, if anybody may want to know.
func (c *call) note(cmd *command) {
	if c.tx == nil || c.server.followers.Load() == 0 {
		return
	}
	var keys []string
	seen := map[string]struct{}{}
	c.touched = c.tx.Touched(c.touched, func(key string) {
		if _, twice := seen[key]; !twice {
			seen[key] = struct{}{}
			keys = append(keys, key)
		}
	})
	if len(keys) == 0 {
		return
	}
	if c.noted == nil {
		c.noted = &noted{}
		c.tx.Note(c.noted)
	}
	if slices.Contains(untold, cmd.name) {
		for _, key := range c.joined {
			c.noted.events = append(c.noted.events, event{"xgroup-createconsumer", key, classes["stream"], c.session.author()})
		}
		c.joined = nil
		for _, key := range keys { // of no class: only who keeps a copy is told
			c.noted.events = append(c.noted.events, event{key: key, by: c.session.author()})
		}
		return
	}
	names, named := eventNames[cmd.name]
	if !named {
		names = c.variantOf(cmd)
	}
	// Redis tells first of the key that something is taken from, but where it goes to the end of a
	// list.
	if len(keys) == 2 && names[1] != "" && (keys[0] == c.arg(1)) == strings.HasSuffix(names[1], "push") {
		slices.Reverse(keys)
	}
	for _, key := range keys {
		for _, name := range c.eventsOf(cmd, names, key) {
			c.noted.events = append(c.noted.events, event{name, key, classOf(name, cmd.group), c.session.author()})
		}
	}
}

// eventsOf returns what a command that has written to a key did to it.
func (c *call) eventsOf(cmd *command, names [2]string, key string) []string {
	name := names[0]
	if names[1] != "" && (name == "" || len(c.args) > 2 && key == c.arg(2) && key != c.arg(1)) {
		name = names[1]
	}
	switch exists := c.tx.Has(key); {
	case strings.HasSuffix(names[1], "push") && c.arg(1) == c.arg(2):
		return []string{names[1], names[0]}
	case name == "rename_from" || name == "del":
		return []string{name}
	case cmd.name == "setex" || cmd.name == "psetex" || cmd.name == "set" && slices.ContainsFunc(c.args[3:], isLifetime):
		return []string{name, "expire"}
	case !exists && (name == "expire" || cmd.name == "bitop" || strings.HasSuffix(name, "store")):
		return []string{"del"}
	case !exists:
		return []string{name, "del"}
	case cmd.name == "getex" && c.is(2, "persist"):
		return []string{"persist"}
	case cmd.name == "xadd" && c.trimmed:
		return []string{name, "xtrim"}
	}
	return []string{name}
}

// joins notes that a command is about to make a consumer, which is all that is told of those that
// are untold.
func (c *call) joins(key string, g crdt.Group, consumer string) {
	if c.server.followers.Load() > 0 && !g.HasConsumer(consumer) {
		c.joined = append(c.joined, key)
	}
}

// untold are commands of which subscribers are told nothing otherwise, as by Redis: they change what a
// reader has and not what is read.
var untold = []string{"xreadgroup", "xack", "xclaim", "xautoclaim"}

// variantOf returns the events of a command that are named for what it is told to do: at which end
// of a list, say.
func (c *call) variantOf(cmd *command) [2]string {
	end := func(i int) string { return strings.ToLower(c.arg(i))[:1] }
	switch name := strings.TrimPrefix(cmd.name, "b"); name {
	case "zadd":
		if o, _ := c.zaddOptions(); o.incr {
			return [2]string{"zincr"}
		}
	case "lmove":
		return [2]string{end(3) + "pop", end(4) + "push"}
	case "lmpop", "zmpop":
		at := 1 + len(cmd.name) - len(name) // the timeout stands in front
		n, _ := c.integer(at)
		if name == "lmpop" {
			return [2]string{end(at+1+int(n)) + "pop"}
		}
		return [2]string{"zpop" + strings.ToLower(c.arg(at+1+int(n)))}
	}
	return [2]string{cmd.name}
}

// isLifetime reports whether an argument of SET says that it has an expiry.
func isLifetime(arg []byte) bool { _, is := expiryUnits[strings.ToLower(string(arg))]; return is }

// eventsIn returns what a note tells.
func eventsIn(note any) []event {
	switch n := note.(type) {
	case *noted:
		return n.events
	case embedded.Expired:
		events := make([]event, len(n))
		for i, key := range n {
			events[i] = event{"expired", key, 'x', author{}}
		}
		return events
	}
	return nil
}

// eventOf returns what became of a key, where it is not known how.
func eventOf(types crdt.Types, key string) event {
	if t := types.First(); t != 0 {
		return event{t.Redis().Event, key, classes[t.Redis().Name], author{}}
	}
	return event{"del", key, 'g', author{}}
}

// eventClasses is the value of notify-keyspace-events: of which events clients are told, and on
// which channels.
type eventClasses struct{ flags atomic.Pointer[string] }

// allClasses is what A stands for.
const allClasses = "g$lshzxetd"

// allEvents is what is told unless a client sets something else.
const allEvents = allClasses + "KE"

func (e *eventClasses) load() string {
	if flags := e.flags.Load(); flags != nil {
		return *flags
	}
	return allEvents
}

// text returns it as Redis shows it.
func (e *eventClasses) text() (out string) {
	flags := e.load()
	has := func(class rune) bool { return strings.ContainsRune(flags, class) }
	for _, class := range allClasses + "n" {
		if has(class) {
			out += string(class)
		}
	}
	if strings.HasPrefix(out, allClasses) {
		out = "A"
	}
	for _, class := range "KEm" {
		if has(class) {
			out += string(class)
		}
	}
	return out
}

// set takes a value that a client sets, if it is one.
func (e *eventClasses) set(value string) {
	flags := strings.ReplaceAll(value, "A", allClasses)
	e.flags.Store(&flags)
}

// checkEvents returns why a value of notify-keyspace-events is none.
func checkEvents(value string) error {
	if strings.Trim(value, "Amn"+allEvents) != "" {
		return cannotSet(settingEvents, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
	}
	return nil
}
