package resp

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

func TestACommandBeyondALimitLeavesTheConnectionUsable(t *testing.T) {
	eachWay(t, testACommandBeyondALimitLeavesTheConnectionUsable)
}

func testACommandBeyondALimitLeavesTheConnectionUsable(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	long := strings.Repeat("v", MaxValue)
	p.send([]string{"SET", "a", long + "v"}, []string{"SET", "b", long}, []string{"GET", "b"})
	want := fmt.Sprintf("-ERR an argument of %d bytes exceeds the limit of %d bytes (MaxValue)", MaxValue+1, MaxValue)
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
	want = fmt.Sprintf("-ERR a key of %d bytes exceeds the limit of %d bytes", crdt.MaxName+1, crdt.MaxName)
	if got := p.reply(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.send([]string{"SADD", "s", "a", strings.Repeat("e", crdt.MaxName+1)})
	if got := p.reply(); !strings.HasPrefix(got, fmt.Sprintf("-ERR too long: a name of %d bytes", crdt.MaxName+1)) {
		t.Errorf("a long element: %s", got)
	}
	p.expect("EXISTS s", ":0")
}

// TestManyArgumentsAreRefusedAsACommandThatIsTooLarge: Redis takes as many.
func TestManyArgumentsAreRefusedAsACommandThatIsTooLarge(t *testing.T) {
	eachWay(t, testManyArgumentsAreRefusedAsACommandThatIsTooLarge)
}

func testManyArgumentsAreRefusedAsACommandThatIsTooLarge(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const n = 1<<20 + 1
	data := []byte(fmt.Sprintf("*%d\r\n$3\r\nDEL\r\n", n) + strings.Repeat("$1\r\nk\r\n", n-1))
	if _, err := p.Write(data); err != nil {
		t.Fatal(err)
	}
	if got, want := p.reply(), fmt.Sprintf("-ERR the command exceeds the limit of %d bytes (MaxCommand)", MaxCommand); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.expect("PING", "+PONG")
}

func TestALongPatternIsMatched(t *testing.T) { eachWay(t, testALongPatternIsMatched) }

func testALongPatternIsMatched(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	key := strings.Repeat("a", 50_000)
	p.send([]string{"SET", key, "1"}, []string{"KEYS", strings.Repeat("*?", 50_000)},
		[]string{"KEYS", strings.Repeat("*?", 50_001)}, []string{"KEYS", strings.Repeat("*", MaxPattern+1)})
	for _, want := range []string{"+OK", fmt.Sprintf("*1\n  %q", key), "*0",
		"-ERR a pattern of 131073 bytes exceeds the limit of 131072 bytes"} {
		if got := p.reply(); got != want {
			t.Errorf("got %.100s, want %.100s", got, want)
		}
	}
}

func TestATransactionBeyondItsLimitIsRefusedAsAWhole(t *testing.T) {
	eachWay(t, testATransactionBeyondItsLimitIsRefusedAsAWhole)
}

func testATransactionBeyondItsLimitIsRefusedAsAWhole(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
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

func TestATransactionWhoseReplyIsTooLongChangesNothing(t *testing.T) {
	eachWay(t, testATransactionWhoseReplyIsTooLongChangesNothing)
}

func testATransactionWhoseReplyIsTooLongChangesNothing(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.send([]string{"SET", "a", strings.Repeat("v", MaxValue)})
	p.reply()
	p.expect("MULTI", "+OK")
	p.expect("INCR n", "+QUEUED")
	for range MaxReply / MaxValue {
		p.expect("GET a", "+QUEUED")
	}
	p.expect("EXEC", fmt.Sprintf("-ERR the reply exceeds the limit of %d bytes (MaxReply); ask for less at once", MaxReply))
	p.expect("EXISTS n", ":0")
}

func TestAProtocolErrorIsToldAndEndsTheConnection(t *testing.T) {
	eachWay(t, testAProtocolErrorIsToldAndEndsTheConnection)
}

func testAProtocolErrorIsToldAndEndsTheConnection(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	for _, test := range []struct{ name, sent, want string }{
		{"malformed", "*1\r\n$4\r\nPING\r\n*x\r\n",
			"+PONG\n-ERR Protocol error: invalid multibulk length"},
		{"too long to skip", "*2\r\n$4\r\nECHO\r\n$100000000\r\n", fmt.Sprintf(
			"-ERR an argument of 100000000 bytes exceeds the limit of %d bytes (MaxValue)", MaxValue)},
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

func TestAClientTooManyIsToldSo(t *testing.T) { eachWay(t, testAClientTooManyIsToldSo) }

func testAClientTooManyIsToldSo(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t), MaxClients: 2})
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

// eventually waits for a condition that other goroutines bring about and that stays. One that may
// pass by between two looks is none to wait for.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	began, late := time.Now(), (<-chan time.Time)(nil)
	if end := tooLate(t); !end.IsZero() {
		late = time.After(time.Until(end))
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("waited %v until %s", time.Since(began), what)
		}
	}
}

