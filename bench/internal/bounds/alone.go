package bounds

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

const megabyte = 1e6

// held returns what a daemon holds as a figure.
func held(d *lab.Daemon, what string, limit bound, sized bool) ([]figure, error) {
	all, anonymous, err := d.Resident()
	if err != nil {
		return nil, err
	}
	return []figure{{
		what: what, value: float64(all) / megabyte, unit: " MB", bound: limit, sized: sized,
		note: fmt.Sprintf("%s MB of it anonymous", report.Number(float64(anonymous)/megabyte)),
	}}, nil
}

func memory(ctx context.Context, l *bench) ([]figure, error) {
	d, err := l.Daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(50, l.cells).Run(ctx, d.Redis); err != nil {
		return nil, err
	}
	atOnce, _, err := d.Resident()
	if err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, rests); err != nil {
		return nil, err
	}
	found, err := held(d, fmt.Sprintf("memory after %s SETs of 64 bytes", report.Count(l.cells)), atMost(300, 200), true)
	for i := range found {
		found[i].note += fmt.Sprintf(", half a minute later; %s MB at once", report.Number(float64(atOnce)/megabyte))
	}
	return found, err
}

// rests is after how long a daemon has given back what it needed for a load that is over.
const rests = 30 * time.Second

func idle(ctx context.Context, l *bench) ([]figure, error) {
	d, err := l.Daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	if err := lab.Calm(ctx, d.Process); err != nil {
		return nil, err
	}
	return held(d, "memory of an idle daemon", atMost(40, 25), false)
}

// opening measures how long it takes from the start of a daemon until it answers, with its data
// where the system has it in memory.
func opening(ctx context.Context, l *bench) (found []figure, err error) {
	d, err := l.Daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	for _, size := range []struct {
		cells int
		limit bound
	}{{l.cells, atMost(0.8, 0.4)}, {l.many, atMost(5, 2)}} {
		if _, err := keyed(50, size.cells).Run(ctx, d.Redis); err != nil {
			return found, err
		}
		var took []float64
		for range l.rounds {
			if err := d.Stop(ctx); err != nil {
				return found, err
			}
			began := time.Now()
			if err := d.Begin(ctx, d.Name); err != nil {
				return found, err
			}
			took = append(took, time.Since(began).Seconds())
		}
		found = append(found, figure{
			what:   fmt.Sprintf("opening %s cells", report.Count(size.cells)),
			rounds: measure.Spread(took), unit: " s", bound: size.limit, sized: true,
			note: "after a clean stop, until it answers",
		})
	}
	return found, nil
}

func writing(ctx context.Context, l *bench) ([]figure, error) {
	d, err := l.Daemon(ctx, "peerd")
	if err != nil {
		return nil, err
	}
	o, err := keyed(50, l.written).Run(ctx, d.Redis)
	if err != nil {
		return nil, err
	}
	even, err := evenness(o.Seconds)
	if err != nil {
		return nil, err
	}
	return []figure{{
		what:  fmt.Sprintf("writing %s keys: slowest second against the median", report.Count(l.written)),
		value: even, bound: atLeast(0.5, 0.8), sized: true,
		note: fmt.Sprintf("%s a second in %d s, 50 clients with pipelines of 16, %s of one %v",
			report.Number(float64(l.written)/o.Took.Seconds()), len(o.Seconds), closedP99,
			o.Latency.Quantile(0.99).Round(time.Millisecond)),
	}}, nil
}

// apart is daemons with different numbers of keys that no operation touches.
type apart struct {
	*lab.Daemon
	keys int
	cost map[string][]float64 // µs of processor time, by command, in each round
}

// growth measures what operations cost among few and many keys that they do not touch.
func growth(ctx context.Context, l *bench) (found []figure, err error) {
	var all []apart
	for _, keys := range []int{l.warm, l.cells, l.many} {
		d, err := l.Daemon(ctx, fmt.Sprint("with", keys))
		if err != nil {
			return nil, err
		}
		far := keyed(50, keys)
		value := strings.Repeat("v", 64)
		far.Command = func(b []byte, i int) []byte {
			return lab.AppendCommand(b, "SET", fmt.Sprintf("far:%012d", i), value)
		}
		if _, err := far.Run(ctx, d.Redis); err != nil {
			return nil, err
		}
		all = append(all, apart{d, keys, map[string][]float64{}})
	}
	for _, a := range all {
		if err := lab.Calm(ctx, a.Process); err != nil {
			return nil, err
		}
	}
	for _, test := range commands {
		for range l.rounds {
			for _, a := range all {
				used, err := a.Used(func() error {
					_, err := l.RedisBenchmark(ctx, a.Redis, 1, l.requests, l.warm, test)
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
					report.Count(a.keys), report.Count(all[0].keys)),
				rounds: measure.Ratio(a.cost[test], all[0].cost[test]), bound: atMost(1.5, 0), sized: true,
				note: fmt.Sprintf("%s and %s µs",
					report.Number(measure.Median(a.cost[test])), report.Number(measure.Median(all[0].cost[test]))),
			})
		}
	}
	return found, nil
}

// element measures one more element into a set of very many and into sets of ten, in turn.
func element(ctx context.Context, l *bench) ([]figure, error) {
	d, err := l.Daemon(ctx, "peerd")
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
		_, err := lab.Load{Clients: 50, Pipeline: 16, Commands: k.filling, Command: func(b []byte, i int) []byte {
			words := []string{"SADD", k.set(i)}
			for e := range ten {
				words = append(words, fmt.Sprintf("element:%d:%d", i, e))
			}
			return lab.AppendCommand(b, words...)
		}}.Run(ctx, d.Redis)
		if err != nil {
			return nil, err
		}
	}
	if err := lab.Calm(ctx, d.Process); err != nil {
		return nil, err
	}
	each := l.requests / l.rounds * 4
	for round := range l.rounds {
		for i, k := range kinds {
			used, err := d.Used(func() error {
				_, err := lab.Load{Clients: 50, Pipeline: 16, Commands: each, Command: func(b []byte, i int) []byte {
					return lab.AppendCommand(b, "SADD", k.set(i), fmt.Sprintf("one:%d:%d", round, i))
				}}.Run(ctx, d.Redis)
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
		what:   fmt.Sprintf("CPU of SADD into a set of %s, × into sets of 10", report.Count(l.cells)),
		rounds: measure.Ratio(large, small), bound: atMost(1.5, 0), sized: true,
		note: fmt.Sprintf("%s and %s µs, with -P 16", report.Number(measure.Median(large)), report.Number(measure.Median(small))),
	}}, nil
}
