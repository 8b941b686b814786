package scenario

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/peer"
)

// keyCount is how many keys writers write to, in turn.
const keyCount = 100_000

func commitKey(i int) string { return fmt.Sprint("key:", i%keyCount) }

// store is an opened one: write sets a key in a transaction of its own, and returns when it is as
// durable as asked.
type store struct {
	write func(writer, i int, value []byte) error
	close func() error
	cpu   func() time.Duration // of what does the work
}

// durable is how durable a commit is when it is acknowledged.
type durable int

const (
	synced durable = iota
	eachSecond
	unsynced
)

func (d durable) String() string { return []string{"synced", "synced each second", "not synced"}[d] }

// engine is a system that commits.
type engine struct {
	name, version, settings string
	open                    func(ctx context.Context, b *bench, dir string, d durable, writers int) (store, error)
	apart                   bool // a process of its own: its allocations are not seen
	periodic                bool // it can sync each second by itself
}

// can reports whether a system has a durability.
func (e engine) can(d durable) bool { return d != eachSecond || e.periodic }

func engines(ctx context.Context, b *bench) []engine {
	all := []engine{
		{"peerd", version("github.com/peerd/peerd"), "embedded, one host, offline", openPeerd, false, true},
		{"badger", version("github.com/dgraph-io/badger/v4"), "defaults, Update", openBadger, false, false},
		{"pebble", version("github.com/cockroachdb/pebble/v2"), "defaults, Set", openPebble, false, false},
		{"bbolt", version("go.etcd.io/bbolt"), "Batch, of as many as write at once, which waits 1 ms " +
			"for them at most (its default: 10); Update for one", openBolt, false, false},
	}
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
		return all
	}
	return append(all, engine{"redis", b.programVersion(ctx, "redis-server", "--version"),
		"appendonly yes, over loopback", openRedis, true, true})
}

func openPeerd(ctx context.Context, _ *bench, dir string, d durable, _ int) (store, error) {
	durability := map[durable]peer.Durability{synced: peer.Always, eachSecond: peer.Interval, unsynced: peer.None}[d]
	p, err := peer.Open(ctx, peer.Config{Dir: dir, Offline: true, Durability: durability})
	if err != nil {
		return store{}, err
	}
	write := func(_, i int, value []byte) error {
		return p.Update(ctx, func(tx *peer.Tx) error { return tx.String(commitKey(i)).Set(value) })
	}
	return store{write, p.Close, ownCPU}, nil
}

func openBadger(_ context.Context, _ *bench, dir string, d durable, _ int) (store, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(d == synced).WithLogger(nil))
	if err != nil {
		return store{}, err
	}
	write := func(_, i int, value []byte) error {
		return db.Update(func(tx *badger.Txn) error { return tx.Set([]byte(commitKey(i)), value) })
	}
	return store{write, db.Close, ownCPU}, nil
}

// silent keeps Pebble's log to itself.
type silent struct{ *slog.Logger }

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func openPebble(_ context.Context, _ *bench, dir string, d durable, _ int) (store, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
	if err != nil {
		return store{}, err
	}
	options := pebble.NoSync
	if d == synced {
		options = pebble.Sync
	}
	write := func(_, i int, value []byte) error { return db.Set([]byte(commitKey(i)), value, options) }
	return store{write, db.Close, ownCPU}, nil
}

func openBolt(_ context.Context, _ *bench, dir string, d durable, writers int) (store, error) {
	db, err := bbolt.Open(dir+"/bolt.db", 0o600, &bbolt.Options{NoSync: d != synced})
	if err != nil {
		return store{}, err
	}
	db.MaxBatchSize = writers           // or a batch waits for writers that are not there
	db.MaxBatchDelay = time.Millisecond // by default 10: an open loop would measure that alone
	bucket := []byte("keys")
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	do := db.Batch
	if writers == 1 {
		do = db.Update // a batch would wait for others that do not come
	}
	write := func(_, i int, value []byte) error {
		return do(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(commitKey(i)), value) })
	}
	return store{write, db.Close, ownCPU}, err
}

