package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// load writes transactions to one peer from several connections until the peer dies, and remembers
// which were acknowledged.
type load struct {
	next, acknowledged atomic.Int64
	running            sync.WaitGroup

	mu      sync.Mutex
	done    []int64 // acknowledged
	unknown []int64 // sent and not acknowledged: they may have happened
}

const (
	loadClients   = 4
	loadPipelined = 16 // transactions
)

// transaction returns what transaction n does: three things that are seen together or not at all.
func transaction(n int64) []command {
	return []command{
		{"SET", loadKey(n), strconv.FormatInt(n, 10)},
		{"SADD", "load:all", strconv.FormatInt(n, 10)},
		{"INCR", "load:count"},
	}
}

func loadKey(n int64) string { return fmt.Sprintf("load:%d", n) }

// startLoad begins to write to a peer.
func startLoad(d *daemon) *load {
	l := &load{}
	for range loadClients {
		client, err := d.connect()
		if err != nil {
			d.t.Fatal(err)
		}
		l.running.Go(func() {
			defer client.close()
			for l.write(client) {
			}
		})
	}
	return l
}

// write sends some transactions in one pipeline, and returns false when the peer is gone.
func (l *load) write(c *client) bool {
	var commands []command
	var sent []int64
	for range loadPipelined {
		n := l.next.Add(1)
		sent = append(sent, n)
		commands = append(commands, command{"MULTI"})
		commands = append(commands, transaction(n)...)
		commands = append(commands, command{"EXEC"})
	}
	replies, err := c.pipeline(commands)
	each := len(commands) / loadPipelined
	whole := len(replies) / each // transactions with all their replies
	for i := range whole {
		if _, ok := replies[(i+1)*each-1].([]any); !ok {
			whole = i // refused: treat it, and what follows, as not acknowledged
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = append(l.done, sent[:whole]...)
	l.unknown = append(l.unknown, sent[whole:]...)
	l.acknowledged.Add(int64(whole))
	return err == nil && whole == len(sent)
}

// adopt puts the load into the view: what was acknowledged, and of the rest what is found on a
// peer, which must be there whole.
func (c *cluster) adopt(l *load, v view, found *daemon) {
	c.t.Helper()
	for _, n := range l.done {
		for _, cmd := range transaction(n) {
			c.apply(v, cmd)
		}
	}
	happened := 0
	for _, n := range l.unknown {
		replies := found.run(command{"EXISTS", loadKey(n)},
			command{"SISMEMBER", "load:all", strconv.FormatInt(n, 10)})
		switch {
		case replies[0] != replies[1]:
			c.t.Errorf("transaction %d is there in part: %v", n, replies)
		case replies[0] == int64(1):
			happened++
			for _, cmd := range transaction(n) {
				c.apply(v, cmd)
			}
		}
	}
	c.note("%d transactions acknowledged; of %d not acknowledged, %d happened",
		len(l.done), len(l.unknown), happened)
}
