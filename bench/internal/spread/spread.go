// Package spread is one experiment of how a message spreads among members that are all in one
// process: who has seen which message when, and what crossed loopback meanwhile.
package spread

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
)

// Experiment is some members, one of which publishes messages that all are to see. It runs in a
// process and a network namespace of its own, where what is lost on loopback is chosen and counted.
type Experiment struct {
	System   string
	Members  int
	Loss     int // of a hundred packets
	Messages int
	Dir      string
	Limit    time.Duration // how long a message may take to reach all
}

// Result is what it found.
type Result struct {
	All     []float64 // ms of each message that all saw, from its publication until they did
	Missing int       // members that a message did not reach within the limit, of all messages
	Bytes   float64   // on the wire, for each message and member
}

// Payload is how long a message is, in bytes.
const Payload = 64

// Network is a system whose members are in this process.
type Network interface {
	// Publish sends the n-th message from the first member.
	Publish(ctx context.Context, n int) error
	Close()
}

// Open opens a network, which calls seen with the number of a member and that of a message. What it
// returns is to be closed, also with an error.
type Open func(ctx context.Context, dir string, members int, seen func(member, n int)) (Network, error)

// namespace makes the namespace's loopback work.
func (s Experiment) namespace(ctx context.Context) error {
	return exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run()
}

// lose has packets dropped on loopback from now on.
func (s Experiment) lose(ctx context.Context) error {
	if s.Loss == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("table inet loss {\nchain in {\ntype filter hook "+
		"input priority 0;\n"+
		"numgen random mod 100 < %d drop\n}\n}\n", s.Loss))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// Run runs the experiment, as root in the network namespace of this process, whose loopback it
// brings up.
func (s Experiment) Run(ctx context.Context, open Open) (r Result, err error) {
	v := &visible{members: s.Members, seen: map[int]map[int]time.Time{}}
	if os.Getuid() == 0 {
		if err := s.namespace(ctx); err != nil {
			return r, err
		}
	}
	net, err := open(ctx, s.Dir, s.Members, v.see)
	if net != nil {
		defer net.Close()
	}
	if err != nil {
		return r, err
	}
	// What is published first finds out whether all are connected: until it arrives, nothing
	// counts.
	for warm := -1; ; warm-- {
		if err := net.Publish(ctx, warm); err != nil {
			return r, err
		}
		if lab.Await(ctx, time.Second, "all see it", func() bool { return v.all(warm) }) == nil {
			break
		}
		if warm < -60 {
			return r, errors.New("the members do not reach each other")
		}
	}
	if err := s.lose(ctx); err != nil {
		return r, err
	}
	before := loopbackBytes()
	published := make([]time.Time, s.Messages)
	for n := range published {
		published[n] = time.Now()
		if err := net.Publish(ctx, n); err != nil {
			return r, err
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return r, err
		}
	}
	_ = lab.Await(ctx, s.Limit, "all see all", func() bool { // or else it is missing
		return v.count() == s.Messages*(s.Members-1)
	})
	r.Bytes = float64(loopbackBytes()-before) / float64(s.Messages*(s.Members-1))
	for n, at := range published {
		last, missing := v.last(n)
		r.Missing += missing
		if missing == 0 {
			r.All = append(r.All, float64(last.Sub(at))/float64(time.Millisecond))
		}
	}
	return r, ctx.Err()
}

// loopbackBytes is what has crossed this namespace's loopback.
func loopbackBytes() (n int64) {
	text, _ := os.ReadFile("/proc/self/net/dev")
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// visible notes who has seen which message when. The first member, which publishes, is not asked.
type visible struct {
	members int
	mu      sync.Mutex
	seen    map[int]map[int]time.Time // by message and member
	total   int                       // of messages that count
}

func (v *visible) see(member, n int) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if member == 0 {
		return
	}
	if v.seen[n] == nil {
		v.seen[n] = map[int]time.Time{}
	}
	if _, again := v.seen[n][member]; again {
		return
	}
	v.seen[n][member] = now
	if n >= 0 {
		v.total++
	}
}

func (v *visible) all(n int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.seen[n]) == v.members-1
}

func (v *visible) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.total
}

// last returns when the last member saw a message, and how many did not.
func (v *visible) last(n int) (at time.Time, missing int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.seen[n] {
		if t.After(at) {
			at = t
		}
	}
	return at, v.members - 1 - len(v.seen[n])
}
