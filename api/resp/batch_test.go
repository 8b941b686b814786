package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestManyClientsCountTogether(t *testing.T) { eachWay(t, testManyClientsCountTogether) }

func testManyClientsCountTogether(t *testing.T) {
	const clients, rounds, pipeline = 20, 10, 16
	_, address := startServer(t, Config{db: newMemory(t)})
	var running sync.WaitGroup
	for range clients {
		p := dial(t, address)
		running.Go(func() {
			for range rounds {
				commands := make([][]string, pipeline)
				for i := range commands {
					commands[i] = []string{"INCR", "n"}
				}
				p.send(commands...)
				last := int64(0)
				for range commands {
					n, err := strconv.ParseInt(strings.TrimPrefix(p.reply(), ":"), 10, 64)
					if err != nil || n <= last {
						t.Errorf("INCR returned %d (%v) after %d", n, err, last)
						return
					}
					last = n
				}
			}
		})
	}
	running.Wait()
	dial(t, address).expect("GET n", strconv.Quote(strconv.Itoa(clients*rounds*pipeline)))
}

func TestAPipelineWithAWriteIsOneUpdateAndOneWithoutIsOneView(t *testing.T) {
	eachWay(t, testAPipelineWithAWriteIsOneUpdateAndOneWithoutIsOneView)
}

func testAPipelineWithAWriteIsOneUpdateAndOneWithoutIsOneView(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	tests := []struct {
		pipeline       string
		replies        string
		views, updates int64
	}{
		{"PING|ECHO x", `+PONG|"x"`, 0, 0},
		{"GET a|PING|GET b", "$-1|+PONG|$-1", 1, 0},
		{"GET a|SET a 1|GET a|INCR a", `$-1|+OK|"1"|:2`, 0, 1},
		{"MULTI|SET a 3|GET a|EXEC", "+OK|+QUEUED|+QUEUED|*2\n  +OK\n  \"3\"", 0, 1},
		{"MULTI|GET a|DBSIZE|EXEC", "+OK|+QUEUED|+QUEUED|*2\n  \"3\"\n  :1", 1, 0},
		{"MULTI|SET a 3|MULTI|GET a|EXEC", "+OK|+QUEUED|-ERR MULTI calls can not be nested|+QUEUED|" +
			"*2\n  +OK\n  \"3\"", 0, 1},
		{"MULTI|SET a 3|DISCARD|MULTI|GET a|EXEC", "+OK|+QUEUED|+OK|+OK|+QUEUED|*1\n  \"3\"", 1, 0},
		{"MULTI|SET a 4|DISCARD", "+OK|+QUEUED|+OK", 0, 0},
		{"SET a 5|KEYS *|SET a 6|GET a", "+OK|*1\n  \"a\"|+OK|\"6\"", 1, 2},
		{"FOO|GET|SET a", "-ERR unknown command 'FOO', with args beginning with: " +
			"|-ERR wrong number of arguments for 'get' command" +
			"|-ERR wrong number of arguments for 'set' command", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.pipeline, func(t *testing.T) {
			views, updates := db.views.Load(), db.updates.Load()
			var commands [][]string
			for _, line := range strings.Split(test.pipeline, "|") {
				commands = append(commands, strings.Fields(line))
			}
			p.send(commands...)
			var got []string
			for range commands {
				got = append(got, p.reply())
			}
			if diff := cmp.Diff(test.replies, strings.Join(got, "|")); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			v, u := db.views.Load(), db.updates.Load()
			if v-views != test.views || u-updates != test.updates {
				t.Errorf("%d views and %d updates, want %d and %d",
					v-views, u-updates, test.views, test.updates)
			}
		})
	}
}

// TestAPipelineIsAnsweredAsItsCommandsOneByOne compares two servers that are asked the same.
func TestAPipelineIsAnsweredAsItsCommandsOneByOne(t *testing.T) {
	eachWay(t, testAPipelineIsAnsweredAsItsCommandsOneByOne)
}

