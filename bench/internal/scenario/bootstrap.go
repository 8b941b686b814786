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
	name    string
	clients int // that write meanwhile: how many writes may be under way at once
	// open fills a server. What it returns is to be closed, also with an error.
	open func(ctx context.Context, cells int) (*full, error)
}

// full is a server that was filled; one that was not for an error has what close ends.
type full struct {
	process *lab.Process
	// dial returns what sets the i-th key of the server, until ctx ends.
	dial func(ctx context.Context) (set func(i int) error, err error)
	// join has an empty one join it, waits until that has everything, and returns the bytes that went
	// over, and what the new one holds.
	join func(context.Context) (bytes, held int64, err error)
	// forget has the server forget who joined, which has ended. nil: it does so by itself.
	forget func(context.Context) error
	close  func() // nil: what was started ends with the section
}

func bootstrap(ctx context.Context, b *bench) error {
	b.System("peerd", b.Version, "a daemon that joins one other", everySecond)
	all := []joining{{"peerd", 1, func(ctx context.Context, cells int) (*full, error) { return b.ownJoining(ctx, cells, 1) }}}
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
	} else {
		b.System("redis", b.programVersion(ctx, "redis-server", "--version"),
			"full resync of a replica, diskless, without delay", everySecond)
		all = append(all, joining{"redis", 1, b.redisJoining})
	}
	b.System("etcd", version("go.etcd.io/etcd/server/v3"), "a learner of one member, embedded in "+
		"a process each, defaults but for a quota of 8 GiB", "each write synced before it is acknowledged")
	all = append(all, joining{"etcd", manyClients, b.learning})
	b.System(syncedPeer, b.Version, "as peerd", "each write synced before it is acknowledged")
	synced := func(ctx context.Context, cells int) (*full, error) {
		return b.ownJoining(ctx, cells, manyClients, "--durability", "always")
	}
	all = append(all, joining{syncedPeer, manyClients, synced})
	b.joinsLike()
	b.Note("peerd is compared with redis, which syncs as often; %s with etcd, in rows of their own.",
		syncedPeer)
	b.Note("%s was filled with its writes synced each second, and started again before it is joined.", syncedPeer)
	b.Note("Each server is filled once, is joined by an empty one in each round, and stands idle while others are measured.")
	b.Setting("keys of 16 bytes, values of 64; meanwhile 500 SETs a second to keys that are " +
		"there, an open loop")
	b.Note("peerd's bytes are those of its frames before encryption; redis' and etcd's are " +
		"counted in proxies. The time is from the start of the empty one's process.")
	b.Note("Values are one letter 64 times, which redis packs on the way; peerd and etcd do not.")
	b.Note("etcd keeps old revisions of keys and syncs each write, so its writers wait for the " +
		"disk before and meanwhile; up to 64 of their writes are under way at once, as a client " +
		"of etcd's has one connection for all, and peerd's with synced writes one for each. A learner has all that the member has, but does " +
		"not vote yet. An empty one's process, which is the harness, has some 70 MB, most of " +
		"them pages of its program.")
	cells := size(b, []int{50_000}, []int{1_000_000, 10_000_000})
	for i, n := range cells {
		from := float64(i) / float64(len(cells))
		if err := b.joinAll(ctx, all, n, from, from+1/float64(len(cells))); err != nil {
			return err
		}
	}
	chart := report.Chart{Name: "time", Title: "An empty peer joins: seconds until it has " +
		"everything", YLabel: "s"}
	for _, s := range all {
		line := report.Line{System: s.name}
		for _, n := range cells {
			line.Bar(b.Spread(report.Count(n)+" cells: time", s.name))
		}
		chart.Lines = append(chart.Lines, line)
	}
	for _, n := range cells {
		chart.Names = append(chart.Names, report.Count(n))
	}
	b.Charts = append(b.Charts, chart)
	return nil
}

