package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var every = flag.Int("every", 10, "load each so many-th record of Unicode's data: 1 is all of them")

// TestThreePeersConverge is the story of a cluster: it takes writes on both sides of a cut, one
// peer is killed under load, one loses its disk, one is cut off for so long that membership gives
// it up, and a stranger knocks. After each of these all agree, with each other and with the model.
func TestThreePeersConverge(t *testing.T) {
	n, namespaced := openNetwork(t)
	printMode(namespaced)
	records := unicodeData(t, *every)
	c := newCluster(t, n)
	c.note("three peers on %s", n.describe())

	v := c.loadWhileCut(records)
	c.killUnderLoad(v, 1)
	c.wipe(v, records, 2)
	v = c.splitForLong(records, v, 0)
	c.refuseStranger(v)
	c.checkHealth()
	for _, p := range c.peers {
		p.stop()
	}
	c.note("all ended as asked")
}

// loadWhileCut loads odd lines into the first peer and even ones into the second, which is cut off,
// edits the same things on both, and heals.
func (c *cluster) loadWhileCut(records []record) view {
	c.t.Helper()
	one, two := view{}, view{}
	c.cutOff(1)
	loaded := make(chan error)
	go func() {
		client, err := c.peers[1].connect()
		if err == nil {
			defer client.close()
			_, err = client.must(loading(records, false))
		}
		loaded <- err
	}()
	c.do(0, one, loading(records, true)...)
	if err := <-loaded; err != nil {
		c.t.Fatalf("load into %s: %v", c.peers[1].name, err)
	}
	for _, cmd := range loading(records, false) {
		c.apply(two, cmd)
	}
	c.note("%d records loaded, odd lines into one, even lines into two, which is cut off",
		len(records))

	c.edit(records, 0, 0, one, 1, two)
	eventually(c.t, "one and three agree", func() error {
		return disagreement([]*daemon{c.peers[0], c.peers[2]})
	})
	c.checkAll(one, c.peers[0], c.peers[2])
	c.checkAll(two, c.peers[1])
	if disagreement(c.peers) == nil {
		c.t.Fatal("the peers agree although the network is cut")
	}

	c.note("healing the network")
	c.heal(1)
	v := one.merged(two)
	c.checkAll(v, c.peers...)
	return v
}

// killUnderLoad kills a peer while clients write to it, and starts it again.
func (c *cluster) killUnderLoad(v view, peer int) {
	c.t.Helper()
	const enough = 2000
	p := c.peers[peer]
	l := startLoad(p)
	eventually(c.t, "the load runs", func() error {
		if n := l.acknowledged.Load(); n < enough {
			return fmt.Errorf("%d transactions acknowledged", n)
		}
		return nil
	})
	p.kill()
	l.running.Wait()
	c.note("killed %s under load", p.name)
	since := c.traffic()
	p.start()
	c.awaitAgreement(since, c.peers...)
	c.adopt(l, v, p)
	c.checkAll(v, c.peers...)
}

// wipe kills a peer, removes all that it has on disk but the cluster's key, and starts it again. It
// is killed once more while others send it everything.
func (c *cluster) wipe(v view, records []record, peer int) {
	c.t.Helper()
	p := c.peers[peer]
	old, err := p.status()
	if err != nil {
		c.t.Fatal(err)
	}
	p.kill()
	if err := os.RemoveAll(p.dir); err != nil {
		c.t.Fatal(err)
	}
	c.do((peer+1)%len(c.peers), v, command{"DEL", records[0].key()},
		command{"HSET", records[1].key(), "note", "written while a peer had no disk"})
	c.note("wiped the disk of %s", p.name)
	p.start()
	const some = 500_000 // bytes: less than all that there is
	p.eventually("receives its data", func() error {
		s, err := p.status()
		if err == nil && s.BytesReceived < some {
			err = fmt.Errorf("%d bytes received", s.BytesReceived)
		}
		return err
	})
	p.kill()
	c.note("killed %s while it received its data", p.name)
	since := c.traffic()
	p.start()
	c.awaitAgreement(since, c.peers...)
	c.checkAll(v, c.peers...)

	c.do(peer, v, command{"SET", "after the wipe", "by " + p.name})
	c.awaitAgreement(c.traffic(), c.peers...)
	c.checkAll(v, c.peers...)
	now, err := p.status()
	if err != nil || now.Replica == old.Replica {
		c.t.Errorf("%s writes as replica %s, as before it lost its disk (%v)", p.name, now.Replica, err)
	}
}

