package scenario

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
)

// ycsb generates the core workloads of Cooper et al., "Benchmarking Cloud Serving Systems with
// YCSB" (SoCC 2010), as their client for Redis does: a record is a hash of ten fields of 100 bytes,
// and a sorted set has all records in the order of their hashes, for scans.
type ycsb struct {
	records  int
	addrs    []string // servers, which clients are divided among
	clients  []*ycsbClient
	begun    atomic.Int64 // records whose insertion was begun
	inserted atomic.Int64 // how many of those are acknowledged: but for a few under way, the first
}

// mix is a workload: what part of the operations does what, and which records are chosen.
type mix struct {
	name                                string
	read, update, insert, scan, readMod float64
	latest                              bool // the newest are read most, instead of some at random
}

var mixes = []mix{
	{name: "A: half reads, half updates", read: 0.5, update: 0.5},
	{name: "B: 95% reads, 5% updates", read: 0.95, update: 0.05},
	{name: "C: reads", read: 1},
	{name: "D: 95% reads of the latest, 5% inserts", read: 0.95, insert: 0.05, latest: true},
	{name: "E: 95% short scans, 5% inserts", scan: 0.95, insert: 0.05},
	{name: "F: half reads, half read, change and write", read: 0.5, readMod: 0.5},
}

const (
	ycsbFields  = 10
	ycsbIndex   = "_indices"
	ycsbScan    = 100 // records at most, uniformly
	ycsbThreads = 16
)

var ycsbValue = strings.Repeat("x", 100)

func recordKey(n int) string { return "user" + strconv.FormatUint(scramble(uint64(n)), 10) }

// scramble spreads what is near over all keys, so that what is hot is not side by side.
func scramble(n uint64) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	h.Write(b[:])
	return h.Sum64() >> 12 // a float, which a score is, has 53 bits
}

type ycsbClient struct {
	*lab.Client
	chance *rand.Rand
	hot    *zipf
}

// newYCSB loads the records through the first server, and waits until settled says that all servers
// have them.
func newYCSB(ctx context.Context, records int, addrs []string, settled func() error) (*ycsb, error) {
	y := &ycsb{records: records, addrs: addrs}
	y.begun.Store(int64(records))
	y.inserted.Store(int64(records))
	hot := newZipf(records)
	for i := range ycsbThreads {
		c, err := lab.Dial(ctx, addrs[i%len(addrs)])
		if err != nil {
			return nil, err
		}
		y.clients = append(y.clients, &ycsbClient{c, rand.New(rand.NewPCG(uint64(i), 7)), hot})
	}
	load := lab.Load{Clients: ycsbThreads, Pipeline: 16, Commands: 2 * records,
		Command: func(b []byte, i int) []byte {
			key := recordKey(i / 2)
			if i%2 == 0 {
				return lab.AppendCommand(b, append([]string{"HSET", key}, allFields()...)...)
			}
			return lab.AppendCommand(b, "ZADD", ycsbIndex, score(i/2), key)
		}}
	if _, err := load.Run(ctx, addrs[0]); err != nil {
		return nil, fmt.Errorf("loading: %w", err)
	}
	return y, settled()
}

func (y *ycsb) close() {
	for _, c := range y.clients {
		c.Close()
	}
}

func score(n int) string { return strconv.FormatUint(scramble(uint64(n)), 10) }

func allFields() (words []string) {
	for f := range ycsbFields {
		words = append(words, fmt.Sprint("field", f), ycsbValue)
	}
	return words
}

// choose returns a record that is there.
func (y *ycsb) choose(c *ycsbClient, m mix) int {
	there := int(y.inserted.Load())
	if m.latest {
		return max(0, there-1-c.hot.next(c.chance))
	}
	return c.hot.next(c.chance)
}

// one does one operation of a workload.
func (y *ycsb) one(c *ycsbClient, m mix) error {
	x := c.chance.Float64()
	record := y.choose(c, m)
	switch {
	case x < m.read:
		return c.read(record)
	case x < m.read+m.update:
		return c.update(record)
	case x < m.read+m.update+m.insert:
		if err := c.insert(int(y.begun.Add(1) - 1)); err != nil {
			return err
		}
		y.inserted.Add(1)
		return nil
	case x < m.read+m.update+m.insert+m.scan:
		return c.scan(record)
	}
	if err := c.read(record); err != nil {
		return err
	}
	return c.update(record)
}

func (c *ycsbClient) read(record int) error {
	_, err := c.Do("HGETALL", recordKey(record))
	return err
}

func (c *ycsbClient) update(record int) error {
	_, err := c.Do("HSET", recordKey(record), fmt.Sprint("field", c.chance.IntN(ycsbFields)), ycsbValue)
	return err
}

func (c *ycsbClient) insert(record int) error {
	key := recordKey(record)
	if _, err := c.Do(append([]string{"HSET", key}, allFields()...)...); err != nil {
		return err
	}
	_, err := c.Do("ZADD", ycsbIndex, score(record), key)
	return err
}

func (c *ycsbClient) scan(record int) error {
	count := strconv.Itoa(1 + c.chance.IntN(ycsbScan))
	keys, err := c.Do("ZRANGEBYSCORE", ycsbIndex, score(record), "+inf", "LIMIT", "0", count)
	if err != nil {
		return err
	}
	for key := range strings.FieldsSeq(keys) {
		if _, err := c.Do("HGETALL", key); err != nil {
			return err
		}
	}
	return nil
}

// rate has all clients work as fast as they are answered, and returns operations a second.
func (y *ycsb) rate(ctx context.Context, m mix, d time.Duration) (float64, error) {
	var all sync.WaitGroup
	var done atomic.Int64
	failed := make(chan error, len(y.clients))
	began := time.Now()
	for _, c := range y.clients {
		all.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				if err := y.one(c, m); err != nil {
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

// latency offers operations at a rate.
func (y *ycsb) latency(ctx context.Context, m mix, rate float64, d time.Duration) (measure.Offered, error) {
	o, err := measure.Open{Rate: rate, For: d, Clients: len(y.clients),
		Do: func(_ context.Context, client, _ int) error { return y.one(y.clients[client], m) },
	}.Run(ctx)
	if err == nil {
		err = o.First
	}
	return o, err
}

// zipf chooses of n things, the first most often: Gray et al., "Quickly Generating Billion-Record
// Synthetic Databases" (SIGMOD 1994), as YCSB does, with its constant.
type zipf struct {
	n                       int
	theta, zetan, alpha, et float64
}

func newZipf(n int) *zipf {
	z := &zipf{n: n, theta: 0.99}
	for i := 1; i <= n; i++ {
		z.zetan += 1 / math.Pow(float64(i), z.theta)
	}
	zeta2 := 1 + math.Pow(0.5, z.theta)
	z.alpha = 1 / (1 - z.theta)
	z.et = (1 - math.Pow(2/float64(n), 1-z.theta)) / (1 - zeta2/z.zetan)
	return z
}

func (z *zipf) next(chance *rand.Rand) int {
	u := chance.Float64()
	switch uz := u * z.zetan; {
	case uz < 1:
		return 0
	case uz < 1+math.Pow(0.5, z.theta):
		return min(1, z.n-1)
	}
	return min(z.n-1, int(float64(z.n)*math.Pow(z.et*u-z.et+1, z.alpha)))
}
