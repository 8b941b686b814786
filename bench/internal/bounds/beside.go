package bounds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// commands are redis-benchmark's tests that rows measure. SET comes first: GET reads what it wrote.
var commands = []string{"set", "get", "incr", "sadd", "hset"}

// pair is a peerd and a redis-server.
type pair struct {
	*bench
	peerd *lab.Daemon
	other *lab.Process // the redis-server
	redis string       // its address
}

func newPair(ctx context.Context, l *bench, args ...string) (*pair, error) {
	d, err := l.Daemon(ctx, "peerd", args...)
	if err != nil {
		return nil, err
	}
	other, addr, err := l.Redis(ctx)
	return &pair{l, d, other, addr}, err
}

// compare runs what redis-benchmark is to on both in turn, and returns what each round gave. What one
// has left, as a checkpoint, is not to be the other's: neither has anything to do when a turn begins.
func (p *pair) compare(ctx context.Context, pipeline, requests, keys int, test ...string) (
	ours, theirs []lab.Measured, err error) {
	err = measure.InTurn(p.rounds, 2, func(_, side int) error {
		addr, to := p.peerd.Redis, &ours
		if side == 1 {
			addr, to = p.redis, &theirs
		}
		if err := lab.Calm(ctx, p.peerd.Process, p.other); err != nil {
			return err
		}
		m, err := p.RedisBenchmark(ctx, addr, pipeline, requests, keys, test...)
		*to = append(*to, m)
		return err
	})
	return ours, theirs, err
}

func rates(all []lab.Measured) (rates []float64) {
	for _, m := range all {
		rates = append(rates, m.Rate)
	}
	return rates
}

func bothRates(ours, theirs []lab.Measured) string {
	return fmt.Sprintf("%s and %s a second",
		report.Number(measure.Median(rates(ours))), report.Number(measure.Median(rates(theirs))))
}

func p99s(all []lab.Measured) (p99s []float64) {
	for _, m := range all {
		p99s = append(p99s, m.P99)
	}
	return p99s
}

func plain(ctx context.Context, l *bench) ([]figure, error) {
	return throughput(ctx, l, 1, func(string) bound { return atLeast(0.8, 1) })
}

func pipelined(ctx context.Context, l *bench) ([]figure, error) {
	return throughput(ctx, l, 16, func(test string) bound {
		if test == "incr" {
			return atLeast(0.4, 1)
		}
		return atLeast(0.5, 1)
	})
}

func throughput(ctx context.Context, l *bench, pipeline int, limit func(test string) bound) (
	found []figure, err error) {
	p, err := newPair(ctx, l)
	if err != nil {
		return nil, err
	}
	requests := l.requests
	if pipeline > 1 {
		requests *= 4
	}
	for _, test := range commands {
		ours, theirs, err := p.compare(ctx, pipeline, requests, l.warm, test)
		if err != nil {
			return found, err
		}
		found = append(found, figure{
			what:   fmt.Sprintf("%s -P %d × redis-server", strings.ToUpper(test), pipeline),
			rounds: measure.Ratio(rates(ours), rates(theirs)), bound: limit(test),
			note: bothRates(ours, theirs),
		})
	}
	return found, nil
}

// closedP99 is what rows call the slowest hundredth of what redis-benchmark and lab.Load send: a
// client that waits sends nothing meanwhile, so that a server that stands still is seen once by
// each, and not by all that was due. So is one writer that waits.
const closedP99 = "p99 (closed loop)"

// tail measures the slowest hundredth of SETs.
func tail(ctx context.Context, l *bench) ([]figure, error) {
	p, err := newPair(ctx, l)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := p.compare(ctx, 1, l.requests, l.warm, "set")
	if err != nil {
		return nil, err
	}
	return []figure{{
		what:   closedP99 + " of SET × redis-server",
		rounds: measure.Ratio(p99s(ours), p99s(theirs)), bound: atMost(3, 1),
		note: fmt.Sprintf("%s and %s ms", report.Number(measure.Median(p99s(ours))), report.Number(measure.Median(p99s(theirs)))),
	}}, nil
}

