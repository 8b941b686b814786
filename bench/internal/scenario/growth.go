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
	name   string
	open   func(ctx context.Context) error // begins it, again with what it has
	stop   func(ctx context.Context) error
	addr   func() string
	files  string // its directory
	held   func() (all, anonymous int64, err error)
	daemon *lab.Daemon // nil: it is no peerd
}

// dimension is what grows.
type dimension struct {
	name  string
	sizes []int
	grow  func(ctx context.Context, b *bench, g *grown, from, to int) error
	work  work
	// payload is how many bytes the keys and values have that are there when so many have come.
	payload func(n int) int64
	alone   bool // redis has no such thing
}

// work is what is done to the thing that grew, and as well to a small one.
type work struct {
	name  string
	large func(n, i int) []string // the i-th operation on what has grown to n
	small func(i int) []string    // it on what does not grow
}

// inTurnOn returns operations of which one puts something there and the next takes it away again, so
// that each of them writes and nothing grows.
func inTurnOn(i int, put, take []string) []string {
	if i%2 == 0 {
		return put
	}
	return take
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

const grownValue = 64

func dimensions(b *bench) []dimension {
	value := strings.Repeat("v", grownValue)
	sizes := size(b, []int{1_000, 10_000, 50_000}, []int{1_000, 10_000, 100_000, 1_000_000})
	key := func(i int) string { return fmt.Sprintf("key:%012d", i) }
	element := func(i int) string { return fmt.Sprintf("element:%012d", i) }
	gone := func(i int) string { return fmt.Sprintf("gone:%012d", i) }
	return []dimension{
		{name: "keys", sizes: sizes,
			grow:    fill(func(b []byte, i int) []byte { return lab.AppendCommand(b, "SET", key(i), noise()) }),
			payload: func(n int) int64 { return int64(n) * int64(len(key(0))+grownValue) },
			work: work{"GET", func(n, i int) []string { return []string{"GET", key(i * 7919 % n)} },
				func(i int) []string { return []string{"GET", fmt.Sprint("probe:", i%100)} }}},
		{name: "elements of one set", sizes: sizes,
			grow:    fill(func(b []byte, i int) []byte { return lab.AppendCommand(b, "SADD", "set", element(i)) }),
			payload: func(n int) int64 { return int64(n) * int64(len(element(0))) },
			work: work{"SADD and SREM", func(_, i int) []string {
				return inTurnOn(i, []string{"SADD", "set", "probe"}, []string{"SREM", "set", "probe"})
			}, func(i int) []string {
				return inTurnOn(i, []string{"SADD", "small set", "probe"}, []string{"SREM", "small set", "probe"})
			}}},
		{name: "elements of one list", sizes: sizes,
			grow:    fill(func(b []byte, _ int) []byte { return lab.AppendCommand(b, "RPUSH", "list", noise()) }),
			payload: func(n int) int64 { return int64(n) * grownValue },
			work: work{"RPUSH and LPOP", func(_, i int) []string {
				return inTurnOn(i, []string{"RPUSH", "list", value}, []string{"LPOP", "list"})
			}, func(i int) []string {
				return inTurnOn(i, []string{"RPUSH", "small list", value}, []string{"LPOP", "small list"})
			}}},
		{name: "deleted keys", sizes: sizes,
			grow: func(ctx context.Context, b *bench, g *grown, from, to int) error {
				for _, words := range [][]string{{"SET", value}, {"DEL"}} {
					err := fill(func(b []byte, i int) []byte {
						return lab.AppendCommand(b, append([]string{words[0], gone(i)}, words[1:]...)...)
					})(ctx, b, g, from, to)
					if err != nil {
						return err
					}
				}
				return nil
			},
			payload: func(int) int64 { return 0 },
			work: work{"SET and DEL", func(n, i int) []string {
				k := gone(i / 2 * 7919 % n)
				return inTurnOn(i, []string{"SET", k, value}, []string{"DEL", k})
			}, func(i int) []string {
				return inTurnOn(i, []string{"SET", "never there", value}, []string{"DEL", "never there"})
			}}},
		{name: "replicas that have written", sizes: size(b, []int{1, 10}, []int{1, 10, 100}), grow: restarts,
			payload: func(n int) int64 { return int64(min(n, 10)) * (int64(len("start:0")) + grownValue) },
			work: work{"INCR", func(int, int) []string { return []string{"INCR", "counted by all"} },
				func(int) []string { return []string{"INCR", "counted by one"} }}, alone: true},
	}
}

// restarts has a server be started anew so often, and write each time, also to one counter.
func restarts(ctx context.Context, _ *bench, g *grown, from, to int) error {
	for i := from; i < to; i++ {
		if err := errors.Join(g.stop(ctx), g.open(ctx)); err != nil {
			return err
		}
		_, setting := lab.Ask(ctx, g.addr(), "SET", fmt.Sprint("start:", i%10), strings.Repeat("v", grownValue))
		_, counting := lab.Ask(ctx, g.addr(), "INCR", "counted by all")
		if err := errors.Join(setting, counting); err != nil {
			return err
		}
	}
	return nil
}

func growth(ctx context.Context, b *bench) error {
	b.System("peerd", b.Version, "one daemon", everySecond)
	withRedis := true
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
		withRedis = false
	} else {
		b.System("redis", b.programVersion(ctx, "redis-server", "--version"), "appendonly yes", everySecond)
	}
	b.Setting("values of 64 bytes, of keys and lists such that can hardly be packed; latency of SETs of 100 " +
		"other keys, an open loop of 500 a second; " +
		"opening is from the start of the process until it answers, after a clean stop; redis is asked each millisecond")
	b.Note("A replica is one start of one host: each start that writes is an entry more in " +
		"contexts, until its end " +
		"is known to all. redis has no such thing.")
	b.Note("Beside the latency of SETs of other keys is that of an operation on what grew, and of the same " +
		"on a small one: GET of one of all keys, SADD and SREM of one element, RPUSH and LPOP, SET and DEL " +
		"of keys that were deleted before, INCR of a counter that each replica has incremented.")
	b.Note("On disk beyond keys and values are all files after a clean stop, less the bytes of the keys, " +
		"elements and values that are there, for each of what grew: what an empty store has weighs most with few, and names that are packed " +
		"can make it less than nothing. " +
		"Of peerd's is the log of deltas, which is kept for others up to --delta-log-size, and redis' is its " +
		"append-only file, which is rewritten when it has doubled.")
	b.Note("A token is CRDT.TOKEN's: the context that a client carries to another peer, as peers tell " +
		"each other when they meet. An operator sees how many replicas there were in peerd_replicas, and how many " +
		"entries contexts have in peerd_replicas_listed.")
	b.Note("The last size of deletes and of replicas is joined by an empty peer: what it receives until both " +
		"are equal is what was deleted and by whom, but for some kB of probes and the values of the replicas: where " +
		"the log of deltas reaches back to the first, it is sent all of them, also of what is gone.")
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
		return &grown{name: "peerd", daemon: d, files: d.Dir,
			open: func(ctx context.Context) error { return d.Begin(ctx, d.Name) },
			stop: func(ctx context.Context) error { return d.Stop(ctx) },
			addr: func() string { return d.Redis },
			held: func() (int64, int64, error) { return d.Resident() }}, nil
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
		return lab.AwaitWithin(ctx, time.Millisecond, lab.Patience, "redis answers", func() bool {
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
		if err := b.measureGrown(ctx, d, n, g); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	if g.daemon != nil && d.payload(last) < 1<<10 {
		return b.joinGrown(ctx, d.named(last), g)
	}
	return nil
}

// named is a size of the dimension, as rows name it.
func (d dimension) named(n int) string { return fmt.Sprintf("%s %s", report.Count(n), d.name) }

// measureGrown measures what has grown to a size, and opens it anew.
func (b *bench) measureGrown(ctx context.Context, d dimension, n int, g *grown) error {
	what := d.named(n)
	for _, w := range []struct {
		name  string
		lasts time.Duration
		do    func(i int) []string
	}{
		{"SET", size(b, 500*time.Millisecond, 1500*time.Millisecond),
			func(i int) []string { return []string{"SET", fmt.Sprint("probe:", i%100), "value"} }},
		{d.work.name + " on what grew", size(b, 250*time.Millisecond, time.Second),
			func(i int) []string { return d.work.large(n, i) }},
		{d.work.name + " on a small one", size(b, 250*time.Millisecond, time.Second), d.work.small},
	} {
		o, err := probe(ctx, g.addr(), w.lasts, w.do)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.NotBegun(w.name+", "+what, g.name, &o)
		if b.Enough(w.name+", "+what, 0.99, &o.Latency) {
			b.Less("p99 of "+w.name+", "+what, "ms", g.name, o.Latency.Milliseconds(0.99))
		}
	}
	held, _, err := g.held()
	if err != nil {
		return err
	}
	if err := b.told(ctx, what, g); err != nil {
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
	b.Less("on disk beyond keys and values, "+what, "bytes each", g.name, beyond(bytes, d.payload(n), n))
	return nil
}

// beyond is how many bytes there are for each of n things that are not in keys and values.
func beyond(bytes, payload int64, n int) float64 { return float64(bytes-payload) / float64(n) }

// probe sends one command at a time, 500 a second, and returns how long they took.
func probe(ctx context.Context, addr string, lasts time.Duration, command func(i int) []string) (
	measure.Offered, error) {
	c, err := lab.Dial(ctx, addr)
	if err != nil {
		return measure.Offered{}, err
	}
	defer c.Close()
	o, err := measure.Open{Rate: 500, For: lasts, Clients: 1, Do: func(_ context.Context, _, i int) error {
		_, err := c.Do(command(i)...)
		return err
	}}.Run(ctx)
	return o, errors.Join(err, o.First)
}

// told records what a peerd tells clients and other peers of what it has seen, once it has removed what
// was deleted.
func (b *bench) told(ctx context.Context, what string, g *grown) error {
	if g.daemon == nil {
		return nil
	}
	if err := b.Agree(ctx, g.daemon); err != nil {
		return err
	}
	token, err := lab.Ask(ctx, g.addr(), "CRDT.TOKEN")
	if err != nil {
		return err
	}
	metrics, err := g.daemon.Metrics(ctx)
	if err != nil {
		return err
	}
	b.Less("a token, "+what, "bytes", g.name, float64(len(token)))
	b.Less("entries of contexts, "+what, "of replicas", g.name, metrics["peerd_replicas_listed"])
	b.Less("log of deltas, "+what, "MB", g.name, metrics["peerd_log_bytes"]/1e6)
	return nil
}

// joinGrown has an empty peer join, and records what it had to be told.
func (b *bench) joinGrown(ctx context.Context, what string, g *grown) error {
	empty, err := b.Neighbour(ctx, "empty", g.daemon)
	if err != nil {
		return err
	}
	if err := b.Agree(ctx, g.daemon, empty); err != nil {
		return err
	}
	s, err := empty.Status(ctx)
	b.Less("received by an empty peer that joins, "+what, "bytes", g.name, float64(s.BytesReceived))
	return err
}

// sizeOf returns how many bytes the files of a directory have.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while it was looked at
		}
		return err
	})
	return sum, err
}

func (b *bench) growthCharts(d dimension) {
	for _, q := range []struct{ what, unit string }{{"memory", "MB"}, {"disk", "MB"}, {"opening", "ms"},
		{"p99 of " + d.work.name + " on what grew", "ms"}, {"on disk beyond keys and values", "bytes each"}} {
		chart := report.Chart{Name: strings.ReplaceAll(q.what+" "+d.name, " ", "-"),
			Title: fmt.Sprintf("%s by %s", q.what, d.name), XLabel: d.name, YLabel: q.unit, LogX: true, LogY: true}
		for _, s := range b.Systems {
			line := report.Line{System: s.Name}
			for _, n := range d.sizes {
				line.Point(float64(n), b.Spread(q.what+", "+d.named(n), s.Name))
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
