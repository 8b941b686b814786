package scenario

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/peerd/peerd/bench/internal/report"
)

// listening is a server that answers every command, and keeps them all.
type listening struct {
	mu  sync.Mutex
	all [][]string
}

func (l *listening) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		var words, length int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		command := make([]string, words)
		for i := range command {
			if _, err := fmt.Fscanf(in, "$%d\r\n", &length); err != nil {
				return
			}
			word := make([]byte, length+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			command[i] = string(word[:length])
		}
		l.mu.Lock()
		l.all = append(l.all, command)
		l.mu.Unlock()
		fmt.Fprint(c, "+OK\r\n")
	}
}

func listen(t *testing.T) (*listening, string) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { at.Close() })
	l := &listening{}
	go func() {
		for {
			c, err := at.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
	return l, at.Addr().String()
}

// What is not in keys and values is only known if it is known what they have.
func TestThePayloadIsWhatTheCommandsLeaveThere(t *testing.T) {
	b := &bench{Scenario: &report.Scenario{}, quick: true}
	for _, d := range dimensions(b) {
		l, addr := listen(t)
		g := &grown{addr: func() string { return addr }}
		g.stop = func(context.Context) error { return nil }
		g.open = g.stop
		const n = 20
		if err := d.grow(t.Context(), b, g, 0, n); err != nil {
			t.Fatal(err)
		}
		there := map[string]int64{}
		sum := int64(0)
		for i, c := range l.all {
			switch c[0] {
			case "SET":
				there[c[1]] = int64(len(c[1]) + len(c[2]))
			case "DEL":
				delete(there, c[1])
			case "SADD", "RPUSH":
				there[fmt.Sprint(i)] = int64(len(c[2]))
			}
		}
		for _, bytes := range there {
			sum += bytes
		}
		if got := d.payload(n); got != sum {
			t.Errorf("of %d %s the payload is said to be %d, and is %d", n, d.name, got, sum)
		}
	}
	if got := beyond(1000, 600, 20); got != 20 {
		t.Errorf("of 1,000 bytes with 600 of payload in 20 things, %v are said to be beyond it for each", got)
	}
}

// What is measured on what grew is the same as on the small one, but for the key, and leaves neither
// larger.
func TestTheSameIsMeasuredOnWhatGrewAndOnASmallOne(t *testing.T) {
	for _, d := range dimensions(&bench{Scenario: &report.Scenario{}, quick: true}) {
		var commands []string
		for i := range 4 {
			large, small := d.work.large(1000, i), d.work.small(i)
			commands = append(commands, large[0])
			if large[0] != small[0] || len(large) != len(small) || large[1] == small[1] || !slices.Equal(large[2:], small[2:]) {
				t.Errorf("%s: %q on what grew and %q on the small one", d.name, large, small)
			}
		}
		first, next, both := strings.Cut(d.work.name, " and ")
		if !both {
			next = first
		}
		if !slices.Equal(commands, []string{first, next, first, next}) {
			t.Errorf("%s is %q", d.work.name, commands)
		}
	}
}
