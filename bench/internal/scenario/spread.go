package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/mesh"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/bench/internal/spread"
	"github.com/peerd/peerd/bench/internal/theory"
	"github.com/peerd/peerd/peer"
)

// simulated is about the simulator's part of the time.
const simulated = 0.15

// spreadSystems are in the order of the columns.
var spreadSystems = []string{"peerd", "memberlist", "gossipsub", "nats"}

func spreading(ctx context.Context, b *bench) error {
	b.System("peerd", b.Version, "daemons, membership as by default; from SET at one until a keyspace event at each", "none")
	b.System("memberlist", version("github.com/hashicorp/memberlist"), "DefaultLANConfig, "+
		"broadcast queue, UDP", "none")
	b.System("gossipsub", b.moduleVersion(ctx, "github.com/libp2p/go-libp2p-pubsub"), "defaults, "+
		"unsigned, over TCP", "none")
	b.System("nats", b.moduleVersion(ctx, "github.com/nats-io/nats-server/v2"), "a cluster, one "+
		"server a member, core NATS, TCP", "none")
	b.Note("peerd stores what it gets, in causal order, and repairs what is missed later; " +
		"memberlist's broadcasts and " +
		"gossipsub are best effort, core NATS at most once, to those who are connected.")
	losses := size(b, []int{0, 30}, []int{0, 10, 30})
	err := b.simulatedSpread(ctx, losses)
	b.Round(0, 0)
	if err != nil {
		return err
	}
	if err := b.MayIsolate(ctx); err != nil {
		b.Skip("members in namespaces", err)
		return nil
	}
	return b.spreadMembers(ctx, losses)
}

