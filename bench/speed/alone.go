package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const megabyte = 1e6

// held returns what a daemon holds as a figure.
func (d *daemon) held(what string, limit bound, sized bool) ([]figure, error) {
	all, anonymous, err := d.resident()
	if err != nil {
		return nil, err
	}
	return []figure{{
		what: what, value: float64(all) / megabyte, unit: " MB", bound: limit, sized: sized,
		note: fmt.Sprintf("%s MB of it anonymous", number(float64(anonymous)/megabyte)),
	}}, nil
}

func memory(ctx context.Context, l *lab) ([]figure, error) {
	d, err := l.daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(50, l.cells).run(ctx, d.redis); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("memory after %s SETs of 64 bytes", count(l.cells))
	return d.held(what, atMost(300, 200), true)
}

func idle(ctx context.Context, l *lab) ([]figure, error) {
	d, err := l.daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	if err := calm(ctx, d.process); err != nil {
		return nil, err
	}
	return d.held("memory of an idle daemon", atMost(40, 25), false)
}

// opening measures how long it takes from the start of a daemon until it answers, with its data
// where the system has it in memory.
func opening(ctx context.Context, l *lab) (found []figure, err error) {
	d, err := l.daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	for _, size := range []struct {
		cells int
		limit bound
	}{{l.cells, atMost(0.8, 0.4)}, {l.many, atMost(5, 2)}} {
		if _, err := keyed(50, size.cells).run(ctx, d.redis); err != nil {
			return found, err
		}
		var took []float64
		for range l.rounds {
			if err := d.stop(ctx); err != nil {
				return found, err
			}
			began := time.Now()
			if err := d.begin(ctx, d.name); err != nil {
				return found, err
			}
			took = append(took, time.Since(began).Seconds())
		}
		found = append(found, figure{
			what:  fmt.Sprintf("opening %s cells", count(size.cells)),
			value: median(took), unit: " s", bound: size.limit, sized: true,
			note: "after a clean stop, until it answers",
		})
	}
	return found, nil
}

func writing(ctx context.Context, l *lab) ([]figure, error) {
	d, err := l.daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	o, err := keyed(50, l.many).run(ctx, d.redis)
	if err != nil {
		return nil, err
	}
	return []figure{{
		what:  fmt.Sprintf("writing %s keys: slowest second against the median", count(l.many)),
		value: evenness(o.seconds), bound: atLeast(0.5, 0.8), sized: true,
		note: fmt.Sprintf("%s a second in %d s, 50 clients with pipelines of 16, p99 of one %v",
			number(float64(l.many)/o.took.Seconds()), len(o.seconds),
			o.latency.quantile(0.99).Round(time.Millisecond)),
	}}, nil
}

// apart is daemons with different numbers of keys that no operation touches.
type apart struct {
	*daemon
	keys int
	cost map[string][]float64 // µs of processor time, by command, in each round
}

// growth measures what operations cost among few and many keys that they do not touch.
func growth(ctx context.Context, l *lab) (found []figure, err error) {
	var all []apart
	for _, keys := range []int{l.warm, l.cells, l.many} {
		d, err := l.daemon(ctx, fmt.Sprint("with", keys))
		if err != nil {
			return nil, err
		}
		far := keyed(50, keys)
		value := strings.Repeat("v", 64)
		far.command = func(b []byte, i int) []byte {
			return appendCommand(b, "SET", fmt.Sprintf("far:%012d", i), value)
		}
		if _, err := far.run(ctx, d.redis); err != nil {
			return nil, err
		}
		all = append(all, apart{d, keys, map[string][]float64{}})
	}
	for _, a := range all {
		if err := calm(ctx, a.process); err != nil {
			return nil, err
		}
	}
	for _, test := range commands {
		for range l.rounds {
			for _, a := range all {
				used, err := a.used(func() error {
					_, err := l.redisBenchmark(ctx, a.redis, test, 1, l.requests, l.warm)
					return err
				})
				if err != nil {
					return found, err
				}
				a.cost[test] = append(a.cost[test], float64(used.Microseconds())/float64(l.requests))
			}
		}
		for _, a := range all[1:] {
			found = append(found, figure{
				what: fmt.Sprintf("CPU of %s among %s keys, × among %s", strings.ToUpper(test),
					count(a.keys), count(all[0].keys)),
				value: quotient(a.cost[test], all[0].cost[test]), bound: atMost(1.5, 0), sized: true,
				note: fmt.Sprintf("%s and %s µs",
					number(median(a.cost[test])), number(median(all[0].cost[test]))),
			})
		}
	}
	return found, nil
}

// element measures one more element into a set of very many and into sets of ten, in turn.
func element(ctx context.Context, l *lab) ([]figure, error) {
	d, err := l.daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	const ten, added = 10, 20
	few := max(1, l.requests/added) // sets of ten: so many that none gets many more
	kinds := []struct {
		filling int // commands, of ten elements each
		set     func(i int) string
		cost    []float64
	}{
		{filling: l.cells / ten, set: func(int) string { return "large" }},
		{filling: few, set: func(i int) string { return fmt.Sprint("few:", i%few) }},
	}
	for _, k := range kinds {
		_, err := load{50, 16, k.filling, func(b []byte, i int) []byte {
			words := []string{"SADD", k.set(i)}
			for e := range ten {
				words = append(words, fmt.Sprintf("element:%d:%d", i, e))
			}
			return appendCommand(b, words...)
		}}.run(ctx, d.redis)
		if err != nil {
			return nil, err
		}
	}
	if err := calm(ctx, d.process); err != nil {
		return nil, err
	}
	each := l.requests / l.rounds * 4
	for round := range l.rounds {
		for i, k := range kinds {
			used, err := d.used(func() error {
				_, err := load{50, 16, each, func(b []byte, i int) []byte {
					return appendCommand(b, "SADD", k.set(i), fmt.Sprintf("one:%d:%d", round, i))
				}}.run(ctx, d.redis)
				return err
			})
			if err != nil {
				return nil, err
			}
			kinds[i].cost = append(k.cost, float64(used.Microseconds())/float64(each))
		}
	}
	large, small := kinds[0].cost, kinds[1].cost
	return []figure{{
		what:  fmt.Sprintf("CPU of SADD into a set of %s, × into sets of 10", count(l.cells)),
		value: quotient(large, small), bound: atMost(1.5, 0), sized: true,
		note: fmt.Sprintf("%s and %s µs, with -P 16", number(median(large)), number(median(small))),
	}}, nil
}
