package bounds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// neighbours measures what it costs a peer that two others get what is written to it.
func neighbours(ctx context.Context, l *bench) (found []figure, err error) {
	alone, err := l.Daemon(ctx, "alone")
	if err != nil {
		return nil, err
	}
	all, err := l.Cluster(ctx, "source", "one", "two")
	if err != nil {
		return nil, err
	}
	for _, pipeline := range []int{1, 16} {
		requests := l.requests
		if pipeline > 1 {
			requests *= 4
		}
		cost := make([][]float64, 2)
		err := measure.InTurn(l.rounds, len(cost), func(_, side int) error {
			holders := [][]*lab.Daemon{all, {alone}}[side]
			used, err := holders[0].Used(func() error {
				_, err := l.RedisBenchmark(ctx, holders[0].Redis, pipeline, requests, l.warm, "set")
				if err != nil {
					return err
				}
				return l.Agree(ctx, holders...)
			})
			cost[side] = append(cost[side], float64(used.Microseconds())/float64(requests))
			return err
		})
		if err != nil {
			return found, err
		}
		withTwo, without := cost[0], cost[1]
		found = append(found, figure{
			what:   fmt.Sprintf("CPU of SET -P %d with two neighbours, × alone", pipeline),
			rounds: measure.Ratio(withTwo, without), bound: atMost(1.5, 1.2),
			note: fmt.Sprintf("%s and %s µs", report.Number(measure.Median(withTwo)), report.Number(measure.Median(without))),
		})
	}
	return found, nil
}

