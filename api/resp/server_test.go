package resp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/crdt"
)

func TestAConfigurationReportsEveryProblem(t *testing.T) {
	_, err := New(Config{MaxClients: -1, DrainTimeout: -1})
	want := "no DB\nMaxClients is -1: want 0 or more\nDrainTimeout is -1ns: want 0 or more"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestManyClientsCountTogether(t *testing.T) {
	const clients, rounds, pipeline = 20, 10, 16
	_, address := startServer(t, Config{DB: newMemory()})
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
	db := newMemory()
	_, address := startServer(t, Config{DB: db})
	p := dial(t, address)
	tests := []struct {
		pipeline       string
		replies        string
		views, updates int
	}{
		{"PING|ECHO x", `+PONG|"x"`, 0, 0},
		{"GET a|PING|GET b", "$-1|+PONG|$-1", 1, 0},
		{"GET a|SET a 1|GET a|INCR a", `$-1|+OK|"1"|:2`, 0, 1},
		{"MULTI|SET a 3|GET a|EXEC", "+OK|+QUEUED|+QUEUED|*2\n  +OK\n  \"3\"", 0, 1},
		{"MULTI|SET a 4|DISCARD", "+OK|+QUEUED|+OK", 0, 0},
		{"SET a 5|KEYS *|SET a 6|GET a", "+OK|*1\n  \"a\"|+OK|\"6\"", 1, 2},
		{"FOO|GET|SET a", "-ERR unknown command 'FOO', with args beginning with: " +
			"|-ERR wrong number of arguments for 'get' command" +
			"|-ERR wrong number of arguments for 'set' command", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.pipeline, func(t *testing.T) {
			views, updates := db.counts()
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
			v, u := db.counts()
			if v-views != test.views || u-updates != test.updates {
				t.Errorf("%d views and %d updates, want %d and %d",
					v-views, u-updates, test.views, test.updates)
			}
		})
	}
}

func (m *memory) counts() (views, updates int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.views, m.updates
}

func TestATransactionIsOneDelta(t *testing.T) {
	db := newMemory()
	_, address := startServer(t, Config{DB: db})
	p := dial(t, address)
	for _, line := range []string{"MULTI", "SET a 1", "SADD s x y", "INCR a", "EXEC"} {
		p.ask(line)
	}
	if len(db.deltas) != 1 {
		t.Fatalf("%d deltas, want 1", len(db.deltas))
	}
	if n := contextSize(db.deltas[0]); n != 4 {
		t.Errorf("the delta has %d dots, want 4: SET, SADD of two, INCR", n)
	}
}

func contextSize(s *crdt.State) (n uint64) {
	c := s.Context()
	for counter := uint64(1); c.Has(crdt.Dot{Replica: 1, Counter: counter}); counter++ {
		n++
	}
	return n
}

func TestWhatTheDatabaseRefusesIsAnsweredWithItsError(t *testing.T) {
	db := newMemory()
	db.refusal = errors.New("the disk is full")
	_, address := startServer(t, Config{DB: db})
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
	p.expect("GET a", "$-1")
}

func TestACommandBeyondALimitLeavesTheConnectionUsable(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory()})
	p := dial(t, address)
	long := strings.Repeat("v", MaxValue)
	p.send([]string{"SET", "a", long + "v"}, []string{"SET", "b", long}, []string{"GET", "b"})
	want := "-ERR an argument of 1048577 bytes exceeds the limit of 1048576 bytes (MaxValue)"
	if got := p.reply(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := p.reply(); got != "+OK" {
		t.Errorf("the longest value: %s", got)
	}
	if got := p.reply(); got != strconv.Quote(long) {
		t.Errorf("the longest value came back as %.40s…", got)
	}
	p.send([]string{"GET", strings.Repeat("k", crdt.MaxName+1)})
	want = "-ERR a key of 65537 bytes exceeds the limit of 65536 bytes"
	if got := p.reply(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.send([]string{"SADD", "s", "a", strings.Repeat("e", crdt.MaxName+1)})
	if got := p.reply(); !strings.HasPrefix(got, "-ERR too long: a name of 65537 bytes") {
		t.Errorf("a long element: %s", got)
	}
	p.expect("EXISTS s", ":0")
}

func TestATransactionBeyondItsLimitIsRefusedAsAWhole(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory()})
	p := dial(t, address)
	p.expect("MULTI", "+OK")
	long := strings.Repeat("v", MaxValue/2)
	for i := range MaxQueue / (MaxValue / 2) {
		p.send([]string{"SET", "a", long})
		got := p.reply()
		if last := i == MaxQueue/(MaxValue/2)-1; last != strings.HasPrefix(got, "-ERR") {
			t.Errorf("command %d: %s", i, got)
		}
	}
	p.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.")
	p.expect("EXISTS a", ":0")
}

