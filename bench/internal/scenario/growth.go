package scenario

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
)

// grown is a server whose data grows, and which can be opened anew.
type grown struct {
	name  string
	open  func(ctx context.Context) error // begins it, again with what it has
	stop  func(ctx context.Context) error
	addr  func() string
	files string // its directory
	held  func() (all, anonymous int64, err error)
}

// dimension is what grows.
type dimension struct {
	name  string
	sizes []int
	grow  func(ctx context.Context, b *bench, g *grown, from, to int) error
	alone bool // redis has no such thing
}

// fill sends commands with a pipeline.
func fill(command func(b []byte, i int) []byte) func(context.Context, *bench, *grown, int, int) error {
	return func(ctx context.Context, _ *bench, g *grown, from, to int) error {
		load := lab.Load{Clients: 16, Pipeline: 16, Commands: to - from,
			Command: func(b []byte, i int) []byte { return command(b, from+i) }}
		_, err := load.Run(ctx, g.addr())
		return err
	}
}

func dimensions(b *bench) []dimension {
	value := strings.Repeat("v", 64)
	restarts := func(ctx context.Context, _ *bench, g *grown, from, to int) error {
		for i := from; i < to; i++ {
			if err := errors.Join(g.stop(ctx), g.open(ctx)); err != nil {
				return err
			}
			if _, err := lab.Ask(ctx, g.addr(), "SET", fmt.Sprint("start:", i%10), value); err != nil {
				return err
			}
		}
		return nil
	}
	return []dimension{
		{"keys", size(b, []int{1_000, 10_000, 50_000}, []int{1_000, 10_000, 100_000, 1_000_000}),
			fill(func(b []byte, i int) []byte {
				return lab.AppendCommand(b, "SET", fmt.Sprintf("key:%012d", i), value)
			}), false},
		{"elements of one set", size(b, []int{1_000, 10_000, 50_000}, []int{1_000, 10_000, 100_000, 1_000_000}),
			fill(func(b []byte, i int) []byte {
				return lab.AppendCommand(b, "SADD", "set", fmt.Sprintf("element:%012d", i))
			}), false},
		{"deleted keys", size(b, []int{1_000, 10_000, 50_000}, []int{1_000, 10_000, 100_000, 1_000_000}),
			func(ctx context.Context, b *bench, g *grown, from, to int) error {
				for _, words := range [][]string{{"SET", value}, {"DEL"}} {
					err := fill(func(b []byte, i int) []byte {
						key := fmt.Sprintf("gone:%012d", i)
						return lab.AppendCommand(b, append([]string{words[0], key}, words[1:]...)...)
					})(ctx, b, g, from, to)
					if err != nil {
						return err
					}
				}
				return nil
			}, false},
		{"replicas that have written", size(b, []int{1, 10}, []int{1, 10, 100}), restarts, true},
	}
}

