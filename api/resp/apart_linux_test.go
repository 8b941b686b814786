package resp

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatCannotBeUndoneIsDoneOnce where EXEC, or a script, turns out to take long in the loop.
func TestWhatCannotBeUndoneIsDoneOnce(t *testing.T) {
	s, address := inLoop(t, Config{db: newMemory(t)})
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

// TestWhoIsCutAsItsCommandEndsLeavesNothingBehind: the loop learns that it is cut before the
// command has ended, and closes it after.
func TestWhoIsCutAsItsCommandEndsLeavesNothingBehind(t *testing.T) {
	s, err := New(Config{db: newMemory(t)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPoll(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	l := &loop{server: s, poll: p, limited: map[*socket]struct{}{}}
	c := register(t, s, idle(t), 0)
	cut := &socket{loop: l, client: c, fd: ends[0]}
	c.conn, c.stream, c.raw = cut, nil, nil
	s.running.Add(1)
	l.add(t.Context(), cut)
	c.in.reserve()
	asked := append(encodeCommand("WATCH", "k"), encodeCommand("CLIENT", "TRACKING", "ON")...)
	c.in.received(copy(c.in.free(), asked))
	cut.batch = newBatch(c)
	if err := cut.batch.fill(MaxBatchCommands); err != nil {
		t.Fatal(err)
	}
	l.executeApart(t.Context(), cut)
	eventually(t, "it is executed", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return cut.executed
	})
	if n := s.tracking.counts().clients; n != 1 || !c.watched.any() {
		t.Fatalf("%d clients are told of changed keys, and it watches some: %v", n, c.watched.any())
	}
	l.finish(t.Context(), cut)
	if n := s.tracking.counts().clients; n != 0 || c.watched.any() {
		t.Fatalf("%d clients are told of changed keys, and it watches some: %v", n, c.watched.any())
	}
	if err := s.Close(); err != nil { // which waits for whoever tells
		t.Error(err)
	}
}
