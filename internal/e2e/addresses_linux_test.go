package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sites is a network of namespaces whose hosts have the addresses that a test gives them.
func sites(t *testing.T) *namespaces {
	t.Helper()
	n, namespaced := openNetwork(t)
	if !namespaced {
		t.Skip("needs network namespaces")
	}
	return n.(*namespaces)
}

// must fails the test after an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// only6 gives a host an address of IPv6 and takes that of IPv4.
func (n *namespaces) only6(host int) error {
	ns := n.hosts[host]
	return errors.Join(ns.ip("address", "flush", "dev", "eth0"), ns.ip("address", "add", address6(host)+"/64", "dev",
		"eth0", "nodad"))
}

func address6(host int) string { return fmt.Sprintf("fd97::%d", host+1) }

// names gives a host a file of names of its own.
func (ns *namespace) names(file string) error {
	return ns.do(func() error {
		return errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, ""))
	})
}

// docker gives a host a bridge with the address that it has on all of them.
func (ns *namespace) docker() error {
	return errors.Join(ns.ip("link", "add", "docker0", "type", "bridge"),
		ns.ip("address", "add", "172.17.0.1/16", "dev", "docker0"), ns.ip("link", "set", "docker0", "up"))
}

// clusterKey returns the file of a new cluster's key.
func clusterKey(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command(program, "init", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("peerd init: %v\n%s", err, out)
	}
	return filepath.Join(dir, "cluster.key")
}

// TestHostsFindEachOther starts two hosts with each form of an address that is accepted: what one writes reaches the
// other, and each is told under the address that the other reaches.
func TestHostsFindEachOther(t *testing.T) {
	program := binary(t)
	listen := func(host string) []string { return []string{"--gossip", host + ":7946", "--p2p", host + ":7947"} }
	for _, c := range []struct {
		name   string
		prefix string // of the addresses that are told
		only6  bool
		flags  func(host int) []string
		join   string
	}{
		{name: "all of IPv4", prefix: "10.97.0.", join: "10.97.0.1:7946",
			flags: func(int) []string { return listen("0.0.0.0") }},
		{name: "all of both, over IPv4", prefix: "10.97.0.", join: "10.97.0.1",
			flags: func(int) []string { return listen("[::]") }},
		{name: "all of both, over IPv6", prefix: "[fd97::", only6: true, join: "[fd97::1]:7946",
			flags: func(int) []string { return listen("[::]") }},
		{name: "defaults, over IPv4", prefix: "10.97.0.", join: "10.97.0.1"},
		{name: "defaults, over IPv6", prefix: "[fd97::", only6: true, join: "fd97::1"},
		{name: "one of IPv4", prefix: "10.97.0.", join: "10.97.0.1:7946",
			flags: func(host int) []string { return listen(address(host)) }},
		{name: "one of IPv6", prefix: "[fd97::", only6: true, join: "[fd97::1]",
			flags: func(host int) []string { return listen("[" + address6(host) + "]") }},
		{name: "a name", prefix: "10.97.0.", join: "host0",
			flags: func(host int) []string { return listen(fmt.Sprint("host", host)) }},
		{name: "a name to advertise", prefix: "10.97.0.", join: "host0:7946",
			flags: func(host int) []string { return []string{"--advertise", fmt.Sprint("host", host)} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := sites(t)
			names := filepath.Join(t.TempDir(), "hosts")
			text := "127.0.0.1 localhost\n127.0.1.1 host0\n10.97.0.1 host0\n10.97.0.2 host1\n"
			must(t, os.WriteFile(names, []byte(text), 0o644))
			key := clusterKey(t, program)
			var both []*daemon
			for host := range 2 {
				must(t, n.hosts[host].names(names), n.hosts[host].docker())
				if c.only6 {
					must(t, n.only6(host))
				}
				flags := []string{"--cluster-key", key}
				if c.flags != nil {
					flags = append(flags, c.flags(host)...)
				}
				if host == 1 {
					flags = append(flags, "--join", c.join)
				}
				d := newDaemon(t, n, host, program, fmt.Sprint("host", host), flags...)
				d.start()
				both = append(both, d)
			}
			both[1].run(command{"SET", "greeting", "hello"})
			both[0].eventually("has what the other wrote", both[0].holds("greeting", "hello"))
			for _, d := range both {
				s, err := d.status()
				must(t, err)
				if !strings.HasPrefix(s.GossipAddr, c.prefix) {
					t.Errorf("others are told that %s is at %s, want %s…", d.name, s.GossipAddr, c.prefix)
				}
			}
		})
	}
}

// holds returns a condition: a key has a value.
func (d *daemon) holds(key, value string) func() error {
	return func() error {
		c, err := d.connect()
		if err != nil {
			return err
		}
		defer c.close()
		replies, err := c.must([]command{{"GET", key}})
		if err == nil && !slices.Equal(replies, []any{value}) {
			err = fmt.Errorf("%s holds %v", key, replies)
		}
		return err
	}
}
