package resp

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

var (
	arbitrary     = flag.Int("arbitrary", 60, "calls of each command by TestEveryCommandTakesArbitraryArguments")
	arbitrarySeed = flag.Uint64("arbitrary.seed", 0, "what TestEveryCommandTakesArbitraryArguments draws from; 0 draws one")
)

// logged are the errors that a server has logged, as it does when a command panics.
type logged struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// TestEveryCommandTakesArbitraryArguments calls every command, alone, in MULTI and in scripts, with
// too few and too many arguments, numbers of any size, bytes and words that mean something
// elsewhere: whatever it is, none panics, and the client is answered, and served on.
func TestEveryCommandTakesArbitraryArguments(t *testing.T) {
	eachWay(t, testEveryCommandTakesArbitraryArguments)
}

func testEveryCommandTakesArbitraryArguments(t *testing.T) {
	seed := *arbitrarySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	var errors logged
	logger := slog.New(slog.NewTextHandler(&errors, &slog.HandlerOptions{Level: slog.LevelError}))
	server, address := startServer(t, Config{Peer: openOffline(t, embedded.Config{Memory: true}), Logger: logger})
	s := &stranger{differing: differing{rand: rand.New(rand.NewPCG(seed, 5))}, server: server, helper: dial(t, address), client: dial(t, address)}
	for round := range *arbitrary {
		for _, c := range allCommands() {
			if c.name != "quit" { // which ends the connection
				s.call(t, harmless(c, s.arguments(c)))
			}
			if t.Failed() || errors.String() != "" {
				t.Fatalf("seed %d, round %d: %s%.400q\nreplay it with -run %s -arbitrary.seed %d", seed, round, errors.String(),
					s.past[max(0, len(s.past)-10):], t.Name(), seed)
			}
		}
		s.helper.ask("FLUSHALL")
	}
}

// harmless returns the arguments of a call such that it closes nobody's connection, and leaves
// replies on.
func harmless(c *command, args []string) []string {
	switch c.name {
	case "client|kill":
		const nobody = "9007199254740991"
		args = append([]string{"client", "kill", "ID", nobody}, args[min(2, len(args)):]...)
	case "client|reply":
		for i := 2; i < len(args); i++ {
			if slices.Contains([]string{"OFF", "SKIP"}, strings.ToUpper(args[i])) {
				args[i] = "ON"
			}
		}
	}
	return args
}

// stranger is a client that knows nothing of commands but their names.
type stranger struct {
	differing
	server         *Server
	client, helper *peer
}

// call has the client send a command, and a RESET behind it that is to be answered whatever came
// before. What waits does so no longer than until the helper unblocks it.
func (s *stranger) call(t *testing.T, args []string) {
	commands := [][]string{args}
	switch s.rand.IntN(6) {
	case 0:
		commands = [][]string{{"MULTI"}, args, {"EXEC"}}
	case 1:
		commands = [][]string{append([]string{s.pick("EVAL", "EVAL_RO"), scriptsAround[s.rand.IntN(len(scriptsAround))], "0"}, args...)}
	case 2:
		commands = [][]string{{"HELLO", "3"}, args}
	}
	s.past = append(s.past, commands...)
	s.client.send([]string{"CLIENT", "ID"})
	id, err := readValue(s.client.in)
	if err != nil {
		t.Fatal(err)
	}
	s.client.send(append(commands, []string{"RESET"})...)
	answered := make(chan error, 1)
	go func() {
		for {
			reply, err := readValue(s.client.in)
			if err != nil || reply.head == "+RESET" {
				answered <- err
				return
			}
		}
	}()
	waits := time.NewTicker(2 * time.Millisecond)
	defer waits.Stop()
	for late := time.After(30 * time.Second); ; {
		select {
		case err := <-answered:
			if err == io.EOF {
				err = fmt.Errorf("the connection was closed")
			}
			if err != nil {
				t.Error(err)
			}
			return
		case <-waits.C:
			s.helper.ask("CLIENT UNBLOCK " + id.head[1:])
		case <-late:
			t.Error("there is no answer")
			return
		}
	}
}

// arguments returns a call of a command: a form of it of which something is changed, or anything.
func (s *stranger) arguments(c *command) []string {
	args := strings.Split(c.name, "|")
	if _, ok := calls[args[0]]; ok && len(args) == 1 && s.rand.IntN(2) == 0 {
		args = s.differing.call(args[0])
		for range 1 + s.rand.IntN(2) {
			if at := 1 + s.rand.IntN(len(args)); at < len(args) {
				args[at] = s.anything()
			}
		}
		return args[:len(args)-s.rand.IntN(2)]
	}
	n := max(c.arity, -c.arity)
	switch {
	case c.arity < 0:
		n += s.rand.IntN(6)
	case s.rand.IntN(5) == 0:
		n += 1 - 2*s.rand.IntN(2)
	}
	for len(args) < n {
		switch s.rand.IntN(4) {
		case 0:
			args = append(args, s.key(c.group))
		case 1:
			if words := strings.Fields(options[args[0]] + " " + calls[args[0]]); len(words) > 0 {
				args = append(args, words[s.rand.IntN(len(words))])
			}
		default:
			args = append(args, s.anything())
		}
	}
	return args
}

// anything returns an argument.
func (s *stranger) anything() string {
	switch s.rand.IntN(8) {
	case 0:
		return s.pick("9223372036854775807", "-9223372036854775808", "18446744073709551616", "1e308", "-1e400", "5e-324", "nan",
			"-inf", "2147483648", "4294967296", "-1", "0", "100000000", "536870912", "0x7fffffff", "1e18")
	case 1:
		data := make([]byte, s.rand.IntN(300))
		for i := range data {
			data[i] = byte(s.rand.Uint32())
		}
		return string(data)
	case 2:
		return strings.Repeat(s.pick("a", "\x00", "9", "*", "[", "%", "("), 1<<s.rand.IntN(17))
	case 3:
		return s.pick("x0", "x1", "s0", "h0", "l0", "z0", "g0", "k0", "p0")
	case 4:
		return s.pick("WITHSCORES", "LIMIT", "BY", "GET", "STORE", "COUNT", "MATCH", "BLOCK", "STREAMS", "GROUP", "AGGREGATE", "WEIGHTS",
			"OVERFLOW", "EX", "FIELDS", "~", "=", "$", ">", "(1", "[a", "+", "-")
	}
	return s.argument()
}