func TestAProtocolErrorIsToldAndEndsTheConnection(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory()})
	for _, test := range []struct{ name, sent, want string }{
		{"malformed", "*1\r\n$4\r\nPING\r\n*x\r\n",
			"+PONG\n-ERR Protocol error: invalid multibulk length"},
		{"too long to skip", "*2\r\n$4\r\nECHO\r\n$100000000\r\n",
			"-ERR an argument of 100000000 bytes exceeds the limit of 1048576 bytes (MaxValue)"},
		{"a browser", "POST / HTTP/1.1\r\n", "-ERR Protocol error: this is no HTTP server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := dial(t, address)
			p.sendRaw([]byte(test.sent))
			for _, want := range strings.Split(test.want, "\n") {
				if got := p.reply(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			p.expectEnd()
		})
	}
}

func TestAfterQuitNothingIsExecuted(t *testing.T) {
	db := newMemory()
	_, address := startServer(t, Config{DB: db})
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
	_, address := startServer(t, Config{DB: newMemory()})
	p := dial(t, address)
	value := strings.Repeat("v", MaxValue/2)
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
			want := strconv.Quote(value)
			if c[0] == "INCR" {
				n++
				want = ":" + strconv.Itoa(n)
			}
			if got := p.reply(); got != want {
				t.Fatalf("reply %d (write %v) is %.40s, want %.40s", i, write, got, want)
			}
		}
	}
}

func TestAClientTooManyIsToldSo(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory(), MaxClients: 2})
	first, second := dial(t, address), dial(t, address)
	first.expect("PING", "+PONG")
	second.expect("PING", "+PONG")
	third := dial(t, address)
	if got := third.reply(); got != "-ERR max number of clients reached" {
		t.Errorf("got %s", got)
	}
	third.expectEnd()
	second.expect("QUIT", "+OK")
	second.expectEnd()
	eventually(t, "a place becomes free", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = conn.Write(encodeCommand("PING"))
		reply := make([]byte, 7)
		n, _ := conn.Read(reply)
		return err == nil && string(reply[:n]) == "+PONG\r\n"
	})
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	limit := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(limit) {
			t.Fatalf("waited %v until %s", patience, what)
		}
		runtime.Gosched()
	}
}

// slowDB lets a test decide when an update goes on.
type slowDB struct {
	*memory
	entered, leave chan struct{}
}

func (db slowDB) Update(ctx context.Context, fns []func(Tx) error) []error {
	db.entered <- struct{}{}
	select {
	case <-db.leave:
		return db.memory.Update(ctx, fns)
	case <-ctx.Done():
		errs := make([]error, len(fns))
		for i := range errs {
			errs[i] = ctx.Err()
		}
		return errs
	}
}

func TestAShutdownAnswersWhatWasAccepted(t *testing.T) {
	for _, by := range []string{"context", "Shutdown"} {
		t.Run(by, func(t *testing.T) {
			db := slowDB{newMemory(), make(chan struct{}), make(chan struct{})}
			s, err := New(Config{DB: db, DrainTimeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, l) }()
			idle, busy := dial(t, l.Addr().String()), dial(t, l.Addr().String())
			idle.expect("PING", "+PONG")
			busy.send([]string{"SET", "a", "1"}, []string{"GET", "a"})
			<-db.entered

			stopped := make(chan error, 1)
			if by == "context" {
				cancel()
				stopped <- nil
			} else {
				go func() { stopped <- s.Shutdown(ctx) }()
			}
			idle.expectEnd()
			close(db.leave)
			if set, get := busy.reply(), busy.reply(); set != "+OK" || get != `"1"` {
				t.Errorf("got %s and %s", set, get)
			}
			busy.expectEnd()
			if err := errors.Join(<-served, <-stopped); err != nil {
				t.Error(err)
			}
			if err := s.Serve(ctx, l); !errors.Is(err, ErrServerClosed) {
				t.Errorf("serving again: %v", err)
			}
		})
	}
}