func testAPipelineIsAnsweredAsItsCommandsOneByOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{
			"PING", "SET a 1", "SET a text", "SET a 2 GET", "GET a", "INCR a", "DEL a b", "KEYS *",
			"SADD b x", "SADD b y z", "SREM b x", "SMEMBERS b", "INCR b", "TYPE a", "DBSIZE", "SCAN 0",
			"HSET a f 1", "HGETALL a", "HELLO 2", "HELLO 3", "MULTI", "MULTI", "EXEC", "EXEC",
			"DISCARD", "FOO", "GET",
		}), 1, 40).Draw(rt, "commands")
		// Both have the same id of a connection, which HELLO shows.
		_, first := startServer(t, Config{db: newMemory(t)})
		_, second := startServer(t, Config{db: newMemory(t)})
		oneByOne, pipelined := dial(t, first), dial(t, second)
		defer oneByOne.Close()
		defer pipelined.Close()
		var want, got []string
		var commands [][]string
		for _, line := range lines {
			want = append(want, line+"\n"+oneByOne.ask(line))
			commands = append(commands, strings.Fields(line))
		}
		pipelined.send(commands...)
		for _, line := range lines {
			got = append(got, line+"\n"+pipelined.reply())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("one by one and in a pipeline:\n%s", diff)
		}
	})
}

func TestATransactionIsOneDelta(t *testing.T) { eachWay(t, testATransactionIsOneDelta) }

func testATransactionIsOneDelta(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	for _, line := range []string{"MULTI", "SET a 1", "SADD s x y", "INCR a", "EXEC"} {
		p.ask(line)
	}
	if s := db.status(t); s.Deltas != 1 || mutations(s) != 4 {
		t.Errorf("%d deltas with %d dots, want one with 4: SET, SADD of two, INCR", s.Deltas, mutations(s))
	}
}

func TestWhatTheDatabaseRefusesIsAnsweredWithItsError(t *testing.T) {
	eachWay(t, testWhatTheDatabaseRefusesIsAnsweredWithItsError)
}

