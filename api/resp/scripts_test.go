package resp

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/script"
	embedded "github.com/peerd/peerd/peer"
)

const endless = "while true do end"

// startRunaway has a client run a script that does not end, and waits until others are told so.
func startRunaway(t *testing.T, s *Server, address string, args ...string) *peer {
	t.Helper()
	s.scripts.busyAfter.Store(1)
	runaway := dial(t, address)
	runaway.send(args)
	eventually(t, "a script that runs for long", s.scripts.isLongest)
	return runaway
}

// long returns how many scripts have been running for long.
func (s *scripts) long() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.running {
		if s.isLong(r) {
			n++
		}
	}
	return n
}

// isLongest reports whether a script has been running for long.
func (s *scripts) isLongest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.running {
		if s.isLong(r) {
			return true
		}
	}
	return false
}

func TestWithoutAThresholdNoScriptIsLong(t *testing.T) {
	var s scripts
	s.enter(&running{writes: true, began: time.Now().Add(-time.Hour)})
	if s.isBusy(0) {
		t.Error("a script is long, though busy-reply-threshold is 0")
	}
}

// TestARunawayHarmsNobodyElse: others read meanwhile, who writes is told, another database takes
// writes, and SCRIPT KILL ends it. It has changed nothing.
func TestARunawayHarmsNobodyElse(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		s, address := startServer(t, Config{Peer: openMemory(t)})
		p, elsewhere := dial(t, address), dial(t, address)
		p.ask("SET k before")
		if got := elsewhere.ask("SELECT 3"); got != "+OK" {
			t.Fatal(got)
		}
		elsewhere.ask("SET first 1")
		runaway := startRunaway(t, s, address, "EVAL", "redis.call('set','k','after') redis.call('set','n','1') "+endless, "0")
		for command, want := range map[string]string{"GET k": "\"before\"", "EXISTS n": ":0", "PING": "+PONG"} {
			if got := p.ask(command); got != want {
				t.Errorf("%s: %s", command, got)
			}
		}
		for _, command := range []string{"SET k x", "EVAL return 0", "INCR n"} {
			if got := p.ask(command); !strings.HasPrefix(got, "-BUSY ") {
				t.Errorf("%s: %s", command, got)
			}
		}
		p.ask("MULTI")
		p.ask("SET k x")
		if got := p.ask("EXEC"); !strings.HasPrefix(got, "-EXECABORT Transaction discarded because of: BUSY ") {
			t.Errorf("EXEC: %s", got)
		}
		if got := elsewhere.ask("SET k elsewhere"); got != "+OK" {
			t.Error(got)
		}
		if got := p.ask("SCRIPT KILL"); got != "+OK" {
			t.Fatal(got)
		}
		if got := runaway.reply(); !strings.Contains(got, "Script killed by user") {
			t.Error(got)
		}
		if got := p.ask("GET k") + p.ask("EXISTS n") + p.ask("INCR n") + runaway.ask("INCR n") + p.ask("SCRIPT KILL"); got !=
			"\"before\":0:1:2-NOTBUSY No scripts in execution right now." {
			t.Error(got)
		}
	})
}

// TestAScriptThatReadsKeepsNobodyWaiting who writes.
func TestAScriptThatReadsKeepsNobodyWaiting(t *testing.T) {
	s, address := startServer(t, Config{Peer: openMemory(t)})
	p := dial(t, address)
	runaway := startRunaway(t, s, address, "EVAL_RO", endless, "0")
	if got := p.ask("SET k v") + p.ask("SCRIPT KILL"); got != "+OK+OK" {
		t.Error(got)
	}
	if got := runaway.reply(); !strings.Contains(got, "killed") {
		t.Error(got)
	}
}

