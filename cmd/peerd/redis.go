package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/peerd/peerd/peer"
)

// redisClient is a connection to a Redis server: enough of RESP2 for the demo to talk to its
// peers as any application would.
type redisClient struct {
	conn net.Conn
	in   *bufio.Reader
}

// redisTimeout is how long a reply may take.
const redisTimeout = 10 * time.Second

func dialRedis(ctx context.Context, addr string) (*redisClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &redisClient{conn, bufio.NewReader(conn)}, nil
}

func (c *redisClient) Close() error { return c.conn.Close() }

// do sends a command, its words separated by spaces, and returns the reply: one text for each of
// its parts.
func (c *redisClient) do(command string) ([]string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(redisTimeout))
	words := strings.Fields(command)
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(c.conn, out.String()); err != nil {
		return nil, err
	}
	reply, err := c.reply()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return reply, nil
}

func (c *redisClient) reply() ([]string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty reply")
	}
	switch kind, text := line[0], line[1:]; kind {
	case '+', ':':
		return []string{text}, nil
	case '-':
		return nil, errors.New(text)
	case '$':
		return c.bulk(text)
	case '*':
		n, err := strconv.Atoi(text)
		var all []string
		for ; n > 0 && err == nil; n-- {
			var part []string
			part, err = c.reply()
			all = append(all, part...)
		}
		return all, err
	}
	return nil, fmt.Errorf("not a reply: %q", line)
}

// bulk reads a value of so many bytes; -1 stands for none.
func (c *redisClient) bulk(length string) ([]string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < -1 || n > peer.MaxValue {
		return nil, fmt.Errorf("not a length: %q", length)
	}
	if n == -1 {
		return nil, nil
	}
	value := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(c.in, value); err != nil {
		return nil, err
	}
	return []string{string(value[:n])}, nil
}
