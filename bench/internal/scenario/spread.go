package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/bench/internal/spread"
)

func spreading(ctx context.Context, b *bench) error {
	b.System("peerd", "this tree", "peers in memory, fast membership, QUIC", "none")
	b.System("memberlist", version("github.com/hashicorp/memberlist"), "DefaultLocalConfig, "+
		"broadcast queue, UDP", "none")
	b.System("gossipsub", b.moduleVersion(ctx, "github.com/libp2p/go-libp2p-pubsub"), "defaults, "+
		"unsigned, "+
		"over TCP", "none")
	b.System("nats", b.moduleVersion(ctx, "github.com/nats-io/nats-server/v2"), "a cluster, one "+
		"server a "+
		"member, core NATS, TCP", "none")
	systems := []string{"peerd", "memberlist", "gossipsub", "nats"}
	losses := size(b, []int{0, 20}, []int{0, 10, 30})
	if err := b.mayLose(ctx); err != nil {
		b.Skip("lost packets", err)
		losses = losses[:1]
	}
	members := size(b, []int{3, 8}, []int{3, 10, 30})
	messages := size(b, 10, 200)
	b.Setting("%d messages of %d bytes, one each 50 ms, from the first member; all members are "+
		"in one process, in a "+
		"network namespace of its own, where packets are dropped at random", messages, spread.Payload)
	b.Note("peerd stores what it gets, in causal order, and repairs what is missed later; " +
		"memberlist's broadcasts and " +
		"gossipsub are best effort, core NATS at most once, to those who are connected.")
	b.Note("A message that did not reach all counts as if it had taken as long as was waited for it.")
	b.Note("Bytes are all that crosses the namespace's loopback meanwhile: acknowledgements and " +
		"membership too.")
	b.Note("The epidemic's prediction is for memberlist's parameters: each round every member " +
		"that knows of a message " +
		"sends it to so many others, chosen at random, and each packet is lost with the " +
		"probability given.")
	spreader := filepath.Join(b.Dir, "spreader")
	harness := filepath.Join(b.Repo, "bench")
	if _, err := b.ToolIn(ctx, harness, "go", "build", "-o", spreader, "./spreader"); err != nil {
		return err
	}
	steps := float64(len(members) * len(losses))
	for i, n := range members {
		for j, loss := range losses {
			what := fmt.Sprintf("%d members, %d%% lost", n, loss)
			from := float64(i*len(losses)+j) / steps
			err := b.inTurn(from, from+1/steps, what, len(systems), func(_, s int) error {
				one := spread.Experiment{System: systems[s], Members: n, Loss: loss, Messages: messages,
					Dir: b.Path(systems[s]), Limit: size(b, 2*time.Second, 20*time.Second)}
				r, err := b.spreadOnce(ctx, spreader, one)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", systems[s], what, err)
				}
				b.recordSpread(what, one, r)
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

func (b *bench) recordSpread(what string, s spread.Experiment, r spread.Result) {
	system, deliveries := s.System, s.Messages*(s.Members-1)
	var all measure.Latencies
	for _, ms := range r.All {
		all.Observe(time.Duration(ms * float64(time.Millisecond)))
	}
	for all.Count() < int64(s.Messages) {
		all.Observe(s.Limit) // what did not reach all took longer than that
	}
	b.Less(what+": until all have it, median", "ms", system, all.Milliseconds(0.5))
	b.Less(what+": until all have it, the slowest", "ms", system, all.Milliseconds(1))
	b.Less(what+": not reached", "of 1,000 deliveries", system,
		1000*float64(r.Missing)/float64(deliveries))
	b.Less(what+": on the wire", "bytes a message and member", system, r.Bytes)
}

// spreadOnce runs an experiment in a process of its own.
func (b *bench) spreadOnce(ctx context.Context, spreader string, s spread.Experiment) (
	r spread.Result, err error) {
	order, err := json.Marshal(s)
	if err != nil {
		return r, err
	}
	var out, problem strings.Builder
	cmd := exec.CommandContext(ctx, spreader, string(order))
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.SysProcAttr = new(syscall.SysProcAttr)
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%w: %s", err, problem.String())
	}
	return r, json.Unmarshal([]byte(out.String()), &r)
}

// epidemic returns in how many rounds a rumour reaches all but a part of n members, on average:
// each that knows it tells so many others a round, chosen at random, and some of that is lost. It
// is the recurrence of Demers et al., "Epidemic Algorithms for Replicated Database Maintenance"
// (PODC 1987), for pushing; with the part at 1/2n less than half a member is missed.
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
		gossip := memberlist.DefaultLocalConfig()
		fanout, interval := gossip.GossipNodes, gossip.GossipInterval
		for _, n := range members {
			rounds := float64(epidemic(n, min(fanout, n-1), float64(loss)/100)) - 0.5 // the first comes after half a round
			model.X = append(model.X, float64(n))
			model.Y = append(model.Y, rounds*float64(interval)/float64(time.Millisecond))
		}
		chart.Lines = append(chart.Lines, model)
		b.Charts = append(b.Charts, chart)
	}
}
