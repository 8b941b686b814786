package peer

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	meshSeed = flag.Uint64("mesh.seed", 0, "seed of the simulated clusters; 0 draws one")
	meshLong = flag.Bool("mesh.long", false, "split and deafen simulated clusters for long")
)

// lasting is how long a fault lasts: a part of it unless -mesh.long is set.
func lasting(long time.Duration) time.Duration {
	if *meshLong {
		return long
	}
	return long / 5
}

// simulatedCluster is peers on one simulated network.
type simulatedCluster struct {
	t     *testing.T
	u     *universe
	rng   *rand.Rand
	peers []*Peer
}

// oneWay is the latency of every link.
const oneWay = 100 * time.Millisecond

// simulate runs fn on a cluster of n peers that know each other, under a clock of its own.
func simulate(t *testing.T, n int, like Config, fn func(c *simulatedCluster)) {
	seed := *meshSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	key := newCluster(t).key
	inBubble(t, func(t *testing.T) {
		c := &simulatedCluster{t: t, u: newUniverse(oneWay, seed), rng: rand.New(rand.NewPCG(seed, 1))}
		defer c.close()
		for i := range n {
			cfg := like
			cfg.Memory, cfg.ClusterKey, cfg.Name = true, key, fmt.Sprint("host", i)
			if i > 0 {
				cfg.Join = []string{c.peers[0].net.members.Addr()}
			}
			p, err := Open(context.Background(), c.u.host(i, cfg))
			if err != nil {
				t.Fatal(err)
			}
			c.peers = append(c.peers, p)
		}
		c.within(2*time.Minute, "all know each other", c.complete)
		fn(c)
		if t.Failed() {
			t.Logf("go test ./peer -run '^%s$' -mesh.seed %d -mesh.long=%v", t.Name(), seed, *meshLong)
		}
	})
}

func (c *simulatedCluster) close() {
	var closing sync.WaitGroup
	for _, p := range c.peers {
		closing.Go(func() {
			if err := p.Close(); err != nil {
				c.t.Errorf("close: %v", err)
			}
		})
	}
	closing.Wait()
	<-time.After(time.Minute) // what memberlist and libp2p left to their timers
	c.u.close()
	synctest.Wait()
}

// within waits for a condition, and returns after how long it held.
func (c *simulatedCluster) within(limit time.Duration, what string, cond func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > limit {
			c.t.Fatalf("did not happen within %v: %s", limit, what)
		}
		<-time.After(100 * time.Millisecond)
	}
	return time.Since(began)
}

// complete reports whether every peer sees all others alive, has measured them, and has its links.
func (c *simulatedCluster) complete() bool {
	for _, p := range c.peers {
		alive := 0
		for _, m := range p.net.members.List() {
			if m.Alive && m.RTT > 0 {
				alive++
			}
		}
		if want := len(c.peers) - 1; alive < want || links(p) < min(want, MaxLinks) {
			return false
		}
	}
	return true
}

// frames returns how many frames all peers have sent, by layer.
func (c *simulatedCluster) frames() (out [repairLayer + 1]uint64) {
	for _, p := range c.peers {
		for layer := range out {
			out[layer] += own(p).counters.sent[layer].frames.Load()
		}
	}
	return out
}

// arrivals notes when which key was seen at every peer.
type arrivals struct {
	mu   sync.Mutex
	at   map[string]time.Time // the last of the peers
	seen map[string]int       // by how many peers
}

// watch notes what arrives at the peers until ctx ends.
func (c *simulatedCluster) watch(ctx context.Context, watching *sync.WaitGroup) *arrivals {
	a := &arrivals{at: map[string]time.Time{}, seen: map[string]int{}}
	for _, p := range c.peers {
		w := p.Watch("")
		watching.Go(func() {
			defer w.Close()
			for change, err := range w.All(ctx) {
				if err != nil {
					return
				}
				a.mu.Lock()
				for _, key := range change.Keys {
					a.at[key] = time.Now()
					a.seen[key]++
				}
				a.mu.Unlock()
			}
		})
	}
	return a
}

// spread is how long operations took to reach all peers, and what that cost.
type spread struct {
	median, most time.Duration
	messages     float64 // frames an operation
}

// write has peers drawn at random write at a rate for a time, and returns how that spread.
func (c *simulatedCluster) write(perSecond int, during time.Duration) (s spread) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	seen := c.watch(ctx, &watching)
	before := c.frames()
	written := map[string]time.Time{}
	for range int(during.Seconds()) * perSecond {
		key := fmt.Sprint("key", len(written))
		mustUpdate(c.t, c.peers[c.rng.IntN(len(c.peers))], func(tx *Tx) error {
			return tx.String(key).Set([]byte("value"))
		})
		written[key] = time.Now()
		<-time.After(time.Second / time.Duration(perSecond))
	}
	<-time.After(5 * time.Second)
	after := c.frames()
	cancel()
	watching.Wait()

	var took []time.Duration
	for key, at := range written {
		if n := seen.seen[key]; n < len(c.peers) {
			c.t.Errorf("%s reached %d peers of %d", key, n, len(c.peers))
		}
		took = append(took, seen.at[key].Sub(at))
	}
	slices.Sort(took)
	s.median, s.most = took[len(took)/2], took[len(took)-1]
	var total uint64
	for layer := range after {
		after[layer] -= before[layer]
		total += after[layer]
	}
	s.messages = float64(total) / float64(len(written))
	c.t.Logf("%d writes in %v: all peers after %v (median), %v (most); %.1f messages an operation %v",
		len(written), during, s.median, s.most, s.messages, after)
	return s
}