func openRedis(ctx context.Context, b *bench, _ string, d durable, writers int) (store, error) {
	fsync := map[durable]string{synced: "always", eachSecond: "everysec", unsynced: "no"}[d]
	p, addr, err := b.Redis(ctx, "--appendfsync", fsync)
	if err != nil {
		return store{}, err
	}
	clients := make([]*lab.Client, writers)
	for i := range clients {
		if clients[i], err = lab.Dial(ctx, addr); err != nil {
			return store{}, err
		}
	}
	write := func(writer, i int, value []byte) error {
		_, err := clients[writer].Do("SET", commitKey(i), string(value))
		return err
	}
	cpu := func() time.Duration { used, _ := p.CPU(); return used }
	return store{write, func() error {
		for _, c := range clients {
			c.Close()
		}
		p.Kill()
		return nil
	}, cpu}, nil
}

// ownCPU is the time for which this process has kept processors busy.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// commitCase is one combination of settings.
type commitCase struct {
	durable
	writers, bytes int
}

func (c commitCase) String() string {
	return fmt.Sprintf("%v, %d writers, %d bytes", c.durable, c.writers, c.bytes)
}

func commit(ctx context.Context, b *bench) error {
	all := engines(ctx, b)
	for _, e := range all {
		durability := "synced: each commit before it is acknowledged; not synced: when the system likes"
		if e.periodic {
			durability += "; synced each second: what was acknowledged in the last one may be lost with the power"
		}
		b.System(e.name, e.version, e.settings, durability)
	}
	b.Setting("transactions that set one of %s keys, as fast as they are acknowledged; latencies "+
		"from an open loop at half of "+
		"the rate of the slowest system, at most %s a second, for %v", report.Count(keyCount), report.Count(mostOffered), offeredFor(b))
	b.Note("One write of each is not measured: that which a new store begins with.")
	b.Note("peerd writes a delta that others can be sent, an entry with a dot, and fingerprints; " +
		"the others a key and a value.")
	b.Note("What is written behind the commits, as checkpoints, memtables and pages, is counted as far as it was done within the " +
		"time that is measured: who writes later looks better by that.")
	b.Note("redis is another process behind a socket: its CPU is that of the server alone, and " +
		"its allocations are not seen. " +
		"Of the others it is the harness' own process, with its writers.")
	b.Note("Not synced, what is acknowledged is with the kernel in peerd, Badger, bbolt and redis, and a process that is killed " +
		"loses none of it; Pebble may have it in its own memory for a moment, and lose it.")
	b.Note("Badger, Pebble and bbolt do not sync each second by themselves, and are not in those rows.")
	writers := size(b, []int{1, 64}, []int{1, 8, 64, 512})
	cases := []commitCase{}
	for d := synced; d <= unsynced; d++ {
		for _, w := range writers {
			cases = append(cases, commitCase{d, w, 64})
		}
		for _, bytes := range size(b, nil, []int{1024, 16 << 10}) {
			if d == eachSecond {
				break // between the others, which only peerd and redis would say
			}
			cases = append(cases, commitCase{d, 64, bytes})
		}
	}
	for i, c := range cases {
		from, to := float64(i)/float64(len(cases)), float64(i+1)/float64(len(cases))
		able := slices.DeleteFunc(slices.Clone(all), func(e engine) bool { return !e.can(c.durable) })
		if err := b.commitCase(ctx, c, able, from, to); err != nil {
			return err
		}
	}
	for d := synced; d <= unsynced; d++ {
		b.commitChart(d, writers, slices.DeleteFunc(slices.Clone(all), func(e engine) bool { return !e.can(d) }))
	}
	return nil
}

