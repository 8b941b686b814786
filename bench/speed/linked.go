package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// neighbours measures what it costs a peer that two others get what is written to it.
func neighbours(ctx context.Context, l *lab) (found []figure, err error) {
	alone, err := l.daemon(ctx, "alone")
	if err != nil {
		return nil, err
	}
	all, err := l.cluster(ctx, "source", "one", "two")
	if err != nil {
		return nil, err
	}
	for _, pipeline := range []int{1, 16} {
		requests := l.requests
		if pipeline > 1 {
			requests *= 4
		}
		set := func(d *daemon, holders ...*daemon) (float64, error) {
			used, err := d.used(func() error {
				_, err := l.redisBenchmark(ctx, d.redis, "set", pipeline, requests, l.warm)
				if err != nil {
					return err
				}
				return l.agree(ctx, holders...)
			})
			return float64(used.Microseconds()) / float64(requests), err
		}
		var withTwo, without []float64
		for range l.rounds {
			cost, err := set(all[0], all...)
			if err != nil {
				return found, err
			}
			withTwo = append(withTwo, cost)
			if cost, err = set(alone, alone); err != nil {
				return found, err
			}
			without = append(without, cost)
		}
		found = append(found, figure{
			what:  fmt.Sprintf("CPU of SET -P %d with two neighbours, × alone", pipeline),
			value: quotient(withTwo, without), bound: atMost(1.5, 1.2),
			note: fmt.Sprintf("%s and %s µs", number(median(withTwo)), number(median(without))),
		})
	}
	return found, nil
}

// spread measures how long a write takes until a neighbour has it, while another one reads 10 KB a second, against the same
// while it reads what there is.
func spread(ctx context.Context, l *lab) ([]figure, error) {
	var slow, quick []float64
	for range l.rounds {
		lines, err := l.goBenchmark(ctx, "peer", "^BenchmarkSlowNeighbour$", "-test.benchtime", "5000x")
		if err != nil {
			return nil, err
		}
		slow = append(slow, lines["BenchmarkSlowNeighbour/slow=true"]["p99-ms"])
		quick = append(quick, lines["BenchmarkSlowNeighbour/slow=false"]["p99-ms"])
	}
	return []figure{{
		what:  "p99 until one neighbour has a write, another at 10 KB/s, × without",
		value: quotient(slow, quick), bound: atMost(1.5, 1.2),
		note: fmt.Sprintf("%s and %s ms", number(median(slow)), number(median(quick))),
	}}, nil
}

// bootstrap measures how fast an empty peer gets what another has, and what clients of the other
// notice. They write all the while, 500 times a second, to keys that are there.
func bootstrap(ctx context.Context, l *lab) ([]figure, error) {
	source, err := l.daemon(ctx, "source")
	if err != nil {
		return nil, err
	}
	cells := keyed(50, l.cells)
	if _, err := cells.run(ctx, source.redis); err != nil {
		return nil, err
	}
	if err := calm(ctx, source.process); err != nil {
		return nil, err
	}
	during := func(do func(context.Context) error) (histogram, error) {
		probing, stop := context.WithCancel(ctx)
		defer stop()
		failed := make(chan error, 1)
		go func() {
			failed <- do(probing)
			stop()
		}()
		h, err := probe(probing, source.redis, time.Second/500, func(b []byte, i int) []byte {
			return cells.command(b, i*7919%l.cells)
		})
		stop()
		if doing := <-failed; err == nil {
			err = doing
		}
		return h, err
	}
	before, err := during(func(ctx context.Context) error {
		return pause(ctx, max(2*time.Second, l.watch/6))
	})
	if err != nil {
		return nil, err
	}
	var took time.Duration
	meanwhile, err := during(func(ctx context.Context) error {
		began := time.Now()
		empty, err := l.neighbour(ctx, "empty", source)
		if err != nil {
			return err
		}
		want := fmt.Sprint(l.cells)
		err = await(ctx, l.patience, "the empty peer has everything", func() bool {
			size, err := ask(ctx, empty.redis, "DBSIZE")
			return err == nil && size == want
		})
		took = time.Since(began)
		return err
	})
	if err != nil {
		return nil, err
	}
	ms := func(h histogram) float64 { return float64(h.quantile(0.99)) / float64(time.Millisecond) }
	return []figure{{
		what:  fmt.Sprintf("an empty peer gets %s cells of 64 bytes", count(l.cells)),
		value: took.Seconds(), unit: " s", bound: atMost(8, 3), sized: true,
		note: "from its start; beside 500 SETs a second",
	}, {
		what:  "the source's p99 meanwhile, × before",
		value: ms(meanwhile) / ms(before), bound: atMost(2, 1.5), sized: true,
		note: fmt.Sprintf("%s and %s ms", number(ms(meanwhile)), number(ms(before))),
	}}, nil
}

// repair measures what replicas say to each other that differ in a few cells among many.
func repair(ctx context.Context, l *lab) (found []figure, err error) {
	// What a difference holds in any case: the benchmark's addresses of 16 bytes, a dot (an id of 8
	// and a number of up to 4), a value of 64.
	const address, dot, value = 16, 12, 64
	args := []string{"-test.benchtime", "1x"}
	cells := 1_000_000 // the benchmark's own sizes
	if l.cells < cells {
		args, cells = append(args, "-test.short"), cells/10
	}
	lines, err := l.goBenchmark(ctx, "internal/engine", "^BenchmarkRepair$/^mem$", args...)
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
				count(size.differences), count(cells)),
			value: units["B/difference"] - address - dot - value, unit: " bytes", bound: size.limit, sized: true,
			note: fmt.Sprintf("%s bytes each in all, %s messages",
				number(units["B/difference"]), number(units["messages"])),
		})
	}
	return found, nil
}