// converged reports whether all peers have the same context and cells.
func (c *simulatedCluster) converged() bool {
	var first Status
	for i, p := range c.peers {
		s, err := p.Status()
		if err != nil {
			c.t.Fatal(err)
		}
		if i == 0 {
			first = s
		}
		if !s.Settled || s.ContextHash != first.ContextHash || s.Root != first.Root {
			return false
		}
	}
	return true
}

// The Gossip Glomers' bounds on broadcast among 25 nodes, over links of 100 ms.
func TestWritesReachAllPeersSoonAndCheaply(t *testing.T) {
	simulate(t, 25, Config{}, func(c *simulatedCluster) {
		s := c.write(50, 20*time.Second)
		s.within(t, 400*time.Millisecond, 600*time.Millisecond, 30)
	})
}

func TestWritesThatWaitForOthersReachAllPeersInFewerMessages(t *testing.T) {
	simulate(t, 25, Config{PushDelay: 500 * time.Millisecond}, func(c *simulatedCluster) {
		s := c.write(50, 20*time.Second)
		s.within(t, time.Second, 2*time.Second, 20)
	})
}

func (s spread) within(t *testing.T, median, most time.Duration, messages float64) {
	t.Helper()
	if s.median > median || s.most > most || s.messages > messages {
		t.Errorf("all peers after %v (median), %v (most), in %.1f messages an operation, "+
			"want at most %v, %v and %.1f", s.median, s.most, s.messages, median, most, messages)
	}
}

func TestAClusterIsWholeSoonAfterALongSplit(t *testing.T) {
	const peers, side = 25, 12
	apart := lasting(10 * time.Minute)
	simulate(t, peers, Config{}, func(c *simulatedCluster) {
		first := map[netip.Addr]bool{}
		for i := range side {
			first[hostIP(i)] = true
		}
		c.u.lose(func(from, to netip.Addr) float64 {
			if first[from] != first[to] {
				return 1
			}
			return 0
		})
		for n := range 20 {
			<-time.After(apart / 20)
			for i, p := range c.peers {
				mustUpdate(t, p, func(tx *Tx) error {
					return tx.String(fmt.Sprint("key", i, n)).Set([]byte("value"))
				})
			}
		}
		for i, p := range c.peers {
			want := side - 1
			if i >= side {
				want = peers - side - 1
			}
			if alive := c.alive(p); alive != want {
				t.Errorf("host %d sees %d others alive while split, want %d", i, alive, want)
			}
		}
		c.u.lose(func(from, to netip.Addr) float64 { return 0 })
		data := c.within(time.Minute, "agreement", c.converged)
		all := data + c.within(time.Minute, "all see all", func() bool {
			return !slices.ContainsFunc(c.peers, func(p *Peer) bool { return c.alive(p) < peers-1 })
		})
		t.Logf("after %v apart, the data was whole after %v, and all saw all after %v", apart, data, all)
		if limit := 30 * time.Second; data > limit || all > limit {
			t.Errorf("whole after %v and %v, want %v", data, all, limit)
		}
	})
}

// alive returns how many others a peer sees alive.
func (c *simulatedCluster) alive(p *Peer) (n int) {
	for _, m := range p.net.members.List() {
		if m.Alive {
			n++
		}
	}
	return n
}

func TestAHalfDeafPeerDoesNotMakeOthersFlap(t *testing.T) {
	const peers, deaf = 25, 7
	during := lasting(5 * time.Minute)
	simulate(t, peers, Config{}, func(c *simulatedCluster) {
		c.u.lose(func(_, to netip.Addr) float64 {
			if to == hostIP(deaf) {
				return 0.5
			}
			return 0
		})
		began := time.Now()
		s := c.write(2, during)
		flaps := 0
		for i, p := range c.peers {
			for _, m := range p.net.members.List() {
				other := m.Addr == c.peers[deaf].net.members.Addr()
				if i != deaf && !other && (!m.Alive || m.Since.After(began)) {
					flaps++
				}
			}
		}
		t.Logf("one peer lost half of what was sent to it for %v: %d others flapped; median %v",
			during, flaps, s.median)
		if flaps > 0 {
			t.Errorf("%d times a peer that hears well was taken for dead", flaps)
		}
	})
}