// TestAsManyScriptsThatReadAsRunAtOnce keep nobody waiting but others of them.
func TestAsManyScriptsThatReadAsRunAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		s, address := startServer(t, Config{Peer: openMemory(t)})
		s.scripts.busyAfter.Store(1)
		p := dial(t, address)
		p.expect("HSET h f v", ":1")
		var runaways []*peer
		for i := range MaxReadScripts {
			runaway := dial(t, address)
			if i%2 == 0 {
				runaway.expect("MULTI", "+OK")
				runaway.expect("KEYS *", "+QUEUED")
				runaway.send([]string{"EVAL_RO", endless, "0"})
				runaway.expectReply("+QUEUED")
				runaway.send([]string{"EXEC"})
			} else {
				runaway.send([]string{"EVAL_RO", endless, "0"})
			}
			runaways = append(runaways, runaway)
		}
		eventually(t, "as many run as may", func() bool { return s.scripts.long() == MaxReadScripts })
		if n := len(s.evals); n != MaxReadScripts {
			t.Errorf("%d places for scripts are taken, want %d", n, MaxReadScripts)
		}
		last := dial(t, address)
		last.send([]string{"HGETALL", "h"}, []string{"EVAL_RO", endless, "0"}, []string{"HGETALL", "h"})
		const all = "*2\n  \"f\"\n  \"v\""
		p.expect("HGETALL h", all)
		if n := s.scripts.active.Load(); n != MaxReadScripts {
			t.Errorf("%d scripts run, want %d", n, MaxReadScripts)
		}
		p.expect("SCRIPT KILL", "+OK")
		for _, runaway := range runaways {
			if got := runaway.reply(); !strings.Contains(got, "Script killed by user") {
				t.Errorf("a script ended with %s", got)
			}
		}
		eventually(t, "the last runs", func() bool { return s.scripts.long() == 1 })
		p.expect("SCRIPT KILL", "+OK")
		if got := last.reply(); got != all {
			t.Errorf("HGETALL before a script: %s", got)
		}
		if got := last.reply(); !strings.Contains(got, "Script killed by user") {
			t.Errorf("the last script ended with %s", got)
		}
		if got := last.reply(); got != all {
			t.Errorf("HGETALL behind a script: %s", got)
		}
	})
}

// TestWhatQueuesBehindAScript of the same client, and in the same MULTI, goes its way.
func TestWhatQueuesBehindAScript(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		_, address := startServer(t, Config{Peer: openMemory(t)})
		p := dial(t, address)
		long := "for i=1,300000 do end return redis.call('incr', 'n')"
		p.send([]string{"INCR", "n"}, []string{"EVAL", long, "0"}, []string{"INCR", "n"}, []string{"EVAL", long, "0"},
			[]string{"MULTI"}, []string{"EVAL", long, "0"}, []string{"INCR", "n"}, []string{"EXEC"}, []string{"GET", "n"})
		got := ""
		for range 9 {
			got += p.reply()
		}
		if want := ":1:2:3:4+OK+QUEUED+QUEUED*2\n  :5\n  :6\"6\""; got != want {
			t.Error(got)
		}
	})
}

// TestAScriptBeyondALimitChangesNothing, nor does what is with it in a MULTI.
func TestAScriptBeyondALimitChangesNothing(t *testing.T) {
	_, address := startServer(t, Config{Peer: openMemory(t)})
	p := dial(t, address)
	bomb := "redis.call('set','k','v') local t = {} while true do t[#t+1] = ('x'):rep(1e6)..#t end"
	p.send([]string{"EVAL", bomb, "0"}, []string{"MULTI"}, []string{"SET", "k", "w"}, []string{"EVAL", bomb, "0"},
		[]string{"EXEC"}, []string{"EXISTS", "k"})
	got := ""
	for range 6 {
		got += p.reply()
	}
	const ended = "-ERR the script holds more memory than it may: 67108864 bytes (MaxScriptMemory). It changed nothing"
	if want := ended + "+OK+QUEUED+QUEUED" + ended + ":0"; got != want {
		t.Error(got)
	}
}

