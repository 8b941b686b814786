package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// TestAClientGoesOnAtAnotherPeer has a client that knows two peers write to one until that is killed, and then to the
// other. All that was acknowledged is there once the first is back, at both.
func TestAClientGoesOnAtAnotherPeer(t *testing.T) {
	oslo, lima := pair(t)
	peers := []string{oslo.resp, lima.resp}
	client := redis.NewClient(&redis.Options{
		MaxRetries: -1, // whether a write that failed was done is not known: the test counts those that were acknowledged
		Dialer: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
			for _, address := range peers {
				if conn, err = net.DialTimeout("tcp", address, time.Second); err == nil {
					return conn, nil
				}
			}
			return nil, err
		},
	})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	counted, unsure := 0, 0
	acknowledged := map[string]string{}
	for i := range 600 {
		if i == 200 {
			oslo.kill(syscall.SIGKILL)
		}
		if i == 400 {
			oslo.run()
		}
		job, value := fmt.Sprintf("job:%d", i), fmt.Sprint(i)
		_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Incr(ctx, "count")
			pipe.HSet(ctx, "jobs", job, value)
			pipe.RPush(ctx, "queue", job)
			pipe.ZAdd(ctx, "due", redis.Z{Score: float64(i), Member: job})
			return nil
		})
		if err != nil {
			unsure++
			continue
		}
		counted++
		acknowledged[job] = value
	}
	if counted < 590 {
		t.Errorf("only %d of 600 writes were acknowledged: the client did not go on", counted)
	}
	for _, address := range peers {
		own := redis.NewClient(&redis.Options{Addr: address})
		defer own.Close()
		lima.eventually("has what "+address+" is to have", func() bool {
			n, err := own.Get(ctx, "count").Int()
			if err != nil || n < counted || n > counted+unsure {
				return false
			}
			jobs, err := own.HGetAll(ctx, "jobs").Result()
			if err != nil {
				return false
			}
			for job, value := range acknowledged {
				if jobs[job] != value {
					return false
				}
			}
			list, err := own.LLen(ctx, "queue").Result()
			due, err2 := own.ZCard(ctx, "due").Result()
			return err == nil && err2 == nil && int(list) == n && int(due) == n && len(jobs) == n
		})
	}
}

// stores are clients that keep something: to add a number is to have it kept, however often that takes, and to work is to see
// that it is there.
var stores = map[string]queue{
	"ioredis":               storeOf("ioredis", "node", "node/stores.mjs"),
	"node-redis":            storeOf("node-redis", "node", "node/stores.mjs"),
	"connect-redis":         storeOf("connect-redis", "node", "node/stores.mjs"),
	"rate-limiter-flexible": storeOf("rate-limiter-flexible", "node", "node/stores.mjs"),
	"redis-py":              storeOf("redis-py", "/usr/bin/python3", "python/stores.py"),
	"django-redis":          storeOf("django-redis", "/usr/bin/python3", "python/stores.py"),
	"Django's sessions":     storeOf("django-sessions", "/usr/bin/python3", "python/stores.py"),
	"redsync":               {add: takeLocks, work: seeLocks},
}

// messages keep nothing: what was added has been heard.
var messages = map[string]queue{"socket.io": storeOf("socket.io", "node", "node/stores.mjs")}

func storeOf(client string, command ...string) queue { return queueOf(false, client, command...) }

// extend extends a lock by its value, which who took it alone knows, and says whether it is held.
func extend(ctx context.Context, r *redis.Client, name string, n int) (mutex *redsync.Mutex, held bool) {
	mutex = redsync.New(goredis.NewPool(r)).NewMutex(fmt.Sprint(name, n), redsync.WithExpiry(10*time.Minute),
		redsync.WithTries(1), redsync.WithValue(strconv.Itoa(n)), redsync.WithGenValueFunc(func() (string, error) {
			return strconv.Itoa(n), nil
		}))
	held, err := mutex.ExtendContext(ctx)
	return mutex, held && err == nil
}

