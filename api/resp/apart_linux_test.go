package resp

import (
	"strings"
	"testing"
)

// TestWhatCannotBeUndoneIsDoneOnce where EXEC, or a script, turns out to take long in the loop.
func TestWhatCannotBeUndoneIsDoneOnce(t *testing.T) {
	s, address, _ := inLoop(t, Config{db: newMemory(t)})
	p, waits, reader := dial(t, address), dial(t, address), dial(t, address)
	p.expect("SET long "+strings.Repeat("v", 2*maxQuickBytes), "+OK")
	id := strings.TrimPrefix(waits.ask("CLIENT ID"), ":")
	waits.send([]string{"BLPOP", "list", "0"})
	untilWaiting(t, s, 1)
	reader.ask("SUBSCRIBE c")
	for _, test := range []struct{ first, second, want string }{
		{"PING", "CLIENT UNBLOCK " + id, "+PONG :1"},
		{"CLIENT GETNAME", "CLIENT SETNAME new", "$-1 +OK"},
		{"CLIENT GETNAME", "HELLO 2 SETNAME newer", `"new" *14`},
		{"PUBLISH c first", "GET none", ":1 $-1"},
		{"PUBLISH c second", "SCRIPT KILL", ":1 -NOTBUSY"},
	} {
		p.send(fields("MULTI", test.first, test.second, "GET long", "EXEC")...)
		for _, want := range []string{"+OK", "+QUEUED", "+QUEUED", "+QUEUED"} {
			p.expectReply(want)
		}
		if got := flat(p.reply()); !strings.HasPrefix(got, "*3 "+test.want+" ") {
			t.Errorf("%s and %s are answered %.80s, want %s", test.first, test.second, got, test.want)
		}
	}
	waits.expectReply("*-1")
	reader.expectMessages(`*3 "message" "c" "first"`, `*3 "message" "c" "second"`)

	p.expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
	p.expect("CONFIG SET slowlog-log-slower-than -1", "+OK")
	entries := p.ask("SLOWLOG LEN")
	p.send([]string{"EVAL", "local n = redis.call('slowlog', 'len') redis.call('slowlog', 'reset') " +
		"for i = 1, 300000 do end return n", "0"})
	if got := p.reply(); got != entries || got == ":0" {
		t.Errorf("a script finds %s entries, and there were %s", got, entries)
	}
	p.expect("SLOWLOG LEN", ":0")
}
