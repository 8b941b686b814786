package scenario

import (
	"context"
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
	incr  func(ctx context.Context, client int, key string) error
	cas   func(ctx context.Context, client int, key string) error // nil: it has none
	close func()
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
	b.Setting("clients that wait for each answer, divided among the members; compare-and-set is "+
		"a read and a write "+
		"that fails if another came between, of one of %s keys; increments of etcd and ZooKeeper "+
		"are that, again "+
		"until it succeeds, as they have none of their own", report.Count(strongKeys))
	b.Note("An increment of peerd is acknowledged by one peer, and its sum is right once all " +
		"have met; the others " +
		"have it from a majority, and each reader sees it. This is what coordination costs, and " +
		"not the same promise.")
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

// coordinate measures all clusters, each of which stands idle while others are measured.
func (b *bench) coordinate(ctx context.Context, all []strongSystem, opened []*coordinator) error {
	clients := size(b, []int{1, 32}, []int{1, 8, 32, 128})
	works := []struct {
		name string
		keys int
		cas  bool
	}{{"increments of one counter", 1, false}, {"increments of 1,000 counters", strongKeys, false},
		{"compare-and-set", strongKeys, true}}
	for i, w := range works {
		chart := report.Chart{Name: fmt.Sprint("work-", i), Title: w.name + " a second", XLabel: "clients",
			YLabel: "a second", LogX: true, LogY: true}
		for _, s := range all {
			chart.Lines = append(chart.Lines, report.Line{System: s.name})
		}
		for j, n := range clients {
			what := fmt.Sprintf("%s, %d clients", w.name, n)
			from := (float64(i) + float64(j)/float64(len(clients))) / float64(len(works))
			err := b.inTurn(from, from+1/float64(len(works)*len(clients)), what, len(all), func(_, s int) error {
				do := opened[s].incr
				if w.cas {
					do = opened[s].cas
				}
				if do == nil {
					return nil
				}
				rate, latency, err := coordinated(ctx, n, w.keys, size(b, 500*time.Millisecond, 5*time.Second), do)
				if err != nil {
					return fmt.Errorf("%s: %w", all[s].name, err)
				}
				b.More(what, "a second", all[s].name, rate)
				b.Less(what+": p99, closed loop", "ms", all[s].name, latency.Milliseconds(0.99))
				return nil
			})
			if err != nil {
				return err
			}
			for s := range all {
				chart.Lines[s].Point(float64(n), b.Spread(what, all[s].name))
			}
		}
		b.Charts = append(b.Charts, chart)
	}
	return nil
}

// coordinated has clients work for a time.
func coordinated(ctx context.Context, clients, keys int, d time.Duration,
	do func(ctx context.Context, client int, key string) error) (float64, measure.Latencies, error) {
	var all sync.WaitGroup
	var next atomic.Int64
	latencies := make([]measure.Latencies, clients)
	failed := make(chan error, clients)
	began := time.Now()
	for client := range clients {
		all.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				sent := time.Now()
				if err := do(ctx, client, fmt.Sprint("key", int(next.Add(1))%keys)); err != nil {
					failed <- err
					return
				}
				latencies[client].Observe(time.Since(sent))
			}
		})
	}
	all.Wait()
	close(failed)
	var sum measure.Latencies
	for i := range latencies {
		sum.Add(&latencies[i])
	}
	return float64(sum.Count()) / time.Since(began).Seconds(), sum, <-failed
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
	return c, nil
}