// joinAll fills a server of each system, and has empty ones join each in turn.
func (b *bench) joinAll(ctx context.Context, all []joining, cells int, from, to float64) error {
	defer b.End()
	servers := make([]*full, len(all))
	for i, s := range all {
		b.show(from, fmt.Sprintf("%s cells, %s is filled", report.Count(cells), s.name))
		server, err := s.open(ctx, cells)
		if server != nil && server.close != nil {
			defer server.close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		servers[i] = server
	}
	sides := map[string]*sides{}
	return b.inTurn(from, to, report.Count(cells)+" cells", len(all), func(round, s int) error {
		err := b.Within(func() error {
			return b.joinOnce(ctx, all[s], servers[s], cells, func(what, unit string, value float64) {
				b.joined(sides, round, all[s].name, what, unit, value)
			})
		})
		if err == nil && servers[s].forget != nil {
			err = servers[s].forget(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", all[s].name, err)
		}
		return nil
	})
}

func keyed(cells int) lab.Load {
	value := strings.Repeat("v", joiningValue)
	return lab.Load{Clients: 16, Pipeline: 16, Commands: cells, Command: func(b []byte, i int) []byte {
		return lab.AppendCommand(b, "SET", joiningKey(i), value)
	}}
}

func (b *bench) joinOnce(ctx context.Context, s joining, server *full, cells int,
	less func(what, unit string, value float64)) error {
	if err := lab.Calm(ctx, server.process); err != nil {
		return err
	}
	what := report.Count(cells) + " cells"
	before, err := b.probed(ctx, server, s.clients, cells, func(ctx context.Context) error {
		return lab.Pause(ctx, size(b, time.Second, 5*time.Second))
	})
	if err != nil {
		return err
	}
	var took time.Duration
	var bytes, held int64
	meanwhile, err := b.probed(ctx, server, s.clients, cells, func(ctx context.Context) (err error) {
		began := time.Now()
		bytes, held, err = server.join(ctx)
		took = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	less(what+": time", "s", took.Seconds())
	less(what+": sent and received", "bytes a cell", float64(bytes)/float64(cells))
	less(what+": held by the new one", "MB", float64(held)/1e6)
	for _, o := range []struct {
		when string
		of   measure.Offered
	}{{"before", before}, {"meanwhile", meanwhile}} {
		if 100*o.of.Left > o.of.Latency.Count() { // some are always under way when what is awaited is done
			b.NotBegun(what+", the other "+o.when, s.name, &o.of)
		}
		if b.Enough(what+", the other "+o.when, 0.99, &o.of.Latency) {
			less(what+": p99 of the other "+o.when, "ms", o.of.Latency.Milliseconds(0.99))
		}
	}
	return nil
}

// probed does something while clients write, and returns how long their writes took.
func (b *bench) probed(ctx context.Context, server *full, clients, cells int, do func(context.Context) error) (
	measure.Offered, error) {
	probing, stop := context.WithCancel(ctx)
	defer stop()
	set, err := server.dial(probing)
	if err != nil {
		return measure.Offered{}, err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- do(probing)
		stop()
	}()
	o, _ := measure.Open{Rate: 500, For: b.Patience, Clients: clients, Do: func(_ context.Context, _, i int) error {
		return set(i * 7919 % cells)
	}}.Run(probing) // which ends with what is done
	stop()
	return o, errors.Join(<-failed, o.First)
}

// joinsLike has only those compared that have the same durability: peerd with redis, and
// syncedPeer with etcd.
func (b *bench) joinsLike() {
	b.Unlike("etcd")
	b.Unlike(syncedPeer)
}

// joined records what was measured of a system in a round.
func (b *bench) joined(all map[string]*sides, round int, system, what, unit string, value float64) {
	b.Less(what, unit, system, value)
	if all[what] == nil {
		all[what] = newSides(b, what, syncedPeer, func(system string) bool { return system == "etcd" })
	}
	all[what].less(round, system, value)
}

// syncedPeer is peerd with the durability of etcd.
const syncedPeer = "peerd, synced"

const (
	joiningValue = 64
	manyClients  = 64 // of a system that syncs each write: so many writes may be under way at once
)

func joiningKey(i int) string { return fmt.Sprintf("key:%012d", i) }

// redisSetter is a full's dial of a server that speaks RESP, with a connection for each of some clients.
func redisSetter(addr string, clients int) func(context.Context) (func(i int) error, error) {
	return func(ctx context.Context) (func(i int) error, error) {
		free := make(chan *lab.Client, clients)
		for range clients {
			c, err := lab.Dial(ctx, addr) // and it is closed with ctx
			if err != nil {
				return nil, err
			}
			free <- c
		}
		value := strings.Repeat("v", joiningValue)
		return func(i int) error {
			c := <-free
			defer func() { free <- c }()
			_, err := c.Do("SET", joiningKey(i), value)
			return err
		}, nil
	}
}

func (b *bench) ownJoining(ctx context.Context, cells, clients int, args ...string) (*full, error) {
	name := "source"
	if len(args) > 0 {
		name = "synced"
	}
	source, err := b.Daemon(ctx, name)
	if err != nil {
		return nil, err
	}
	if _, err := keyed(cells).Run(ctx, source.Redis); err != nil {
		return nil, err
	}
	if len(args) > 0 {
		if err := source.Again(ctx, args...); err != nil {
			return nil, err
		}
	}
	join := func(ctx context.Context) (bytes, held int64, err error) {
		empty, err := b.Neighbour(ctx, "empty", source, args...)
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
	}
	return &full{process: source.Process, dial: redisSetter(source.Redis, clients), join: join}, nil
}

func (b *bench) redisJoining(ctx context.Context, cells int) (*full, error) {
	p, primary, err := b.Redis(ctx, "--repl-diskless-sync-delay", "0")
	if err != nil {
		return nil, err
	}
	if _, err := keyed(cells).Run(ctx, primary); err != nil {
		return nil, err
	}
	join := func(ctx context.Context) (bytes, held int64, err error) {
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
	}
	return &full{process: p, dial: redisSetter(primary, 1), join: join}, nil
}
