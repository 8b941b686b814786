package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
)

// server is one system that speaks RESP, at one address or, of a cluster, at several.
type server struct {
	name      string
	addrs     []string
	processes []*lab.Process
	settled   func() error // waits until all of its addresses have the same
}

const everySecond = "synced every second"

// servers starts peerd alone, peerd as a cluster of three, and its rivals.
func (b *bench) servers(ctx context.Context) ([]server, error) {
	alone, err := b.Daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	three, err := b.Cluster(ctx, "one", "two", "three")
	if err != nil {
		return nil, err
	}
	none := func() error { return nil }
	all := []server{{"peerd", []string{alone.Redis}, []*lab.Process{alone.Process}, none}}
	cluster := server{name: threePeers, settled: func() error { return b.Agree(ctx, three...) }}
	for _, d := range three {
		cluster.addrs = append(cluster.addrs, d.Redis)
		cluster.processes = append(cluster.processes, d.Process)
	}
	b.System("peerd", b.Version, "one daemon", everySecond)
	b.System(threePeers, b.Version, "three daemons; clients divided among them", everySecond)
	rivals := []struct {
		name, program, pkg string
		start              func(context.Context, ...string) (*lab.Process, string, error)
	}{
		{"redis", "redis-server", "redis-server", b.Redis},
		{"valkey", "valkey-server", "valkey-server", b.Valkey},
	}
	for _, r := range rivals {
		if err := b.Debian(ctx, r.program, r.pkg); err != nil {
			b.Skip(r.name, err)
			continue
		}
		p, addr, err := r.start(ctx)
		if err != nil {
			return nil, err
		}
		version := b.programVersion(ctx, r.program, "--version")
		b.System(r.name, version, "appendonly yes", everySecond)
		all = append(all, server{r.name, []string{addr}, []*lab.Process{p}, none})
	}
	return append(all, cluster), nil
}

func kv(ctx context.Context, b *bench) error {
	all, err := b.servers(ctx)
	if err != nil {
		return err
	}
	b.Note("3 peers: a write is acknowledged by the peer that it was sent to, and is on its way " +
		"to the " +
		"others then. All run on this machine and share its processors.")
	b.Note("3 peers divided by redis or valkey, in the same round, is not the same work: each of the peers " +
		"has all data and writes every write, on the same processors here; the rivals have one copy.")
	b.Note("YCSB on 3 peers: what another peer has just inserted may not be there yet, and reads " +
		"as nothing.")
	if err := b.Debian(ctx, "redis-benchmark", "redis-tools"); err != nil {
		b.Skip("redis-benchmark's set of commands", err)
	} else if err := b.redisCommands(ctx, all); err != nil {
		return err
	}
	return b.ycsb(ctx, all)
}

// limiter is the rate limiter that docs/redis.md recommends: the script's key, how many calls are
// let through, and in how many seconds, follow it.
const limiter = "local n=redis.call('incr',KEYS[1]) if n==1 then redis.call('expire',KEYS[1],ARGV[2]) end " +
	"return n<=tonumber(ARGV[1]) and 1 or 0"

// redisTest is something that redis-benchmark measures: its tests, of which the last counts and takes
// what those before gave, or a command that is given whole.
type redisTest struct {
	name string
	args []string
	one  bool // what a pipeline asks for is not little, as where all is in one key: it is asked less often
	rare bool // what it takes must be there, so that members are not to come twice
}

var redisTests = []redisTest{
	{name: "SET", args: []string{"set"}}, {name: "GET", args: []string{"get"}}, {name: "INCR", args: []string{"incr"}},
	{name: "LPUSH", args: []string{"lpush"}, one: true},
	{name: "RPUSH", args: []string{"rpush"}, one: true},
	{name: "LPOP", args: []string{"rpush,lpop"}, one: true}, {name: "RPOP", args: []string{"lpush,rpop"}, one: true},
	{name: "LRANGE of 100", args: []string{"lrange_100"}, one: true},
	{name: "SADD", args: []string{"sadd"}}, {name: "HSET", args: []string{"hset"}},
	{name: "SPOP", args: []string{"sadd,spop"}, one: true, rare: true}, {name: "ZADD", args: []string{"zadd"}},
	{name: "ZPOPMIN", args: []string{"zadd,zpopmin"}, one: true, rare: true},
	{name: "MSET", args: []string{"mset"}, one: true},
	{name: "EVAL of a rate limiter", args: []string{"EVAL", limiter, "1", "limit:__rand_int__", "100", "60"}},
}

// quickTests are those of --quick.
var quickTests = []string{"SET", "GET", "INCR", "LRANGE of 100", "SADD", "HSET", "EVAL of a rate limiter"}

// size returns how many requests a test is of, and of how many keys.
func (t redisTest) size(requests, pipeline int) (count, keys int) {
	count, keys = requests*min(pipeline, 4), 10_000
	if t.one {
		count = requests * min(pipeline, 2)
	}
	if t.rare {
		keys = 100 * count // else members come twice, and most pops find nothing
	}
	return count, keys
}