// spreadMembers measures members in namespaces.
func (b *bench) spreadMembers(ctx context.Context, losses []int) error {
	members := size(b, []int{3, 8}, []int{3, 10, 30})
	messages := size(b, 10, 30)
	limit := size(b, time.Second, 2*time.Second)
	b.Setting("%d messages of %d bytes with each loss, one each 50 ms, from the first member; each member is a process in a "+
		"network namespace of its own, behind one bridge, where so many of a hundred packets that arrive are dropped at random",
		messages, spread.Payload)
	b.Note("A message that did not reach all within %v counts as if it had taken that long.", limit)
	b.Note("Copies and bytes are counted for the same time of each system, until %v after the last message was due, "+
		"whether all had it at once or never.", limit)
	b.Note("Bytes are all that arrives over the members' links meanwhile, also what is dropped then: " +
		"acknowledgements and membership too. Copies of NATS are with what its servers tell each other.")
	b.Note("Hops are members that told each other on the longest way to a member. A daemon does not know from whom it had a " +
		"write; the simulator does.")
	spreader := filepath.Join(b.Dir, "spreader")
	harness := filepath.Join(b.Repo, "bench")
	done := b.Preparing()
	_, err := b.ToolIn(ctx, harness, "go", "build", "-o", spreader, "./spreader")
	done()
	if err != nil {
		return err
	}
	step := (1 - simulated) / float64(len(members))
	for i, n := range members {
		from := simulated + float64(i)*step
		err := b.inTurn(from, from+step, fmt.Sprint(n, " members"), len(spreadSystems), func(round, s int) error {
			one := spread.Experiment{System: spreadSystems[s], Members: n, Losses: losses, Messages: messages,
				Dir: b.Path(fmt.Sprint(spreadSystems[s], n, "-", round)), Peerd: b.Peerd, Limit: limit,
				Profiled: b.Profile.Kind != ""}
			found, err := b.spreadOnce(ctx, spreader, one)
			if err != nil {
				return fmt.Errorf("%s, %d members: %w", one.System, n, err)
			}
			for j, r := range found {
				b.recordSpread(fmt.Sprintf("%d members, %d%% lost", n, losses[j]), one, r)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.spreadCharts(members, losses)
	return nil
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
	if len(r.Hops) > 0 {
		b.Less(what+": until all have it", "hops, median", system, measure.Median(r.Hops))
	}
	b.Less(what+": received", "copies a message and member", system, r.Copies)
	b.Less(what+": on the wire", "bytes a message and member", system, r.Bytes)
}

// spreadOnce runs an experiment in a process of its own, and removes what it leaves.
func (b *bench) spreadOnce(ctx context.Context, spreader string, s spread.Experiment) (
	found []spread.Result, err error) {
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(s.Dir)
	ended := make(chan struct{})
	defer close(ended)
	for i := range s.Members {
		if s.System == "peerd" {
			b.KeepProfiles(ctx, ended, s.Socket(i), fmt.Sprintf("%d-of-%d", i, s.Members))
		}
	}
	order, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out, problem strings.Builder
	cmd := exec.CommandContext(ctx, spreader, string(order))
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // its members are to end too
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, problem.String())
	}
	return found, json.Unmarshal([]byte(out.String()), &found)
}

// simulatedSpread measures peerd's dissemination in the simulator.
func (b *bench) simulatedSpread(ctx context.Context, losses []int) error {
	peers := size(b, []int{10, 100, 1000}, []int{3, 10, 30, 100, 300, 1000})
	rounds, warm := size(b, 1, b.rounds), size(b, 10, 50)
	const latency = time.Millisecond
	b.Setting("in the simulator: package gossip, links of %v to %d others and more that chose this one, 10 writes one each 100 ms after "+
		"%d that do not count; a lost frame is sent again after 4, 8, 16 ms, and what follows in the link waits for it",
		latency, peer.MaxLinks, warm)
	hops := report.Chart{Name: "simulated", Title: "Hops until all have a write: peerd's mesh, simulated", XLabel: "peers",
		YLabel: "hops, median", LogX: true, Papers: true}
	for i, loss := range losses {
		line := report.Line{System: fmt.Sprintf("peerd, %d%% lost", loss)}
		for j, n := range peers {
			what := fmt.Sprintf("%d peers in the simulator, %d%% lost", n, loss)
			b.show(simulated*float64(i*len(peers)+j)/float64(len(peers)*len(losses)), what)
			for round := range rounds {
				b.Round(round+1, rounds)
				r, err := mesh.Simulation{Peers: n, Links: peer.MaxLinks, Latency: latency, Loss: float64(loss) / 100,
					Writes: 10, Warm: warm, Seed: uint64(round + 1)}.Run()
				if err != nil {
					return err
				}
				var took, crossed []float64
				for w := range r.All {
					took = append(took, float64(r.All[w])/float64(time.Millisecond))
					crossed = append(crossed, float64(r.Hops[w]))
				}
				b.Less(what+": until all have it, median", "ms", "peerd", measure.Median(took))
				b.Less(what+": until all have it, the slowest", "ms", "peerd", slices.Max(took))
				b.Less(what+": until all have it", "hops, median", "peerd", measure.Median(crossed))
				b.Less(what+": received", "copies a message and member", "peerd", r.Copies)
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			line.Point(float64(n), b.Spread(what+": until all have it", "peerd"))
		}
		hops.Lines = append(hops.Lines, line)
	}
	for _, loss := range []int{losses[0], losses[len(losses)-1]} {
		line := report.Line{System: fmt.Sprintf("rounds of an epidemic that tells %d, %d%% lost", peer.MaxLinks, loss), Theory: true}
		for _, n := range peers {
			line.X = append(line.X, float64(n))
			p := theory.Push{Members: n, Fanout: min(peer.MaxLinks, n-1), Loss: float64(loss) / 100}
			line.Y = append(line.Y, p.Rounds())
		}
		hops.Lines = append(hops.Lines, line)
	}
	b.Charts = append(b.Charts, hops)
	return nil
}

// spreadCharts draws what was measured, and what the epidemic's recurrence predicts for
// memberlist's parameters: each round every member that knows of a message sends it to so many
// others.
func (b *bench) spreadCharts(members, losses []int) {
	gossip := memberlist.DefaultLANConfig()
	interval := float64(gossip.GossipInterval) / float64(time.Millisecond)
	for _, loss := range losses {
		chart := report.Chart{Name: fmt.Sprint("loss-", loss), Title: fmt.Sprintf(
			"From a write until all have it, %d%% of packets lost", loss), Papers: loss == 0 || loss == 30,
			XLabel: "members", YLabel: "ms, median", LogX: true, LogY: true}
		for _, s := range spreadSystems {
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
		for _, n := range members {
			p := theory.Push{Members: n, Fanout: min(gossip.GossipNodes, n-1), Loss: float64(loss) / 100}
			model.X = append(model.X, float64(n))
			model.Y = append(model.Y, (p.Rounds()-0.5)*interval) // the first comes after half a round
		}
		chart.Lines = append(chart.Lines, model)
		b.Charts = append(b.Charts, chart)
	}
}