func TestCloseCutsWhatWaitsForTheDatabase(t *testing.T) {
	db := slowDB{newMemory(), make(chan struct{}), make(chan struct{})}
	s, address := startServer(t, Config{DB: db})
	p := dial(t, address)
	p.send([]string{"SET", "a", "1"})
	<-db.entered
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	p.expectEnd()
}

func TestConnectionsWithoutAFileDescriptorWork(t *testing.T) {
	s, err := New(Config{DB: newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	var running sync.WaitGroup
	running.Go(func() { newClient(s, near, 1).serve(t.Context()) })
	if _, err := far.Write(encodeCommand("PING")); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 7)
	if n, err := far.Read(reply); err != nil || string(reply[:n]) != "+PONG\r\n" {
		t.Errorf("got %q, %v", reply[:n], err)
	}
	far.Close()
	running.Wait()
}

func TestAWaitingClientHoldsLittleMemory(t *testing.T) {
	const clients, each = 200, 16 << 10
	_, address := startServer(t, Config{DB: newMemory()})
	before := memoryInUse()
	big := strings.Repeat("v", 100_000)
	for range clients {
		p := dial(t, address)
		p.in = nil // not the server's memory
		p.Write(encodeCommand("ECHO", big))
		reply := make([]byte, len(big)+len("$100000\r\n\r\n"))
		if _, err := readFull(p.Conn, reply); err != nil {
			t.Fatal(err)
		}
	}
	if used := (memoryInUse() - before) / clients; used > each {
		t.Errorf("%d bytes a client, want at most %d", used, each)
	}
}

func readFull(conn net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = conn.Read(b[n:])
		n += m
	}
	return n, err
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // sync.Pool gives its buffers up at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestEveryKeyThatStaysIsReturnedByAScan writes and deletes other keys meanwhile.
func TestEveryKeyThatStaysIsReturnedByAScan(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory()})
	p := dial(t, address)
	p.send([]string{"SET", "", "the empty key"})
	p.reply()
	for i := range 100 {
		p.ask(fmt.Sprintf("SET stays:%d x", i))
		p.ask(fmt.Sprintf("SET goes:%d x", i))
	}
	seen := map[string]int{}
	cursor := "0"
	for round := 0; round == 0 || cursor != "0"; round++ {
		p.ask(fmt.Sprintf("DEL goes:%d", round))
		p.ask(fmt.Sprintf("SET comes:%d x", round))
		// A cursor may be used again, should its reply have been lost.
		p.ask("SCAN " + cursor + " COUNT 7")
		lines := strings.Split(p.ask("SCAN "+cursor+" COUNT 7"), "\n")
		cursor, _ = strconv.Unquote(strings.TrimSpace(lines[1]))
		for _, line := range lines[3:] {
			key, _ := strconv.Unquote(strings.TrimSpace(line))
			seen[key]++
		}
	}
	for i := range 100 {
		if n := seen[fmt.Sprintf("stays:%d", i)]; n != 1 {
			t.Errorf("stays:%d was returned %d times", i, n)
		}
	}
	if seen[""] != 1 {
		t.Errorf("the empty key was returned %d times", seen[""])
	}
}

func TestCursorsAreBoundedAndTheLatestSurvive(t *testing.T) {
	var cs cursors
	slow := cs.add("slow", 0)
	last := uint64(0)
	for i := range 3 * MaxCursors {
		last = cs.add(strconv.Itoa(i), last)
		if after, ok := cs.lookUp(last); !ok || after != strconv.Itoa(i) {
			t.Fatalf("cursor %d stands at %q, %v", i, after, ok)
		}
	}
	if len(cs.byID) > 3 {
		t.Errorf("a scan of %d steps left %d cursors", 3*MaxCursors, len(cs.byID))
	}
	if after, ok := cs.lookUp(slow); !ok || after != "slow" {
		t.Errorf("a slow scan was forgotten while a fast one ran")
	}
	for i := range 3 * MaxCursors {
		cs.add(strconv.Itoa(i), 0)
	}
	if len(cs.byID) != MaxCursors || cs.byUse.Len() != MaxCursors {
		t.Errorf("%d cursors are held, want %d", len(cs.byID), MaxCursors)
	}
	long := strings.Repeat("k", crdt.MaxName)
	for range 2 * MaxCursorBytes / crdt.MaxName {
		cs.add(long, 0)
	}
	if cs.bytes > MaxCursorBytes {
		t.Errorf("cursors hold %d bytes, want at most %d", cs.bytes, MaxCursorBytes)
	}
}