// spread measures how long a write takes until a neighbour has it, while another one reads 10 KB a
// second, against the same while it reads what there is.
func spread(ctx context.Context, l *bench) ([]figure, error) {
	p99s := make([][]float64, 2)
	err := measure.InTurn(l.rounds, len(p99s), func(_, s int) error {
		pattern := fmt.Sprintf("^BenchmarkSlowNeighbour$/^slow=%t$", s == 0)
		lines, err := l.GoBenchmark(ctx, "peer", pattern, []string{"p99-ms"}, "-test.benchtime", "5000x")
		for _, units := range lines {
			p99s[s] = append(p99s[s], units["p99-ms"])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slow, quick := p99s[0], p99s[1]
	return []figure{{
		what:   closedP99 + " until one neighbour has a write, another at 10 KB/s, × without",
		rounds: measure.Ratio(slow, quick), bound: atMost(1.5, 1.2),
		note: fmt.Sprintf("%s and %s ms", report.Number(measure.Median(slow)), report.Number(measure.Median(quick))),
	}}, nil
}

// expiring measures the slowest of the writes, and of the reads, while very many keys expire in one
// second, until all are removed.
func expiring(ctx context.Context, l *bench) (found []figure, err error) {
	keys, args := 1_000_000, []string{"-test.benchtime", "1x"} // the benchmark's own sizes
	if l.cells < keys {
		keys, args = keys/10, append(args, "-test.short")
	}
	units := []string{"ms-slowest-write", "ms-slowest-write-idle", "ms-slowest-read", "ms-slowest-read-idle"}
	lines, err := l.GoBenchmark(ctx, "peer", "^BenchmarkExpiring$", units, args...)
	if err != nil {
		return nil, err
	}
	for _, did := range []string{"write", "read"} {
		took, unit := lines["BenchmarkExpiring"], "ms-slowest-"+did
		found = append(found, figure{
			what:  fmt.Sprintf("the slowest %s while %s keys expire in one second", did, report.Count(keys)),
			value: took[unit], unit: " ms", bound: atMost(50, 0), sized: true,
			note: fmt.Sprintf("a closed loop, until all are removed; %s ms while nothing expires",
				report.Number(took[unit+"-idle"])),
		})
	}
	return found, nil
}

// bootstrap measures how fast an empty peer gets what another has, and what clients of the other
// notice. They write all the while, 500 times a second, to keys that are there.
func bootstrap(ctx context.Context, l *bench) ([]figure, error) {
	source, err := l.Daemon(ctx, "source")
	if err != nil {
		return nil, err
	}
	cells := keyed(50, l.cells)
	if _, err := cells.Run(ctx, source.Redis); err != nil {
		return nil, err
	}
	if err := lab.Calm(ctx, source.Process); err != nil {
		return nil, err
	}
	during := func(do func(context.Context) error) (measure.Latencies, error) {
		probing, stop := context.WithCancel(ctx)
		defer stop()
		value := strings.Repeat("v", 64)
		client, err := lab.Dial(probing, source.Redis)
		if err != nil {
			return measure.Latencies{}, err
		}
		defer client.Close()
		failed := make(chan error, 1)
		go func() {
			failed <- do(probing)
			stop()
		}()
		o, _ := measure.Open{Rate: 500, For: l.Patience, Clients: 1, Do: func(_ context.Context, _, i int) error {
			_, err := client.Do("SET", fmt.Sprintf("key:%012d", i*7919%l.cells), value)
			return err
		}}.Run(probing)
		stop()
		return o.Latency, errors.Join(<-failed, o.First)
	}
	before, err := during(func(ctx context.Context) error {
		return lab.Pause(ctx, max(2*time.Second, l.watch/6))
	})
	if err != nil {
		return nil, err
	}
	var took time.Duration
	meanwhile, err := during(func(ctx context.Context) error {
		began := time.Now()
		empty, err := l.Neighbour(ctx, "empty", source)
		if err != nil {
			return err
		}
		want := fmt.Sprint(l.cells)
		err = lab.Await(ctx, l.Patience, "the empty peer has everything", func() bool {
			size, err := lab.Ask(ctx, empty.Redis, "DBSIZE")
			return err == nil && size == want
		})
		took = time.Since(began)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []figure{{
		what:  fmt.Sprintf("an empty peer gets %s cells of 64 bytes", report.Count(l.cells)),
		value: took.Seconds(), unit: " s", bound: atMost(8, 3), sized: true,
		note: "from its start; beside 500 SETs a second",
	}, {
		what:  "the source's p99 meanwhile, × before",
		value: meanwhile.Milliseconds(0.99) / before.Milliseconds(0.99), bound: atMost(2, 1.5), sized: true,
		note: fmt.Sprintf("%s and %s ms", report.Number(meanwhile.Milliseconds(0.99)), report.Number(before.Milliseconds(0.99))),
	}}, nil
}

// repair measures what replicas say to each other that differ in a few cells among many.
func repair(ctx context.Context, l *bench) (found []figure, err error) {
	// What a difference holds in any case: the benchmark's addresses of 16 bytes, a dot (an id of 8
	// and a number of up to 4), a value of 64.
	const address, dot, value = 16, 12, 64
	args := []string{"-test.benchtime", "1x"}
	cells := 1_000_000 // the benchmark's own sizes
	if l.cells < cells {
		args, cells = append(args, "-test.short"), cells/10
	}
	lines, err := l.GoBenchmark(ctx, "internal/engine", "^BenchmarkRepair$/^mem$", []string{"B/difference", "messages"}, args...)
	if err != nil {
		return nil, err
	}
	for _, size := range []struct {
		differences int
		limit       bound
	}{{10, atMost(600, 60)}, {100, atMost(450, 50)}, {1000, atMost(350, 45)}} {
		units, ok := lines[fmt.Sprint("BenchmarkRepair/mem/", size.differences)]
		if !ok {
			return found, fmt.Errorf("no benchmark of %d differences", size.differences)
		}
		found = append(found, figure{
			what: fmt.Sprintf("repair of %s differences among %s cells, each beyond what it holds",
				report.Count(size.differences), report.Count(cells)),
			value: units["B/difference"] - address - dot - value, unit: " bytes", bound: size.limit, sized: true,
			note: fmt.Sprintf("%s bytes each in all, %s messages",
				report.Number(units["B/difference"]), report.Number(units["messages"])),
		})
	}
	return found, nil
}

// agree measures what equal peers say to each other: each tells a neighbour a digest now and then,
// and is answered nothing if it is the same.
func agree(ctx context.Context, l *bench) ([]figure, error) {
	both, err := l.Cluster(ctx, "one", "other")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(1, l.warm).Run(ctx, both[0].Redis); err != nil {
		return nil, err
	}
	if err := l.Agree(ctx, both...); err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, 2*time.Second); err != nil { // what has just been written is acknowledged
		return nil, err
	}
	const beat = 4 // bytes, each second
	var last int64
	var digests []float64 // what was sent at once; the median lets go of the rare other thing
	for began := time.Now(); time.Since(began) < max(l.watch, 2*time.Second); {
		s, err := both[0].Status(ctx)
		if err != nil {
			return nil, err
		}
		if last > 0 && s.BytesSent > last+beat {
			digests = append(digests, float64(s.BytesSent-last))
		}
		last = s.BytesSent
		if err := lab.Pause(ctx, time.Second/20); err != nil {
			return nil, err
		}
	}
	return []figure{{
		what: "equal peers agree, linked: a digest", value: measure.Median(digests), unit: " bytes",
		bound: atMost(64, 0), note: fmt.Sprintf("%d seen; no answer", len(digests)),
	}}, nil
}

// burst measures what goes over a link when a peer that was away gets what was written meanwhile.
func burst(ctx context.Context, l *bench) ([]figure, error) {
	both, err := l.Cluster(ctx, "source", "away")
	if err != nil {
		return nil, err
	}
	source, away := both[0], both[1]
	const writes, key, value = 1000, 16, 64
	returns := func(writes int) (bytes float64, err error) {
		if err := l.Agree(ctx, both...); err != nil {
			return 0, err
		}
		if err := away.Stop(ctx); err != nil {
			return 0, err
		}
		all := lab.Load{Clients: 1, Pipeline: 16, Commands: writes, Command: func(b []byte, _ int) []byte {
			return lab.AppendCommand(b, "SET", lab.Noise(key), lab.Noise(value)) // neither can be packed
		}}
		if _, err := all.Run(ctx, source.Redis); err != nil {
			return 0, err
		}
		before, err := source.Status(ctx)
		if err != nil {
			return 0, err
		}
		if err := away.Begin(ctx, away.Name); err != nil {
			return 0, err
		}
		err = lab.Await(ctx, lab.Patience, "the peer that was away is linked", func() bool {
			s, err := source.Status(ctx)
			return err == nil && s.Linked() == 1
		})
		if err != nil {
			return 0, err
		}
		if err := l.Agree(ctx, both...); err != nil {
			return 0, err
		}
		if err := lab.Pause(ctx, 2*time.Second); err != nil { // until it is acknowledged
			return 0, err
		}
		after, err := source.Status(ctx)
		return float64(after.BytesSent - before.BytesSent), err
	}
	if _, err := returns(writes); err != nil { // both have written something, and know each other
		return nil, err
	}
	var overhead, nothing []float64
	for range l.rounds {
		empty, err := returns(0)
		if err != nil {
			return nil, err
		}
		bytes, err := returns(writes)
		if err != nil {
			return nil, err
		}
		nothing = append(nothing, empty)
		overhead = append(overhead, (bytes-empty)/writes-key-value)
	}
	return []figure{{
		what:   "a burst of 1,000 writes to a peer that was away, overhead each",
		rounds: measure.Spread(overhead), unit: " bytes", bound: atMost(20, 3),
		note: fmt.Sprintf("beyond key and value; the return itself is %s bytes", report.Number(measure.Median(nothing))),
	}}, nil
}

// idleCluster measures what peers with many keys do while nothing happens.
func idleCluster(ctx context.Context, l *bench) ([]figure, error) {
	all, err := l.Cluster(ctx, "one", "two", "three")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(50, l.cells).Run(ctx, all[0].Redis); err != nil {
		return nil, err
	}
	if err := l.Agree(ctx, all...); err != nil {
		return nil, err
	}
	var processes []*lab.Process
	for _, d := range all {
		processes = append(processes, d.Process)
	}
	if err := lab.Calm(ctx, processes...); err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, l.settle); err != nil { // the checkpoint that comes after a minute, and until all sleeps
		return nil, err
	}
	before := make([]time.Duration, len(all))
	for i, d := range all {
		if before[i], err = d.CPU(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := lab.Pause(ctx, l.watch); err != nil {
		return nil, err
	}
	took := time.Since(began)
	most, parts := 0.0, []string(nil)
	for i, d := range all {
		after, err := d.CPU()
		if err != nil {
			return nil, err
		}
		part := 100 * (after - before[i]).Seconds() / took.Seconds()
		most, parts = max(most, part), append(parts, report.Number(part))
	}
	return []figure{{
		what:  fmt.Sprintf("CPU of an idle cluster of 3 with %s keys", report.Count(l.cells)),
		value: most, unit: "% of a core", bound: atMost(1, 0.3), sized: true,
		note: fmt.Sprintf("%s%% in %v", strings.Join(parts, ", "), took.Round(time.Second)),
	}}, nil
}
