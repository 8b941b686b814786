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
	"time"

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

// TestHostsFindEachOther starts two hosts with each form of an address that is accepted: what one
// writes reaches the other, and each is told under the address that the other reaches.
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
		{name: "data alone on all of both", prefix: "10.97.0.", join: "10.97.0.1",
			flags: func(int) []string { return []string{"--p2p", "[::]:7947"} }},
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

// pair starts two daemons that are linked, the second with more flags.
func pair(t *testing.T, n *namespaces, more ...string) (one, two *daemon) {
	t.Helper()
	program := binary(t)
	key := clusterKey(t, program)
	one = newDaemon(t, n, 0, program, "one", "--cluster-key", key)
	two = newDaemon(t, n, 1, program, "two", append([]string{"--cluster-key", key}, more...)...)
	one.start()
	two.start()
	for _, d := range []*daemon{one, two} {
		d.eventually("is linked", d.isLinked)
	}
	return one, two
}

// isLinked is a condition: the daemon has a link, whatever the failure detector says.
func (d *daemon) isLinked() error {
	s, err := d.status()
	if err == nil && (len(s.Members) != 1 || !s.Members[0].Linked) {
		err = fmt.Errorf("its members are %+v", s.Members)
	}
	return err
}

// needFilter skips the test where nft(8) is missing, unless none may be left out.
func needFilter(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil && os.Getenv("PEERD_E2E_NAMESPACES") != "require" {
		t.Skip(err)
	}
}

// drop has the host drop what comes in and matches one of the rules of nft(8), and nothing else.
func (ns *namespace) drop(rules ...string) error {
	script := "flush ruleset\ntable inet faults {\nchain in {\ntype filter hook input priority 0;\n"
	for _, rule := range rules {
		script += rule + " drop\n"
	}
	return ns.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script + "}\n}\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

// TestAHostThatOnlyDialsKeepsItsLink is a host behind NAT: nothing reaches it but answers. To the
// failure detector it dies again and again. It takes part in changes of the key all the same, and
// who is linked with it is not alone.
func TestAHostThatOnlyDialsKeepsItsLink(t *testing.T) {
	needFilter(t)
	n := sites(t)
	must(t, n.hosts[1].drop(`iifname "eth0" ct state new`, `iifname "eth0" udp dport 7946`))
	one, two := pair(t, n, "--join", address(0))
	one.eventually("takes the other for dead", func() error {
		s, err := one.status()
		if err == nil && s.Members[0].Alive {
			err = errors.New("it is alive")
		}
		return err
	})
	for i := range 100 {
		value := fmt.Sprint(i)
		two.run(command{"SET", "count", value})
		one.eventually("has what the other wrote", one.holds("count", value))
		one.eventually("is linked", one.isLinked)
		if one.has("no-host-reached")() == nil {
			t.Error("it takes itself for alone")
		}
		wait(50 * time.Millisecond)
	}
	// On a busy machine two attempts at first may both come through: then the newer link stays.
	logged := one.logged() + two.logged()
	replaced := min(1, strings.Count(logged, "replaced by a newer one"))
	if closed := strings.Count(logged, "link closed"); closed > replaced {
		t.Errorf("the link was closed %d times", closed)
	}
	for i := range 10 {
		for _, step := range []string{"rotate", "retire"} {
			one.eventually("is linked", one.isLinked)
			if out, err := one.command("key", step, "--http", n.addresses(0).http); err != nil {
				t.Errorf("key %s, time %d: %v: %s", step, i, err, out)
			}
		}
	}
}

// TestASilentLinkMovesToTheOtherTransport drops all UDP, and then all TCP instead, between two
// hosts that are linked.
func TestASilentLinkMovesToTheOtherTransport(t *testing.T) {
	needFilter(t)
	n := sites(t)
	one, two := pair(t, n, "--join", address(0))
	for i, protocol := range []string{"udp", "tcp"} {
		must(t, n.hosts[0].drop(protocol+" dport 7947", protocol+" sport 7947"))
		value := fmt.Sprint(i)
		two.run(command{"SET", "greeting", value})
		began := time.Now()
		one.eventually("has what the other wrote", one.holds("greeting", value))
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("with %s dropped a write took %v", protocol, took)
		} else {
			t.Logf("with %s dropped a write took %v", protocol, took)
		}
	}
}

// TestANameToJoinIsLookedUpAtEachAttempt joins a name, with no port, that stands for another
// address at first.
func TestANameToJoinIsLookedUpAtEachAttempt(t *testing.T) {
	n := sites(t)
	program := binary(t)
	key := clusterKey(t, program)
	names := filepath.Join(t.TempDir(), "hosts")
	write := func(address string) { must(t, os.WriteFile(names, []byte(address+" seed\n"), 0o644)) }
	write("10.97.0.200")
	must(t, n.hosts[1].names(names))
	one := newDaemon(t, n, 0, program, "one", "--cluster-key", key)
	two := newDaemon(t, n, 1, program, "two", "--cluster-key", key, "--join", "seed")
	one.start()
	two.start()
	two.eventually("fails to join", func() error {
		if !strings.Contains(two.logged(), "no host to join answers yet") {
			return errors.New("the log does not say so")
		}
		return nil
	})
	write(address(0))
	two.eventually("is linked", two.isLinked)
}

// TestAnAddressThatChangesIsToldWithoutARestart starts a host before its network is up, and gives
// it another address later, as DHCP does.
func TestAnAddressThatChangesIsToldWithoutARestart(t *testing.T) {
	n := sites(t)
	program := binary(t)
	key := clusterKey(t, program)
	one := newDaemon(t, n, 0, program, "one", "--cluster-key", key)
	two := newDaemon(t, n, 1, program, "two", "--cluster-key", key, "--join", address(0))
	must(t, n.hosts[1].ip("address", "flush", "dev", "eth0"))
	one.start()
	two.start()
	for _, now := range []string{"10.97.0.50", "10.97.0.60"} {
		must(t, n.hosts[1].ip("address", "flush", "dev", "eth0"),
			n.hosts[1].ip("address", "add", now+"/24", "dev", "eth0"))
		began := time.Now()
		one.eventually("is told of "+now, func() error {
			s, err := one.status()
			if err == nil && (len(s.Members) != 1 || !s.Members[0].Alive || !s.Members[0].Linked ||
				s.Members[0].Addr != now+":7946") {
				err = fmt.Errorf("its members are %+v", s.Members)
			}
			return err
		})
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s was known after %v", now, took)
		}
		two.run(command{"SET", "at", now})
		one.eventually("has what the other wrote", one.holds("at", now))
		t.Logf("%s: %v", now, time.Since(began))
	}
}