// rests waits a moment before something is tried again, and reports whether there is time for that.
func rests(ctx context.Context) bool {
	select {
	case <-time.After(20 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

func takeLocks(ctx context.Context, address, name string, numbers <-chan int, told func(int)) error {
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	for n := range numbers {
		for {
			mutex, held := extend(ctx, r, name, n) // it was taken, and the answer lost
			if held || mutex.LockContext(ctx) == nil {
				break
			}
			if !rests(ctx) {
				return ctx.Err()
			}
		}
		told(n)
	}
	return nil
}

func seeLocks(ctx context.Context, address, name string, locks int, told func(int)) error {
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	for n := range locks {
		for {
			if _, held := extend(ctx, r, name, n); held {
				break
			}
			if !rests(ctx) {
				return fmt.Errorf("lock %d is not held: %w", n, ctx.Err())
			}
		}
		told(n)
	}
	return nil
}

// going is a client that goes on while its peer is killed.
type going struct {
	queue
	works   bool     // as a queue does: what is added is done as it is
	numbers chan int // to add
	feed    func(from, to int)
	end     func() // no more will be fed

	mu          sync.Mutex
	added, done map[int]bool
	err         error
}

// use has a client add through an address, and its worker work there until all jobs are done.
func use(ctx context.Context, running *sync.WaitGroup, q queue, address, name string, jobs int, works bool) *going {
	g := &going{queue: q, works: works, numbers: make(chan int, jobs), added: map[int]bool{}, done: map[int]bool{}}
	g.feed = func(from, to int) {
		for n := from; n < to; n++ {
			g.numbers <- n
		}
	}
	g.end = sync.OnceFunc(func() { close(g.numbers) })
	noted := func(what map[int]bool) func(int) {
		return func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			what[n] = true
		}
	}
	ends := func(err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.err = errors.Join(g.err, err)
	}
	running.Go(func() { ends(g.add(ctx, address, name, g.numbers, noted(g.added))) })
	if works {
		running.Go(func() {
			err := g.work(ctx, address, name, jobs, noted(g.done))
			g.mu.Lock()
			if err == nil && len(g.done) < jobs {
				err = fmt.Errorf("its worker ended after %d of %d", len(g.done), jobs)
			}
			g.mu.Unlock()
			ends(err)
		})
	}
	return g
}

// has says whether so much was added and done. It is also so if one of its programs has failed.
func (g *going) has(added, done int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err != nil || len(g.added) >= added && (!g.works || len(g.done) >= done)
}

// TestClientsGoOnAtAnotherPeer has clients write, and queues with their workers, through one address
// behind which there are two peers, as a proxy would have it. The first is killed as they go, and
// comes back in the end: what was acknowledged is at both then, and each job that was added is done.
func TestClientsGoOnAtAnotherPeer(t *testing.T) {
	const jobs, third = 90, 30
	oslo, lima := pair(t)
	address := inFrontOf(t, oslo.resp, lima.resp)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	clients := map[string]*going{}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	all := maps.Clone(stores)
	maps.Copy(all, queues)
	maps.Copy(all, messages)
	for name, q := range all {
		_, works := queues[name]
		clients[name] = use(ctx, &running, q, address, "failover-"+name, jobs, works)
		defer clients[name].end()
	}
	eachHas := func(added, done int) {
		for name, g := range clients {
			lima.eventually(fmt.Sprintf("takes %d of %s", added, name), func() bool { return g.has(added, done) })
		}
	}
	for _, g := range clients {
		g.feed(0, third)
	}
	eachHas(third, third)
	for _, g := range clients {
		if !g.atMostOnce {
			g.feed(third, 2*third)
		}
	}
	oslo.kill(syscall.SIGKILL)
	for _, g := range clients {
		if g.atMostOnce {
			g.feed(third, 2*third)
		}
	}
	eachHas(2*third, third)
	oslo.run()
	for _, g := range clients {
		g.feed(2*third, jobs)
		g.end()
	}
	running.Wait()
	for name, g := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if g.err != nil || len(g.added) != jobs || g.works && len(g.done) != jobs {
				t.Fatalf("%d of %d were added, %d done: %v", len(g.added), jobs, len(g.done), g.err)
			}
			if _, keeps := stores[name]; !keeps {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, d := range []*daemon{oslo, lima} {
				there := 0
				if err := g.work(ctx, d.resp, "failover-"+name, jobs, func(int) { there++ }); err != nil || there != jobs {
					t.Errorf("%s has %d of %d: %v", d.name, there, jobs, err)
				}
			}
		})
	}
}
