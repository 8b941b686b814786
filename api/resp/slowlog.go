package resp

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// slowCommand is one entry of the slow log.
type slowCommand struct {
	id         int64
	at         time.Time
	took       time.Duration
	command    string
	key        []byte // clipped; nil if the command has none
	client     string // address
	clientName string
	together   int // commands that were executed at once with it
}

// maxSlowKey is how many bytes of a key the slow log shows. Values are not shown: they may be
// secrets.
const maxSlowKey = 128

// slowLog remembers the latest slow commands.
type slowLog struct {
	mu      sync.Mutex
	total   int64
	entries [MaxSlowLog]slowCommand // the entry with number id at id % MaxSlowLog
	first   int64                   // the oldest that was not reset

	second     int64 // that lines are counted for
	lines      int   // logged in it
	suppressed int   // since the last line
}

// add remembers an entry, and returns whether it is to be logged, after how many that were not.
func (l *slowLog) add(e slowCommand) (logged bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.id = l.total
	l.entries[e.id%MaxSlowLog] = e
	l.total++
	l.first = max(l.first, l.total-MaxSlowLog)
	if second := e.at.Unix(); second != l.second {
		l.second, l.lines = second, 0
	}
	if l.lines == MaxSlowLines {
		l.suppressed++
		return false, 0
	}
	l.lines++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// latest returns up to n entries, the newest first; a negative n asks for all.
func (l *slowLog) latest(n int) (entries []slowCommand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := l.total - 1; id >= l.first && len(entries) != n; id-- {
		entries = append(entries, l.entries[id%MaxSlowLog])
	}
	return entries
}

func (l *slowLog) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *slowLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.total - l.first)
}

func (l *slowLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = l.total
	clear(l.entries[:])
}

// slow logs what took long. Of requests that were executed together it names one: the first that
// needed most of the database.
func (b *batch) slow(took time.Duration) {
	slowest := -1
	for i := b.from; i < b.next; i++ {
		r := &b.requests[i]
		if r.command != nil && (slowest < 0 || r.access > b.requests[slowest].access) {
			slowest = i
		}
	}
	if slowest < 0 {
		return
	}
	r, c := &b.requests[slowest], b.client
	e := slowCommand{
		at: time.Now(), took: took, command: r.command.name, client: c.address.String(),
		clientName: c.name.get(), together: b.next - b.from,
	}
	if at := r.command.keys.first; at > 0 {
		key := b.args[r.args.from:r.args.to][at]
		e.key = append([]byte{}, key[:min(len(key), maxSlowKey)]...)
	}
	logged, suppressed := c.server.slow.add(e)
	if !logged {
		return
	}
	c.server.config.Logger.LogAttrs(context.Background(), slog.LevelWarn, "slow command",
		slog.String("command", e.command), slog.String("key", string(e.key)),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("client", e.client),
		slog.Int64("client_id", c.id), slog.String("client_name", e.clientName),
		slog.Int("executed_together", e.together), slog.Int("suppressed", suppressed))
}

func runSlowLogLen(c *call) error {
	c.out.integer(int64(c.server.slow.len()))
	return nil
}

func runSlowLogReset(c *call) error {
	c.server.slow.reset()
	c.out.status("OK")
	return nil
}

// runSlowLogGet answers as Redis does, but for the arguments: the command and its first key.
func runSlowLogGet(c *call) error {
	n := int64(10)
	switch len(c.args) {
	case 2:
	case 3:
		var err error
		if n, err = c.integer(2); err != nil || n < -1 {
			return replyError("ERR count should be greater than or equal to -1")
		}
	default:
		return wrongUse(c)
	}
	entries := c.server.slow.latest(int(n))
	c.out.array(len(entries))
	for _, e := range entries {
		c.out.array(6)
		c.out.integer(e.id)
		c.out.integer(e.at.Unix())
		c.out.integer(e.took.Microseconds())
		if e.key == nil {
			c.out.array(1)
			c.out.text(e.command)
		} else {
			c.out.array(2)
			c.out.text(e.command)
			c.out.bulk(e.key)
		}
		c.out.text(e.client)
		c.out.text(e.clientName)
	}
	return nil
}

// slowerThan returns a limit of the slow log in Redis's terms: microseconds, -1 without one.
func slowerThan(limit time.Duration) int64 {
	if limit == 0 {
		return -1
	}
	return limit.Microseconds()
}
