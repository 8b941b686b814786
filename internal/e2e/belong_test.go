package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHostsBelongToTheirCluster has hosts started without flags, invited, given wrong keys,
// removed and taken back, as a person does it.
func TestHostsBelongToTheirCluster(t *testing.T) {
	n, _ := openNetwork(t)
	program := binary(t)
	one := newDaemon(t, n, 0, program, "one") // begins the cluster
	one.start()
	one.run(command{"SET", "k", "1"})

	// The second is invited, and told nothing else.
	two := newDaemon(t, n, 1, program, "two")
	line := strings.Fields(one.must("invite", "--http", n.addresses(0).http))
	if len(line) < 3 || line[len(line)-3] != "peerd" || line[len(line)-2] != "join" {
		t.Fatalf("peerd invite prints %q", line)
	}
	token := line[len(line)-1]
	run := two.args
	two.args = append([]string{"join", token}, run[1:]...)
	two.start()
	agree(t, one, two)
	if got := two.run(command{"GET", "k"}); got[0] != "1" {
		t.Errorf("the invited host reads %v", got)
	}
	two.stop()
	// It starts again without a flag about the cluster; and the token is of no use to another one.
	two.args = run
	two.start()
	one.run(command{"SET", "k", "2"})
	agree(t, one, two)
	late := newDaemon(t, n, 3, program, "late")
	out, err := late.command(append([]string{"join", token}, late.args[1:]...)...)
	if exitCode(err) != 1 || !strings.Contains(out, "the invitation cannot be used") {
		t.Errorf("a used token: %v\n%s", err, out)
	}
	if _, err := os.Lstat(late.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its directory behind (%v)", err)
	}

	// The third has a copy of the key, and later none of its own: it founds no other cluster.
	copied := filepath.Join(t.TempDir(), "copy.key")
	copyFile(t, filepath.Join(one.dir, "cluster.key"), copied)
	three := newDaemon(t, n, 2, program, "three", "--cluster-key", copied, "--join", n.addresses(0).gossip)
	three.start()
	agree(t, one, two, three)
	three.stop()
	three.args = newDaemon(t, n, 2, program, "three").args
	three.moveTo(three.dir)
	three.start()
	one.run(command{"SET", "k", "3"})
	agree(t, one, two, three)
	three.stop()
	stored := filepath.Join(three.dir, "cluster.key")
	if err := os.Rename(stored, stored+".lost"); err != nil {
		t.Fatal(err)
	}
	out, err = three.command(three.args...)
	if exitCode(err) != 2 || !strings.Contains(out, "another cluster is not begun there") {
		t.Errorf("without its key: %v\n%s", err, out)
	}
	if err := os.Rename(stored+".lost", stored); err != nil {
		t.Fatal(err)
	}
	wrongKeys(t, one, three)
	removal(t, one, two, three)
	forgetting(t, one, two, three)
}

// wrongKeys has a host of the cluster started with another key, and a host with another key join
// it.
func wrongKeys(t *testing.T, one, three *daemon) {
	stranger := newDaemon(t, one.net, 3, one.program, "stranger", "--join", one.net.addresses(0).gossip)
	if out, err := stranger.command("init", "--dir", stranger.dir); err != nil {
		t.Fatalf("peerd init: %v\n%s", err, out)
	}
	foreign := filepath.Join(stranger.dir, "cluster.key")
	out, err := three.command(append(three.args[:len(three.args):len(three.args)], "--cluster-key", foreign)...)
	if exitCode(err) != 2 || !strings.Contains(out, "leave --cluster-key out") {
		t.Errorf("with another cluster's key: %v\n%s", err, out)
	}
	stranger.start()
	stranger.run(command{"SET", "k", "stranger"})
	one.eventually("names the stranger", func() error { return one.says("a host with another cluster key tried") })
	stranger.eventually("says what is wrong", func() error { return stranger.says("a host to join has another cluster key") })
	if err := errors.Join(one.knows("stranger"), stranger.knows("one")); err != nil {
		t.Error(err)
	}
	stranger.stop()
}

// removal removes a host that is down, which then comes back.
func removal(t *testing.T, one, two, three *daemon) {
	at := "--http=" + one.net.addresses(0).http
	if out := one.must("member", "list", at); strings.Count(out, "\n") != 3 || !strings.Contains(out, "away for") {
		t.Errorf("peerd member list prints\n%s", out)
	}
	one.must("member", "remove", "three", at)
	two.eventually("has forgotten it", func() error { return two.knows("three") })
	if out := one.must("key", "retire", at); strings.Contains(out, "three") {
		t.Errorf("a change of keys waits for it:\n%s", out)
	}
	one.stop()
	one.start()
	three.start()
	three.eventually("is told", func() error {
		s, err := three.status()
		if err == nil && (!s.Removed || s.Ready) {
			err = fmt.Errorf("removed: %v, ready: %v", s.Removed, s.Ready)
		}
		return errors.Join(err, three.says("was removed from the cluster"))
	})
	if err := errors.Join(one.knows("three"), two.knows("three")); err != nil {
		t.Error(err)
	}
	one.must("member", "add", "three", at)
	one.run(command{"SET", "k", "4"})
	agree(t, one, two, three)
	for _, p := range []*daemon{one, two, three} {
		if diff := cmp.Diff([]any{"4"}, p.run(command{"GET", "k"})); diff != "" {
			t.Errorf("%s: %s", p.name, diff)
		}
	}
	// It is removed and taken back by an end and a beginning of its id, as status prints them.
	s, err := three.status()
	if err != nil {
		t.Fatal(err)
	}
	one.must("member", "remove", "…"+s.PeerID[len(s.PeerID)-8:], at)
	two.eventually("has forgotten it", func() error { return two.knows("three") })
	if out, err := one.command("member", "remove", s.PeerID[:6], at); exitCode(err) != 1 || !strings.Contains(out, "several members fit") {
		t.Errorf("with the beginning that all ids have: %v\n%s", err, out)
	}
	one.must("member", "add", s.PeerID[:len(s.PeerID)-8], at)
	agree(t, one, two, three)
	one.must("member", "remove", three.net.addresses(2).gossip, at)
	two.eventually("has forgotten it", func() error { return two.knows("three") })
	one.must("member", "add", s.PeerID, at)
	agree(t, one, two, three)
}

// forgetting has a host stay away for longer than others remember it, and come back.
func forgetting(t *testing.T, one, two, three *daemon) {
	three.stop()
	two.stop()
	two.args = append(two.args, "--forget-after", "2s")
	two.start()
	two.eventually("has forgotten who stays away", func() error { return two.knows("three") })
	if one.knows("three") == nil {
		t.Error("a host that remembers for longer has forgotten it as well")
	}
	three.start()
	agree(t, one, two, three)
}

// agree waits until peers know each other and hold the same.
func agree(t *testing.T, peers ...*daemon) {
	t.Helper()
	eventually(t, "the peers agree", func() error {
		for _, p := range peers {
			if linked, err := p.links(); err != nil || len(linked) != len(peers)-1 {
				return fmt.Errorf("%s is linked to %v (%v)", p.name, linked, err)
			}
		}
		return disagreement(peers)
	})
}

// must runs a command on the daemon's host that succeeds.
func (d *daemon) must(args ...string) string {
	d.t.Helper()
	out, err := d.command(args...)
	if err != nil {
		d.t.Fatalf("peerd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// says returns an error unless the log has a text.
func (d *daemon) says(text string) error {
	if strings.Contains(d.logged(), text) {
		return nil
	}
	return fmt.Errorf("the log does not say %q", text)
}
