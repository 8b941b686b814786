package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/peer"
)

// coordinator is a cluster of three on loopback. Clients are divided among its members.
type coordinator struct {
	incr strongDo
	cas  strongDo // nil: it has none
	// settle waits until what was acknowledged is everywhere, so that it is not the next one's to carry; nil: a majority
	// has it.
	settle func(context.Context) error
	close  func()
}

const (
	strongMembers = 3
	strongKeys    = 1000
)

// strongSystem is a system that counts.
type strongSystem struct {
	name, version, settings string
	open                    func(ctx context.Context, b *bench) (*coordinator, error)
}

func strong(ctx context.Context, b *bench) error {
	all := []strongSystem{
		{"peerd", "this tree", "three peers in this process: an increment is local, and " +
			"converges", openCounting},
		{"etcd", version("go.etcd.io/etcd/server/v3"), "three members in this process, defaults; " +
			"a client for each", openEtcd},
		{"raft", version("github.com/hashicorp/raft"), "hashicorp/raft: three members in this " +
			"process, defaults, " +
			"raft-wal; clients call the leader without a network", openRaft},
	}
	if err := b.zookeeper(ctx); err != nil {
		b.Skip("zookeeper", err)
	} else {
		all = append(all, strongSystem{"zookeeper", b.zookeeperVersion(ctx), "three processes, " +
			"defaults", openZooKeeper})
	}
	for _, s := range all {
		b.System(s.name, s.version, s.settings, "each write synced before it is acknowledged")
	}
	b.Setting("clients are divided among the members; rates are as fast as they are answered, "+
		"latencies from an open loop at half of the rate of the slowest system; compare-and-set is "+
		"a read and a write "+
		"that fails if another came between, of one of %s keys; increments of etcd and ZooKeeper "+
		"are that, again "+
		"until it succeeds, as they have none of their own", report.Count(strongKeys))
	b.Note("An increment of peerd is acknowledged by one peer, and its sum is right once all " +
		"have met; the others " +
		"have it from a majority, and each reader sees it. This is what coordination costs, and " +
		"not the same promise. Until peers agree is waited for behind each of peerd's turns, and not in its time.")
	b.Note("peerd and raft are called in this process, etcd and ZooKeeper over sockets of this machine: of what theirs take " +
		"a part is the way there. An increment of raft's is applied by its leader, and its compare-and-set reads what the " +
		"leader has applied, without asking the others first; etcd's read asks them.")
	b.Note("peerd has no compare-and-set across peers: coordination is not what it is for.")
	opened := make([]*coordinator, len(all))
	for i, s := range all {
		b.show(0, "starting "+s.name)
		c, err := s.open(ctx, b)
		if c != nil {
			defer c.close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		opened[i] = c
	}
	return b.coordinate(ctx, all, opened)
}

// strongWork is what clients do, to how many keys.
type strongWork struct {
	name string
	keys int
	of   func(*coordinator) strongDo
}

var strongWorks = []strongWork{
	{"increments of one counter", 1, (*coordinator).increment},
	{"increments of 1,000 counters", strongKeys, (*coordinator).increment},
	{"compare-and-set", strongKeys, (*coordinator).compareAndSet},
}

// strongDo does one operation as one of the clients.
type strongDo = func(ctx context.Context, client int, key string) error

func (c *coordinator) increment() strongDo     { return c.incr }
func (c *coordinator) compareAndSet() strongDo { return c.cas }

// openClients is with how many clients latencies are measured as well.
const openClients = 32

// coordinate measures all clusters, each of which stands idle while others are measured.
func (b *bench) coordinate(ctx context.Context, all []strongSystem, opened []*coordinator) error {
	clients := size(b, []int{1, openClients}, []int{1, 8, openClients, 128})
	for i, w := range strongWorks {
		chart := report.Chart{Name: fmt.Sprint("work-", i), Title: w.name + " a second",
			XLabel: "clients", YLabel: "a second", LogX: true, LogY: true, Papers: i == 0}
		for _, s := range all {
			chart.Lines = append(chart.Lines, report.Line{System: s.name})
		}
		for j, n := range clients {
			from := (float64(i) + float64(j)/float64(len(clients))) / float64(len(strongWorks))
			if err := b.coordinateWith(ctx, w, n, all, opened, from); err != nil {
				return err
			}
			for s := range all {
				chart.Lines[s].Point(float64(n), b.Spread(w.named(n), all[s].name))
			}
		}
		b.Charts = append(b.Charts, chart)
	}
	return nil
}

func (w strongWork) named(clients int) string { return fmt.Sprintf("%s, %d clients", w.name, clients) }

func (b *bench) coordinateWith(ctx context.Context, w strongWork, clients int, all []strongSystem,
	opened []*coordinator, from float64) error {
	what := w.named(clients)
	d := size(b, 400*time.Millisecond, 1200*time.Millisecond)
	slowest := 0.0
	err := b.inTurn(from, from, what, len(all), func(_, s int) error {
		do := w.of(opened[s])
		if do == nil {
			return nil
		}
		rate, err := coordinated(ctx, clients, w.keys, d, do)
		b.More(what, "a second", all[s].name, rate)
		if err == nil {
			err = opened[s].settled(ctx)
		}
		return wrapped(all[s].name, err)
	})
	if err != nil || clients != openClients {
		return err
	}
	for _, s := range all {
		if rate := b.Median(what, s.name); rate > 0 && (slowest == 0 || rate < slowest) {
			slowest = rate
		}
	}
	return b.inTurn(from, from, what+", open loop", len(all), func(_, s int) error {
		do := w.of(opened[s])
		if do == nil {
			return nil
		}
		o, err := measure.Open{Rate: slowest / 2, For: d, Clients: clients,
			Do: func(ctx context.Context, client, n int) error {
				return do(ctx, client, fmt.Sprint("key", n%w.keys))
			}}.Run(ctx)
		b.Latencies(what, all[s].name, &o)
		if err = errors.Join(err, o.First); err == nil {
			err = opened[s].settled(ctx)
		}
		return wrapped(all[s].name, err)
	})
}

func (c *coordinator) settled(ctx context.Context) error {
	if c.settle == nil {
		return nil
	}
	return c.settle(ctx)
}

func wrapped(system string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", system, err)
	}
	return nil
}

// coordinated has clients work for a time, and returns operations a second.
func coordinated(ctx context.Context, clients, keys int, d time.Duration, do strongDo) (float64, error) {
	var all sync.WaitGroup
	var next, done atomic.Int64
	failed := make(chan error, clients)
	began := time.Now()
	for client := range clients {
		all.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				if err := do(ctx, client, fmt.Sprint("key", int(next.Add(1))%keys)); err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	close(failed)
	return float64(done.Load()) / time.Since(began).Seconds(), <-failed
}

func openCounting(ctx context.Context, b *bench) (*coordinator, error) {
	all, err := openHosts(ctx, b, strongMembers, peer.Always)
	c := &coordinator{close: all.close}
	if err != nil {
		return c, err
	}
	c.incr = func(ctx context.Context, client int, key string) error {
		return all[client%len(all)].Update(ctx, func(tx *peer.Tx) error {
			_, err := tx.Counter(key).Add(1)
			return err
		})
	}
	c.settle = func(ctx context.Context) error { return all.agree(ctx, b.Patience) }
	return c, nil
}
