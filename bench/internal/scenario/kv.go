package scenario

import (
	"context"
	"fmt"
	"strings"
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
	cluster := server{name: "3 peers", settled: func() error { return b.Agree(ctx, three...) }}
	for _, d := range three {
		cluster.addrs = append(cluster.addrs, d.Redis)
		cluster.processes = append(cluster.processes, d.Process)
	}
	b.System("peerd", "this tree", "one daemon", everySecond)
	b.System("3 peers", "this tree", "three daemons; clients divided among them", everySecond)
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
	b.Note("YCSB on 3 peers: what another peer has just inserted may not be there yet, and reads " +
		"as nothing.")
	if err := b.Debian(ctx, "redis-benchmark", "redis-tools"); err != nil {
		b.Skip("redis-benchmark's set of commands", err)
	} else if err := b.redisCommands(ctx, all[:len(all)-1]); err != nil {
		return err
	}
	return b.ycsb(ctx, all)
}

// redisCommands measures redis-benchmark's set of commands on the systems with one address.
func (b *bench) redisCommands(ctx context.Context, all []server) error {
	// Of several tests the last is measured: it takes what the one before gave.
	tests := size(b, []string{"set", "get", "incr", "sadd", "hset"}, []string{
		"set", "get", "incr", "lpush", "rpush", "rpush,lpop", "lpush,rpop", "sadd", "hset", "sadd,spop",
		"zadd", "mset"})
	requests := size(b, 5_000, 50_000)
	b.Setting("redis-benchmark: %s requests, with -P 16 16 times as many, of pops twice, of 50 clients, "+
		"10,000 keys, 64 bytes; lists, sets and sorted sets of one key, which is deleted before each; "+
		"what is popped was put there just before", report.Count(requests))
	chart := report.Chart{Name: "commands", Title: "Commands a second, without pipelining", YLabel: "a second"}
	var processes []*lab.Process
	for _, s := range all {
		chart.Lines = append(chart.Lines, report.Line{System: s.name})
		processes = append(processes, s.processes...)
	}
	for i, test := range tests {
		for j, pipeline := range []int{1, 16} {
			what := fmt.Sprintf("%s -P %d", commandOf(test), pipeline)
			count, keys := requests*pipeline, 10_000
			if strings.Contains(test, ",") {
				count = requests * min(pipeline, 2)
			}
			if strings.HasSuffix(test, "spop") {
				keys = 100 * count // else members come twice, and most pops find nothing
			}
			at := 0.4 * (float64(i) + float64(j)/2) / float64(len(tests))
			err := b.inTurn(at, at+0.2/float64(len(tests)), what, len(all), func(_, n int) error {
				if _, err := lab.Ask(ctx, all[n].addrs[0], "DEL", "mylist", "myset", "myzset"); err != nil {
					return err
				}
				if !b.quick { // what the one before has left to do is not to be the next one's
					if err := lab.Calm(ctx, processes...); err != nil {
						return err
					}
				}
				m, err := b.RedisBenchmark(ctx, all[n].addrs[0], pipeline, count, keys, test)
				if err == nil {
					b.More(what, "a second", all[n].name, m.Rate)
				}
				return err
			})
			if err != nil {
				b.Skip(what, err) // a command that one of them does not know
			}
		}
		chart.Names = append(chart.Names, commandOf(test))
		for n, s := range all {
			chart.Lines[n].Y = append(chart.Lines[n].Y, b.Median(commandOf(test)+" -P 1", s.name))
		}
	}
	b.Charts = append(b.Charts, chart)
	return nil
}

// commandOf is the command that is measured of redis-benchmark's tests.
func commandOf(tests string) string {
	return strings.ToUpper(tests[strings.LastIndexByte(tests, ',')+1:])
}

func (b *bench) ycsb(ctx context.Context, all []server) error {
	records := size(b, 2_000, 100_000)
	closed := size(b, 400*time.Millisecond, 2*time.Second)
	open := size(b, 600*time.Millisecond, 4*time.Second)
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
		err := b.inTurn(from, from+0.05, what, len(all), func(_, n int) error {
			rate, err := loaded[n].rate(ctx, m, closed)
			b.More(what, "a second", all[n].name, rate)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		slowest := b.Median(what, all[0].name)
		chart.Names = append(chart.Names, m.name[:1])
		for n, s := range all {
			slowest = min(slowest, b.Median(what, s.name))
			chart.Lines[n].Y = append(chart.Lines[n].Y, b.Median(what, s.name))
		}
		err = b.inTurn(from+0.05, from+0.1, what+", open loop", len(all), func(_, n int) error {
			o, err := loaded[n].latency(ctx, m, slowest/2, open)
			b.Latencies(what, all[n].name, &o.Latency)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	b.Charts = append(b.Charts, chart)
	return nil
}