func growth(ctx context.Context, b *bench) error {
	b.System("peerd", "this tree", "one daemon", everySecond)
	withRedis := true
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
		withRedis = false
	} else {
		b.System("redis", b.programVersion(ctx, "redis-server", "--version"), "appendonly yes", everySecond)
	}
	b.Setting("values of 64 bytes; latency of SETs of 100 other keys, an open loop of 500 a " +
		"second; " +
		"opening is from the start of the process until it answers, after a clean stop")
	b.Note("A replica is one start of one host: each start that writes is an entry more in " +
		"contexts, until its end " +
		"is known to all. redis has no such thing.")
	b.Note("In the charts, a straight line through the first two sizes.")
	all := dimensions(b)
	for i, d := range all {
		systems := 2
		if d.alone || !withRedis {
			systems = 1
		}
		from := float64(i) / float64(len(all))
		err := b.inTurn(from, from+1/float64(len(all)), d.name, systems, func(_, s int) error {
			return b.growOne(ctx, d, s)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		b.growthCharts(d)
	}
	return nil
}

// growing begins peerd or redis.
func (b *bench) growing(ctx context.Context, system int) (*grown, error) {
	if system == 0 {
		d, err := b.Daemon(ctx, "peerd")
		if err != nil {
			return nil, err
		}
		return &grown{"peerd", func(ctx context.Context) error { return d.Begin(ctx, d.Name) },
			func(ctx context.Context) error { return d.Stop(ctx) }, func() string { return d.Redis }, d.Dir,
			func() (int64, int64, error) { return d.Resident() }}, nil
	}
	p, addr, err := b.Redis(ctx)
	if err != nil {
		return nil, err
	}
	g := &grown{name: "redis", addr: func() string { return addr }, files: b.Path(p.Name)}
	g.held = func() (int64, int64, error) { return p.Resident() }
	g.stop = func(ctx context.Context) error { return p.Stop(ctx) }
	g.open = func(ctx context.Context) (err error) {
		_, port, _ := strings.Cut(addr, ":")
		p, err = b.Start(p.Name, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", g.files,
			"--appendonly", "yes", "--save", "")
		if err != nil {
			return err
		}
		return lab.Await(ctx, lab.Patience, "redis answers", func() bool {
			answer, err := lab.Ask(ctx, addr, "PING")
			return err == nil && answer == "PONG"
		})
	}
	return g, nil
}

func (b *bench) growOne(ctx context.Context, d dimension, system int) error {
	defer b.End()
	g, err := b.growing(ctx, system)
	if err != nil {
		return err
	}
	last := 0
	for _, n := range d.sizes {
		if err := d.grow(ctx, b, g, last, n); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		last = n
		if err := b.measureGrown(ctx, fmt.Sprintf("%s %s", report.Count(n), d.name), g); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

func (b *bench) measureGrown(ctx context.Context, what string, g *grown) error {
	c, err := lab.Dial(ctx, g.addr())
	if err != nil {
		return err
	}
	o, err := measure.Open{Rate: 500, For: size(b, 500*time.Millisecond, 3*time.Second), Clients: 1,
		Do: func(_ context.Context, _, i int) error {
			_, err := c.Do("SET", fmt.Sprint("probe:", i%100), "value")
			return err
		}}.Run(ctx)
	c.Close()
	if err = errors.Join(err, o.First); err != nil {
		return err
	}
	held, _, err := g.held()
	if err != nil {
		return err
	}
	if err := g.stop(ctx); err != nil {
		return err
	}
	bytes, err := sizeOf(g.files)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := g.open(ctx); err != nil {
		return err
	}
	b.Less("opening, "+what, "ms", g.name, float64(time.Since(began))/float64(time.Millisecond))
	b.Less("memory, "+what, "MB", g.name, float64(held)/1e6)
	b.Less("disk, "+what, "MB", g.name, float64(bytes)/1e6)
	b.Less("p99 of SET, "+what, "ms", g.name, o.Latency.Milliseconds(0.99))
	return nil
}

// sizeOf returns how many bytes the files of a directory have.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

func (b *bench) growthCharts(d dimension) {
	for _, q := range []struct{ what, unit string }{{"memory", "MB"}, {"disk", "MB"}, {"opening", "ms"}} {
		chart := report.Chart{Name: strings.ReplaceAll(q.what+" "+d.name, " ", "-"),
			Title: fmt.Sprintf("%s by %s", q.what, d.name), XLabel: d.name, YLabel: q.unit, LogX: true, LogY: true}
		for _, s := range b.Systems {
			line := report.Line{System: s.Name}
			for _, n := range d.sizes {
				name := fmt.Sprintf("%s, %s %s", q.what, report.Count(n), d.name)
				line.Point(float64(n), b.Spread(name, s.Name))
			}
			chart.Lines = append(chart.Lines, line)
		}
		own := chart.Lines[0]
		straight := report.Line{System: "straight", Theory: true}
		slope := (own.Y[1] - own.Y[0]) / (own.X[1] - own.X[0])
		for _, x := range own.X {
			straight.X, straight.Y = append(straight.X, x), append(straight.Y, own.Y[0]+slope*(x-own.X[0]))
		}
		chart.Lines = append(chart.Lines, straight)
		b.Charts = append(b.Charts, chart)
	}
}
