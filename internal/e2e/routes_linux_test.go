package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// office gives a host a second network, which has the default route.
func (ns *namespace) office(address string) error {
	return errors.Join(ns.ip("link", "add", "office0", "type", "veth", "peer", "name", "office1"),
		ns.ip("link", "set", "office1", "up"), ns.ip("address", "add", address+"/24", "dev", "office0"),
		ns.ip("link", "set", "office0", "up"), ns.ip("route", "add", "default", "dev", "office0"))
}

// TestTheOwnAddressIsThatOfTheRoute starts hosts of two networks and a bridge: one that joins another is told under the
// address from which it reaches that one, and one that joins nobody under that of its default route.
func TestTheOwnAddressIsThatOfTheRoute(t *testing.T) {
	n := sites(t)
	program := binary(t)
	key := clusterKey(t, program)
	for i, office := range []string{"", "192.168.77.2", "192.168.77.3"} {
		must(t, n.hosts[i].docker())
		if office != "" {
			must(t, n.hosts[i].office(office))
		}
	}
	for i, c := range []struct{ join, want string }{
		{"", "10.97.0.1:7946"}, // it has no default route: that of an interface which is no bridge
		{address(0), "10.97.0.2:7946"},
		{"", "192.168.77.3:7946"},
	} {
		args := []string{"--cluster-key", key}
		if c.join != "" {
			args = append(args, "--join", c.join)
		}
		d := newDaemon(t, n, i, program, address(i), args...)
		d.start()
		if s, err := d.status(); err != nil || s.GossipAddr != c.want {
			t.Errorf("others are told that host %d is at %s, want %s (%v)", i, s.GossipAddr, c.want, err)
		}
		if c.join != "" {
			d.eventually("is linked", d.isLinked)
		}
	}
}

// TestAStartThatIsRefusedSaysWhyAndLeavesNothing starts a host in ways that cannot be.
func TestAStartThatIsRefusedSaysWhyAndLeavesNothing(t *testing.T) {
	n := sites(t)
	program := binary(t)
	one := newDaemon(t, n, 0, program, "one")
	one.start()
	key := clusterKey(t, program)
	for _, c := range []struct {
		host int
		args []string
		says string
	}{
		{1, []string{"--join", "[fe80::1%eth0]:7946", "--cluster-key", key}, "an address of one link"},
		{1, []string{"--gossip", "[fe80::1%eth0]:7946"}, "an address of one link"},
		{1, []string{"--join", address(0)}, "a host joins with the cluster's key in hand"},
		{1, []string{"--gossip", "10.99.0.9:7946"}, "not an address of this host"},
		{0, nil, "in use"}, // by the one that runs
	} {
		d := newDaemon(t, n, c.host, program, "refused", append(c.args, "--resp", "off", "--http", "off")...)
		out, err := d.command(d.args...)
		if exitCode(err) == 0 || !strings.Contains(out, c.says) {
			t.Errorf("%q: %v, want to read %q:\n%s", c.args, err, c.says, out)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(d.dir), "*", "*")); err != nil || len(left) > 0 {
			t.Errorf("%q: it left %q (%v)", c.args, left, err)
		}
		if _, err := os.Lstat(d.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: it left its directory (%v)", c.args, err)
		}
	}
}
