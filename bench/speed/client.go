package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client speaks RESP over one connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	stop func() bool
}

// dial connects. The connection is closed when ctx ends.
func dial(ctx context.Context, addr string) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &client{conn, bufio.NewReaderSize(conn, 64<<10), stop}, nil
}

func (c *client) close() {
	c.stop()
	c.conn.Close()
}

// appendCommand appends a command as it is sent.
func appendCommand(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, arg := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(arg)), 10), "\r\n"...)
		b = append(append(b, arg...), "\r\n"...)
	}
	return b
}

// reply reads a reply that is no array, and returns it as text. One that is an error is an error.
func (c *client) reply() (string, error) {
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

// ask sends a command over a connection of its own and returns its reply.
func ask(ctx context.Context, addr string, command ...string) (string, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer c.close()
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write(appendCommand(nil, command...)); err != nil {
		return "", err
	}
	return c.reply()
}

// load is commands, numbered from 0, that clients send as fast as they are answered.
type load struct {
	clients  int
	pipeline int // commands that a client sends before it reads their replies
	commands int
	command  func(b []byte, i int) []byte // appends the i-th
}

// outcome is how a load went.
type outcome struct {
	took    time.Duration
	seconds []int64   // commands that were answered in each second
	latency histogram // of each pipeline
}

// maxSeconds is how long a load may take: what is answered later is counted in the last second.
const maxSeconds = 4 * 3600

// run sends the load.
func (w load) run(ctx context.Context, addr string) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var next atomic.Int64
	answered := make([]atomic.Int64, maxSeconds)
	latencies := make([]histogram, w.clients)
	began := time.Now()
	for i := range w.clients {
		all.Go(func() {
			done := func(n int, took time.Duration) {
				latencies[i].observe(took)
				answered[min(int(time.Since(began)/time.Second), maxSeconds-1)].Add(int64(n))
			}
			if err := w.serve(ctx, addr, &next, done); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return outcome{}, err
	}
	o := outcome{took: time.Since(began)}
	for i := range int(o.took/time.Second) + 1 {
		o.seconds = append(o.seconds, answered[i].Load())
	}
	for i := range latencies {
		o.latency.add(&latencies[i])
	}
	return o, nil
}

// serve is one client: it sends pipelines until no commands are left.
func (w load) serve(ctx context.Context, addr string, next *atomic.Int64,
	done func(n int, took time.Duration)) error {
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	var buffer []byte
	for {
		end := int(next.Add(int64(w.pipeline)))
		first := end - w.pipeline
		end = min(end, w.commands)
		if first >= end {
			return nil
		}
		buffer = buffer[:0]
		for i := first; i < end; i++ {
			buffer = w.command(buffer, i)
		}
		sent := time.Now()
		if _, err := c.conn.Write(buffer); err != nil {
			return err
		}
		for range end - first {
			if _, err := c.reply(); err != nil {
				return err
			}
		}
		done(end-first, time.Since(sent))
	}
}

// stream sends commands in one pipeline, however long, and reads their replies meanwhile.
func stream(ctx context.Context, addr string, n int, command func(b []byte, i int) []byte) error {
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
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
		if _, err = c.reply(); err != nil {
			c.conn.Close() // or the writer may wait for ever
			break
		}
	}
	if unsent := <-sent; err == nil {
		err = unsent
	}
	return err
}

// probe sends one command after the other, so many a second, until ctx ends, and returns how long
// they took from the moment they were due: a server that stands still is seen by all that waited
// for it.
func probe(ctx context.Context, addr string, each time.Duration,
	command func(b []byte, i int) []byte) (h histogram, err error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return h, err
	}
	defer c.close()
	began := time.Now()
	for i := 0; ; i++ {
		due := began.Add(time.Duration(i) * each)
		if wait := time.Until(due); wait > 0 && pause(ctx, wait) != nil {
			return h, nil
		}
		_, err := c.conn.Write(command(nil, i))
		if err == nil {
			_, err = c.reply()
		}
		if err != nil {
			if ctx.Err() != nil {
				return h, nil
			}
			return h, err
		}
		h.observe(time.Since(due))
	}
}
