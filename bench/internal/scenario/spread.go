package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// spreading is one experiment: some members, one of which publishes messages that all are to see.
// It runs in a process and a network namespace of its own, where what is lost on loopback is chosen
// and counted.
type spreading struct {
	System   string
	Members  int
	Loss     int // of a hundred packets
	Messages int
	Dir      string
	Limit    time.Duration // how long a message may take to reach all
}

// spreadResult is what it found, in ms.
type spreadResult struct {
	All     []float64 // of each message, from its publication until all saw it; those that not all saw are left out
	Missing int       // members that a message did not reach within the limit, of all messages
	Bytes   float64   // on the wire, for each message and member
}

const spreadPayload = 64

// network is a system whose members are in this process.
type network interface {
	// publish sends a message from the first member.
	publish(ctx context.Context, n int) error
	close()
}

// networks open a network of some members, which call seen with their number and the message's.
var networks = map[string]func(ctx context.Context, dir string, members int, seen func(member, n int)) (network, error){
	"peerd":      openPeerdNetwork,
	"memberlist": openMemberlist,
	"gossipsub":  openGossipsub,
	"nats":       openNATS,
}

func spread(ctx context.Context, b *bench) error {
	b.System("peerd", "this tree", "peers in memory, fast membership, QUIC", "none")
	b.System("memberlist", version("github.com/hashicorp/memberlist"), "DefaultLocalConfig, broadcast queue, UDP", "none")
	b.System("gossipsub", version("github.com/libp2p/go-libp2p-pubsub"), "defaults, unsigned, over TCP", "none")
	b.System("nats", version("github.com/nats-io/nats-server/v2"), "a cluster, one server a member, core NATS, TCP", "none")
	systems := []string{"peerd", "memberlist", "gossipsub", "nats"}
	losses := size(b, []int{0, 20}, []int{0, 10, 30})
	if err := b.mayLose(ctx); err != nil {
		b.Skip("lost packets", err)
		losses = losses[:1]
	}
	members := size(b, []int{3, 8}, []int{3, 10, 30})
	messages := size(b, 10, 200)
	b.Setting("%d messages of %d bytes, one each 50 ms, from the first member; all members are in one process, in a "+
		"network namespace of its own, where packets are dropped at random", messages, spreadPayload)
	b.Note("peerd stores what it gets, in causal order, and repairs what is missed later; memberlist's broadcasts and " +
		"gossipsub are best effort, core NATS at most once, to those who are connected.")
	b.Note("Bytes are all that crosses the namespace's loopback meanwhile: acknowledgements and membership too.")
	b.Note("The epidemic's prediction is for memberlist's parameters: each round every member that knows of a message " +
		"sends it to so many others, chosen at random, and each packet is lost with the probability given.")
	steps := float64(len(members) * len(losses))
	for i, n := range members {
		for j, loss := range losses {
			what := fmt.Sprintf("%d members, %d%% lost", n, loss)
			from := float64(i*len(losses)+j) / steps
			err := b.inTurn(from, from+1/steps, what, len(systems), func(_, s int) error {
				r, err := b.spreadOnce(ctx, spreading{
					systems[s], n, loss, messages, b.Path(systems[s]), size(b, 2*time.Second, 20*time.Second)})
				if err != nil {
					return fmt.Errorf("%s, %s: %w", systems[s], what, err)
				}
				b.recordSpread(what, systems[s], n*messages-messages, r)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	b.spreadCharts(members, losses, systems)
	return nil
}

// mayLose reports why packets cannot be dropped here.
func (b *bench) mayLose(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("needs root, for a network namespace")
	}
	return b.Debian(ctx, "nft", "nftables")
}

func (b *bench) recordSpread(what, system string, deliveries int, r spreadResult) {
	var all measure.Latencies
	for _, ms := range r.All {
		all.Observe(time.Duration(ms * float64(time.Millisecond)))
	}
	b.Less(what+": until all have it, median", "ms", system, all.Milliseconds(0.5))
	b.Less(what+": until all have it, the slowest", "ms", system, all.Milliseconds(1))
	b.Less(what+": not reached", "of 1,000 deliveries", system,
		1000*float64(r.Missing)/float64(deliveries))
	b.Less(what+": on the wire", "bytes a message and member", system, r.Bytes)
}

// spreadOnce runs an experiment in a process of its own.
func (b *bench) spreadOnce(ctx context.Context, s spreading) (r spreadResult, err error) {
	order, err := json.Marshal(s)
	if err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	var out, problem strings.Builder
	cmd := exec.CommandContext(ctx, self, "child", "spread", string(order))
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%w: %s", err, problem.String())
	}
	return r, json.Unmarshal([]byte(out.String()), &r)
}

// Child is a process of the harness' own that a scenario has started.
func Child(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 || args[0] != "spread" {
		return fmt.Errorf("no child does %q", args)
	}
	var s spreading
	if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := s.namespace(ctx); err != nil {
			return err
		}
	}
	r, err := s.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// namespace makes the namespace's loopback work.
func (s spreading) namespace(ctx context.Context) error {
	return exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run()
}

// lose has packets dropped on loopback from now on.
func (s spreading) lose(ctx context.Context) error {
	if s.Loss == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("table inet loss {\nchain in {\ntype filter hook input priority 0;\n"+
		"numgen random mod 100 < %d drop\n}\n}\n", s.Loss))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

func (s spreading) run(ctx context.Context) (r spreadResult, err error) {
	v := &visible{members: s.Members, seen: map[int]map[int]time.Time{}}
	open, ok := networks[s.System]
	if !ok {
		return r, fmt.Errorf("no network is named %q", s.System)
	}
	net, err := open(ctx, s.Dir, s.Members, v.see)
	if net != nil {
		defer net.close()
	}
	if err != nil {
		return r, err
	}
	// What is published first finds out whether all are connected: until it arrives, nothing counts.
	for warm := -1; ; warm-- {
		if err := net.publish(ctx, warm); err != nil {
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
		if err := net.publish(ctx, n); err != nil {
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

// epidemic returns in how many rounds a rumour reaches all but a part of n members, on average:
// each that knows it tells so many others a round, chosen at random, and some of that is lost. It is
// the recurrence of Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (PODC
// 1987), for pushing; with the part at 1/2n less than half a member is missed.
func epidemic(n, fanout int, loss float64) (rounds int) {
	ignorant := float64(n - 1)
	for ; ignorant > 0.5 && rounds < 1000; rounds++ {
		told := float64(n) - ignorant
		ignorant *= math.Pow(1-1/float64(n-1), float64(fanout)*(1-loss)*told)
	}
	return rounds
}

func (b *bench) spreadCharts(members, losses []int, systems []string) {
	for _, loss := range losses {
		chart := report.Chart{Name: fmt.Sprint("loss-", loss), Title: fmt.Sprintf(
			"From a write until all have it, %d%% of packets lost", loss),
			XLabel: "members", YLabel: "ms, median", LogX: true, LogY: true}
		for _, s := range systems {
			line := report.Line{System: s}
			for _, n := range members {
				what := fmt.Sprintf("%d members, %d%% lost: until all have it, median", n, loss)
				if m := b.Spread(what, s); m.Value > 0 {
					line.Point(float64(n), m)
				}
			}
			chart.Lines = append(chart.Lines, line)
		}
		model := report.Line{System: "epidemic (memberlist)", Theory: true}
		fanout, interval := memberlistGossip()
		for _, n := range members {
			rounds := float64(epidemic(n, min(fanout, n-1), float64(loss)/100)) - 0.5 // the first comes after half a round
			model.X = append(model.X, float64(n))
			model.Y = append(model.Y, rounds*float64(interval)/float64(time.Millisecond))
		}
		chart.Lines = append(chart.Lines, model)
		b.Charts = append(b.Charts, chart)
	}
}