// TestAKeyOfSeveralTypesAnswersTheCommandsOfEach is what two replicas make that create one key at once.
func TestAKeyOfSeveralTypesAnswersTheCommandsOfEach(t *testing.T) {
	db := newMemory()
	err := db.update(func(tx Tx) error {
		root := crdt.Root(tx)
		_, err := root.Set("k").Add("member")
		return errors.Join(err,
			root.String("k").Set([]byte("text")),
			root.Map("k").String("f").Set([]byte("value")),
			root.Flag("flag").Enable())
	})
	if err != nil {
		t.Fatal(err)
	}
	_, address := startServer(t, Config{DB: db})
	p := dial(t, address)
	p.expect("GET k", `"text"`)
	p.expect("SISMEMBER k member", ":1")
	p.expect("HGET k f", `"value"`)
	p.expect("TYPE k", "+hash")
	p.expect("TYPE flag", "+flag")
	p.expect("GET flag", "-WRONGTYPE Operation against a key holding the wrong kind of value")
	p.expect("EXISTS k", ":1")
	p.expect("KEYS k", "*1\n  \"k\"")
	p.expect("SET k new", "+OK")
	p.expect("TYPE k", "+string")
	p.expect("SCARD k", "-WRONGTYPE Operation against a key holding the wrong kind of value")
	p.expect("DEL k flag", ":2")
	p.expect("DBSIZE", ":0")
}

func TestASetOfAPlainStringTouchesOneCell(t *testing.T) {
	db := newMemory()
	_, address := startServer(t, Config{DB: db})
	p := dial(t, address)
	p.expect("SET k 1", "+OK")
	p.expect("SET k 2", "+OK")
	if n := contextSize(db.state); n != 2 {
		t.Errorf("two SETs issued %d dots", n)
	}
}

func TestInfoTellsWhatToolsReadFromIt(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory(), Version: "1.2"})
	p := dial(t, address)
	p.expect("SET a 1", "+OK")
	text, err := strconv.Unquote(p.ask("INFO"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Server\r\n", "redis_version:7.0.0\r\n", "peerd_version:1.2\r\n", "\r\n\r\n# Clients\r\n",
		"connected_clients:1\r\n", "used_memory:", "total_commands_processed:1\r\n",
		"role:master\r\n", "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.expect("INFO replication", strconv.Quote(
		"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"))
}

func TestConfigGetShowsTheSettingsOfTheOperator(t *testing.T) {
	_, address := startServer(t, Config{
		DB: newMemory(), Settings: map[string]string{"appendfsync": "always"},
	})
	p := dial(t, address)
	p.expect("CONFIG GET appendfs*", "*2\n  \"appendfsync\"\n  \"always\"")
	p.expect("CONFIG GET MAXCLIENTS save",
		"*4\n  \"maxclients\"\n  \"10000\"\n  \"save\"\n  \"\"")
}

func TestCommandDescribesEveryCommand(t *testing.T) {
	_, address := startServer(t, Config{DB: newMemory()})
	p := dial(t, address)
	n := len(commands)
	p.expect("COMMAND COUNT", ":"+strconv.Itoa(n))
	all := p.ask("COMMAND")
	if !strings.HasPrefix(all, fmt.Sprintf("*%d\n  *10\n    \"auth\"\n", n)) {
		t.Errorf("COMMAND begins with %.60s", all)
	}
	if docs := p.ask("COMMAND DOCS"); !strings.HasPrefix(docs, fmt.Sprintf("*%d\n", 2*n)) {
		t.Errorf("COMMAND DOCS begins with %.60s", docs)
	}
	for name, c := range commands {
		if len(name) > longestName || c.name != strings.ToLower(name) || c.run == nil {
			t.Errorf("%s cannot be called", name)
		}
	}
}

func BenchmarkPipelineOfSixteenSets(b *testing.B) { benchmark(b, 16, "SET", "key", "value") }

func BenchmarkPing(b *testing.B) { benchmark(b, 1, "PING") }

func benchmark(b *testing.B, pipeline int, args ...string) {
	_, address := startServer(b, Config{DB: newMemory()})
	p := dial(b, address)
	if err := p.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
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
		if _, err := readFull(p.Conn, replies); err != nil {
			b.Fatal(err)
		}
	}
}
