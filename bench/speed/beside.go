package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// commands are redis-benchmark's tests that rows measure. SET comes first: GET reads what it wrote.
var commands = []string{"set", "get", "incr", "sadd", "hset"}

// pair is a peerd and a redis-server.
type pair struct {
	*lab
	peerd *daemon
	redis string // address
}

func newPair(ctx context.Context, l *lab, args ...string) (*pair, error) {
	d, err := l.daemon(ctx, "peerd", args...)
	if err != nil {
		return nil, err
	}
	_, addr, err := l.redis(ctx)
	return &pair{l, d, addr}, err
}

// compare runs one of redis-benchmark's tests on both in turn, and returns what each round gave.
func (p *pair) compare(ctx context.Context, test string, pipeline, requests, keys int) (
	ours, theirs []measured, err error) {
	for i := range p.rounds {
		// Who is first changes, lest it always has the machine in the same state.
		for _, own := range []bool{i%2 == 0, i%2 != 0} {
			addr, to := p.redis, &theirs
			if own {
				addr, to = p.peerd.redis, &ours
			}
			m, err := p.redisBenchmark(ctx, addr, test, pipeline, requests, keys)
			if err != nil {
				return nil, nil, err
			}
			*to = append(*to, m)
		}
	}
	return ours, theirs, nil
}

func rates(all []measured) (rates []float64) {
	for _, m := range all {
		rates = append(rates, m.rate)
	}
	return rates
}

func bothRates(ours, theirs []measured) string {
	return fmt.Sprintf("%s and %s a second",
		number(median(rates(ours))), number(median(rates(theirs))))
}

func p99s(all []measured) (p99s []float64) {
	for _, m := range all {
		p99s = append(p99s, m.p99)
	}
	return p99s
}

func plain(ctx context.Context, l *lab) ([]figure, error) {
	return throughput(ctx, l, 1, func(string) bound { return atLeast(0.8, 1) })
}

func pipelined(ctx context.Context, l *lab) ([]figure, error) {
	return throughput(ctx, l, 16, func(test string) bound {
		if test == "incr" {
			return atLeast(0.4, 1)
		}
		return atLeast(0.5, 1)
	})
}

func throughput(ctx context.Context, l *lab, pipeline int, limit func(test string) bound) (
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
		ours, theirs, err := p.compare(ctx, test, pipeline, requests, l.warm)
		if err != nil {
			return found, err
		}
		found = append(found, figure{
			what:  fmt.Sprintf("%s -P %d × redis-server", strings.ToUpper(test), pipeline),
			value: quotient(rates(ours), rates(theirs)), bound: limit(test),
			note: bothRates(ours, theirs),
		})
	}
	return found, nil
}

// tail measures the slowest hundredth of SETs.
func tail(ctx context.Context, l *lab) ([]figure, error) {
	p, err := newPair(ctx, l)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := p.compare(ctx, "set", 1, l.requests, l.warm)
	if err != nil {
		return nil, err
	}
	return []figure{{
		what:  "p99 of SET × redis-server",
		value: quotient(p99s(ours), p99s(theirs)), bound: atMost(3, 1),
		note: fmt.Sprintf("%s and %s ms", number(median(p99s(ours))), number(median(p99s(theirs)))),
	}}, nil
}

// keyed returns the commands that set keys as redis-benchmark names them, to 64 bytes.
func keyed(clients, keys int) load {
	value := strings.Repeat("v", 64)
	return load{clients, 16, keys, func(b []byte, i int) []byte {
		return appendCommand(b, "SET", fmt.Sprintf("key:%012d", i), value)
	}}
}

// uniform reads any of very many keys.
func uniform(ctx context.Context, l *lab) ([]figure, error) {
	p, err := newPair(ctx, l, l.cached...)
	if err != nil {
		return nil, err
	}
	for _, addr := range []string{p.peerd.redis, p.redis} {
		if _, err := keyed(50, l.many).run(ctx, addr); err != nil {
			return nil, err
		}
	}
	if err := calm(ctx, p.peerd.process); err != nil {
		return nil, err
	}
	ours, theirs, err := p.compare(ctx, "get", 1, l.requests, l.many)
	if err != nil {
		return nil, err
	}
	cache := "128 MiB"
	if l.cached == nil {
		cache = "default"
	}
	return []figure{{
		what:  fmt.Sprintf("GET over %s keys, cache %s, × redis-server", count(l.many), cache),
		value: quotient(rates(ours), rates(theirs)), bound: atLeast(0.3, 0.6), sized: true,
		note: bothRates(ours, theirs),
	}}, nil
}

// commits measures transactions of many writers beside bare Badger, in turn.
func commits(ctx context.Context, l *lab) (found []figure, err error) {
	limits := map[string]bound{"always": atLeast(10, 30), "none": atLeast(1, 3)}
	for _, durability := range []string{"always", "none"} {
		var times, ours, bare []float64
		for range l.rounds {
			pattern := "^BenchmarkCommit$/^" + durability + "$/^64$"
			lines, err := l.goBenchmark(ctx, "peer", pattern, "-test.benchtime", l.bench)
			if err != nil {
				return found, err
			}
			for name, units := range lines {
				if rate := units["op/s"]; strings.HasSuffix(name, "/badger") {
					bare = append(bare, rate)
				} else {
					ours, times = append(ours, rate), append(times, units["times-badger"])
				}
			}
		}
		found = append(found, figure{
			what:  fmt.Sprintf("commits with `%s`, 64 writers, × bare Badger", durability),
			value: median(times), bound: limits[durability],
			note: fmt.Sprintf("%s and %s a second", number(median(ours)), number(median(bare))),
		})
	}
	return found, nil
}

// replica measures the commit path without a host around it.
func replica(ctx context.Context, l *lab) ([]figure, error) {
	var each, allocs []float64
	for range max(1, l.rounds-2) { // each fills a store first; there is nothing to compare
		lines, err := l.goBenchmark(ctx, "internal/engine", "^BenchmarkSet$/^group=50$",
			"-test.benchtime", fmt.Sprint(l.sets, "x"))
		if err != nil {
			return nil, err
		}
		for _, units := range lines {
			each, allocs = append(each, units["cpu-ns/op"]), append(allocs, units["allocs/op"])
		}
	}
	return []figure{{
		what: "CPU a SET, the replica alone, groups of 50", bound: atMost(5, 3),
		value: median(each) / float64(time.Microsecond), unit: " µs",
		note: number(median(allocs)) + " allocations",
	}}, nil
}