// forgotten is how long memberlist must have held a member dead until it does not gossip to it any
// more: GossipToTheDeadTime is 30 s, and 0.5 s with --fast-gossip.
const forgotten = 2 * time.Second

// splitForLong cuts a peer off until no side gossips to the other any more, edits the same things
// on both sides, and heals.
func (c *cluster) splitForLong(records []record, one view, peer int) view {
	c.t.Helper()
	two := one.split()
	alone := c.peers[peer]
	other := (peer + 1) % len(c.peers)
	c.cutOff(peer)
	c.edit(records, 1, peer, one, other, two)
	for i, p := range c.peers {
		p.eventually("has forgotten the other side", func() error {
			s, err := p.status()
			for _, m := range s.Members {
				acrossTheCut := i == peer || m.Name == alone.name
				if acrossTheCut && (m.Alive || time.Since(m.Since) < forgotten) {
					err = fmt.Errorf("%s: alive %v since %v", m.Name, m.Alive, m.Since)
				}
			}
			return err
		})
	}
	c.note("%s and the others have held each other dead for %v", alone.name, forgotten)
	c.edit(records, 2, peer, one, other, two)
	c.heal(peer)
	v := one.merged(two)
	c.checkAll(v, c.peers...)
	c.awaitLinks()
	return v
}

// refuseStranger lets a host with another cluster's key try to join: it gets nothing, and a
// member's log says why.
func (c *cluster) refuseStranger(v view) {
	c.t.Helper()
	stranger := newDaemon(c.t, c.net, hosts-1, c.program, "stranger",
		"--join", c.net.addresses(0).gossip)
	out, err := stranger.command("run", "--dir", stranger.dir, "--join", c.net.addresses(0).gossip)
	if exitCode(err) != 2 || !strings.Contains(out, "key") {
		c.t.Errorf("a host that joins without a key ended with %v and said: %s", err, out)
	}
	if out, err := stranger.command("init", "--dir", stranger.dir); err != nil {
		c.t.Fatalf("init: %v\n%s", err, out)
	}
	stranger.start()
	const why = "another cluster key"
	eventually(c.t, "a member says why it refuses the stranger", func() error {
		for _, p := range c.peers {
			if strings.Contains(p.logged(), why) {
				return nil
			}
		}
		return errors.New("no log has " + why)
	})
	stranger.eventually("says why it is refused", func() error {
		if !strings.Contains(stranger.logged(), why) {
			return errors.New("its log does not have " + why)
		}
		return nil
	})
	for _, p := range c.peers {
		if err := p.knows(stranger.name); err != nil {
			c.t.Errorf("%s let the stranger in: %v", p.name, err)
		}
	}
	s, err := stranger.status()
	if err != nil || len(s.Members) > 0 || s.Keys > 0 {
		c.t.Errorf("the stranger knows %d members and has %d keys (%v)", len(s.Members), s.Keys, err)
	}
	if same(filepath.Join(stranger.dir, "cluster.key"), c.key) {
		c.t.Error("the stranger has the cluster's key")
	}
	stranger.check(map[string]contents{})
	stranger.stop()
	c.checkAll(v, c.peers...)
	c.note("a stranger got nothing, and a log says why")
}

func same(file, other string) bool {
	a, errA := os.ReadFile(file)
	b, errB := os.ReadFile(other)
	return errA != nil || errB != nil || string(a) == string(b)
}