// keyed returns the commands that set keys as redis-benchmark names them, to 64 bytes.
func keyed(clients, keys int) lab.Load {
	value := strings.Repeat("v", 64)
	return lab.Load{Clients: clients, Pipeline: 16, Commands: keys, Command: func(b []byte, i int) []byte {
		return lab.AppendCommand(b, "SET", fmt.Sprintf("key:%012d", i), value)
	}}
}

// uniform reads any of very many keys.
func uniform(ctx context.Context, l *bench) ([]figure, error) {
	p, err := newPair(ctx, l, l.Cached...)
	if err != nil {
		return nil, err
	}
	for _, addr := range []string{p.peerd.Redis, p.redis} {
		if _, err := keyed(50, l.many).Run(ctx, addr); err != nil {
			return nil, err
		}
	}
	ours, theirs, err := p.compare(ctx, 1, l.requests, l.many, "get")
	if err != nil {
		return nil, err
	}
	cache := "128 MiB"
	if l.Cached == nil {
		cache = "default"
	}
	return []figure{{
		what:   fmt.Sprintf("GET over %s keys, cache %s, × redis-server", report.Count(l.many), cache),
		rounds: measure.Ratio(rates(ours), rates(theirs)), bound: atLeast(0.3, 0.6), sized: true,
		note: bothRates(ours, theirs),
	}}, nil
}

// commits measures transactions of many writers beside bare Badger, in turn.
func commits(ctx context.Context, l *bench) (found []figure, err error) {
	limits := map[string]bound{"always": atLeast(10, 30), "none": atLeast(1, 3)}
	for _, durability := range []string{"always", "none"} {
		perSecond := map[string][]float64{}
		systems := []string{"peerd", "badger"}
		err := measure.InTurn(l.rounds, len(systems), func(_, s int) error {
			pattern := "^BenchmarkCommit$/^" + durability + "$/^64$/^" + systems[s] + "$"
			lines, err := l.GoBenchmark(ctx, "peer", pattern, []string{"op/s"}, "-test.benchtime", l.bench)
			for _, units := range lines {
				perSecond[systems[s]] = append(perSecond[systems[s]], units["op/s"])
			}
			return err
		})
		if err != nil {
			return found, err
		}
		ours, bare := perSecond["peerd"], perSecond["badger"]
		found = append(found, figure{
			what:   fmt.Sprintf("commits with `%s`, 64 writers, × bare Badger", durability),
			rounds: measure.Ratio(ours, bare), bound: limits[durability],
			note: fmt.Sprintf("%s and %s a second", report.Number(measure.Median(ours)), report.Number(measure.Median(bare))),
		})
	}
	return found, nil
}

// step measures the steps of a replica that has more to do than a step may take.
func step(ctx context.Context, l *bench) (found []figure, err error) {
	took, names := map[string][]float64{}, []string(nil)
	for range l.rounds {
		lines, err := l.GoBenchmark(ctx, "internal/engine", "^BenchmarkStep$", []string{"ms/step"}, "-test.benchtime", "50x")
		if err != nil {
			return nil, err
		}
		for name, units := range lines {
			took[name] = append(took[name], units["ms/step"])
		}
	}
	for name := range took {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		found = append(found, figure{
			what:   "a step whose budget is spent: " + strings.TrimPrefix(name, "BenchmarkStep/"),
			rounds: measure.Spread(took[name]), unit: " ms", bound: atMost(5, 0),
		})
	}
	return found, nil
}

// replica measures the commit path without a host around it.
func replica(ctx context.Context, l *bench) ([]figure, error) {
	var each, allocs []float64
	for range l.rounds {
		lines, err := l.GoBenchmark(ctx, "internal/engine", "^BenchmarkSet$/^group=50$", []string{"cpu-ns/op", "allocs/op"},
			"-test.benchtime", fmt.Sprint(l.sets, "x"))
		if err != nil {
			return nil, err
		}
		for _, units := range lines {
			each = append(each, units["cpu-ns/op"]/float64(time.Microsecond))
			allocs = append(allocs, units["allocs/op"])
		}
	}
	return []figure{{
		what: "CPU a SET, the replica alone, groups of 50", bound: atMost(5, 3),
		rounds: measure.Spread(each), unit: " µs",
		note: report.Number(measure.Median(allocs)) + " allocations",
	}}, nil
}