func testWhatTheDatabaseRefusesIsAnsweredWithItsError(t *testing.T) {
	db := newMemory(t)
	db.refusal = errors.New("the disk is full")
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.send([]string{"PING"}, []string{"SET", "a", "1"}, []string{"INCR", "a", "b"},
		[]string{"SET", "a", "1", "FOO"}, []string{"ECHO", "x"}, []string{"GET", "a"})
	for _, want := range []string{
		"+PONG",
		"-ERR the disk is full",
		"-ERR wrong number of arguments for 'incr' command",
		"-ERR syntax error",
		`"x"`,
		"-ERR the disk is full",
	} {
		if got := p.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p.expect("GET a", "-ERR the disk is full")
	p.expect("PING", "+PONG")
}

// TestARefusalBeforeAnyReplyAnswersEachCommand: the buffer of replies does not exist yet, and the
// first of them must not be lost.
func TestARefusalBeforeAnyReplyAnswersEachCommand(t *testing.T) {
	b := &batch{requests: slices.Repeat([]request{{command: lookUp([]byte("get")), access: accessRead}}, 3), to: 3}
	b.client = &client{server: &Server{}}
	b.call.session = &session{}
	b.settle(b.spread(errors.New("later")))
	if got, want := string(b.out.buf), strings.Repeat("-ERR later\r\n", 3); got != want {
		t.Errorf("3 commands are answered %q, want %q", got, want)
	}
}

func TestWhatIsRefusedUnrunEndsMULTIAndKeepsReplies(t *testing.T) {
	eachWay(t, testWhatIsRefusedUnrunEndsMULTIAndKeepsReplies)
}

// testWhatIsRefusedUnrunEndsMULTIAndKeepsReplies has a database that runs nothing, as while a space
// is rebuilt: what needs none is answered as ever.
func testWhatIsRefusedUnrunEndsMULTIAndKeepsReplies(t *testing.T) {
	db := newMemory(t)
	db.refusal, db.unrun = errors.New("it is rebuilt"), true
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.send([]string{"MULTI"}, []string{"SET", "a", "1"}, []string{"EXEC"}, []string{"PING"},
		[]string{"CLIENT", "REPLY", "SKIP"}, []string{"SET", "a", "1"}, []string{"PING"}, []string{"ECHO", "end"})
	for _, want := range []string{"+OK", "+QUEUED", "-ERR it is rebuilt", "+PONG", "+PONG", `"end"`} {
		if got := p.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p.expect("MULTI", "+OK")
	p.expect("SET a 1", "+QUEUED")
}

// TestWhatWaitsBehindWhatIsRefusedIsAnsweredInItsPlace: it needs no database, and is executed then.
func TestWhatWaitsBehindWhatIsRefusedIsAnsweredInItsPlace(t *testing.T) {
	eachWay(t, testWhatWaitsBehindWhatIsRefusedIsAnsweredInItsPlace)
}

func testWhatWaitsBehindWhatIsRefusedIsAnsweredInItsPlace(t *testing.T) {
	db := newMemory(t)
	db.refusal, db.unrun = errors.New("it is rebuilt"), true
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	for _, first := range [][]string{{"SET", "a", "1"}, {"GET", "a"}} {
		p.send(first, []string{"WAIT", "1", "1"}, []string{"ECHO", "x"}, first)
		for _, want := range []string{"-ERR it is rebuilt", ":0", `"x"`, "-ERR it is rebuilt"} {
			p.expectReply(want)
		}
		p.send(first, []string{"WAIT", "1", "1"}) // and nothing behind it
		p.expectReply("-ERR it is rebuilt")
		p.expectReply(":0")
		p.expect("PING", "+PONG")
	}
}

func TestAfterQuitNothingIsExecuted(t *testing.T) { eachWay(t, testAfterQuitNothingIsExecuted) }

func testAfterQuitNothingIsExecuted(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	p.send([]string{"SET", "a", "1"}, []string{"QUIT"}, []string{"SET", "a", "2"})
	if first, second := p.reply(), p.reply(); first != "+OK" || second != "+OK" {
		t.Errorf("got %s and %s", first, second)
	}
	p.expectEnd()
	dial(t, address).expect("GET a", `"1"`)
}

// TestABatchOfLongRepliesIsSentInParts has more to send than MaxBatchOutput, within an update too.
func TestABatchOfLongRepliesIsSentInParts(t *testing.T) {
	eachWay(t, testABatchOfLongRepliesIsSentInParts)
}

func testABatchOfLongRepliesIsSentInParts(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	value := strings.Repeat("v", MaxBatchOutput/2)
	p.send([]string{"SET", "a", value})
	p.reply()
	for _, write := range []bool{false, true} {
		var commands [][]string
		for range 20 {
			commands = append(commands, []string{"GET", "a"})
			if write {
				commands = append(commands, []string{"INCR", "n"})
			}
		}
		p.send(commands...)
		n := 0
		for i, c := range commands {
			if c[0] == "GET" {
				p.expectText(value)
				continue
			}
			n++
			if got, want := p.reply(), fmt.Sprint(":", n); got != want {
				t.Fatalf("reply %d is %.40s, want %s", i, got, want)
			}
		}
	}
}

func BenchmarkPipelineOfSixteenSets(b *testing.B) { benchmark(b, 16, "SET", "key", "value") }

func BenchmarkPing(b *testing.B) { benchmark(b, 1, "PING") }

func BenchmarkHashOfTenFields(b *testing.B) {
	_, address := startServer(b, Config{db: newMemory(b)})
	p := dial(b, address)
	for i := range 10 {
		p.ask(fmt.Sprintf("HSET hash field%d %s", i, strings.Repeat("v", 100)))
	}
	benchmarkAt(b, p, 1, "HGETALL", "hash")
}

func benchmark(b *testing.B, pipeline int, args ...string) {
	_, address := startServer(b, Config{db: newMemory(b)})
	benchmarkAt(b, dial(b, address), pipeline, args...)
}

func benchmarkAt(b *testing.B, p *peer, pipeline int, args ...string) {
	data := bytes.Repeat(encodeCommand(args...), pipeline)
	p.sendRaw(data)
	size := pipeline * (len(p.reply()) + 2)
	for range pipeline - 1 {
		p.reply()
	}
	replies := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		p.sendRaw(data)
		if _, err := io.ReadFull(p.Conn, replies); err != nil {
			b.Fatal(err)
		}
	}
}
