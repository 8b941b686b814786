package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// command is one Redis command with its arguments.
type command []string

// client speaks RESP2 over one connection. Replies are string, int64, []any, nil or replyError.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
}

type replyError string

func (e replyError) Error() string { return string(e) }

// pipelined is how many commands are sent before their replies are read: few enough that the
// replies to all of them fit into the buffers between client and server.
const pipelined = 256

// patience bounds how long one pipeline may take: longer than a daemon is stopped by a test.
func patience() time.Duration { return 2*time.Minute + stopLength() }

func newClient(conn net.Conn) *client {
	return &client{conn, bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)}
}

// pipeline sends all commands and returns the replies that came: fewer than commands only with an
// error.
func (c *client) pipeline(commands []command) (replies []any, err error) {
	for len(commands) > 0 {
		n := min(pipelined, len(commands))
		some, err := c.exchange(commands[:n])
		replies = append(replies, some...)
		if err != nil {
			return replies, err
		}
		commands = commands[n:]
	}
	return replies, nil
}

func (c *client) exchange(commands []command) (replies []any, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience())); err != nil {
		return nil, err
	}
	for _, cmd := range commands {
		fmt.Fprintf(c.out, "*%d\r\n", len(cmd))
		for _, arg := range cmd {
			fmt.Fprintf(c.out, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	for range commands {
		reply, err := c.reply()
		if err != nil {
			return replies, err
		}
		replies = append(replies, reply)
	}
	return replies, nil
}

// must is pipeline, with the first reply that is an error as its error.
func (c *client) must(commands []command) (replies []any, err error) {
	replies, err = c.pipeline(commands)
	for i, reply := range replies {
		if refused, ok := reply.(replyError); ok && err == nil {
			err = fmt.Errorf("%.200q: %w", commands[i], refused)
		}
	}
	return replies, err
}

func (c *client) reply() (any, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("a reply begins with %q", line)
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return replyError(text), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("a reply begins with %q", line)
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		value := make([]byte, n+2)
		_, err := io.ReadFull(c.in, value)
		return string(value[:n]), err
	case kind == '*':
		array := make([]any, n)
		for i := range array {
			if array[i], err = c.reply(); err != nil {
				return nil, err
			}
		}
		return array, nil
	}
	return nil, fmt.Errorf("a reply begins with %q", line)
}

func (c *client) close() { c.conn.Close() }

// texts returns an array reply of strings.
func texts(reply any) []string {
	array, _ := reply.([]any)
	out := make([]string, len(array))
	for i, item := range array {
		out[i], _ = item.(string)
	}
	return out
}
