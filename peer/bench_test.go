package peer

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dgraph "github.com/dgraph-io/badger/v4"
	"golang.org/x/sync/errgroup"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/secret"
)

var value [64]byte

func openBench(b *testing.B, d Durability) *Peer {
	b.Helper()
	p, err := Open(context.Background(), Config{Dir: b.TempDir(), Offline: true, Durability: d})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return p
}

// parallel runs op by a number of writers at once and returns how many were done in a second.
func parallel(b *testing.B, writers int, op func(i int64) error) float64 {
	b.Helper()
	var next atomic.Int64
	var all errgroup.Group
	b.ResetTimer()
	for range writers {
		all.Go(func() error {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return nil
				}
				if err := op(i); err != nil {
					return err
				}
			}
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "op/s")
	return rate
}

// BenchmarkUpdate measures transactions of one operation by 64 writers, which share commit groups.
func BenchmarkUpdate(b *testing.B) {
	for _, op := range []struct {
		name string
		fn   func(tx *Tx, i int64) error
	}{
		{"incr", func(tx *Tx, i int64) error {
			_, err := tx.String(fmt.Sprint("n", i%1000)).Add(1)
			return err
		}},
		{"set", setOne},
		{"sadd", func(tx *Tx, i int64) error { _, err := tx.Set("s").Add(fmt.Sprint(i)); return err }},
	} {
		b.Run(op.name, func(b *testing.B) {
			p := openBench(b, Interval)
			parallel(b, 64, func(i int64) error {
				return p.Update(context.Background(), func(tx *Tx) error { return op.fn(tx, i) })
			})
		})
	}
}

// BenchmarkUpdateBesideWatches measures writers while watches read what they change: on two cores
// the watches' own work takes time as well.
func BenchmarkUpdateBesideWatches(b *testing.B) {
	for _, watches := range []int{0, 1, 100} {
		b.Run(fmt.Sprint("watches=", watches), func(b *testing.B) {
			p := openBench(b, Interval)
			ctx, stop := context.WithCancel(context.Background())
			var reading sync.WaitGroup
			defer reading.Wait()
			defer stop()
			for i := range watches {
				w := p.Watch(fmt.Sprint("k", i))
				reading.Go(func() {
					defer w.Close()
					for _, err := range w.All(ctx) {
						if err != nil {
							return
						}
					}
				})
			}
			parallel(b, 64, func(i int64) error {
				return p.Update(context.Background(), func(tx *Tx) error { return setOne(tx, i) })
			})
		})
	}
}

func setOne(tx *Tx, i int64) error { return tx.String(fmt.Sprint("k", i%100_000)).Set(value[:]) }

// BenchmarkCommit measures the commit path beside bare Badger with the same durability: writers
// that each set one key of 100,000 in a transaction. Badger is always first here: row commits of "bench bounds" has
// both take turns, and divides.
func BenchmarkCommit(b *testing.B) {
	for _, d := range []Durability{None, Interval, Always} {
		for _, writers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/%d/badger", d, writers), func(b *testing.B) {
				commitBare(b, writers, d == Always)
			})
			b.Run(fmt.Sprintf("%s/%d/peerd", d, writers), func(b *testing.B) {
				p := openBench(b, d)
				parallel(b, writers, func(i int64) error {
					return p.Update(context.Background(), func(tx *Tx) error { return setOne(tx, i) })
				})
			})
		}
	}
}

// commitBare writes to Badger with its default options, but for when it syncs.
func commitBare(b *testing.B, writers int, sync bool) {
	opts := dgraph.DefaultOptions(b.TempDir()).WithSyncWrites(sync).WithLogger(nil)
	db, err := dgraph.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	parallel(b, writers, func(i int64) error {
		return db.Update(func(tx *dgraph.Txn) error {
			return tx.Set([]byte(fmt.Sprint("k", i%100_000)), value[:])
		})
	})
}

