package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// namespaces is a network of namespaces:
//
//	host 0: eth0 10.97.0.1 ── port0 ┐
//	host 1: eth0 10.97.0.2 ── port1 ┼ bridge, in the namespace of the switch
//	…                                ┘
type namespaces struct {
	hub   *namespace
	hosts []*namespace
}

var _ network = (*namespaces)(nil)

// namespace is a network namespace without a name, held by a thread of this process that is in it
// and does what is sent to it. It is gone when that thread and all processes in it are.
type namespace struct {
	work   chan func()
	thread int
}

func newNamespace(t *testing.T) (*namespace, error) {
	ns := &namespace{work: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		ns.thread = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for work := range ns.work {
			work()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	t.Cleanup(func() { close(ns.work) })
	return ns, nil
}

// do runs fn in the namespace: sockets that it opens belong there, and processes that it starts.
// fn must not leave that to other goroutines.
func (ns *namespace) do(fn func() error) error {
	done := make(chan error)
	ns.work <- func() { done <- fn() }
	return <-done
}

// ip runs ip(8) in the namespace.
func (ns *namespace) ip(args ...string) error {
	return ns.do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
}

func openNamespaces(t *testing.T) (network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, err
	}
	hub, err := newNamespace(t)
	if err != nil {
		return nil, err
	}
	if err := hub.ip("link", "add", "bridge0", "type", "bridge"); err != nil {
		return nil, err
	}
	if err := hub.ip("link", "set", "bridge0", "up"); err != nil {
		return nil, err
	}
	n := &namespaces{hub: hub}
	for i := range hosts {
		host, err := newNamespace(t)
		if err != nil {
			return nil, err
		}
		n.hosts = append(n.hosts, host)
		if err := n.plugIn(i); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// plugIn lays the cable from a host to the bridge.
func (n *namespaces) plugIn(host int) error {
	ns := n.hosts[host]
	err := n.hub.ip("link", "add", port(host), "type", "veth",
		"peer", "name", "eth0", "netns", strconv.Itoa(ns.thread))
	return errors.Join(err,
		n.heal(host),
		n.hub.ip("link", "set", port(host), "up"),
		ns.ip("address", "add", address(host)+"/24", "dev", "eth0"),
		ns.ip("link", "set", "eth0", "up"),
		ns.ip("link", "set", "lo", "up"))
}

func port(host int) string    { return fmt.Sprintf("port%d", host) }
func address(host int) string { return fmt.Sprintf("10.97.0.%d", host+1) }

func (n *namespaces) describe() string { return "three network namespaces on a bridge" }

func (n *namespaces) cut(host int) error { return n.hub.ip("link", "set", port(host), "nomaster") }
func (n *namespaces) heal(host int) error {
	return n.hub.ip("link", "set", port(host), "master", "bridge0")
}

// flags returns none: each host is a daemon's own, as in production.
func (n *namespaces) flags(int) []string { return nil }

func (n *namespaces) addresses(host int) addresses {
	return addresses{
		gossip: address(host) + ":7946", resp: "127.0.0.1:6379", http: "127.0.0.1:7948",
	}
}

func (n *namespaces) start(host int, cmd *exec.Cmd) error {
	// The thread lives as long as this process, so that a test that dies takes its daemons along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return n.hosts[host].do(cmd.Start)
}

func (n *namespaces) dial(host int, address string) (conn net.Conn, err error) {
	err = n.hosts[host].do(func() error {
		conn, err = net.DialTimeout("tcp", address, patience())
		return err
	})
	return conn, err
}

// sent adds up what the hosts have sent into their cables.
func (n *namespaces) sent() (bytes uint64, ok bool) {
	for _, host := range n.hosts {
		more, ok := host.counted(sentBytes)
		if !ok {
			return 0, false
		}
		bytes += more
	}
	return bytes, true
}

// received is what has come out of the host's cable.
func (n *namespaces) received(host int) (bytes uint64, ok bool) {
	return n.hosts[host].counted(receivedBytes)
}

// Counters of an interface, by their column in /proc/net/dev: eight of what was received, and then of what was sent.
const (
	receivedBytes = 0
	sentBytes     = 8
)

// counted returns a counter of the host's cable.
func (ns *namespace) counted(column int) (n uint64, ok bool) {
	err := ns.do(func() (err error) {
		n, err = readCounter("eth0", column)
		return err
	})
	return n, err == nil
}

// readCounter reads a counter of an interface in the namespace of the calling thread.
func readCounter(device string, column int) (uint64, error) {
	file, err := os.Open("/proc/thread-self/net/dev")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		name, counters, _ := strings.Cut(scan.Text(), ":")
		fields := strings.Fields(counters)
		if strings.TrimSpace(name) == device && len(fields) > column {
			return strconv.ParseUint(fields[column], 10, 64)
		}
	}
	return 0, fmt.Errorf("no interface %s", device)
}
