package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cluster is three daemons, and the model of what they hold.
type cluster struct {
	*history
	t       *testing.T
	net     network
	program string
	key     string // the file with the cluster's secret
	peers   []*daemon
	began   time.Time
}

// newCluster starts three daemons. more has further flags for each of them, if there are any.
func newCluster(t *testing.T, n network, more ...[]string) *cluster {
	c := &cluster{history: &history{}, t: t, net: n, program: binary(t), began: time.Now()}
	c.key = filepath.Join(t.TempDir(), "cluster.key")
	keeper := newDaemon(t, n, 0, c.program, "keeper")
	if out, err := keeper.command("init", "--dir", keeper.dir); err != nil {
		t.Fatalf("peerd init: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(keeper.dir, "cluster.key"), c.key); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"one", "two", "three"} {
		args := []string{"--cluster-key", c.key}
		if i > 0 {
			args = append(args, "--join", n.addresses(0).gossip)
		}
		if i < len(more) {
			args = append(args, more[i]...)
		}
		c.peers = append(c.peers, newDaemon(t, n, i, c.program, name, args...))
	}
	for _, p := range c.peers {
		p.start()
	}
	c.awaitLinks()
	return c
}

// note prints a step with the time since the start.
func (c *cluster) note(format string, args ...any) {
	c.t.Logf("%6.1f s  %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// awaitLinks waits until all peers have streams to each other.
func (c *cluster) awaitLinks() {
	c.t.Helper()
	for _, p := range c.peers {
		p.eventually("is linked to the two others", func() error {
			linked, err := p.links()
			if err == nil && len(linked) != len(c.peers)-1 {
				err = fmt.Errorf("linked to %v", linked)
			}
			return err
		})
	}
}

// links returns the names of the members that the daemon has a stream to.
func (d *daemon) links() (names []string, err error) {
	s, err := d.status()
	for _, m := range s.Members {
		if m.Alive && m.Linked {
			names = append(names, m.Name)
		}
	}
	return names, err
}

// do runs commands on a peer, and on the view of its side when they are acknowledged.
func (c *cluster) do(peer int, v view, commands ...command) {
	c.t.Helper()
	c.peers[peer].run(commands...)
	for _, cmd := range commands {
		c.apply(v, cmd)
	}
}

// cutOff separates a peer from the two others.
func (c *cluster) cutOff(peer int) {
	c.t.Helper()
	if err := c.net.cut(peer); err != nil {
		c.t.Fatal(err)
	}
	if _, immediate := c.net.sent(); immediate {
		return
	}
	c.peers[peer].eventually("has noticed the cut", func() error {
		linked, err := c.peers[peer].links()
		if err == nil && len(linked) > 0 {
			err = fmt.Errorf("linked to %v", linked)
		}
		return err
	})
}

// traffic is what has crossed the network up to a moment.
type traffic struct {
	at    time.Time
	wire  uint64
	known bool
	// frames is the sum of the peers' own counters, which restart with them.
	frames  uint64
	repairs uint64 // where a log did not reach, by comparing cells
}

func (c *cluster) traffic() traffic {
	now := traffic{at: time.Now()}
	now.wire, now.known = c.net.sent()
	for _, p := range c.peers {
		if s, err := p.status(); err == nil {
			now.frames += s.BytesSent
			now.repairs += s.Repairs
		}
	}
	return now
}

// heal takes a peer back and measures until all agree.
func (c *cluster) heal(peer int) {
	c.t.Helper()
	before := c.traffic()
	if err := c.net.heal(peer); err != nil {
		c.t.Fatal(err)
	}
	c.awaitAgreement(before, c.peers...)
}

// awaitAgreement waits until the peers have the same context and root, and prints how long that
// took since the given moment and what crossed the network.
func (c *cluster) awaitAgreement(since traffic, peers ...*daemon) {
	c.t.Helper()
	eventually(c.t, "the peers agree", func() error { return disagreement(peers) })
	now := c.traffic()
	wire := "unknown"
	if now.known {
		wire = kilobytes(now.wire - since.wire)
	}
	c.note("converged in %v; sent: %s in frames, %s on the wire; %d repairs",
		now.at.Sub(since.at).Round(time.Millisecond), kilobytes(now.frames-since.frames), wire,
		now.repairs-since.repairs)
}

func kilobytes(n uint64) string { return fmt.Sprintf("%.1f kB", float64(n)/1000) }

// checkHealth fails the test if a peer has raised an alarm: no data was damaged here, and no
// mutation issued twice.
func (c *cluster) checkHealth() {
	c.t.Helper()
	for _, p := range c.peers {
		s, err := p.status()
		if err != nil || s.Mismatches > 0 || len(s.Forks) > 0 {
			c.t.Errorf("%s saw %d mismatches and the forks %v (%v)", p.name, s.Mismatches, s.Forks, err)
		}
	}
}

// disagreement returns nil if the peers are ready and hold the same.
func disagreement(peers []*daemon) error {
	var first status
	for i, p := range peers {
		s, err := p.status()
		switch {
		case err != nil:
			return err
		case !s.Settled:
			return fmt.Errorf("%s is still sweeping what was removed", p.name)
		case !s.Ready:
			return fmt.Errorf("%s is not ready: %s", p.name, s.Reason)
		case i == 0:
			first = s
		case s.ContextHash != first.ContextHash:
			return fmt.Errorf("%s and %s have seen different writes", first.Name, p.name)
		case s.Root != first.Root:
			return fmt.Errorf("%s and %s have seen the same writes (context %s) and differ: roots %s, %s",
				first.Name, p.name, s.ContextHash, first.Root, s.Root)
		}
	}
	return nil
}

// checkAll fails the test unless each peer reads what the view does.
func (c *cluster) checkAll(v view, peers ...*daemon) {
	c.t.Helper()
	want := v.reads()
	for _, p := range peers {
		p.check(want)
	}
	c.note("%d keys read as the model says on %d peers", len(want), len(peers))
}

// check reads everything back from a peer and fails the test unless that is what is wanted.
func (d *daemon) check(want map[string]contents) {
	d.t.Helper()
	client, err := d.connect()
	if err != nil {
		d.t.Fatal(err)
	}
	defer client.close()
	keys, err := client.keys()
	if err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	got, err := client.read(keys)
	if err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	size, err := client.must([]command{{"DBSIZE"}})
	if err != nil || size[0] != int64(len(want)) {
		d.t.Errorf("%s has DBSIZE %v (%v), the model %d", d.name, size, err, len(want))
	}
	const shown = 10
	wrong := 0
	for _, key := range keys {
		if diff := cmp.Diff(want[key], got[key]); diff != "" {
			if wrong++; wrong <= shown {
				d.t.Errorf("%s reads of %s (-model +%s):\n%s", d.name, key, d.name, diff)
			}
		}
	}
	for key := range want {
		if _, ok := got[key]; !ok {
			if wrong++; wrong <= shown {
				d.t.Errorf("%s has no %s", d.name, key)
			}
		}
	}
	if wrong > 0 {
		d.t.Fatalf("%s has %d wrong keys", d.name, wrong)
	}
}

// keys returns all keys of a peer, by SCAN.
func (c *client) keys() (keys []string, err error) {
	for cursor := "0"; ; {
		replies, err := c.must([]command{{"SCAN", cursor, "COUNT", "1000"}})
		if err != nil {
			return nil, err
		}
		page, _ := replies[0].([]any)
		if len(page) != 2 {
			return nil, fmt.Errorf("SCAN replied %v", replies[0])
		}
		keys = append(keys, texts(page[1])...)
		if cursor, _ = page[0].(string); cursor == "0" || cursor == "" {
			slices.Sort(keys)
			return slices.Compact(keys), nil
		}
	}
}

// read returns what the keys hold, of each type.
func (c *client) read(keys []string) (map[string]contents, error) {
	var commands []command
	for _, key := range keys {
		commands = append(commands,
			command{"GET", key}, command{"SMEMBERS", key}, command{"HGETALL", key})
	}
	replies, err := c.pipeline(commands)
	if err != nil {
		return nil, err
	}
	got := map[string]contents{}
	for i, key := range keys {
		value := contents{Hash: map[string]string{}, Set: map[string]bool{}}
		for _, reply := range replies[3*i : 3*i+3] {
			refused, ok := reply.(replyError)
			if ok && !strings.HasPrefix(refused.Error(), "WRONGTYPE") {
				return nil, fmt.Errorf("%s: %w", key, refused)
			}
		}
		value.Text, _ = replies[3*i].(string)
		for _, elem := range texts(replies[3*i+1]) {
			value.Set[elem] = true
		}
		pairs := texts(replies[3*i+2])
		for j := 0; j+1 < len(pairs); j += 2 {
			value.Hash[pairs[j]] = pairs[j+1]
		}
		got[key] = value
	}
	return got, nil
}

// knows returns an error naming the members that the daemon knows, if one of them has this name.
func (d *daemon) knows(name string) error {
	s, err := d.status()
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	if err == nil && slices.Contains(names, name) {
		err = errors.New("it knows " + strings.Join(names, ", "))
	}
	return err
}