// BenchmarkView measures reading one string of a thousand: by one goroutine, and by one a core.
func BenchmarkView(b *testing.B) {
	p := openBench(b, Interval)
	for i := range 1000 {
		mustSet(b, p, fmt.Sprint("k", i))
	}
	view := func(b *testing.B, i int) {
		err := p.View(context.Background(), func(tx *Tx) error {
			_, _ = tx.String(fmt.Sprint("k", i%1000)).Get()
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	}
	b.Run("one", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			view(b, i)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				view(b, i)
			}
		})
	})
	b.Run("parallel of nothing", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := p.View(context.Background(), func(*Tx) error { return nil }); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func mustSet(b *testing.B, p *Peer, key string) {
	b.Helper()
	err := p.Update(context.Background(), func(tx *Tx) error { return tx.String(key).Set(value[:]) })
	if err != nil {
		b.Fatal(err)
	}
}

// fill adds elements to a set, many in a transaction.
func fill(b *testing.B, p *Peer, set string, n int) {
	b.Helper()
	for i := 0; i < n; {
		err := p.Update(context.Background(), func(tx *Tx) error {
			for end := min(i+4000, n); i < end; i++ {
				if _, err := tx.Set(set).Add(fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddToSet adds one more element to sets of different sizes; bytes/op is what is sent for
// it.
func BenchmarkAddToSet(b *testing.B) {
	for _, size := range []int{10, 1000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := openBench(b, Interval)
			fill(b, p, "s", size)
			before := logBytes(b, p)
			i := 0
			b.ResetTimer()
			for b.Loop() {
				i++
				err := p.Update(context.Background(), func(tx *Tx) error {
					_, err := tx.Set("s").Add(fmt.Sprint("new", i))
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(logBytes(b, p)-before)/float64(i), "logged-B/op")
		})
	}
}

func logBytes(b *testing.B, p *Peer) int64 {
	b.Helper()
	s, err := p.Status()
	if err != nil {
		b.Fatal(err)
	}
	return s.LogBytes
}

// BenchmarkDelete measures how long a delete takes to be answered: of a key that was updated 10,000
// times, and of a set of 300,000 elements.
func BenchmarkDelete(b *testing.B) {
	b.Run("key-after-10000-updates", func(b *testing.B) {
		p := openBench(b, Interval)
		for b.Loop() {
			b.StopTimer()
			parallelSets(b, p, 10_000)
			b.StartTimer()
			deleteKey(b, p, "hot")
		}
	})
	b.Run("set-of-300000", func(b *testing.B) {
		p := openBench(b, Interval)
		for b.Loop() {
			b.StopTimer()
			fill(b, p, "big", 300_000)
			b.StartTimer()
			deleteKey(b, p, "big")
		}
	})
}

func parallelSets(b *testing.B, p *Peer, n int) {
	b.Helper()
	fns := make([]func(*Tx) error, n)
	for i := range fns {
		fns[i] = func(tx *Tx) error { return tx.String("hot").Set(value[:]) }
	}
	for _, err := range p.UpdateAll(context.Background(), fns) {
		if err != nil {
			b.Fatal(err)
		}
	}
}

func deleteKey(b *testing.B, p *Peer, key string) {
	b.Helper()
	err := p.Update(context.Background(), func(tx *Tx) error { _, err := tx.Remove(key); return err })
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkClearAndFillAgain has a set of 100 elements, other ones each time, be cleared again and
// again, as a queue is. The last 200 times are measured beside the first 200: what was deleted must
// not slow it down for ever.
func BenchmarkClearAndFillAgain(b *testing.B) {
	for range b.N {
		p := openBench(b, None)
		const rounds = 2000
		took := map[bool]time.Duration{}
		for i := range rounds {
			began := time.Now()
			for _, fn := range []func(tx *Tx) error{
				func(tx *Tx) error {
					for j := range 100 {
						if _, err := tx.Set("s").Add(fmt.Sprint(i, " ", j)); err != nil {
							return err
						}
					}
					return nil
				},
				func(tx *Tx) error { _, err := tx.Set("s").Clear(); return err },
			} {
				if err := p.Update(context.Background(), fn); err != nil {
					b.Fatal(err)
				}
			}
			if i < 200 || i >= rounds-200 {
				took[i < 200] += time.Since(began)
			}
		}
		b.ReportMetric(float64(took[true].Microseconds())/200, "first-µs/clear")
		b.ReportMetric(float64(took[false].Microseconds())/200, "last-µs/clear")
	}
}

// BenchmarkPipelines has 16 clients pipeline 1,000 SETs each at a time to a peer with a neighbour,
// and reports how often what does not wait for clients is done beside them: frames of deltas to the
// neighbour, and fsyncs. idle-ms is the longest time without a frame. An op is one pipeline.
func BenchmarkPipelines(b *testing.B) {
	for _, d := range []Durability{Interval, Always} {
		b.Run(string(d), func(b *testing.B) { benchPipelines(b, d) })
	}
}

func benchPipelines(b *testing.B, d Durability) {
	const clients, length = 16, 1000
	p, _ := openLinked(b, d)
	spread := &own(p).counters.sent[gossip.Push].frames
	fsyncs := func() uint64 { return own(p).counters.syncTimes.Counts().Total }
	framesBefore, fsyncsBefore, commitsBefore := spread.Load(), fsyncs(), own(p).counters.commits.Load()
	measured := make(chan time.Duration)
	ended := make(chan struct{})
	go func() { measured <- longestPause(spread, ended) }()
	rate := parallel(b, clients, func(i int64) error {
		fns := make([]func(*Tx) error, length)
		for j := range fns {
			fns[j] = func(tx *Tx) error { return setOne(tx, i*length+int64(j)) }
		}
		for _, err := range p.UpdateAll(context.Background(), fns) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	b.StopTimer()
	close(ended)
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(rate*length, "set/s")
	b.ReportMetric(float64(spread.Load()-framesBefore)/seconds, "frame/s")
	b.ReportMetric(float64(fsyncs()-fsyncsBefore)/seconds, "fsync/s")
	b.ReportMetric(float64(own(p).counters.commits.Load()-commitsBefore)/seconds, "commit/s")
	b.ReportMetric(float64((<-measured).Milliseconds()), "idle-ms")
}

// longestPause returns the longest time for which a counter stood still, until ended is closed.
func longestPause(counter *atomic.Uint64, ended <-chan struct{}) (longest time.Duration) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	seen, since := counter.Load(), time.Now()
	for {
		select {
		case <-look.C:
		case <-ended:
			return max(longest, time.Since(since))
		}
		if n := counter.Load(); n != seen {
			longest = max(longest, time.Since(since))
			seen, since = n, time.Now()
		}
	}
}

// openLinked opens a peer on disk and a neighbour in memory, linked over loopback.
func openLinked(b *testing.B, d Durability) (p, neighbour *Peer) {
	b.Helper()
	key := filepath.Join(b.TempDir(), "cluster.key")
	if _, err := secret.Create(key); err != nil {
		b.Fatal(err)
	}
	open := func(cfg Config) *Peer {
		cfg.ClusterKey, cfg.Gossip, cfg.P2P, cfg.FastGossip = key, "127.0.0.1:0", "127.0.0.1:0", true
		p, err := Open(context.Background(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = p.Close() })
		return p
	}
	p = open(Config{Name: "a", Dir: b.TempDir(), Durability: d})
	neighbour = open(Config{Name: "b", Memory: true, Join: []string{p.net.members.Addr()}})
	poll, deadline := time.NewTicker(10*time.Millisecond), time.After(30*time.Second)
	defer poll.Stop()
	for links(p) == 0 {
		select {
		case <-poll.C:
		case <-deadline:
			b.Fatal("the two peers are not linked")
		}
	}
	return p, neighbour
}

// BenchmarkWriters has writers set one key each at a time, by Update: what a transaction costs when
// there is nobody to share with, and when there are many. cpu-µs is the processor's time of all
// goroutines for one.
func BenchmarkWriters(b *testing.B) {
	names := hotNames()
	for _, writers := range []int{1, 16, 50, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			p := openBench(b, Interval)
			for _, name := range names {
				mustSet(b, p, name)
			}
			before := cpuTime()
			parallel(b, writers, func(i int64) error {
				return p.Update(context.Background(), func(tx *Tx) error {
					return tx.String(names[i%hotKeys]).Set(value[:])
				})
			})
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs")
		})
	}
}

// cpuTime returns how much of the processors' time the process has had.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkSubmit measures batches that a front-end submits or reads, of keys that memory has: what there
// is from a parsed command to its reply, but for the command itself. Figures are for one transaction.
func BenchmarkSubmit(b *testing.B) {
	for _, batch := range []int{1, 16} {
		for _, op := range []struct {
			name string
			fn   func(tx *Tx, key string) error
		}{
			{"read", func(tx *Tx, key string) error { _, _ = tx.String(key).Get(); return nil }},
			{"get", func(tx *Tx, key string) error { _, _ = tx.String(key).Get(); return nil }},
			{"set", func(tx *Tx, key string) error { return tx.String(key).Set(value[:]) }},
			{"incr", func(tx *Tx, key string) error { _, err := tx.String("n" + key).Add(1); return err }},
		} {
			b.Run(fmt.Sprint(op.name, "/", batch), func(b *testing.B) {
				p := openBench(b, Interval)
				fns, next := batchOf(batch, op.fn)
				done := make(chan []error, 1)
				submit := func() {
					next()
					if op.name == "read" {
						done <- p.Read(fns)
					} else {
						p.Submit(fns, func(errs []error) { done <- errs })
					}
					for _, err := range <-done {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				for range hotKeys {
					submit()
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				used, ops := cpuTime(), 0
				for b.Loop() {
					submit()
					ops += batch
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64((cpuTime()-used).Nanoseconds())/1e3/float64(ops), "cpu-µs/op")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(ops), "mallocs/op")
			})
		}
	}
}

// hotKeys is how many keys memory has in any case.
const hotKeys = 1000

func hotNames() []string {
	names := make([]string, hotKeys)
	for i := range names {
		names[i] = fmt.Sprint("k", i)
	}
	return names
}

// batchOf returns functions that are the same for each batch, and one that gives them the next
// keys.
func batchOf(n int, fn func(tx *Tx, key string) error) (fns []func(*Tx) error, next func()) {
	names := hotNames()
	keys, at := make([]string, n), 0
	fns = make([]func(*Tx) error, n)
	for i := range fns {
		fns[i] = func(tx *Tx) error { return fn(tx, keys[i]) }
	}
	return fns, func() {
		for i := range keys {
			keys[i] = names[at%hotKeys]
			at++
		}
	}
}
