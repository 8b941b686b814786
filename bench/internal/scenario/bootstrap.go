package scenario

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

// joining is how an empty peer of a system joins one that is full.
type joining struct {
	name string
	// open fills a server and returns its address, and what has an empty one join it and waits
	// until that has everything. That returns the bytes that went over, and what the new one holds.
	open func(ctx context.Context, cells int) (addr string, join func(context.Context) (bytes, held int64, err error), err error)
}

func bootstrap(ctx context.Context, b *bench) error {
	b.System("peerd", "this tree", "a daemon that joins one other", everySecond)
	all := []joining{{"peerd", b.ownJoining}}
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
	} else {
		b.System("redis", b.programVersion(ctx, "redis-server", "--version"),
			"full resync of a replica, diskless, without delay", everySecond)
		all = append(all, joining{"redis", b.redisJoining})
	}
	b.Setting("keys of 16 bytes, values of 64; meanwhile 500 SETs a second to keys that are " +
		"there, an open loop")
	b.Note("peerd's bytes are those of its frames before encryption; redis' are counted in a " +
		"proxy. The time is from " +
		"the start of the empty one's process.")
	cells := size(b, []int{50_000}, []int{1_000_000, 10_000_000})
	for i, n := range cells {
		from := float64(i) / float64(len(cells))
		err := b.inTurn(from, from+1/float64(len(cells)), report.Count(n)+" cells", len(all), func(_, s int) error {
			defer b.End()
			return b.joinOnce(ctx, all[s], n)
		})
		if err != nil {
			return err
		}
	}
	chart := report.Chart{Name: "time", Title: "An empty peer joins: seconds until it has " +
		"everything", YLabel: "s"}
	for _, s := range all {
		line := report.Line{System: s.name}
		for _, n := range cells {
			line.Y = append(line.Y, b.Median(report.Count(n)+" cells: time", s.name))
		}
		chart.Lines = append(chart.Lines, line)
	}
	for _, n := range cells {
		chart.Names = append(chart.Names, report.Count(n))
	}
	b.Charts = append(b.Charts, chart)
	return nil
}

func keyed(cells int) lab.Load {
	value := strings.Repeat("v", 64)
	return lab.Load{Clients: 16, Pipeline: 16, Commands: cells, Command: func(b []byte, i int) []byte {
		return lab.AppendCommand(b, "SET", fmt.Sprintf("key:%012d", i), value)
	}}
}

func (b *bench) joinOnce(ctx context.Context, s joining, cells int) error {
	addr, join, err := s.open(ctx, cells)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	what := report.Count(cells) + " cells"
	before, err := b.probed(ctx, addr, cells, func(ctx context.Context) error {
		return lab.Pause(ctx, size(b, time.Second, 10*time.Second))
	})
	if err != nil {
		return err
	}
	var took time.Duration
	var bytes, held int64
	meanwhile, err := b.probed(ctx, addr, cells, func(ctx context.Context) (err error) {
		began := time.Now()
		bytes, held, err = join(ctx)
		took = time.Since(began)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	b.Less(what+": time", "s", s.name, took.Seconds())
	b.Less(what+": sent and received", "bytes a cell", s.name, float64(bytes)/float64(cells))
	b.Less(what+": held by the new one", "MB", s.name, float64(held)/1e6)
	b.Less(what+": p99 of the other before", "ms", s.name, before.Milliseconds(0.99))
	b.Less(what+": p99 of the other meanwhile", "ms", s.name, meanwhile.Milliseconds(0.99))
	return nil
}

// probed does something while a client writes, and returns how long its writes took.
func (b *bench) probed(ctx context.Context, addr string, cells int, do func(context.Context) error) (
	measure.Latencies, error) {
	probing, stop := context.WithCancel(ctx)
	defer stop()
	c, err := lab.Dial(probing, addr)
	if err != nil {
		return measure.Latencies{}, err
	}
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		failed <- do(probing)
		stop()
	}()
	value := strings.Repeat("v", 64)
	o, _ := measure.Open{Rate: 500, For: b.Patience, Clients: 1, Do: func(_ context.Context, _, i int) error {
		_, err := c.Do("SET", fmt.Sprintf("key:%012d", i*7919%cells), value)
		return err
	}}.Run(probing) // which ends with what is done
	stop()
	return o.Latency, errors.Join(<-failed, o.First)
}

func (b *bench) ownJoining(ctx context.Context, cells int) (
	addr string, join func(context.Context) (int64, int64, error), err error) {
	source, err := b.Daemon(ctx, "source")
	if err != nil {
		return "", nil, err
	}
	if _, err := keyed(cells).Run(ctx, source.Redis); err != nil {
		return "", nil, err
	}
	if err := lab.Calm(ctx, source.Process); err != nil {
		return "", nil, err
	}
	return source.Redis, func(ctx context.Context) (bytes, held int64, err error) {
		empty, err := b.Neighbour(ctx, "empty", source)
		if err != nil {
			return 0, 0, err
		}
		want := fmt.Sprint(cells)
		err = lab.Await(ctx, b.Patience, "the empty peer has everything", func() bool {
			got, err := lab.Ask(ctx, empty.Redis, "DBSIZE")
			return err == nil && got == want
		})
		if err != nil {
			return 0, 0, err
		}
		s, err := empty.Status(ctx)
		if err != nil {
			return 0, 0, err
		}
		held, _, err = empty.Resident()
		return s.BytesSent + s.BytesReceived, held, err
	}, nil
}

func (b *bench) redisJoining(ctx context.Context, cells int) (
	addr string, join func(context.Context) (int64, int64, error), err error) {
	p, primary, err := b.Redis(ctx, "--repl-diskless-sync-delay", "0")
	if err != nil {
		return "", nil, err
	}
	if _, err := keyed(cells).Run(ctx, primary); err != nil {
		return "", nil, err
	}
	if err := lab.Calm(ctx, p); err != nil {
		return "", nil, err
	}
	return primary, func(ctx context.Context) (bytes, held int64, err error) {
		r, err := b.redisReplica(ctx, primary)
		if r != nil {
			defer r.proxy.Close()
		}
		if err != nil {
			return 0, 0, err
		}
		if err := r.equal(ctx, b.Patience); err != nil {
			return 0, 0, err
		}
		held, _, err = r.process.Resident()
		return r.proxy.Bytes.Load(), held, err
	}, nil
}