// agree measures what equal peers say to each other: each tells a neighbour a digest now and then,
// and is answered nothing if it is the same.
func agree(ctx context.Context, l *lab) ([]figure, error) {
	both, err := l.cluster(ctx, "one", "other")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(1, l.warm).run(ctx, both[0].redis); err != nil {
		return nil, err
	}
	if err := l.agree(ctx, both...); err != nil {
		return nil, err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // what has just been written is acknowledged
		return nil, err
	}
	const beat = 4 // bytes, each second
	var last int64
	var digests []float64 // what was sent at once; the median lets go of the rare other thing
	for began := time.Now(); time.Since(began) < max(l.watch, 2*time.Second); {
		s, err := both[0].status(ctx)
		if err != nil {
			return nil, err
		}
		if last > 0 && s.BytesSent > last+beat {
			digests = append(digests, float64(s.BytesSent-last))
		}
		last = s.BytesSent
		if err := pause(ctx, time.Second/20); err != nil {
			return nil, err
		}
	}
	return []figure{{
		what: "equal peers agree, linked: a digest", value: median(digests), unit: " bytes",
		bound: atMost(64, 0), note: fmt.Sprintf("%d seen; no answer", len(digests)),
	}}, nil
}

// burst measures what goes over a link when a peer that was away gets what was written meanwhile.
func burst(ctx context.Context, l *lab) ([]figure, error) {
	both, err := l.cluster(ctx, "source", "away")
	if err != nil {
		return nil, err
	}
	source, away := both[0], both[1]
	const writes = 1000
	command := keyed(1, writes).command
	returns := func(version, writes int) (bytes float64, err error) {
		if err := l.agree(ctx, both...); err != nil {
			return 0, err
		}
		if err := away.stop(ctx); err != nil {
			return 0, err
		}
		all := load{1, 16, writes, func(b []byte, i int) []byte { return command(b, version*writes+i) }}
		if _, err := all.run(ctx, source.redis); err != nil {
			return 0, err
		}
		before, err := source.status(ctx)
		if err != nil {
			return 0, err
		}
		if err := away.begin(ctx, away.name); err != nil {
			return 0, err
		}
		err = await(ctx, patience, "the peer that was away is linked", func() bool {
			s, err := source.status(ctx)
			return err == nil && s.linked() == 1
		})
		if err != nil {
			return 0, err
		}
		if err := l.agree(ctx, both...); err != nil {
			return 0, err
		}
		if err := pause(ctx, 2*time.Second); err != nil { // until it is acknowledged
			return 0, err
		}
		after, err := source.status(ctx)
		return float64(after.BytesSent - before.BytesSent), err
	}
	if _, err := returns(0, writes); err != nil { // both have written something, and know each other
		return nil, err
	}
	var overhead, nothing []float64
	for round := range l.rounds {
		empty, err := returns(round+1, 0)
		if err != nil {
			return nil, err
		}
		bytes, err := returns(round+1, writes)
		if err != nil {
			return nil, err
		}
		const key, value = 16, 64
		nothing = append(nothing, empty)
		overhead = append(overhead, (bytes-empty)/writes-key-value)
	}
	return []figure{{
		what:  "a burst of 1,000 writes to a peer that was away, overhead each",
		value: median(overhead), unit: " bytes", bound: atMost(20, 3),
		note: fmt.Sprintf("beyond key and value; the return itself is %s bytes", number(median(nothing))),
	}}, nil
}

// idleCluster measures what peers with many keys do while nothing happens.
func idleCluster(ctx context.Context, l *lab) ([]figure, error) {
	l.usual = true
	defer func() { l.usual = false }()
	all, err := l.cluster(ctx, "one", "two", "three")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(50, l.cells).run(ctx, all[0].redis); err != nil {
		return nil, err
	}
	if err := l.agree(ctx, all...); err != nil {
		return nil, err
	}
	var processes []*process
	for _, d := range all {
		processes = append(processes, d.process)
	}
	if err := calm(ctx, processes...); err != nil {
		return nil, err
	}
	if err := pause(ctx, l.settle); err != nil { // the checkpoint that comes after a minute, and until all sleeps
		return nil, err
	}
	before := make([]time.Duration, len(all))
	for i, d := range all {
		if before[i], err = d.cpu(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := pause(ctx, l.watch); err != nil {
		return nil, err
	}
	took := time.Since(began)
	most, parts := 0.0, []string(nil)
	for i, d := range all {
		after, err := d.cpu()
		if err != nil {
			return nil, err
		}
		part := 100 * (after - before[i]).Seconds() / took.Seconds()
		most, parts = max(most, part), append(parts, number(part))
	}
	return []figure{{
		what:  fmt.Sprintf("CPU of an idle cluster of 3 with %s keys", count(l.cells)),
		value: most, unit: "% of a core", bound: atMost(1, 0.3), sized: true,
		note: fmt.Sprintf("%s%% in %v", strings.Join(parts, ", "), took.Round(time.Second)),
	}}, nil
}