// TestWhatAScriptTellsIsLoggedOnce, whether it ends in the loop or is begun again on a goroutine.
func TestWhatAScriptTellsIsLoggedOnce(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		var log lines
		_, address := startServer(t, Config{Peer: openMemory(t), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		p := dial(t, address)
		const many, long = 3 * quickLines, "for i=1,300000 do end"
		p.send([]string{"EVAL", "redis.log(redis.LOG_WARNING, 'brief')", "0"},
			[]string{"EVAL", "redis.log(redis.LOG_WARNING, 'fails') error('x')", "0"},
			[]string{"EVAL", "redis.log(redis.LOG_NOTICE, 'long') " + long, "0"},
			[]string{"EVAL", fmt.Sprintf("for i=1,%d do redis.log(redis.LOG_WARNING, 'many') end", many), "0"},
			[]string{"MULTI"}, []string{"EVAL", "redis.log(redis.LOG_WARNING, 'queued')", "0"},
			[]string{"EVAL", long, "0"}, []string{"EXEC"})
		for range 8 {
			p.reply()
		}
		for text, want := range map[string]int{"brief": 1, "fails": 1, "long": 1, "many": many, "queued": 1} {
			if got := strings.Count(log.String(), "text="+text+"\n"); got != want {
				t.Errorf("%s is logged %d times, want %d", text, got, want)
			}
		}
	})
}

// TestScriptsAreForgottenInTheirOrder of use, when there are too many.
func TestScriptsAreForgottenInTheirOrder(t *testing.T) {
	var s scripts
	first, err := s.load([]byte("return 'first'"))
	if err != nil {
		t.Fatal(err)
	}
	var second string
	for i := range MaxScripts {
		p, err := s.load(fmt.Appendf(nil, "return %d", i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			second = p.SHA
		}
		if s.find(first.SHA) == nil {
			t.Fatalf("the script in use is forgotten after %d others", i)
		}
	}
	if s.find(second) != nil || len(s.programs) != MaxScripts || s.recent.Len() != MaxScripts {
		t.Errorf("%d scripts, %v", len(s.programs), s.find(second))
	}
	for i := range 40 {
		if _, err := s.load(fmt.Appendf(nil, "return %d --%s", i, strings.Repeat("x", 1<<19))); err != nil {
			t.Fatal(err)
		}
	}
	if s.bytes > MaxScriptBytes {
		t.Errorf("%d bytes", s.bytes)
	}
	large, err := s.load([]byte(strings.Repeat("f()", script.MaxSource/3)))
	if err != nil || large.Size <= MaxScriptBytes {
		t.Fatalf("%d bytes, %v", large.Size, err)
	}
	if s.find(large.SHA) == nil || len(s.programs) != 1 {
		t.Errorf("of a script that holds much and %d others it is forgotten", len(s.programs))
	}
	if _, err := s.load([]byte("return 1")); err != nil || s.bytes > MaxScriptBytes {
		t.Errorf("%d bytes after that, %v", s.bytes, err)
	}
}

func openMemory(t *testing.T) *embedded.Peer {
	t.Helper()
	p, err := embedded.Open(t.Context(), embedded.Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestALongTextIsCompiledApart from the loop, in which all clients would wait for it.
func TestALongTextIsCompiledApart(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		s, address := startServer(t, Config{Peer: openMemory(t)})
		text := "return #{" + strings.Repeat("1,", quickSource/2) + "}"
		looped := call{server: s, looped: true}
		if _, err := looped.load([]byte(text)); err != errApart {
			t.Errorf("in the loop: %v", err)
		}
		p := dial(t, address)
		p.send([]string{"EVAL", text, "0"}, []string{"SCRIPT", "LOAD", text + " "}, []string{"MULTI"},
			[]string{"EVAL", text + "  ", "0"}, []string{"EXEC"})
		want := ":4096 \"" + script.Name([]byte(text+" ")) + "\" +OK +QUEUED *1\n  :4096"
		if got := strings.Join([]string{p.reply(), p.reply(), p.reply(), p.reply(), p.reply()}, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if _, err := looped.load([]byte(text)); err != nil {
			t.Errorf("once it is known: %v", err)
		}
	})
}