func (b *bench) commitCase(ctx context.Context, c commitCase, all []engine, from, to float64) error {
	half := from + (to-from)/2
	err := b.inTurn(from, half, c.String(), len(all), func(_, i int) error {
		return b.commitRate(ctx, c, all[i])
	})
	if err != nil || b.quick && c.writers != 64 {
		return err
	}
	slowest := 0.0
	for _, e := range all {
		if rate := b.Median("rate: "+c.String(), e.name); slowest == 0 || rate < slowest {
			slowest = rate
		}
	}
	rate := min(slowest/2, mostOffered)
	return b.inTurn(half, to, c.String()+", open loop", len(all), func(_, i int) error {
		return b.commitLatency(ctx, c, all[i], rate)
	})
}

// with opens a store of its own in a new directory, and removes it afterwards.
func (e engine) with(ctx context.Context, b *bench, c commitCase, do func(store) error) error {
	dir, err := os.MkdirTemp(b.Dir, e.name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := e.open(ctx, b, dir, c.durable, c.writers)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	return closeAll(func() error {
		// The first write of all makes what the others find there: of peerd a space and a replica's id.
		if err := s.write(0, 0, nil); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		runtime.GC()
		return do(s)
	}, s.close)
}

func (b *bench) commitRate(ctx context.Context, c commitCase, e engine) error {
	return e.with(ctx, b, c, func(s store) error {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		busy := s.cpu()
		began := time.Now()
		done, err := s.closedLoop(ctx, c, size(b, 250*time.Millisecond, time.Second))
		took := time.Since(began)
		busy = s.cpu() - busy
		runtime.ReadMemStats(&after)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		b.More("rate: "+c.String(), "a second", e.name, float64(done)/took.Seconds())
		b.Less("CPU: "+c.String(), "µs a commit", e.name, float64(busy.Microseconds())/float64(done))
		if !e.apart {
			b.Less("allocations: "+c.String(), "a commit", e.name, float64(after.Mallocs-before.Mallocs)/float64(done))
		}
		return nil
	})
}

// closedLoop has all writers write until the time is over, and returns how much they did.
func (s store) closedLoop(ctx context.Context, c commitCase, d time.Duration) (done int64, err error) {
	value := []byte(strings.Repeat("v", c.bytes))
	var all sync.WaitGroup
	var next atomic.Int64
	failed := make(chan error, c.writers)
	for writer := range c.writers {
		all.Go(func() {
			for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
				if err := s.write(writer, int(next.Add(1)), value); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return next.Load(), <-failed
}

// mostOffered is the greatest rate of an open loop here: one goroutine says what is due.
const mostOffered = 20_000

func offeredFor(b *bench) time.Duration { return size(b, 500*time.Millisecond, time.Second) }

func (b *bench) commitLatency(ctx context.Context, c commitCase, e engine, rate float64) error {
	value := []byte(strings.Repeat("v", c.bytes))
	return e.with(ctx, b, c, func(s store) error {
		o, err := measure.Open{Rate: rate, For: offeredFor(b), Clients: c.writers,
			Do: func(_ context.Context, writer, i int) error { return s.write(writer, i, value) }}.Run(ctx)
		b.Latencies("latency: "+c.String(), e.name, &o)
		if o.First != nil {
			return fmt.Errorf("%s: %w", e.name, o.First)
		}
		return err
	})
}

func (b *bench) commitChart(d durable, writers []int, all []engine) {
	chart := report.Chart{Name: []string{"synced", "eachsecond", "unsynced"}[d], Title: "Commits a second, " + d.String(),
		XLabel: "writers", YLabel: "commits a second", LogX: true, LogY: true}
	for _, e := range all {
		line := report.Line{System: e.name}
		for _, w := range writers {
			line.Point(float64(w), b.Spread("rate: "+commitCase{d, w, 64}.String(), e.name))
		}
		chart.Lines = append(chart.Lines, line)
	}
	b.Charts = append(b.Charts, chart)
}
