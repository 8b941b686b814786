package lab

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
)

// Client speaks RESP over one connection.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	stop func() bool
}

// Dial connects. The connection is closed when ctx ends.
func Dial(ctx context.Context, addr string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return NewClient(ctx, conn), nil
}

// NewClient speaks over a connection, which is closed when ctx ends.
func NewClient(ctx context.Context, conn net.Conn) *Client {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &Client{conn, bufio.NewReaderSize(conn, 64<<10), nil, stop}
}

// Close ends the connection.
func (c *Client) Close() {
	c.stop()
	c.conn.Close()
}

// Noise returns random letters, so many bytes of them, a multiple of four: they can be packed into three quarters at best.
func Noise(bytes int) string {
	raw := make([]byte, bytes/4*3)
	for i := range raw {
		raw[i] = byte(rand.Uint32())
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// AppendCommand appends a command as it is sent.
func AppendCommand(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, arg := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(arg)), 10), "\r\n"...)
		b = append(append(b, arg...), "\r\n"...)
	}
	return b
}

// Reply reads a reply and returns it as text, of an array the texts of its elements, a line each.
// One that is an error is an error.
func (c *Client) Reply() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if len(line) < 3 {
		return "", fmt.Errorf("a reply begins with %q", line)
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+', ':':
		return text, nil
	case '-':
		return "", fmt.Errorf("the reply is %q", text)
	case '*', '%', '~':
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			return "", err
		}
		if line[0] == '%' {
			n *= 2
		}
		elements := make([]string, n)
		for i := range elements {
			if elements[i], err = c.Reply(); err != nil {
				return "", err
			}
		}
		return strings.Join(elements, "\n"), nil
	case '_':
		return "", nil
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return "", err
		}
		value := make([]byte, n+2)
		_, err = io.ReadFull(c.in, value)
		return string(value[:n]), err
	}
	return "", fmt.Errorf("a reply begins with %q", line)
}

// Do sends a command and returns its reply.
func (c *Client) Do(command ...string) (string, error) {
	c.out = AppendCommand(c.out[:0], command...)
	if _, err := c.conn.Write(c.out); err != nil {
		return "", err
	}
	return c.Reply()
}

// DoBefore is Do with a time at which it is given up. The connection is of no use then.
func (c *Client) DoBefore(deadline time.Time, command ...string) (string, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	return c.Do(command...)
}

// Ask sends a command over a connection of its own and returns its reply.
func Ask(ctx context.Context, addr string, command ...string) (string, error) {
	c, err := Dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.DoBefore(time.Now().Add(Patience), command...)
}

// Load is commands, numbered from 0, that clients send as fast as they are answered.
type Load struct {
	Clients  int
	Pipeline int // commands that a client sends before it reads their replies
	Commands int
	Command  func(b []byte, i int) []byte // appends the i-th
}

// Outcome is how a load went.
type Outcome struct {
	Took    time.Duration
	Seconds []int64           // commands that were answered in each second
	Latency measure.Latencies // of each pipeline
}

// maxSeconds is how long a load may take: what is answered later is counted in the last second.
const maxSeconds = 4 * 3600

// Run sends the load.
func (w Load) Run(ctx context.Context, addr string) (Outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var next atomic.Int64
	answered := make([]atomic.Int64, maxSeconds)
	latencies := make([]measure.Latencies, w.Clients)
	began := time.Now()
	for i := range w.Clients {
		all.Go(func() {
			done := func(n int, took time.Duration) {
				latencies[i].Observe(took)
				answered[min(int(time.Since(began)/time.Second), maxSeconds-1)].Add(int64(n))
			}
			if err := w.serve(ctx, addr, &next, done); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Took: time.Since(began)}
	for i := range int(o.Took/time.Second) + 1 {
		o.Seconds = append(o.Seconds, answered[i].Load())
	}
	for i := range latencies {
		o.Latency.Add(&latencies[i])
	}
	return o, nil
}

// serve is one client: it sends pipelines until no commands are left.
func (w Load) serve(ctx context.Context, addr string, next *atomic.Int64,
	done func(n int, took time.Duration)) error {
	c, err := Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	var buffer []byte
	for {
		end := int(next.Add(int64(w.Pipeline)))
		first := end - w.Pipeline
		end = min(end, w.Commands)
		if first >= end {
			return nil
		}
		buffer = buffer[:0]
		for i := first; i < end; i++ {
			buffer = w.Command(buffer, i)
		}
		sent := time.Now()
		if _, err := c.conn.Write(buffer); err != nil {
			return err
		}
		for range end - first {
			if _, err := c.Reply(); err != nil {
				return err
			}
		}
		done(end-first, time.Since(sent))
	}
}

// Stream sends commands in one pipeline, however long, and reads their replies meanwhile.
func Stream(ctx context.Context, addr string, n int, command func(b []byte, i int) []byte) error {
	c, err := Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		var buffer []byte
		for i := range n {
			buffer = command(buffer, i)
			if len(buffer) < 64<<10 && i < n-1 {
				continue
			}
			if _, err := c.conn.Write(buffer); err != nil {
				sent <- err
				return
			}
			buffer = buffer[:0]
		}
		sent <- nil
	}()
	for range n {
		if _, err = c.Reply(); err != nil {
			c.conn.Close() // or the writer may wait for ever
			break
		}
	}
	if unsent := <-sent; err == nil {
		err = unsent
	}
	return err
}
