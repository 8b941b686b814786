package resp

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tolerated are differences: what we say, and the reason.
var tolerated = []struct{ ours, why string }{
	{`(?m)^ *-ERR COPY to another database`, "a transaction is of one database"},
	{`(?m)^ *-ERR .* (exceeds? the limit|exceeds maximum allowed size)`, "limits are ours"},
	{`(?m)^ *-ERR bit offset is not an integer or out of range: here below`, "limits are ours"},
	{`(?m)^ *-ERR invalid cursor: it was not given out`, "a cursor that is not known is an error"},
}

// writtenAnew are commands that write what is there already, so that it lasts whatever another peer
// does, as an increment that is lost in a large score, or to groups of a stream: a change for WATCH, and none for Redis.
var writtenAnew = []string{
	"sadd", "smove", "setbit", "bitfield", "zincrby", "zadd", "xgroup", "xack", "xclaim", "xautoclaim", "xreadgroup", "xsetid",
}

// signalled are commands that change nothing, and are a change for WATCH at Redis: an LTRIM that trims nothing,
// a PFCOUNT that notes what it has counted, and a PFMERGE of what is there.
var signalled = []string{"ltrim", "pfcount", "pfmerge"}

func (v value) isNull() bool { return v.head == "_" || v.head == "*-1" }

// isNullAsMayBe reports whether one EXEC is null, and the other not, as it may be after what came between WATCH and
// MULTI: at Redis, at ours, or at either if it is not known what was done since.
func (d *differing) isNullAsMayBe(got [2]value, watched string) bool {
	return got[0].isNull() && !got[1].isNull() && (d.watches || slices.Contains(signalled, watched)) ||
		got[1].isNull() && !got[0].isNull() && (d.watches || slices.Contains(writtenAnew, watched))
}

// ordersItself finds names of lists and of sorted sets.
var ordersItself = regexp.MustCompile("^[lz]")

// isTolerated reports whether the two replies to a command may differ.
func (d *differing) isTolerated(command []string, got [2]string) bool {
	for _, difference := range tolerated {
		if regexp.MustCompile(difference.ours).MatchString(got[1]) {
			return true
		}
	}
	name := strings.ToLower(called(command)[0])
	switch {
	case strings.HasPrefix(name, "sort") && strings.Contains(got[0], `\x00`): // texts that are equal up to their first zero
		return true
	case strings.HasPrefix(name, "geo") && strings.Contains(got[0], "85.05112"): // a score that is no place's: the end of the map
		return true
	}
	return d.mayDiffer(command)
}

// mayDiffer reports whether the replies to a command may differ after what was sent since both had no keys.
func (d *differing) mayDiffer(command []string) bool {
	command = called(command)
	switch strings.ToLower(command[0]) {
	case "sort", "sort_ro": // in the order of Redis' own table, as a set has that is under the name of a list
		return ordersItself.MatchString(keyOf(command)) && d.did(keyOf(command),
			"sadd", "smove", "sinterstore", "sunionstore", "sdiffstore", "copy", "rename", "renamenx", "restore")
	case "xreadgroup": // an id may be less now than what a group has passed
		return slices.ContainsFunc(command, func(key string) bool { return d.did(key, "xsetid", "restore") })
	case "xtrim":
		return d.trimsAbout(command)
	case "object": // what MULTI has queued refers to it as well
		return len(command) > 1 && strings.EqualFold(command[1], "refcount")
	}
	return false
}

// trimsAbout reports whether a command trims a stream about where Redis' nodes end: they hold what XDEL removed from them,
// and do not follow from how many entries were added, as XSETID says it.
func (d *differing) trimsAbout(command []string) bool {
	key := keyOf(command)
	return slices.Contains(command, "~") && (d.did(key, "xdel", "restore") || d.did(key, "xsetid") && d.did("ENTRIESADDED", "xsetid"))
}

// hides reports whether a command may leave what is not the same in the two, though its replies are.
func (d *differing) hides(command []string) bool {
	command = called(command)
	text := strings.ToLower(strings.Join(command, " "))
	switch name, _, _ := strings.Cut(text, " "); {
	case name == "xadd":
		return d.trimsAbout(command)
	case name == "pfcount": // Redis notes in the string what it has counted, and no command for strings is sent to a p0
		return !strings.HasPrefix(keyOf(command), "p")
	default: // of places at one distance, some
		return strings.HasPrefix(name, "geo") && strings.Contains(text, "store") && strings.Contains(text, "count")
	}
}

// keyOf returns the first argument, where most commands have a key.
func keyOf(command []string) string {
	if len(command) < 2 {
		return ""
	}
	return command[1]
}

// did reports whether one of some commands was sent with a key since both had no keys.
func (d *differing) did(key string, names ...string) bool {
	return slices.ContainsFunc(d.past[d.flushed:], func(c []string) bool {
		c = called(c)
		return slices.Contains(names, strings.ToLower(c[0])) && slices.Contains(c[1:], key)
	})
}

// called returns the command that a script around it executes, or a command that is without one.
func called(command []string) []string {
	if strings.HasPrefix(strings.ToLower(command[0]), "eval") && len(command) > 3 {
		return command[3:]
	}
	return command
}

func TestADifferenceIsJudgedByTheCommandThatDiffers(t *testing.T) {
	fields := func(lines ...string) (commands [][]string) {
		for _, line := range lines {
			commands = append(commands, strings.Fields(line))
		}
		return commands
	}
	d := &differing{past: fields("pfcount s1", "bitcount s1", "xsetid x0 9-1", "xdel x0 1-1", "xtrim x0 MAXLEN ~ 1",
		"xreadgroup GROUP g alice STREAMS x0 >", "sadd l1 a", "sort l1", "geopos g1 a")}
	got := [2]string{":1\n", ":2\n"}
	for _, c := range fields("zcard z1", "get s1", "bitcount s1", "pfcount s1", "xlen x0", "xtrim x0 MAXLEN 1",
		"xtrim x1 MAXLEN ~ 1", "xreadgroup GROUP g alice STREAMS x1 >", "sort l2", "sort s1", "lrange l1 0 -1", "geopos g1 a",
		"EXEC", "EVAL script 0 zcard z1") {
		if d.isTolerated(c, got) {
			t.Errorf("another answer to %q is tolerated", c)
		}
	}
	known := fields("xtrim x0 MAXLEN ~ 1", "xreadgroup GROUP g alice STREAMS x0 >", "sort l1", "EVAL script 0 sort l1")
	for _, c := range known {
		if !d.isTolerated(c, got) {
			t.Errorf("another answer to %q is not tolerated", c)
		}
	}
	d.flushed = len(d.past)
	for _, c := range known {
		if d.isTolerated(c, got) {
			t.Errorf("another answer to %q is tolerated after both were flushed", c)
		}
	}
	null, full := value{head: "_"}, value{head: "*1"}
	if d.isNullAsMayBe([2]value{null, full}, "zadd") || !d.isNullAsMayBe([2]value{full, null}, "zadd") ||
		!d.isNullAsMayBe([2]value{null, full}, "ltrim") || d.isNullAsMayBe([2]value{null, full}, "") {
		t.Error("an EXEC that fails only in one of the two is judged by another command than the one after WATCH")
	}
}
