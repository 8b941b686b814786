package resp

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that a test reads.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestASlowCommandIsLoggedAndShownWithoutItsValues(t *testing.T) {
	eachWay(t, testASlowCommandIsLoggedAndShownWithoutItsValues)
}

func testASlowCommandIsLoggedAndShownWithoutItsValues(t *testing.T) {
	var log lines
	s, address := startServer(t, Config{db: newMemory(t), SlowLog: time.Nanosecond,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := dial(t, address)
	p.expect("CLIENT SETNAME me", "+OK")
	key := strings.Repeat("k", 200) + "\n"
	p.send([]string{"SET", key, "secret"})
	p.reply()
	p.send([]string{"PING"}, []string{"GET", "first"}, []string{"GET", "second"})
	for range 3 {
		p.reply()
	}
	got := regexp.MustCompile(`:\d{2,}\n`).ReplaceAllString(p.ask("SLOWLOG GET 2"), ":N\n")
	got = regexp.MustCompile(`:\d\n  :`).ReplaceAllString(got, ":N\n  :")
	client := p.LocalAddr().String()
	entry := func(args string) string {
		return "  *6\n    :N\n    :N\n    :N\n" + args + fmt.Sprintf("    %q\n    \"me\"\n", client)
	}
	want := "*2\n" + entry("    *2\n      \"get\"\n      \"first\"\n") +
		entry("    *2\n      \"set\"\n      \""+strings.Repeat("k", maxSlowKey)+"\"\n")
	number := regexp.MustCompile(`(?m)^    :.*$`)
	got = number.ReplaceAllString(got, "    :N")
	if got+"\n" != want {
		t.Errorf("SLOWLOG GET answers\n%s\nwant\n%s", got, want)
	}
	for _, part := range []string{`msg="slow command"`, "command=set", "client=" + client, "client_name=me",
		"executed_together=3", "ms="} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("no %s in the log: %s", part, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("a value is in the log: %s", log.String())
	}
	p.expect("SLOWLOG LEN", ":4")
	p.expect("SLOWLOG RESET", "+OK")
	p.expect("SLOWLOG LEN", ":1") // RESET itself
	p.expect("CONFIG GET slowlog-log-slower-than", "*2\n  \"slowlog-log-slower-than\"\n  \"0\"")
	if m := s.Metrics(); m.Slow != 8 {
		t.Errorf("%d commands were slow, want 8", m.Slow)
	}
}

func TestNothingIsSlowWithoutALimit(t *testing.T) { eachWay(t, testNothingIsSlowWithoutALimit) }

func testNothingIsSlowWithoutALimit(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("SET a 1", "+OK")
	p.expect("SLOWLOG LEN", ":0")
	p.expect("SLOWLOG GET", "*0")
	p.expect("SLOWLOG GET x", "-ERR count should be greater than or equal to -1")
	p.expect("SLOWLOG GET 1 2", "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.")
	p.expect("SLOWLOG HELLO", "-ERR unknown subcommand 'HELLO'. Try SLOWLOG HELP.")
	p.expect("CONFIG GET slowlog-log-slower-than", "*2\n  \"slowlog-log-slower-than\"\n  \"-1\"")
}

func TestTheSlowLogIsBounded(t *testing.T) {
	var l slowLog
	now := time.Unix(1, 0)
	logged := 0
	for i := range 3 * MaxSlowLog {
		ok, suppressed := l.add(slowCommand{at: now, command: fmt.Sprint(i)})
		if ok {
			logged++
		}
		if suppressed != 0 {
			t.Errorf("%d are said to be suppressed in the first second", suppressed)
		}
	}
	if logged != MaxSlowLines {
		t.Errorf("%d lines were logged in a second, want %d", logged, MaxSlowLines)
	}
	if all := l.latest(-1); len(all) != MaxSlowLog || all[0].command != fmt.Sprint(3*MaxSlowLog-1) {
		t.Errorf("%d entries, the newest %v", len(all), all[0])
	}
	if some := l.latest(2); len(some) != 2 || l.len() != MaxSlowLog {
		t.Errorf("%d entries of 2, %d of all", len(some), l.len())
	}
	if _, suppressed := l.add(slowCommand{at: now.Add(time.Second)}); suppressed != 3*MaxSlowLog-MaxSlowLines {
		t.Errorf("%d are said to be suppressed", suppressed)
	}
}

func TestCommandsAreCountedWithHowLongTheyTook(t *testing.T) {
	eachWay(t, testCommandsAreCountedWithHowLongTheyTook)
}

func testCommandsAreCountedWithHowLongTheyTook(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.send([]string{"SET", "a", "1"}, []string{"SET", "b", "2"}, []string{"GET", "a"}, []string{"NONE"},
		[]string{"MULTI"}, []string{"SET", "c", "3"}, []string{"EXEC"})
	for range 7 {
		p.reply()
	}
	p.expect("PING", "+PONG") // what was answered before is counted
	m := s.Metrics()
	counts := map[string]uint64{}
	for name, c := range m.Times {
		counts[name] = c.Total
	}
	for name, want := range map[string]uint64{"set": 2, "get": 1, "exec": 1, "multi": 1, "incr": 0} {
		if counts[name] != want {
			t.Errorf("%s was counted %d times, want %d", name, counts[name], want)
		}
	}
	if m.Clients != 1 || m.Accepted != 1 || m.Times["exec"].Sum <= 0 {
		t.Errorf("%+v", m)
	}
}