func TestAWaitingClientHoldsLittleMemory(t *testing.T) {
	eachWay(t, testAWaitingClientHoldsLittleMemory)
}

func testAWaitingClientHoldsLittleMemory(t *testing.T) {
	const clients, each = 200, 16 << 10
	_, address := startServer(t, Config{db: newMemory(t)})
	before := memoryInUse()
	big := strings.Repeat("v", 100_000)
	for range clients {
		p := dial(t, address)
		p.in = nil // not the server's memory
		p.Write(encodeCommand("ECHO", big))
		reply := make([]byte, len(big)+len("$100000\r\n\r\n"))
		if _, err := io.ReadFull(p.Conn, reply); err != nil {
			t.Fatal(err)
		}
	}
	if used := (memoryInUse() - before) / clients; used > each {
		t.Errorf("%d bytes a client, want at most %d", used, each)
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // sync.Pool gives its buffers up at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestATransactionThatWritesLooksAtSoMuchAndNoMore, as all other writers wait for it.
func TestATransactionThatWritesLooksAtSoMuchAndNoMore(t *testing.T) {
	eachWay(t, testATransactionThatWritesLooksAtSoMuchAndNoMore)
}

func testATransactionThatWritesLooksAtSoMuchAndNoMore(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	const members = 1000
	add := []string{"SADD", "s"}
	for i := range members {
		add = append(add, strconv.Itoa(i))
	}
	p.send(add, []string{"SET", "a", strings.Repeat("a", 2000)})
	p.reply()
	p.reply()
	tooMuch := fmt.Sprint("-ERR ", errTooMuchWork)
	for command, fit := range map[string]int{
		"SINTERCARD 2 s s": MaxWork / (4 * members), "SMEMBERS s": MaxWork / members, "LCS a a LEN": 256 * MaxWork / (2000 * 2000),
		"SDIFFSTORE d s s": MaxWork / (2 * members), "SORT s BY w* GET a* GET b* GET c*": MaxWork / (5 * members),
		"SRANDMEMBER s -5000":                      MaxWork / 5000,
		"SORT_RO s BY none GET # GET a* LIMIT 0 1": MaxWork / (members + 1),
	} {
		for _, n := range []int{fit / 4, fit + fit/2} {
			commands := [][]string{{"MULTI"}, {"INCR", "n"}}
			for range n {
				commands = append(commands, strings.Fields(command))
			}
			p.send(append(commands, []string{"EXEC"})...)
			for range n + 2 {
				p.reply()
			}
			got := p.reply()
			if n > fit && got != tooMuch || n < fit && !strings.HasPrefix(got, fmt.Sprintf("*%d", n+1)) {
				t.Errorf("%d times %s: %.80s", n, command, got)
			}
		}
	}
	if got := p.ask("GET n"); got != `"7"` {
		t.Errorf("of the transactions %s were executed, want 7", got)
	}
	p.expect("MULTI", "+OK")
	p.expect("KEYS *", "+QUEUED")
	p.expect("EXEC", "*1\n  *3\n    \"a\"\n    \"n\"\n    \"s\"") // one that reads has no such limit
}
