package resp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long before the time of go test is over a test no longer waits for what must
// happen: its failure says then what it waited for. How long that takes on a busy machine tells
// nothing.
const patience = 20 * time.Second

// tooLate returns when a test no longer waits, zero for never.
func tooLate(t testing.TB) time.Time {
	if limited, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := limited.Deadline(); ok {
			return end.Add(-patience)
		}
	}
	return time.Time{}
}

// The ways to serve a connection over plain TCP.
const (
	inTheLoop   = "in the loop"
	byGoroutine = "by a goroutine"
)

// eachWay runs a test with connections in the loop, and with a goroutine each.
func eachWay(t *testing.T, test func(t *testing.T)) {
	t.Run(inTheLoop, test)
	t.Run(byGoroutine, test)
}

// looped reports whether connections are in the loop, by the test's name.
func looped(t testing.TB) bool {
	return runtime.GOOS == "linux" && !strings.Contains(t.Name(), strings.ReplaceAll(byGoroutine, " ", "_"))
}

// startServer serves db on a loopback port until the test ends, and returns the address.
func startServer(t testing.TB, config Config) (*Server, string) {
	t.Helper()
	config.goroutines = config.goroutines || !looped(t)
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil && !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// peer is the other end of a connection.
type peer struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, address string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(tooLate(t)); err != nil {
		t.Fatal(err)
	}
	return &peer{t, conn, bufio.NewReader(conn)}
}

// newPipePeer returns the client's end of a pipe.
func newPipePeer(t testing.TB, conn net.Conn) *peer { return &peer{t, conn, bufio.NewReader(conn)} }

// send writes commands in one piece.
func (p *peer) send(commands ...[]string) {
	p.t.Helper()
	var data []byte
	for _, args := range commands {
		data = append(data, encodeCommand(args...)...)
	}
	p.sendRaw(data)
}

func (p *peer) sendRaw(data []byte) {
	p.t.Helper()
	if _, err := p.Write(data); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends a command, given as a line, and returns its reply as the scripts show it.
func (p *peer) ask(line string) string {
	p.t.Helper()
	p.send(strings.Fields(line))
	return p.reply()
}

func (p *peer) expect(line, want string) {
	p.t.Helper()
	if got := p.ask(line); got != want {
		p.t.Errorf("%s\n got %s\nwant %s", line, got, want)
	}
}

// expectText reports an error unless the next reply is that bulk string. It takes little time for
// a long one.
func (p *peer) expectText(want string) {
	p.t.Helper()
	reply := fmt.Appendf(nil, "$%d\r\n%s\r\n", len(want), want)
	got := make([]byte, len(reply))
	if n, err := io.ReadFull(p.in, got); err != nil || !bytes.Equal(got, reply) {
		p.t.Fatalf("the reply is %.40q (%v), want %.40q", got[:n], err, reply)
	}
}

// reply returns the next reply, indented by what contains it and without an end of line.
func (p *peer) reply() string {
	p.t.Helper()
	text, err := readReply(p.in, "")
	if err != nil {
		p.t.Fatalf("read a reply: %v", err)
	}
	return strings.TrimSuffix(text, "\n")
}

// expectEnd reports an error unless the server has closed the connection.
func (p *peer) expectEnd() {
	p.t.Helper()
	if text, err := readReply(p.in, ""); err == nil {
		p.t.Errorf("the connection goes on with %q", text)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Error("the connection was not closed")
	}
}

// expectEndOfServer expects the end of a connection whose command waits while the server ends. It may be told first.
func (p *peer) expectEndOfServer() {
	p.t.Helper()
	if b, err := p.in.Peek(1); err == nil && b[0] == '-' {
		if told := p.reply(); !strings.Contains(told, "shutting down") {
			p.t.Errorf("it was told %s", told)
		}
	}
	p.expectEnd()
}

// readReply reads a reply of RESP2 or RESP3 as lines that begin with its mark; bulk strings are
// quoted in place of it.
func readReply(in *bufio.Reader, indent string) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") || len(line) < 3 {
		return "", fmt.Errorf("no reply: %q", line)
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '+', '-', ':', '_', '#', ',':
		return indent + line + "\n", nil
	case '$', '=':
		return readBulk(in, indent, line)
	case '*', '~', '%', '>':
		return readAggregate(in, indent, line)
	}
	return "", fmt.Errorf("a reply that begins with %q", line)
}

func readBulk(in *bufio.Reader, indent, line string) (string, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 {
		return indent + line + "\n", err
	}
	data := make([]byte, n+2)
	if _, err := io.ReadFull(in, data); err != nil {
		return "", err
	}
	if string(data[n:]) != "\r\n" {
		return "", fmt.Errorf("a bulk string that ends with %q", data[n:])
	}
	return indent + strconv.Quote(string(data[:n])) + "\n", nil
}

func readAggregate(in *bufio.Reader, indent, line string) (string, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	if line[0] == '%' {
		n *= 2
	}
	var text strings.Builder
	text.WriteString(indent + line + "\n")
	for range n {
		element, err := readReply(in, indent+"  ")
		if err != nil {
			return "", err
		}
		text.WriteString(element)
	}
	return text.String(), nil
}