// redisCommands measures redis-benchmark's set of commands on all systems. The clients of a cluster are
// those of its first peer: redis-benchmark has one address.
func (b *bench) redisCommands(ctx context.Context, all []server) error {
	tests := slices.DeleteFunc(slices.Clone(redisTests), func(t redisTest) bool {
		return b.quick && !slices.Contains(quickTests, t.name)
	})
	requests := size(b, 2_000, 20_000)
	b.Setting("redis-benchmark: %s requests, with -P 16 four times as many, of lists, pops and MSET twice, of 50 clients, "+
		"10,000 keys, 64 bytes; lists, sets and sorted sets of one key, which is deleted before each; "+
		"what is popped or read was put there just before; of 3 peers all clients are one's; left out are its PINGs and longer ranges", report.Count(requests))
	b.Setting("the rate limiter lets 100 calls a minute through for a key: %s", limiter)
	chart := report.Chart{Name: "commands", Title: "Commands a second, without pipelining", YLabel: "a second"}
	for _, s := range all {
		chart.Lines = append(chart.Lines, report.Line{System: s.name})
	}
	for i, test := range tests {
		for j, pipeline := range []int{1, 16} {
			at := 0.4 * (float64(i) + float64(j)/2) / float64(len(tests))
			what := fmt.Sprintf("%s -P %d", test.name, pipeline)
			count, keys := test.size(requests, pipeline)
			sides := newClusterSides(b, what)
			err := b.inTurn(at, at+0.2/float64(len(tests)), what, len(all), func(round, n int) error {
				if _, err := lab.Ask(ctx, all[n].addrs[0], "DEL", "mylist", "myset", "myzset"); err != nil {
					return err
				}
				if err := b.calm(ctx, all); err != nil {
					return err
				}
				m, err := b.RedisBenchmark(ctx, all[n].addrs[0], pipeline, count, keys, test.args...)
				if err == nil {
					b.More(what, "a second", all[n].name, m.Rate)
					sides.more(round, all[n].name, m.Rate)
				}
				return err
			})
			if err != nil {
				b.Skip(what, err) // a command that one of them does not know
			}
		}
		chart.Names = append(chart.Names, test.name)
		for n, s := range all {
			chart.Lines[n].Bar(b.Spread(test.name+" -P 1", s.name))
		}
	}
	b.Charts = append(b.Charts, chart)
	return nil
}

// calm waits until no server has anything to do: what one has left is not to be the next one's.
func (b *bench) calm(ctx context.Context, all []server) error {
	if b.quick {
		return nil
	}
	var processes []*lab.Process
	for _, s := range all {
		processes = append(processes, s.processes...)
	}
	return lab.Calm(ctx, processes...)
}

// threePeers is peerd as a cluster.
const threePeers = "3 peers"

// sides compares another system of ours than the first with rivals, round by round: the report
// compares the first alone.
type sides struct {
	b      *bench
	what   string
	ours   string
	rivals func(system string) bool
	all    map[int]map[string]float64 // by round and system
}

func newSides(b *bench, what, ours string, rivals func(system string) bool) *sides {
	return &sides{b, what, ours, rivals, map[int]map[string]float64{}}
}

// newClusterSides compares a cluster with each rival.
func newClusterSides(b *bench, what string) *sides {
	return newSides(b, what, threePeers, func(system string) bool {
		return system != "peerd" && system != threePeers
	})
}

// more notes what was measured of a system in a round, of which more is better; less where less is.
func (s *sides) more(round int, system string, value float64) { s.note(round, system, value, s.b.More) }

func (s *sides) less(round int, system string, value float64) { s.note(round, system, value, s.b.Less) }

// note records the quotients that are known once both sides of a round are.
func (s *sides) note(round int, system string, value float64, record func(what, unit, system string, value float64)) {
	if s.all[round] == nil {
		s.all[round] = map[string]float64{}
	}
	s.all[round][system] = value
	for rival, below := range s.all[round] {
		above, known := s.all[round][s.ours]
		if known && below > 0 && s.rivals(rival) && (system == rival || system == s.ours) {
			record(fmt.Sprintf("%s, %s divided by %s", s.what, s.ours, rival), report.Quotient, s.ours,
				above/below)
		}
	}
}

func (b *bench) ycsb(ctx context.Context, all []server) error {
	records := size(b, 2_000, 50_000)
	closed := size(b, 400*time.Millisecond, 1500*time.Millisecond)
	open := size(b, 600*time.Millisecond, 2*time.Second)
	b.Setting("YCSB: %s records of ten fields of 100 bytes, %d clients, zipfian; rates as fast "+
		"as they are "+
		"answered; latencies from an open loop at half of the rate of the slowest system",
		report.Count(records), ycsbThreads)
	loaded := make([]*ycsb, len(all))
	for i, s := range all {
		b.show(0.4, "loading "+s.name)
		y, err := newYCSB(ctx, records, s.addrs, s.settled)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer y.close()
		loaded[i] = y
	}
	chart := report.Chart{Name: "ycsb", Title: "YCSB, operations a second", YLabel: "a second"}
	for _, s := range all {
		chart.Lines = append(chart.Lines, report.Line{System: s.name})
	}
	for i, m := range mixes {
		from := 0.4 + 0.6*float64(i)/float64(len(mixes))
		what := "YCSB " + m.name
		rates, tails := newClusterSides(b, what), newClusterSides(b, what+": p99")
		err := b.inTurn(from, from+0.05, what, len(all), func(round, n int) error {
			if err := b.calm(ctx, all); err != nil {
				return err
			}
			rate, err := loaded[n].rate(ctx, m, closed)
			b.More(what, "a second", all[n].name, rate)
			rates.more(round, all[n].name, rate)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		slowest := b.Median(what, all[0].name)
		chart.Names = append(chart.Names, m.name[:1])
		for n, s := range all {
			slowest = min(slowest, b.Median(what, s.name))
			chart.Lines[n].Bar(b.Spread(what, s.name))
		}
		err = b.inTurn(from+0.05, from+0.1, what+", open loop", len(all), func(round, n int) error {
			if err := b.calm(ctx, all); err != nil {
				return err
			}
			o, err := loaded[n].latency(ctx, m, slowest/2, open)
			b.Latencies(what, all[n].name, &o)
			if o.Latency.Enough(0.99) {
				tails.less(round, all[n].name, o.Latency.Milliseconds(0.99))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	b.Charts = append(b.Charts, chart)
	return nil
}
